"""DisCLIP's published files: class number -> list of descriptors, and in most of them class number -> name."""

from __future__ import annotations

from typing import Any

from descbench.descriptions import Descriptions
from descbench.errors import InputError, listed
from descbench.files import checked_name, is_id, once
from descbench.formats.source import Source

TEXTS, NAMES = "index_to_descriptions", "index_to_classname"


def detect(source: Source) -> bool:
    """An object with "index_to_descriptions"; or one all of whose keys are numbers, with lists of texts."""
    data = source.object()
    if isinstance(data.get(TEXTS), dict):
        return True
    return bool(data) and all(_is_number(key) and isinstance(value, list) for key, value in data.items())


def read(source: Source) -> Descriptions:
    """Descriptors under the names of the file; where it has none, under its numbers, which are then ids of the
    vocabulary: a position in some other list of classes says nothing.

    Raises `InputError` where there are neither names nor a vocabulary.
    """
    data = once(source.data, source)
    by_number = data.get(TEXTS, data)
    named = data.get(NAMES) or {}
    if not isinstance(named, dict):
        raise InputError(f"{source}: {NAMES!r} must be an object, given: {named!r:.80}")
    if rest := [key for key in data if TEXTS in data and key not in (TEXTS, NAMES)]:
        source.notes.append(f"not read: {listed(rest)}")
    names = {_number(key, source): checked_name(name, f"{source}, {NAMES}") for key, name in named.items()}
    given = {_number(key, source): texts for key, texts in by_number.items()}
    if len(given) < len(by_number) or len(names) < len(named):
        raise InputError(f"{source}: a class number occurs twice, once with a zero before it; keep one")
    if unnamed := [number for number in given if names and number not in names]:
        raise InputError(f"{source} describes class {unnamed[0]}, which {NAMES!r} does not name")
    if not names and source.vocabulary is None:
        raise InputError(
            f"{source} numbers its classes and does not name them; give the vocabulary whose ids they are "
            "(or the format dclip, where the numbers are the names)"
        )
    texts = {number: source.texts(texts, names.get(number, str(number))) for number, texts in given.items()}
    return Descriptions({number: found for number, found in texts.items() if found}, names=names)


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 19 and is_id(int(key))


def _number(key: Any, source: Source) -> int:
    if not _is_number(key):
        raise InputError(f"{source}: the keys must be class numbers, given: {key!r:.80}")
    return int(key)
