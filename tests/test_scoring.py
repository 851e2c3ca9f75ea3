"""Pools against a loop over their definition; ties by position; blocks change nothing; a bad row is named."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drawn

from descbench import TextBank, Vocabulary, scoring
from descbench.errors import InputError
from descbench.methods.base import POOLS
from descbench.scoring import best, class_scores, prototypes, unit_rows, within

SCALE = 20.0


def by_definition(
    x: np.ndarray, lists: list[np.ndarray], pool: str, weights: list[np.ndarray] | None = None
) -> np.ndarray:
    """The score of each class for one image (D,), from the features (t_c, D) of its texts, one by one in float64."""
    x = x.astype(np.float64)
    scores = []
    total = sum(float(np.exp(SCALE * (t.astype(np.float64) @ x))) for texts in lists for t in texts)
    for c, texts in enumerate(lists):
        similar = [float(t.astype(np.float64) @ x) for t in texts]
        share = np.ones(len(texts)) / len(texts) if weights is None else weights[c] / weights[c].sum()
        if pool == "mean_score":
            scores.append(sum(w * s for w, s in zip(share, similar, strict=True)))
        elif pool == "mean_feature":
            mean = sum(w * t.astype(np.float64) for w, t in zip(share, texts, strict=True))
            scores.append(float(mean @ x) / float(np.sqrt(mean @ mean)))
        elif pool == "max_score":
            scores.append(max(similar))
        else:
            scores.append(sum(np.exp(SCALE * s) / total for s in similar) / len(texts))
    return np.array(scores)


def banked(counts: list[int]) -> TextBank:
    vocabulary = Vocabulary([f"class {i}" for i in range(len(counts))])
    return TextBank.of(vocabulary, [[f"{c}.{t}" for t in range(n)] for c, n in enumerate(counts)])


def split(features: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    return np.split(features, np.cumsum(counts)[:-1])


@pytest.fixture(params=[None, 1, 37, 400])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The size of a block must not reach a score."""
    if request.param:
        monkeypatch.setattr(scoring, "BLOCK", request.param)
    yield


COUNTS = [3, 1, 5, 2, 1, 4]


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_is_its_definition(pool: str, block: None) -> None:
    texts, images = drawn(0, sum(COUNTS), 8), drawn(1, 11, 8)
    scores_of = class_scores(torch.from_numpy(texts), torch.arange(len(texts)), banked(COUNTS), pool, SCALE)  # type: ignore[arg-type]
    positions, scores = best(torch.from_numpy(images), scores_of, sum(COUNTS) + 6, 6, 6)
    for row, x in enumerate(images):
        expected = by_definition(x, split(texts, COUNTS), pool)
        assert positions[row].tolist() == np.argsort(-expected).tolist()
        assert scores[row] == pytest.approx(np.sort(expected)[::-1], abs=2e-6)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(1, 9), st.sampled_from(POOLS), st.integers(0, 99)
)
@settings(deadline=None, max_examples=40)
def test_every_pool_is_its_definition_for_any_sizes(counts: list[int], top_k: int, pool: str, seed: int) -> None:
    texts, images = drawn(seed, sum(counts), 5), drawn(seed + 1000, 4, 5)
    scores_of = class_scores(torch.from_numpy(texts), torch.arange(len(texts)), banked(counts), pool, SCALE)  # type: ignore[arg-type]
    positions, scores = best(torch.from_numpy(images), scores_of, len(texts), len(counts), top_k)
    assert positions.shape == scores.shape == (4, min(top_k, len(counts)))
    for row, x in enumerate(images):
        expected = by_definition(x, split(texts, counts), pool)
        assert scores[row] == pytest.approx(expected[positions[row]], abs=5e-6)
        assert scores[row] == pytest.approx(np.sort(expected)[::-1][:top_k], abs=5e-6)


def test_the_index_says_which_feature_a_text_has() -> None:
    features, images = drawn(0, 3, 8), torch.from_numpy(drawn(1, 4, 8))
    index = torch.tensor([2, 2, 0, 1, 0])
    scores = class_scores(torch.from_numpy(features), index, banked([3, 2]), "mean_score", 1.0)(images)
    twice = class_scores(torch.from_numpy(features[index.numpy()]), torch.arange(5), banked([3, 2]), "mean_score", 1.0)
    assert torch.allclose(scores, twice(images), atol=1e-7)


@pytest.mark.parametrize("pool", ["mean_score", "mean_feature"])
def test_weights_are_those_of_the_mean(pool: str, block: None) -> None:
    texts, images = drawn(0, sum(COUNTS), 8), drawn(1, 5, 8)
    weights = np.random.default_rng(2).random(len(texts)).astype(np.float32) + 0.1
    bank = banked(COUNTS)
    weighted = TextBank(bank.texts, bank.offsets, bank.undescribed, weights)
    found = class_scores(torch.from_numpy(texts), torch.arange(len(texts)), weighted, pool, 1.0)(
        torch.from_numpy(images)
    )  # type: ignore[arg-type]
    expected = [by_definition(x, split(texts, COUNTS), pool, split(weights, COUNTS)) for x in images]
    assert found.numpy() == pytest.approx(np.array(expected), abs=2e-6)


@pytest.mark.parametrize("pool", ["mean_score", "mean_feature"])
def test_a_mean_pooled_method_is_one_product_with_one_vector_a_class(pool: str) -> None:
    texts, images = drawn(0, sum(COUNTS), 8), drawn(1, 5, 8)
    bank, index = banked(COUNTS), torch.arange(sum(COUNTS))
    vectors = prototypes(torch.from_numpy(texts), index, bank, pool)  # type: ignore[arg-type]
    assert vectors.shape == (6, 8)
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    assert torch.allclose(lengths, torch.ones(6), atol=1e-6) == (pool == "mean_feature")
    products = images @ vectors.numpy().T
    found = class_scores(torch.from_numpy(texts), index, bank, pool, 1.0)(torch.from_numpy(images))  # type: ignore[arg-type]
    assert found.numpy() == pytest.approx(products, abs=1e-6)


def test_texts_that_cancel_out_score_nothing() -> None:
    texts = np.array([[1, 0], [-1, 0], [0, 1]], dtype=np.float32)
    found = class_scores(torch.from_numpy(texts), torch.arange(3), banked([2, 1]), "mean_feature", 1.0)
    assert found(torch.from_numpy(drawn(0, 3, 2)))[:, 0].abs().max() < 1e-6


@pytest.mark.parametrize("top_k", range(1, 9))
def test_ties_go_by_the_position_of_the_class_also_across_the_edge(top_k: int, block: None) -> None:
    scores = torch.tensor(
        [[1, 3, 3, 2, 3, 2, 2.0], [0, 0, 0, 0, 0, 0, 0], [5, 4, 4, 5, 4, 5, 5], [1, 2, 3, 4, 5, 6, 7]]
    )
    expected = [sorted(range(7), key=lambda c, row=row: (-row[c], c))[:top_k] for row in scores.tolist()]
    positions, values = best(torch.arange(4), lambda rows: scores[rows], 7, 7, top_k)
    assert positions.tolist() == expected
    assert values.tolist() == [[row[c] for c in order] for row, order in zip(scores.tolist(), expected, strict=True)]


@given(st.integers(1, 40), st.integers(1, 45), st.integers(1, 4), st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_the_order_is_that_of_a_stable_sort(classes: int, top_k: int, levels: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (3, classes)).astype(np.float32)
    positions, _ = best(torch.arange(3), lambda rows: torch.from_numpy(scores)[rows], classes, classes, top_k)
    assert np.array_equal(positions, np.argsort(-scores, axis=1, kind="stable")[:, :top_k])


@given(st.integers(64, 700), st.integers(1, 8), st.integers(1, 400), st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_the_order_is_that_of_a_stable_sort_among_many_classes(
    classes: int, top_k: int, levels: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (3, classes)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "CROWD", 1)
        positions, _ = best(torch.arange(3), lambda rows: torch.from_numpy(scores)[rows], classes, classes, top_k)
    assert np.array_equal(positions, np.argsort(-scores, axis=1, kind="stable")[:, :top_k])


def test_two_classes_with_the_same_texts_tie_and_the_first_wins() -> None:
    # In a product of these sizes equal columns differ in the last bit for some images.
    for C, D, N in ((2, 8, 33), (5, 8, 64), (7, 64, 5), (9, 192, 64), (37, 192, 33), (101, 64, 2)):
        index = torch.arange(2 * C)
        index[-2:] = torch.tensor([1, 0])  # the last class has the texts of the first, in another order
        for pool in POOLS:
            scores_of = class_scores(torch.from_numpy(drawn(C, 2 * C, D)), index, banked([2] * C), pool, SCALE)
            positions, scores = best(torch.from_numpy(drawn(1, N, D)), scores_of, C, C, C)
            alike = np.sort(np.where((positions == 0) | (positions == C - 1), scores, np.inf), axis=1)[:, :2]
            assert (alike[:, 0] == alike[:, 1]).all(), (C, D, pool)
            place = np.argsort(positions, axis=1)
            assert (place[:, C - 1] == place[:, 0] + 1).all(), (C, D, pool)


def test_two_classes_with_the_same_best_text_tie_under_max() -> None:
    index = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 0])  # the first and the last class share text 0
    texts = drawn(0, 9, 64)
    images = torch.from_numpy(texts[:1] + 0.01 * drawn(1, 64, 64))
    scores = class_scores(torch.from_numpy(texts), index, banked([2] * 5), "max_score", SCALE)(images)
    assert torch.equal(scores[:, 0], scores[:, 4])


@pytest.mark.parametrize("pool", POOLS)
def test_candidates_with_the_same_texts_tie(pool: str) -> None:
    features, images = drawn(0, 9, 64), torch.from_numpy(drawn(1, 64, 64))
    indices = [np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1]), np.array([0, 1, 2, 3, 0, 1, 4, 5, 6, 7])]
    set_of = np.arange(64) % 2
    found = within(images, set_of, torch.from_numpy(features), [banked([2] * 5)] * 2, indices, pool, SCALE)  # type: ignore[arg-type]
    assert torch.equal(found[::2, 0], found[::2, 4]) and torch.equal(found[1::2, 0], found[1::2, 2])


def test_no_image_gives_no_row() -> None:
    positions, scores = best(torch.zeros(0, 4), lambda rows: rows, 4, 4, 2)
    assert positions.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("pool", POOLS)
def test_candidates_are_scored_as_if_they_were_the_whole_vocabulary(pool: str, block: None) -> None:
    k, sets = 3, [[2, 1, 3], [1, 1, 1], [4, 2, 1]]
    features, images = drawn(0, 9, 8), drawn(1, 10, 8)
    draw = np.random.default_rng(2)
    indices = [draw.integers(0, 9, sum(counts)) for counts in sets]
    set_of = np.array([2, 0, 0, 1, 2, 2, 1, 0, 2, 1])
    found = within(
        torch.from_numpy(images), set_of, torch.from_numpy(features), [banked(c) for c in sets], indices, pool, SCALE
    )  # type: ignore[arg-type]
    assert found.shape == (10, k)
    for row, x in enumerate(images):
        s = set_of[row]
        expected = by_definition(x, split(features[indices[s]], sets[s]), pool)
        assert found[row].numpy() == pytest.approx(expected, abs=2e-6)


def test_features_of_any_kind_become_float32_unit_rows() -> None:
    rows = np.array([[3.0, 4.0], [0, -2]])
    tensors = [torch.from_numpy(rows), torch.tensor(rows).half(), torch.tensor(rows).bfloat16()]
    for features in (rows, rows.astype(np.float16), rows.astype(int), rows.tolist(), *tensors):
        found = unit_rows(features, "cpu", "image features")
        assert found.dtype == torch.float32
        assert np.allclose(found, [[0.6, 0.8], [0, -1]], atol=1e-3)
    assert unit_rows(np.zeros((0, 4)), "cpu", "image features").shape == (0, 4)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "zero")])
def test_a_row_without_a_direction_is_named(value: float, kind: str) -> None:
    rows = drawn(0, 5, 4)
    rows[2] = value
    rows[4] = value
    with pytest.raises(InputError, match=rf"image features: row 2 is {kind}.* as 2 of 5 rows are\. Encode these again"):
        unit_rows(rows, "cpu", "image features")


@pytest.mark.parametrize("rows", [np.zeros(4), np.zeros((2, 2, 2)), 5.0])
def test_features_are_a_matrix(rows: object) -> None:
    with pytest.raises(InputError, match=r"must be an \(N, D\) array"):
        unit_rows(rows, "cpu", "image features")


@pytest.mark.parametrize("rows", [[["a", "b"]], np.array([["a"]]), [[1, 2], [3]], np.array([[object()]]), "text", None])
def test_what_are_no_numbers_is_refused(rows: object) -> None:
    with pytest.raises(InputError, match="image features"):
        unit_rows(rows, "cpu", "image features")
