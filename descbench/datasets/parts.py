"""Around a data set: a part of it, drawn by the ids; and the whole, ending at the first picture that cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from descbench.datasets.base import Dataset, Sample, content_fingerprint
from descbench.errors import InputError, PartialError

if TYPE_CHECKING:
    import PIL.Image


class Around:
    """A data set around another one, the `whole`: what it does not say otherwise is as there."""

    def __init__(self, whole: Dataset) -> None:
        self.whole = whole

    def __repr__(self) -> str:
        return repr(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def names(self) -> tuple[str, ...]:
        return self.whole.names

    @property
    def domain(self) -> str:
        return str(getattr(self.whole, "domain", ""))

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint


class Limited(Around):
    """`limit` samples of a data set, in its order: those whose ids come first by a hash of seed and id.

    So each sample has the same chance, a smaller limit takes a part of a larger one, and the order of the files decides
    nothing. A data set that is smaller is taken whole. Takes a pass over the ids. Raises `InputError` for a limit
    below 1.
    """

    def __init__(self, dataset: Dataset, limit: int, seed: int = 0) -> None:
        if limit < 1:
            raise InputError(f"a limit of {limit} images cannot be; what would do: a whole number from 1 on")
        super().__init__(dataset)
        self.limit, self.seed = limit, seed

    def __repr__(self) -> str:
        return f"{self.whole!r}, {len(self)} of {len(self.whole)} images"

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, ids and labels of the part."""
        return content_fingerprint("part", self)

    @property
    def available(self) -> int:
        """How many samples the whole has."""
        return len(self.whole)

    @cached_property
    def _rows(self) -> tuple[int, ...]:
        """The rows of the part, ascending. Equal pictures have equal ids; among them the first come first."""
        keys = [
            (hashlib.sha256(f"{self.seed} {sample.id}".encode()).digest(), row)
            for row, sample in enumerate(self.whole.samples())
        ]
        return tuple(sorted(row for _, row in sorted(keys)[: self.limit]))

    def samples(self) -> Iterator[Sample]:
        chosen = set(self._rows)
        for row, sample in enumerate(self.whole.samples()):
            if row in chosen:
                yield sample

    @property
    def features(self) -> Any:
        """(n, D) where the data set holds features; None where it holds images."""
        ready = getattr(self.whole, "features", None)
        return None if ready is None else ready[list(self._rows)]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self.samples())

    @property
    def labels(self) -> Any:
        """(n,) int, -1 for unlabelled; of a data set of features."""
        return self.whole.labels[list(self._rows)]  # type: ignore[attr-defined]


class Strict(Around):
    """A data set of images whose first picture that cannot be read ends the run: a `PartialError` with the reason."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "whole":  # asked for while a copy is made
            raise AttributeError(name)
        return getattr(self.whole, name)  # features, limit: what the data set has beside its samples

    def samples(self) -> Iterator[Sample]:
        for sample in self.whole.samples():
            yield replace(sample, load=partial(_load_or_end, sample))


def _load_or_end(sample: Sample) -> PIL.Image.Image:
    try:
        return sample.load()
    except (InputError, OSError) as error:
        where = "" if sample.source in str(error) else f"{sample.source}: "
        raise PartialError(f"stopped at the first image that fails: {where}{error}") from error
