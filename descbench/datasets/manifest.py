"""A table of pictures: a csv, jsonl or parquet file with a row each, which says where it lies and what it shows."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from descbench.datasets.base import Sample, content_fingerprint
from descbench.datasets.labels import called_by, numbered, said
from descbench.datasets.sources import of_bytes, of_file, of_nothing, of_url
from descbench.datasets.spelling import read_options
from descbench.datasets.web import is_stored, is_url
from descbench.errors import InputError, listed
from descbench.files import read_text

# What a column is for, by its name in small letters; another one is named as an option: "image=photo_file".
COLUMNS = {
    "image": ("path", "file", "filename", "file_name", "filepath", "image", "url", "image_url"),
    "label": ("label", "labels"),
    "classname": ("class", "classname", "class_name", "classes"),
    "id": ("id", "image_id", "key"),
    "split": ("split",),
}


class ManifestDataset:
    """A csv, jsonl or parquet file with a row for each picture: path, URL or bytes, label, class name, split, id.

    Paths are relative to the file. A label is its own name unless a class name stands beside it. "|" stands between
    several labels of one picture (lists do in jsonl and parquet); a row without a label is unlabelled. Bytes of
    pictures in a parquet file are held in memory.
    Raises `InputError` for a file that cannot be read so, and where columns or split have to be named.
    """

    spelling = "manifest:FILE[,split=...][,image=COLUMN][,label=COLUMN][,classname=COLUMN][,id=COLUMN]"

    def __init__(
        self, path: str | Path, *, split: str = "", image: str = "", label: str = "", classname: str = "", id: str = ""
    ) -> None:
        self._path = Path(path).expanduser()
        self._where = f"manifest {str(path)!r}"
        self._split = split
        self._options = {"image": image, "label": label, "classname": classname, "id": id}
        self.name = self._path.stem
        columns, rows = _read(self._path, self._where)
        found = {role: self._column(role, columns, self._options.get(role, "")) for role in COLUMNS}
        if found["image"] is None:
            apart = len(columns) == 1 and next((sign for sign in ";\t" if sign in columns[0]), "")
            raise InputError(
                f"{self._where} has no column for the pictures; its columns: {listed(columns)}. "
                + (
                    f"Cells stand between commas, not {apart!r}: save it so."
                    if apart
                    else f"Call one 'path' or 'url', or say which: manifest:{path},image=COLUMN"
                )
            )
        self._rows = self._of_split(rows, found["split"])
        self._images = [row.get(found["image"]) for row in self._rows]
        self._ids = [_text(row.get(found["id"])) if found["id"] else "" for row in self._rows]
        self.names, self._labels = self._numbered(found["label"], found["classname"])
        del self._rows

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> ManifestDataset:
        path, options = read_options("manifest", argument, ("split", "image", "label", "classname", "id"), options)
        return cls(path, **options)

    def __repr__(self) -> str:
        options = {"split": self._split, **self._options}
        return f"manifest:{self._path}" + "".join(f",{key}={value}" for key, value in options.items() if value)

    def __len__(self) -> int:
        return len(self._images)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, contents and labels; a picture behind a URL counts by its URL."""
        return content_fingerprint("manifest", self)

    def samples(self) -> Iterator[Sample]:
        for row, (image, labels, given) in enumerate(zip(self._images, self._labels, self._ids, strict=True)):
            yield self._sample(row, image, labels, given)

    def _sample(self, row: int, image: Any, labels: Sequence[int], given: str) -> Sample:
        source = f"{self._path.name}, row {row + 1}"
        if isinstance(image, dict):  # as libraries of data sets keep pictures: {"bytes": ..., "path": ...}
            image = image.get("bytes") or image.get("path")
        if isinstance(image, bytes):
            return of_bytes(image, labels, source, given)
        text = _text(image)
        if not text:
            return of_nothing(source, "the row names no picture", labels, given)
        if is_url(text) or is_stored(text):
            return of_url(text, labels, given)
        return of_file(self._path.parent / Path(text).expanduser(), labels, at=text, given=given)

    def _column(self, role: str, columns: Sequence[str], option: str) -> str | None:
        """The column for a role: as the option says, else by its name."""
        if option:
            if option not in columns:
                raise InputError(f"{self._where} has no column {option!r}; its columns: {listed(columns)}")
            return option
        found = [column for column in columns if column.strip().lower() in COLUMNS[role]]
        if len(found) > 1:
            raise InputError(
                f"{self._where} has the columns {listed(found)}, which could all be the {role}; say which: "
                f"manifest:{self._path},{role}={found[0]}"
            )
        return found[0] if found else None

    def _of_split(self, rows: list[dict[str, Any]], column: str | None) -> list[dict[str, Any]]:
        """The rows of the split that was asked for. Raises `InputError` where it has to be named, or is not there."""
        if column is None:
            if self._split:
                raise InputError(f"{self._where} has no column 'split' to tell {self._split!r} by; leave it out")
            return rows
        there = Counter(_text(row.get(column)) or "(none)" for row in rows)
        shown = listed(f"{name} ({count})" for name, count in there.items())
        if not self._split:
            if len(there) > 1:
                raise InputError(f"{self._where} has several splits: {shown}. Say which: --split NAME, or NAME+NAME.")
            return rows
        asked = self._split.split("+")
        if missing := [name for name in asked if name not in there]:
            raise InputError(f"{self._where} has no split {listed(map(repr, missing))}; it has: {shown}")
        return [row for row in rows if (_text(row.get(column)) or "(none)") in asked]

    def _numbered(self, label: str | None, classname: str | None) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
        if label is None and classname is None:
            return (), [()] * len(self)
        labels, classes = self._said(label), self._said(classname)
        if not label or not classname:
            return numbered(labels if label else classes)
        return numbered(labels, called_by(labels, classes, self._where))

    def _said(self, column: str | None) -> list[tuple[str, ...]]:
        if column is None:
            return []
        found = []
        for number, row in enumerate(self._rows):
            try:
                found.append(said(row.get(column)))
            except InputError as error:
                raise InputError(f"{self._where}, row {number + 1}, column {column!r}: {error}") from None
        return found


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _read(path: Path, where: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of a file. Raises `InputError` where it cannot be read, or has no row."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"{where} ends in {path.suffix!r}; what would do: {listed(readers)}")
    if not path.is_file():
        raise InputError(f"{where}: there is no such file; give a {listed(readers)} file with a row for each picture")
    columns, rows = readers[path.suffix.lower()](path, where)
    if not rows:
        raise InputError(f"{where} has no rows; write one for each picture")
    return columns, rows


def _read_csv(path: Path, where: str) -> tuple[list[str], list[dict[str, Any]]]:
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        columns = next(reader, [])
        rows = []
        for cells in reader:
            if len(cells) != len(columns) and cells:
                raise InputError(
                    f"{where}, line {reader.line_num}: {len(cells)} cells, and there are {len(columns)} columns; a "
                    'name with a comma stands in double quotes: "tench, Tinca tinca"'
                )
            if cells:
                rows.append(dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: {error}") from None
    return columns, rows


def _read_jsonl(path: Path, where: str) -> tuple[list[str], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}, line {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{where}, line {number}: an object is expected, given: {row!r:.80}")
        rows.append(row)
    return list(dict.fromkeys(column for row in rows for column in row)), rows


def _read_parquet(path: Path, where: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{where} is no parquet file: {str(error).splitlines()[0]}") from None
    return table.column_names, table.to_pylist()
