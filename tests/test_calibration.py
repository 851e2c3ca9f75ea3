"""Probabilities, their likelihood and a fitted temperature, against scipy over the full matrix of scores."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.metrics import log_loss
from support import Lookup, drawn, unit

import descbench as db
from descbench import DescbenchWarning, Vocabulary, calibration, scoring
from descbench.calibration import RANGE, Normalisers, fit_scale
from descbench.errors import InputError
from descbench.scoring import best

NAMES = ("hen", "rooster", "turkey", "goose", "duck", "quail", "pigeon")
BIRDS = Vocabulary(NAMES, "farm birds", [7, 3, 11, 0, 5, 9, 2])
DIM = 12


def logits_of(scores: np.ndarray, scale: float, logarithm: bool) -> np.ndarray:
    return scale * (np.log(scores.astype(np.float64)) if logarithm else scores.astype(np.float64))


@given(st.integers(1, 9), st.integers(1, 7), st.booleans(), st.sampled_from([1, 5, 1 << 18]), st.integers(0, 999))
@settings(deadline=None, max_examples=50)
def test_what_is_kept_gives_the_softmax_over_all_classes(n: int, C: int, shares: bool, part: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.random((n, C)).astype(np.float32) * (0.2 if shares else 1) + np.float32(1e-6)
    right = draw.integers(0, C, (n, 2))
    scales = [1.0, 30.0]
    watch = Normalisers(n, scales, shares, right)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "BLOCK", 3 * C)
        patched.setattr(calibration, "CACHED", part)
        positions, top = best(torch.arange(n), lambda rows: torch.from_numpy(scores)[rows], C, C, 2, watch)
    assert watch.label_score is not None
    assert np.array_equal(watch.label_score, scores[np.arange(n)[:, None], right].max(axis=1))
    for softmax, scale in zip(watch.softmaxes, scales, strict=True):
        expected = special.softmax(logits_of(scores, scale, shares), axis=1)
        assert softmax.of(top) == pytest.approx(np.take_along_axis(expected, positions, axis=1), rel=2e-5, abs=1e-12)
        label = np.take_along_axis(expected, right, axis=1).max(axis=1)
        assert softmax.log_of(watch.label_score) == pytest.approx(np.log(label), rel=2e-5, abs=2e-5)


def made(seed: int, n: int, C: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores between -1 and 1 and labels, of which noise makes some wrong."""
    draw = np.random.default_rng(seed)
    scores = (0.2 * draw.normal(size=(n, C))).astype(np.float32)
    labels = (scores + noise * draw.normal(size=(n, C))).argmax(axis=1)
    return scores, labels


@given(st.integers(5, 99), st.integers(2, 12), st.floats(0.05, 1), st.sampled_from([0.1, 1, 100.0]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_the_fitted_factor_is_where_scipy_finds_the_least_loss(
    n: int, C: int, noise: float, own: float, seed: int
) -> None:
    scores, labels = made(seed, n, C, noise)

    def loss(log_scale: float) -> float:
        return float(
            -special.log_softmax(np.exp(log_scale) * scores.astype(np.float64), axis=1)[np.arange(n), labels].mean()
        )

    blocks = [(torch.from_numpy(scores[i : i + 7]), torch.from_numpy(labels[i : i + 7, None])) for i in range(0, n, 7)]
    scale, passes = fit_scale(lambda: blocks, own, False)
    ends = np.log(own / RANGE), np.log(own * RANGE)
    expected = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    assert loss(np.log(scale)) <= expected.fun + 1e-6
    assert own / RANGE <= scale <= own * RANGE and passes <= 25


def test_a_usual_fit_takes_few_passes() -> None:
    scores, labels = made(0, 2000, 50, 0.1)
    blocks = [(torch.from_numpy(scores), torch.from_numpy(labels[:, None]))]
    assert fit_scale(lambda: blocks, 100.0, False)[1] <= 10


@pytest.mark.parametrize(("right", "end"), [(True, RANGE), (False, 1 / RANGE)])
def test_what_is_all_right_or_all_wrong_ends_at_the_end_of_the_range(right: bool, end: float) -> None:
    scores = torch.tensor([[0.5, 0.1, 0.0], [0.1, 0.5, 0.2]])
    labels = torch.tensor([[0], [1]]) if right else torch.tensor([[2], [0]])
    scale, passes = fit_scale(lambda: [(scores, labels)], 1.0, False)
    assert scale == pytest.approx(end, rel=1e-4) and passes <= 8


class Ready:
    """A data set that holds image features near the texts of their classes."""

    name = fingerprint = "ready"

    def __init__(self, seed: int, n: int = 90, names: tuple[str, ...] = NAMES) -> None:
        self.seed, self.names, self.labels = seed, names, np.arange(n) % len(names)
        self.features = unit(TEXTS[self.labels] + 0.5 * drawn(seed, n, DIM)).astype(np.float32)
        self.ids = [f"image {seed} {i}" for i in range(n)]

    def __repr__(self) -> str:
        return f"ready:{self.seed}"

    def __len__(self) -> int:
        return len(self.ids)


TEXTS = unit(drawn(1, len(NAMES), DIM) + 0.6)
SPELLED = {
    "template('a {}')": "mean_feature",
    "dclip": "mean_score",
    "dclip(pool='max_score')": "max_score",
    "adaptclipzs": "mean_prob",
}


def classifier(spelling: str, scale: float = 20.0) -> db.Classifier:
    """Each class by one text, so that every pool gives its similarity, or the softmax of these."""
    told = db.Descriptions({id_: [f"{name} feather"] for id_, name in BIRDS}, names=dict(BIRDS))

    class AnyText(Lookup):
        def encode_texts(self, texts: object) -> torch.Tensor:
            rows = [TEXTS[next(i for i, name in enumerate(NAMES) if name in text)] for text in texts]  # type: ignore[attr-defined]
            return torch.from_numpy(np.stack(rows).astype(np.float32))

    return db.Classifier(BIRDS, db.method(spelling), AnyText({}, scale), descriptions=told)


@pytest.mark.parametrize("spelling", SPELLED)
def test_ece_and_nll_of_every_pool_are_those_of_the_full_matrix(spelling: str) -> None:
    clf, data = classifier(spelling), Ready(0)
    assert clf.method.pool == SPELLED[spelling]  # type: ignore[union-attr]
    result = db.evaluate(clf, data)
    p = special.softmax(20.0 * data.features.astype(np.float64) @ TEXTS.T, axis=1)
    assert result.metrics["nll"].value == pytest.approx(log_loss(data.labels, p), rel=1e-4)
    confidence, hits = p.max(axis=1), p.argmax(axis=1) == data.labels
    bins = np.ceil(confidence * 15)
    expected = sum(abs(hits[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    assert result.metrics["ece"].value == pytest.approx(expected, abs=1e-5)
    assert result.warnings == () and "nll_fitted" not in result.metrics


def test_shares_that_do_not_add_up_to_one_are_divided_by_their_sum() -> None:
    told = {id_: [f"{name} {part}" for part in range(1 + i)] for i, (id_, name) in enumerate(BIRDS)}
    texts = [text for _, own in told.items() for text in own]
    features = drawn(4, len(texts), DIM)
    encoder = Lookup(dict(zip(texts, features, strict=True)), 10.0)
    clf = db.Classifier(BIRDS, db.method("adaptclipzs"), encoder, descriptions=db.Descriptions(told, names=dict(BIRDS)))
    data = Ready(0)
    result = db.evaluate(clf, data)
    share = special.softmax(10.0 * data.features.astype(np.float64) @ features.T.astype(np.float64), axis=1)
    ends = np.cumsum([0, *(len(own) for own in told.values())])
    scores = np.stack([share[:, a:b].mean(axis=1) for a, b in pairwise(ends)], axis=1)
    p = scores / scores.sum(axis=1, keepdims=True)
    assert result.metrics["nll"].value == pytest.approx(log_loss(data.labels, p), rel=1e-4)


@pytest.mark.parametrize("spelling", SPELLED)
def test_a_temperature_is_fitted_on_other_images_and_changes_no_answer(spelling: str) -> None:
    clf, data, other = classifier(spelling, 200.0), Ready(0), Ready(1)
    fitted = clf.calibrated(db.labelled(other, BIRDS, clf.encoder))
    before, after = db.evaluate(clf, data), db.evaluate(fitted, data)
    assert np.array_equal(before.predictions.ids, after.predictions.ids)
    assert np.array_equal(before.predictions.scores, after.predictions.scores)
    for name in ("ece", "nll"):
        assert after.metrics[name] == before.metrics[name]
        assert after.metrics[f"{name}_fitted"].value < before.metrics[name].value
    assert after.chosen["temperature"]["split"] == "ready:1" and after.chosen["temperature"]["images"] == 90
    products = other.features.astype(np.float64) @ TEXTS.T

    def loss(temperature: float) -> float:
        return float(log_loss(other.labels, special.softmax(200.0 / temperature * products, axis=1)))

    best_one = optimize.minimize_scalar(loss, bounds=(0.5, 100), method="bounded").x
    assert after.chosen["temperature"]["value"] == pytest.approx(best_one, rel=1e-3)
    assert "ready:1 (90 images)" in str(fitted.calibration)


def test_images_that_fit_a_temperature_are_not_tested_on() -> None:
    clf, data = classifier("dclip"), Ready(0)
    fitted = clf.calibrated(db.labelled(data, BIRDS, clf.encoder))
    with pytest.raises(InputError, match="90 of the 90 images of ready:0 are in the validation set"):
        db.evaluate(fitted, data)
    with pytest.raises(InputError, match="which split is it calibrated on"):
        clf.calibrated((data.features, BIRDS.ids[data.labels]))


def test_a_follow_up_has_no_probabilities_and_says_so() -> None:
    clf = classifier("cascade(classname, dclip, k=3)")
    result = db.evaluate(clf, Ready(0))
    assert not {"ece", "nll"} & set(result.metrics)
    assert "no ece, nll: cascade(classname, dclip, k=3) ends in a follow-up" in result.warnings[0]
    with pytest.raises(InputError, match="there are no probabilities of all"):
        clf.calibrated(db.labelled(Ready(1), BIRDS, clf.encoder))
    with pytest.raises(InputError, match=r"has no probabilities .no ece.*use by='margin'"):
        result.abstention("probability")


def test_a_temperature_at_the_end_of_the_range_is_warned_of() -> None:
    clf, data = classifier("dclip"), Ready(1, 7)
    data.features = TEXTS.astype(np.float32)  # all right, by far
    with pytest.warns(DescbenchWarning, match=r"fitted on easy .7 images., the end of the range"):
        fitted = clf.calibrated((data.features, BIRDS.ids[data.labels]), "easy")
    assert fitted.calibration is not None and fitted.calibration.at_edge
