"""Views of a picture against the texts of a class: what is sure weighs more, and mass goes where it is near (AWT).

Zhu et al. 2024, AWT, section 3. A view weighs the more the surer it is of a class; a text the more the surer the whole
picture is when this text alone speaks for its class. Between the two sets of weights goes the cheapest transport.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.5  # of the softmax over entropies, as in the paper
EPSILON = 0.1  # how soft the transport is, as in the paper
ROUNDS = 100  # of Sinkhorn's iteration at most, as in the paper
TOLERANCE = 1e-6
"""A transport stands when the sums over its texts miss the weights of the views by less than this, all together.

The authors stop a whole batch when a scaling moves by less than 0.01 on average. Here each stops by itself, so
that no score depends on the pictures beside it."""

BLOCK = 1 << 20
"""How many floats a block has, 4 MB: up to a hundred rounds go over it, most of them while it is in a cache."""


class Transport:
    """The classes of a vocabulary, by their texts, as what a picture is transported to.

    `features` (U, D) are unit rows, and `index` (T,) says which of them each text has; class i owns the texts from
    `offsets[i]` to `offsets[i + 1]`. Similarities times `logit_scale` are logits.
    """

    def __init__(self, features: torch.Tensor, index: torch.Tensor, offsets: np.ndarray, logit_scale: float) -> None:
        import torch
        from torch.nn.functional import embedding_bag

        self.features, self.index, self.offsets, self.scale = features, index, offsets, logit_scale
        begin = torch.as_tensor(offsets[:-1], device=features.device)
        # The mean of similarities is the similarity to the mean.
        self.means = embedding_bag(index, features, begin, mode="mean").T.contiguous()  # (D, C)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The scores (n, C) of pictures (n, V, D), unit rows, the whole picture first among its V views."""
        import torch

        out = torch.empty(len(images), self.means.shape[1], device=images.device)
        for rows, classes, shares in self._parts(images):
            out[rows, torch.as_tensor(classes, device=images.device)] = shares.sum(dim=-1)
        return out

    def shares(self, image: torch.Tensor) -> torch.Tensor:
        """What each text adds to the score of its class for one picture (V, D): (T,)."""
        import torch

        out = torch.zeros(len(self.index), device=image.device)
        for _, classes, shares in self._parts(image[None]):
            for position, own in zip(classes.tolist(), shares[0], strict=True):
                start, stop = self.offsets[position : position + 2].tolist()
                out[start:stop] = own[: stop - start]
        return out

    def _parts(self, images: torch.Tensor) -> Iterator[tuple[slice, np.ndarray, torch.Tensor]]:
        """Some rows n of the images, some classes c, and what their texts add, (n, c, M), 0 where a class has fewer."""
        V = images.shape[1]
        for some in _slices(len(images), V * self.means.shape[1], BLOCK):
            block = images[some]
            logits = self.scale * (block @ self.means)  # (n, V, C)
            views = _sure(entropy(logits))  # (n, V)
            rest, unsure = others(logits[:, 0])  # (n, C) both
            for classes, texts, real in self._alike(BLOCK // V):
                for rows in _slices(len(block), V * real.numel(), BLOCK):
                    similar = (block[rows] @ texts).view(-1, V, *real.shape)  # (n, V, c, M)
                    alone = self.scale * similar[:, 0]  # (n, c, M)
                    replaced = with_one(alone, rest[rows][:, classes, None], unsure[rows][:, classes, None])
                    weights = _sure(replaced.masked_fill(~real, float("inf")))  # (n, c, M)
                    near = similar.transpose(1, 2).flatten(0, 1)  # (n c, V, M)
                    plan = transport(near, views[rows].repeat_interleave(len(classes), dim=0), weights.flatten(0, 1))
                    shares = (plan * near).sum(dim=1).view(-1, *real.shape)
                    yield slice(some.start + rows.start, some.start + rows.stop), classes, shares

    def _alike(self, limit: int) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """Classes (c,) of similar numbers of texts, their features side by side (D, c M), and which of these are real,
        (c, M): a class with fewer than M repeats its first. At most `limit` texts, or one class."""
        import torch

        counts = np.diff(self.offsets)
        order = np.argsort(-counts, kind="stable")
        start = 0
        while start < len(order):
            M = int(counts[order[start]])
            similar = int(np.searchsorted(-counts[order], -(M // 2)))  # the others have half as many or fewer
            classes = order[start : min(similar, start + max(1, limit // M))]
            real = np.arange(M) < counts[classes, None]  # (c, M)
            rows = self.offsets[classes, None] + np.where(real, np.arange(M), 0)
            index = self.index[torch.as_tensor(rows.ravel(), device=self.index.device)]
            yield classes, self.features[index].T, torch.as_tensor(real, device=self.index.device)
            start += len(classes)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """The entropy of the softmax over the last dimension."""
    import torch

    p = torch.softmax(logits, dim=-1)
    return -torch.xlogy(p, p).sum(dim=-1)


def others(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each class, of the softmax over all others (n, C): the logarithm of the sum of its exponentials, and its
    entropy. Of one class there are no others: minus infinity, and 0."""
    import torch

    if logits.shape[1] == 1:
        return torch.full_like(logits, -torch.inf), torch.zeros_like(logits)
    whole = torch.logsumexp(logits, dim=1, keepdim=True)
    p = torch.exp(logits - whole)
    # By the chain rule, entropy = entropy of (this one, the others) + (1 - p) x entropy of the others.
    rest = whole + torch.log1p(-p)
    unsure = ((entropy(logits)[:, None] - _binary(p, 1 - p)) / (1 - p)).clamp_min(0)
    # Where p is over a half, which it is at most once, next to nothing may be left of 1 - p: sum the others anew.
    top = logits.argmax(dim=1, keepdim=True)
    without = logits.scatter(1, top, -torch.inf)
    rest = rest.scatter(1, top, torch.logsumexp(without, dim=1, keepdim=True))
    return rest, unsure.scatter(1, top, entropy(without)[:, None])


def with_one(logit: torch.Tensor, rest: torch.Tensor, unsure: torch.Tensor) -> torch.Tensor:
    """The entropy of a softmax over `others` and one more logit: the chain rule, so no class is summed again."""
    import torch

    p, q = torch.sigmoid(logit - rest), torch.sigmoid(rest - logit)
    return _binary(p, q) + q * unsure


def _binary(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    import torch

    return -torch.xlogy(p, p) - torch.xlogy(q, q)


def _sure(entropies: torch.Tensor) -> torch.Tensor:
    """Weights over the last dimension: the less entropy, the more; none at infinity."""
    import torch

    return torch.softmax(-entropies / TEMPERATURE, dim=-1)


def transport(similar: torch.Tensor, views: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """The plans (B, V, M) that carry weights of views (B, V) to weights of texts (B, M) at a cost of 1 - `similar`, by
    Sinkhorn's iteration; a text of weight 0 gets nothing."""
    import torch

    kernel = torch.exp((similar - 1) / EPSILON)
    back = kernel.transpose(1, 2)
    r, c = torch.ones_like(views), (texts > 0).to(texts.dtype)
    moving = torch.ones(len(views), 1, dtype=torch.bool, device=views.device)
    for number in range(ROUNDS):
        reached = torch.bmm(kernel, c[..., None]).squeeze(-1)  # (B, V)
        if number:
            moving = moving & ((r * reached - views).abs().sum(dim=1, keepdim=True) > TOLERANCE)
            if not moving.any():
                break
        r = torch.where(moving, views / reached, r)
        c = torch.where(moving, texts / torch.bmm(back, r[..., None]).squeeze(-1), c)
    return r[..., None] * kernel * c[:, None, :]


def _slices(count: int, width: int, size: int) -> Iterator[slice]:
    """Cut `count` rows of `width` floats into slices of at most `size` floats, or one row."""
    step = max(1, size // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
