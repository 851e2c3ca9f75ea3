"""The rates that docs/scale.md counts with, other than those of encoding: listing, keeping, reading, scoring.

    python benchmarks/scale.py [IMAGES]

Features from a seed in a store of their own; no model runs. Prints rows a second of one process, and bytes a row.
"""

from __future__ import annotations

import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from _shared import DIMENSIONS, Drawn, Pictures

import descbench as db
from descbench.bulk import score
from descbench.cluster import _batch
from descbench.decoding import Batch
from descbench.embedding import keep
from descbench.store import CachedEncoder


def sent_and_taken(samples: Iterator[Any]) -> Generator[Batch, None, None]:
    """All that the command of a cluster does for a picture, with actors that take no time: an `embedding.Engine`."""
    row = pickle.dumps(np.asarray(Drawn().encode_images([None])[0]))
    while block := {sample.id: sample for sample in islice(samples, 256)}:
        pickle.dumps(list(block.values()))
        back = pa.table({"id": list(block), "made": pa.array([row] * len(block), pa.binary())})
        yield _batch(block, back["id"].to_pylist(), back["made"].to_pylist())


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
        other = CachedEncoder(Drawn(), Path(folder, "other"))
        timed("keep what a cluster encodes", lambda: keep(data, other, engine=sent_and_taken))
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
