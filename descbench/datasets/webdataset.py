"""Tar shards in the layout of webdataset: files that share a name are a picture and what is said of it."""

from __future__ import annotations

import contextlib
import glob
import json
import re
import tarfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from PIL import Image

from descbench.datasets.base import Sample, content_fingerprint
from descbench.datasets.images import SUFFIXES, bytes_id, load_image
from descbench.datasets.labels import among, called_by, numbered, said
from descbench.datasets.manifest import COLUMNS
from descbench.datasets.sources import labelled, of_nothing
from descbench.datasets.spelling import read_options
from descbench.datasets.web import fetch, is_absent, is_stored, is_url, matching_stored, opened, opened_stored
from descbench.errors import DescbenchWarning, InputError, listed

NAMES = "classnames.txt"  # a name a line, in the order of the numbers, beside the shards
SAYING = ("cls", "json", "txt")  # what tells the label, in this order


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the picture of one sample lies: `size` bytes from `start` of a shard; no bytes where it has none."""

    shard: str
    key: str
    name: str  # of the content, for the id; "" where there is no picture
    start: int
    size: int


class WebDataset:
    """Tar shards of pictures (jpg, png, webp, ...), each with its label in a cls, json or txt file of the same name.

    PATTERN is a path with braces ("shard-{0000..0009}.tar") or wildcards, a URL with braces, or either of a storage
    that fsspec reads (s3://, gs://, file://); the tars are not compressed. A number in a cls file, or in the field
    `label` of a json file, is a line of classnames.txt beside the shards; without that file the json may have the name
    in `class`, and a text is its own name. A pass over the shards makes the index of ids and labels; pictures are read
    when they are loaded, behind a URL by parts of the file.
    Raises `InputError` where shards are missing or are no tar files.
    """

    spelling = "wds:PATTERN, as wds:shards/test-{000..009}.tar, wds:'shards/*.tar', wds:https://HOST/test-{0..9}.tar"

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._shards = _shards(pattern)
        self.name = re.split(r"[{*?\[]", pattern)[0].rstrip("/-_").rpartition("/")[2] or pattern

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> WebDataset:
        plain, options = read_options("wds", argument, (), options)
        return cls(plain, **options)

    def __repr__(self) -> str:
        return f"wds:{self._pattern}"

    def __len__(self) -> int:
        return len(self._index[0])

    @property
    def names(self) -> tuple[str, ...]:
        return self._index[1]

    @cached_property
    def fingerprint(self) -> str:
        """Of names, keys, contents and labels."""
        return content_fingerprint("wds", self)

    def samples(self) -> Iterator[Sample]:
        entries, _, labels = self._index
        for entry, mine in zip(entries, labels, strict=True):
            source = f"{entry.shard}, {entry.key}"
            if entry.name:
                yield labelled(entry.name, partial(_load, entry, source), mine, source, entry.key)
            else:
                yield of_nothing(source, f"no file of this name ends in {listed(sorted(SUFFIXES))}", mine, entry.key)

    @cached_property
    def _index(self) -> tuple[list[Entry], tuple[str, ...], list[tuple[int, ...]]]:
        """Where the pictures lie, the names, and the labels of each picture."""
        entries: list[Entry] = []
        labels: list[tuple[str, ...]] = []
        classes: list[tuple[str, ...]] = []
        for shard in self._shards:
            for entry, files in _entries(shard):
                entries.append(entry)
                mine, called = _said(files, f"{shard}, {entry.key}")
                labels.append(mine)
                classes.append(called)
        if not entries:
            raise InputError(f"{self!r} holds no sample; what would do: tar files of NAME.jpg with NAME.cls")
        names = _classnames(self._shards[0])
        if names is not None:
            return entries, names, among(labels, names, f"{self!r}: {NAMES}")
        called_so = called_by(labels, classes, repr(self)) if any(classes) else None
        names, numbers = numbered(labels, called_so)
        return entries, names, numbers


def _shards(pattern: str) -> list[str]:
    """The shards that a pattern stands for, in order. Raises `InputError` where one is not there."""
    shards = _expanded(pattern)
    if is_url(pattern):
        return shards
    if is_stored(pattern):
        found = [url for shard in shards for url in (matching_stored(shard) if glob.has_magic(shard) else [shard])]
        if not found:
            raise InputError(f"wds:{pattern}: there is no such shard")
        return found
    paths = [str(Path(shard).expanduser()) for shard in shards]
    found = [path for shard in paths for path in (_matching(shard) if glob.has_magic(shard) else [shard])]
    missing = [path for path in found if not Path(path).is_file()]
    if missing or not found:
        raise InputError(f"wds:{pattern}: there is no shard {listed(map(repr, missing or paths), 3)}")
    return found


def _matching(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern))  # noqa: PTH207 - a pattern may begin anywhere; Path.glob wants a folder


def _expanded(pattern: str) -> list[str]:
    """ "a{08..10}.tar" -> a08.tar, a09.tar, a10.tar; "{a,b}.tar" -> a.tar, b.tar; from left to right."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    before, inside, after = pattern[: found.start()], found[1], pattern[found.end() :]
    steps = re.fullmatch(r"(\d+)\.\.(\d+)", inside, re.ASCII)
    if steps is None:
        parts: Iterable[str] = inside.split(",")
    else:
        low, high = int(steps[1]), int(steps[2])
        if high < low or high - low >= 10**6:
            raise InputError(
                f"wds: {{{inside}}} counts from {low} to {high}; what would do: upwards, at most a million"
            )
        parts = (f"{number:0{len(steps[1])}d}" for number in range(low, high + 1))
    return [whole for part in parts for whole in _expanded(before + part + after)]


def _entries(shard: str) -> Iterator[tuple[Entry, dict[str, bytes]]]:
    """The samples of a shard, each with the small files that may tell its label."""
    key, files, at = None, dict[str, bytes](), Entry(shard, "", "", 0, 0)
    for member, content in _members(shard):
        name, ending = _parts(member.name)
        if name != key:
            if key is not None:
                yield at, files
            key, files, at = name, {}, Entry(shard, name, "", 0, 0)
        if ending in SAYING:
            files[ending] = content
        elif at.name:
            raise InputError(f"{shard}: {name!r} has several pictures, so it cannot be told which one counts")
        else:
            at = Entry(shard, name, bytes_id(content), member.offset_data, member.size)
    if key is not None:
        yield at, files


def _parts(path: str) -> tuple[str, str]:
    """The name that files of one sample share, all before the first dot, and what the file is, by its ending."""
    folder, _, file = path.rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, ending.lower().rpartition(".")[2]


def _members(shard: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The pictures and labels in a shard, with their contents; a shard that may be cut off is reported."""
    try:
        with contextlib.ExitStack() as stack:
            if is_url(shard):
                # Asked for as a part, so that a server that gives none is found out before anything is encoded.
                response = stack.enter_context(opened(shard, "0-"))
                size = response.length
                tar = stack.enter_context(tarfile.open(fileobj=response, mode="r|"))
            elif is_stored(shard):
                file, size = stack.enter_context(opened_stored(shard))
                tar = stack.enter_context(tarfile.open(fileobj=file, mode="r|"))
            else:
                size = Path(shard).stat().st_size
                tar = stack.enter_context(tarfile.open(shard, mode="r:"))
            for member in tar:
                name, ending = _parts(member.name)
                hidden = not name.rpartition("/")[2]
                if member.isfile() and not hidden and (ending in SAYING or f".{ending}" in SUFFIXES):
                    yield member, _content(tar, member)
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps all headers otherwise
            if size is not None and tar.offset >= size:
                warnings.warn(f"{shard} ends without the mark of an end; is it whole?", DescbenchWarning, stacklevel=2)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{shard} is no whole tar file without compression: {error}") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None  # it is a file
    content = file.read()
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _load(entry: Entry, source: str) -> Image.Image:
    if is_url(entry.shard) or is_stored(entry.shard):
        return load_image(fetch(entry.shard, entry.start, entry.size), source)
    try:
        with Path(entry.shard).open("rb") as file:
            file.seek(entry.start)
            content = file.read(entry.size)
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    return load_image(content, source)


def _said(files: dict[str, bytes], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels that the files of a sample tell, and, where a json file has both, the names of their classes."""
    kind = next((kind for kind in SAYING if kind in files), None)
    if kind is None:
        return (), ()
    try:
        text = files[kind].decode("utf-8-sig").strip()
        if kind != "json":
            return said(text), ()
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("it is no object")
        label, name = ([key for key in fields if key.lower() in COLUMNS[role]] for role in ("label", "classname"))
        labels, classes = said(fields[label[0]]) if label else (), said(fields[name[0]]) if name else ()
    except (ValueError, RecursionError, InputError) as error:
        raise InputError(f"{where}.{kind} cannot be read: {error}") from error
    return (labels, classes) if label else (classes, ())


def _classnames(shard: str) -> tuple[str, ...] | None:
    """The names beside the shards; None where there are none."""
    if is_url(shard) or is_stored(shard):
        try:
            content = fetch(f"{shard.rpartition('/')[0]}/{NAMES}")
        except InputError as error:
            if not is_absent(error):
                raise
            return None
    else:
        path = Path(shard).parent / NAMES
        if not path.is_file():
            return None
        content = path.read_bytes()
    return tuple(line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip())
