"""What a change of descriptions does to answers: before and after on the same images, and which of them flip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descbench.classifier import Classifier
from descbench.descriptions import Descriptions
from descbench.embedding import Embedded, embed
from descbench.evaluation import Evaluation, evaluate
from descbench.statistics import PairedDifference, paired_difference

if TYPE_CHECKING:
    from descbench.datasets.base import Dataset


@dataclass(frozen=True)
class Flip:
    """An image that is answered otherwise: what it shows, what was answered and what is now, and whether these are
    right."""

    source: str
    label: str
    before: str
    after: str
    was_right: bool
    is_right: bool


@dataclass(frozen=True, eq=False)
class WhatIf:
    """The evaluations before and after, their paired difference in top-1, and the images that flip."""

    before: Evaluation
    after: Evaluation
    difference: PairedDifference
    flips: tuple[Flip, ...]

    @property
    def moves(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        """From which class to which how many images flip, and how many of them become right, and wrong; most first."""
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        for flip in self.flips:
            many, gained, lost = found.get((flip.before, flip.after), (0, 0, 0))
            gained += flip.is_right and not flip.was_right
            lost += flip.was_right and not flip.is_right
            found[flip.before, flip.after] = (many + 1, gained, lost)
        return dict(sorted(found.items(), key=lambda one: (-one[1][0], one[0])))


def what_if(
    classifier: Classifier,
    descriptions: Descriptions,
    data: Dataset | Embedded,
    *,
    labels: str | Path | Mapping[str, str] | None = None,
) -> WhatIf:
    """What a classifier would answer with other descriptions; it stays as it is. `labels` are as in `evaluate`.

    Images whose features are kept are not encoded, and of texts only those that are new.
    """
    embedded = data if isinstance(data, Embedded) else embed(data, classifier.encoder)
    before = evaluate(classifier, embedded, labels=labels)
    after = evaluate(classifier.described(descriptions), embedded, labels=labels)
    name = classifier.vocabulary.name
    sources = [source for source, label in zip(embedded.sources, embedded.labels.tolist(), strict=True) if label >= 0]
    answers, now = before.predictions.ids[:, 0], after.predictions.ids[:, 0]
    flips = tuple(
        Flip(
            *(sources[row], name(int(before.labels[row])), name(int(answers[row])), name(int(now[row]))),
            *(bool(before.hits[row]), bool(after.hits[row])),
        )
        for row in np.flatnonzero(answers != now).tolist()
    )
    return WhatIf(before, after, paired_difference(before.hits, after.hits), flips)
