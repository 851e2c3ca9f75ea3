"""A follow-up by pairs: what a class says against each rival is summed once, and a candidate set only adds these sums.

The mean of the distinct texts of a class against its rivals is a sum over pairs, except where several rivals share a
text. So texts that one rival only calls for are summed a pair beforehand, and shared ones are added once a set. Nothing
here is as large as all pairs of classes: it grows with the pairs that occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from descbench.descriptions import Descriptions
from descbench.methods.base import Method, PairMethod
from descbench.scoring import BLOCK
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

CACHED = 1 << 20
"""How many floats a block has on a CPU: 4 MB, so that what one step writes the next one finds in its cache."""

OFTEN = 16
"""From how many images a candidate set on, on average, its classes get one product of their own."""


def by_pairs(stage: Method) -> bool:
    """Whether a method says, by its captions of pairs alone, which texts stand for a class in any vocabulary."""
    return (
        isinstance(stage, PairMethod)
        and type(stage).texts is PairMethod.texts
        and stage.pool in ("mean_score", "mean_feature")
    )


def competing(candidates: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of positions that occur in a row of `candidates` (N, k), ascending, (P, 2); and in how many rows, (P,).

    A row holds positions in ascending order.
    """
    sets, images = np.unique(candidates, axis=0, return_counts=True)
    first, second = np.triu_indices(candidates.shape[1], k=1)
    keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    step = max(1, (BLOCK >> 2) // max(len(first), 1))
    for start in range(0, len(sets), step):
        rows = sets[start : start + step]
        found, place = np.unique(rows[:, first] * classes + rows[:, second], return_inverse=True)
        often = np.bincount(place.ravel(), np.repeat(images[start : start + step], len(first)))
        keys, place = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(place.ravel(), np.concatenate([counts, often])).astype(np.int64)
    return np.stack([keys // classes, keys % classes], axis=1), counts


class PairTexts:
    """The captions of some pairs of classes, (P, 2) positions, laid out to score any candidate sets made of them.

    Inside, a class goes by its rank among the names: then no order of the vocabulary reaches a sum. A direction (c, r)
    is what class c says against rival r, and has the key c C + r. A member is a caption of a class: several directions
    may share it, and it counts once. `texts` has the text of each member; `add` takes their features.
    """

    def __init__(
        self, stage: PairMethod, vocabulary: Vocabulary, descriptions: Descriptions, pairs: np.ndarray, device: str
    ) -> None:
        import torch

        self.vocabulary, self.descriptions, self.device = vocabulary, descriptions, device
        self.renormalise = stage.pool == "mean_feature"
        order = sorted(range(len(vocabulary)), key=vocabulary.names.__getitem__)
        self._position = torch.as_tensor(order, device=device)  # rank -> position
        self._rank = torch.empty_like(self._position)
        self._rank[self._position] = torch.arange(len(order), device=device)
        both = self._rank.cpu().numpy()[np.concatenate([pairs, pairs[:, ::-1]])]  # (2P, 2)
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        self._keys = torch.as_tensor(both[:, 0] * len(order) + both[:, 1], device=device)
        ids = vocabulary.ids[order]
        names = [vocabulary.names[position] for position in order]
        # What the counts of a classifier tell: pairs about which a question is possible, and those without an entry.
        self._askable = torch.tensor([names[a] != names[b] for a, b in both.tolist()], device=device)
        self._absent = torch.tensor(
            [not stage.known((int(a), int(b)), descriptions) for a, b in ids[both].tolist()], device=device
        )
        self.texts: list[str] = []
        lengths: list[int] = []
        entries: list[int] = []
        for rank, rivals in groupby(both.tolist(), key=lambda direction: direction[0]):
            against = [stage.distinct(vocabulary, descriptions, int(ids[rank]), int(ids[rival])) for _, rival in rivals]
            lengths += map(len, against)
            own = {caption: len(self.texts) + n for n, caption in enumerate(sorted(set().union(*against)))}
            self.texts += [stage.worded(vocabulary, int(ids[rank]), caption) for caption in own]
            entries += [own[caption] for captions in against for caption in sorted(captions)]
        self._lay_out(np.array(lengths, dtype=np.int64), np.array(entries, dtype=np.int64))

    def _lay_out(self, lengths: np.ndarray, entries: np.ndarray) -> None:
        """Part the members of each direction, runs of `entries`, into its own and those that it shares."""
        import torch

        shared = np.bincount(entries, minlength=len(self.texts))[entries] > 1
        direction = np.repeat(np.arange(len(lengths)), lengths)

        def starts(mask: np.ndarray) -> np.ndarray:
            return np.concatenate([[0], np.cumsum(np.bincount(direction[mask], minlength=len(lengths)))])

        self._own, self._own_starts = entries[~shared], starts(~shared)
        self._shared = torch.as_tensor(entries[shared], device=self.device)
        self._shared_starts = torch.as_tensor(starts(shared), device=self.device)
        self._counts = torch.as_tensor(np.diff(self._own_starts), device=self.device)
        self._mute = bool((lengths == 0).any())  # a direction without any caption

    def add(self, features: torch.Tensor, index: torch.Tensor) -> None:
        """Sum what each direction has for itself; text i of `texts` has the features (U, D) of row `index[i]`."""
        import torch
        from torch.nn.functional import embedding_bag

        self._index = index
        own = torch.as_tensor(self._own, device=self.device)
        starts = torch.as_tensor(self._own_starts, device=self.device)
        self._sums = embedding_bag(index[own], features, starts[:-1], mode="sum")  # (2P, D)
        # Two sets of texts are the same where the sums of their prints are; integers wrap and need no order.
        self._prints = _printed(index)
        total = torch.cat([starts.new_zeros(1), self._prints[own].cumsum(0)])
        self._own_prints = total[starts[1:]] - total[starts[:-1]]

    def used(self, candidates: np.ndarray) -> torch.Tensor | None:
        """Which directions occur among the sets of candidates, (2P,); None where one occurs that is not here."""
        import torch

        found = torch.zeros(len(self._keys), dtype=torch.bool, device=self.device)
        for _, own, rivals in self._entries(self._different(candidates), 1):
            keys = own[:, None] * len(self.vocabulary) + rivals
            place = torch.searchsorted(self._keys, keys).clamp_(max=len(self._keys) - 1)
            if not torch.equal(self._keys[place], keys):
                return None
            found[place] = True
        return found

    def told(self, used: torch.Tensor) -> tuple[int, int]:
        """Of the directions in use: how many pairs a question is possible about, and how many of them have no entry."""
        pairs = used & self._askable
        return int(pairs.sum()) // 2, int((pairs & self._absent).sum()) // 2

    def silent(self, candidates: np.ndarray) -> np.ndarray:
        """The positions of the classes that have no caption at all against the rivals of some set, ascending."""
        import torch

        if not self._mute:
            return np.zeros(0, dtype=np.int64)
        ranks = [
            own[self._captions(own, rivals) == 0] for _, own, rivals in self._entries(self._different(candidates), 1)
        ]
        return np.unique(self._position[torch.cat(ranks)].cpu().numpy())

    def scores(
        self, x: torch.Tensor, candidates: np.ndarray, features: torch.Tensor, bare: torch.Tensor
    ) -> torch.Tensor:
        """The scores of images (N, D) for their candidates (N, k), positions in ascending order: (N, k).

        `bare` (C,) has the row of `features` for the name of a class that is `silent`.
        """
        import torch

        ranked, place = self._ranked(candidates)  # (N, k) both
        sets, set_of = _sets(ranked)
        found = self._of_sets(x, sets, set_of, features, bare) if sets is not None else None
        if found is None:
            found = torch.empty(ranked.shape, device=x.device)
            prints = torch.empty_like(ranked)
            for entry, own, rivals in self._entries(ranked, x.shape[1]):
                vectors, printed = self._vectors(own, rivals, features, bare)
                found.view(-1)[entry] = (vectors * x[entry // ranked.shape[1]]).sum(dim=1)
                prints.view(-1)[entry] = printed
            found = _tied(found, prints)
        return torch.empty_like(found).scatter_(1, place, found)

    def _of_sets(
        self, x: torch.Tensor, sets: torch.Tensor, set_of: torch.Tensor, features: torch.Tensor, bare: torch.Tensor
    ) -> torch.Tensor:
        """The scores where many images have the same set: its vectors once, and one product with its images."""
        import torch

        k = sets.shape[1]
        found = torch.empty(len(x), k, device=x.device)
        order = torch.argsort(set_of, stable=True)
        bounds = torch.searchsorted(set_of[order], torch.arange(len(sets) + 1, device=x.device)).tolist()
        step = max(1, BLOCK // (k * x.shape[1]))
        for start in range(0, len(sets), step):
            part = sets[start : start + step]
            vectors, prints = torch.empty(part.numel(), x.shape[1], device=x.device), torch.empty_like(part)
            for entry, own, rivals in self._entries(part, x.shape[1]):
                vectors[entry], prints.view(-1)[entry] = self._vectors(own, rivals, features, bare)
            for s in range(len(part)):
                mine = order[bounds[start + s] : bounds[start + s + 1]]
                product = x[mine] @ vectors[s * k : (s + 1) * k].T
                found[mine] = _tied(product, prints[s].expand(len(mine), -1))
        return found

    def _ranked(self, candidates: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The candidates as ranks in ascending order, (N, k), and the column that each came from."""
        import torch

        ranked, place = self._rank[torch.as_tensor(candidates, device=self.device)].sort(dim=1)
        return ranked, place

    def _different(self, candidates: np.ndarray) -> torch.Tensor:
        """The sets of candidates as ranks, each once where they come often."""
        ranked, _ = self._ranked(candidates)
        sets, _ = _sets(ranked)
        return ranked if sets is None else sets

    def _entries(self, ranked: torch.Tensor, width: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """All entries of `ranked` (N, k), in blocks: their places, their classes (B,) and the rivals of each (B, k-1).

        Class by class, so that the sums of one class are used while a processor's cache has them.
        """
        import torch

        k = ranked.shape[1]
        others = torch.tensor([[j for j in range(k) if j != i] for i in range(k)], device=self.device)
        own, order = ranked.reshape(-1).sort(stable=True)
        step = max(1, (CACHED if ranked.device.type == "cpu" else BLOCK) // max(width, 8 * k))
        for start in range(0, len(order), step):
            entry = order[start : start + step]
            image = torch.div(entry, k, rounding_mode="floor")
            rivals = ranked.view(-1)[image[:, None] * k + others[entry - image * k]]
            yield entry, own[start : start + step], rivals

    def _directions(self, own: torch.Tensor, rivals: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.searchsorted(self._keys, own[:, None] * len(self.vocabulary) + rivals)  # (B, k-1)

    def _captions(self, own: torch.Tensor, rivals: torch.Tensor) -> torch.Tensor:
        """How many captions, counted once a rival, each entry has; only whether there are any matters."""
        place = self._directions(own, rivals)
        shared = self._shared_starts[place + 1] - self._shared_starts[place]
        return (self._counts[place] + shared).sum(dim=1)

    def _vectors(
        self, own: torch.Tensor, rivals: torch.Tensor, features: torch.Tensor, bare: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The vector of each class against its rivals, (B, D), and the print of its texts, (B,)."""
        import torch
        from torch.nn.functional import embedding_bag

        place = self._directions(own, rivals)
        sums = embedding_bag(place, self._sums, mode="sum")
        counts, prints = self._counts[place].sum(dim=1), self._own_prints[place].sum(dim=1)
        if len(self._shared):
            bag, member = self._once(place)
            each = torch.bincount(bag, minlength=len(own))
            sums += embedding_bag(self._index[member], features, each.cumsum(0) - each, mode="sum")
            counts += each
            prints.index_add_(0, bag, self._prints[member])
        if self._mute and len(without := (counts == 0).nonzero().flatten()):
            rows = bare[self._position[own[without]]]
            sums[without], counts[without], prints[without] = features[rows], 1, _printed(rows)
        lengths = torch.linalg.vector_norm(sums, dim=1).clamp_min(1e-12) if self.renormalise else counts
        return sums.div_(lengths[:, None]), prints

    def _once(self, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The shared members that the directions (B, k-1) of each entry call for, once an entry: (entry, member)."""
        import torch

        first = self._shared_starts[place].flatten()
        many = self._shared_starts[place + 1].flatten() - first
        # Each member's number among those of its direction, from 0 on, without a loop.
        shift = torch.repeat_interleave(first - (many.cumsum(0) - many), many)
        member = self._shared[shift + torch.arange(len(shift), device=shift.device)]
        bags = torch.arange(len(place), device=shift.device).repeat_interleave(place.shape[1])
        once = torch.unique(torch.repeat_interleave(bags, many) * len(self.texts) + member)
        bag = torch.div(once, len(self.texts), rounding_mode="floor")
        return bag, once - bag * len(self.texts)


def _sets(ranked: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The different rows, and which of them each row is; None for them unless they come often."""
    import torch

    few = len(torch.unique(_printed(ranked).sum(dim=1)))  # nearly always the number of different rows, and fast
    if few * OFTEN > len(ranked):
        return None, ranked
    sets, set_of = torch.unique(ranked, dim=0, return_inverse=True)
    return sets, set_of


def _tied(scores: torch.Tensor, prints: torch.Tensor) -> torch.Tensor:
    """Candidates with the same texts get the same score: sums in another order may differ in the last bit."""
    ordered = prints.sort(dim=1).values
    alike = (ordered[:, 1:] == ordered[:, :-1]).any(dim=1).nonzero().flatten()
    step = max(1, BLOCK // scores.shape[1] ** 2)
    for start in range(0, len(alike), step):
        rows = alike[start : start + step]
        first = (prints[rows][:, :, None] == prints[rows][:, None, :]).byte().argmax(dim=2)
        scores[rows] = scores[rows].gather(1, first)
    return scores


def _printed(numbers: torch.Tensor) -> torch.Tensor:
    """A hash of whole numbers to 64 bits (the mixing of splitmix64): sums of different numbers differ."""
    mixed = (numbers + 1) * -7046029254386353131
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return mixed ^ _shifted(mixed, 31)


def _shifted(numbers: torch.Tensor, by: int) -> torch.Tensor:
    """A shift to the right that brings in zeros; torch's own repeats the sign."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)
