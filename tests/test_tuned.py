"""Labelled images that choose: texts by a support set, a weight by a validation split, and never those of the test."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from support import drawn
from test_disclip import BIRDS, DIM, ENCODER, LISTS, NAMES, TOLD, classifier, loop, scores

import descbench as db
from descbench import Classifier, DescbenchWarning, Evaluation, method
from descbench.embedding import Embedded
from descbench.errors import InputError, MatchError
from descbench.evaluation import curve_of
from descbench.methods.cascade import changed
from descbench.methods.disclip import weight_of, with_weight
from descbench.selection import WEIGHTS, Labelled

VALIDATION = (drawn(26, 40, DIM), BIRDS.ids[np.arange(40) % 5])


class Ready:
    """A named data set of image features; its labels are in another order than the vocabulary."""

    names, fingerprint = NAMES[::-1], "ready"

    def __init__(self, name: str, seed: int, n: int, ids: Sequence[str] = ()) -> None:
        self.name, self.features = name, drawn(seed, n, DIM)
        self.labels = np.arange(n) % 5
        self.ids = list(ids) or [f"{name} {i}" for i in range(n)]

    def __repr__(self) -> str:
        return f"ready:{self.name}"

    def __len__(self) -> int:
        return len(self.ids)

    def samples(self) -> Any:
        raise AssertionError("features are there; no image is looked at")


TRAIN, VAL, TEST = Ready("train", 2, 15), Ready("val", 3, 25), Ready("test", 4, 30)


def chosen(spelling: str = "disclip", support: Any = TRAIN) -> Classifier:
    return classifier(spelling, support=db.labelled(support, BIRDS, ENCODER))


def test_the_weight_is_the_smallest_of_those_that_are_right_most_often() -> None:
    told = [loop(x, 3, 2) for x in VALIDATION[0].astype(np.float64)]
    right = np.zeros(160, dtype=int)
    for x, texts, label in zip(VALIDATION[0].astype(np.float64), told, VALIDATION[1].tolist(), strict=True):
        names, bare = scores(x, texts, 1.0), scores(x, texts, 0.0)
        for row in range(160):
            found = {c: bare[c] + 0.25 * row * (names[c] - bare[c]) for c in bare}
            right[row] += max(found, key=lambda c: found[c]) == label
    best = int(np.flatnonzero(right == right.max())[0])
    assert (right == right.max()).sum() > 1 and right[0] < right.max() > right[-1]  # something to choose, and a tie
    tuned = classifier("disclip(m=2)").tuned(VALIDATION, split="val")
    assert tuned.tuning is not None
    assert (tuned.tuning.w, tuned.tuning.right) == (0.25 * best, right.max())
    assert repr(tuned.method) == f"disclip(m=2, w={0.25 * best!r})"
    alone = classifier(f"disclip(m=2, w={0.25 * best})").predict_features(VALIDATION[0])
    assert np.array_equal(tuned.predict_features(VALIDATION[0]).scores, alone.scores)
    assert (alone.ids[:, 0] == VALIDATION[1]).sum() == right.max()


def test_tuning_leaves_the_classifier_that_was_given_as_it_was() -> None:
    clf = classifier("disclip")
    before = clf.predict_features(VALIDATION[0])
    tuned = clf.tuned(VALIDATION, split="val")
    assert clf.tuning is None and repr(clf.method) == "disclip" and tuned.support is not None
    assert np.array_equal(clf.predict_features(VALIDATION[0]).scores, before.scores)


def test_an_image_of_several_labels_is_right_where_one_of_them_is_answered() -> None:
    answers = np.array([[7, 3, 11], [3, 3, 0]])
    labels = Labelled(np.zeros((3, 2)), np.array([7, 7, 11]), "val")
    assert labels.right(answers).tolist() == [[True, False, True], [False, False, False]]
    several = Labelled(labels.features, labels.labels, "val", (), np.array([[7, 3], [7, 3], [11, 11]]))
    assert several.right(answers).tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize(
    ("spelling", "tuned"),
    [
        ("disclip", "disclip(w=2.5)"),
        ("disclip(k=4, own=True)", "disclip(k=4, w=2.5, own=True)"),
        ("cascade(classname, selected, k=2)", "cascade(classname, selected(w=2.5), k=2)"),
        ("cascade(template, shuffled(selected(m=2)), k=2)", None),
    ],
)
def test_a_method_with_another_weight_is_spelled_with_it(spelling: str, tuned: str | None) -> None:
    found = with_weight(method(spelling), 2.5)
    assert weight_of(found) == 2.5 and method(repr(found)) == found
    assert tuned is None or repr(found) == tuned
    assert with_weight(found, weight_of(method(spelling)) or 0) == method(spelling)


def test_a_method_without_the_weight_has_none_and_stays() -> None:
    for spelling in ("dclip", "fudd", "disclip(named=True)", "select_fewshot(dclip)"):
        assert weight_of(method(spelling)) is None
        assert changed(method(spelling), lambda stage: stage) == method(spelling)
    assert repr(changed(method("fudd(k=3)"), lambda stage: stage)) == "fudd(k=3)"


@pytest.mark.parametrize(
    ("spelling", "given", "split", "message"),
    [
        ("disclip(named=True)", VALIDATION, "val", "has no weight of the name to vary"),
        ("disclip", VALIDATION, "", r"which split is it tuned on\? .*split='val'"),
        ("disclip", (VALIDATION[0], VALIDATION[1] + 90), "val", "validation labels .* are no ids of the vocabulary"),
        ("disclip", VALIDATION[0], "val", "validation is two arrays, .* given: ndarray"),
        ("disclip", Labelled(*VALIDATION, "val", ("a",)), "", "validation ids are one for each of the 40 images"),
    ],
)
def test_what_cannot_be_tuned_says_why(spelling: str, given: Any, split: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(spelling).tuned(given, split)


def test_labels_of_a_support_are_joined_by_name() -> None:
    found = db.labelled(TRAIN, BIRDS, ENCODER)
    assert [BIRDS.name(i) for i in found.labels] == [TRAIN.names[label] for label in TRAIN.labels]
    assert (found.name, found.ids) == ("ready:train", tuple(TRAIN.ids))
    pair = (TRAIN.features, np.array([BIRDS.id(TRAIN.names[label]) for label in TRAIN.labels]))
    expected = classifier("disclip", support=pair).predict_features(TEST.features)
    assert np.array_equal(chosen().predict_features(TEST.features).scores, expected.scores)


def test_a_support_that_cannot_be_joined_is_named() -> None:
    with pytest.raises(MatchError, match=r"ready:train: 2 labels without a class: 'goose'"):
        db.labelled(TRAIN, db.Vocabulary(["turkey", "rooster", "grey duck"]), ENCODER)
    with pytest.raises(InputError, match=r"db\.labelled\(data, vocabulary, encoder\)"):
        db.labelled(TRAIN, BIRDS)
    unlabelled = Embedded(TRAIN, tuple(TRAIN.ids), TRAIN.features, np.full(15, -1), tuple(TRAIN.ids))
    with pytest.raises(InputError, match="ready:train has no labelled image"):
        db.labelled(unlabelled, BIRDS)


def test_what_chooses_nothing_is_said() -> None:
    labels = np.where(np.arange(15) < 4, -1, TRAIN.labels)
    some = Embedded(TRAIN, tuple(TRAIN.ids), TRAIN.features, labels, tuple(TRAIN.ids), (("x.jpg", "is empty"),))
    with pytest.warns(
        DescbenchWarning, match=r"4 have no label and 1 cannot be read \(x.jpg: is empty\); these choose"
    ):
        assert len(db.labelled(some, BIRDS)) == 11


def test_images_that_choose_are_not_those_of_the_test() -> None:
    shared = Ready("test", 4, 30, [*TRAIN.ids[:2], *VAL.ids[:3], *TEST.ids[:25]])
    with pytest.raises(InputError, match="2 of the 30 images of ready:test are in the support set ready:train too"):
        db.evaluate(chosen(), shared)
    tuned = classifier("disclip").tuned(db.labelled(VAL, BIRDS, ENCODER))
    with pytest.raises(InputError, match="3 of the 30 images of ready:test are in the validation set ready:val too"):
        db.evaluate(tuned, shared)
    with pytest.raises(InputError, match="15 of the 15 images of ready:train are in the support set ready:train too"):
        chosen().tuned(db.labelled(TRAIN, BIRDS, ENCODER))
    # An image without a label is not tested on.
    labels = np.where(np.arange(30) < 2, -1, shared.labels)
    hidden = Embedded(shared, tuple(shared.ids), shared.features, labels, tuple(shared.ids))
    assert db.evaluate(chosen(), hidden).counts["images"] == 28


def test_a_result_says_which_split_chose_what(tmp_path: Path) -> None:
    clf = chosen().tuned(db.labelled(VAL, BIRDS, ENCODER))
    assert clf.tuning is not None
    w = clf.tuning.w
    result = db.evaluate(clf, TEST)
    assert result.protocol == (
        f"uses support labels of ready:train (15 images), w = {w:g} tuned on ready:val (25 images)"
    )
    assert result.chosen == {
        "support": {"split": "ready:train", "images": 15},
        "w": {"value": w, "split": "ready:val", "images": 25, "right": clf.tuning.right},
    }
    result.save(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["chosen"]["w"]["split"] == "ready:val"
    loaded = Evaluation.load(tmp_path)
    assert (loaded.chosen, loaded.protocol, loaded.title) == (result.chosen, result.protocol, result.title)
    again = method(loaded.method)
    assert again == clf.method
    assert db.evaluate(classifier("disclip"), TEST).protocol == "uses support labels"
    unnamed = classifier("disclip").tuned(VALIDATION, "mine")
    assert db.evaluate(unnamed, TEST).protocol == f"uses support labels, {unnamed.tuning}"
    assert re.fullmatch(r"w = [\d.]+ tuned on mine \(40 images\)", str(unnamed.tuning))


def test_the_curve_counts_what_each_weight_gets_right_on_the_test_itself() -> None:
    curve = curve_of(chosen(), TEST)
    assert (curve.dataset, curve.images, len(curve.weights), len(curve.right)) == ("ready:test", 30, 160, 160)
    for row in (0, 4, 11, 100):
        alone = db.evaluate(chosen(f"disclip(w={WEIGHTS[row]})"), TEST)
        assert curve.right[row] == alone.hits.sum()
    assert curve.best == WEIGHTS[next(i for i in range(160) if curve.right[i] == max(curve.right))]


@pytest.fixture
def files(run: Run) -> None:
    """Features of three splits and of all texts of `disclip`, as `features:` files, and the descriptions."""
    for split in (TRAIN, VAL, TEST):
        labels, names = split.labels, np.array(split.names)
        np.savez(f"{split.name}.npz", image_features=split.features, labels=labels, names=names, ids=split.ids)
    plain = [name.replace("_", " ") for name in NAMES]
    texts = [text for own in LISTS.values() for text in own] + [f"A photo of a {name}." for name in plain]
    texts = list(dict.fromkeys([*texts, *plain, *(f"a photo of a {name}." for name in plain)]))
    texts += [f"{name}, which {tail}" for name in plain for tail in ("has x", "has y")]
    np.savez("texts.npz", texts=np.array(texts), text_features=ENCODER.encode_texts(texts).numpy())
    TOLD.save("birds.json")


EVALUATE = ("evaluate", "features:test.npz", "-e", "features:texts.npz", "-d", "birds.json")


@pytest.mark.usefixtures("files")
def test_evaluate_selects_by_support_and_tunes_on_validation(run: Run) -> None:
    options = ("--support", "features:train.npz", "--validation", "features:val.npz", "-o", "runs")
    done = run(*EVALUATE, "-m", "disclip", "-m", "disclip(w=0)", *options)
    assert done.code == 0, done.err
    expected = chosen().tuned(db.labelled(VAL, BIRDS, ENCODER)).tuning
    assert expected is not None
    lines = {line.split("  ")[0]: line for line in done.out.splitlines()}
    used = "uses support labels of features:train.npz (15 images)"
    assert lines["disclip"].endswith(f"{used}, w = {expected.w:g} tuned on features:val.npz (25 images)")
    assert lines["disclip(w=0)"].endswith(used)  # a weight that is spelled stays
    runs = {run_.title: run_ for run_ in map(Evaluation.load, sorted(Path("runs").iterdir()))}
    assert runs[f"disclip(w={expected.w!r})"].chosen["w"]["right"] == expected.right
    assert "w" not in runs["disclip(w=0)"].chosen
    assert db.compare([runs["disclip(w=0)"], runs[f"disclip(w={expected.w!r})"]]).differences


@pytest.mark.usefixtures("files")
def test_evaluate_shows_the_curve_and_says_that_it_is_no_result(run: Run) -> None:
    command = (*EVALUATE, "-m", "disclip", "-m", "disclip(w=0)", "--support", "features:train.npz", "--curve")
    done = run(*command)
    assert done.code == 0, done.err
    curve = curve_of(chosen(), TEST)
    start = done.out.index("curve of disclip over w on features:test.npz, 30 images: not a result, since its best ")
    assert f"{100 * curve.right.max() / 30:.1f} at w = {curve.best:g}) is tuned on this split" in done.out[start:]
    rows = [line.split() for line in done.out[start:].splitlines()[2:]]
    assert 12 <= len(rows) <= 13 and str(rows[0][0]) == "0" and f"{curve.best:g}" in {row[0] for row in rows}
    assert done.out.count("curve of") == 1  # the two differ in the weight only
    found = json.loads(run(*command, "--json").out)
    assert found["curves"]["disclip"]["right"] == curve.right.tolist()
    assert found["curves"]["disclip"]["weights"] == WEIGHTS.tolist()
    assert found["curves"]["disclip"]["not_a_result"] == "the best weight is tuned on this split"
    assert "uses support labels of features:train.npz (15 images)" in {one["protocol"] for one in found["runs"]}
    assert all(one["ties"] == 0 for one in found["runs"])


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("-m", "disclip"),
            "disclip selects by labelled images; name some that are not those of the test",
        ),
        (("-m", "dclip", "--support", "features:train.npz"), "--support is for a method that selects by labelled"),
        (("-m", "dclip", "--validation", "features:val.npz"), "--validation chooses the weight w of disclip"),
        (("-m", "disclip(w=0, own=True)", "--validation", "features:val.npz"), "--validation chooses the weight w"),
        (("-m", "dclip", "--curve"), "--curve is over the weight w of disclip; no method here has it"),
        (("-m", "disclip", "--support", "features:test.npz"), "30 of the 30 images of features:test.npz are in the"),
        (
            ("-m", "disclip(own=True)", "--validation", "features:test.npz"),
            "30 of the 30 images of features:test.npz are in the validation set features:test.npz too",
        ),
        (
            ("-m", "disclip", "--support", "features:train.npz", "--validation", "features:train.npz"),
            "15 of the 15 images of features:train.npz are in the support set",
        ),
        (("-m", "disclip", "--support", "features:other.npz"), "features:other.npz: 1 label without a class: 'emu'"),
    ],
)
def test_evaluate_refuses_images_that_choose_and_are_tested_on(
    run: Run, options: tuple[str, ...], message: str
) -> None:
    np.savez("other.npz", image_features=TRAIN.features, labels=np.zeros(15, int), names=np.array(["emu"]))
    done = run(*EVALUATE, *options)
    assert (done.code, done.out) == (2, "")
    assert re.match(f"error: {re.escape(message)}", done.err), done.err


def test_an_unreadable_picture_of_the_support_is_named_and_gives_exit_code_3(run: Run, tmp_path: Path) -> None:
    from descbench.demo.guide import species
    from descbench.demo.renderer import render

    for split, seeds in (("train", (1, 2)), ("test", (3, 4))):
        for page in species()[:2]:
            folder = tmp_path / split / page.name
            folder.mkdir(parents=True)
            for seed in seeds:
                render(page.bird, 5_000_000 + seed).save(folder / f"{seed}.png")
    (folder := tmp_path / "train" / species()[0].name).joinpath("broken.png").write_bytes(b"no picture")
    Path("two.json").write_text(json.dumps({page.name: ["a green body", "red legs"] for page in species()[:2]}))
    options = ("-e", "demo", "-d", "two.json", "-m", "disclip(k=2)", "--support", f"folder:{tmp_path / 'train'}")
    done = run("evaluate", f"folder:{tmp_path / 'test'}", *options)
    assert done.code == 3, done.err
    assert "1 cannot be read" in done.err and str(folder / "broken.png") in done.err
    assert f"uses support labels of folder:{tmp_path / 'train'} (4 images)" in done.out
