"""What comparing two kept runs of a million images costs, from their folders to the sentence: seconds and memory.

    python benchmarks/compare.py [IMAGES]

1,000 classes, the 20 best of each image, 10,000 draws of the bootstrap; in processes of their own, as a person runs
it. The goal for a million is 10 seconds and 2 GB. On a busy machine the seconds of processors say more than the clock.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from descbench import Evaluation, Predictions, Vocabulary
from descbench.calibration import Softmax

C, K, ROUNDS = 1_000, 20, 3


def kept(folder: Path, N: int) -> tuple[int, int]:
    """Two runs in their folders; how many images only the second has right, and only the first."""
    draw = np.random.default_rng(0)
    classes = Vocabulary([f"class {i}" for i in range(C)])
    labels, names = draw.integers(0, C, N), tuple(f"pixels:{i:032x}" for i in range(N))
    scores = -np.sort(-draw.random((N, K), dtype=np.float32), axis=1)
    first = draw.random(N) < 0.5
    second = first ^ (draw.random(N) < 0.05)
    for name, hit in (("a", first), ("b", second)):
        ids = (labels[:, None] + np.where(hit, 0, 1)[:, None] + np.arange(K)) % C
        softmax = Softmax(100.0, 100.0 * scores[:, 0].astype(np.float64) + 1)
        found = Predictions(classes, ids, scores)
        Evaluation(found, labels, names, "made", name, "none", softmax=softmax, label_score=scores[:, 1]).save(
            folder / name
        )
    return int((second & ~first).sum()), int((first & ~second).sum())


COMMAND = """
import sys
from descbench.cli import main
try:
    main(["compare", *sys.argv[1:], "--json"])
except SystemExit:
    pass
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def main(N: int) -> None:
    import json

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gained, lost = kept(folder, N)
        seconds, worked, peak = [], [], 0.0
        for _ in range(ROUNDS):
            start, before = time.perf_counter(), sum(os.times()[2:4])
            runs = [str(folder / run) for run in "ab"]
            done = subprocess.run([sys.executable, "-c", COMMAND, *runs], check=True, capture_output=True, text=True)
            seconds.append(time.perf_counter() - start)
            worked.append(sum(os.times()[2:4]) - before)
            told = json.loads(done.stdout)["differences"]["b"]
            assert (told["gained"], told["lost"]) == (gained, lost)
            peak = max(peak, int(done.stderr.split()[-1]) / 1e6)
    print(f"two runs of {N:,} images, {C:,} classes, {K} ranks; medians of {ROUNDS} rounds")
    print(
        f"  descbench compare{statistics.median(seconds):9.1f} s{statistics.median(worked):9.1f} s of cores"
        f"{peak:9.2f} GB at most   (goal: 10 s, 2 GB)"
    )


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["1000000"])[0]))
