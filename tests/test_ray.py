"""`descbench embed --engine ray`: the features of one process, whatever happens to those who encode."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Run

from descbench.cluster import _Actor, _batch
from descbench.datasets import DATASETS
from descbench.decoding import Batch
from descbench.embedding import embed
from descbench.encoders import DemoEncoder
from descbench.errors import AccessError, InputError
from descbench.store import CachedEncoder
from descbench.testing import FakeEncoder

# Ray runs in processes of its own, as a user runs it; here it would leave threads and warnings behind.
slow = pytest.mark.slow

# An encoder that kills the process it is in, by SIGKILL and in the middle of a block: once, or at each third batch.
KILLED = """
import os, signal, sys
from pathlib import Path
from descbench.cluster import Pool, keep
from descbench.datasets import FolderDataset
from descbench.encoders import DemoEncoder
from descbench.store import CachedEncoder

class Killed(DemoEncoder):
    batches = 0
    always = sys.argv[1] == "always"  # said here: the class is sent to the actors

    def encode_pixels(self, pixels):
        self.batches += 1
        with open("processes.txt", "a") as told:
            told.write(f"{os.getpid()}\\n")
        if self.batches == 3 and (self.always or not Path("killed").exists()):
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_pixels(pixels)

kept = keep(FolderDataset("photos"), CachedEncoder(Killed(device="cpu"), "kept/features"), Pool(batch_size=4))
print(kept.images, kept.encoded, len(kept.failures))
"""


# An encoder that fails by an error which is not ours, as when memory is short.
FAILING = """
from descbench.cluster import Pool, keep
from descbench.datasets import FolderDataset
from descbench.encoders import DemoEncoder
from descbench.store import CachedEncoder

class Failing(DemoEncoder):
    def encode_pixels(self, pixels):
        raise RuntimeError("out of memory on this device")

keep(FolderDataset("photos"), CachedEncoder(Failing(device="cpu"), "kept/features"), Pool(batch_size=4))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    for index, sample in enumerate(DATASETS["demo"].from_spec("n=90").samples()):
        path = tmp_path / "photos" / f"class {index % 3}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.load().save(path)
    return tmp_path / "photos"


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def check_kept(photos: Path, root: str, count: int) -> None:
    """Each picture's feature is there once, and is that of one process."""
    data = DATASETS["folder"].from_spec(str(photos))
    cached = CachedEncoder(DemoEncoder(device="cpu"), root)
    assert len(cached._shelf("images")) == count
    one, many = embed(data, DemoEncoder(device="cpu")), embed(data, cached)
    assert one.ids == many.ids and len(set(one.ids)) == count
    assert np.allclose(one.features, many.features, atol=1e-5)


@slow
def test_a_cluster_makes_the_features_of_one_process_and_tells_what_it_could_not_read(run: Run, photos: Path) -> None:
    (photos / "class 1" / "broken.png").write_bytes(b"x")
    (photos / "class 2" / "again.png").write_bytes((photos / "class 0" / "00.png").read_bytes())
    command = ("-m", "descbench", "embed", "folder:photos", "-e", "demo", "--device", "cpu", "--engine", "ray")
    done = started(*command, "--actors", "2", "--batch-size", "4", "--json")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["encoded"]) == (92, 90)
    ((source, reason),) = told["failures"]
    assert source == "photos/class 1/broken.png" and "not a picture" in reason
    check_kept(photos, "kept/features", 90)
    (kept,) = json.loads(run("cache", "ls", "--json").out)["features"]
    assert (kept["images"], kept["sets"][0]["rows"]) == (90, 91)
    done = run("embed", "folder:photos", "-e", "demo", "--json")
    assert json.loads(done.out)["encoded"] == 0


@slow
def test_a_killed_process_costs_its_block_and_no_row(run: Run, photos: Path) -> None:
    done = started("-c", KILLED, "once")
    assert done.stdout.splitlines()[-1] == "90 90 0", done.stderr
    assert Path("killed").exists()
    processes = Path("processes.txt").read_text().split()
    assert len(set(processes)) > 1
    check_kept(photos, "kept/features", 90)


@slow
def test_processes_that_are_killed_again_and_again_end_the_run(run: Run, photos: Path) -> None:
    done = started("-c", KILLED, "always")
    assert done.returncode == 1 and "PartialError: the actors of the cluster were lost" in done.stderr
    assert "90 90 0" not in done.stdout


@slow
def test_what_fails_in_an_actor_is_said_and_not_that_it_was_lost(run: Run, photos: Path) -> None:
    done = started("-c", FAILING)
    assert done.returncode == 1
    assert "PartialError: an actor of the cluster failed (RuntimeError: out of memory on this device)." in done.stderr


class Refusing(FakeEncoder):
    """One of whose model there is nothing on the machine that encodes."""

    def encode_images(self, images: Sequence[Any]) -> Any:
        raise AccessError("cannot get it: give a folder")


def sent_back(encoder: Any, fingerprint: str) -> Batch:
    """What an actor makes of a block, as the one who keeps reads it. No cluster is needed for that."""
    samples = list(DATASETS["demo"].from_spec("n=3").samples())
    actor = _Actor(pickle.dumps(encoder), fingerprint, ".", 2, 1)
    made = actor({"samples": [pa.scalar(pickle.dumps(samples))]}).to_pydict()
    return _batch({sample.id: sample for sample in samples}, made["id"], made["made"])


def test_an_actor_sends_back_rows_or_the_error_that_ended_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    made = sent_back(FakeEncoder(), FakeEncoder().fingerprint)
    pictures = [sample.load() for sample in made.samples]
    assert len(pictures) == 3 and np.array_equal(made.inputs, FakeEncoder().encode_images(pictures))
    with pytest.raises(AccessError, match=r"^cannot get it: give a folder$"):  # as this kind, for its exit code
        sent_back(Refusing(), Refusing().fingerprint)
    with pytest.raises(InputError, match="is another model on another machine of the cluster"):
        sent_back(FakeEncoder(), "what was sent")


@slow
def test_what_cannot_be_on_a_cluster_is_said_in_one_line(run: Run, photos: Path) -> None:
    for arguments, message in [
        (["--actors", "3"], "add --engine ray"),
        (["--engine", "ray", "--actors", "x"], "a number, as 4, or the least and the most"),
        (["--engine", "ray", "--actors", "3:2"], "the smaller first"),
        (["--engine", "ray", "--gpus-per-actor", "1.5"], "a part of one"),
        (["--engine", "ray", "--workers", "2"], "leave torchrun and --workers out"),
    ]:
        done = run("embed", "folder:photos", "-e", "demo", *arguments)
        assert done.code == 2 and message in done.err and len(done.err.splitlines()) == 1
    done = started(
        "-m", "descbench", "embed", "folder:photos", "-e", "demo", "--engine", "ray", "--address", "127.0.0.1:9"
    )
    assert done.returncode == 2 and "no Ray cluster at '127.0.0.1:9' can be reached: Connection refused" in done.stderr
    done = started("-m", "descbench", "embed", "folder:photos", "-e", "demo", "--engine", "ray", "--actors", "900")
    assert done.returncode == 2 and "and 900 are asked for" in done.stderr
