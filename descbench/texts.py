"""The texts of all classes, flat: the one place where a class without a text falls back to its bare name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descbench.vocabulary import Vocabulary


def plain(name: str) -> str:
    """A class name as the text encoder is shown it: "_" read as a blank, the case kept."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Anchors:
    """One text for each of C classes, by which the texts of the class are weighed: a softmax over `sharpness` times
    their similarity to it. A method knows no similarity; whoever has the features makes weights of this."""

    texts: tuple[str, ...]  # C
    sharpness: float


@dataclass(frozen=True)
class TextBank:
    """T texts of C classes: class i owns `texts[offsets[i]:offsets[i+1]]`, at least one.

    `undescribed` marks the classes that had none and got their name. `weights` (T,) are for a weighted mean; with
    `anchors` too, a text of weight 2 counts as if it stood there twice.
    """

    texts: tuple[str, ...]
    offsets: np.ndarray  # (C+1,) int64
    undescribed: np.ndarray  # (C,) bool
    weights: np.ndarray | None = None  # (T,) float32
    anchors: Anchors | None = None

    @classmethod
    def of(cls, vocabulary: Vocabulary, lists: Sequence[Sequence[str]]) -> TextBank:
        """A bank from one list of texts a class, in the vocabulary's order; blank texts are none."""
        said = [[text for text in texts if text.strip()] for texts in lists]
        undescribed = np.array([not texts for texts in said], dtype=bool)
        filled = [texts or [plain(name)] for texts, name in zip(said, vocabulary.names, strict=True)]
        offsets = np.cumsum([0, *map(len, filled)], dtype=np.int64)
        return cls(tuple(text for texts in filled for text in texts), offsets, undescribed)

    def __len__(self) -> int:
        return len(self.texts)

    def texts_of(self, position: int) -> tuple[str, ...]:
        """The texts of the class at this position."""
        return self.texts[self.offsets[position] : self.offsets[position + 1]]
