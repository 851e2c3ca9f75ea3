"""Counts of classes and of pairs, against scikit-learn's full matrix."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from descbench import Vocabulary
from descbench.confusion import Counts
from descbench.statistics import wilson

BIRDS = Vocabulary(["hen", "rooster", "turkey", "goose", "hen"], ids=[7, 3, 11, 0, 5])  # two of one name


def drawn(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and answers as ids, of the first `classes` only; often right."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(BIRDS.ids[:classes], n)
    return labels, np.where(draw.random(n) < 0.5, labels, draw.choice(BIRDS.ids, n))


CASES = given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10_000))


@CASES
@settings(deadline=None, max_examples=50)
def test_pairs_and_rows_are_those_of_the_full_matrix(n: int, classes: int, seed: int) -> None:
    labels, answers = drawn(n, classes, seed)
    counts = Counts(BIRDS, labels, answers, labels == answers)
    matrix = sk.confusion_matrix(labels, answers, labels=BIRDS.ids)  # (C, C): five classes, here only
    off = matrix - np.diag(np.diag(matrix))
    pairs = counts.confusion()
    assert {(p.label_id, p.answer_id): p.count for p in pairs} == {
        (int(BIRDS.ids[a]), int(BIRDS.ids[b])): int(off[a, b]) for a, b in zip(*off.nonzero(), strict=True)
    }
    assert [p.count for p in pairs] == sorted((p.count for p in pairs), reverse=True)
    assert counts.confusion(2) == pairs[:2]
    for position, row in enumerate(counts.rows()):
        assert (row.id, row.name) == (BIRDS.ids[position], BIRDS.names[position])
        assert (row.n, row.right) == (matrix[position].sum(), matrix[position, position])
        assert row.recall == (wilson(row.right, row.n) if row.n else None)
        assert row.answered == matrix[:, position].sum()
        assert row.precision == (row.right / row.answered if row.answered else None)
        assert row.confused == off[position].max()
        most = BIRDS.names[int(off[position].argmax())]  # the first of several
        assert row.confused_with == (most if row.confused else "")


@CASES
@settings(deadline=None, max_examples=50)
def test_macro_precision_and_f1_are_those_of_scikit_learn_over_the_classes_that_occur(
    n: int, classes: int, seed: int
) -> None:
    labels, answers = drawn(n, classes, seed)
    found = Counts(BIRDS, labels, answers, labels == answers).macro()
    options = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about a single label
        precision, f1 = sk.precision_score(labels, answers, **options), sk.f1_score(labels, answers, **options)
    for name, expected in (("macro_precision", precision), ("macro_f1", f1)):
        assert found[name].value == pytest.approx(expected, abs=1e-12)
        assert 0 <= found[name].low <= found[name].value <= found[name].high <= 1 and found[name].n == n


def test_macro_intervals_agree_with_resampled_images() -> None:
    labels, answers = drawn(600, 4, 1)
    a, b = BIRDS.positions(labels), BIRDS.positions(answers)
    draw = np.random.default_rng(2)
    precisions, f1s = [], []
    for _ in range(2000):
        rows = draw.integers(0, 600, 600)
        matrix = np.bincount(5 * a[rows] + b[rows], minlength=25).reshape(5, 5)
        right, n, answered = np.diag(matrix)[:4], matrix.sum(axis=1)[:4], matrix.sum(axis=0)[:4]
        precisions.append((right / answered).mean())
        f1s.append((2 * right / (n + answered)).mean())
    found = Counts(BIRDS, labels, answers, labels == answers).macro()
    for name, drawn_values in (("macro_precision", precisions), ("macro_f1", f1s)):
        low, high = np.quantile(drawn_values, [0.025, 0.975])
        assert found[name].low == pytest.approx(low, abs=0.008) and found[name].high == pytest.approx(high, abs=0.008)


def test_what_is_all_right_or_all_wrong_has_wilsons_interval() -> None:
    labels = np.array([7, 7, 3, 3])
    for answers, right in ((labels, 4), (labels[::-1], 0)):
        for metric in Counts(BIRDS, labels, answers, labels == answers).macro().values():
            assert metric == wilson(right, 4)
    uneven = np.array([7, 7, 7, 3])  # a mean over classes tells as much as one over 2 x 2 / (1/3 + 1) = 3 images
    for metric in Counts(BIRDS, uneven, uneven, np.ones(4, dtype=bool)).macro().values():
        assert metric.low == pytest.approx(wilson(3, 3).low) and metric.high == 1


def test_another_right_answer_counts_as_the_label() -> None:
    found = Counts(BIRDS, np.array([7, 7]), np.array([3, 11]), np.array([True, False]))
    assert [(p.label, p.answer, p.count) for p in found.confusion()] == [("hen", "turkey", 1)]
    hen, rooster = found.rows()[:2]
    assert (hen.n, hen.right, hen.answered, hen.precision, rooster.answered) == (2, 1, 1, 1, 0)


def test_a_hundred_thousand_classes_take_no_matrix() -> None:
    many = Vocabulary([f"class {i}" for i in range(100_000)])
    labels = np.arange(0, 100_000, 10)
    answers = np.where(labels % 20 == 0, labels, 99_999)
    found = Counts(many, labels, answers, labels == answers)
    assert found.confusion(1)[0].answer == "class 99999" and len(found.confusion()) == 5000
    assert len(found.rows()) == 100_000
