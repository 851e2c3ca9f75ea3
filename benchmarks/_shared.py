"""What several benchmarks need: medians of sides that take turns, and pictures and encoders that cost nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from descbench.datasets import Sample

if TYPE_CHECKING:
    import torch

DIMENSIONS = 512


def medians(*sides: Callable[[], object], rounds: int, device: str = "cpu") -> list[float]:
    """The median seconds of each side, after one round that is not counted; in a round the sides take turns."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 1):
        for side, measured in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            side()
            if device == "cuda":
                import torch

                torch.cuda.synchronize()
            if turn:
                measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]


class ReadyTexts:
    """An encoder that looks features up, (T, D) by row, so that only what is done with them is measured."""

    name = fingerprint = "ready texts"
    logit_scale = 100.0

    def __init__(self, rows: Mapping[str, int], features: torch.Tensor) -> None:
        self.rows, self.features = rows, features

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return self.features[[self.rows[text] for text in texts]]


class Pictures:
    """So many pictures of 8 x 8."""

    name = fingerprint = "pictures"
    names = ("class",)

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def samples(self) -> Iterator[Sample]:
        for index in range(self.count):
            yield Sample(f"{index:032x}", _tiny, 0, f"bucket/photos/{index // 1000:06d}/{index:09d}.jpg")


def _tiny() -> Image.Image:
    return Image.new("RGB", (8, 8))


class Drawn:
    """An encoder that takes no time: random rows, and as random texts. It imports torch for texts only."""

    name = fingerprint = "drawn"
    logit_scale = 100.0

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def encode_images(self, images: Sequence[Any]) -> np.ndarray:
        return self._rows(len(images))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        import torch

        return torch.from_numpy(self._rows(len(texts)))

    def _rows(self, count: int) -> np.ndarray:
        rows = self._draw.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)
