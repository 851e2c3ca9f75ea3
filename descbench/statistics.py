"""Intervals and paired tests on arrays of hits: what a difference between two runs is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from descbench.errors import InputError

DRAWS = 10_000
FEWER = 2_000
"""Draws of what is not counted, but summed: these cost more."""

SINGLE = 2_048
"""Up to so many images each is drawn by itself; of more, those of about the same value are drawn together."""

CELLS = 64
"""How many such cells there are, of all images or of each part of them."""


@dataclass(frozen=True)
class Metric:
    """A value between 0 and 1 with its 95 % interval, over n images."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Quantity(Metric):
    """A value that is no share, as a mean of logarithms, with its 95 % interval."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Difference(Metric):
    """How much better a method is than the mean of several runs, over n images, with its 95 % interval."""

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class PairedDifference:
    """How much better b is than a on the same n images: `value` with its 95 % interval, and McNemar's exact p.

    `gained` images are right in b only, `lost` in a only.
    """

    value: float
    low: float
    high: float
    p: float
    gained: int
    lost: int
    n: int


def wilson(hits: int, n: int, level: float = 0.95) -> Metric:
    """A share with Wilson's score interval (Wilson 1927). Raises `InputError` for n = 0."""
    if n == 0:
        raise InputError("no image to count: an accuracy needs at least one labelled image")
    return Metric(hits / n, *score_interval(hits / n, n, level), n)


def score_interval(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share of n images, which need not be a whole number: of a mean over classes it is how many
    images would tell as much. It has a width where all images are alike, and a bootstrap would have none."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # The ends are exact where no image, or every image, is a hit; rounding must not move them past the value.
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


def drawn_interval(drawn: np.ndarray, share: float, n: float) -> tuple[float, float]:
    """The percentile interval of a bootstrap; where that has no width, Wilson's of the share over n images."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return score_interval(share, n) if low == high else (float(low), float(high))


def mean_per_class(hits: np.ndarray, labels: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Metric:
    """The mean of the accuracies of the classes that occur, with a percentile bootstrap interval within classes.

    `hits` (N,) bool, `labels` (N,) class ids. Of a class with n images n - 1 are drawn, so that the mean varies as much
    as from one set of images to another (Rao & Wu 1988); n of n vary too little, of two images half as much. Classes
    with one image, which says nothing of how they vary, are drawn together. Where nothing varies at all, as where all
    is right, the interval is Wilson's.
    """
    if not len(hits):
        raise InputError("no image to count: an accuracy needs at least one labelled image")
    _, index = np.unique(labels, return_inverse=True)
    n = np.bincount(index)  # (C,)
    right = np.bincount(index, weights=hits).astype(np.int64)
    classes, value, worth = len(n), float((right / n).mean()), len(n) ** 2 / float((1 / n).sum())
    weight = np.ones_like(n)  # how many classes a row stands for
    if (single := n == 1).sum() > 1:
        together = (single.sum(), right[single].sum(), single.sum())
        n, right, weight = (np.append(row[~single], one) for row, one in zip((n, right, weight), together, strict=True))
    # Drawing the images of a class with replacement is drawing a binomial count, and counts of classes with the same
    # n and share add up to one of all their images: a draw for each kind of class, and not for each class.
    kinds, often = np.unique(np.stack([n, right, weight]), axis=1, return_counts=True)  # (3, kinds)
    size, share = np.maximum(kinds[0] - 1, 1), kinds[1] / kinds[0]
    generator = np.random.default_rng(seed)
    drawn = np.zeros(draws)
    for start in range(0, len(size), 1000):
        part = slice(start, start + 1000)
        trials = generator.binomial(often[part] * size[part], share[part], size=(draws, len(size[part])))
        drawn += (kinds[2, part] * trials / size[part]).sum(axis=1)
    return Metric(value, *drawn_interval(drawn / classes, value, worth), len(hits))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact two-sided p for paired answers, of which `gained` and `lost` differ (McNemar 1947)."""
    n, k = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    # The binomial tail in logarithms: 2 ** -n underflows from a thousand differing answers on.
    terms = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(k + 1)]
    top = max(terms)
    tail = math.exp(top) * math.fsum(math.exp(term - top) for term in terms)
    return min(1.0, 2 * tail)


def p_value(p: float, called: str = "", least: float = 1e-4) -> str:
    """A p as text, for a sentence with what it is `called`: below `least` no digit of it means anything to a reader."""
    sign, value = ("<", f"{least:g}") if p < least else ("=", f"{p:.2g}")
    return " ".join([called, sign, value] if called else [value] if sign == "=" else [sign, value])


def paired_difference(a: np.ndarray, b: np.ndarray, seed: int = 0, draws: int = DRAWS) -> PairedDifference:
    """The accuracy of b minus that of a, from the hits (N,) of both on the same images, with a percentile bootstrap
    interval over images. Raises `InputError` where they are not the same number of images."""
    if len(a) != len(b) or not len(a):
        raise InputError(f"a paired difference needs the same images on both sides, given: {len(a)} and {len(b)}")
    n, gained, lost = len(a), int((b & ~a).sum()), int((a & ~b).sum())
    # Drawing n images with replacement and counting both kinds is one multinomial draw.
    counts = np.random.default_rng(seed).multinomial(n, [gained / n, lost / n, 1 - (gained + lost) / n], size=draws)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / n, [0.025, 0.975])
    return PairedDifference((gained - lost) / n, float(low), float(high), mcnemar(gained, lost), gained, lost, n)


def mean_difference(parts: np.ndarray, whole: int) -> Difference:
    """The mean of parts / whole over images, (N,) whole numbers, with a percentile bootstrap interval over images."""
    values, counts = np.unique(parts, return_counts=True)
    # Drawing images with replacement and counting each of the few values is one multinomial draw.
    drawn = np.random.default_rng(0).multinomial(len(parts), counts / len(parts), size=DRAWS) @ values
    low, high = np.quantile(drawn / (whole * len(parts)), [0.025, 0.975])
    return Difference(float(parts.sum() / (whole * len(parts))), float(low), float(high), len(parts))


def mean_value(values: np.ndarray, seed: int = 0, draws: int = FEWER) -> Quantity:
    """The mean of finite values (N,) with a percentile bootstrap interval over images."""
    if not len(values):
        raise InputError("no image to count: a mean needs at least one labelled image")
    drawn = drawn_sums(values, np.zeros(len(values), dtype=np.int64), 1, seed, draws)[:, 0] / len(values)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Quantity(float(values.mean()), float(low), float(high), len(values))


def drawn_sums(
    values: np.ndarray, parts: np.ndarray, count: int, seed: int = 0, draws: int = FEWER, cells: int = CELLS
) -> np.ndarray:
    """The sums of `values` (N,) over each of `count` parts, to which `parts` (N,) assigns the images, when N images are
    drawn with replacement: (draws, count).

    Of more than `SINGLE` images, those of a part fall into at most `cells` runs of neighbouring values. How often a run
    is drawn is a multinomial count; what its images then differ from their mean adds normal noise of the variance that
    they have. That costs the same for any number of images.
    """
    generator = np.random.default_rng(seed)
    N = len(values)
    if N <= SINGLE:
        rows = generator.integers(0, N, (draws, N))
        place = parts[rows] + count * np.arange(draws)[:, None]
        sums = np.bincount(place.ravel(), values[rows].ravel(), minlength=draws * count)
        return np.asarray(sums.reshape(draws, count), dtype=np.float64)
    order = np.lexsort((values, parts))
    values, parts = np.asarray(values, dtype=np.float64)[order], parts[order]
    size = np.bincount(parts, minlength=count)  # (count,)
    place = np.arange(N) - (np.cumsum(size) - size)[parts]  # of an image within its part
    new = np.ones(N, dtype=bool)
    new[1:] = np.diff(parts * cells + place * cells // np.maximum(size[parts], 1)) != 0
    starts = np.flatnonzero(new)
    often = np.diff(np.append(starts, N))
    means = np.add.reduceat(values, starts) / often
    spread = np.add.reduceat((values - np.repeat(means, often)) ** 2, starts)
    where = parts[starts]
    counts = generator.multinomial(N, often / N, size=draws)  # (draws, cells)
    noise = np.sqrt(np.bincount(where, spread, minlength=count))
    sums = np.stack([counts[:, where == part] @ means[where == part] for part in range(count)], axis=1)
    return np.asarray(sums + noise * generator.standard_normal((draws, count)))
