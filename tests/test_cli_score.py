"""`descbench score`: a row for each picture, as scored one by one, whatever the blocks; no labels, no model twice."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import Run
from faults import room
from PIL import Image
from support import drawn

import descbench as db
from descbench.bulk import Scored, score
from descbench.classifier import Classifier
from descbench.datasets import Sample
from descbench.embedding import blocks, keep
from descbench.errors import DescbenchWarning, InputError
from descbench.store import CachedEncoder
from descbench.testing import FakeEncoder, FakeLLM

BIRDS = db.Vocabulary(["hen", "rooster", "turkey", "goose", "duck"], "farm birds", [7, 3, 11, 0, 5])


def table(path: str | Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def colour(index: int) -> tuple[int, int, int]:
    return (index * 7 % 256, index * 11 % 256, index * 13 % 256)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 pictures of one colour each, without labels, in a table; one cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(40):
        Image.new("RGB", (8, 8), colour(index)).save(folder / f"{index:02d}.png")
    (folder / "17.png").write_bytes(b"x")
    rows = "\n".join(f"photos/{index:02d}.png" for index in range(40))
    (tmp_path / "photos.csv").write_text(f"path\n{rows}\n")
    return tmp_path / "photos.csv"


def expected(index: int) -> list[tuple[float, str]]:
    """The classes of one picture, best first, by the definition: the cosine with "a photo of a NAME."."""
    encoder = FakeEncoder(dim=16)
    x = encoder.encode_images([Image.new("RGB", (8, 8), colour(index))])[0].numpy()
    texts = {name: encoder.encode_texts([f"a photo of a {name}."])[0].numpy() for name in BIRDS.names}
    return sorted(((float(x @ t), name) for name, t in texts.items()), reverse=True)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_each_picture_has_the_row_that_it_would_have_alone(photos: Path, tmp_path: Path, block: int) -> None:
    classifier = Classifier(BIRDS, db.method("template('a photo of a {}.')"), FakeEncoder(dim=16))
    data = db.dataset(f"manifest:{photos}")
    done = score(classifier, data, tmp_path / "new" / "p.parquet", top_k=3, block=block)
    assert (done.images, done.rows, len(done.failures)) == (40, 39, 1)
    assert "17.png" in done.failures[0][0] and "not a picture" in done.failures[0][1]
    rows = table(done.path)
    there = [index for index in range(40) if index != 17]
    assert [Path(row["source"]).name for row in rows] == [f"{index:02d}.png" for index in there]
    assert [row["id"] for row in rows] == [s.id for i, s in enumerate(data.samples()) if i != 17]
    for index, row in zip(there, rows, strict=True):
        best = expected(index)[:3]
        assert row["names"] == [name for _, name in best]
        assert row["ids"] == [BIRDS.id(name) for _, name in best]
        assert np.allclose(row["scores"], [value for value, _ in best], atol=1e-5)
    assert pq.ParquetFile(done.path).num_row_groups == len({index // block for index in there})


def test_a_follow_up_asks_block_by_block_and_answers_the_same(photos: Path, tmp_path: Path) -> None:
    def answers(block: int) -> tuple[list[dict[str, Any]], FakeLLM]:
        llm = FakeLLM()
        method = db.method("cascade(template('a photo of a {}.'), differential, k=3)")
        classifier = Classifier(BIRDS, method, FakeEncoder(dim=16), llm)
        done = score(classifier, db.dataset(f"manifest:{photos}"), tmp_path / "p.parquet", block=block)
        return table(done.path), llm

    (whole, once), (parts, often) = answers(1000), answers(6)
    assert [row["ids"] for row in whole] == [row["ids"] for row in parts]
    assert np.allclose([row["scores"] for row in whole], [row["scores"] for row in parts], atol=1e-6)
    asked = [sorted(question.text for batch in llm.batches for question in batch) for llm in (once, often)]
    assert len(once.batches) == 1 < len(often.batches) and asked[0] == asked[1]


class Counting(FakeEncoder):
    """A fake encoder that counts the pictures it is shown, and fails where it is told to."""

    shown, fails_at = 0, 10**9

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.shown += len(images)
        if self.shown >= self.fails_at:
            raise InputError("the encoder is gone; call it back")
        return super().encode_images(images)


def scored(encoder: Any, photos: Path, path: Path) -> Scored:
    classifier = Classifier(BIRDS, db.method("classname"), encoder)
    return score(classifier, db.dataset(f"manifest:{photos}"), path, block=8, batch_size=4)


def test_features_that_are_kept_are_read_and_others_are_encoded_and_kept(photos: Path, tmp_path: Path) -> None:
    some, path = Counting(dim=16), tmp_path / "p.parquet"
    keep(db.dataset(f"manifest:{photos}", limit=10), CachedEncoder(some, tmp_path / "kept"))
    scored(CachedEncoder(some, tmp_path / "kept"), photos, path)
    first, shown = table(path), some.shown
    assert shown == 39
    scored(CachedEncoder(some, tmp_path / "kept"), photos, path)
    assert some.shown == shown and table(path) == first


def test_a_run_that_fails_leaves_the_file_that_was_there(photos: Path, tmp_path: Path) -> None:
    path, failing = tmp_path / "p.parquet", Counting(dim=16)
    scored(FakeEncoder(dim=16), photos, path)
    before = path.read_bytes()
    failing.fails_at = 20
    with pytest.raises(InputError, match="the encoder is gone"):
        scored(failing, photos, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.parquet", "photos", "photos.csv"]


def test_what_a_killed_run_has_left_goes_with_the_next_one_a_day_later(photos: Path, tmp_path: Path) -> None:
    old, new = (tmp_path / f".p.parquet.{process}.0a1b2c3d" for process in (1, 2))
    for part in (old, new):
        part.write_bytes(b"PAR1")
    os.utime(old, (0, 0))
    scored(FakeEncoder(dim=16), photos, tmp_path / "p.parquet")
    assert new.exists() and not old.exists()


@pytest.mark.parametrize("size", [1, 600])  # no room for the first bytes; none for the rows
def test_a_full_disk_is_one_clear_line_and_leaves_the_file_that_was_there(
    photos: Path, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "p.parquet"
    scored(FakeEncoder(dim=16), photos, path)
    before = path.read_bytes()
    with room(size), pytest.raises(InputError, match=r"p\.parquet' cannot be written: File too large\. See that"):
        scored(FakeEncoder(dim=16), photos, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.parquet", "photos", "photos.csv"]
    with pytest.raises(InputError, match=r"photos.csv/p.parquet' cannot be written: "):
        scored(FakeEncoder(dim=16), photos, photos / "p.parquet")


def test_pictures_none_of_which_can_be_read_are_an_error_and_no_file(photos: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "photos").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of its 40 images can be read\. .* the file is empty"):
        scored(FakeEncoder(dim=16), photos, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
    with pytest.raises(InputError, match=r"is a folder; give the name of a file to write"):
        scored(FakeEncoder(dim=16), photos, tmp_path)


def test_a_note_that_each_block_would_repeat_is_said_once_and_counted(photos: Path, tmp_path: Path) -> None:
    method = db.method("cascade(template('a photo of a {}.'), differential, k=2)")
    known = db.Descriptions({}, {(0, 3): (["a"], ["b"])}, names=dict(BIRDS))
    classifier = Classifier(BIRDS, method, FakeEncoder(dim=16), descriptions=known)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score(classifier, db.dataset(f"manifest:{photos}"), tmp_path / "p.parquet", block=8)
    told = [str(one.message) for one in caught if one.category is DescbenchWarning]
    assert len(told) == 2
    assert "pairs among the candidates have no description" in told[0]
    assert told[1].startswith("so it was in ") and "blocks of images" in told[1]


def test_blocks_of_ready_features_are_their_rows_in_order(tmp_path: Path) -> None:
    features = drawn(1, 25, 6)
    np.savez(tmp_path / "x.npz", features=features)
    data = db.dataset(f"features:{tmp_path / 'x.npz'}", limit=20)
    found = list(blocks(data, FakeEncoder(dim=6), size=7))
    assert [len(block) for block in found] == [7, 7, 6]
    assert np.allclose(np.concatenate([block.features for block in found]), data.features, atol=1e-6)
    assert tuple(id_ for block in found for id_ in block.ids) == data.ids


class Endless:
    """Pictures that are made when they are looked at; memory is theirs only where somebody holds them."""

    name = fingerprint = "endless"
    names: tuple[str, ...] = ()

    def __init__(self, count: int) -> None:
        self.count, self.features = count, _Rows(count)

    def __len__(self) -> int:
        return self.count

    def samples(self) -> Iterator[Sample]:
        for index in range(self.count):
            yield Sample(str(index), lambda: Image.new("RGB", (1, 1)), None, str(index))


class _Rows:
    """(N, 64) features of which no more than a slice is ever there."""

    def __init__(self, count: int) -> None:
        self.count, self.largest = count, 0

    def __getitem__(self, part: slice) -> np.ndarray:
        self.largest = max(self.largest, part.stop - part.start)
        return drawn(part.start, part.stop - part.start, 64)


def test_no_more_than_a_block_of_features_is_held(tmp_path: Path) -> None:
    data = Endless(5000)
    classifier = Classifier(BIRDS, db.method("classname"), FakeEncoder(dim=64))
    done = score(classifier, data, tmp_path / "p.parquet", block=512)  # type: ignore[arg-type]
    assert (done.rows, data.features.largest) == (5000, 512)
    assert [row["id"] for row in table(done.path)] == [str(index) for index in range(5000)]


def test_the_command_writes_what_classify_says(run: Run) -> None:
    shutil.copy(Path(__file__).parents[1] / "cache/aviary.desc.json", "birds.desc.json")
    run("embed", "demo:n=12")
    done = run("score", "demo:n=12", "-d", "birds.desc.json", "-o", "p.parquet", "-k", "2")
    assert done.code == 0 and "12 rows" in done.out and "written to p.parquet" in done.out
    rows = table("p.parquet")
    Path("photos").mkdir()
    for index, sample in enumerate(db.dataset("demo:n=12").samples()):
        sample.load().save(f"photos/{index:02d}.png")
    said = run("classify", "photos", "-d", "birds.desc.json", "-e", "demo", "-k", "2", "--why", "0", "--json")
    images = json.loads(said.out)["images"]
    assert [[c["id"] for c in image["classes"]] for image in images] == [row["ids"] for row in rows]
    about = json.loads(pq.read_schema("p.parquet").metadata[b"descbench"])
    assert (about["method"], about["encoder"], about["dataset"], about["classes"]) == ("dclip", "demo", "demo:n=12", 40)
    told = json.loads(run("score", "demo:n=12", "-m", "classname", "-o", "p.parquet", "--json").out)
    assert (told["images"], told["rows"], told["failures"]) == (12, 12, [])
    done = run("score", "demo:n=12", "-m", "disclip", "-d", "birds.desc.json", "-o", "p.parquet")
    assert done.code == 2 and "--support" in done.err


def test_pictures_in_a_storage_that_fsspec_reads_are_those_of_the_files(photos: Path, tmp_path: Path) -> None:
    urls = [f"file://{path}" for path in sorted((tmp_path / "photos").iterdir())]
    listing = tmp_path / "urls.csv"
    listing.write_text("\n".join(["url", *urls, f"file://{tmp_path}/none.png", "s4://bucket/x.png"]) + "\n")
    one, other = (db.dataset(f"manifest:{path}") for path in (photos, listing))
    for mine, theirs, _ in zip(one.samples(), other.samples(), range(17), strict=False):
        assert np.array_equal(np.asarray(mine.load()), np.asarray(theirs.load()))
    for sample, reason in zip(
        list(other.samples())[-2:], ["No such file or directory", "Protocol not known"], strict=True
    ):
        with pytest.raises(InputError, match=reason):
            sample.load()
