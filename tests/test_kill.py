"""`generate` may be ended at any moment: what the server had sent and we had received is kept, and no more is asked."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from descbench.store import ReplyStore

CLASSES, CONCURRENCY, LATENCY = 200, 16, 0.05
ROUNDS = int(os.environ.get("KILL_ROUNDS", "100"))
# Seconds that a reply may take from the server's last byte to the disk, without those in which the client would have
# gone on and others had the processors. Sixteen come at once, the first ones while the client is still opening
# connections, and each takes it some 2 ms; what waits in a socket it has not received.
UNDERWAY = 0.25


class Server:
    def __init__(self, folder: Path) -> None:
        self.log = folder / "replies.log"
        self.log.touch()
        command = [sys.executable, str(Path(__file__).with_name("fake_openai.py")), str(LATENCY), str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def sent(self) -> list[tuple[float, str]]:
        lines = self.log.read_text().rpartition("\n")[0].splitlines()  # the last may be half written
        return [(float(when), json.loads(text)) for when, text in (line.split(" ", 1) for line in lines)]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def generate(server: Server, folder: Path, name: str = "out", **options: object) -> subprocess.Popen[str]:
    classes = folder.parent / "classes.txt"
    if not classes.exists():
        classes.write_text("\n".join(f"kind {number}" for number in range(CLASSES)))
    command = [sys.executable, "-m", "descbench", "generate", str(classes), "-o", str(folder / f"{name}.desc.json")]
    command += ["--llm", f"http://127.0.0.1:{server.port}/v1#m", "--concurrency", str(CONCURRENCY)]
    return subprocess.Popen([*command, "--cache-dir", str(folder)], stderr=subprocess.PIPE, text=True)


def waited(process: subprocess.Popen[str]) -> float:
    """Seconds that the threads of a process were ready to run and had no processor, all together; 0 where the system
    does not say."""
    total = 0.0
    for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has ended
            total += int(path.read_text().split()[1]) / 1e9
    return total


def finished(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


def kept(folder: Path) -> set[str]:
    if not (folder / "replies.sqlite").exists():
        return set()
    store = ReplyStore(folder / "replies.sqlite")
    try:
        requests = [json.loads(request) for (request,) in store.rows("SELECT request FROM replies")]
        return {request["messages"][-1]["content"] for request in requests}
    finally:
        store.close()


@pytest.mark.slow
def test_a_run_that_is_killed_loses_no_reply_and_asks_few_again(tmp_path: Path, server: Server) -> None:
    """ROUNDS times: killed at a random moment, then run to its end; against a run that nobody disturbed."""
    calm = tmp_path / "calm"
    calm.mkdir()
    finished(generate(server, calm))
    expected = (calm / "out.desc.json").read_text()
    chance = random.Random(7)
    twice, lost, oldest = Counter[int](), 0, 0.0
    for round_ in range(ROUNDS):
        folder = tmp_path / str(round_)
        folder.mkdir()
        before = len(server.sent())
        process = generate(server, folder)
        enough = chance.randrange(CLASSES)  # killed when so many replies have left the server, and a moment later
        until = time.monotonic() + 60
        watch = [(time.monotonic(), waited(process))]
        while len(server.sent()) - before < enough and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
            watch.append((time.monotonic(), waited(process)))
        time.sleep(chance.random() * LATENCY)
        when, without = time.monotonic(), waited(process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(2 * LATENCY)  # what the server still writes, it writes to nobody
        there, sent = kept(folder), server.sent()[before:]
        assert there <= {text for _, text in sent}
        missing = {text for moment, text in sent if moment < when} - there
        assert len(missing) <= CONCURRENCY, f"round {round_}: {len(missing)} replies were on their way at most"
        underway = [moment for moment, text in sent if text in missing and moment < when]
        ages = when - np.array(underway) - (without - np.interp(underway, *zip(*watch, strict=True)))
        oldest = max([oldest, *ages])
        lost += int((ages > UNDERWAY).sum())
        finished(generate(server, folder))
        assert (folder / "out.desc.json").read_text() == expected
        again = len(server.sent()) - before - CLASSES
        assert 0 <= again <= CONCURRENCY
        twice[again] += 1
    told = f"{ROUNDS} kills; asked twice, and how often: {sorted(twice.items())}; "
    sys.stdout.write(f"{told}the longest underway of those that were not kept: {1000 * oldest:.0f} ms\n")
    assert lost == 0


def test_two_processes_that_generate_the_same_at_once_both_end_well(tmp_path: Path, server: Server) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    both = [generate(server, folder, name) for name in ("one", "other")]
    for process in both:
        finished(process)
    assert len(kept(folder)) == CLASSES
    assert (folder / "one.desc.json").read_text() == (folder / "other.desc.json").read_text()
    asked = len(server.sent())
    (folder / "one.desc.json").unlink()
    assert f"0 asked, {CLASSES} from the cache" in finished(generate(server, folder, "one"))
    assert len(server.sent()) == asked
