"""What a second evaluation costs, when all features are kept: against the products that it cannot do without.

    python benchmarks/evaluate.py [IMAGES]

Five methods on 50,000 images and 1,000 classes, D 512: features from the store, texts from the store, every method
scored, the best 20 of each image, all metrics with their intervals. The models are stand-ins that are never called.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

import descbench as db
from descbench.datasets.base import Sample
from descbench.devices import pick_device
from descbench.embedding import embed
from descbench.store import CachedEncoder

N = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
C, D, ROUNDS = 1_000, 512, 3
METHODS = ("classname", "template", "templates", "dclip", "cupl")
DEVICE = pick_device("auto")


class Numbers:
    """N images that nobody can look at: their features are kept."""

    name = "numbers"
    names = tuple(f"class {i}" for i in range(C))
    fingerprint = "numbers"

    def __repr__(self) -> str:
        return "numbers"

    def __len__(self) -> int:
        return N

    def samples(self) -> Iterator[Sample]:
        for i in range(N):
            yield Sample(f"image {i}", self.load, i % C, f"image {i}")

    def load(self) -> None:
        raise AssertionError("an image is looked at, though its features are kept")


class Drawn:
    """An encoder whose features are drawn by the text; it counts what it is asked for."""

    name = fingerprint = "drawn"
    logit_scale = 100.0
    asked = 0

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        Drawn.asked += len(texts)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(D, dtype=np.float32) for seed in seeds])
        return torch.nn.functional.normalize(torch.from_numpy(rows), dim=1)

    def encode_images(self, images: Sequence[object]) -> torch.Tensor:
        raise AssertionError("an image is encoded, though its features are kept")


def evaluated(folder: Path, descriptions: db.Descriptions) -> list[float]:
    """The top-1 of each method, as a new process would come to it."""
    data, encoder = Numbers(), CachedEncoder(Drawn(), folder)
    embedded = embed(data, encoder)
    vocabulary = db.Vocabulary(data.names)
    found = []
    for method in METHODS:
        classifier = db.Classifier(vocabulary, db.method(method), encoder, descriptions=descriptions)
        found.append(db.evaluate(classifier, embedded).metrics["top1"].value)
    return found


def main() -> None:
    print(f"torch {torch.__version__}, device {DEVICE}, {torch.get_num_threads()} threads, medians of {ROUNDS} rounds")
    vocabulary = db.Vocabulary(Numbers.names)
    descriptions = db.Descriptions(
        {i: [f"a {name} of form {n}" for n in range(6)] for i, name in vocabulary}, names=dict(vocabulary)
    )
    images = torch.nn.functional.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=1)
    matrix = torch.randn(D, C).to(DEVICE)
    there = images.to(DEVICE)

    def products() -> None:
        for _ in METHODS:
            there @ matrix
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        CachedEncoder(Drawn(), folder).keep_images([f"image {i}" for i in range(N)], images.numpy())
        evaluated(folder, descriptions)
        asked = Drawn.asked
        seconds: dict[str, list[float]] = {"ours": [], "products": []}
        for _ in range(ROUNDS):
            for side, run in (("ours", lambda: evaluated(folder, descriptions)), ("products", products)):
                start = time.perf_counter()
                run()
                seconds[side].append(time.perf_counter() - start)
        assert Drawn.asked == asked, "a text is encoded, though its features are kept"
    mine, floor = (statistics.median(seconds[side]) for side in ("ours", "products"))
    print(f"\nA second evaluation: N {N:,}, C {C:,}, D {D}, {len(METHODS)} methods; {asked:,} texts were encoded, once")
    print(f"  {len(METHODS)} matrix products{'':<37}{1000 * floor:9.1f} ms")
    print(f"  descbench: from the store to the metrics{'':<21}{1000 * mine:9.1f} ms{mine / floor:8.2f} x   at most 3")
    print(
        f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB, of it {images.nbytes >> 20} MB"
    )


if __name__ == "__main__":
    main()
