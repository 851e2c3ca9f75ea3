"""Comparative descriptors: class -> rival -> features of the class that the rival lacks."""

from __future__ import annotations

from collections.abc import Iterable

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.files import checked_name, once
from descbench.formats import dclip
from descbench.formats.source import Source

Comparison = tuple[str, str, list[str]]  # class, rival, texts of the class


def detect(source: Source) -> bool:
    """An object with an object of lists of texts in it."""
    rivals = [value for value in source.object().values() if isinstance(value, dict)]
    return any(dclip.is_texts(texts) for against in rivals for texts in against.values())


def read(source: Source) -> Descriptions:
    """Pairs, from both directions where both are there. The flat form that the authors publish, all features of a class
    in one list, has lost the rivals: it gives classes, as DCLIP's form does."""
    if not detect(source):
        return dclip.read(source)
    compared: list[Comparison] = []
    named = list(once(source.data, source))
    for name, rivals in source.data.items():
        if not isinstance(rivals, dict):
            raise InputError(f"{source}, class {name!r:.80}: expected an object, rival -> texts, given: {rivals!r:.80}")
        compared += [(name, rival, source.texts(texts, name)) for rival, texts in rivals.items()]
    return of_comparisons(named, compared, str(source))


def of_comparisons(named: Iterable[str], compared: Iterable[Comparison], where: str) -> Descriptions:
    """Pairs from (class, rival, texts): what is said of a class against a rival, in either direction, is one pair.

    The classes have ids in the order of `named`, then of their first mention.
    """
    compared = list(compared)
    order = dict.fromkeys([*named, *(name for one, other, _ in compared for name in (one, other))])
    ids = {checked_name(name, where): id_ for id_, name in enumerate(order)}
    pairs: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    for one, other, texts in compared:
        if one == other:
            raise InputError(f"{where}: the class {one!r:.80} is compared with itself; a rival is another class")
        a, b = ids[one], ids[other]
        pairs.setdefault((min(a, b), max(a, b)), ([], []))[a > b].extend(texts)
    return Descriptions(pairs=pairs, names={id_: name for name, id_ in ids.items()})
