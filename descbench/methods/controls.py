"""Controls: the same method without the information that is said to carry it."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import ClassVar

import numpy as np

from descbench.descriptions import Descriptions, Side, side_of
from descbench.methods.base import Method, Wrapper, whole
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary


def generator(*content: object) -> np.random.Generator:
    """Random numbers that depend on a seed and on what they are drawn for, never on a position."""
    return np.random.default_rng(list(hashlib.sha256(repr(content).encode()).digest()))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A text with other names in place of those it mentions as whole words, all at once: a description that says its
    class's name must not carry that to another class."""
    folded = text.casefold()
    there = sorted((old for old in names if old.casefold() in folded), key=lambda old: (-len(old), old))
    if not there:
        return text
    pattern = "|".join(rf"((?<!\w){re.escape(old)}(?!\w))" for old in there)
    return re.sub(pattern, lambda found: names[there[(found.lastindex or 1) - 1]], text, flags=re.IGNORECASE)


@dataclass(frozen=True)
class _Sides:
    """The descriptions of a vocabulary as lists of texts, one a side, and what the classes are called in them.

    Half a million pairs are looked at only for a method that asks about pairs; for any other they are left out. Of sets
    only that of the whole vocabulary is there, for a method that asks about sets: it sees no other.
    """

    vocabulary: Vocabulary
    descriptions: Descriptions
    method: Method

    def name(self, id_: int) -> str:
        """As the texts have it: `nameless` renames a vocabulary, but not its descriptions."""
        return plain(self.descriptions.names.get(id_, self.vocabulary.name(id_)))

    def every_name(self, id_: int) -> list[str]:
        """That name and, where the class has synonyms, all by which a text may call it."""
        every = self.vocabulary.names_of(id_)
        return list(dict.fromkeys([self.name(id_), *(map(plain, every) if len(every) > 1 else ())]))

    def keys(self) -> dict[int, tuple[str, int]]:
        """A name for each class that no order of classes changes; classes of one name are numbered by their ids."""
        seen: dict[str, int] = {}
        keys = {}
        for id_ in sorted(self.vocabulary.ids.tolist()):
            name = self.name(id_)
            seen[name] = seen.get(name, -1) + 1
            keys[id_] = (name, seen[name])
        return keys

    def lists(self) -> tuple[dict[Side, list[str]], dict[Side, list[str]], dict[Side, list[str]]]:
        """The texts of each class, of each class against each rival, and of each class against all others."""
        own = sorted(self.vocabulary.ids.tolist())
        known = self.descriptions
        pairs = known.pairs if self.method.asks_about == "pair" else {}
        if len(own) ** 2 < len(pairs):  # a few candidates of many classes
            there = [pair for pair in combinations(own, 2) if pair in pairs]
        else:
            inside = set(own)
            there = [(a, b) for a, b in pairs if a in inside and b in inside]
        both: dict[Side, list[str]] = {
            side: texts for a, b in there for side, texts in zip(((a, b), (b, a)), pairs[a, b], strict=True)
        }
        together = known.set(own) if self.method.asks_about == "set" else None
        of_set: dict[Side, list[str]] = {}
        if together is not None:
            by_name = sorted(own, key=self.keys().__getitem__)  # a side must not depend on the order of the ids
            of_set = {side_of(id_, by_name): texts for id_, texts in together.items()}
        return {(i,): known.classes[i] for i in own if i in known.classes}, both, of_set

    def mapped(self, change: Callable[[dict[Side, list[str]]], Mapping[Side, list[str]]]) -> Descriptions:
        """The descriptions with the lists of classes, then those of pairs, and then those of the set, changed."""
        classes, pairs, of_set = map(change, self.lists())
        whole = tuple(sorted(self.vocabulary.ids.tolist()))
        return replace(
            self.descriptions,
            classes={side[0]: texts for side, texts in classes.items()},
            pairs={(a, b): (texts, pairs[b, a]) for (a, b), texts in pairs.items() if a < b},
            sets={whole: {side[0]: texts for side, texts in of_set.items()}} if of_set else {},
        )

    def pooled(self, lists: Mapping[Side, list[str]]) -> list[tuple[str, Side]]:
        """All texts with whom they describe, in an order that follows from texts and names."""
        keys = self.keys()
        return sorted(
            ((text, side) for side, texts in lists.items() for text in texts),
            key=lambda entry: (entry[0], [keys[id_] for id_ in entry[1]]),
        )

    def moved(self, text: str, giver: Side, taker: Side) -> str:
        """A text of one side as another one's: with the taker's name, as it is called now, for the giver's."""
        names: dict[str, str] = {}
        # The giver's own again at the end: where a rival has its very name, that becomes the taker's own.
        for old, new in (*zip(giver, taker, strict=False), (giver[0], taker[0])):
            names |= dict.fromkeys(self.every_name(old), plain(self.vocabulary.name(new)))
        return renamed(text, names)


class Seeded(Wrapper):
    """A wrapper that leaves something to chance, by its `seed`."""

    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("seed", self.seed, 0)


@dataclass(frozen=True, repr=False)
class Shuffled(Seeded):
    """Every class gets the description of another (the swapped lists of Roth et al. 2023, WaffleCLIP, section 4).

    If a method scores as well so, its gain is not the meaning of its descriptions. One random cycle through all
    classes, by seed and names, so that no class keeps its own list and no order of classes matters. A description that
    says the name of its class says the name of the other one then.
    """

    spelled: ClassVar[str] = "shuffled"

    method: Method
    seed: int = 0

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        # By the names of the descriptions where they have some: `nameless(shuffled(m))` calls every class the same.
        cycle = sorted(vocabulary.ids.tolist(), key=lambda i: (descriptions.names.get(i, vocabulary.name(i)), i))
        random.Random(self.seed).shuffle(cycle)
        taker = dict(zip(cycle[1:] + cycle[:1], cycle, strict=True))
        sides = _Sides(vocabulary, descriptions, self.method)

        def moved(lists: dict[Side, list[str]]) -> dict[Side, list[str]]:
            new = {giver: tuple(taker[id_] for id_ in giver) for giver in lists}
            return {new[giver]: [sides.moved(t, giver, new[giver]) for t in texts] for giver, texts in lists.items()}

        return self.method.texts(vocabulary, sides.mapped(moved))


@dataclass(frozen=True, repr=False)
class Shared(Seeded):
    """Every described class gets the texts of all classes, each once; only the names still differ (after the shared
    random descriptions of Roth et al. 2023, WaffleCLIP, section 4).

    `most` limits how many: of more, that many are drawn by `seed`, the same for all classes; 0 is no limit. Captions of
    pairs are shared among pairs. A description that says the name of its class says the name of the taker.
    """

    spelled: ClassVar[str] = "shared"

    method: Method
    most: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("most", self.most, 0)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        sides = _Sides(vocabulary, descriptions, self.method)

        def shared(lists: dict[Side, list[str]]) -> dict[Side, list[str]]:
            union = list({text: (text, giver[:1]) for text, giver in reversed(sides.pooled(lists))}.values())[::-1]
            if self.most and len(union) > self.most:
                drawn = generator(self.seed, "shared").permutation(len(union))[: self.most]
                union = [union[place] for place in np.sort(drawn).tolist()]
            takers = {side[:1] for side in lists}
            given = {taker: [sides.moved(text, giver, taker) for text, giver in union] for taker in takers}
            return {side: list(dict.fromkeys(given[side[:1]])) if texts else [] for side, texts in lists.items()}

        return self.method.texts(vocabulary, sides.mapped(shared))


@dataclass(frozen=True, repr=False)
class RandomDescriptions(Seeded):
    """Every class gets as many descriptions as it had, drawn without replacement from those of all classes together
    (the random descriptions of Roth et al. 2023, WaffleCLIP, section 4).

    The draw of a class follows from its name and the seed, and may meet its own. Captions of pairs are drawn among
    those of pairs. A description that says the name of its class says the name of the taker.
    """

    spelled: ClassVar[str] = "random_descriptions"

    method: Method
    seed: int = 0

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        sides = _Sides(vocabulary, descriptions, self.method)
        keys = sides.keys()

        def drawn(lists: dict[Side, list[str]]) -> dict[Side, list[str]]:
            union = sides.pooled(lists)
            found = {}
            for taker, texts in lists.items():
                draw = generator(self.seed, *(keys[id_] for id_ in taker))
                places = draw.choice(len(union), len(texts), replace=False).tolist() if texts else []
                found[taker] = [sides.moved(text, giver, taker) for text, giver in (union[place] for place in places)]
            return found

        return self.method.texts(vocabulary, sides.mapped(drawn))


@dataclass(frozen=True, repr=False)
class Scrambled(Seeded):
    """The words of each description in a random order, the names of its classes in one piece (the scrambled
    descriptions of Roth et al. 2023, WaffleCLIP, section 4). Words still mean something: this takes their order only.

    The order of a text follows from the text and the seed; it is never the old one where there are two words.
    """

    spelled: ClassVar[str] = "scrambled"

    method: Method
    seed: int = 0

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        sides = _Sides(vocabulary, descriptions, self.method)

        def scrambled(lists: dict[Side, list[str]]) -> dict[Side, list[str]]:
            names = {side: tuple(sorted({name for id_ in side for name in sides.every_name(id_)})) for side in lists}
            return {side: [_scrambled(t, names[side], self.seed) for t in texts] for side, texts in lists.items()}

        return self.method.texts(vocabulary, sides.mapped(scrambled))


@lru_cache(maxsize=100_000)  # a follow-up meets a caption in many sets of candidates
def _scrambled(text: str, names: tuple[str, ...], seed: int) -> str:
    whole_names = [rf"(?<!\w){re.escape(name)}(?!\w)\S*" for name in sorted(names, key=len, reverse=True)]
    words = re.findall("|".join([*whole_names, r"\S+"]), text, re.IGNORECASE)
    if len(set(words)) < 2:
        return text
    draw = generator(seed, text)
    order = words
    while order == words:
        order = [words[i] for i in draw.permutation(len(words)).tolist()]
    return " ".join(order)


@dataclass(frozen=True, repr=False)
class Nameless(Wrapper):
    """The domain stands in place of every name, in templates and in descriptions: what is left is what the descriptions
    say (Ma et al. 2025, DisCLIP, section 3: the name-free test). Without a domain the word is "object".
    A caption of a pair loses both names.
    """

    spelled: ClassVar[str] = "nameless"

    method: Method

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        word = vocabulary.domain or "object"
        sides = _Sides(vocabulary, descriptions, self.method)
        own = {id_: [plain(name) for name in vocabulary.names_of(id_)] for id_, _ in vocabulary}

        def cleaned(lists: dict[Side, list[str]]) -> dict[Side, list[str]]:
            names = {side: dict.fromkeys((name for id_ in side for name in own[id_]), word) for side in lists}
            return {side: [renamed(text, names[side]) for text in texts] for side, texts in lists.items()}

        return self.method.texts(vocabulary.renamed([word] * len(vocabulary)), sides.mapped(cleaned))
