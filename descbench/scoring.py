"""From features to the best classes, in blocks on any torch device, in float32: no (N, C) matrix is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.errors import InputError
from descbench.texts import TextBank
from descbench.transport import Transport

if TYPE_CHECKING:
    import torch

    from descbench.methods.base import Pool

CROWD = 1 << 14
"""From how many columns on it is faster to rank runs of columns by their maxima first."""

BLOCK = 1 << 24
"""How many floats a block of scores (or of gathered features) may have: 64 MB."""

Watch = Callable[[int, "torch.Tensor", "torch.Tensor"], None]
"""What sees each block of scores before it goes: `watch(start, block, values)`, where `block` (n, C) holds the images
from row `start` on and `values` (n, K) their best scores. It changes neither."""


def unit_rows(features: Any, device: str, what: str) -> torch.Tensor:
    """Features, numpy or torch, as float32 unit rows on a device, (N, D).

    Raises `InputError` that names the first row that is not finite or has no length.
    """
    return unit_views(features, device, what, (2,))


def unit_views(features: Any, device: str, what: str, dimensions: tuple[int, ...] = (2, 3)) -> torch.Tensor:
    """The same, of pictures whose views may be kept apart: (N, D), or (N, V, D)."""
    import torch

    try:
        rows = torch.as_tensor(features).to(device=device, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{what} must be an (N, D) array of numbers, given {type(features).__name__}: {error}"
        ) from None
    if rows.ndim not in dimensions or 0 in rows.shape[1:-1]:
        raise InputError(f"{what} must be an (N, D) array, given shape {tuple(rows.shape)}")
    lengths = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    bad = ~(torch.isfinite(lengths) & (lengths > 0)).flatten(1).all(dim=1)  # (N,)
    if bad.any():
        row = int(bad.nonzero()[0])
        kind = "zero" if torch.isfinite(lengths[row]).all() else "not finite (NaN or infinite)"
        raise InputError(
            f"{what}: row {row} is {kind}, as {int(bad.sum())} of {len(rows)} rows are. Encode these again."
        )
    unit: torch.Tensor = rows / lengths
    return unit


def whole(images: torch.Tensor) -> torch.Tensor:
    """The whole pictures (N, D); of views that are kept apart, (N, V, D), the first."""
    return images[:, 0] if images.ndim == 3 else images


def weighed(banks: Sequence[TextBank], features: torch.Tensor, row: Mapping[str, int]) -> list[TextBank]:
    """The banks with weights in place of anchors: a softmax over the texts of a class, but for its sum, by which the
    mean divides. `row` says which of the `features` (U, D) a text or an anchor has."""
    import torch

    told = [(bank, bank.anchors) for bank in banks if bank.anchors is not None]
    if not told:
        return list(banks)
    texts = np.array([row[text] for bank, _ in told for text in bank.texts])
    anchors = np.concatenate(
        [np.repeat([row[text] for text in anchors.texts], np.diff(bank.offsets)) for bank, anchors in told]
    )
    # Each pair once: then two classes with the same texts and the same anchor have the very same weights.
    pairs, place = np.unique(texts * len(features) + anchors, return_inverse=True)
    near = np.empty(len(pairs), dtype=np.float32)
    step = max(1, BLOCK // features.shape[1])
    for start in range(0, len(pairs), step):
        pair = torch.as_tensor(pairs[start : start + step], device=features.device)
        cosines = (features[pair // len(features)] * features[pair % len(features)]).sum(dim=1)
        near[start : start + step] = cosines.cpu().numpy()
    runs = iter(np.split(near[place], np.cumsum([len(bank) for bank, _ in told])[:-1]))
    return [bank if bank.anchors is None else _anchored(bank, next(runs), bank.anchors.sharpness) for bank in banks]


def _anchored(bank: TextBank, near: np.ndarray, sharpness: float) -> TextBank:
    """A bank whose texts are this near (T,) to the anchors of their classes, with weights."""
    nearest = np.repeat(np.maximum.reduceat(near, bank.offsets[:-1]), np.diff(bank.offsets))
    weights = np.exp(sharpness * (near - nearest)).astype(np.float32)
    return replace(bank, weights=weights if bank.weights is None else weights * bank.weights, anchors=None)


def prototypes(features: torch.Tensor, index: torch.Tensor, bank: TextBank, pool: Pool) -> torch.Tensor:
    """One vector a class, (C, D): the mean of its text features, renormalised for the pool `mean_feature`.

    `features` (U, D) are those of the distinct texts, `index` (T,) says which of them each text of the bank has.
    """
    return _means(features, index, bank.offsets[:-1], bank.weights, renormalise=pool == "mean_feature")


def _means(
    features: torch.Tensor, index: torch.Tensor, starts: np.ndarray, weights: np.ndarray | None, renormalise: bool
) -> torch.Tensor:
    """The (weighted) means of consecutive runs of `features[index]`, run i from `starts[i]` on: (len(starts), D)."""
    import torch
    from torch.nn.functional import embedding_bag

    begin = torch.as_tensor(starts, device=features.device)
    if weights is None:
        out = embedding_bag(index, features, begin, mode="mean")  # sums the rows in place, without a (T, D) copy
    else:
        counts = np.diff(np.append(starts, len(weights)))
        shares = (weights / np.repeat(np.add.reduceat(weights, starts), counts)).astype(np.float32)
        shares_there = torch.as_tensor(shares, device=features.device)
        out = embedding_bag(index, features, begin, mode="sum", per_sample_weights=shares_there)
    if renormalise:
        # A class whose texts cancel out has no direction; it scores 0 with every image.
        out = out / torch.linalg.vector_norm(out, dim=1, keepdim=True).clamp_min(1e-12)
    return out


def class_scores(
    features: torch.Tensor, index: torch.Tensor, bank: TextBank, pool: Pool, logit_scale: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from images (n, D) to scores (n, C). A mean-pooled method costs it one matrix product.

    For the pool `transport` images are (n, V, D): see `Transport`.
    """
    import torch

    if pool in ("mean_score", "mean_feature", "transport"):
        scores_of: Callable[[torch.Tensor], torch.Tensor] = (
            Transport(features, index, bank.offsets, logit_scale)
            if pool == "transport"
            else _Product(prototypes(features, index, bank, pool).T.contiguous())  # (D, C)
        )
        first = _twins(index.cpu().numpy(), bank)
        if first is None:
            return scores_of
        columns = torch.as_tensor(first, device=features.device)
        return lambda images: scores_of(images)[:, columns]
    # One column a distinct text: in a product, two equal columns may differ in the last bit.
    distinct, column = torch.unique(index, return_inverse=True)
    levels, place = _levels(bank.offsets)
    column = column[torch.as_tensor(np.concatenate([np.asarray(level) for level in levels]), device=features.device)]
    once = len(distinct) == len(column)
    texts = features[distinct[column] if once else distinct].T.contiguous()  # (D, distinct texts)
    back = torch.as_tensor(place, device=features.device)
    counts = torch.as_tensor(np.diff(bank.offsets), device=features.device)

    def pooled(images: torch.Tensor) -> torch.Tensor:
        similar = images @ texts
        if not once:
            similar = similar[:, column]  # (n, T)
        if pool == "mean_prob":
            similar = torch.softmax(similar * logit_scale, dim=1)
        out = similar[:, : len(place)].clone()  # the first text of each class
        start = len(place)
        for level in levels[1:]:
            part, more = out[:, : len(level)], similar[:, start : start + len(level)]
            _ = torch.maximum(part, more, out=part) if pool == "max_score" else part.add_(more)
            start += len(level)
        out = out[:, back]
        return out if pool == "max_score" else out / counts

    return pooled


def _levels(offsets: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The texts of all classes by their number within the class: all first ones, all second ones, and so on; and where
    each class stands among the first, (C,).

    Classes with more texts come first, so that those with an n-th text are always the first ones: pooling is then one
    operation on whole columns a level.
    """
    counts = np.diff(offsets)
    order = np.argsort(-counts, kind="stable")
    reach = np.searchsorted(-counts[order], -np.arange(counts.max()), side="left")  # how many classes have an n-th
    return [offsets[order[:n]] + number for number, n in enumerate(reach)], np.argsort(order)


def _twins(index: np.ndarray, bank: TextBank) -> np.ndarray | None:
    """For each class the first one with the same texts, (C,); None where no two classes have the same.

    They tie by definition, but in a product their scores may differ in the last bit, and then rounding would decide.
    """
    if len(np.unique(index)) == len(index):
        return None
    seen: dict[tuple[bytes, bytes], int] = {}
    first = np.arange(len(bank.offsets) - 1)
    for c, (start, stop) in enumerate(pairwise(bank.offsets.tolist())):
        rows = index[start:stop]
        order = np.argsort(rows, kind="stable")
        weights = b"" if bank.weights is None else bank.weights[start:stop][order].tobytes()
        first[c] = seen.setdefault((rows[order].tobytes(), weights), c)
    return None if len(seen) == len(first) else first


def best(
    images: torch.Tensor,
    scores_of: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    classes: int,
    top_k: int,
    watch: Watch | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The positions and scores of the best classes of each image, (N, K) both, best first, ties by position.

    `width` is how many floats a row needs while it is scored; it sets the size of a block. `watch` sees each block.
    """
    import torch

    top_k = min(top_k, classes)
    positions = np.empty((len(images), top_k), dtype=np.int64)
    scores = np.empty((len(images), top_k), dtype=np.float32)
    step = rows_at_once(width)
    for start in range(0, len(images), step):
        block = scores_of(images[start : start + step])  # (n, C)
        values, found = _ranked(block, top_k)
        if watch is not None:
            watch(start, block, values)
        positions[start : start + step] = found.cpu().numpy()
        scores[start : start + step] = values.cpu().numpy()
    if not len(images):
        return positions, scores
    if not torch.isfinite(torch.as_tensor(scores)).all():
        raise InputError("the scores are not finite; a feature is too large to be squared in float32")
    return positions, scores


def rows_at_once(width: int) -> int:
    """How many images a block has, of which each needs `width` floats while it is scored."""
    return max(1, BLOCK // max(width, 1))


class _Product:
    """Images (n, D) times `classes` (D, C), into one block of memory: a fresh one each time costs a fifth more.

    What comes back is good until the next call.
    """

    def __init__(self, classes: torch.Tensor) -> None:
        self._classes = classes
        self._block = classes.new_empty(0, classes.shape[1])

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        if len(images) > len(self._block):
            self._block = self._classes.new_empty(len(images), self._classes.shape[1])
        return torch.mm(images, self._classes, out=self._block[: len(images)])


def _largest(block: torch.Tensor, take: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What `block.topk(take)` gives, some times faster where there are many columns: the runs of columns with the
    largest maxima hold the largest values."""
    import torch

    n, C = block.shape
    if CROWD > C or 64 * take > C:
        return block.topk(take, dim=1)
    width = math.isqrt(C // take)  # columns a run: then as many maxima are ranked as values in the runs
    whole = C - C % width
    runs = block[:, :whole].view(n, -1, width)
    chosen = runs.amax(dim=2).topk(take, dim=1).indices  # (n, take)
    members = (chosen[:, :, None] * width + torch.arange(width, device=block.device)).flatten(1)
    rest = torch.arange(whole, C, device=block.device).expand(n, -1)
    columns = torch.cat([members, rest], dim=1)
    values, place = block.gather(1, columns).topk(take, dim=1)
    return values, columns.gather(1, place)


def _ranked(block: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and positions of the top_k largest of each row; equal values by position, as `topk` does not promise."""
    import torch

    C = block.shape[1]
    take = min(top_k + 1, C)
    values, found = _largest(block, take)
    # Equal values among those taken: sort by position, then stably by value.
    found, order = found.sort(dim=1)
    values, again = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    found = found.gather(1, again)
    if take > top_k:
        # A tie across the edge: `topk` may have left out the one that comes first.
        tied = (values[:, top_k - 1] == values[:, top_k]).nonzero().flatten()
        if len(tied):
            values[tied], found[tied] = (
                part[:, :take] for part in torch.sort(block[tied], dim=1, descending=True, stable=True)
            )
    return values[:, :top_k], found[:, :top_k]


def within(
    images: torch.Tensor,
    set_of: np.ndarray,
    features: torch.Tensor,
    banks: Sequence[TextBank],
    indices: Sequence[np.ndarray],
    pool: Pool,
    logit_scale: float,
) -> torch.Tensor:
    """The scores of each image for the k classes of its own candidate set, (N, k).

    Image i has the set `set_of[i]`; set s has k classes with texts `banks[s]`, whose features are
    `features[indices[s]]`. Mean pools: all prototypes of a block of sets at once, then one product an image.
    """
    import torch

    k = len(banks[0].offsets) - 1
    weighted = any(bank.weights is not None for bank in banks)
    out = torch.empty(len(images), k, device=images.device)
    order = torch.as_tensor(np.argsort(set_of, kind="stable"), device=images.device)
    bounds = np.searchsorted(np.sort(set_of), np.arange(len(banks) + 1))
    for first, last in _runs(len(banks), k * images.shape[-1]):
        rows = order[bounds[first] : bounds[last]]
        if pool in ("mean_score", "mean_feature"):
            index = torch.as_tensor(np.concatenate(indices[first:last]), device=images.device)
            counts = np.concatenate([np.diff(bank.offsets) for bank in banks[first:last]])
            starts = np.cumsum(counts) - counts
            weights = np.concatenate([_weights(bank) for bank in banks[first:last]]) if weighted else None
            means = _means(features, index, starts, weights, renormalise=pool == "mean_feature")
            means = means.view(last - first, k, -1)  # (S, k, D)
            local = torch.as_tensor(set_of, device=images.device)[rows] - first
            step = max(1, BLOCK // (k * images.shape[1]))
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                out[rows[part]] = torch.einsum("nd,nkd->nk", images[rows[part]], means[local[part]])
            for s in range(first, last):
                if (same := _twins(indices[s], banks[s])) is not None:
                    mine = order[bounds[s] : bounds[s + 1]]
                    out[mine] = out[mine][:, torch.as_tensor(same, device=images.device)]
            continue
        for s in range(first, last):
            mine = order[bounds[s] : bounds[s + 1]]
            index = torch.as_tensor(indices[s], device=images.device)
            scores_of = class_scores(features, index, banks[s], pool, logit_scale)
            step = max(1, BLOCK // max(len(index), 1))
            for start in range(0, len(mine), step):
                part = slice(start, start + step)
                out[mine[part]] = scores_of(images[mine[part]])
    return out


def _weights(bank: TextBank) -> np.ndarray:
    """The weights of a bank, (T,), 1 where it has none."""
    return np.ones(len(bank), dtype=np.float32) if bank.weights is None else bank.weights


def _runs(sets: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut the sets into runs [first, last) whose prototypes, `size` floats a set, fit into a block."""
    step = max(1, BLOCK // size)
    for first in range(0, sets, step):
        yield first, min(first + step, sets)
