"""What the authors' code produced in float32, through the public API: the same texts, the same scores to 1e-6."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import Lookup

import descbench as db

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the golden files are not part of the project")

SEEDS = [None, 0, 1]  # of the permutation of the vocabulary; None: the order of the file


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / "golden" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def lookup(z: dict[str, np.ndarray]) -> Lookup:
    return Lookup(dict(zip(z["texts"].tolist(), z["text_features"], strict=True)))


def vocabulary(z: dict[str, np.ndarray], seed: int | None) -> tuple[db.Vocabulary, np.ndarray]:
    """The classes, in the order of the file or in another one, and for each class the authors' number of it."""
    names = z["class_names"].tolist()
    order = np.arange(len(names)) if seed is None else np.random.default_rng(seed).permutation(len(names))
    return db.Vocabulary([names[i] for i in order]), order


def check(pred: db.Predictions, order: np.ndarray, scores: np.ndarray, best: np.ndarray) -> None:
    """`scores` (N, C) and `best` (N,) of the authors, by their numbers, against the whole ranking."""
    assert pred.ids.shape == scores.shape
    found = np.empty_like(scores)
    np.put_along_axis(found, order[pred.ids], pred.scores, axis=1)
    assert np.abs(found - scores).max() <= 1e-6
    top = np.sort(scores, axis=1)
    clear = top[:, -1] - top[:, -2] >= 1e-6
    assert clear.mean() > 0.9
    assert np.array_equal(order[pred.ids[clear, 0]], best[clear])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["eurosat", "pets"])
def test_dclip_is_the_authors_dclip(name: str, seed: int | None) -> None:
    z = golden(f"dclip_{name}")
    vocab, order = vocabulary(z, seed)
    descriptions = db.read_descriptions(DATA / "descriptions" / "dclip" / f"descriptors_{name}.json", vocab)
    C = len(vocab)
    for spelling, scores in (
        ("dclip(phrasing='authors')", "scores"),
        ("dclip(phrasing='authors', pool='max_score')", "scores_max"),
    ):
        encoder = lookup(z)
        clf = db.Classifier(vocab, db.method(spelling), encoder, descriptions=descriptions)
        pred = clf.predict_features(z["image_features"], top_k=C)
        assert set(encoder.asked) == set(z["prompts"].tolist())
        check(pred, order, z[scores], z[scores].argmax(axis=1))
        if scores == "scores":
            check(pred, order, z[scores], z["pred"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["eurosat", "pets"])
def test_each_class_has_the_authors_texts_in_their_order(name: str, seed: int | None) -> None:
    z = golden(f"dclip_{name}")
    vocab, order = vocabulary(z, seed)
    descriptions = db.read_descriptions(DATA / "descriptions" / "dclip" / f"descriptors_{name}.json", vocab)
    bank = db.method("dclip(phrasing='authors')").texts(vocab, descriptions)
    for position, number in enumerate(order):
        assert bank.texts_of(position) == tuple(z["prompts"][z["prompt_class"] == number].tolist())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["eurosat", "pets"])
def test_the_class_name_alone_is_the_authors_baseline(name: str, seed: int | None) -> None:
    z = golden(f"dclip_{name}")
    vocab, order = vocabulary(z, seed)
    encoder = lookup(z)
    pred = db.Classifier(vocab, db.method("classname"), encoder).predict_features(z["image_features"], top_k=len(vocab))
    assert set(encoder.asked) == set(z["label_prompts"].tolist())
    check(pred, order, z["classname_scores"], z["classname_pred"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", ["sentences", "templates", "both"])
def test_cupl_is_the_authors_cupl(part: str, seed: int | None) -> None:
    z = golden("cupl_pets")
    vocab, order = vocabulary(z, seed)
    templates = tuple(z["templates"].tolist())
    descriptions = db.read_descriptions(DATA / "descriptions" / "cupl" / "pets_prompts_full.json", vocab)
    spelling, prefix = {
        "sentences": ("cupl", ""),
        "templates": (f"templates({templates!r})", "templates_"),
        "both": (f"cupl(with_templates=True, templates={templates!r})", "both_"),
    }[part]
    encoder = lookup(z)
    clf = db.Classifier(vocab, db.method(spelling), encoder, descriptions=descriptions)
    pred = clf.predict_features(z["image_features"], top_k=len(vocab))
    if part == "both":
        assert set(encoder.asked) == set(z["texts"].tolist())
    check(pred, order, z[f"{prefix}scores"], z[f"{prefix}pred"])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [5, 10])
def test_fudd_is_the_authors_fudd(k: int, seed: int | None) -> None:
    z = golden(f"fudd_eurosat_k{k}")
    vocab, order = vocabulary(z, seed)
    descriptions = db.read_descriptions(DATA / "descriptions" / "fudd" / "eurosat_prompt_pairs.json", vocab)
    encoder = lookup(z)
    clf = db.Classifier(vocab, db.method(f"fudd(k={k}, phrasing='authors')"), encoder, descriptions=descriptions)
    pred = clf.predict_features(z["image_features"], top_k=10)
    assert set(encoder.asked) == set(z["texts"].tolist())
    assert clf.counts["undescribed_pairs"] == 0
    numbers = order[pred.ids]
    rows = np.arange(len(numbers))[:, None]
    theirs = np.full(numbers.shape, np.nan)
    np.put_along_axis(theirs, z["candidates"], z["scores"], axis=1)
    assert np.abs(pred.scores[:, :k] - theirs[rows, numbers[:, :k]]).max() <= 1e-6  # NaN for another candidate
    assert np.abs(pred.scores[:, k:] - z["first_stage_scores"][rows, numbers[:, k:]]).max(initial=0) <= 1e-6
    best = np.sort(z["scores"], axis=1)
    clear = best[:, -1] - best[:, -2] >= 1e-6
    assert clear.mean() > 0.9
    assert np.array_equal(numbers[clear, 0], z["pred"][clear])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_stage_of_fudd_is_the_authors(seed: int | None) -> None:
    z = golden("fudd_eurosat_k5")
    vocab, order = vocabulary(z, seed)
    first = db.method("fudd(k=5, phrasing='authors')").stages[0]
    pred = db.Classifier(vocab, first, lookup(z)).predict_features(z["image_features"], top_k=10)
    check(pred, order, z["first_stage_scores"], z["first_stage_scores"].argmax(axis=1))
    assert np.array_equal(np.sort(order[pred.ids[:, :5]]), np.sort(z["candidates"]))


def test_all_pairs_at_once_are_differential_without_a_follow_up() -> None:
    z = golden("fudd_eurosat_noFU_gpt")
    vocab, order = vocabulary(z, None)
    descriptions = db.read_descriptions(DATA / "descriptions" / "fudd" / "eurosat_prompt_pairs.json", vocab)
    method = db.method("differential(fallback='A photo of a {}.', phrasing='authors')")
    pred = db.Classifier(vocab, method, lookup(z), descriptions=descriptions).predict_features(z["image_features"], 10)
    theirs = np.empty_like(z["scores"])
    np.put_along_axis(theirs, z["candidates"], z["scores"], axis=1)
    check(pred, order, theirs, z["pred"])


def test_cats_and_dogs_are_told_apart_by_real_features_and_a_users_labels_file() -> None:
    folder = DATA / "features"
    encoder = db.encoder(f"features:{folder / 'names_vitb32_text.npz'}")
    clf = db.Classifier(db.Vocabulary(["cat", "dog"]), db.method("template('a {}')"), encoder)
    data = db.dataset(f"features:{folder / 'pets_vitb32_images.npz'}")
    result = db.evaluate(clf, data, labels=folder / "pets_to_cat_dog.csv")
    assert (int(result.hits.sum()), result.metrics["top1"].n) == (3664, 3669)
