"""Waffle: random words and characters in place of descriptions, the same for all classes, in the form of names."""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice
from math import fsum
from pathlib import Path
from typing import ClassVar

import numpy as np

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.methods.base import POOLS, Method, Pool, choice, whole
from descbench.methods.controls import Seeded, generator
from descbench.methods.dclip import phrase
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary


@cache
def shipped_words() -> tuple[str, ...]:
    """The everyday words that `waffle` draws from: our own list, `words.txt` beside this module."""
    return tuple((Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class Form:
    """What random items are like: how many words each, cut to how many letters, or in groups of how many."""

    words: int
    letters: int
    group: int

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Form:
        """The means over all names of a vocabulary, each exact, so that no order of classes changes a rounding.

        The characters of an item are as many as the longest word of a name, and one more a group.
        """
        names = [plain(name).split() or [""] for id_, _ in vocabulary for name in vocabulary.names_of(id_)]
        C = len(names)
        words = max(1, round(sum(map(len, names)) / C))
        letters = round(fsum(sum(map(len, parts)) / len(parts) for parts in names) / C)
        longest = -(-sum(max(map(len, parts)) for parts in names) // C)  # the mean, rounded up
        return cls(words, max(1, letters), longest // words + 1)


def random_items(vocabulary: Vocabulary, pairs: int, seed: int) -> list[str]:
    """Pairs of an item of random words and one of random characters: "towel lantern", "ucjyq, ozhbv"."""
    form = Form.of(vocabulary)
    known, alphabet = shipped_words(), string.ascii_lowercase
    words = generator(seed, "words").integers(len(known), size=(pairs, form.words))
    letters = generator(seed, "letters").integers(len(alphabet), size=(pairs, form.words, form.group))
    items = []
    for row, groups in zip(words.tolist(), letters.tolist(), strict=True):
        items.append(" ".join(known[i][: form.letters] for i in row))
        items.append(", ".join("".join(alphabet[i] for i in group) for group in groups))
    return items


def waffled(name: str, item: str) -> str:
    """The text of a class with a random item."""
    return f"A photo of a {plain(name)}, {phrase(item)}."


@dataclass(frozen=True, repr=False)
class Waffle(Method):
    """A control without any description: the mean similarity to "A photo of a {name}, which has {random}.", with 15
    items of random words and 15 of random characters that are the same for all classes (Roth et al. 2023, WaffleCLIP,
    section 3.2). Report it over several seeds.

    Differs from the authors' code: words come from a list of our own, characters are the letters a to z, not those of
    the descriptors; each of its two draws has a generator of its own. Lengths follow the names of the classes as there.
    """

    spelled: ClassVar[str] = "waffle"

    seed: int = 0
    pairs: int = 15
    pool: Pool = "mean_score"

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0)
        whole("pairs", self.pairs, 1)
        choice("pool", self.pool, POOLS)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        items = random_items(vocabulary, self.pairs, self.seed)
        return TextBank.of(vocabulary, [[waffled(name, item) for item in items] for name in vocabulary.names])


@dataclass(frozen=True, repr=False)
class WaffleAnd(Seeded):
    """A class's own texts mixed with random ones: 20 of its own and 20 random (10 pairs as in `waffle`), of which the
    same 30 places are kept for all classes (Roth et al. 2023, WaffleCLIP, section 4: Waffle with descriptors).

    Fewer than 20 texts come again in turn; of more, 20 are drawn. Differs from the authors' code: the texts of the
    method keep its own wording, so that any method can be mixed. A class without a description has its random texts.
    """

    spelled: ClassVar[str] = "waffle_and"
    PAIRS: ClassVar[int] = 10
    OWN: ClassVar[int] = 20
    KEPT: ClassVar[int] = 30

    method: Method
    seed: int = 0

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        bank = self.method.texts(vocabulary, descriptions)
        if bank.weights is not None:
            raise InputError(
                f"{self!r}: {self.method!r} weights its texts, and random ones have no weight; mix another"
            )
        items = random_items(vocabulary, self.PAIRS, self.seed)
        places = generator(self.seed, "places").permutation(len(items) + self.OWN)[: self.KEPT]
        kept = np.sort(places).tolist()
        lists = []
        for position, name in enumerate(vocabulary.names):
            texts = [waffled(name, item) for item in items]
            if not bank.undescribed[position]:
                own = bank.texts_of(position)
                turn = generator(self.seed, *own).permutation(len(own)).tolist()
                texts += islice(cycle([own[i] for i in turn]), self.OWN)
            lists.append([texts[place] for place in kept if place < len(texts)])
        return replace(TextBank.of(vocabulary, lists), undescribed=bank.undescribed, anchors=bank.anchors)
