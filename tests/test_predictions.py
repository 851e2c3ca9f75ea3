"""A prediction is a ranked list; a follow-up may reorder its first columns and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descbench import Predictions, Vocabulary
from descbench.errors import InputError

VOCABULARY = Vocabulary(["hen", "rooster", "turkey", "goose"], ids=[40, 10, 30, 20])
IDS = np.array([[10, 40, 20, 30], [30, 20, 10, 40]])
SCORES = np.array([[0.9, 0.5, 0.2, 0.1], [0.8, 0.7, 0.6, 0.5]], dtype=np.float32)


def test_names_follow_ids() -> None:
    found = Predictions(VOCABULARY, IDS, SCORES)
    assert found.names() == [["rooster", "hen", "goose", "turkey"], ["turkey", "goose", "rooster", "hen"]]
    assert len(found) == 2


def test_the_best_k_are_the_first_columns() -> None:
    best = Predictions(VOCABULARY, IDS, SCORES).top(2)
    assert best.ids.tolist() == [[10, 40], [30, 20]]
    assert np.array_equal(best.scores, SCORES[:, :2])


def test_reordering_changes_the_first_columns_and_no_other() -> None:
    before = Predictions(VOCABULARY, IDS, SCORES)
    after = before.reorder_top(np.array([[40, 10], [20, 30]]), np.array([[3.0, 2.0], [1.0, 0.0]], dtype=np.float32))
    assert after.ids.tolist() == [[40, 10, 20, 30], [20, 30, 10, 40]]
    assert np.array_equal(after.scores[:, :2], [[3, 2], [1, 0]]) and np.array_equal(after.scores[:, 2:], SCORES[:, 2:])
    assert before.ids.tolist() == IDS.tolist()


@pytest.mark.parametrize("ids", [[[40, 20], [20, 30]], [[40, 40], [20, 30]], [[10, 40], [30, 10]]])
def test_a_class_that_was_no_candidate_cannot_come_in(ids: list[list[int]]) -> None:
    with pytest.raises(InputError, match="may only reorder the first 2 classes"):
        Predictions(VOCABULARY, IDS, SCORES).reorder_top(np.array(ids), np.zeros((2, 2), dtype=np.float32))


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_every_row_keeps_its_classes(classes: int, rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    vocabulary = Vocabulary([f"class {i}" for i in range(classes)])
    ids = np.stack([draw.permutation(classes) for _ in range(rows)])
    before = Predictions(vocabulary, ids, np.zeros(ids.shape, dtype=np.float32))
    k = int(draw.integers(1, classes + 1))
    after = before.reorder_top(draw.permuted(ids[:, :k], axis=1), np.ones((rows, k), dtype=np.float32))
    assert np.array_equal(np.sort(after.ids), np.sort(ids))
    assert np.array_equal(after.ids[:, k:], ids[:, k:])


@pytest.mark.parametrize(("ids", "scores"), [((2,), (2,)), ((2, 3), (2, 2)), ((2, 3), (3, 3))])
def test_ids_and_scores_have_one_shape(ids: tuple[int, ...], scores: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"two \(N, K\) arrays"):
        Predictions(VOCABULARY, np.zeros(ids, dtype=np.int64), np.zeros(scores, dtype=np.float32))
