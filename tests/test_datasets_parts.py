"""A part of a data set, one that stops, several right labels, and what is said of pictures that cannot be read."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from support import drawn

import descbench as db
from descbench.datasets import Limited, Sample, Strict
from descbench.datasets.images import load_image
from descbench.embedding import embed
from descbench.errors import InputError, MatchError, PartialError, SpecError
from descbench.evaluation import Evaluation, evaluate
from descbench.testing import FakeEncoder, check_dataset


class Listed:
    """A data set of ids alone."""

    name, names = "listed", ("a",)

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids_ = ids
        self.fingerprint = "listed:" + ",".join(ids)

    def __len__(self) -> int:
        return len(self.ids_)

    def samples(self):
        for name in self.ids_:
            yield Sample(name, lambda: Image.new("RGB", (1, 1)), 0)


def chosen(data: Limited) -> list[str]:
    return [sample.id for sample in data.samples()]


IDS = st.lists(st.sampled_from([f"id {n}" for n in range(40)]), min_size=1, max_size=30)


@given(IDS, st.integers(1, 35), st.integers(1, 35), st.integers(0, 3), st.randoms())
def test_a_smaller_limit_takes_a_part_of_a_larger_one_in_any_order_of_the_files(ids, some, more, seed, random) -> None:
    some, more = sorted((some, more))
    small, large = Limited(Listed(ids), some, seed), Limited(Listed(ids), more, seed)
    assert len(small) == min(some, len(ids)) == len(chosen(small))
    left = list(chosen(large))
    for name in chosen(small):
        left.remove(name)
    order = iter(ids)
    assert all(name in order for name in chosen(small))  # in the order of the whole
    mixed = list(ids)
    random.shuffle(mixed)
    assert sorted(chosen(Limited(Listed(mixed), some, seed))) == sorted(chosen(small))


def test_every_picture_has_the_same_chance() -> None:
    data = Listed([f"{n}" for n in range(20)])
    counts = dict.fromkeys(data.ids_, 0)
    for seed in range(2000):
        for name in chosen(Limited(data, 5, seed)):
            counts[name] += 1
    # 500 expected, standard deviation sqrt(2000 * 1/4 * 3/4) = 19.4; five of them to either side.
    assert all(400 < count < 600 for count in counts.values())


def test_a_part_keeps_the_contract_and_says_what_it_is_of() -> None:
    data = db.dataset("demo:n=30", limit=12)
    check_dataset(data, images=3)
    assert repr(data) == "demo:n=30, 12 of 30 images"
    assert (data.domain, data.limit, data.available) == ("birds", 12, 30)
    assert data.fingerprint != db.dataset("demo:n=30").fingerprint != db.dataset("demo:n=30", limit=11).fingerprint
    for wrong in (0, -3):
        with pytest.raises(InputError, match=f"a limit of {wrong} images cannot be"):
            db.dataset("demo", limit=wrong)
    with pytest.raises(SpecError, match="dataset 'demo': it has no option 'split'"):
        db.dataset("demo", split="test")


def test_a_part_of_ready_features_has_their_rows(tmp_path: Path) -> None:
    rows = drawn(0, 10, 4)
    np.savez(tmp_path / "f.npz", image_features=rows, labels=np.arange(10) % 3, names=np.array(["a", "b", "c"]))
    part = db.dataset(f"features:{tmp_path / 'f.npz'}", limit=4, strict=True)
    check_dataset(part)
    kept = embed(part, FakeEncoder())
    assert len(kept) == 4
    for name, row, label in zip(kept.ids, kept.features, kept.labels, strict=True):
        number = int(name.rpartition(":")[2])
        np.testing.assert_allclose(row, rows[number], atol=1e-6)
        assert label == number % 3


# Several right labels, classes that are missing, labels that have no class.


def picture(path: Path, colour: tuple[int, int, int]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path.name


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Forty pictures with one to three of seven labels each, and three without."""
    draw = np.random.default_rng(5)
    rows = []
    for number in range(43):
        labels = draw.choice(7, size=draw.integers(1, 4), replace=False).tolist() if number < 40 else []
        name = picture(tmp_path / f"{number}.png", (number, 2 * number, 90))
        rows.append({"path": name, "id": str(number), "label": [f"bird {label}" for label in labels]})
    (tmp_path / "birds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "birds.jsonl"


def test_an_answer_is_right_where_it_is_one_of_the_labels(several: Path, tmp_path: Path) -> None:
    data = db.dataset(f"manifest:{several}")
    classes = db.Vocabulary([f"bird {n}" for n in range(7)] + ["no bird"], ids=[30, 11, 17, 5, 8, 40, 2, 0])
    result = evaluate(db.Classifier(classes, db.method("classname"), FakeEncoder()), data)
    said = {row["id"]: row["label"] for row in map(json.loads, several.read_text().splitlines())}
    expected = {1: [], 5: []}
    for name, answers in zip(result.ids, result.predictions.ids.tolist(), strict=True):
        right = {classes.id(label) for label in said[name.partition(":")[0]]}
        for k in expected:
            expected[k].append(bool(right & set(answers[:k])))
    assert len(expected[1]) == 40 and result.counts["unlabelled"] == 3
    assert result.hits.tolist() == expected[1]
    assert result.metrics["top5"].value == sum(expected[5]) / 40
    first = result.predictions.ids[:, 0] == result.labels
    assert first.sum() < result.hits.sum()  # more is right than by the first label alone
    result.save(tmp_path / "run")
    again = Evaluation.load(tmp_path / "run")
    assert again.accepted is not None and again.hits.tolist() == expected[1]
    assert again.metrics == result.metrics


def test_with_one_label_each_nothing_is_accepted_beside_it(tmp_path: Path) -> None:
    for name in ("hen", "owl"):
        picture(tmp_path / "photos" / name / "1.png", (9, 9, 9) if name == "hen" else (200, 0, 0))
    data = db.dataset(f"folder:{tmp_path / 'photos'}")
    result = evaluate(db.Classifier(db.Vocabulary(data.names), db.method("classname"), FakeEncoder()), data)
    assert result.accepted is None


def test_a_class_without_pictures_competes_and_a_label_without_a_class_is_refused(several: Path) -> None:
    data = db.dataset(f"manifest:{several}")
    more = db.Vocabulary([*data.names, "ostrich"])
    assert len(evaluate(db.Classifier(more, db.method("classname"), FakeEncoder()), data).predictions.vocabulary) == 8
    fewer = db.Vocabulary(data.names[1:])
    with pytest.raises(MatchError, match="1 label without a class: 'bird 0'"):
        evaluate(db.Classifier(fewer, db.method("classname"), FakeEncoder()), data)


# Pictures of every kind in one folder.


def swapped_profile() -> bytes:
    """A colour profile whose red and blue have changed places: applied, it turns red into blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for position in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12):
        tag = bytes(profile[position : position + 4])
        profile[position : position + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(tag, tag)
    return bytes(profile)


def test_a_colour_profile_is_not_applied(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    for name in ("a.png", "a.jpg", "a.webp"):
        red.save(tmp_path / name, icc_profile=swapped_profile())
        with Image.open(tmp_path / name) as stored:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(stored.info["icc_profile"]))
            seen = ImageCms.profileToProfile(stored.convert("RGB"), profile, ImageCms.createProfile("sRGB"))
        assert seen is not None and seen.getpixel((4, 4))[2] > 200 > 50 > seen.getpixel((4, 4))[0]  # what it would do
        loaded = load_image(tmp_path / name).getpixel((4, 4))
        assert loaded[0] > 200 and loaded[2] < 60


def zoo(folder: Path) -> tuple[int, dict[str, str]]:
    """A folder of pictures of every kind; how many can be read, and why the others cannot."""
    folder.mkdir(parents=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    noise.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)).save(folder / "deep.png")
    for name in ("moving.gif", "moving.webp"):
        noise.save(folder / name, save_all=True, append_images=[noise.rotate(90), noise.rotate(180)])
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(folder / "turned.jpg", exif=exif)
    noise.save(folder / "profile.png", icc_profile=swapped_profile())
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    stored = io.BytesIO()
    noise.save(stored, "JPEG")
    (folder / "cut.jpg").write_bytes(stored.getvalue()[:-400])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no picture")
    # 20,000 x 20,000 pixels of one colour in 52 kB, whole: only its size is against it.
    rows = zlib.compress(bytes(20_001 // 8 + 1) * 20_000, 9)
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0), b"IDAT" + rows, b"IEND"]
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    assert (folder / "bomb.png").stat().st_size < 100_000
    reasons = {"bomb.png": "more than 178,956,970 pixels", "cut.jpg": "truncated", "empty.jpg": "the file is empty"}
    return 7, reasons | {"text.jpg": "not a picture in a format"}


def test_an_evaluation_names_what_it_could_not_read_and_what_it_counts(run: Run, tmp_path: Path) -> None:
    good, reasons = zoo(tmp_path / "photos" / "hen")
    picture(tmp_path / "photos" / "owl" / "1.png", (0, 0, 255))
    command = ["evaluate", "folder:photos", "--encoder", "demo", "--device", "cpu"]
    done = run(*command, "-o", "runs")
    assert done.code == 3
    assert f"{good + 1} images, 2 classes (4 unreadable left out)" in done.out
    assert re.search(rf"^classname .* of {good + 1} +[\d.]+  inductive$", done.out, re.MULTILINE)
    assert "4 images cannot be read and are not among those scored:\n" in done.err
    for name, reason in reasons.items():
        assert re.search(rf"photos/hen/{name}'?: [^\n]*{reason}", done.err), name
    kept = json.loads(next((tmp_path / "runs").glob("*/run.json")).read_text())
    assert (kept["counts"]["images"], kept["counts"]["unreadable"], len(kept["failures"])) == (good + 1, 4, 4)
    strict = run(*command, "--strict")
    assert (strict.code, strict.out) == (3, "")
    assert re.fullmatch(
        r"error: stopped at the first image that fails: cannot read image 'photos/hen/bomb.png': .* pixels[^\n]*\n",
        strict.err,
    )


def test_a_limited_evaluation_says_so_everywhere(run: Run, tmp_path: Path) -> None:
    done = run("evaluate", "demo:n=60", "--limit", "20", "-o", "runs", "--device", "cpu")
    assert done.code == 0, done.err
    assert "20 images, 40 classes; a partial run: 20 of 60 images, drawn by --limit" in done.out
    kept = json.loads(next((tmp_path / "runs").glob("*/run.json")).read_text())
    assert (kept["counts"]["limit"], kept["counts"]["available"]) == (20, 60)
    assert kept["dataset"] == "demo:n=60, 20 of 60 images"
    whole = run("evaluate", "demo:n=20", "--limit", "500", "--json", "--device", "cpu")
    assert "limit" not in json.loads(whole.out)["runs"][0]["counts"]
    assert run("evaluate", "demo", "--limit", "0").code == 2
    refused = run("evaluate", "demo", "--split", "test")
    assert (refused.code, "split" in refused.err) == (2, True)


def test_a_strict_data_set_ends_at_its_first_unreadable_picture_and_is_the_same_otherwise(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "hen" / "1.png", (1, 2, 3))
    (tmp_path / "photos" / "hen" / "2.png").write_text("?")
    plain, strict = (db.dataset(f"folder:{tmp_path / 'photos'}", strict=flag) for flag in (False, True))
    assert isinstance(strict, Strict)
    assert (repr(strict), strict.fingerprint, strict.names) == (repr(plain), plain.fingerprint, plain.names)
    good, bad = strict.samples()
    assert good.load().size == (8, 8)
    with pytest.raises(PartialError, match=r"stopped at the first image that fails: cannot read image '.*2.png'"):
        bad.load()
    for workers in (0, 2):
        with pytest.raises(PartialError, match="stopped at the first"):
            embed(strict, FakeEncoder(), workers=workers)
    assert len(embed(plain, FakeEncoder()).failures) == 1


def test_folders_of_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    for name in ("train/hen/1.png", "train/owl/1.png", "test/hen/2.png"):
        picture(tmp_path / "photos" / name, (len(name), 0, 0))
    spelled = f"folder:{tmp_path / 'photos'}"
    with pytest.raises(InputError, match=r"has the folders test, train: splits, not classes. Name one: .*photos/test"):
        db.dataset(spelled)
    assert db.dataset(spelled, split="train").names == ("hen", "owl")
    assert repr(db.dataset(f"{spelled},split=test")) == f"{spelled},split=test"
    check_dataset(db.dataset(spelled, split="test"))
    with pytest.raises(InputError, match="has no folder 'val' for the split; it has: test, train"):
        db.dataset(spelled, split="val")
    for name in ("train", "test"):  # things that are called so
        picture(tmp_path / "toys" / name / "1.png", (len(name), 0, 0))
    assert db.dataset(f"folder:{tmp_path / 'toys'}").names == ("test", "train")
