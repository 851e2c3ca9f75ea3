"""Controls: the same method without the information that is said to carry it."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import ClassVar

from descbench.descriptions import Descriptions
from descbench.methods.base import Method, Wrapper, whole
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class Shuffled(Wrapper):
    """Every class gets the description of another (the swapped lists of Roth et al. 2023, WaffleCLIP, section 4).

    If a method scores as well so, its gain is not the meaning of its descriptions. One random cycle through all
    classes, by seed and names, so that no class keeps its own list and no order of classes matters.
    """

    spelled: ClassVar[str] = "shuffled"

    method: Method
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("seed", self.seed, 0)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        # By the names of the descriptions where they have some: `nameless(shuffled(m))` calls every class the same.
        cycle = sorted(vocabulary.ids.tolist(), key=lambda i: (descriptions.names.get(i, vocabulary.name(i)), i))
        random.Random(self.seed).shuffle(cycle)
        giver = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
        moved = replace(
            descriptions,
            classes={i: descriptions.classes[other] for i, other in giver.items() if other in descriptions.classes},
            pairs={
                (a, b): pair
                for a in cycle
                for b in cycle
                if a < b and (pair := descriptions.pair(giver[a], giver[b])) is not None
            }
            if descriptions.pairs
            else {},
        )
        return self.method.texts(vocabulary, moved)


@dataclass(frozen=True, repr=False)
class Nameless(Wrapper):
    """The domain stands in place of every name, in templates and in descriptions: what is left is what the descriptions
    say (Ma et al. 2025, DisCLIP, section 3: the name-free test). Without a domain the word is "object".
    """

    spelled: ClassVar[str] = "nameless"

    method: Method

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        word = vocabulary.domain or "object"
        own = dict(vocabulary)
        pattern = {id_: re.compile(rf"(?<!\w){re.escape(plain(n))}(?!\w)", re.IGNORECASE) for id_, n in own.items()}

        def without_name(id_: int, texts: list[str]) -> list[str]:
            return [pattern[id_].sub(lambda _: word, text) for text in texts]

        cleaned = replace(
            descriptions,
            classes={i: without_name(i, texts) for i, texts in descriptions.classes.items() if i in own},
            pairs={
                (a, b): (without_name(a, first), without_name(b, second))
                for (a, b), (first, second) in descriptions.pairs.items()
                if a in own and b in own
            },
        )
        return self.method.texts(vocabulary.renamed([word] * len(vocabulary)), cleaned)
