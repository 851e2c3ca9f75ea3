"""Data sets of the library `datasets`: on the hub, in a local folder, in a parquet file; decoded by our loader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image

from descbench.datasets.base import Sample, content_fingerprint
from descbench.datasets.images import bytes_id, load_image
from descbench.datasets.labels import numbered, said
from descbench.datasets.sources import labelled, of_bytes, of_file, of_nothing
from descbench.datasets.spelling import read_options, whether
from descbench.errors import AccessError, InputError, SpecError, listed
from descbench.vocabulary import folder_names

LABELS = ("label", "labels", "class", "classname")  # columns without names of their own count by what they are called
FILES = {".parquet": "parquet", ".arrow": "arrow"}  # what the library reads a single file as


class HuggingFaceDataset:
    """A data set of the hub, or a local folder or parquet file that the library `datasets` reads.

    Pictures and labels are found by the types of their columns. Names come from the features ("_" read as a blank),
    else they are the labels themselves; a list of labels is several right ones. With `streaming` nothing is written to
    disk, and the bytes of a picture live as long as its sample.
    Raises `AccessError` where the hub does not give it, `InputError` where split or columns have to be named.
    """

    spelling = "hf:ORG/NAME[@REVISION][:SPLIT], hf:PATH[:SPLIT]; [,image=...][,label=...][,config=...][,streaming=yes]"

    def __init__(
        self,
        path: str,
        *,
        split: str = "",
        revision: str = "",
        config: str = "",
        image: str = "",
        label: str = "",
        streaming: str | bool = False,
    ) -> None:
        self._path, self._revision, self._config = path, revision, config
        self._streaming = whether("streaming", streaming)
        self.name = Path(path).name
        self._split = split or self._only_split()
        self._options = {"config": config, "image": image, "label": label}
        data = self._opened()
        self._image = _column(repr(self), data.features, "image", image, _is_picture)
        # ClassLabel says what its numbers mean, so such columns come first; else the column's name has to tell.
        typed = any(_class_label(feature) for feature in data.features.values())
        telling = (lambda name, feature: bool(_class_label(feature))) if typed else (lambda name, _: name in LABELS)
        self._label = _column(repr(self), data.features, "label", label, telling, needed=False)
        self._data = data.select_columns([column for column in (self._image, self._label) if column])
        if _is_feature(data.features[self._image], "Image"):
            from datasets import Image as Picture

            self._data = self._data.cast_column(self._image, Picture(decode=False))

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> HuggingFaceDataset:
        known = ("split", "config", "image", "label", "streaming", "revision")
        path, options = read_options("hf", argument, known, options)
        path, _, split = path.partition(":")
        if split and options.setdefault("split", split) != split:
            raise SpecError(f"hf: the split is {split!r} in {argument!r}, and {options['split']!r} beside it")
        if "@" in path and not Path(path).expanduser().exists():
            path, _, revision = path.partition("@")
            options.setdefault("revision", revision)
        return cls(path, **options)

    def __repr__(self) -> str:
        revision = f"@{self._revision}" if self._revision else ""
        options = "".join(f",{key}={value}" for key, value in self._options.items() if value)
        return f"hf:{self._path}{revision}:{self._split}{options}" + (",streaming=yes" if self._streaming else "")

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        if not self._streaming:
            return len(self._data)
        known = (self._data.info.splits or {}).get(self._split)
        if known is not None and known.num_examples:
            return int(known.num_examples)
        return sum(1 for _ in self._data)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, contents and labels."""
        return content_fingerprint("hf", self)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names_and_numbers[0]

    @cached_property
    def _names_and_numbers(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """What labels mean, and the number of each label as the column holds it."""
        if not self._label:
            return (), {}
        known = _class_label(self._data.features[self._label])
        if known is not None:
            return tuple(folder_names(known.names)), {str(number): number for number in range(len(known.names))}
        labels = [said(row[self._label]) for row in self._data.select_columns([self._label])]
        names, _ = numbered(labels)
        return names, {name: number for number, name in enumerate(names)}

    def samples(self) -> Iterator[Sample]:
        numbers = self._names_and_numbers[1]
        for row, entry in enumerate(self._entries()):
            source = f"{self.name}:{self._split}, row {row}"
            given = said(entry[self._label]) if self._label else ()
            if unknown := [label for label in given if label not in numbers]:
                raise InputError(f"{source}: the label {unknown[0]} is none of its {len(numbers)} classes")
            labels = [numbers[label] for label in given]
            content, path = _held(entry[self._image])
            if content is not None and self._streaming:
                yield of_bytes(content, labels, source)
            elif content is not None:
                yield labelled(bytes_id(content), _Stored(self, row, source), labels, source)
            elif path and Path(path).is_file():
                yield of_file(Path(path), labels, at=source)
            elif path:
                yield self._remote(path, labels)
            else:
                yield of_nothing(source, "the row holds no picture", labels)

    def _entries(self) -> Iterator[Any]:
        with self._explained():
            yield from self._data

    def content(self, row: int) -> bytes:
        """The bytes of the picture in a row, read anew."""
        return _held(self._data[row][self._image])[0] or b""

    def _remote(self, path: str, labels: list[int]) -> Sample:
        """A picture that streaming only points to, inside an archive or on the hub."""
        import fsspec

        try:
            with fsspec.open(path, "rb") as file:
                return of_bytes(file.read(), labels, path)
        except (OSError, ValueError) as error:
            gone = isinstance(error, FileNotFoundError)
            return of_nothing(path, "there is no such file" if gone else _line(error), labels)

    def _only_split(self) -> str:
        """The split, where there is only one."""
        if (saved := _saved(self._path)) is not None:
            names = list(saved) if isinstance(saved, dict) else [str(saved.split or "train")]
        elif self._is_file():
            names = ["train"]  # as the library calls what has no split
        else:
            from datasets import get_dataset_split_names

            with _without_bars(), self._explained():
                names = get_dataset_split_names(self._path, self._config or None, revision=self._revision or None)
        if len(names) == 1:
            return str(names[0])
        last = names[-1]
        raise InputError(
            f"{self._path} has the splits {listed(names)}; name one: hf:{self._path}:{last}, --split {last}"
        )

    def _is_file(self) -> bool:
        return Path(self._path).expanduser().is_file()

    def _opened(self) -> Any:
        """The split, as the library opens it."""
        from datasets import load_dataset

        saved = _saved(self._path)
        if saved is not None:
            if isinstance(saved, dict) and self._split not in saved:
                raise InputError(f"{self._path} has no split {self._split!r}; it has: {listed(saved)}")
            return saved[self._split] if isinstance(saved, dict) else saved
        local = str(Path(self._path).expanduser())
        if self._is_file():
            if Path(local).suffix not in FILES:
                raise InputError(f"hf:{self._path} is a file; what would do: a folder, or a {listed(FILES)} file")
            how: dict[str, Any] = {"path": FILES[Path(local).suffix], "data_files": local}
        else:
            how = {"path": local if Path(local).is_dir() else self._path, "name": self._config or None}
            how |= {"revision": self._revision or None}
        with _without_bars(), self._explained():
            return load_dataset(**how, split=self._split, streaming=self._streaming)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The library's errors as ours."""
        import datasets

        if self._path.startswith((".", "/", "~")) and not Path(self._path).expanduser().exists():
            raise InputError(f"there is no folder or file {self._path!r}; hf:ORG/NAME is a data set of the hub")
        try:
            yield
        except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
            raise AccessError(
                f"{self._path}: {_line(error)}. Check the name; log in with `hf auth login` where it is not public; "
                "without a network, name a local folder or parquet file: hf:./PATH"
            ) from error
        except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError) as error:
            said = error.__cause__ or error  # "an error occurred" has the reason behind it
            raise InputError(f"{self._path} cannot be read by the library datasets: {_line(said)}") from error


@dataclass(frozen=True)
class _Stored:
    """Loads the picture of a row, whose bytes are read for that and not before. To another process the bytes are sent:
    opening the data set there for each picture would take far longer than decoding one."""

    dataset: HuggingFaceDataset
    row: int
    source: str

    def __call__(self) -> Image.Image:
        return load_image(self.dataset.content(self.row), self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (load_image, self.dataset.content(self.row), self.source)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The library's progress bars are off: there is one of ours."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _saved(path: str) -> Any:
    """What `save_to_disk` has written into a folder; None where it has not."""
    folder = Path(path).expanduser()
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return None
    from datasets import load_from_disk

    return load_from_disk(str(folder))


def _column(where: str, features: Any, role: str, option: str, fits: Any, needed: bool = True) -> str:
    """The column for a role: as the option says, else the only one that fits."""
    if option:
        if option not in features:
            raise InputError(f"{where} has no column {option!r}; its columns: {listed(features)}")
        return option
    found = [name for name, feature in features.items() if fits(name, feature)]
    if len(found) == 1 or (not found and not needed):
        return found[0] if found else ""
    which = f"several columns that may be the {role}: {listed(found)}" if found else f"no column of {role}s"
    columns = listed(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    example = f"{role}={(found or list(features))[0]}"
    raise InputError(f"{where} has {which}. Say which at its end, as in ,{example}. There are: {columns}")


def _is_feature(feature: Any, kind: str) -> bool:
    """By name, since the library is imported late."""
    return type(feature).__name__ == kind


def _is_picture(_: str, feature: Any) -> bool:
    """An image, or the bytes of a file, as plain parquet files hold them."""
    if isinstance(feature, dict):
        return "bytes" in feature
    return _is_feature(feature, "Image") or getattr(feature, "dtype", "") in ("binary", "large_binary")


def _class_label(feature: Any) -> Any:
    """The ClassLabel that a column, or a list in it, is of; None where it is not."""
    inner = getattr(feature, "feature", feature)
    return inner if _is_feature(inner, "ClassLabel") else None


def _held(value: Any) -> tuple[bytes | None, str]:
    """The bytes that a cell holds, or the path that it points to."""
    if isinstance(value, dict):
        return value.get("bytes"), value.get("path") or ""
    return (value, "") if isinstance(value, bytes) else (None, "")


def _line(error: BaseException) -> str:
    """The error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
