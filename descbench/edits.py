"""Lines that a person writes: how a file is changed by some, and how it knows later which they are.

A file remembers a checksum of every line that was generated, and of every one that `write_edit` has put there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from descbench.descriptions import FORMAT, Descriptions, readable
from descbench.errors import InputError, listed, nearest
from descbench.files import encodable, read_json, write_whole
from descbench.vocabulary import normalise

MARK = "generated"  # the entry of the provenance
BY_HAND = "edited"  # that of the lines which a person wrote with a command
_A_LINE = 12  # checksums
_HEX = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True)
class Edit:
    """Lines of a class to drop, to replace and to add. A line is named by its number, from 1 on, or by its text."""

    drop: tuple[str, ...] = ()
    replace: tuple[tuple[str, str], ...] = ()
    add: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.drop or self.replace or self.add)

    def applied(self, texts: Sequence[str], name: str) -> list[str]:
        """The lines of a class after the edit: what is replaced stays in its place, what is added comes last. All
        numbers are those before it.

        Raises `InputError` for a line that is not there or is named twice, and for a new one that is blank or that the
        class has already, whatever its case and blanks.
        """
        dropped = [_line(given, texts, name) for given in self.drop]
        replaced = [(_line(given, texts, name), text) for given, text in self.replace]
        named = [*dropped, *(place for place, _ in replaced)]
        if twice := sorted({place + 1 for place in named if named.count(place) > 1}):
            raise InputError(f"line {listed(twice)} of {name!r} is named twice; drop it or replace it, once")
        new = dict(replaced)
        found = [new.get(place, text) for place, text in enumerate(texts) if place not in dropped]
        kept = [text for place, text in enumerate(texts) if place not in named]
        for text in (*new.values(), *self.add):
            if not text.strip():
                raise InputError(f"a new line of {name!r} is blank; write what the class looks like, or --drop a line")
            encodable(text, f"a new line of {name!r}")
            if (same := next((old for old in kept if _folded(old) == _folded(text)), None)) is not None:
                raise InputError(f"{name!r} has the line {same!r} already; it would count twice")
            kept.append(text)
        return [*found, *self.add]


def _line(given: str, texts: Sequence[str], name: str) -> int:
    """The place of a line that is named by its text, or by its number from 1 on."""
    if given in texts:
        return texts.index(given)
    if given.isdecimal():
        if 1 <= int(given) <= len(texts):
            return int(given) - 1
        has = f"the lines 1 to {len(texts)}" if texts else "no lines"
        raise InputError(f"{name!r} has no line {given}; it has {has}")
    raise InputError(
        f"{name!r} has no line {given!r}{nearest(given, texts) or '.'} Name it by its number, or by its whole text"
    )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def write_edit(path: str | Path, id: int, texts: Sequence[str], new: Iterable[str]) -> None:
    """Put these lines in the place of a class's in a file of descbench's; of them a person wrote the `new` ones.

    All else stays as it is and in its order, also what descbench does not read. The file is written whole or not at
    all. Raises `InputError` for a file of another's, and for a class that is not in it.
    """
    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(
            f"{path} was published by others, and only a file of descbench's is written to; make one: descbench import "
            f"{path} -o NEW"
        )
    known = Descriptions.from_json(data, path)
    entry = next((entry for entry in data.get("classes", []) if entry["id"] == id), None)
    if entry is None:
        raise InputError(f"{path} has no class with id {id}; it has {len(known.names)} classes")
    entry["texts"] = list(texts)
    added = set(new)
    sums = {checksum for side, text, checksum in _lines(replace(known, classes={id: [*texts]}))
            if side == (id,) and text in added}  # fmt: skip
    if sums:
        data["provenance"] = {**known.provenance, BY_HAND: _in_lines(sums | _remembered(known, BY_HAND))}
    write_whole(path, readable(data))


def marked(descriptions: Descriptions, since: Descriptions) -> Descriptions:
    """The same, with a checksum of every text that `since` does not have; what `since` remembers stays remembered."""
    old = set(_checksums(since))
    known = {*_remembered(since), *_remembered(descriptions)}
    sums = known | {new for new in _checksums(descriptions) if new not in old}
    return replace(descriptions, provenance={**descriptions.provenance, MARK: _in_lines(sums)})


def grown(descriptions: Descriptions, said: Descriptions) -> Descriptions:
    """Both together, where `said` was generated just now: a file that remembers such lines remembers these too."""
    found = descriptions.merged(said)
    if not _remembered(descriptions):  # else all that it has would be taken for a person's
        return found
    new = replace(found, classes=said.classes, pairs=said.pairs, sets=said.sets)
    sums = _remembered(descriptions) | set(_checksums(new))
    return replace(found, provenance={**found.provenance, MARK: _in_lines(sums)})


def edited(descriptions: Descriptions) -> dict[tuple[int, ...], list[str]]:
    """The texts that a person wrote or changed, by class (id,), or by a class and its rivals in a pair or a set
    (id, rival, ...): those of `id` against these.

    Of a file that does not remember what was generated, as an imported one, only those that `write_edit` put there.
    """
    known, by_hand = _remembered(descriptions), _remembered(descriptions, BY_HAND)
    found: dict[tuple[int, ...], list[str]] = {}
    if known or by_hand:
        for subject, text, checksum in _lines(descriptions):
            if checksum in by_hand or (known and checksum not in known):
                found.setdefault(subject, []).append(text)
    return found


def removed(descriptions: Descriptions) -> int:
    """How many generated lines are no longer there: deleted, or changed."""
    return len(_remembered(descriptions) - set(_checksums(descriptions)))


def _remembered(descriptions: Descriptions, entry: str = MARK) -> set[int]:
    lines = descriptions.provenance.get(entry, [])
    words = [word for line in lines for word in str(line).split()] if isinstance(lines, list) else []
    return {int(word, 16) for word in words if _HEX.fullmatch(word)}


def _in_lines(sums: Iterable[int]) -> list[str]:
    """Checksums as a file keeps them, some to a line."""
    ordered = sorted(sums)
    rows = (ordered[start : start + _A_LINE] for start in range(0, len(ordered), _A_LINE))
    return [" ".join([f"{checksum:08x}" for checksum in row]) for row in rows]


def _checksums(descriptions: Descriptions) -> Iterator[int]:
    return (checksum for _, _, checksum in _lines(descriptions))


def _lines(descriptions: Descriptions) -> Iterator[tuple[tuple[int, ...], str, int]]:
    """(subject, text, checksum). The name enters, and not the id: a file may be read under other ids."""
    names: Mapping[int, str] = {id_: normalise(name) for id_, name in descriptions.names.items()}
    for side, texts in descriptions.sides():
        own, *rivals = [f"{names.get(id_, id_)}\n" for id_ in side]
        start = crc32("".join([own, *sorted(rivals)]).encode())
        for text in texts:
            yield side, text, crc32(text.encode("utf-8", "replace"), start)
