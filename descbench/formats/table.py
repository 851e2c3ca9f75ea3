"""Tables in csv: a text a row, or several in columns; with a rival, texts that tell a pair apart."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from descbench.descriptions import Descriptions
from descbench.errors import InputError, listed
from descbench.files import checked_name, is_id
from descbench.formats.source import Source

CLASS = ("class", "name", "label", "class_name", "classname", "category")
RIVAL = ("rival", "other", "against")
TEXT = ("description", "text", "descriptor", "feature", "sentence", "caption", "prompt")
_NUMBERED = re.compile(r"[\s_-]*\d*$")  # "description_2"


class Columns(NamedTuple):
    """Where in a row stands what; `id` and `rival_id` are there where classes share a name."""

    name: int
    texts: list[int]
    rival: int | None
    id: int | None
    rival_id: int | None
    others: list[str]


def detect(source: Source) -> bool:
    """A first line with a column for the class and one for its texts."""
    return source.kind == "table" and _header(source) is not None


def _header(source: Source) -> tuple[str, Columns] | None:
    """The delimiter, and the columns, of the first line."""
    first = re.match(r"[^\r\n]{,10000}", source.text)
    for delimiter in (",", "\t", ";"):
        found = _columns(next(csv.reader([first[0] if first else ""], delimiter=delimiter), []))
        if found is not None:
            return delimiter, found
    return None


def _columns(names: list[str]) -> Columns | None:
    plain = [name.strip().casefold().replace(" ", "_") for name in names]
    bare = [_NUMBERED.sub("", name).removesuffix("s") for name in plain]
    name = next((plain.index(known) for known in CLASS if known in plain), None)
    texts = [i for i, known in enumerate(bare) if known in TEXT]
    if name is None or not texts:
        return None

    def place(*known: str) -> int | None:
        return next((plain.index(k) for k in known if k in plain), None)

    rival, id_, rival_id = place(*RIVAL), place("id"), place("rival_id")
    used = {name, rival, id_, rival_id, *texts}
    return Columns(name, texts, rival, id_, rival_id, [names[i] for i in range(len(names)) if i not in used])


def read(source: Source) -> Descriptions:
    """Rows of one class together, in their order; without a column `id`, equal names are one class. An empty cell is no
    text, so a row without any only names its class.

    Raises `InputError` that names the line that is not of this form.
    """
    header = _header(source)
    if header is None:
        raise InputError(f"{source} has no columns for a class ({', '.join(CLASS[:3])}) and its texts (description)")
    delimiter, columns = header
    if columns.others:
        source.notes.append(f"columns not read: {listed(columns.others)}")
    classes: dict[int, list[str]] = {}
    pairs: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    known = _Classes(source)
    for where, row in _rows(source, delimiter):
        a = known.id(row[columns.name], row[columns.id] if columns.id is not None else None, where)
        rival = row[columns.rival] if columns.rival is not None else ""
        given = [row[i] for i in columns.texts if row[i]]
        texts = source.texts(given, row[columns.name])
        if not rival:
            if texts:
                classes.setdefault(a, []).extend(texts)
            continue
        b = known.id(rival, row[columns.rival_id] if columns.rival_id is not None else None, where)
        if a == b:
            raise InputError(f"{where}: the class {rival!r:.80} is its own rival; a rival is another class")
        pairs.setdefault((min(a, b), max(a, b)), ([], []))[a > b].extend(texts)
    return Descriptions(classes, pairs, known.names)


class _Classes:
    """The classes met so far, by id where the table has ids, else by name."""

    def __init__(self, source: Source) -> None:
        self.names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._source = source

    def id(self, name: str, given: str | None, where: str) -> int:
        name = checked_name(name, where)
        if given is None:
            id_ = self._ids.setdefault(name, len(self._ids))
        elif re.fullmatch(r"-?\d{1,19}", given.strip(), re.ASCII) and is_id(int(given)):
            id_ = int(given)
        else:
            raise InputError(f"{where}: an id must be a whole number, given: {given!r:.80}")
        if self.names.setdefault(id_, name) != name:
            raise InputError(f"{where}: id {id_} is {name!r:.80} here and {self.names[id_]!r:.80} before")
        return id_


def _rows(source: Source, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """(where it stands, cells) of each row below the header, all of one length; empty lines are no rows."""
    # Strict, so that a quote that is never closed does not swallow the rest of the file.
    reader = csv.reader(io.StringIO(source.text, newline=""), delimiter=delimiter, strict=True)
    try:
        width = len(next(reader))
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"{source}, line {reader.line_num}"
            if len(row) > width:
                raise InputError(f"{where}: {len(row)} cells for {width} columns; put texts in double quotes")
            yield where, row + [""] * (width - len(row))
    except csv.Error as error:
        raise InputError(f"{source}, line {reader.line_num}: no valid csv ({error}); look at its quotes") from None


def to_csv(descriptions: Descriptions) -> str:
    """A text a row, in the order of the ids; pairs with a rival, each side in rows of its own."""
    vocabulary = descriptions.vocabulary()
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    pairs = ["rival", "rival_id"] if descriptions.pairs else []
    writer.writerow(["class", *pairs, "description", "id"])
    for id_, name in vocabulary:
        for text in descriptions.classes.get(id_) or [""]:
            writer.writerow([name, *[""] * len(pairs), text, id_])
    for ids, texts in sorted(descriptions.pairs.items()):
        for (a, b), said in zip((ids, ids[::-1]), texts, strict=True):
            for text in said or [""]:
                writer.writerow([vocabulary.name(a), vocabulary.name(b), b, text, a])
    if "\0" in out.getvalue():
        raise InputError("a text has a zero byte, which no csv file can hold; remove it, or write another format")
    return out.getvalue()
