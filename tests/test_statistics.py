"""Intervals and tests against scipy, published figures, and loops over the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from descbench.errors import InputError
from descbench.statistics import Metric, mcnemar, mean_per_class, paired_difference, wilson


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=60)
def test_wilson_agrees_with_scipy(hits_of: tuple[int, int]) -> None:
    hits, n = hits_of
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    found = wilson(hits, n)
    assert found.low == pytest.approx(expected.low, abs=1e-9) and found.high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= found.low <= found.value == hits / n <= found.high <= 1 and found.n == n


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score without continuity correction).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(hits: int, n: int, low: float, high: float) -> None:
    found = wilson(hits, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_a_metric_is_printed_in_percent() -> None:
    assert str(Metric(0.5, 0.25, 0.754, 8)) == "50.0 [25.0, 75.4]"


@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_mcnemar_is_the_two_sided_binomial_test(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemar_of_many_answers_does_not_underflow() -> None:
    assert mcnemar(5000, 5200) == pytest.approx(stats.binomtest(5000, 10200, 0.5).pvalue, rel=1e-9)
    assert 0 <= mcnemar(0, 5000) < 1e-300


def test_a_paired_difference_counts_what_was_gained_and_lost() -> None:
    a = np.array([1, 1, 0, 0, 0, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 1, 1, 1, 0, 0], dtype=bool)
    found = paired_difference(a, b)
    assert (found.gained, found.lost, found.n) == (3, 1, 8)
    assert found.value == 0.25
    assert found.p == pytest.approx(stats.binomtest(1, 4, 0.5).pvalue)


def test_a_paired_interval_agrees_with_resampling_the_images() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.random(300) < 0.5, draw.random(300) < 0.6
    differences = []
    for _ in range(4000):
        rows = draw.integers(0, 300, 300)
        differences.append(b[rows].mean() - a[rows].mean())
    low, high = np.quantile(differences, [0.025, 0.975])
    found = paired_difference(a, b)
    assert found.low == pytest.approx(low, abs=0.01) and found.high == pytest.approx(high, abs=0.01)
    assert found.low < found.value < found.high


def test_equal_answers_differ_by_nothing() -> None:
    hits = np.array([True, False, True])
    found = paired_difference(hits, hits)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_mean_per_class_weighs_classes_alike() -> None:
    labels = np.array([5, 5, 5, 5, 2, 2, 9])
    hits = np.array([1, 1, 1, 0, 0, 1, 0], dtype=bool)
    found = mean_per_class(hits, labels)
    assert found.value == pytest.approx((3 / 4 + 1 / 2 + 0) / 3) and found.n == 7


def test_a_per_class_interval_agrees_with_resampling_within_classes() -> None:
    draw = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2, 3], [80, 40, 20, 10])
    hits = draw.random(150) < np.array([0.9, 0.5, 0.3, 0.6])[labels]
    means = []
    for _ in range(4000):
        shares = []
        for label in range(4):
            own = hits[labels == label]
            shares.append(own[draw.integers(0, len(own), len(own))].mean())
        means.append(np.mean(shares))
    low, high = np.quantile(means, [0.025, 0.975])
    found = mean_per_class(hits, labels)
    assert found.low == pytest.approx(low, abs=0.012) and found.high == pytest.approx(high, abs=0.012)


def test_many_classes_are_resampled_in_blocks() -> None:
    labels = np.arange(2500)
    found = mean_per_class(np.ones(2500, dtype=bool), labels, draws=50)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_the_seed_decides_the_interval_and_nothing_global_does() -> None:
    hits, labels = np.arange(60) % 3 == 0, np.arange(60) % 5
    assert mean_per_class(hits, labels) == mean_per_class(hits, labels)
    np.random.default_rng().random()
    assert paired_difference(hits, ~hits, seed=4) == paired_difference(hits, ~hits, seed=4)


def test_without_an_image_there_is_no_share() -> None:
    nothing = np.array([], dtype=bool)
    for count in (
        lambda: wilson(0, 0),
        lambda: mean_per_class(nothing, np.array([], dtype=int)),
        lambda: paired_difference(nothing, nothing),
        lambda: paired_difference(np.array([True]), np.array([True, False])),
    ):
        with pytest.raises(InputError):
            count()
