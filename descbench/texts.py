"""The texts of all classes, flat: the one place where a class without a text falls back to its bare name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions


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


class Worded(Protocol):
    """What is needed of a method here: see `descbench.methods.base.Method.texts`."""

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank: ...


def of_every_name(method: Worded, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
    """The texts of a method where a class may have several names: those that it makes with each of them in the place of
    the first, together, in one pool.

    A text that an earlier name of the class gave already is not added again: what does not say the name counts as often
    as without synonyms. What there is once a class (whether it is undescribed, its anchor) is that of its first name.
    """
    if not vocabulary.synonyms:
        return method.texts(vocabulary, descriptions)
    # Which class a description is of is told by the first name, whatever the class is called in a text.
    descriptions = replace(descriptions, names={**dict(vocabulary), **descriptions.names})
    names = [len(vocabulary.names_of(id_)) for id_, _ in vocabulary]
    banks = [method.texts(vocabulary.led_by(number), descriptions) for number in range(max(names))]
    chosen: list[tuple[int, int]] = []  # (bank, text)
    offsets = [0]
    for position, several in enumerate(names):
        before: set[str] = set()
        for number, bank in enumerate(banks[:several]):
            own = bank.texts_of(position)
            chosen += [(number, row) for row, text in enumerate(own, bank.offsets[position]) if text not in before]
            before.update(own)
        offsets.append(len(chosen))
    weights = None
    if (given := [bank.weights for bank in banks if bank.weights is not None]) and len(given) == len(banks):
        weights = np.array([given[number][row] for number, row in chosen], dtype=np.float32)
    texts = tuple(banks[number].texts[row] for number, row in chosen)
    return replace(banks[0], texts=texts, offsets=np.array(offsets, dtype=np.int64), weights=weights)
