"""Pictures decoded and prepared ahead of the encoder, in threads or processes, straight into the batches it takes."""

from __future__ import annotations

import mmap
import os
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from descbench.errors import InputError, PartialError

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from descbench.datasets.base import Sample

Load = Callable[[], "PIL.Image.Image"]
Prepare = Callable[["PIL.Image.Image"], "Tensor"]

_AHEAD = 2  # batches
_TOGETHER = 8  # pictures that a process is given at once


@dataclass
class Batch:
    """`inputs` has a row (or an image, where nothing prepares them) for each of `samples`, those that could be read."""

    samples: list[Sample]
    inputs: Any  # (B, ...) or a list of B images
    failed: list[tuple[Sample, str]] = field(default_factory=list)  # and the reason


def batches(
    samples: Iterable[Sample], prepare: Prepare | None, *, size: int, workers: int = 0
) -> Generator[Batch, None, None]:
    """Batches of `size` samples, in order, while the next two are being decoded; `prepare` is run there too.

    `workers` is a number of processes; 0 are threads of this one, as many as there are cores. Threads need no start,
    and take turns wherever Python runs: with many cores processes are faster. Raises `InputError` where the samples
    cannot be sent to a process.
    """
    queue = iter(samples)
    ahead: deque[_Started] = deque()
    pool: _Threads | _Processes | None = None
    try:
        while True:
            while len(ahead) < _AHEAD and (chosen := list(islice(queue, size))):
                pool = pool or _pool(chosen, prepare, size, workers)
                ahead.append(pool.start(chosen))
            if not ahead or pool is None:
                return
            done = pool.finish(ahead.popleft())
            if chosen := list(islice(queue, size)):
                ahead.append(pool.start(chosen))
            yield done
    finally:
        if pool is not None:
            pool.close()


def cores() -> int:
    """The cores that this process may use, or its share where several of one run are on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@dataclass
class _Started:
    samples: list[Sample]
    futures: list[Future[list[Any]]]  # of each: None, or an image, or a text: the reason why there is none
    inputs: Any = None


def _pool(samples: list[Sample], prepare: Prepare | None, size: int, workers: int) -> _Threads | _Processes:
    """Prepares one picture in this thread: it tells the shape, and a model that is not loaded yet is loaded once."""
    like = next(_readable(samples, prepare), None) if prepare else None
    if not workers or (prepare and like is None):  # no picture of the first batch can be read: no shape to share
        return _Threads(prepare, like)
    _check_sendable(samples[0])
    return _Processes(prepare, like, size, workers)


def _readable(samples: list[Sample], prepare: Prepare) -> Iterator[Tensor]:
    for sample in samples:
        try:
            image = sample.load()
        except (InputError, OSError):
            continue
        yield prepare(image)


class _Threads:
    def __init__(self, prepare: Prepare | None, like: Tensor | None) -> None:
        self._prepare, self._like = prepare, like
        self._pool: Executor = ThreadPoolExecutor(cores())

    def start(self, samples: list[Sample]) -> _Started:
        if self._prepare and self._like is None:  # nothing before could be read
            self._like = next(_readable(samples, self._prepare), None)
        rows = None if self._like is None else _empty(len(samples), self._like)
        tasks = [
            self._pool.submit(_prepared, [sample.load], self._prepare, rows, row) for row, sample in enumerate(samples)
        ]
        return _Started(samples, tasks, rows)

    def finish(self, started: _Started) -> Batch:
        return _sorted(started, self._prepare is not None)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _empty(count: int, like: Tensor) -> Tensor:
    """Rows that a GPU, where one is in use, can copy while it computes."""
    import torch

    pinned: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.empty((count, *like.shape), dtype=like.dtype, pin_memory=pinned)


def _prepared(loads: Sequence[Load], prepare: Prepare | None, rows: Tensor | None, first: int) -> list[Any]:
    found: list[Any] = []
    for row, load in enumerate(loads, first):
        try:
            image = load()
        except (InputError, OSError) as error:
            found.append(str(error))
            continue
        if prepare is None:
            found.append(image)
            continue
        assert rows is not None
        rows[row] = prepare(image)
        found.append(None)
    return found


def _sorted(started: _Started, prepared: bool) -> Batch:
    """What could be read, and what could not."""
    found = [outcome for future in started.futures for outcome in future.result()]
    good = [row for row, outcome in enumerate(found) if not isinstance(outcome, str)]
    samples = [started.samples[row] for row in good]
    failed = [(started.samples[row], text) for row, text in enumerate(found) if isinstance(text, str)]
    if not prepared:
        return Batch(samples, [found[row] for row in good], failed)
    rows = started.inputs
    return Batch(samples, rows if not failed or rows is None else rows[good], failed)


class _Processes:
    """Forked, so that they have `prepare`, and the model's files behind it, without being sent them; they write into
    memory that is shared, since a picture sent through a pipe is copied three times."""

    def __init__(self, prepare: Prepare | None, like: Tensor | None, size: int, workers: int) -> None:
        from multiprocessing import get_all_start_methods, get_context

        if "fork" not in get_all_start_methods():
            raise InputError(f"{workers} workers: this system cannot fork processes. Use --workers 0: threads.")
        self._like = like
        self._free = [] if like is None else [_shared_rows(size, like) for _ in range(_AHEAD + 1)]
        self._slots = list(self._free)
        self._pool = ProcessPoolExecutor(workers, get_context("fork"), _begin, (prepare, self._slots))
        with warnings.catch_warnings():
            # Newer Pythons warn of forks beside threads: what our children do takes no lock that one of these may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pool.submit(int).result()  # all are forked here

    def start(self, samples: list[Sample]) -> _Started:
        rows = self._free.pop() if self._free else None
        number = next((i for i, slot in enumerate(self._slots) if slot is rows), -1)
        tasks = [
            self._pool.submit(_work, [sample.load for sample in samples[first : first + _TOGETHER]], number, first)
            for first in range(0, len(samples), _TOGETHER)
        ]
        return _Started(samples, tasks, rows)

    def finish(self, started: _Started) -> Batch:
        try:
            batch = _sorted(started, self._like is not None)
        except BrokenProcessPool as error:
            raise PartialError(
                "a process that decodes pictures was killed, perhaps for want of memory. What was encoded is kept; "
                "run the same command again with fewer --workers or a smaller --batch-size"
            ) from error
        if self._like is not None:
            rows = _empty(len(batch.samples), self._like)
            batch.inputs = rows.copy_(batch.inputs[: len(rows)])  # the shared rows are written again by the next batch
            self._free.append(started.inputs)
        return batch

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _shared_rows(count: int, like: Tensor) -> Tensor:
    import torch

    size = count * like.numel() * like.element_size()
    return torch.frombuffer(mmap.mmap(-1, size), dtype=like.dtype).view(count, *like.shape)


def _check_sendable(sample: Sample) -> None:
    try:
        pickle.dumps(sample.load)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"the pictures of this data set cannot be sent to other processes ({error}). Use --workers 0: threads."
        ) from error


_mine: tuple[Prepare | None, list[Tensor]] = (None, [])  # set once in each process that decodes


def _begin(prepare: Prepare | None, slots: list[Tensor]) -> None:
    global _mine
    import signal

    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    torch.set_num_threads(1)
    _mine = (prepare, slots)


def _work(loads: Sequence[Load], slot: int, first: int) -> list[Any]:
    prepare, slots = _mine
    return _prepared(loads, prepare, slots[slot] if slots else None, first)
