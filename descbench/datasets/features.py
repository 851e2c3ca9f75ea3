"""Image features that somebody has computed already, with their labels: a data set without images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows, digest, pick, read_arrays, unit_rows
from descbench.datasets.base import Sample
from descbench.errors import InputError


class FeaturesDataset:
    """The arrays of a npz or safetensors file: `image_features` or `features` (N, D), and where it has them
    `labels` (N,) (numbers, -1 for unlabelled), `names` or `class_names`, `ids` or `files` (N,).

    Rows are scaled to length 1 in float32.
    """

    def __init__(self, argument: str) -> None:
        self.argument = argument
        path = Path(argument).expanduser()
        where = f"features of {argument!r}"
        arrays = read_arrays(path)
        self.name = path.stem
        content = digest(path)
        self.fingerprint = f"features:{content}"
        rows = pick(arrays, path, "image_features", "features")
        if "ids" in arrays or "files" in arrays:
            self.ids = tuple(str(name) for name in pick(arrays, path, "ids", "files"))
        else:
            self.ids = tuple(f"{content[:16]}:{row}" for row in range(len(np.atleast_1d(rows))))
        self.features: Rows = unit_rows(rows, self.ids, where)  # (N, D)
        self.labels = self._read_labels(arrays.get("labels"), where)  # (N,)
        given = arrays.get("names", arrays.get("class_names"))
        known = range(int(self.labels.max(initial=-1)) + 1) if given is None else given
        self.names = tuple(str(name) for name in known)
        self._check_labels(where)

    @classmethod
    def from_spec(cls, argument: str) -> FeaturesDataset:
        return cls(argument)

    def __repr__(self) -> str:
        return f"features:{self.argument}"

    def __len__(self) -> int:
        return len(self.ids)

    def samples(self) -> Iterator[Sample]:
        for name, label in zip(self.ids, self.labels.tolist(), strict=True):
            yield Sample(name, self._no_image, None if label < 0 else label, name)

    def _no_image(self) -> NoReturn:
        raise InputError(f"{self!r} holds image features, not images. To look at pictures, use a folder: data set.")

    def _read_labels(self, given: npt.NDArray[Any] | None, where: str) -> npt.NDArray[np.int64]:
        if given is None:
            return np.full(len(self), -1, dtype=np.int64)
        if given.shape != (len(self),) or not np.issubdtype(given.dtype, np.integer):
            raise InputError(
                f"{where}: labels are {given.dtype} of shape {given.shape}; what would do: whole numbers of shape "
                f"({len(self)},), each an index into names, -1 for unlabelled."
            )
        return given.astype(np.int64)

    def _check_labels(self, where: str) -> None:
        wrong = (self.labels < -1) | (self.labels >= len(self.names))
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{where}: the label of row {row} ({self.ids[row]!r}) is {self.labels[row]}, and there are "
                f"{len(self.names)} names. What would do: 0 to {len(self.names) - 1}, or -1 for unlabelled."
            )
