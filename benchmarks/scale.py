"""The rates that docs/scale.md counts with, other than those of encoding: listing, keeping, reading, scoring.

    python benchmarks/scale.py [IMAGES]

Features from a seed in a store of their own; no model runs. Prints rows a second of one process, and bytes a row.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import descbench as db
from descbench.bulk import score
from descbench.datasets import Sample
from descbench.embedding import keep
from descbench.store import CachedEncoder

DIMENSIONS = 512


class Pictures:
    name = fingerprint = "pictures"
    names = ("class",)

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def samples(self) -> Iterator[Sample]:
        for index in range(self.count):
            yield Sample(f"{index:032x}", tiny, 0, f"bucket/photos/{index // 1000:06d}/{index:09d}.jpg")


def tiny() -> Image.Image:
    return Image.new("RGB", (8, 8))


class Drawn:
    """An encoder that takes no time: random rows, and as random texts."""

    name = fingerprint = "drawn"
    logit_scale = 100.0

    def __init__(self) -> None:
        self._draw = np.random.default_rng(0)

    def encode_images(self, images: list[Any]) -> Any:
        return self._rows(len(images))

    def encode_texts(self, texts: list[str]) -> Any:
        return torch.from_numpy(self._rows(len(texts)))

    def _rows(self, count: int) -> Any:
        rows = self._draw.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main(images: int) -> None:
    print(f"{torch.get_num_threads()} threads; {images:,} images, {DIMENSIONS} numbers each; medians are not taken")
    data: Any = Pictures(images)
    with tempfile.TemporaryDirectory() as folder:
        encoder = CachedEncoder(Drawn(), folder)

        def timed(what: str, work: Any, of: int = images) -> None:
            start = time.perf_counter()
            work()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"  {what:<52}{of / (time.perf_counter() - start):>12,.0f} images/s   peak so far {peak:,.0f} MB")

        timed("keep: list, decode 8 x 8, keep", lambda: keep(data, encoder, batch_size=1024))
        shards, lists = (
            sum(p.stat().st_size for p in Path(folder).rglob(f"*.{e}")) for e in ("safetensors", "parquet")
        )
        print(f"  a row of the store {shards / images:,.0f} bytes, of the list {lists / images:,.1f}")
        timed("keep again: all is there", lambda: keep(data, encoder))
        for classes, count in ((1_000, images), (100_000, images // 8)):
            vocabulary = db.Vocabulary([f"class {number}" for number in range(classes)])
            classifier = db.Classifier(vocabulary, db.method("classname"), encoder, device="cpu")
            classifier.predict_features(encoder.encoder.encode_images([None]))  # the texts are encoded
            path = Path(folder, "p.parquet")
            part: Any = Pictures(count)
            timed(f"score: {classes:,} classes, 5 answers", lambda c=classifier, d=part, p=path: score(c, d, p), count)
            print(f"  a row of the predictions {path.stat().st_size / count:,.0f} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 200_000)
