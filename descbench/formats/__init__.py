"""Published files <-> Descriptions: one module a format, each detected by its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from descbench.descriptions import FORMAT, Descriptions, read_json
from descbench.errors import InputError, listed, nearest
from descbench.formats import dclip, fudd
from descbench.vocabulary import Vocabulary


class Format(NamedTuple):
    """How to tell a format by the parsed JSON of a file, and how to read it."""

    detect: Callable[[Any], bool]
    read: Callable[[Any, Path], Descriptions]


def _own(data: Any) -> bool:
    return isinstance(data, dict) and data.get("format") == FORMAT


FORMATS: dict[str, Format] = {
    "descbench": Format(_own, Descriptions.from_json),
    "fudd": Format(fudd.detect, fudd.read),
    "dclip": Format(dclip.detect, dclip.read),
}


def read_descriptions(path: str | Path, vocabulary: Vocabulary | None = None, format: str = "auto") -> Descriptions:
    """Descriptions from a file of descbench or of any published format, under the ids of `vocabulary`.

    Joined by name, never by position (by number only where a file has numbers and no names). Without a vocabulary the
    ids are those of the file, in its order.
    Raises `InputError` for a file of no known format, `MatchError` where its classes are not those of the vocabulary.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one of its files")
    data = read_json(path)
    if format == "auto":
        format = next((name for name, known in FORMATS.items() if known.detect(data)), "")
        if not format:
            raise InputError(
                f"{path} holds no descriptions of a known format ({listed(FORMATS)}). The simplest is a JSON object: "
                '{"class name": ["description", ...]}'
            )
    if format not in FORMATS:
        raise InputError(f"no format {format!r}{nearest(format, FORMATS) or '.'} There are: auto, {listed(FORMATS)}.")
    if not FORMATS[format].detect(data):
        raise InputError(f"{path} is not of the format {format!r}; try format 'auto'")
    found = FORMATS[format].read(data, path)
    found = found.merged(Descriptions(provenance={"file": path.name, "format": format}))
    return found if vocabulary is None else found.matched(vocabulary)
