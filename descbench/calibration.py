"""From scores to probabilities: a softmax over all classes, of which only the sum is kept for an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from descbench.errors import InputError
from descbench.selection import Labelled

if TYPE_CHECKING:
    import torch

TINY = float(np.finfo(np.float32).tiny)
"""What a probability that rounds to 0 counts as, about 1e-38: then its logarithm is finite."""

CACHED = 1 << 18
"""How many floats a part of a block has on a CPU, 1 MB: three passes go over it while it is in the cache."""

RANGE = 100.0
"""A fitted temperature lies between 1 / 100 and 100 times that of the encoder."""

PATIENCE = 6
"""After so many passes the end is tried: towards it, where all is right, Newton's steps would go on for long."""

PRECISE = 1e-5
"""A fit ends when a step changes the factor by less than this share of it."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """What makes probabilities of scores: p = exp(`scale` x score) / sum of the same over all C classes.

    `log_normaliser` (N,) float64 is the logarithm of that sum, an image each. Where the scores are shares of a
    probability already (`logarithm`; the pool `mean_prob`), the logarithm of the score takes its place: at scale 1 each
    share is divided by their sum.
    """

    scale: float
    log_normaliser: np.ndarray
    logarithm: bool = False

    def log_of(self, scores: np.ndarray) -> np.ndarray:
        """The logarithm of the probability of one score an image (N,), or of several (N, K)."""
        raw = np.asarray(scores, dtype=np.float64)
        logits = self.scale * (np.log(np.maximum(raw, TINY)) if self.logarithm else raw)
        # The sum has the score in it; rounding must not make a probability larger than 1.
        sums = self.log_normaliser if raw.ndim == 1 else self.log_normaliser[:, None]
        found: np.ndarray = np.minimum(logits - sums, 0)
        return found

    def of(self, scores: np.ndarray) -> np.ndarray:
        """The probability of one score an image (N,), or of several (N, K)."""
        found: np.ndarray = np.exp(self.log_of(scores))
        return found


class Normalisers:
    """Watches blocks of scores (see `scoring.Watch`) and keeps what probabilities need: for each of the `scales` the
    sum over all classes, and the score of the label, also where it is not among the best K.

    `right` (N, L) are the positions of all right classes of each image, of which the best counts; None where no image
    has a label.
    """

    def __init__(self, images: int, scales: Sequence[float], logarithm: bool, right: np.ndarray | None = None) -> None:
        self._sums = np.empty((len(scales), images))
        self._right = right
        self.label_score = None if right is None else np.empty(images, dtype=np.float32)
        self.softmaxes = tuple(Softmax(scale, sums, logarithm) for scale, sums in zip(scales, self._sums, strict=True))

    def __call__(self, start: int, block: torch.Tensor, values: torch.Tensor) -> None:
        import torch

        rows = slice(start, start + len(block))
        if self._right is not None and self.label_score is not None:
            right = torch.as_tensor(self._right[rows], device=block.device)
            self.label_score[rows] = block.gather(1, right).amax(dim=1).cpu().numpy()
        step = max(1, CACHED // block.shape[1]) if block.device.type == "cpu" else len(block)
        for softmax, sums in zip(self.softmaxes, self._sums, strict=True):
            for first in range(0, len(block), step):
                part = slice(first, first + step)
                top, away = _logits(block[part], values[part, :1], softmax.logarithm)
                # Single precision would lose what is beside the 1 of the answer, and call all sure answers equally so.
                wide = torch.float32 if block.device.type == "mps" else torch.float64
                total = away.mul_(softmax.scale).exp_().sum(dim=1, dtype=wide)
                sums[start + first : start + first + len(total)] = (
                    softmax.scale * top.cpu().double() + total.cpu().double().log()
                ).numpy()


@dataclass(frozen=True)
class Calibration:
    """The temperature that a `split` chose: logits are divided by it. `scale` is the factor of the scores that comes
    of it, `at_edge` says that no temperature in the range was the best, and `passes` how often the split was scored."""

    temperature: float
    scale: float
    split: Labelled
    passes: int
    at_edge: bool = False

    def __str__(self) -> str:
        return f"temperature {self.temperature:.3g} fitted on {self.split}"


def fit_scale(
    blocks: Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]], scale: float, logarithm: bool
) -> tuple[float, int]:
    """The factor of the scores at which the mean negative log-likelihood of the labels is least, and how many passes
    over the blocks that took; one at the end of the range (`RANGE` times `scale`, or its inverse) where it still falls.

    Each call of `blocks` gives blocks of scores (n, C) with the positions of the right classes (n, L). The negative
    log-likelihood is convex in the factor: Newton's steps, each kept between what is known to be too little and too
    much. For the temperature see Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    low, high = scale / RANGE, scale * RANGE
    passes, ends = 0, {low, high}  # ends that were not tried
    while True:
        slope, bend = _slope(blocks(), scale, logarithm)
        passes += 1
        if slope == 0 or (scale == low and slope > 0) or (scale == high and slope < 0):
            return scale, passes
        low, high = (low, scale) if slope > 0 else (scale, high)
        ends.discard(scale)
        step = scale - slope / bend if bend > 0 else 0.0
        if abs(step - scale) < PRECISE * scale:
            return min(max(step, low), high), passes
        end = low if slope > 0 else high
        if end in ends and (passes == PATIENCE or not low < step < high):
            step = end
        elif not low < step < high:
            step = math.sqrt(low * high)
        if high / low < 1 + PRECISE:
            return step, passes
        scale = step


def _slope(blocks: Iterable[tuple[torch.Tensor, torch.Tensor]], scale: float, logarithm: bool) -> tuple[float, float]:
    """The first and second derivative of the mean negative log-likelihood by the factor: the mean of the scores under
    the softmax less the score of the label, and their variance."""
    slope = bend = 0.0
    images = 0
    for block, right in blocks:
        step = max(1, CACHED // block.shape[1]) if block.device.type == "cpu" else len(block)
        for first in range(0, len(block), step):
            part = block[first : first + step]
            _, away = _logits(part, part.amax(dim=1, keepdim=True), logarithm)
            weights = (away * scale).exp_()
            total = weights.sum(dim=1)
            mean = weights.mul_(away).sum(dim=1) / total
            square = weights.mul_(away).sum(dim=1) / total
            label = away.gather(1, right[first : first + step]).amax(dim=1)
            slope += float((mean - label).cpu().double().sum())
            bend += float((square - mean * mean).clamp_min(0).cpu().double().sum())
            images += len(part)
    if not images:
        raise InputError("no image to fit a temperature on; give labelled images")
    return slope / images, bend / images


def _logits(block: torch.Tensor, top: torch.Tensor, logarithm: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest score of each row (n,), and a copy of all, (n, C), less that; of logarithms where these count."""
    if logarithm:
        top = top.clamp_min(TINY).log_()
        return top[:, 0], block.clamp_min(TINY).log_().sub_(top)
    return top[:, 0], block - top
