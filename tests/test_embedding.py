"""From a data set to features: in order, each picture once, and what cannot be read is counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import descbench as db
from descbench import embedding
from descbench.datasets import DATASETS, Sample
from descbench.embedding import Kept, embed, keep
from descbench.errors import InputError, PartialError
from descbench.progress import shown
from descbench.store import CachedEncoder


class Mean:
    """The mean colour as a unit row."""

    name = "mean"
    fingerprint = "mean/1"
    logit_scale = 1.0

    def __init__(self, fails_after: int = 10**9) -> None:
        self.batches: list[int] = []
        self.fails_after = fails_after

    def __repr__(self) -> str:
        return "mean"

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        if len(self.batches) >= self.fails_after:
            raise RuntimeError("killed")
        self.batches.append(len(images))
        return torch.stack([torch.from_numpy(row_of(image)) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        raise NotImplementedError


def row_of(image: Image.Image) -> np.ndarray:
    mean = np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) + 1
    return mean / np.linalg.norm(mean)


def colour(index: int) -> tuple[int, int, int]:
    return (index * 7 % 256, index * 31 % 256, 255 - index)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(50):
        path = tmp_path / "photos" / ("hen", "rooster")[index // 25] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour(index)).save(path)
    return tmp_path / "photos"


def folder(path: Path):
    return DATASETS["folder"].from_spec(str(path))


EXPECTED = np.stack([row_of(Image.new("RGB", (8, 8), colour(i))) for i in range(50)])


def test_rows_come_in_the_order_of_the_data_set_with_their_labels(photos: Path) -> None:
    encoder = Mean()
    found = embed(folder(photos), encoder, batch_size=8)
    assert np.allclose(found.features, EXPECTED, atol=1e-6)
    assert found.features.dtype == np.float32
    assert found.labels.tolist() == [0] * 25 + [1] * 25
    assert [Path(source).name for source in found.sources] == [f"{i:02d}.png" for i in range(50)]
    assert found.ids == tuple(sample.id for sample in folder(photos).samples())
    assert encoder.batches == [8] * 6 + [2]
    assert (len(found), found.failures) == (50, ())


def test_a_picture_that_cannot_be_read_is_listed_and_has_no_row(photos: Path) -> None:
    (photos / "hen" / "03.png").write_bytes(b"")
    (photos / "rooster" / "30.png").write_text("text")
    found = embed(folder(photos), Mean(), batch_size=8)
    good = [i for i in range(50) if i not in (3, 30)]
    assert np.allclose(found.features, EXPECTED[good], atol=1e-6)
    assert found.labels.tolist() == [int(i >= 25) for i in good]
    assert [Path(source).name for source, _ in found.failures] == ["03.png", "30.png"]
    assert "the file is empty" in found.failures[0][1]


def test_no_readable_picture_at_all_is_an_error(photos: Path) -> None:
    for path in photos.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of its 50 images can be read\. cannot read image .* empty"):
        embed(folder(photos), Mean())


def test_equal_pictures_are_encoded_once_and_keep_their_own_labels(photos: Path) -> None:
    (photos / "rooster" / "99.png").write_bytes((photos / "hen" / "00.png").read_bytes())
    encoder = Mean()
    found = embed(folder(photos), encoder)
    assert sum(encoder.batches) == 50
    assert len(found) == 51
    assert np.array_equal(found.features[0], found.features[50])
    assert (found.labels[0], found.labels[50]) == (0, 1)


def test_a_second_run_encodes_nothing_and_a_new_picture_alone(photos: Path, tmp_path: Path) -> None:
    first = embed(folder(photos), CachedEncoder(Mean(), tmp_path / "cache"))
    again = Mean()
    second = embed(folder(photos), CachedEncoder(again, tmp_path / "cache"))
    assert again.batches == []
    assert np.array_equal(first.features, second.features)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(photos / "hen" / "24x.png")
    third = embed(folder(photos), CachedEncoder(again, tmp_path / "cache"))
    assert again.batches == [1]
    assert np.allclose(third.features[25], row_of(Image.new("RGB", (8, 8), (1, 2, 3))), atol=1e-6)


def test_what_was_encoded_before_a_failure_is_kept(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        embed(folder(photos), CachedEncoder(Mean(fails_after=5), tmp_path / "cache"), batch_size=8)
    again = Mean()
    found = embed(folder(photos), CachedEncoder(again, tmp_path / "cache"), batch_size=8)
    assert sum(again.batches) == 10
    assert np.allclose(found.features, EXPECTED, atol=1e-6)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:-1], r"encoder mean: .* shape \(7, 3\).*\(8, D\)"),
        (lambda rows: rows[0], r"encoder mean: .* shape \(3,\)"),
        (lambda rows: rows.index_fill(0, torch.tensor([2]), torch.nan), r"encoder mean: row 2 .*02\.png'\) holds NaN"),
    ],
)
def test_an_encoder_that_gives_no_features_is_named_with_the_picture(photos: Path, spoil, message: str) -> None:
    class Broken(Mean):
        def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
            return spoil(super().encode_images(images))

    with pytest.raises(InputError, match=message):
        embed(folder(photos), Broken(), batch_size=8)


def test_ready_features_pass_through(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", features=EXPECTED, labels=np.arange(50) % 2, names=np.array(["a", "b"]))
    data = DATASETS["features"].from_spec(str(tmp_path / "x.npz"))
    encoder = Mean()
    found = embed(data, encoder)
    assert encoder.batches == []
    assert np.allclose(found.features, EXPECTED, atol=1e-6)
    assert (found.ids, found.sources, found.labels.tolist()) == (data.ids, data.ids, [0, 1] * 25)


def test_progress_ends_at_the_total(photos: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    with shown(lambda *event: heard.append(event)):
        embed(folder(photos), Mean(), batch_size=20)
    assert heard == [("encoding images", 20, 50), ("encoding images", 40, 50), ("encoding images", 50, 50)]


def test_pictures_are_decoded_ahead_but_never_all_at_once() -> None:
    class Counting:
        name = fingerprint = "counting"
        names: tuple[str, ...] = ()
        opened = 0
        most_ahead = 0
        encoded = 0

        def __len__(self) -> int:
            return 200

        def load(self) -> Image.Image:
            self.opened += 1
            self.most_ahead = max(self.most_ahead, self.opened - self.encoded)
            return Image.new("RGB", (2, 2))

        def samples(self) -> Iterator[Sample]:
            return (Sample(str(i), self.load) for i in range(200))

    data = Counting()

    class Counted(Mean):
        def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
            rows = super().encode_images(images)
            data.encoded += len(images)
            return rows

    assert (embed(data, Counted(), batch_size=10).labels == -1).all()
    assert data.most_ahead <= 30


class Pixels(Mean):
    """The same by way of `preprocess`, which keeps a note of where it ran, and `encode_pixels`."""

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image, dtype=np.float32).mean(axis=(0, 1)))

    def encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        return torch.nn.functional.normalize(pixels + 1)

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        raise AssertionError("there are encode_pixels")


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_prepared_ahead_in_threads_and_in_processes(photos: Path, workers: int) -> None:
    for name in ("hen/00.png", "hen/01.png", "rooster/30.png"):
        (photos / name).write_text(name)  # no two are equal
    good = [i for i in range(50) if i not in (0, 1, 30)]
    encoder = Pixels()
    found = embed(folder(photos), encoder, batch_size=8, workers=workers)
    assert np.allclose(found.features, EXPECTED[good], atol=1e-6)
    assert [Path(source).name for source, _ in found.failures] == ["00.png", "01.png", "30.png"]
    assert encoder.batches == [6, 8, 8, 7, 8, 8, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_first_batch_that_cannot_be_read_at_all_is_no_obstacle(photos: Path, workers: int) -> None:
    for index in range(8):
        (photos / "hen" / f"{index:02d}.png").write_text(f"no picture {index}")
    found = embed(folder(photos), Pixels(), batch_size=8, workers=workers)
    assert np.allclose(found.features, EXPECTED[8:], atol=1e-6)
    assert len(found.failures) == 8


def test_plain_encoders_may_have_their_pictures_decoded_by_processes(photos: Path) -> None:
    assert np.allclose(embed(folder(photos), Mean(), workers=2).features, EXPECTED, atol=1e-6)


def test_pictures_that_cannot_be_sent_to_a_process_are_refused(photos: Path) -> None:
    class Local:
        name = fingerprint = "local"
        names = ("a",)

        def __len__(self) -> int:
            return 1

        def samples(self) -> Iterator[Sample]:
            yield Sample("x", lambda: Image.new("RGB", (2, 2)), 0, "x")

    with pytest.raises(InputError, match=r"cannot be sent to other processes .*--workers 0"):
        embed(Local(), Mean(), workers=2)


def end() -> Image.Image:
    os._exit(1)


def test_a_process_that_is_killed_ends_the_run_and_what_was_encoded_is_kept(photos: Path, tmp_path: Path) -> None:
    class Deadly:
        name = fingerprint = "deadly"
        names = ("a",)

        def __len__(self) -> int:
            return 50

        def samples(self) -> Iterator[Sample]:
            for i, sample in enumerate(folder(photos).samples()):
                yield sample if i < 40 else Sample(str(i), end, 0, str(i))

    cached = CachedEncoder(Pixels(), tmp_path / "cache")
    with pytest.raises(PartialError, match=r"was killed.*What was encoded is kept"):
        embed(Deadly(), cached, batch_size=8, workers=2)
    kept = cached.knows_images([sample.id for sample in folder(photos).samples()])
    assert kept[:8].all() and not kept[40:].any()


def test_samples_are_taken_as_they_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedding, "_WINDOW", 16)
    monkeypatch.setattr(embedding, "_LOST", 0.0)

    class Many:
        name = fingerprint = "many"
        names = ("a",)
        taken = most_ahead = 0

        def __len__(self) -> int:
            return 400

        def samples(self) -> Iterator[Sample]:
            for i in range(400):
                self.taken += 1
                self.most_ahead = max(self.most_ahead, self.taken - sum(encoder.batches))
                yield Sample(str(i), lambda i=i: Image.new("RGB", (2, 2), colour(i)), 0, str(i))

    data, encoder = Many(), Mean()
    kept = keep(data, CachedEncoder(encoder, tmp_path), batch_size=8)
    assert (kept.images, kept.encoded, kept.failures) == (400, 400, ())
    assert data.most_ahead <= 3 * 16 + 3 * 8


def test_a_picture_that_occurs_again_later_is_not_encoded_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(50):
        (photos / "rooster" / f"x{index:02d}.png").write_bytes(
            (photos / ("hen", "rooster")[index // 25] / f"{index:02d}.png").read_bytes()
        )
    for lost in (0.0, 1e9):  # the first are kept already, or only made
        monkeypatch.setattr(embedding, "_WINDOW", 8)
        monkeypatch.setattr(embedding, "_LOST", lost)
        encoder = Mean()
        found = embed(folder(photos), CachedEncoder(encoder, tmp_path / str(lost)), batch_size=8)
        assert sum(encoder.batches) == 50
        assert np.allclose(found.features, np.concatenate([EXPECTED, EXPECTED]), atol=1e-6)


def test_a_data_set_that_holds_more_than_it_says_is_taken_whole(photos: Path) -> None:
    class Short:
        name = fingerprint = "short"
        names = ("hen", "rooster")

        def __len__(self) -> int:
            return 3

        def samples(self) -> Iterator[Sample]:
            return folder(photos).samples()

    assert np.allclose(embed(Short(), Mean(), batch_size=8).features, EXPECTED, atol=1e-6)


def test_a_set_is_listed_beside_its_features(photos: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (photos / "hen" / "03.png").write_bytes(b"")
    cached = CachedEncoder(Mean(), tmp_path / "cache")
    kept = keep(folder(photos), cached)
    assert isinstance(kept, Kept) and kept.listing is not None
    listed = pq.read_table(kept.listing).sort_by("row").to_pydict()
    good = [i for i in range(50) if i != 3]
    samples = list(folder(photos).samples())
    assert listed["row"] == good
    assert listed["id"] == [samples[i].id for i in good]
    assert listed["label"] == [int(i >= 25) for i in good]
    assert listed["source"] == [samples[i].source for i in good]
    written = kept.listing.stat().st_mtime_ns
    assert keep(folder(photos), cached).listing == kept.listing
    assert kept.listing.stat().st_mtime_ns == written
    assert embed(folder(photos), cached).ids == tuple(listed["id"])
    assert len(list(kept.listing.parent.iterdir())) == 1
    (photos / "hen" / "04.png").unlink()
    assert keep(folder(photos), cached).listing != kept.listing


# The encoder of the processes below: numpy only, so that they start fast.
CHILD = """
import json, sys, time
import numpy as np
from descbench import embedding
from descbench.datasets import DATASETS
from descbench.embedding import keep
from descbench.store import CachedEncoder

class Slow:
    name = fingerprint = "slow"
    logit_scale = 1.0
    def __init__(self, seconds): self.seconds = seconds
    def encode_images(self, images):
        time.sleep(self.seconds)
        print(len(images), flush=True)
        rows = np.stack([np.asarray(i, dtype=np.float32).mean(axis=(0, 1)) + 1 for i in images])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

photos, root, rank, number, seconds = sys.argv[1:]
embedding._LOST = 0.0
embedding._WINDOW = 8
encoder = CachedEncoder(Slow(float(seconds)), root)
kept = keep(DATASETS["folder"].from_spec(photos), encoder, batch_size=2, part=(int(rank), int(number)))
print(json.dumps([kept.images, kept.encoded, str(kept.listing)]))
"""


def started(photos: Path, root: Path, rank: int, number: int, seconds: float = 0.0) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, *map(str, (photos, root, rank, number, seconds))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> list:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


class Unloadable(Mean):
    fingerprint = "slow"

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        raise AssertionError("everything is kept")


def test_two_processes_share_a_data_set_and_one_that_is_killed_is_resumed(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "cache"
    first, second = started(photos, root, 0, 2), started(photos, root, 1, 2, seconds=0.2)
    assert second.stdout is not None
    done = sum(int(second.stdout.readline()) for _ in range(4))
    second.send_signal(signal.SIGKILL)
    second.wait()
    second.stdout.close()
    assert ended(first)[:2] == [25, 25]
    images, encoded, listing = ended(started(photos, root, 1, 2))
    assert images == 25
    assert 25 - done <= encoded <= 25 - done + 2  # the batch that was made and not kept yet, at most
    assert listing.endswith("-1of2.parquet")
    whole = embed(folder(photos), CachedEncoder(Unloadable(), root))
    assert np.allclose(whole.features, EXPECTED, atol=1e-6)
    cached = CachedEncoder(Unloadable(), root)
    cached.tidy()
    cached.knows_images(["any"])
    cached.tidy()
    assert len(list(cached.folder.glob("*.safetensors"))) == 1


def test_the_aviary_is_the_same_for_every_n_and_renders_what_it_names() -> None:
    pytest.importorskip("descbench.demo.renderer")
    make = DATASETS["demo"].from_spec
    short, long = list(make("n=45").samples()), list(make("").samples())
    assert (len(long), len({s.id for s in long}), repr(make("")), repr(make("n=45"))) == (600, 600, "demo", "demo:n=45")
    assert [s.id for s in short] == [s.id for s in long[:45]]
    assert np.bincount([s.label for s in long]).tolist() == [15] * 40
    assert not {s.id for s in long} & {s.id for s in make("seed=1").samples()}
    assert make("").names[long[41].label] in long[41].source
    assert np.array_equal(np.asarray(long[0].load()), np.asarray(short[0].load()))
    assert long[0].load().size == (128, 128)
    with pytest.raises(InputError, match="no option 'm=3'"):
        make("m=3")
    with pytest.raises(InputError, match="n from 1 to"):
        make("n=0")


def test_what_is_embedded_knows_how_long_that_took_and_so_do_the_runs_on_it(photos: Path) -> None:
    class Slow(Mean):
        def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
            time.sleep(0.03)
            return super().encode_images(images)

        def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
            return torch.eye(3)[: len(texts)]

    found = embed(folder(photos), Slow(), batch_size=10)
    assert 5 * 0.03 <= found.seconds < 60
    clf = db.Classifier(db.Vocabulary(["hen", "rooster"]), db.method("classname"), Slow())
    for data in (found, replace(found, seconds=7.0)):
        assert db.evaluate(clf, data).timings["encode_images"] == data.seconds
    assert db.evaluate(clf, folder(photos)).timings["encode_images"] >= 0.03
