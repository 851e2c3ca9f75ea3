"""What lies beside a run for its report: some images with their reasons, and what each description is worth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run as Command
from PIL import Image
from test_report import NAMES, made

import descbench as db
from descbench.embedding import Embedded, embed
from descbench.errors import InputError
from descbench.report import Run, gallery, uses
from descbench.testing import FakeEncoder, FakeLLM
from descbench.worth import usefulness


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A folder of pictures, four a class; one is turned by its EXIF orientation, one has an odd name."""
    rng = np.random.default_rng(0)
    for label in NAMES[:3]:
        folder = tmp_path / "birds" / label
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 255, (40, 80, 3), dtype=np.uint8)
            turned = Image.Exif()
            if number == 0:
                turned[0x0112] = 6
            Image.fromarray(pixels).save(folder / f"{number}.jpg", exif=turned)
    return tmp_path / "birds"


def evaluated(folder: Path, spelling: str = "dclip") -> tuple[db.Classifier, Embedded, db.Evaluation]:
    data = db.dataset(f"folder:{folder}")
    classifier = db.Classifier(db.Vocabulary(NAMES[:3], "birds"), db.method(spelling), FakeEncoder(), llm=FakeLLM())
    embedded = embed(data, classifier.encoder)
    return classifier, embedded, db.evaluate(classifier, embedded)


def test_each_kind_of_image_has_its_share() -> None:
    result = made(right=0.6, n=2000)
    first = np.where(np.arange(2000) % 10 == 0, (result.predictions.ids[:, 0] + 1) % 7, result.predictions.ids[:, 0])
    result = replace(result, predictions=replace(result.predictions, first=first))
    rows = gallery.choose(result)
    assert len(rows) == len(set(rows.tolist())) == 60
    changed = [row for row in rows if first[row] != result.predictions.ids[row, 0]]
    wrong = [row for row in rows if not result.hits[row]]
    assert len(changed) >= 15 and len(wrong) >= 30 and len(rows) - len(wrong) >= 15
    pairs = Counter(
        (int(a), int(b))
        for a, b, right in zip(result.labels, result.predictions.ids[:, 0], result.hits, strict=True)
        if not right
    )
    there = {(int(result.labels[row]), int(result.predictions.ids[row, 0])) for row in wrong}
    assert {pair for pair, _ in pairs.most_common(5)} <= there


def test_which_images_follows_from_their_ids_and_not_from_their_order() -> None:
    result = made(right=0.6, n=500)
    turned = np.arange(500)[::-1]
    predictions = replace(
        result.predictions, ids=result.predictions.ids[turned], scores=result.predictions.scores[turned]
    )
    other = replace(result, predictions=predictions, labels=result.labels[turned], ids=result.ids[::-1])
    assert [result.ids[row] for row in gallery.choose(result)] == [other.ids[row] for row in gallery.choose(other)]
    assert gallery.choose(result, seed=1).tolist() != gallery.choose(result).tolist()


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 5, 300])
def test_few_images_and_one_kind_of_them_are_chosen_too(right: float, n: int) -> None:
    assert sorted(gallery.choose(made(right=right, n=n)).tolist())[:1] == [0] or n == 300
    assert len(gallery.choose(made(right=right, n=n))) == min(n, 60)


@pytest.mark.parametrize("spelling", ["dclip", "cascade(dclip, differential, k=3)"])
def test_reasons_are_those_of_explain_and_add_up_to_the_lead(birds: Path, tmp_path: Path, spelling: str) -> None:
    classifier, embedded, result = evaluated(birds, spelling)
    shown = gallery.keep(tmp_path / "run", classifier, embedded, result)
    assert gallery.load(tmp_path / "run", result) == shown and len(shown) == 12
    for one in shown:
        row = result.ids.index(one.id)
        assert one.answer == NAMES[result.predictions.ids[row, 0]] and one.label == NAMES[result.labels[row]]
        assert one.kind == ("right" if one.answer == one.label else "wrong")
        assert one.rival == one.label if one.kind == "wrong" else one.rival != one.answer
        if len(one.reasons) < gallery.REASONS:
            assert sum(told.contribution for told in one.reasons) == pytest.approx(one.lead, abs=1e-5)
        why = classifier.explain_features(embedded.features[row], one.rival)
        known = {told.text: told.contribution for told in why.contributions}
        assert all(known[told.text] == pytest.approx(told.contribution, abs=1e-5) for told in one.reasons)
    if "cascade" in spelling:
        assert all(one.first for one in shown)


def test_thumbnails_are_upright_and_small(birds: Path, tmp_path: Path) -> None:
    classifier, embedded, result = evaluated(birds)
    for one in gallery.keep(tmp_path / "run", classifier, embedded, result):
        content = gallery.picture(tmp_path / "run", one)
        assert content is not None
        image = Image.open(BytesIO(content))
        assert (image.width < image.height) == one.source.endswith("0.jpg")  # turned by a quarter
        assert max(image.size) <= gallery.SIDE


def test_a_picture_that_has_changed_since_is_not_shown_as_the_one_that_was_seen(birds: Path, tmp_path: Path) -> None:
    classifier, embedded, result = evaluated(birds)
    Image.new("RGB", (9, 9)).save(birds / NAMES[0] / "1.jpg")
    shown = gallery.keep(tmp_path / "run", classifier, embedded, result)
    assert [Path(one.source).name for one in shown if not one.picture] == ["1.jpg"]


def test_features_have_reasons_and_no_pictures(tmp_path: Path) -> None:
    class Ready:
        name = fingerprint = "ready"
        names = NAMES[:3]
        ids = tuple(f"image {i}" for i in range(9))
        labels = np.arange(9) % 3
        features = FakeEncoder().encode_texts([f"{i}" for i in range(9)]).numpy()

        def __len__(self) -> int:
            return 9

        def samples(self) -> Any:
            raise AssertionError("features are there; no image is looked at")

    classifier = db.Classifier(db.Vocabulary(NAMES[:3]), db.method("dclip"), FakeEncoder(), llm=FakeLLM())
    embedded = embed(Ready(), classifier.encoder)
    shown = gallery.keep(tmp_path, classifier, embedded, db.evaluate(classifier, embedded))
    assert {one.picture for one in shown} == {""} and all(one.reasons for one in shown)
    assert not (tmp_path / "gallery").exists()


def test_a_gallery_of_an_earlier_run_in_the_folder_is_not_shown(birds: Path, tmp_path: Path) -> None:
    classifier, embedded, result = evaluated(birds)
    gallery.keep(tmp_path, classifier, embedded, result)
    uses.keep(tmp_path, classifier, embedded, result, None)
    *_, other = evaluated(birds, "classname")
    assert not np.array_equal(other.predictions.ids[:, 0], result.predictions.ids[:, 0])
    assert gallery.load(tmp_path, other) == () and uses.load(tmp_path, other) == ((), "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "is no file of descbench"),
        ('{"schema": 99, "images": []}', "newer descbench"),
        ('{"schema": 1, "of": "OF", "images": [{"id": "x"}]}', "is damaged"),
        ('{"schema": 1, "of": "OF"}', "is damaged"),
    ],
)
def test_a_broken_gallery_is_an_error_that_names_it(tmp_path: Path, content: str, said: str) -> None:
    result = made()
    (tmp_path / "gallery.json").write_text(content.replace("OF", gallery.fingerprint(result)), encoding="utf-8")
    with pytest.raises(InputError, match=said) as raised:
        gallery.load(tmp_path, result)
    assert "gallery.json" in str(raised.value)


def test_a_picture_is_read_from_the_gallery_only(tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    outside = gallery.Shown("x", "", "", "", "right", picture="../secret.jpg")
    assert gallery.picture(tmp_path, outside) is None


def test_what_descriptions_are_worth_is_kept_as_it_was_computed(birds: Path, tmp_path: Path) -> None:
    classifier, embedded, result = evaluated(birds)
    uses.keep(tmp_path, classifier, embedded, result, None)
    assert uses.load(tmp_path, result) == (usefulness(classifier, embedded).uses, "")


def test_of_a_large_run_it_is_left_out_and_said(birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, embedded, result = evaluated(birds)
    texts = sum(map(len, classifier.descriptions.classes.values()))
    monkeypatch.setattr(uses, "MOST", 12 * texts - 1)
    uses.keep(tmp_path, classifier, embedded, result, None)
    found, why = uses.load(tmp_path, result)
    assert found == () and why == f"12 images and {texts} texts are more than is computed for every run"


def test_evaluate_keeps_both_for_what_was_asked_and_not_a_seed(run: Command, birds: Path, tmp_path: Path) -> None:
    descriptions = db.Descriptions({i: ["red wings", "a beak"] for i in range(3)}, names=dict(enumerate(NAMES[:3])))
    descriptions.save(tmp_path / "birds.desc.json")
    asked = ("-d", "birds.desc.json", "-e", "demo", "-m", "dclip", "-m", "waffle", "--seeds", 2, "--no-baselines")
    done = run("evaluate", f"folder:{birds}", *asked, "-o", "runs")
    assert done.code == 0, done.err
    assert len(list(Path("runs").glob("*/run.json"))) == 3
    (kept,) = Path("runs").glob("*/gallery.json")
    loaded = Run.load(kept.parent)
    assert loaded.result.method == "dclip" and len(loaded.shown) == 12 and len(loaded.uses) == 6
    again = run("evaluate", f"folder:{birds}", *asked, "--no-gallery", "-o", "bare")
    assert again.code == 0 and not list(Path("bare").rglob("gallery*"))
    page = run("report", "runs")
    assert page.code == 0 and "Single answers" in Path("report.html").read_text(encoding="utf-8")
