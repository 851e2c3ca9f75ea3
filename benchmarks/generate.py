"""What asking costs: replies a second from a server that takes L seconds for each, at K questions at a time.

    python benchmarks/generate.py

K / L is the limit. The server runs in a process of its own and does no more than it must; K questions go over K real
connections, through the SDK, the retries, the thread and the cache that a user's run goes through: every reply is
committed to a file. The last lines are the memory that the process holds after so many replies.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descbench.llms import OpenAILLM
from descbench.prompts import Question
from descbench.store import CachedLLM, ReplyStore

RUNS = 3
ROUNDS = 10  # questions of a run: this many times K
LATENCY = 1.0  # L, seconds
CONCURRENCIES = (1, 16, 64, 256)  # K
GOAL = 0.9
MEMORY = (1_000, 5_000, 20_000)  # replies
FLAT_OUT = 3_000  # questions for the limit of the client alone, at L = 0

REPLY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "- a red comb on its head\n" * 8},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 64, "total_tokens": 124},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REPLY) + REPLY


class Connection(asyncio.Protocol):
    """Answers each whole request on a connection after `latency` seconds."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self.buffer = b""
            asyncio.get_running_loop().call_later(self.latency, self.transport.write, RESPONSE)


async def serve(latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def served(latency: float) -> Iterator[str]:
    """The URL of a server in another process."""
    process = subprocess.Popen([sys.executable, __file__, str(latency)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()


def seconds(url: str, concurrency: int, count: int) -> float:
    """How long a run of so many different questions takes, its connections among it."""
    questions = [Question(f"What are useful visual features of a bird of kind {number}?") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        store = ReplyStore(Path(folder) / "replies.sqlite")
        llm = CachedLLM(OpenAILLM("bench", base_url=url, concurrency=concurrency), store)
        start = time.perf_counter()
        answered = sum(reply.answered for _, reply in llm.stream(questions))
        taken = time.perf_counter() - start
        store.close()
    if answered != count:
        raise SystemExit(f"only {answered} of {count} questions were answered")
    return taken


def main() -> None:
    print(f"L {LATENCY:g} s, runs of {ROUNDS} K questions, medians of {RUNS}")
    with served(0) as url:
        seconds(url, 16, 32)  # imports
    print("\nAsking a server: replies a second, and their share of K / L")
    with served(LATENCY) as url:
        for concurrency in CONCURRENCIES:
            count = ROUNDS * concurrency
            taken = statistics.median(seconds(url, concurrency, count) for _ in range(RUNS))
            rate, limit = count / taken, concurrency / LATENCY
            share = f"{rate / limit:6.2f} of K / L   at least {GOAL} is the aim"
            print(f"  K {concurrency:<60}{rate:9.1f} /s{share}", flush=True)
    print("\nThe client alone: replies a second at L = 0")
    with served(0) as url:
        for concurrency in CONCURRENCIES:
            taken = statistics.median(seconds(url, concurrency, FLAT_OUT) for _ in range(RUNS))
            print(f"  K {concurrency:<60}{FLAT_OUT / taken:9.1f} /s", flush=True)
        if Path("/proc/self/statm").exists():
            print("\nMemory of the process")
            memory(url)


def memory(url: str) -> None:
    """What the process holds after so many replies of one run; questions are made when they are looked at."""
    with tempfile.TemporaryDirectory() as folder:
        store = ReplyStore(Path(folder) / "replies.sqlite")
        llm = CachedLLM(OpenAILLM("bench", base_url=url, concurrency=64), store)
        for count, _ in enumerate(llm.stream(Numbered(MEMORY[-1])), 1):
            if count in MEMORY:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                print(f"  {f'{count:,} replies':<62}{pages * resource.getpagesize() / 2**20:9.1f} MiB", flush=True)
        store.close()


class Numbered(Sequence[Question]):
    """So many questions of 500 letters."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(self.count))]
        return Question(f"What does a bird of kind {at} look like?".ljust(500, "."))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve(float(sys.argv[1])))
    else:
        main()
