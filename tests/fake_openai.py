"""A server in a process of its own that speaks enough of OpenAI's API: replies after a latency, and batch jobs.

    python fake_openai.py LATENCY [LOG]     prints its port, then serves until it is killed

It answers each question with a list drawn by the question's text. LOG gets a line for every reply, after its last byte
was handed to the system: the time by the monotonic clock and the question.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from typing import Any


def answer(text: str) -> str:
    """A list of features, or lines of captions where the question asks for a vertical bar."""
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    if "vertical bar" in text:
        return f"- edge: a photo with the edge {mark} | a photo with another edge than {mark}\n"
    return f"- a mark like {mark}\n- an edge of {mark}\n"


def completion(body: dict[str, Any]) -> dict[str, Any]:
    text = body["messages"][-1]["content"]
    return {
        "id": "c",
        "object": "chat.completion",
        "model": f"{body['model']}-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer(text)}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": len(text.split()), "completion_tokens": 8},
    }


async def serve(latency: float, log: Any) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-le"))
                body = json.loads(await reader.readexactly(length))
                await asyncio.sleep(latency)
                content = json.dumps(completion(body)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
                    + content
                )
                await writer.drain()
                if log is not None:
                    log.write(f"{time.monotonic()} {json.dumps(body['messages'][-1]['content'])}\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]), open(sys.argv[2], "a", buffering=1) if len(sys.argv) > 2 else None))  # noqa: SIM115, PTH123
