"""One JSON object, class name -> list of texts: what DCLIP, CuPL, WaffleCLIP and most others publish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.files import Repeated, checked_name
from descbench.formats.source import Source


def detect(source: Source) -> bool:
    """An object with a list of texts in it; or with empty lists only."""
    values = source.object().values()
    return any(is_texts(value) for value in values) or (bool(values) and all(value == [] for value in values))


def has_sentences(source: Source) -> bool:
    """Of this form, and most texts are sentences, as CuPL's are: they begin with a capital and end with a stop."""
    if not detect(source):
        return False
    lists = [value for value in source.object().values() if isinstance(value, list)]
    texts = [text.strip() for value in lists for text in value if isinstance(text, str) and text.strip()]
    return 2 * sum(text[0].isupper() and text[-1] in ".!?" for text in texts) > len(texts)


def read(source: Source) -> Descriptions:
    """One class a key, ids in the order of the file; a key that occurs twice is two classes of that name.

    An empty list is a class without a description.
    """
    return of_members(members(source.data), source)


def of_members(given: Iterable[tuple[str, Any]], source: Source) -> Descriptions:
    """Descriptions from (class name, texts), ids in this order."""
    names: dict[int, str] = {}
    classes: dict[int, list[str]] = {}
    for id_, (name, texts) in enumerate(given):
        names[id_] = checked_name(name, str(source))
        if found := source.texts(texts, name):
            classes[id_] = found
    return Descriptions(classes, names=names)


def members(data: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """All members of a JSON object, those of a repeated key too."""
    return data.members if isinstance(data, Repeated) else data.items()


def is_shared(source: Source) -> bool:
    """A list of texts, for no class in particular: WaffleCLIP gives the same ones to every class."""
    return source.kind == "json" and is_texts(source.data)


def read_waffle(source: Source) -> Descriptions:
    """WaffleCLIP's: an object as above, or a list of texts that every class of the vocabulary gets."""
    if not is_shared(source):
        return read(source)
    if source.vocabulary is None:
        raise InputError(f"{source} lists texts without classes; give the vocabulary, each class of which gets them")
    return Descriptions(
        {id_: source.texts(source.data, name) for id_, name in source.vocabulary}, names=dict(source.vocabulary)
    )


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(text, str) for text in value)
