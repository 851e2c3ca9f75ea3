"""A folder of class folders of images: the folder's names are the labels."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from descbench.datasets.base import Sample, content_fingerprint
from descbench.datasets.images import SUFFIXES, readable
from descbench.datasets.sources import of_file
from descbench.datasets.spelling import read_options
from descbench.errors import DescbenchWarning, InputError, listed

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})  # what folders of splits are called


class FolderDataset:
    """`PATH/CLASS/**/IMAGE`, or `PATH/SPLIT/CLASS/**/IMAGE` with a `split`.

    Classes and images come in the order of their code points; hidden files are not seen.

    A file counts by its suffix (`images.SUFFIXES`); one that then cannot be read is a sample that fails when loaded,
    and files of other suffixes are counted in a warning. Links to folders are followed.
    A class is called what its folder is called, with blanks for "_", unless that makes two classes equal.
    """

    spelling = "folder:PATH[,split=NAME]"

    def __init__(self, argument: str, *, split: str = "") -> None:
        self.argument, self.split = argument, split
        self._root = _of_split(Path(argument).expanduser(), split)
        self.name = Path(argument).expanduser().resolve().name
        folders = class_folders(self._root)
        others: list[Path] = []
        self._files = [  # (path, label)
            (path, label) for label, folder in enumerate(folders) for path in images_below(folder, others)
        ]
        if not self._files:
            raise InputError(
                f"the class folders of {argument!r} ({listed(folder.name for folder in folders)}) hold no image. "
                f"What would do: files that end in {', '.join(sorted(SUFFIXES))}."
            )
        spaced = Counter(readable(folder.name).replace("_", " ") for folder in folders)
        self.names = tuple(
            name.replace("_", " ") if spaced[name.replace("_", " ")] == 1 else name
            for name in (readable(folder.name) for folder in folders)
        )
        empty = set(range(len(folders))) - {label for _, label in self._files}
        if empty:
            warnings.warn(
                f"{len(empty)} of {len(folders)} class folders of {argument!r} hold no image: "
                f"{listed(folders[label].name for label in sorted(empty))}.",
                DescbenchWarning,
                stacklevel=2,
            )
        if others:
            kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
            warnings.warn(
                f"what is no picture by its name is left out of the class folders of {argument!r}: files with "
                f"{listed(f'{kind} ({count})' for kind, count in kinds.most_common())}.",
                DescbenchWarning,
                stacklevel=2,
            )

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> FolderDataset:
        path, options = read_options("folder", argument, ("split",), options)
        return cls(path, **options)

    def __repr__(self) -> str:
        return f"folder:{self.argument}" + (f",split={self.split}" if self.split else "")

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, contents and labels, not of where they lie."""
        return content_fingerprint("folder", self)

    def samples(self) -> Iterator[Sample]:
        for path, label in self._files:
            yield of_file(path, [label], at=path.relative_to(self._root).as_posix())


def _of_split(root: Path, split: str) -> Path:
    """The folder of a split. Raises `InputError` where it is not there, or has to be named."""
    below = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    names = [path.name for path in below]
    if split and split not in names:
        raise InputError(f"image folder {str(root)!r} has no folder {split!r} for the split; it has: {listed(names)}")
    # A class may be called "train", but then pictures lie in its folder, and no folders of classes.
    if not split and below and SPLITS.issuperset(names) and all(any(p.is_dir() for p in s.iterdir()) for s in below):
        raise InputError(
            f"image folder {str(root)!r} has the folders {listed(names)}: splits, not classes. Name one: "
            f"folder:{root}/{names[0]}, or --split {names[0]}"
        )
    return root / split


def class_folders(root: Path) -> list[Path]:
    """The class folders, sorted; pictures beside them are reported. Raises `InputError` where there is none."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"image folder {str(root)!r} {what}. What would do: a folder with a folder of images a class.")
    seen = [path for path in root.iterdir() if not path.name.startswith(".")]
    folders = sorted((path for path in seen if path.is_dir()), key=lambda path: path.name)
    loose = sorted(path.name for path in seen if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not folders:
        hint = (
            f"It holds {len(loose)} images without classes: to have them named, use `descbench classify`."
            if loose
            else "It holds no images either."
        )
        raise InputError(f"image folder {str(root)!r} has no class folders (one folder of images a class). {hint}")
    if loose:
        warnings.warn(
            f"{len(loose)} images lie beside the class folders of {str(root)!r} and have no class; they are left out: "
            f"{listed(loose)}.",
            DescbenchWarning,
            stacklevel=3,
        )
    return folders


def images_below(folder: Path, others: list[Path] | None = None) -> list[Path]:
    """The image files below a class folder, sorted by path; to `others` those are added that are none by their suffix.

    Links to folders are followed, but not into one that the link lies in. Raises `InputError` for a folder that cannot
    be read.
    """
    found = []
    for at, folders, files in os.walk(folder, onerror=_closed, followlinks=True):
        here = os.path.realpath(at)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(here, Path(at, name))]
        for name in files:
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                found.append(Path(at, name))
            elif others is not None:
                others.append(Path(at, name))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _leads_back(here: str, folder: Path) -> bool:
    """Whether a folder in `here` is a link to `here`, or to a folder around it."""
    return folder.is_symlink() and Path(here).is_relative_to(folder.resolve())


def _closed(error: OSError) -> NoReturn:
    where = readable(str(error.filename))
    raise InputError(f"cannot look into folder {where!r}: {error.strerror}. Change who may read it.") from error
