"""A prediction is a ranked list: the best K classes of an image with their scores, never (N, C)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from descbench.errors import InputError
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Predictions:
    """`ids` (N, K) and `scores` (N, K), best first. Scores are similarities, comparable within a row only; after a
    follow-up the first k columns hold its scores and the rest those of the stage before."""

    vocabulary: Vocabulary
    ids: np.ndarray  # (N, K) int64, ids of the vocabulary
    scores: np.ndarray  # (N, K) float32

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.scores.shape:
            raise InputError(
                f"ids and scores must be two (N, K) arrays, given: {self.ids.shape} and {self.scores.shape}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def names(self) -> list[list[str]]:
        """The names of the best classes of each image, best first."""
        names = np.array(self.vocabulary.names, dtype=object)
        found: list[list[str]] = names[self.vocabulary.positions(self.ids)].tolist()
        return found

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
