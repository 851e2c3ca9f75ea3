"""`evaluate -o` when something is wrong around it: killed, a full disk, a cache that cannot be written, two at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from descbench import Evaluation

ROUNDS = int(os.environ.get("EVALUATE_KILL_ROUNDS", "50"))
COMMAND = ("evaluate", "demo:n=200", "-e", "demo", "-m", "classname", "-m", "waffle", "--json")


def start(folder: Path, *more: str, before: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own, in a folder with runs/ and a cache."""
    line = [sys.executable, "-m", "descbench", *COMMAND, "-o", "runs", "--cache-dir", "kept", *more]
    if before:
        line = ["bash", "-c", f'{before}; exec "$0" "$@"', *line]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=environment)


def finished(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def runs(folder: Path) -> dict[str, Evaluation]:
    """The whole runs of a folder: one that cannot be loaded is an error."""
    return {path.parent.name: Evaluation.load(path.parent) for path in sorted((folder / "runs").glob("*/run.json"))}


def count(folder: Path) -> int:
    """How many files and folders there are; some may go while they are counted."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def same(one: Evaluation, other: Evaluation) -> bool:
    first, second = one.predictions, other.predictions
    return (
        one.ids == other.ids
        and first.ids.tobytes() == second.ids.tobytes()
        and np.array_equal(first.scores, second.scores)
        and one.metrics == other.metrics
    )


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_whole_runs_only_and_ends_well_afterwards(tmp_path: Path) -> None:
    """ROUNDS times when a random number of files is there, and a moment later; in a third of the cases with nothing
    kept before. Then once to the end."""
    calm = tmp_path / "calm"
    calm.mkdir()
    told, _ = finished(start(calm))
    expected, total = runs(calm), count(calm)
    chance, killed, seen = random.Random(7), 0, 0
    folder = tmp_path / "killed"
    folder.mkdir()
    for number in range(ROUNDS):
        shutil.rmtree(folder / "runs", ignore_errors=True)
        if number % 3 == 0:
            shutil.rmtree(folder / "kept", ignore_errors=True)
        enough = chance.randrange(count(folder), total)
        process = start(folder)
        while count(folder) < enough and process.poll() is None:
            time.sleep(0.002)
        time.sleep(0.05 * chance.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        there = runs(folder)
        seen += bool(there) and len(there) < len(expected)
        assert all(same(run, expected[name]) for name, run in there.items()), f"round {number}"
    again, _ = finished(start(folder))
    assert again == told
    found = runs(folder)
    assert list(found) == list(expected) and all(same(run, expected[name]) for name, run in found.items())
    assert not list((folder / "runs").rglob("*.part"))
    sys.stdout.write(f"{killed} of {ROUNDS} were killed before their end, {seen} with some runs whole and others not\n")
    assert killed > ROUNDS / 3


@pytest.mark.slow
def test_two_evaluations_at_once_on_one_cache_both_end_well(tmp_path: Path) -> None:
    both = [start(tmp_path, "-o", name) for name in ("one", "other")]  # the last -o counts
    (one, _), (other, _) = (finished(process) for process in both)
    assert one == other
    for path in (tmp_path / "one").iterdir():
        assert same(Evaluation.load(path), Evaluation.load(tmp_path / "other" / path.name))


@pytest.mark.slow
def test_two_evaluations_at_once_into_one_folder_leave_the_runs_of_one_of_them(tmp_path: Path) -> None:
    """The second is refused, unless the first has ended before it begins."""
    both = [start(tmp_path, "--seeds", number) for number in ("2", "3")]
    told = [process.communicate(timeout=300) for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 2], [0, 0]), told
    for code, (out, err) in zip(codes, told, strict=True):
        assert code == 0 or (not out and "error: another process keeps runs in runs at this moment; wait" in err)
    found = runs(tmp_path)
    assert len(found) == max(3 + seeds for seeds, code in zip((2, 3), codes, strict=True) if code == 0)
    assert all(run.metrics for run in found.values()) and not list((tmp_path / "runs").rglob("*.part"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files needs a shell with ulimit")
def test_a_disk_that_is_full_is_said_in_one_line_and_no_half_file_is_taken_for_whole(tmp_path: Path) -> None:
    """By a limit on the size of a file: the features of 200 images need more, and in a second run predictions do."""
    _, err = finished(start(tmp_path, before="ulimit -f 8"), code=2)
    assert "feature cache" in err and "cannot be written: " in err and "see that the disk has room" in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert not list((tmp_path / "kept").rglob("images-*"))
    calm, _ = finished(start(tmp_path))
    expected = runs(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    _, err = finished(start(tmp_path, before="ulimit -f 8"), code=2)
    assert "the run cannot be kept in runs/01-classname: " in err and "choose another folder with -o" in err
    assert runs(tmp_path) == {}
    again, _ = finished(start(tmp_path))
    assert again == calm and all(same(run, expected[name]) for name, run in runs(tmp_path).items())


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "features").write_text("a file where a folder should be")
    _, err = finished(start(tmp_path), code=2)
    assert "feature cache 'kept/features/" in err and "or give another cache folder" in err
    assert not (tmp_path / "runs").exists()
