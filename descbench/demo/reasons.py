"""How often a reason is a true one: the trait that the top reason names, held against what the bird really has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np

from descbench.classifier import Classifier
from descbench.demo.guide import TRAITS, Bird, species, wordings
from descbench.demo.truth import stated
from descbench.descriptions import Descriptions
from descbench.embedding import Embedded
from descbench.explanation import Explanation
from descbench.progress import report
from descbench.statistics import Metric, wilson

KINDS = ("right answers", "wrong answers", "all answers", "answers of which some text is false")


@dataclass(frozen=True)
class Truthful:
    """Of how many answers the top reason names a trait that the bird has; `chance` is that of any text of the answer,
    drawn at random. `unread` top reasons state no trait in the guide's words, and count as not true."""

    true: Metric
    chance: float
    unread: int

    def __str__(self) -> str:
        return f"{self.true} % of {self.true.n}; by chance {100 * self.chance:.1f}"


def top_reason(why: Explanation) -> str:
    """The text of the answer that adds most to its lead."""
    return next(one.text for one in why.contributions if one.of != "rival")


def trait_of(text: str) -> tuple[str, str] | None:
    """The (trait, value) that a text states as it is encoded, "NAME, which has PHRASE" or a caption; else None."""
    clause = re.match(r".+?, which (?:is |has )?(?P<phrase>.+)", text)
    return stated(clause["phrase"] if clause else text)


def reason_truth(classifier: Classifier, embedded: Embedded) -> Mapping[str, Truthful]:
    """How true the top reasons of a classifier of the 40 species are over labelled pictures of the aviary, for each of
    `KINDS` that occurs."""
    birds = {page.name: page.bird for page in species()}
    names = embedded.dataset.names
    rows = []
    for row, label in enumerate(embedded.labels.tolist()):
        bird, why = birds[names[label]], classifier.explain_features(embedded.features[row])
        top = trait_of(top_reason(why))
        every = [_has(bird, trait_of(reason.text)) for reason in why.reasons]
        rows.append((why.answer == names[label], _has(bird, top), top is None, sum(every) / len(every)))
        report("explaining", row + 1, len(embedded))
    right, true, unread, chance = (np.array(column) for column in zip(*rows, strict=True))
    kinds = dict(zip(KINDS, (right, ~right, np.ones_like(right), chance < 1), strict=True))
    return {
        kind: Truthful(
            wilson(int(true[some].sum()), int(some.sum())), float(chance[some].mean()), int(unread[some].sum())
        )
        for kind, some in kinds.items()
        if some.any()
    }


def half_true(wrong: int = 4, seed: int = 0) -> Descriptions:
    """All nine traits of each species in the guide's words, so many of them with a value that the bird has not: a true
    reason is then no matter of course."""
    random = Random(seed)
    said = {}
    for i, page in enumerate(species()):
        false = set(random.sample(list(TRAITS), wrong))
        said[i] = [
            wordings(trait, random.choice([v for v in values if (v != page.bird[trait]) == (trait in false)]))[0]
            for trait, values in TRAITS.items()
        ]
    return Descriptions(said, names={i: page.name for i, page in enumerate(species())})


def _has(bird: Bird, trait: tuple[str, str] | None) -> bool:
    return trait is not None and bird[trait[0]] == trait[1]
