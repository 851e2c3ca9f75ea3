"""A prediction is a ranked list: the best K classes of an image with their scores, never (N, C)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descbench.errors import InputError, counted
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Predictions:
    """`ids` (N, K) and `scores` (N, K), best first. Scores are similarities, comparable within a row only; after a
    follow-up the first k columns hold its scores and the rest those of the stage before, and `first` (N,) is what the
    first stage answered; None where there was one stage."""

    vocabulary: Vocabulary
    ids: np.ndarray  # (N, K) int64, ids of the vocabulary
    scores: np.ndarray  # (N, K) float32
    first: np.ndarray | None = None  # (N,) int64

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.scores.shape:
            raise InputError(
                f"ids and scores must be two (N, K) arrays, given: {self.ids.shape} and {self.scores.shape}"
            )
        if self.first is not None and self.first.shape != (len(self.ids),):
            raise InputError(f"first is one class for each of {len(self.ids)} images, given: {self.first.shape}")

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> list[list[str]]:
        """The names of the best classes of each image, best first."""
        names = np.array(self.vocabulary.names, dtype=object)
        found: list[list[str]] = names[self.vocabulary.positions(self.ids)].tolist()
        return found

    def _repr_html_(self) -> str:
        """What a notebook shows: the best classes of the first images, with their scores."""
        from descbench import markup

        some = replace(self, ids=self.ids[:10, :3], scores=self.scores[:10, :3], first=None)
        rows = [
            [number, *(cell for pair in zip(map(markup.name, named), scores, strict=True) for cell in pair)]
            for number, (named, scores) in enumerate(
                zip(some.names(), [[f"{score:.4f}" for score in row] for row in some.scores.tolist()], strict=True)
            )
        ]
        width = some.ids.shape[1]
        head = ["image", *(cell for place in range(1, width + 1) for cell in (f"class {place}", "score"))]
        told = counted(len(self), "prediction") + ("" if len(self) <= 10 else ", the first 10")
        return str(markup.snippet(markup.table(head, rows, told, numbers=range(2, 2 * width + 1, 2))))

    def top(self, k: int) -> Predictions:
        """The best k only."""
        return replace(self, ids=self.ids[:, :k], scores=self.scores[:, :k])

    def reorder_top(self, ids: np.ndarray, scores: np.ndarray) -> Predictions:
        """The first k columns in a new order: `ids` (N, k) holds, row for row, the same classes as the first k here.

        Raises `InputError` where it does not: a follow-up decides among its candidates and brings in no other class.
        """
        k = ids.shape[1]
        if not np.array_equal(np.sort(ids, axis=1), np.sort(self.ids[:, :k], axis=1)):
            raise InputError(f"a follow-up may only reorder the first {k} classes of an image")
        return replace(
            self,
            ids=np.concatenate([ids, self.ids[:, k:]], axis=1),
            scores=np.concatenate([scores, self.scores[:, k:]], axis=1),
        )
