"""What the authors' code produced in float32, through the public API: the same texts, the same scores to 1e-6."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support import Lookup

import descbench as db

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the golden files are not part of the project")

SEEDS = [None, 0, 1]  # of the permutation of the vocabulary; None: the order of the file


SEEN: dict[str, list[float]] = {}
"""For each golden file the largest difference of a score, the ties, and the answers compared, for `make parity`."""

_current = [""]


def golden(name: str) -> dict[str, np.ndarray]:
    """The arrays of a golden file; what is compared next counts for it."""
    _current[0] = name
    return _arrays(name)


def seen(differences: np.ndarray, clear: np.ndarray) -> None:
    """Note the differences of scores (none where only answers are known) and which answers are clear, not a tie."""
    entry = SEEN.setdefault(_current[0], [float("nan"), 0, 0])
    if differences.size:
        entry[0] = float(np.fmax(entry[0], np.abs(differences).max()))
    entry[1] += int((~clear).sum())
    entry[2] += clear.size


@cache
def _arrays(name: str) -> dict[str, np.ndarray]:
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
    top = np.sort(scores, axis=1)
    clear = top[:, -1] - top[:, -2] >= 1e-6
    seen(found - scores, clear)
    assert np.abs(found - scores).max() <= 1e-6
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


WAFFLES = sorted(path.stem for path in (DATA / "golden").glob("waffle_*.npz"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", WAFFLES)
def test_given_random_texts_are_pooled_as_the_authors_waffle_does(name: str, seed: int | None) -> None:
    z = golden(name)
    vocab, order = vocabulary(z, seed)
    ends = np.cumsum(z["prompts_per_class"])
    given = [texts.tolist() for texts in np.split(z["prompts"], ends[:-1])]
    descriptions = db.Descriptions({i: given[number] for i, number in enumerate(order)}, names=dict(vocab))
    pool = "max_score" if name.endswith("_max") else "mean_score"
    encoder = lookup(z)
    clf = db.Classifier(vocab, db.method(f"cupl(pool={pool!r})"), encoder, descriptions=descriptions)
    pred = clf.predict_features(z["image_features"], top_k=len(vocab))
    assert set(encoder.asked) == set(z["prompts"].tolist())
    check(pred, order, z["scores"], z["pred"])


def form_of(texts: list[str]) -> list[tuple[int, int, set[int]]]:
    """Of each pair of texts: how many words, the longest of them, and the lengths of the groups of characters."""
    items = [text.partition(", which ")[2].partition(" ")[2].removesuffix(".") for text in texts]
    words = [item.split() for item in items[::2]]
    groups = [item.split(", ") for item in items[1::2]]
    return [(len(w), max(map(len, w)), {len(g) for g in gs}) for w, gs in zip(words, groups, strict=True)]


@pytest.mark.parametrize("name", WAFFLES)
def test_our_random_texts_have_the_authors_form(name: str) -> None:
    z = golden(name)
    vocab, _ = vocabulary(z, None)
    ours = [form_of(list(db.method(f"waffle(seed={s})").texts(vocab, db.Descriptions()).texts_of(0))) for s in range(7)]
    theirs = form_of(z["prompts"].tolist()[: z["prompts_per_class"][0]])
    assert all(len(found) == len(theirs) == 15 for found in ours)
    for form in (lambda row: row[0], lambda row: row[2]):
        assert all(form(row) == form(theirs[0]) for row in [*theirs, *(row for found in ours for row in found)])
    assert max(row[1] for found in ours for row in found) == max(row[1] for row in theirs)


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
    seen(pred.scores[:, :k] - theirs[rows, numbers[:, :k]], clear)
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


DISCLIP = sorted(path.stem for path in (DATA / "golden").glob("disclip_*.npz"))


class Disclip:
    """A golden file of DisCLIP under a spelling of ours, with the classes in another order, also in the descriptions.

    `here` is our id of each of the authors' classes, `order` the authors' number of each of our ids.
    """

    def __init__(self, name: str, spelling: str, seed: int | None) -> None:
        self.z = golden(name)
        lists, k, m = re.fullmatch(r"disclip_(.+)_k(\d+)_m(\d+)", name).groups()  # type: ignore[union-attr]
        self.k, self.C = int(k), len(self.z["class_names"])
        vocab, self.order = vocabulary(self.z, seed)
        self.here = np.argsort(self.order)
        path = DATA / "descriptions" / "disclip" / f"descriptions_{lists}.json"
        found = db.read_descriptions(path, vocab)
        if seed:
            found = db.Descriptions(dict(reversed(found.classes.items())), names=dict(reversed(found.names.items())))
        self.lists = [found.classes[int(id_)] for id_ in self.here]  # by the authors' numbers
        method = db.method(spelling.format(k=k, m=m, C=self.C))
        support = (self.z["support_features"], self.here[self.z["support_labels"]])
        self.encoder = lookup(self.z)
        self.clf = db.Classifier(
            *(vocab, method, self.encoder), descriptions=found, support=None if "own" in spelling else support
        )

    def similar(self, part: str) -> np.ndarray:
        """The similarities of the images to some texts, in float64."""
        return self.z["image_features"].astype(float) @ np.stack([self.encoder.features[t] for t in self.z[part]]).T

    def selection(self) -> np.ndarray:
        return np.unpackbits(self.z["selection"], axis=-1)[..., : len(self.z["descriptions"])].astype(bool)


def clearly(scores: np.ndarray) -> np.ndarray:
    """Where the two best of (..., k) scores are at least 1e-6 apart."""
    top = np.sort(scores, axis=-1)
    found: np.ndarray = top[..., -1] - top[..., -2] >= 1e-6
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DISCLIP)
def test_disclip_selects_the_authors_descriptors_among_the_authors_candidates(name: str, seed: int | None) -> None:
    d = Disclip(name, "disclip(k={k}, m={m})", seed)
    pred = d.clf.predict_features(d.z["image_features"], top_k=d.k)
    assert set(d.encoder.asked) == {*d.z["captions"].tolist(), *d.z["descriptions"].tolist()}
    assert np.array_equal(np.sort(d.order[pred.ids]), np.sort(d.z["candidates"]))
    first = db.Classifier(pred.vocabulary, d.clf.method.stages[0], d.encoder)  # type: ignore[union-attr]
    ranked = first.predict_features(d.z["image_features"], top_k=d.k)
    assert np.array_equal(d.order[ranked.ids], d.z["candidates"])
    selector = d.clf._selector(d.clf.method.stages[1])  # type: ignore[union-attr]
    assert selector.texts[: selector.pool] == d.z["descriptions"].tolist()
    for candidates, theirs in zip(d.here[d.z["candidates"]], d.selection(), strict=True):
        row = np.sort(candidates)
        ours = selector.select(row[None, :])[0]
        for id_, chosen in zip(candidates, theirs, strict=True):
            rows = ours[row.tolist().index(id_)]
            assert rows[rows >= 0].tolist() == np.flatnonzero(chosen).tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DISCLIP)
def test_disclip_answers_as_the_authors_at_all_160_weights(name: str, seed: int | None) -> None:
    d = Disclip(name, "disclip(k={k}, m={m}, w=2.25)", seed)
    answers = d.order[d.clf.curve(d.z["image_features"])]
    assert answers.shape == d.z["pred_namefree"].shape and len(d.z["weights"]) == 160
    chosen = d.selection()
    described = np.einsum("np,nkp->nk", d.similar("descriptions"), chosen / chosen.sum(axis=-1, keepdims=True))
    caption = np.take_along_axis(d.similar("captions"), d.z["candidates"], axis=1)
    clear = clearly(d.z["weights"][:, None, None] * caption + described)
    pred = d.clf.predict_features(d.z["image_features"], top_k=d.k)
    ours = np.full((len(caption), d.C), np.nan)
    np.put_along_axis(ours, d.order[pred.ids], pred.scores, axis=1)
    off = np.take_along_axis(ours, d.z["candidates"], axis=1) - (2.25 * caption + described)
    seen(off, clear)
    assert np.abs(off).max() <= 1e-6
    assert clear.mean() > 0.9
    assert np.array_equal(answers[clear], d.z["pred_namefree"][clear])
    assert np.array_equal(d.order[pred.ids[:, 0]], answers[9])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DISCLIP)
def test_the_language_models_own_lists_are_the_authors_control(name: str, seed: int | None) -> None:
    d = Disclip(name, "disclip(k={C}, own=True)", seed)
    answers = d.order[d.clf.curve(d.z["image_features"], d.z["weights"])]
    row = {text: i for i, text in enumerate(d.z["descriptions"].tolist())}
    similar = d.similar("descriptions")
    described = np.stack([similar[:, sorted({row[t] for t in own})].mean(axis=1) for own in d.lists], axis=1)
    clear = clearly(d.z["weights"][:, None, None] * d.similar("captions") + described)
    seen(np.zeros(0), clear)
    assert clear.mean() > 0.9
    assert np.array_equal(answers[clear], d.z["pred_namefree_llm"][clear])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pool", ["mean", "max"])
@pytest.mark.parametrize("name", DISCLIP)
def test_disclip_with_the_name_is_the_authors(name: str, pool: str, seed: int | None) -> None:
    d = Disclip(name, f"disclip(k={{k}}, m={{m}}, named=True, pool='{pool}_score')", seed)
    pred = d.clf.predict_features(d.z["image_features"], top_k=d.k)
    assert set(d.encoder.asked) == set(d.z["texts"].tolist())
    theirs = json.loads(str(d.z["full_texts"]))  # for each image and candidate its m texts
    x = d.z["image_features"].astype(float)
    of = np.array([[[d.encoder.features[t] for t in texts] for texts in row] for row in theirs])  # (N, k, m, D)
    scores = getattr(np.einsum("nd,nkmd->nkm", x, of), pool)(axis=-1)
    ours = np.full((len(x), d.C), np.nan)
    np.put_along_axis(ours, d.order[pred.ids], pred.scores, axis=1)
    off = np.take_along_axis(ours, d.z["candidates"], axis=1) - scores
    clear = clearly(scores)
    seen(off, clear)
    assert np.abs(off).max() <= 1e-6
    assert clear.mean() > 0.9
    assert np.array_equal(d.order[pred.ids[clear, 0]], d.z[f"pred_with_name_{pool}"][clear])


def test_cats_and_dogs_are_told_apart_by_real_features_and_a_users_labels_file() -> None:
    folder = DATA / "features"
    encoder = db.encoder(f"features:{folder / 'names_vitb32_text.npz'}")
    clf = db.Classifier(db.Vocabulary(["cat", "dog"]), db.method("template('a {}')"), encoder)
    data = db.dataset(f"features:{folder / 'pets_vitb32_images.npz'}")
    result = db.evaluate(clf, data, labels=folder / "pets_to_cat_dog.csv")
    assert (int(result.hits.sum()), result.metrics["top1"].n) == (3664, 3669)
