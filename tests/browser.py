"""A real browser without a window, over its own protocol (Chrome DevTools) and a pipe: no driver, no port, no package.

with Browser() as browser:
    page = browser.open(path)              # a file, as somebody opens it from their disk
    page.run("document.title")             # a value of JavaScript
    page.errors, page.requests             # what its console complained of, what it asked for
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]


def executable() -> str | None:
    """The browser that is installed, if one is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One process with a profile of its own; it ends with the block, whatever happens in it."""

    def __init__(self, timeout: float = 60) -> None:
        self._timeout = timeout
        self._number = 0
        self._read = b""
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        found = executable()
        assert found, "no Chromium"
        self._profile = tempfile.mkdtemp()
        ends = [*os.pipe(), *os.pipe()]
        # The browser reads at 3 and writes at 4: the shell moves two ends there, which must lie elsewhere before.
        to_read, self._to, self._from, to_write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
        for end in ends:
            os.close(end)
        moved = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", moved, "bash", found, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(to_write)
        os.set_blocking(self._from, False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, path: Path, wide: int = 1280, high: int = 900, scheme: str = "light", script: bool = True) -> Page:
        """A new page that shows a file, once it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.size(wide, high)
        page.media(scheme)
        if not script:
            page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.call("Page.navigate", url=path.resolve().as_uri())
        page.wait("Page.loadEventFired")
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask the browser for something and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        sent = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._to, sent) :]
        for said in self._messages():
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                result: dict[str, Any] = said["result"]
                return result
            self._events.append(said)
        raise AssertionError

    def _messages(self) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + self._timeout
        while True:
            while b"\0" not in self._read:
                with suppress(BlockingIOError):
                    part = os.read(self._from, 1 << 20)
                    assert part, "the browser has ended"
                    self._read += part
                    continue
                assert time.monotonic() < until, "the browser does not answer"
                time.sleep(0.005)
            message, _, self._read = self._read.partition(b"\0")
            yield json.loads(message)


class Page:
    """What one tab shows, and what it did so far."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def _events(self, *methods: str) -> list[dict[str, Any]]:
        self.call("Runtime.evaluate", expression="0")  # whatever was on its way is here now
        mine = [event for event in self._browser._events if event.get("sessionId") == self._session]
        return [event["params"] for event in mine if event["method"] in methods]

    def wait(self, method: str) -> None:
        until = time.monotonic() + self._browser._timeout
        while not any(e.get("method") == method and e.get("sessionId") == self._session for e in self._browser._events):
            assert time.monotonic() < until, f"no {method}"
            self.call("Target.getTargetInfo")
            time.sleep(0.01)

    def run(self, expression: str) -> Any:
        """The value of an expression; of a promise, what it comes to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def size(self, wide: int, high: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=wide, height=high, deviceScaleFactor=1, mobile=wide < 600)

    def media(self, scheme: str = "light", medium: str = "") -> None:
        """Show it in a light or dark scheme, or as it is printed (`medium="print"`)."""
        self.call(
            "Emulation.setEmulatedMedia", media=medium, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def click(self, selector: str) -> None:
        """The left button on the middle of an element."""
        at = f"document.querySelector({json.dumps(selector)})"
        box = self.run(
            f"(e => (e.scrollIntoView(), b = e.getBoundingClientRect(), [b.x + b.width / 2, b.y + b.height / 2]))({at})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field, as a keyboard does."""
        self.run(f"(e => (e.focus(), e.select && e.select(), 0))(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    @property
    def errors(self) -> list[str]:
        """What the console complained of, security policy included."""
        logged = [e["entry"]["text"] for e in self._events("Log.entryAdded") if e["entry"]["level"] == "error"]
        thrown = [e["exceptionDetails"]["text"] for e in self._events("Runtime.exceptionThrown")]
        said = [str(e["args"]) for e in self._events("Runtime.consoleAPICalled") if e["type"] in ("error", "assert")]
        return logged + thrown + said

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for, beside data within the page."""
        asked = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith("data:")]

    @property
    def dialogs(self) -> int:
        return len(self._events("Page.javascriptDialogOpening"))

    def picture(self, path: Path, top: float = 0, bottom: float | None = None) -> None:
        """A screenshot of the whole page, or of what lies between two heights of it."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        high = (size["height"] if bottom is None else bottom) - top
        clip = {"x": 0, "y": top, "width": size["width"], "height": high, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))
