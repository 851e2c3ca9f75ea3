"""From a data set to image features: each picture once, decoded ahead of the encoder, and nothing computed is lost."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows, check_rows
from descbench.errors import InputError, listed
from descbench.progress import report

if TYPE_CHECKING:
    import PIL.Image

    from descbench.datasets.base import Dataset, Sample
    from descbench.encoders.base import Encoder

_THREADS = min(8, os.cpu_count() or 1)
_KEEP = 4  # batches between two writes to the feature cache


@dataclass(frozen=True, eq=False)
class Embedded:
    """The rows that could be had, in the order of the data set; `failures` are the pictures that could not be read."""

    dataset: Dataset
    ids: tuple[str, ...]
    features: Rows  # (N, D)
    labels: npt.NDArray[np.int64]  # (N,), -1 where unlabelled
    sources: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = ()  # (source, reason)

    def __len__(self) -> int:
        return len(self.ids)


def embed(dataset: Dataset, encoder: Encoder, *, batch_size: int = 64) -> Embedded:
    """The image features of a data set: its own where it holds some, else kept ones, else new ones from the encoder.

    A picture that cannot be read is in `failures` and not among the rows. Where the encoder offers `recall_images` and
    `keep_images` (see `CachedEncoder`), no picture is encoded twice and an interrupted run goes on where it was.
    Raises `InputError` when no picture can be read, and when the encoder gives a wrong shape, NaN or infinity.
    """
    ready = getattr(dataset, "features", None)
    if ready is not None:
        return _ready(dataset, ready)
    samples = list(dataset.samples())
    recall = getattr(encoder, "recall_images", None)
    rows: dict[str, Rows] = recall([sample.id for sample in samples]) if recall else {}
    missing = {sample.id: sample for sample in samples if sample.id not in rows}
    failed: dict[str, str] = {}  # sample id -> reason
    _encode(list(missing.values()), encoder, batch_size, rows, failed)
    good = [sample for sample in samples if sample.id in rows]
    if not good:
        raise InputError(
            f"{dataset!r}: none of its {len(samples)} images can be read. {listed(dict.fromkeys(failed.values()), 3)}"
        )
    return Embedded(
        dataset=dataset,
        ids=tuple(sample.id for sample in good),
        features=np.stack([rows[sample.id] for sample in good]),
        labels=np.array([-1 if sample.label is None else sample.label for sample in good], dtype=np.int64),
        sources=tuple(sample.source for sample in good),
        failures=tuple((sample.source, failed[sample.id]) for sample in samples if sample.id in failed),
    )


def _ready(dataset: Any, features: npt.ArrayLike) -> Embedded:
    ids = tuple(str(name) for name in dataset.ids)
    labels = np.asarray(dataset.labels, dtype=np.int64)
    return Embedded(dataset, ids, check_rows(features, ids, f"data set {dataset!r}"), labels, ids)


def _encode(
    samples: list[Sample], encoder: Encoder, batch_size: int, rows: dict[str, Rows], failed: dict[str, str]
) -> None:
    """Fills `rows` and `failed` for distinct samples; what is in `rows` is kept even when the encoder fails later."""
    keep = getattr(encoder, "keep_images", None)
    unkept: list[str] = []
    done = 0

    def write() -> None:
        if keep and unkept:
            keep(list(unkept), np.stack([rows[name] for name in unkept]))
            unkept.clear()

    batches = _decoded(samples, batch_size, failed)
    try:
        for batch in batches:
            ids, sources = [sample.id for sample, _ in batch], [sample.source for sample, _ in batch]
            made = check_rows(encoder.encode_images([image for _, image in batch]), sources, f"encoder {encoder!r}")
            rows.update(zip(ids, made, strict=True))
            unkept += ids
            done += len(ids)
            if len(unkept) >= _KEEP * batch_size:
                write()
            report("encoding images", done + len(failed), len(samples))
    finally:
        batches.close()
        write()


def _decoded(
    samples: Iterable[Sample], batch_size: int, failed: dict[str, str]
) -> Generator[list[tuple[Sample, PIL.Image.Image]], None, None]:
    """Batches of pictures, in order, while threads decode the next two batches; reasons of failures go to `failed`."""
    queue = iter(samples)
    batch: list[tuple[Sample, PIL.Image.Image]] = []
    pool = ThreadPoolExecutor(_THREADS)
    ahead: deque[tuple[Sample, Future[PIL.Image.Image]]] = deque()
    try:
        while True:
            for sample in islice(queue, max(0, 3 * batch_size - len(ahead) - len(batch))):
                ahead.append((sample, pool.submit(sample.load)))
            if not ahead:
                break
            sample, future = ahead.popleft()
            try:
                batch.append((sample, future.result()))
            except (InputError, OSError) as error:
                failed[sample.id] = str(error)
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
