"""Resuming a complete run: 1,000 classes, and the replies about all their 499,500 pairs in the cache.

Nothing is asked. What is measured is the time after imports until the descriptions are there: for the 1,000 classes
(with the pairs' replies in the same table), for all pairs, and for the command with the file that it wrote before.
The last column is the memory that the process holds, beside what the descriptions themselves take.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = int(os.environ.get("BENCH_CLASSES", "1000"))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        filled = _child("fill", cache)
        size = f"{filled['replies']:,.0f} replies, {filled['megabytes']:,.0f} MB"
        print(f"cache: {size}, filled in {filled['seconds']:.0f} s")
        for what in ("classes", "pairs", "again"):
            runs = [_child(what, cache) for _ in range(1 if what == "pairs" else 3)]
            seconds = statistics.median(run["seconds"] for run in runs)
            goal = f"  goal <= 2 s: {'met' if seconds <= 2 else 'MISSED'}"
            print(
                f"{what:8} {runs[0]['subjects']:>9,.0f} subjects  {seconds:7.2f} s {runs[0]['megabytes']:7.0f} MB{goal}"
            )


def _child(what: str, cache: Path) -> dict[str, float]:
    """Each in a process of its own: memory is the peak of one task, and no cache in memory helps the next."""
    done = subprocess.run([sys.executable, __file__, what, str(cache)], check=True, capture_output=True, text=True)
    return {name: float(value) for name, value in (pair.split("=") for pair in done.stdout.split())}


def task(what: str, cache: Path) -> None:
    from descbench import Vocabulary, generation
    from descbench.cli import generate as command
    from descbench.methods import DCLIP, Differential
    from descbench.store import CachedLLM, ReplyStore
    from descbench.testing import FakeLLM

    store = ReplyStore(cache / "replies.sqlite")
    vocabulary = Vocabulary([f"class {number}" for number in range(CLASSES)], "things")
    llm = CachedLLM(FakeLLM(), store)
    file = cache / "pairs.desc.json"
    finished = command._Finished(cache, file, {"bench": CLASSES})
    start = time.perf_counter()
    subjects = CLASSES * (CLASSES - 1) // 2
    if what == "fill":
        _fill(vocabulary, store)
    elif what == "classes":
        found = generation.generate(vocabulary, DCLIP(), llm)
        subjects = len(found.classes)
        assert subjects == CLASSES and llm.asked == 0
    elif what == "pairs":
        found = generation.generate(vocabulary, Differential(), llm)
        assert len(found.pairs) == subjects and llm.asked == 0
        seconds = time.perf_counter() - start
        found.save(file)
        finished.remember()
        start = time.perf_counter() - seconds  # writing the file is not resuming
    else:
        assert finished.already()
    seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if what == "fill":
        megabytes = store.path.stat().st_size / 1e6
    print(f"subjects={subjects} replies={len(store)} seconds={seconds} megabytes={megabytes}")


def _fill(vocabulary: object, store: object) -> None:
    from descbench.methods import DCLIP, Differential
    from descbench.prompts import Reply
    from descbench.store.replies import _row, canonical, plain_request
    from descbench.testing import FakeLLM

    llm = FakeLLM()
    sample = {}
    for method in (DCLIP(), Differential()):
        rows = []
        for number, subject in enumerate(method.subjects(vocabulary)):
            for question in method.questions(vocabulary, subject):
                text = sample.setdefault((method, number % 1000), llm._reply(question).text)  # drawing is slow
                request = canonical(plain_request(llm.fingerprint, question))
                rows.append(_row(request, question, Reply(text, "stop", "fake", {"prompt_tokens": 1}), repr(llm)))
            if len(rows) >= 100_000:
                store.add(sorted(rows))  # in the order of the index, which is faster
                rows = []
        store.add(sorted(rows))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        task(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
