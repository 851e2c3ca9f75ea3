"""What paired tests can say: which p-values survive several tests, and what difference so many images can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

LEVEL = 0.05
"""A p-value below this counts as a difference that is shown."""

POWER = 0.8
"""How probable it is that a difference is shown where there is one: what is called "probably" here."""


def holm(p: Sequence[float]) -> list[float]:
    """P-values of several tests, corrected so that one below a level is wrong in at most that share of cases, whatever
    depends on what (Holm 1979): the smallest times their number, the next times one less, and never falling."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * np.asarray(p)[order]))
    return [float(value) for value in corrected]


def images_needed(difference: float, differing: float, *, power: float = POWER, level: float = LEVEL) -> int:
    """How many images show a difference in accuracy with that power, by McNemar's test at that level, where two methods
    differ in the share `differing` of the images (Connor 1987, Biometrics 43, 207-211: two-sided, without a
    correction for continuity). Both are shares between 0 and 1, and `difference` may not be the larger one.

    Raises `ValueError` for a difference of 0, which no number of images shows, and for one that cannot be.
    """
    if not 0 < abs(difference) <= differing <= 1:
        raise ValueError(f"a difference of {difference} among {differing} that differ is not possible, or is none")
    return math.ceil(_deviations(difference, differing, power, level) ** 2 / difference**2)


def detectable(n: int, differing: float, *, power: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest difference in accuracy that n images show with that power: what `images_needed` turns round. None
    where methods that differ in so few images could not be told apart whichever of the two were right in all of them.
    """

    def shown(difference: float) -> bool:
        return n * difference**2 >= _deviations(difference, differing, power, level) ** 2

    if not differing or not shown(differing):
        return None
    low, high = 0.0, differing
    for _ in range(60):  # halved to the last bit
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def _deviations(difference: float, differing: float, power: float, level: float) -> float:
    """How far the difference has to be from 0 times the square root of the images: under none, and under this one."""
    normal = NormalDist()
    under_none = normal.inv_cdf(1 - level / 2) * math.sqrt(differing)
    return under_none + normal.inv_cdf(power) * math.sqrt(max(0.0, differing - difference**2))
