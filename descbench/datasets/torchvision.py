"""The data sets of torchvision, in the files that it lays out, under the names that the field uses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from descbench.datasets.aliases import field_name, imagenet_classes
from descbench.datasets.base import Sample, content_fingerprint
from descbench.datasets.folder import class_folders, images_below
from descbench.datasets.images import bytes_id, load_image
from descbench.datasets.sources import labelled, of_file
from descbench.datasets.spelling import read_options, whether
from descbench.errors import AccessError, InputError, SpecError, listed, nearest

VARIABLE = "DESCBENCH_DATA"


@dataclass(frozen=True)
class Kind:
    """One of torchvision's: its splits (the first is used unless another is named), options of its own, its domain."""

    splits: tuple[str, ...]
    domain: str = ""
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)  # name -> values, the usual one first


KINDS = {
    "CIFAR10": Kind(("test", "train")),
    "CIFAR100": Kind(("test", "train")),
    "DTD": Kind(("test", "train", "val"), "textures", {"partition": tuple(str(number) for number in range(1, 11))}),
    "EuroSAT": Kind((), "kinds of land seen from a satellite"),
    "FGVCAircraft": Kind(
        ("test", "train", "val", "trainval"), "aircraft", {"level": ("variant", "family", "manufacturer")}
    ),
    "Flowers102": Kind(("test", "train", "val"), "flowers"),
    "Food101": Kind(("test", "train"), "dishes"),
    "ImageNet": Kind(("val", "train")),
    "OxfordIIITPet": Kind(("test", "trainval"), "pets"),
    "StanfordCars": Kind(("test", "train"), "cars"),
}


class TorchvisionDataset:
    """Food101, OxfordIIITPet, DTD, EuroSAT, Flowers102, FGVCAircraft, StanfordCars, CIFAR10, CIFAR100 or ImageNet.

    The files lie below `root`, else below the folder in the variable DESCBENCH_DATA, as torchvision lays them out; for
    ImageNet in root/val/n01440764/*.JPEG. They are downloaded with `download` only. The split is "test" ("val" of
    ImageNet, none of EuroSAT) unless another is named; DTD has a `partition` 1 to 10, FGVCAircraft a `level`.
    Raises `InputError` where files are missing, `AccessError` where they cannot be downloaded.
    """

    spelling = "torchvision:NAME[:ROOT][,split=...][,download=yes][,partition=1][,level=variant]"

    def __init__(
        self, name: str, root: str | Path = "", *, split: str = "", download: str | bool = False, **options: str | int
    ) -> None:
        if name not in KINDS:
            near = nearest(name, KINDS) or "."
            raise SpecError(f"descbench reads no {name!r} of torchvision{near} There are: {listed(KINDS, 20)}.")
        kind = KINDS[name]
        self.name, self.domain = name, kind.domain
        self._root = Path(root or _usual_root(name)).expanduser()
        self.split = _chosen(f"torchvision:{name}", "split", split, kind.splits)
        self._options = {
            key: _chosen(f"torchvision:{name}", key, str(options.pop(key, "")), values)
            for key, values in kind.options.items()
        }
        if options:
            raise SpecError(f"torchvision:{name} has no option {listed(options)}; it has: split, download")
        wanted = whether("download", download)
        self.names: tuple[str, ...]
        self._found: Sequence[tuple[Path | np.ndarray[Any, Any], int]]  # (path or pixels, label)
        if name == "ImageNet":
            self.names, self._found = _imagenet(self._root / self.split, wanted)
        else:
            self.names, self._found = self._read(self._opened(wanted))

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> TorchvisionDataset:
        known = ("split", "download", "partition", "level")
        plain, options = read_options("torchvision", argument, known, options)
        name, _, root = plain.partition(":")
        return cls(name, root, **options)

    def __repr__(self) -> str:
        options = ({"split": self.split} if self.split else {}) | self._options
        return f"torchvision:{self.name}:{self._root}" + "".join(f",{key}={value}" for key, value in options.items())

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, contents and labels, not of where they lie."""
        return content_fingerprint("torchvision", self)

    def samples(self) -> Iterator[Sample]:
        for row, (image, label) in enumerate(self._found):
            if isinstance(image, Path):
                yield of_file(image, [label], at=f"{image.parent.name}/{image.name}")
            else:
                name = f"array:{bytes_id(repr(image.shape).encode() + image.tobytes())}"
                yield labelled(name, partial(_from_array, image), [label], f"{self.name}:{self.split}, row {row}")

    def _opened(self, download: bool) -> Any:
        """The data set as torchvision opens it, which then hands out paths, since pictures are read by our loader."""
        import torchvision.datasets as theirs

        how: dict[str, Any] = {"root": str(self._root), "download": download}
        if self.name.startswith("CIFAR"):
            how["train"] = self.split == "train"
        elif self.split:
            how["split"] = self.split
        if not self.name.startswith("CIFAR") and self.name != "OxfordIIITPet":
            how["loader"] = Path
        if "partition" in self._options:
            how["partition"] = int(self._options["partition"])
        if "level" in self._options:
            how["annotation_level"] = self._options["level"]
        try:
            return getattr(theirs, self.name)(**how)
        except (ImportError, RuntimeError, ValueError, OSError, KeyError) as error:
            if "scipy" in str(error).lower():
                install = "pip install 'descbench[torchvision]'"
                raise InputError(f"{self!r} needs scipy for its labels: {install}") from error
            said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            if download:
                raise AccessError(f"{self!r} cannot be downloaded: {said}. Put its files there.") from error
            raise InputError(
                f"{self!r} cannot be read: {said.split('. You can')[0]}. Give the folder that its files lie in, as "
                f"torchvision:{self.name}:ROOT, or have them downloaded: torchvision:{self.name}:ROOT,download=yes"
            ) from error

    def _read(self, opened: Any) -> tuple[tuple[str, ...], list[tuple[Path | np.ndarray[Any, Any], int]]]:
        """The names, and (path or array, label) of each picture."""
        if self.name.startswith("CIFAR"):
            found = list(zip(opened.data, opened.targets, strict=True))
        elif self.name == "OxfordIIITPet":
            found = list(zip(opened._images, opened._labels, strict=True))
            # torchvision writes all breeds with capitals; the files, and the field with them, only those of cats.
            spelled = {label: path.stem.rpartition("_")[0] for path, label in found}
            if sorted(spelled) != list(range(len(spelled))):
                raise InputError(f"{self!r}: a breed has no picture, so the numbers of breeds cannot be told apart")
            return tuple(field_name(self.name, spelled[label]) for label in range(len(spelled))), found
        else:
            found = [opened[row] for row in range(len(opened))]
        names = tuple(field_name(self.name, name) for name in opened.classes)
        return names, [(image, int(label)) for image, label in found]


def _usual_root(name: str) -> str:
    root = os.environ.get(VARIABLE, "")
    if not root:
        raise InputError(f"where does {name} lie? Write torchvision:{name}:ROOT, or put the folder into ${VARIABLE}")
    return root


def _chosen(where: str, option: str, given: str, values: tuple[str, ...]) -> str:
    """The value of an option, else its usual one."""
    if not given:
        return values[0] if values else ""
    if not values:
        raise InputError(f"{where} has no {option}s; leave {given!r} out")
    if given not in values:
        near = nearest(given, values) or "."
        raise InputError(f"{where} has no {option} {given!r}{near} There are: {listed(values, 20)}.")
    return given


def _imagenet(folder: Path, download: bool) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """All 1,000 names, and the pictures of those classes that have a folder here, called by its id of WordNet."""
    if download:
        raise InputError("ImageNet cannot be downloaded without an account: get it from image-net.org")
    wnids, names = imagenet_classes()
    number = {wnid: position for position, wnid in enumerate(wnids)}
    folders = class_folders(folder)
    unknown = [found.name for found in folders if found.name not in number]
    if unknown:
        raise InputError(
            f"{str(folder)!r} has folders that are no ids of ImageNet's 1,000 classes: {listed(unknown)}. What would "
            "do: n01440764, ...; for folders called by their classes, use folder:"
        )
    found = [(path, number[below.name]) for below in folders for path in images_below(below)]
    if not found:
        raise InputError(f"the class folders of {str(folder)!r} hold no image")
    return names, found


def _from_array(image: np.ndarray[Any, Any]) -> Image.Image:
    return load_image(Image.fromarray(image))
