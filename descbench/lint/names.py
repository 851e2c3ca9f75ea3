"""Texts that name their own class, or another one."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from descbench.descriptions import Descriptions
from descbench.lint.findings import CODES, WORD, Finding, Subject, found_in, these
from descbench.vocabulary import normalise

_PLURAL_ONLY = these("shorts tights trunks jeans glasses sunglasses goggles binoculars overalls species series")


@lru_cache(maxsize=1 << 20)
def _stem(word: str) -> str:
    """A word without case, accents and the ending of a plural or genitive."""
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)).replace("’", "'")
    word = word.casefold().removesuffix("'s")
    if word in _PLURAL_ONLY:
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def words_of(text: str) -> tuple[str, ...]:
    return tuple(map(_stem, WORD.findall(text)))


# One word that is a class somewhere and means a colour, a part or a property in most texts.
_ALSO_ORDINARY = these(
    "orange rose peach olive lemon gold silver bronze ivory chocolate coffee cream cherry turquoise amber salmon"
    " crane nail boxer drum ring bow bar stage net mask muzzle plate pole screw barrel tank knot lighter fly swing safe"
    " suit dock tray shield spindle dome hook chain wave park"
)


def _spellings(name: str) -> list[tuple[str, ...]]:
    """The ways a text may call a class: the name, without what stands in brackets, and each side of a stroke."""
    whole = normalise(name)
    bare = re.sub(r"\([^()]*\)", " ", whole)
    parts = [whole, bare, *(bare.split(" / ") if " / " in bare else ())]
    return [words for words in dict.fromkeys(map(words_of, parts)) if words and len("".join(words)) > 2]


def _within(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    size = len(inner)
    return any(outer[at : at + size] == inner for at in range(len(outer) - size + 1))


class _Index:
    """Names by their first word, so that a text is held against all of them at the cost of its own length."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.spellings = {id_: _spellings(name) for id_, name in names.items()}
        self._ids: dict[tuple[str, ...], int] = {}
        lengths: dict[str, set[int]] = defaultdict(set)
        for id_, several in self.spellings.items():
            for words in several:
                self._ids.setdefault(words, id_)
                lengths[words[0]].add(len(words))
        self._lengths = {word: sorted(sizes, reverse=True) for word, sizes in lengths.items()}

    def mentions(self, text: str) -> list[tuple[tuple[str, ...], int]]:
        """(words, id) of the names in a text, the longest one at each place."""
        words = words_of(text)
        found: list[tuple[tuple[str, ...], int]] = []
        if self._lengths.keys().isdisjoint(words):
            return found
        at = 0
        while at < len(words):
            step = 1
            for size in self._lengths.get(words[at], ()):
                name = words[at : at + size]
                if name in self._ids:
                    found.append((name, self._ids[name]))
                    step = size
                    break
            at += step
        return found


def named(descriptions: Descriptions, subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Texts that name their own class, or another one. Captions of pairs and sets name their class on purpose.

    Sentences do so as well: where half of all texts name their class, that is the style of the file, and said once.
    """
    index = _Index(descriptions.names)
    own, total = [], 0
    for subject in subjects:
        mine = index.spellings.get(subject.ids[0], [])
        for text in dict.fromkeys(subject.texts):
            mentions = index.mentions(text)
            total += len(subject.ids) == 1
            if not mentions:
                continue
            if len(subject.ids) == 1 and any(words in mine for words, _ in mentions):
                own.append(found_in(subject, "own-name", text, "a method that adds the name has it twice"))
            rival = next((id_ for words, id_ in mentions if _foreign(words, id_, subject, mine)), None)
            if rival is not None:
                called = descriptions.names[rival]
                found = found_in(subject, "rival-name", text, f"names {called}, and so draws the class towards it")
                yield replace(found, ids=(subject.ids[0], rival))
    if own and 2 * len(own) >= total:
        style = f"{len(own)} of {total} texts name their class: sentences, for a method that adds no name"
        yield Finding("own-name", CODES["own-name"].severity, (), "", "", style)
    else:
        yield from own


def _foreign(words: tuple[str, ...], id_: int, subject: Subject, mine: Sequence[tuple[str, ...]]) -> bool:
    """Whether a mention is of another class, and not of what the own name says too: a wheaten terrier is a terrier."""
    if id_ in subject.ids[:1] or (len(subject.ids) > 1 and id_ not in subject.ids[1:]):
        return False
    if len(words) == 1 and words[0] in _ALSO_ORDINARY:
        return False
    return not any(_within(words, name) for name in mine)
