"""Views against texts: entropies, transports and scores against float64 loops over the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drawn, unit

from descbench import TextBank, transport
from descbench.scoring import class_scores
from descbench.transport import Transport, entropy, others, with_one

SCALE = 100.0


def softened(values: np.ndarray) -> np.ndarray:
    """A softmax, in float64."""
    grown = np.exp(values - values.max())
    weights: np.ndarray = grown / grown.sum()
    return weights


def unsure(logits: np.ndarray) -> float:
    """The entropy of a softmax."""
    return -float(sum(p * np.log(p) for p in softened(logits) if p > 0))


def planned(similar: np.ndarray, views: np.ndarray, texts: np.ndarray, off: float = 1e-6) -> np.ndarray:
    """The transport of one picture to one class (V, M), Sinkhorn's iteration from ones."""
    kernel = np.exp(-(1 - similar) / 0.1)
    r, c = np.ones(len(views)), np.ones(len(texts))
    for number in range(100):
        reached = kernel @ c
        if number and np.abs(r * reached - views).sum() <= off:
            break
        r = views / reached
        c = texts / (kernel.T @ r)
    return r[:, None] * kernel * c[None, :]


def by_definition(x: np.ndarray, classes: list[np.ndarray], scale: float) -> tuple[list[float], list[np.ndarray]]:
    """The score of each class for the views (V, D) of one picture, and what each of its texts adds."""
    x, classes = x.astype(np.float64), [texts.astype(np.float64) for texts in classes]
    mean = np.array([[scale * np.mean([t @ view for t in texts]) for texts in classes] for view in x])  # (V, C)
    views = softened(np.array([-unsure(row) / 0.5 for row in mean]))
    scores, shares = [], []
    for c, texts in enumerate(classes):
        alone = []
        for text in texts:
            logits = mean[0].copy()
            logits[c] = scale * (text @ x[0])
            alone.append(-unsure(logits) / 0.5)
        similar = x @ texts.T
        carried = planned(similar, views, softened(np.array(alone))) * similar
        scores.append(float(carried.sum()))
        shares.append(carried.sum(axis=0))
    return scores, shares


def near(seed: int, spread: float, *shape: int) -> np.ndarray:
    """Unit rows around one direction, as the features of real models are."""
    rows: np.ndarray = unit(drawn(99, shape[-1]) + spread * drawn(seed, *shape)).astype(np.float32)
    return rows


def built(texts: np.ndarray, counts: list[int], scale: float = SCALE) -> Transport:
    return Transport(torch.from_numpy(texts), torch.arange(len(texts)), np.cumsum([0, *counts]), scale)


def split(texts: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    return np.split(texts, np.cumsum(counts)[:-1])


@pytest.mark.parametrize("block", [1, 60, 1 << 20])
@pytest.mark.parametrize(("spread", "scale"), [(0.5, 100.0), (1.0, 100.0), (1.0, 20.0), (9.0, 5.0)])
def test_a_score_is_its_definition(spread: float, scale: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BLOCK", block)
    counts = [3, 1, 12, 5, 5, 2]
    texts, images = near(0, spread, sum(counts), 16), near(1, spread, 4, 9, 16)
    scores_of = built(texts, counts, scale)
    found = scores_of(torch.from_numpy(images)).numpy()
    for row, x in zip(found, images, strict=True):
        scores, shares = by_definition(x, split(texts, counts), scale)
        assert row == pytest.approx(scores, abs=1e-5)
        assert scores_of.shares(torch.from_numpy(x)).numpy() == pytest.approx(np.concatenate(shares), abs=1e-5)


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 10_000)
)
@settings(deadline=None, max_examples=30)
def test_a_score_is_its_definition_for_any_sizes(counts: list[int], views: int, images: int, seed: int) -> None:
    texts, x = near(seed, 0.8, sum(counts), 6), near(seed + 1, 0.8, images, views, 6)
    found = built(texts, counts)(torch.from_numpy(x))
    assert found.shape == (images, len(counts))
    for row, of in zip(found, x, strict=True):
        assert row.numpy() == pytest.approx(by_definition(of, split(texts, counts), SCALE)[0], abs=1e-5)


def test_two_classes_with_the_same_texts_tie_whatever_their_order() -> None:
    for C, M, D in ((5, 2, 8), (9, 3, 64), (37, 5, 192), (101, 2, 64)):
        texts, images = near(C, 0.7, C * M, D), near(1, 0.7, 9, 7, D)
        index = torch.arange(C * M)
        index[-M:] = torch.arange(M).flip(0)  # the last class has the texts of the first
        bank = TextBank(tuple(map(str, index.tolist())), np.arange(0, C * M + 1, M), np.zeros(C, dtype=bool))
        scores = class_scores(torch.from_numpy(texts), index, bank, "transport", SCALE)(torch.from_numpy(images))
        assert torch.equal(scores[:, 0], scores[:, -1])


def test_with_one_text_a_class_a_score_is_the_weighted_mean_over_views() -> None:
    texts, images = near(0, 0.7, 5, 16), near(1, 0.7, 6, 8, 16)
    found = built(texts, [1] * 5)(torch.from_numpy(images)).numpy()
    similar = images.astype(np.float64) @ texts.astype(np.float64).T  # (n, V, C)
    for row, of in zip(found, similar, strict=True):
        weights = softened(np.array([-unsure(SCALE * view) / 0.5 for view in of]))
        assert row == pytest.approx(weights @ of, abs=1e-6)


def test_of_one_class_every_view_and_text_weighs_the_same() -> None:
    texts, images = near(0, 0.7, 3, 16), near(1, 0.7, 2, 5, 16)
    found = built(texts, [3])(torch.from_numpy(images)).numpy()
    for row, x in zip(found, images, strict=True):
        similar = x.astype(np.float64) @ texts.astype(np.float64).T
        assert row == pytest.approx([(planned(similar, np.full(5, 0.2), np.full(3, 1 / 3)) * similar).sum()], abs=1e-6)


def test_the_sums_of_a_plan_are_the_weights_and_a_text_without_weight_gets_nothing() -> None:
    draw = np.random.default_rng(0)
    similar = torch.from_numpy(draw.uniform(0.1, 0.4, (7, 6, 5)).astype(np.float32))
    views, texts = (torch.from_numpy(draw.random((7, n)).astype(np.float32)) for n in (6, 5))
    texts[3, 2:] = 0
    views, texts = views / views.sum(dim=1, keepdim=True), texts / texts.sum(dim=1, keepdim=True)
    plan = transport.transport(similar, views, texts)
    assert (plan.sum(dim=2) - views).abs().sum(dim=1).max() < 2e-6
    assert torch.allclose(plan.sum(dim=1), texts, atol=1e-6)
    assert (plan[3, :, 2:] == 0).all()


def test_a_transport_stops_by_itself_whatever_is_beside_it() -> None:
    slow, fast = torch.rand(1, 6, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.full((1, 6, 5), 0.3)
    weights = torch.softmax(torch.arange(6.0), 0)[None], torch.softmax(torch.arange(5.0), 0)[None]
    both = transport.transport(torch.cat([slow, fast]), *(w.expand(2, -1) for w in weights))
    for row, similar in zip(both, (slow, fast), strict=True):
        assert torch.allclose(row, transport.transport(similar, *weights)[0], atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_the_entropy_of_the_others_is_that_of_a_softmax_without_the_class(scale: float) -> None:
    # At a scale of 300 one class has all of the softmax, and the others are far below the last bit of its share.
    logits = scale * np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    rest, entropies = (part.numpy() for part in others(torch.from_numpy(logits)))
    for row in range(20):
        for c in range(6):
            without = np.delete(logits[row].astype(np.float64), c)
            top = without.max()
            assert rest[row, c] == pytest.approx(top + np.log(np.exp(without - top).sum()), rel=1e-6, abs=1e-5)
            assert entropies[row, c] == pytest.approx(unsure(without), abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_the_entropy_with_one_logit_replaced_is_that_of_the_replaced_softmax(scale: float) -> None:
    draw = np.random.default_rng(1)
    logits, new = scale * draw.normal(size=(20, 6)), scale * draw.normal(size=(20, 6))
    for row in range(20):
        rest, entropies = others(torch.tensor(logits[row : row + 1], dtype=torch.float32))
        found = with_one(torch.tensor(new[row : row + 1], dtype=torch.float32), rest, entropies).numpy()[0]
        for c in range(6):
            replaced = logits[row].copy()
            replaced[c] = new[row, c]
            assert found[c] == pytest.approx(unsure(replaced), abs=2e-5)


def test_two_equal_logits_leave_each_other() -> None:
    rest, entropies = others(torch.tensor([[5.0, 5.0], [400.0, 400.0]]))
    assert torch.equal(rest, torch.tensor([[5.0, 5.0], [400.0, 400.0]])) and entropies.abs().max() < 1e-6
    assert entropy(torch.zeros(1, 8)).item() == pytest.approx(np.log(8), abs=1e-6)
