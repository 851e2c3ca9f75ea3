"""AdaptCLIPZS's published folders: a text file a class, named after it, with a description a line."""

from __future__ import annotations

import re
from pathlib import Path

from descbench.descriptions import Descriptions
from descbench.errors import listed
from descbench.files import read_text
from descbench.formats import dclip
from descbench.formats.source import Source


def detect(source: Source) -> bool:
    """A folder with text files."""
    return source.kind == "folder" and any(map(_is_class, source.path.iterdir()))


def read(source: Source) -> Descriptions:
    """One class a file, in the order of their names; an empty file is a class without a description.

    Raises `InputError` for a file that is no text. Names are only read from files here, and never made into paths.
    """
    entries = sorted(source.path.iterdir())
    if rest := [entry.name for entry in entries if not _is_class(entry)]:
        source.notes.append(f"{len(rest)} not read, since no text files: {listed(rest)}")
    return dclip.of_members(((entry.stem, _lines(entry)) for entry in entries if _is_class(entry)), source)


def _is_class(entry: Path) -> bool:
    return entry.suffix.lower() == ".txt" and entry.is_file()


def _lines(file: Path) -> list[str]:
    """The texts of a file; an empty line is layout here, and no text that is missing."""
    return [line.strip() for line in re.split(r"[\r\n]+", read_text(file)) if line.strip()]
