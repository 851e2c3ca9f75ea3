"""A server that fails as told: real HTTP over a socket, one thread a connection, down to the last byte."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request: its number from 0 on, its body and headers (names in small letters), and when it came."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]
    path: str
    time: float

    @property
    def text(self) -> str:
        return self.body["messages"][0]["content"]


Answer = bytes | Callable[[socket.socket], None]  # bytes keep the connection; a function does as it likes, then it ends


class Server:
    """Answers each request with what `script` makes of it; `asked` keeps the requests, `busiest` the most at a time."""

    def __init__(self, port: int, script: Callable[[Asked], Answer]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.url = f"http://127.0.0.1:{port}/v1"
        self.busy = self.busiest = 0
        self.lock = threading.Lock()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.asked]

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := stream.readline():
                headers = {}
                while line := stream.readline().strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = json.loads(stream.read(int(headers["content-length"])))
                with self.lock:
                    asked = Asked(len(self.asked), body, headers, head.decode().split()[1], time.monotonic())
                    self.asked.append(asked)
                    self.busy += 1
                    self.busiest = max(self.busiest, self.busy)
                answer = self.script(asked)
                with self.lock:
                    self.busy -= 1
                if callable(answer):
                    answer(connection)
                    return
                connection.sendall(answer)


@contextmanager
def serving(script: Callable[[Asked], Answer]) -> Iterator[Server]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client went away
                server.serve(self.request)

    class Threads(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 256

    with Threads(("127.0.0.1", 0), Handler) as sockets:
        server = Server(sockets.server_address[1], script)
        thread = threading.Thread(target=sockets.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            sockets.shutdown()
            thread.join()


def response(status: int, body: object, **headers: str) -> bytes:
    """A whole response; a body that is no bytes goes as JSON. Underscores in names of headers are hyphens."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"content-type": "application/json", "content-length": str(len(content))}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + content


def completion(text: str | None = "- red", finish: str | None = "stop", **changes: Any) -> dict[str, Any]:
    """What a server says that answers well."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "c", "object": "chat.completion", "model": "m-2026", "choices": [choice], "usage": usage} | changes


def said(text: str | None = "- red", finish: str | None = "stop", **changes: Any) -> bytes:
    return response(200, completion(text, finish, **changes))


def error(status: int, message: str, code: str | None = None, param: str | None = None, **headers: str) -> bytes:
    """An error as OpenAI writes it."""
    return response(status, {"error": {"message": message, "code": code, "param": param, "type": "e"}}, **headers)
