"""What a data set is: samples in a fixed order, each with a stable id and perhaps a label; or their ready features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True)
class Sample:
    """One picture that is not read yet. `load` raises `InputError` where it cannot be."""

    id: str  # stable: equal ids are equal pictures, in this run and the next
    load: Callable[[], PIL.Image.Image]
    label: int | None = None  # an index into the data set's names
    source: str = ""  # its path, for people
    accepted: tuple[int, ...] = ()  # of a picture with several right labels: all of them, `label` first; else empty


@runtime_checkable
class Dataset(Protocol):
    """Any object with these members serves.

    A data set may hold image features instead of images: it then also has `features` (N, D) float32, `ids` (N strings)
    and `labels` (N,) int with -1 for unlabelled, in the order of its samples.
    """

    @property
    def name(self) -> str:
        """For people."""

    @property
    def fingerprint(self) -> str:
        """For caches and records: equal for equal samples and labels, wherever they lie."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the labels mean: label i is `names[i]`."""

    def __len__(self) -> int:
        """How many samples there are."""

    def samples(self) -> Iterator[Sample]:
        """The samples, in the same order every time."""


def content_fingerprint(kind: str, dataset: Dataset) -> str:
    """A fingerprint of names, ids and labels, in their order: not of where the pictures lie. Takes a pass over them."""
    rows = [(sample.id, sample.label, *sample.accepted) for sample in dataset.samples()]
    return f"{kind}:{hashlib.sha256(json.dumps([dataset.names, rows]).encode()).hexdigest()}"
