"""Which class is taken for which: counts of the pairs that occur, and what follows for each class; never (C, C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from descbench.statistics import Metric, score_interval, wilson
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True)
class Confused:
    """How often images of the class `label` were answered with the class `answer`, by name and by id."""

    label: str
    answer: str
    count: int
    label_id: int
    answer_id: int


@dataclass(frozen=True)
class ClassRow:
    """One class: of its `n` images so many are `right`, which is its `recall` with Wilson's interval; it was the answer
    `answered` times, which is right in the share `precision`; and it was most often confused with the class
    `confused_with`, so many times. None (of a name, "") is what cannot be said without such images."""

    id: int
    name: str
    n: int
    right: int
    recall: Metric | None
    answered: int
    precision: float | None
    confused_with: str
    confused: int


class Counts:
    """Of N images the label, the answer and whether it is right, as counts for each class and for each pair.

    `labels`, `answers` (N,) ids of the vocabulary, `hits` (N,) bool. Where another class than the label is right too
    and was the answer, it counts as the label.
    """

    def __init__(self, vocabulary: Vocabulary, labels: np.ndarray, answers: np.ndarray, hits: np.ndarray) -> None:
        C = len(vocabulary)
        self.vocabulary, self._hits = vocabulary, hits
        self._label = vocabulary.positions(labels)  # (N,)
        self._answer = np.where(hits, self._label, vocabulary.positions(answers))
        self.n = np.bincount(self._label, minlength=C)  # (C,)
        self.right = np.bincount(self._label[hits], minlength=C)
        self.answered = np.bincount(self._answer, minlength=C)
        pairs, counts = np.unique(self._label[~hits] * C + self._answer[~hits], return_counts=True)
        order = np.argsort(-counts, kind="stable")  # of equal counts the classes that come first
        self._pairs = np.stack([pairs // C, pairs % C, counts], axis=1)[order]  # (P, 3), worst first

    def confusion(self, most: int | None = None) -> list[Confused]:
        """The pairs that occur, the most frequent first."""
        names, ids = self.vocabulary.names, self.vocabulary.ids.tolist()
        return [Confused(names[a], names[b], count, ids[a], ids[b]) for a, b, count in self._pairs[:most].tolist()]

    def rows(self) -> list[ClassRow]:
        """One row a class, in the order of the vocabulary."""
        names, worst = self.vocabulary.names, dict[int, tuple[str, int]]()
        for label, answer, count in self._pairs.tolist():
            worst.setdefault(label, (names[answer], count))
        numbers = zip(self.n.tolist(), self.right.tolist(), self.answered.tolist(), strict=True)
        return [
            ClassRow(
                id_,
                name,
                n,
                right,
                wilson(right, n) if n else None,
                answered,
                right / answered if answered else None,
                *worst.get(position, ("", 0)),
            )
            for position, ((id_, name), (n, right, answered)) in enumerate(zip(self.vocabulary, numbers, strict=True))
        ]

    def macro(self) -> dict[str, Metric]:
        """The means of precision and of F1 over the classes that have images; a class that is never the answer has
        precision 0. (The mean of recall is the balanced accuracy.)

        Intervals are normal, by the infinitesimal jackknife over images: the bootstrap to first order, without draws
        (Efron 1982). They are cut at 0 and 1. Where no image changes the mean, as where all are right, they are
        Wilson's, as for `mean_per_class`.
        """
        there = self.n > 0
        classes = int(there.sum())
        precision = np.where(there, self.right / np.maximum(self.answered, 1), 0)  # (C,)
        both = np.maximum(self.n + self.answered, 1)
        f1 = np.where(there, 2 * self.right / both, 0)
        label, answer, hits = self._label, self._answer, self._hits
        # What each image adds to the mean: its part in the counts of its label and of its answer.
        to_precision = np.where(there[answer], (hits - precision[answer]) / self.answered[answer], 0)
        to_f1 = (2 * hits - f1[label]) / both[label] - np.where(there[answer], f1[answer] / both[answer], 0)
        worth = classes**2 / float((1 / self.n[there]).sum())
        return {
            "macro_precision": _jackknifed(float(precision.sum() / classes), to_precision / classes, worth),
            "macro_f1": _jackknifed(float(f1.sum() / classes), to_f1 / classes, worth),
        }


def _jackknifed(value: float, influence: np.ndarray, worth: float) -> Metric:
    half = NormalDist().inv_cdf(0.975) * math.sqrt(float((influence**2).sum()))
    low, high = (value - half, value + half) if half else score_interval(value, worth)
    return Metric(value, max(0.0, low), min(1.0, high), len(influence))
