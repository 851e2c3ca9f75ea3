"""Many questions at once from a plain generator: an event loop in a thread of its own, and slots the consumer frees."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

from descbench.prompts import Question, Reply

_ENDING = 5.0  # seconds that the end of a run waits for connections to close


def in_flight(
    questions: Sequence[Question],
    ask: Callable[[Question], Coroutine[Any, Any, Reply]],
    close: Callable[[], Awaitable[None]],
    concurrency: int,
) -> Generator[tuple[int, Reply], None, None]:
    """(position, reply) as each arrives, with at most `concurrency` questions on their way or not yet handled.

    A question is taken from the sequence when there is a slot for it, and the slot of a reply is free when the consumer
    comes back for the next one. What `ask` raises ends the run: what is on its way is cancelled, and the replies that
    came before are handed over first. A generator that is closed early does the same.
    """
    arrivals: SimpleQueue[tuple[int, Reply] | BaseException] = SimpleQueue()
    running: set[asyncio.Task[Reply]] = set()  # the loop itself holds its tasks weakly
    departures: deque[tuple[int, Question]] = deque()
    woken, failed = threading.Event(), threading.Event()

    def arrived(position: int, task: asyncio.Task[Reply]) -> None:
        running.discard(task)
        if task.cancelled():
            return
        if error := task.exception():
            failed.set()
            arrivals.put(error)
            for other in running:
                other.cancel()
        else:
            arrivals.put((position, task.result()))

    def depart() -> None:
        """One question a turn of the loop: those that set out together would come back together, and all wait."""
        woken.clear()
        if departures:
            position, question = departures.popleft()
            task = loop.create_task(ask(question))
            running.add(task)
            task.add_done_callback(partial(arrived, position))
        if departures:
            woken.set()
            loop.call_soon(depart)

    with _loop(close) as loop:
        sent = waiting = 0
        while True:
            while waiting < concurrency and sent < len(questions) and not failed.is_set():
                departures.append((sent, questions[sent]))
                sent, waiting = sent + 1, waiting + 1
                if not woken.is_set():  # a busy loop is woken once for many
                    woken.set()
                    loop.call_soon_threadsafe(depart)
            if not waiting:
                return
            arrival = arrivals.get()
            if isinstance(arrival, BaseException):
                raise arrival
            yield arrival
            waiting -= 1


@contextmanager
def _loop(close: Callable[[], Awaitable[None]]) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs beside the caller, who may himself be inside a running one; `close` runs in it at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="descbench asks", daemon=True)
    thread.start()

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await close()

    try:
        yield loop
    finally:
        try:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(end(), loop).result(_ENDING)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_ENDING)
            if not thread.is_alive():
                loop.close()
