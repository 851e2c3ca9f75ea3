"""What a confidence is worth: is it right as often as it says, does it tell right from wrong, known from unknown?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from descbench.errors import InputError
from descbench.statistics import FEWER, Metric, drawn_interval, drawn_sums, wilson

BINS = 15
RUNS = 128
"""Into how many runs of neighbouring scores the images fall that are drawn for the interval of an AUROC."""


def calibration_error(
    confidence: np.ndarray, hits: np.ndarray, bins: int = BINS, seed: int = 0, draws: int = FEWER
) -> Metric:
    """The expected calibration error over bins of equal width: the mean over images of how far, in the bin of an image,
    the share that is right is from the mean confidence (Guo et al. 2017, with 15 bins (low, high]).

    `confidence` (N,) probabilities of the answers, `hits` (N,) bool. The interval is the basic bootstrap one over
    images. Chance in a bin counts as error, so that of few images the value is too large and drawn ones are larger yet:
    what they exceed it by is taken off both ends. Raises `InputError` for no image, and for what is no probability.
    """
    if not len(hits):
        raise InputError("no image to count: a calibration error needs at least one labelled image")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError("a confidence is a probability, from 0 to 1; given one that is not")
    # The edges are the floats nearest to b / bins, so that a confidence of 0.2 is in the bin that ends there.
    part = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    off = hits - confidence.astype(np.float64)
    value = float(np.abs(np.bincount(part, off, minlength=bins)).sum() / len(hits))
    drawn = np.abs(drawn_sums(off, part, bins, seed, draws, cells=6)).sum(axis=1) / len(hits)
    low, high = 2 * value - np.quantile(drawn, [0.975, 0.025])
    return Metric(value, min(max(0.0, float(low)), value), max(min(1.0, float(high)), value), len(hits))


@dataclass(frozen=True)
class Answered:
    """The share of images that is answered (`coverage`), from which confidence on, and the accuracy of these answers
    with Wilson's 95 % interval, which takes that threshold as given."""

    coverage: float
    threshold: float
    accuracy: Metric


@dataclass(frozen=True, eq=False)
class Abstention:
    """What an answer is worth where those below a threshold are withheld: at each different confidence, from the
    highest on, which share of images is answered (`coverage`) and which share of these answers is right (`accuracy`).

    `area` is that under the curve of risk over coverage (AURC): the mean, over n = 1 ... N, of the share of wrong
    answers among the n most confident; images of one confidence come in any order, and the mean over all orders counts.
    It is 0 where all is right, and without any information the share of wrong answers.
    """

    coverage: np.ndarray  # (P,)
    accuracy: np.ndarray  # (P,)
    threshold: np.ndarray  # (P,)
    area: float
    n: int  # images in all

    def at(self, coverage: float) -> Answered:
        """Where at least this share of images is answered, and no more than ties make it."""
        place = min(int(np.searchsorted(self.coverage, coverage - 1e-9)), len(self.coverage) - 1)
        answered = round(float(self.coverage[place]) * self.n)
        accuracy = wilson(round(float(self.accuracy[place]) * answered), answered)
        return Answered(float(self.coverage[place]), float(self.threshold[place]), accuracy)


def abstention(confidence: np.ndarray, hits: np.ndarray) -> Abstention:
    """Coverage and accuracy by `confidence` (N,), for answers of which `hits` (N,) are right; the area is that of
    Geifman & El-Yaniv, Selective Classification for Deep Neural Networks, NeurIPS 2017. Raises `InputError` for no
    image."""
    N = len(hits)
    if not N:
        raise InputError("no image to count: coverage and accuracy need at least one labelled image")
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of each run of one confidence
    right = np.cumsum(hits[order])[last]
    answered = last + 1
    # Within a run, the expected number of right answers grows by the same share with each image.
    number = np.arange(1, N + 1)
    expected = np.interp(number, np.append(0, answered), np.append(0, right))
    return Abstention(answered / N, right / answered, ranked[last], float((1 - expected / number).mean()), N)


def auroc(known: np.ndarray, unknown: np.ndarray, seed: int = 0, draws: int = FEWER) -> Metric:
    """How often a score of a known image is above that of an unknown one, of all pairs, where equal ones count half:
    the area under the ROC curve. The interval is a percentile bootstrap, of either kind by itself; where that has no
    width, as where all known images are above all unknown ones, Wilson's for as many pairs as there are of the rarer.

    `known` (N,) and `unknown` (M,). Raises `InputError` where one is empty.
    """
    _two(known, unknown)
    N, M = len(known), len(unknown)
    ranked = np.sort(unknown)
    ranks = np.searchsorted(ranked, known, side="left") + np.searchsorted(ranked, known, side="right")  # twice
    value = float(ranks.sum(dtype=np.float64) / 2 / N / M)
    # Neighbouring scores are drawn together, and pairs within such a run count for what they are worth on average.
    both = np.concatenate([known, unknown])
    levels = np.unique(both)
    if len(levels) > RUNS:
        levels = levels[(np.arange(1, RUNS + 1) * len(levels)) // RUNS - 1]  # the largest of each run
    place = np.searchsorted(levels, both)
    is_known = np.arange(N + M) < N
    often = np.bincount(place[is_known], minlength=len(levels)), np.bincount(place[~is_known], minlength=len(levels))
    inside = _inside(known, unknown, place[:N], place[N:], len(levels))
    generator = np.random.default_rng(seed)
    a = generator.multinomial(N, often[0] / N, size=draws)  # (draws, levels)
    b = generator.multinomial(M, often[1] / M, size=draws)
    below = np.cumsum(b, axis=1) - b
    # Counts are divided last: sums of shares may come out above 1 by rounding.
    drawn = (a * (below + inside * b)).sum(axis=1) / (N * M)
    return Metric(value, *drawn_interval(drawn, value, min(N, M)), N + M)


def _inside(known: np.ndarray, unknown: np.ndarray, where: np.ndarray, there: np.ndarray, count: int) -> np.ndarray:
    """The AUROC within each run of scores, (count,), a half where it has one kind only."""
    ranked, order = np.sort(unknown), np.argsort(unknown, kind="stable")
    start = np.searchsorted(there[order], np.arange(count))  # runs are ascending, as the scores are
    twice = np.searchsorted(ranked, known, side="left") + np.searchsorted(ranked, known, side="right")
    pairs = np.bincount(where, minlength=count) * np.bincount(there, minlength=count)
    won = np.bincount(where, twice / 2 - start[where], minlength=count)
    return np.where(pairs > 0, won / np.maximum(pairs, 1), 0.5)


def fpr_at_tpr(known: np.ndarray, unknown: np.ndarray, tpr: float = 0.95, seed: int = 0, draws: int = FEWER) -> Metric:
    """The share of unknown images that pass the highest threshold which at least `tpr` of the known ones pass; to pass
    is to score no less. The interval is a percentile bootstrap, of either kind by itself: the threshold moves too.
    Where that has no width, as where none passes, it is Wilson's.

    `known` (N,) and `unknown` (M,). Raises `InputError` where one is empty.
    """
    _two(known, unknown)
    N, M = len(known), len(unknown)
    rank = N - math.ceil(round(tpr * N, 9))  # of the threshold, from the lowest on
    passed = 1 - np.searchsorted(np.sort(unknown), np.sort(known), side="left") / M  # (N,) at each score of a known one
    generator = np.random.default_rng(seed)
    # Which of N scores is the one of this rank among N drawn: where the order statistic of as many uniforms falls.
    threshold = (generator.beta(rank + 1, N - rank, draws) * N).astype(np.int64).clip(max=N - 1)
    drawn, value = generator.binomial(M, passed[threshold]) / M, float(passed[rank])
    return Metric(value, *drawn_interval(drawn, value, M), N + M)


def _two(known: np.ndarray, unknown: np.ndarray) -> None:
    if not len(known) or not len(unknown):
        raise InputError(f"known and unknown images are told apart; given: {len(known)} and {len(unknown)}")
