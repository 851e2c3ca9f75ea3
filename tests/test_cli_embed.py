"""`descbench embed`, and what follows from it: later commands need no model, and ranks share the work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from test_encoders_open_clip import CONFIG, save_model

from descbench.datasets import DATASETS
from descbench.embedding import embed
from descbench.encoders import DemoEncoder
from descbench.store import CachedEncoder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, sample in enumerate(DATASETS["demo"].from_spec("n=12").samples()):
        path = tmp_path / "photos" / f"class {index % 3}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.load().save(path)
    return tmp_path / "photos"


def test_a_second_run_encodes_only_what_is_new(run: Run, photos: Path) -> None:
    done = run("embed", f"folder:{photos}", "-e", "demo", "--batch-size", "5")
    assert done.code == 0 and done.err == ""
    assert "12 images, 12 encoded, 0 known already, " in done.out and "images/s" in done.out
    assert "images/s" not in run("embed", f"folder:{photos}", "-e", "demo").out
    shutil.copy(photos / "class 0" / "00.png", photos / "class 1" / "again.png")
    (photos / "class 2" / "broken.png").write_bytes(b"x")
    done = run("embed", f"folder:{photos}", "-e", "demo", "--json")
    assert done.code == 3 and "1 image cannot be read:\n" in done.err and "broken.png" in done.err
    told = json.loads(done.out)
    assert (told["images"], told["encoded"], len(told["failures"])) == (14, 0, 1)
    run("embed", "demo:n=15", "--cache-dir", "elsewhere", "--limit", "6")
    told = json.loads(run("embed", "demo:n=15", "--cache-dir", "elsewhere", "--json").out)
    assert (told["images"], told["encoded"]) == (15, 9)
    kept = embed(DATASETS["demo"].from_spec("n=15"), CachedEncoder(DemoEncoder(), "elsewhere/features"))
    assert np.allclose(kept.features, embed(DATASETS["demo"].from_spec("n=15"), DemoEncoder()).features, atol=1e-5)


def test_what_cannot_be_encoded_is_said_in_one_line(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("x.npz", features=np.eye(3, dtype=np.float32), texts=np.array(["a"]), text_features=np.eye(1, 3))
    for arguments, message in [
        (["features:x.npz", "-e", "demo"], "holds features, not images"),
        ([f"folder:{photos}", "-e", "features:x.npz"], "encodes no images"),
    ]:
        done = run("embed", *arguments)
        assert done.code == 2 and message in done.err
    monkeypatch.setenv("RANK", "2")
    done = run("embed", f"folder:{photos}", "-e", "demo")
    assert done.code == 2 and "RANK is '2' and WORLD_SIZE is ''" in done.err


def test_features_are_listed_shown_and_pruned_beside_replies(run: Run, photos: Path) -> None:
    run("embed", "demo:n=4")
    run("evaluate", "demo:n=4", "--no-baselines", "-m", "classname")
    done = run("cache", "ls")
    assert done.code == 0 and "  demo  4 images, 40 texts, " in done.out and "of demo:n=4" in done.out
    (kept,) = json.loads(run("cache", "ls", "--json").out)["features"]
    assert (kept["spelling"], kept["images"], kept["texts"], kept["sets"][0]["rows"]) == ("demo", 4, 40, 4)
    for what in ("demo", Path(kept["folder"]).name[:6]):
        assert "demo:n=4: 4 images" in run("cache", "show", what).out
    assert "would be deleted" in run("cache", "prune", "--encoder", "demo").err
    assert run("cache", "prune", "--encoder", "emu").code == 2
    assert run("cache", "prune", "--features", "--superseded").code == 2
    assert Path(kept["folder"]).exists()
    assert "deleted" in run("cache", "prune", "--features", "--yes").err
    assert not Path(kept["folder"]).exists()
    assert run("cache", "ls").code == 2


WARM = """
import sys
from descbench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(sorted({"open_clip", "transformers", "timm", "pyarrow", "PIL.Image"} & set(sys.modules)))
"""


def test_a_second_evaluate_loads_no_model(run: Run, photos: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", CONFIG)
    arguments = ["evaluate", f"folder:{photos}", "-e", f"open_clip:local-dir:{tmp_path / 'model'}", "--device", "cpu"]
    cold = run(*arguments)
    assert cold.code == 0
    done = subprocess.run([sys.executable, "-c", WARM, *arguments], capture_output=True, text=True, check=True)
    table, _, imported = done.stdout.strip().rpartition("\n")
    assert table.strip() == cold.out.strip()
    # Without open_clip there is no architecture to put weights into. The loader of pictures is imported, and not used.
    assert imported == "['PIL.Image']"


MANY = 12 + 600 * 6


def ranks(photos: Path, *options: str, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", str(restarts), "-m", "descbench"]
    command += ["embed", f"folder:{photos}", "-e", "demo", "--device", "cpu", "--cache-dir", "shared", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def kill_one(running: subprocess.Popen[str]) -> None:
    """One of the two processes, once there are features."""
    deadline = time.monotonic() + 120
    while not list(Path("shared").rglob("images-*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    last = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[-1]
    os.kill(int(last), signal.SIGKILL)


@pytest.fixture
def many(photos: Path) -> Path:
    """`MANY` pictures, enough that features are kept before the last one is encoded. Many differ only in bytes behind
    the picture, which nothing reads."""
    for index, sample in enumerate(DATASETS["demo"].from_spec("n=600,seed=1").samples()):
        path = photos / f"class {index % 3}" / f"more{index:03d}.png"
        sample.load().save(path)
        for copy in range(5):
            path.with_stem(f"{path.stem}-{copy}").write_bytes(path.read_bytes() + bytes([copy]))
    return photos


def check_shared(run: Run, photos: Path) -> None:
    """The folder and the features are those of one process."""
    (kept,) = json.loads(run("cache", "ls", "--json", "--cache-dir", "shared").out)["features"]
    assert kept["images"] == MANY
    assert [(one["rows"], one["shares"], one["processes"]) for one in kept["sets"]] == [(MANY, 1, 1)]
    assert len(list(Path("shared").rglob("images-*"))) == 1
    one = embed(DATASETS["folder"].from_spec(str(photos)), DemoEncoder(device="cpu"))
    two = embed(DATASETS["folder"].from_spec(str(photos)), CachedEncoder(DemoEncoder(device="cpu"), "shared/features"))
    assert one.ids == two.ids
    assert np.allclose(one.features, two.features, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of torchrun are found in /proc")
def test_ranks_of_torchrun_make_the_features_of_one_process(run: Run, many: Path) -> None:
    killed = ranks(many, "--batch-size", "2")
    kill_one(killed)  # torchrun then ends the other one
    killed.communicate(timeout=60)
    assert killed.returncode != 0
    there = json.loads(run("cache", "ls", "--json", "--cache-dir", "shared").out)["features"][0]["images"]
    assert 0 < there < MANY
    out, err = ranks(many, "--json").communicate(timeout=240)
    told = json.loads(out)
    assert (told["images"], told["encoded"], told["failures"]) == (MANY, MANY - there, []), err
    check_shared(run, many)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of torchrun are found in /proc")
def test_a_lost_rank_goes_on_by_itself_where_torchrun_may_restart(run: Run, many: Path) -> None:
    running = ranks(many, "--batch-size", "2", "--json", restarts=1)
    kill_one(running)
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    told = json.loads(out)
    assert told["images"] == MANY and told["encoded"] < MANY
    check_shared(run, many)


@pytest.mark.slow
def test_two_commands_at_once_on_one_cache_both_end_well(run: Run, many: Path) -> None:
    command = [sys.executable, "-m", "descbench", "embed", f"folder:{many}", "-e", "demo", "--device", "cpu", "--json"]
    environment = os.environ | {"DESCBENCH_CACHE": "shared", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) for _ in range(2)]
    for running in both:
        out, err = running.communicate(timeout=240)
        assert (running.returncode, err) == (0, "") and json.loads(out)["images"] == MANY
    (kept,) = json.loads(run("cache", "ls", "--json", "--cache-dir", "shared").out)["features"]
    assert (kept["images"], kept["sets"][0]["rows"]) == (MANY, MANY)
    again = json.loads(run("embed", f"folder:{many}", "-e", "demo", "--cache-dir", "shared", "--json").out)
    assert again["encoded"] == 0
    assert not list(Path("shared").rglob(".*"))
