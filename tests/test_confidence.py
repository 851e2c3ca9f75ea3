"""What a confidence is worth, against scikit-learn, loops over the definition, and resampled images."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from descbench.confidence import abstention, auroc, calibration_error, fpr_at_tpr
from descbench.errors import InputError
from descbench.statistics import wilson

SEEDS = st.integers(0, 10_000)


def binned_by_hand(confidence: np.ndarray, hits: np.ndarray, bins: int = 15) -> float:
    """The calibration error bin by bin, (low, high], the first with 0."""
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if (b / bins < c <= (b + 1) / bins) or (b == 0 and c == 0)]
        if inside:
            accuracy = sum(bool(hits[i]) for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@given(st.integers(1, 60), st.sampled_from([2, 15, 1000]), SEEDS)
@settings(deadline=None, max_examples=50)
def test_the_calibration_error_is_its_definition(n: int, levels: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    confidence, hits = draw.integers(0, levels + 1, n) / levels, draw.random(n) < 0.5  # many on the edge of a bin
    found = calibration_error(confidence, hits, draws=20)
    assert found.value == pytest.approx(binned_by_hand(confidence, hits), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.n == n


def test_what_is_sure_and_right_has_no_calibration_error_and_what_is_sure_and_wrong_all() -> None:
    sure = np.ones(20)
    right, wrong = calibration_error(sure, sure > 0), calibration_error(sure, sure < 0)
    assert (right.value, right.low, right.high) == (0, 0, 0) and (wrong.value, wrong.low, wrong.high) == (1, 1, 1)


def calibrated(draw: np.random.Generator, n: int, off: float) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are right less often by `off` than their confidence says, which is over one half."""
    confidence = 0.5 + 0.5 * draw.random(n)
    return confidence, draw.random(n) < confidence - off


@pytest.mark.parametrize("n", [300, 3000])
def test_the_interval_of_a_calibration_error_covers_the_true_one(n: int) -> None:
    draw = np.random.default_rng(n)
    found = [calibration_error(*calibrated(draw, n, 0.15), draws=300) for _ in range(60)]
    assert sum(one.low <= 0.15 <= one.high for one in found) >= 51  # of 60, at 95 % nominally 57


def test_many_images_are_drawn_in_runs_with_the_spread_of_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    confidence, hits = calibrated(np.random.default_rng(5), 4000, 0.1)
    runs = calibration_error(confidence, hits)
    monkeypatch.setattr("descbench.statistics.SINGLE", 5000)
    single = calibration_error(confidence, hits)
    assert runs.value == single.value and runs != single
    assert runs.low == pytest.approx(single.low, abs=0.003) and runs.high == pytest.approx(single.high, abs=0.003)


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3, 10_000]), SEEDS)
@example(1, 9, 10_000, 0)  # all known above all unknown: shares of ninths add up to more than 1 in floats
@settings(deadline=None, max_examples=60)
def test_the_auroc_and_the_fpr_are_those_of_scikit_learn(n: int, m: int, levels: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    known, unknown = draw.integers(0, levels, n) / levels, draw.integers(0, levels, m) / levels
    both, is_known = np.concatenate([known, unknown]), np.arange(n + m) < n
    area, passed = auroc(known, unknown, draws=20), fpr_at_tpr(known, unknown, draws=20)
    assert area.value == pytest.approx(sk.roc_auc_score(is_known, both), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(is_known, both, drop_intermediate=False)
    assert passed.value == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-12)], abs=1e-12)
    assert area.n == passed.n == n + m
    assert 0 <= area.low <= area.high <= 1 and 0 <= passed.low <= passed.high <= 1


@pytest.mark.parametrize("n", [40, 700])
def test_the_intervals_of_open_sets_agree_with_resampling_both_kinds(n: int) -> None:
    draw = np.random.default_rng(n)
    known, unknown = draw.normal(1, 1, n).round(1), draw.normal(0, 1, n // 2).round(1)
    areas, shares = [], []
    for _ in range(1500):
        a, b = draw.choice(known, len(known)), draw.choice(unknown, len(unknown))
        areas.append((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)
        threshold = np.sort(a)[len(a) - int(np.ceil(0.95 * len(a)))]
        shares.append((b >= threshold).mean())
    for found, drawn in ((auroc(known, unknown), areas), (fpr_at_tpr(known, unknown), shares)):
        low, high = np.quantile(drawn, [0.025, 0.975])
        width = high - low
        assert found.low == pytest.approx(low, abs=0.12 * width) and found.high == pytest.approx(high, abs=0.12 * width)


def test_scores_that_are_all_different_are_drawn_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    known, unknown = draw.normal(1, 1, 600), draw.normal(0, 1, 400)
    found = auroc(known, unknown)
    monkeypatch.setattr("descbench.confidence.RUNS", 1000)  # each by itself
    single = auroc(known, unknown)
    assert found.value == single.value and found != single
    assert found.low == pytest.approx(single.low, abs=0.004) and found.high == pytest.approx(single.high, abs=0.004)
    assert found.low < found.value < found.high


def area_by_hand(confidence: np.ndarray, hits: np.ndarray) -> float:
    """The mean over all orders that sort by confidence, of the mean over n of the risk of the first n."""
    n = len(hits)
    areas = []
    for order in permutations(range(n)):
        if all(confidence[order[i]] >= confidence[order[i + 1]] for i in range(n - 1)):
            areas.append(np.mean([1 - np.mean([hits[i] for i in order[:k]]) for k in range(1, n + 1)]))
    return float(np.mean(areas))


@given(st.integers(1, 6), st.sampled_from([1, 2, 100]), SEEDS)
@settings(deadline=None, max_examples=50)
def test_the_risk_coverage_curve_is_its_definition_whatever_the_order_of_ties(n: int, levels: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    confidence, hits = draw.integers(0, levels, n).astype(float), draw.random(n) < 0.6
    found = abstention(confidence, hits)
    assert found.area == pytest.approx(area_by_hand(confidence, hits), abs=1e-12)
    assert found.threshold.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for coverage, accuracy, threshold in zip(found.coverage, found.accuracy, found.threshold, strict=True):
        answered = confidence >= threshold
        assert coverage == answered.mean() and accuracy == hits[answered].mean()
    assert found.coverage[-1] == 1 and found.accuracy[-1] == pytest.approx(hits.mean())


def test_a_confidence_without_information_risks_what_is_wrong_and_a_perfect_one_less() -> None:
    hits = np.arange(100) % 4 > 0
    assert abstention(np.zeros(100), hits).area == pytest.approx(0.25)
    assert abstention(hits.astype(float), hits).area == pytest.approx(
        sum(max(0, n - 75) / n for n in range(1, 101)) / 100
    )
    assert abstention(np.arange(100.0), np.ones(100, dtype=bool)).area == 0


def test_the_surer_answers_have_wilsons_interval_and_equal_ones_are_given_together() -> None:
    confidence = np.array([0.9, 0.9, 0.8, 0.7, 0.7, 0.7, 0.2, 0.1])
    hits = np.array([1, 0, 1, 1, 0, 0, 0, 1], dtype=bool)
    curve = abstention(confidence, hits)
    for wanted, answered, right in ((0.1, 2, 1), (0.25, 2, 1), (0.375, 3, 2), (0.4, 6, 3), (0.8, 7, 3), (1, 8, 4)):
        found = curve.at(wanted)
        assert (found.coverage, found.accuracy) == (answered / 8, wilson(right, answered)), wanted
        assert found.threshold == np.sort(confidence)[::-1][answered - 1]


@pytest.mark.parametrize("n", [5, 300])
def test_kinds_that_are_apart_have_an_interval_that_is_no_point(n: int) -> None:
    known, unknown = 2 + np.arange(n) / n, np.arange(40) / 40
    area, passed = auroc(known, unknown), fpr_at_tpr(known, unknown)
    rarer = wilson(min(n, 40), min(n, 40))
    assert (area.value, area.low, area.high) == (1, rarer.low, 1)
    assert (passed.value, passed.low, passed.high) == (0, 0, wilson(0, 40).high)


def test_without_an_image_nothing_is_measured() -> None:
    nothing = np.array([])
    for measure in (
        lambda: calibration_error(nothing, nothing.astype(bool)),
        lambda: abstention(nothing, nothing.astype(bool)),
        lambda: auroc(nothing, np.ones(2)),
        lambda: fpr_at_tpr(np.ones(2), nothing),
    ):
        with pytest.raises(InputError, match=r"no image|given: "):
            measure()
    for wrong in (1.2, -0.1, np.nan):
        with pytest.raises(InputError, match="a probability, from 0 to 1"):
            calibration_error(np.array([wrong]), np.array([True]))
