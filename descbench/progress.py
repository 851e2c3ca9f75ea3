"""Progress without a flag in every signature: the library says how far it is, whoever listens shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("descbench_progress", default=None)


def report(task: str, done: int, total: int) -> None:
    """`done` of `total` units of a task ("encoding images") are finished; nothing happens where nobody listens."""
    if listener := _listener.get():
        listener(task, done, total)


@contextmanager
def shown(listener: Listener) -> Iterator[None]:
    """While the block runs, `listener(task, done, total)` hears every report of this context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
