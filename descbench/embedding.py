"""From a data set to image features: each picture once, decoded ahead of the encoder, and nothing computed is lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows, check_rows
from descbench.datasets.images import load_draft
from descbench.decoding import Batch, Prepare, batches
from descbench.errors import InputError, listed
from descbench.progress import report
from descbench.store import CachedEncoder

if TYPE_CHECKING:
    from descbench.datasets.base import Dataset, Sample
    from descbench.encoders.base import Encoder

_WINDOW = 1024  # samples that are looked up together
_LOST = 5.0  # seconds of work that a kill may lose
_HELD = 2**14  # rows that are held before they are kept, however fast they come
_DRAFT = 3  # times as large as the encoder sees a picture, at least: with 2 their features differ more
_UNDERWAY = 2  # batches that a GPU may be given before the first one's features are fetched

_Placed = tuple[int, "Sample"]  # a sample with its place in the data set
Engine = Callable[[Iterator["Sample"]], Generator[Batch, None, None]]  # encodes elsewhere: `inputs` are features


@dataclass(frozen=True, eq=False)
class Embedded:
    """The rows that could be had, in the order of the data set; `failures` are the pictures that could not be read."""

    dataset: Dataset
    ids: tuple[str, ...]
    features: Rows  # (N, D), or (N, V, D) where an encoder keeps views apart
    labels: npt.NDArray[np.int64]  # (N,), -1 where unlabelled
    sources: tuple[str, ...]
    failures: tuple[tuple[str, str], ...] = ()  # (source, reason)
    accepted: npt.NDArray[np.int64] | None = None  # (N, L) all right labels, where some picture has several
    seconds: float = 0.0  # that it took to have the features: little where they were kept

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Kept:
    """What `keep` did: of `images`, so many were `encoded` now, so many could not be read; the others were there."""

    images: int
    encoded: int
    failures: tuple[tuple[str, str], ...]  # (source, reason)
    seconds: float  # from the first batch on: without loading the model; with an engine, of all
    listing: Path | None  # the list of the data set's samples; None where no image could be read


def embed(dataset: Dataset, encoder: Encoder, *, batch_size: int = 64, workers: int = 0) -> Embedded:
    """The image features of a data set: its own where it holds some, else kept ones, else new ones from the encoder.

    A picture that cannot be read is in `failures` and not among the rows. With a `CachedEncoder` no picture is encoded
    twice, and an interrupted run goes on where it was. Where an encoder has `preprocess(image)` and
    `encode_pixels(batch)` (see `encoders.model.ModelEncoder`), pictures are prepared ahead too; for `workers` see
    `decoding.batches`.
    Raises `InputError` when no picture can be read, and when the encoder gives a wrong shape, NaN or infinity.
    """
    began = time.perf_counter()
    ready = getattr(dataset, "features", None)
    if ready is not None:
        return replace(_ready(dataset, ready), seconds=time.perf_counter() - began)
    with files_known(encoder):
        found = _gathered(dataset, encoder, batch_size, workers)
    if not len(found):
        raise unreadable(dataset, found.failures)
    return replace(found, seconds=time.perf_counter() - began)


def blocks(
    dataset: Dataset, encoder: Encoder, *, size: int = _HELD, batch_size: int = 64, workers: int = 0
) -> Iterator[Embedded]:
    """What `embed` gives, `size` samples at a time, in the order of the data set: memory does not grow with it.

    A block is empty where none of its pictures can be read. Raises `InputError` for what an encoder gives.
    """
    samples = dataset.samples()
    ready = getattr(dataset, "features", None)
    start = 0
    while True:
        with files_known(encoder):  # not while a block is looked at: what is done then is the reader's own
            some = tuple(islice(samples, size))
        if not some:
            return
        part = _Part(repr(dataset), some)
        if ready is None:
            yield _gathered(part, encoder, batch_size, workers)
        else:
            ids = tuple(sample.id for sample in some)
            rows = check_rows(ready[start : start + len(some)], ids, f"data set {dataset!r}")
            labels = np.array([-1 if sample.label is None else sample.label for sample in some], dtype=np.int64)
            yield Embedded(part, ids, rows, labels, tuple(sample.source for sample in some))
        start += len(some)


def files_known(encoder: Encoder) -> AbstractContextManager[None]:
    """A block in which files of pictures that the encoder's store knows are not read for their ids."""
    return encoder.files() if isinstance(encoder, CachedEncoder) else nullcontext()


def drafts(samples: Iterator[Sample], encoder: Any) -> Iterator[Sample]:
    """The samples; where the encoder takes drafts they load as such, three times as large as it sees them or larger.

    Raises `InputError` for an encoder that does not see all pictures in one size.
    """
    if not getattr(getattr(encoder, "compute", None), "draft", False):
        return samples
    return _drafts(samples, encoder)


def _drafts(samples: Iterator[Sample], encoder: Any) -> Iterator[Sample]:
    side = 0
    for sample in samples:
        side = side or _DRAFT * _shorter_side(encoder)
        yield replace(sample, load=partial(load_draft, sample.load, side))


def _shorter_side(encoder: Any) -> int:
    from PIL import Image

    shape: tuple[int, ...] = tuple(encoder.preprocess(Image.new("RGB", (16, 16))).shape)
    if len(shape) != 3:
        raise InputError(f"{encoder!r} takes pictures as {shape}, not in one size: leave draft out")
    return min(shape[1:])


def steps(encoder: Any) -> tuple[Prepare | None, Callable[[Any], Any]]:
    """What prepares a picture ahead of the encoder (None: nothing does), and what then encodes a batch."""
    if not (hasattr(encoder, "encode_pixels") and hasattr(encoder, "preprocess")):
        return None, encoder.encode_images
    return getattr(encoder, "prepare", encoder.preprocess), encoder.encode_pixels


def unreadable(dataset: Dataset, failures: Sequence[tuple[str, str]]) -> InputError:
    """The error for a data set of which no picture can be read."""
    reasons = dict.fromkeys(reason for _, reason in failures)
    return InputError(f"{dataset!r}: none of its {len(failures)} images can be read. {listed(reasons, 3)}")


def keep(
    dataset: Dataset,
    encoder: CachedEncoder,
    *,
    batch_size: int = 64,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
    engine: Engine | None = None,
) -> Kept:
    """Encode what is not kept yet, and keep it. Nothing is gathered, so that memory does not grow with the data set.

    Of several processes each takes a `part`: (r, n) are the samples r, r + n, r + 2n, ... An `engine` takes the samples
    that have no features and gives them back in batches, in any order (see `cluster`). Raises as `embed` does for
    what an encoder gives, and where `dataset` holds features instead of images.
    """
    if getattr(dataset, "features", None) is not None:
        raise InputError(f"{dataset!r} holds features, not images: there is nothing to encode. Give it to evaluate.")
    with files_known(encoder):
        run = _Run(dataset, encoder, part=part)
        listing = run.go(batch_size, workers, engine)
    seconds = time.perf_counter() - run.began if run.began else 0.0
    encoder.tidy()
    return Kept(run.seen, run.encoded, run.failures, seconds, listing)


def _ready(dataset: Any, features: npt.ArrayLike) -> Embedded:
    ids = tuple(str(name) for name in dataset.ids)
    labels = np.asarray(dataset.labels, dtype=np.int64)
    return Embedded(dataset, ids, check_rows(features, ids, f"data set {dataset!r}"), labels, ids)


def _gathered(dataset: Dataset, encoder: Encoder, batch_size: int, workers: int) -> Embedded:
    table = _Table(len(dataset))
    run = _Run(dataset, encoder, table)
    run.go(batch_size, workers)
    return table.embedded(dataset, run.failures)


@dataclass(frozen=True)
class _Part:
    """Some samples of a data set, held in memory. It has no names, so that no list of it is kept."""

    name: str
    held: tuple[Sample, ...]
    fingerprint: str = "part"
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.held)

    def samples(self) -> Iterator[Sample]:
        return iter(self.held)


class _Run:
    """One pass over (a part of) a data set: every sample gets a row, kept or made, or a reason why it has none."""

    def __init__(
        self, dataset: Dataset, encoder: Encoder, table: _Table | None = None, part: tuple[int, int] = (0, 1)
    ) -> None:
        self._dataset = dataset
        self._store = encoder if isinstance(encoder, CachedEncoder) else None
        self._encoder: Any = encoder.encoder if isinstance(encoder, CachedEncoder) else encoder
        self._table = table
        self._part = part
        self._listing = self._store.note_set(dataset, part) if self._store and dataset.names else None
        self._waiting: dict[str, list[_Placed]] = {}  # by id: on their way to the encoder
        self._fresh: dict[str, Rows] = {}  # by id: made and not kept yet
        self._kept_at = time.monotonic()
        self._failed: dict[str, str] = {}  # by id: the reason
        self._failures: list[tuple[int, str, str]] = []  # place, source, reason
        self.seen = self.settled = self.encoded = 0
        self.began: float | None = None  # when the first batch came

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        return tuple((source, reason) for _, source, reason in sorted(self._failures))

    def go(self, size: int, workers: int, engine: Engine | None = None) -> Path | None:
        # The model is loaded by the first picture that has to be encoded, and not before.
        prepare, encode = steps(self._encoder)
        if engine is None:
            ahead = batches(drafts(self._missing(), self._encoder), prepare, size=size, workers=workers)
        else:
            ahead, encode, self.began = engine(self._missing()), _as_it_is, time.perf_counter()
        underway: deque[_Underway] = deque()
        done = False
        try:
            for batch in ahead:
                self.began = self.began or time.perf_counter()
                for sample, reason in batch.failed:
                    self._failed[sample.id] = reason
                    self._fail(self._waiting.pop(sample.id))
                if batch.samples:
                    underway.append(_Underway(batch.samples, encode(batch.inputs)))
                while underway and (underway[0].here or len(underway) > _UNDERWAY):
                    self._made(underway.popleft())
                report("encoding images", self.settled + len(self._failures), max(self.seen, self._total))
            while underway:
                self._made(underway.popleft())
            done = True
        finally:
            ahead.close()
            self._flush()
            if self._listing is not None and not (done and self.settled):
                self._listing.discard()
        if self._listing is None or self._store is None or not self.settled:
            return None
        with self._store.writing():
            return self._listing.finish(self.encoded)

    @property
    def _total(self) -> int:
        rank, number = self._part
        return len(range(rank, len(self._dataset), number))

    def _windows(self) -> Iterator[list[_Placed]]:
        """Read one ahead, in a thread: to know an id, a data set may have to read a file."""
        samples = enumerate(self._dataset.samples())
        rank, number = self._part

        def read() -> list[_Placed]:
            window: list[_Placed] = []
            for place, sample in samples:
                if self._listing is not None:
                    self._listing.see(sample.id, sample.label)
                if place % number == rank:
                    window.append((place, sample))
                    if len(window) == _WINDOW:
                        break
            return window

        with ThreadPoolExecutor(1) as reader:
            window = reader.submit(copy_context().run, read).result()
            while window:
                following = reader.submit(copy_context().run, read)
                yield window
                window = following.result()

    def _missing(self) -> Iterator[Sample]:
        """The samples that have to be encoded, each id once. The others are settled on the way."""
        for window in self._windows():
            self.seen += len(window)
            new: list[Sample] = []
            for place, sample in self._not_kept(window):
                if sample.id in self._failed:
                    self._fail([(place, sample)])
                elif sample.id in self._fresh:
                    self._settle([(place, sample)], self._fresh[sample.id][None])
                elif sample.id in self._waiting:
                    self._waiting[sample.id].append((place, sample))
                else:
                    self._waiting[sample.id] = [(place, sample)]
                    new.append(sample)
            yield from new

    def _not_kept(self, window: list[_Placed]) -> list[_Placed]:
        """Those of which the store has no features; the others are settled."""
        if self._store is None:
            return window
        ids = [sample.id for _, sample in window]
        known, rows = (self._store.knows_images(ids), None) if self._table is None else self._store.recall_images(ids)
        self._settle([placed for placed, is_known in zip(window, known, strict=True) if is_known], rows)
        return [placed for placed, is_known in zip(window, known, strict=True) if not is_known]

    def _made(self, underway: _Underway) -> None:
        samples = underway.samples
        sources = [sample.source for sample in samples]
        rows = check_rows(underway.rows(), sources, f"encoder {self._encoder!r}")
        self.encoded += len(samples)
        placed = [self._waiting.pop(sample.id) for sample in samples]
        of = np.repeat(np.arange(len(samples)), [len(places) for places in placed])
        self._settle([place for places in placed for place in places], rows[of])
        if self._store is None:
            return
        self._fresh.update(zip((sample.id for sample in samples), rows, strict=True))
        if time.monotonic() - self._kept_at > _LOST or len(self._fresh) >= _HELD:
            self._flush()

    def _flush(self) -> None:
        if self._store is not None and self._fresh:
            self._store.keep_images(list(self._fresh), np.stack(list(self._fresh.values())))
            self._fresh.clear()
        self._kept_at = time.monotonic()

    def _settle(self, placed: Sequence[_Placed], rows: Rows | None) -> None:
        if not placed:
            return
        self.settled += len(placed)
        if self._table is not None and rows is not None:
            self._table.take(placed, rows)
        if self._listing is not None and self._store is not None:
            with self._store.writing():
                self._listing.add(placed)

    def _fail(self, placed: Sequence[_Placed]) -> None:
        self._failures += [(place, sample.source, self._failed[sample.id]) for place, sample in placed]


def _as_it_is(rows: Any) -> Any:
    return rows


class _Underway:
    """Features that a GPU may still be computing: they are copied here when it comes to that, and nobody waits."""

    def __init__(self, samples: list[Sample], made: Any) -> None:
        self.samples = samples
        self.here = not getattr(made, "is_cuda", False)
        self._made = made
        if not self.here:
            import torch

            self._made = torch.empty(made.shape, dtype=made.dtype, pin_memory=True).copy_(made, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(made.device))

    def rows(self) -> Any:
        """(B, ...), once they are there."""
        if not self.here:
            self._copied.synchronize()
        return self._made


class _Table:
    """Rows by their places in the data set, in one array, whatever order they come in."""

    def __init__(self, expected: int) -> None:
        self._features: Rows = np.empty((0, 0), dtype=np.float32)  # (expected or more, ...)
        self._known: list[tuple[str, int, str, tuple[int, ...]] | None] = [None] * expected  # a sample, but its picture

    def take(self, placed: Sequence[_Placed], rows: Rows) -> None:
        if not len(self._features):
            self._features = np.empty((len(self._known), *rows.shape[1:]), dtype=np.float32)
        if rows.shape[1:] != self._features.shape[1:]:
            raise InputError(
                f"the features of {placed[0][1].source!r} have the shape {rows.shape[1:]}, those of others "
                f"{self._features.shape[1:]}: they are not of one encoder. Encode all with the same one."
            )
        end = max(place for place, _ in placed) + 1
        if end > len(self._known):  # the data set had promised fewer
            more = max(end, 2 * len(self._known)) - len(self._known)
            self._features = np.concatenate([self._features, np.empty((more, *rows.shape[1:]), dtype=np.float32)])
            self._known += [None] * more
        self._features[[place for place, _ in placed]] = rows
        for place, sample in placed:
            label = -1 if sample.label is None else sample.label
            self._known[place] = (sample.id, label, sample.source, sample.accepted)

    def embedded(self, dataset: Dataset, failures: tuple[tuple[str, str], ...]) -> Embedded:
        places = np.flatnonzero([known is not None for known in self._known])  # (N,)
        for start in range(0, len(places), _HELD):  # rows move up to close gaps, block by block: no second array
            block = places[start : start + _HELD]
            if block[-1] != start + len(block) - 1:
                self._features[start : start + len(block)] = self._features[block]
        if not len(places):
            return Embedded(dataset, (), self._features[:0], np.empty(0, dtype=np.int64), (), failures)
        ids, labels, sources, accepted = zip(*(known for known in self._known if known is not None), strict=True)
        return Embedded(
            dataset,
            ids,
            self._features[: len(places)],
            np.array(labels, dtype=np.int64),
            sources,
            failures,
            _accepted(labels, accepted),
        )


def _accepted(labels: Sequence[int], accepted: Sequence[tuple[int, ...]]) -> npt.NDArray[np.int64] | None:
    """All right labels of each picture, (N, L), the first one repeated where there are fewer; None of single labels."""
    most = max(map(len, accepted))
    if not most:
        return None
    rows = [several or (label,) for label, several in zip(labels, accepted, strict=True)]
    return np.array([[*row, *[row[0]] * (most - len(row))] for row in rows], dtype=np.int64)
