"""Which lines of a file a person wrote: a file remembers a checksum of every line that was generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from zlib import crc32

from descbench.descriptions import Descriptions
from descbench.vocabulary import normalise

MARK = "generated"  # the entry of the provenance
_A_LINE = 12  # checksums
_HEX = re.compile("[0-9a-f]{8}")


def marked(descriptions: Descriptions, since: Descriptions) -> Descriptions:
    """The same, with a checksum of every text that `since` does not have; what `since` remembers stays remembered."""
    old = set(_checksums(since))
    known = {*_remembered(since), *_remembered(descriptions)}
    sums = sorted(known | {new for new in _checksums(descriptions) if new not in old})
    rows = (sums[start : start + _A_LINE] for start in range(0, len(sums), _A_LINE))
    lines = [" ".join([f"{checksum:08x}" for checksum in row]) for row in rows]
    return replace(descriptions, provenance={**descriptions.provenance, MARK: lines})


def edited(descriptions: Descriptions) -> dict[tuple[int, ...], list[str]]:
    """The texts that a person wrote or changed, by class (id,), or by a class and its rivals in a pair or a set
    (id, rival, ...): those of `id` against these.

    Empty for a file that remembers nothing, as an imported one.
    """
    known = _remembered(descriptions)
    found: dict[tuple[int, ...], list[str]] = {}
    if known:
        for subject, text, checksum in _lines(descriptions):
            if checksum not in known:
                found.setdefault(subject, []).append(text)
    return found


def removed(descriptions: Descriptions) -> int:
    """How many generated lines are no longer there: deleted, or changed."""
    return len(_remembered(descriptions) - set(_checksums(descriptions)))


def _remembered(descriptions: Descriptions) -> set[int]:
    lines = descriptions.provenance.get(MARK, [])
    words = [word for line in lines for word in str(line).split()] if isinstance(lines, list) else []
    return {int(word, 16) for word in words if _HEX.fullmatch(word)}


def _checksums(descriptions: Descriptions) -> Iterator[int]:
    return (checksum for _, _, checksum in _lines(descriptions))


def _lines(descriptions: Descriptions) -> Iterator[tuple[tuple[int, ...], str, int]]:
    """(subject, text, checksum). The name enters, and not the id: a file may be read under other ids."""
    names = {id_: normalise(name) for id_, name in descriptions.names.items()}
    for side, texts in descriptions.sides():
        own, *rivals = [f"{names.get(id_, id_)}\n" for id_ in side]
        start = crc32("".join([own, *sorted(rivals)]).encode())
        for text in texts:
            yield side, text, crc32(text.encode("utf-8", "replace"), start)
