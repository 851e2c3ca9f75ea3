"""Intervals and tests against scipy, published figures, and loops over the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from descbench.errors import InputError
from descbench.statistics import Metric, mcnemar, mean_per_class, p_value, paired_difference, wilson


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


@pytest.mark.parametrize(("images", "alike"), [((1,), 2.0), ((2,), 2.0), ((2,), 0.3), ((5,), 1.0), ((1, 3), 2.0)])
def test_a_per_class_interval_covers_the_true_mean_of_few_images_a_class(images: tuple[int, ...], alike: float) -> None:
    """Of 40 classes, which differ from each other the more the smaller `alike` is; 95 % nominally, 85 % and less where
    as many images as there are would be drawn of each class."""
    draw, covered = np.random.default_rng(images), 0
    labels = np.repeat(np.arange(40), np.resize(images, 40))
    for _ in range(300):
        p = draw.beta(alike, alike, 40)
        found = mean_per_class(draw.random(len(labels)) < p[labels], labels, draws=600)
        covered += found.low <= p.mean() <= found.high
    assert covered >= 0.9 * 300


def test_a_p_too_small_to_be_read_is_said_to_be_below_a_bound() -> None:
    assert [p_value(p) for p in (1.0, 0.0312, 1e-4, 9e-5, 0.0)] == ["1", "0.031", "0.0001", "< 0.0001", "< 0.0001"]
    assert (p_value(0.2, "p"), p_value(1e-9, "McNemar p")) == ("p = 0.2", "McNemar p < 0.0001")
    assert (p_value(0.0009, "p", 0.001), p_value(0.001, "p", 0.001)) == ("p < 0.001", "p = 0.001")


def test_where_nothing_varies_the_interval_per_class_is_wilsons() -> None:
    for right, n in ((80, 80), (0, 80), (40, 80)):  # all right, all wrong, every class one of the two
        found = mean_per_class(np.arange(80) < right, np.arange(80) // 2)
        assert (found.value, found.low, found.high) == (
            wilson(right, n).value,
            wilson(right, n).low,
            wilson(right, n).high,
        )
    # A mean over classes of 1 and 3 images tells as much as one over 2 x 2 / (1 + 1/3) = 3 images.
    found = mean_per_class(np.ones(4, dtype=bool), np.array([0, 1, 1, 1]))
    assert found.low == pytest.approx(wilson(3, 3).low) and found.n == 4


def test_many_kinds_of_classes_are_drawn_in_blocks() -> None:
    kinds = [(n, right) for n in range(2, 46) for right in range(n + 1)]  # more than 1,000
    labels = np.repeat(np.arange(len(kinds)), [n for n, _ in kinds])
    hits = np.concatenate([np.arange(n) < right for n, right in kinds])
    shares = np.array([right / n for n, right in kinds])
    deviation = np.sqrt(sum(p * (1 - p) / (n - 1) for (n, _), p in zip(kinds, shares, strict=True))) / len(kinds)
    found = mean_per_class(hits, labels, draws=3000)
    assert found.value == pytest.approx(shares.mean())
    assert found.low == pytest.approx(shares.mean() - 1.96 * deviation, abs=0.15 * deviation)
    assert found.high == pytest.approx(shares.mean() + 1.96 * deviation, abs=0.15 * deviation)


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
