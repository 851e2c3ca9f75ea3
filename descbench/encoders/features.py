"""Text features that somebody has computed already, looked up by the exact text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descbench.arrays import Rows, digest, pick, read_arrays, unit_rows
from descbench.errors import InputError, nearest

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor


class FeaturesEncoder:
    """The arrays `texts` (T,) and `text_features` (T, D) of a npz or safetensors file; `logit_scale` where it has one.

    It knows these texts and no other, and no image: for data sets that hold image features ("features:FILE").
    """

    def __init__(self, argument: str) -> None:
        self.argument = argument
        self.name = f"text features of {Path(argument).name}"
        self._path = Path(argument).expanduser()
        self._arrays = read_arrays(self._path)
        self._texts = [str(text) for text in pick(self._arrays, self._path, "texts")]
        self._features: Rows = unit_rows(  # (T, D)
            pick(self._arrays, self._path, "text_features"), self._texts, f"features of {argument!r}"
        )
        self._row = {text: row for row, text in enumerate(self._texts)}

    @classmethod
    def from_spec(cls, argument: str, *, device: str = "auto") -> FeaturesEncoder:
        return cls(argument)  # nothing runs here, so any device will do

    def __repr__(self) -> str:
        return f"features:{self.argument}"

    @cached_property
    def fingerprint(self) -> str:
        return f"features:{digest(self._path)}"

    @property
    def logit_scale(self) -> float:
        scale = np.ravel(self._arrays.get("logit_scale", np.array(100.0)))
        if scale.size != 1 or not np.isfinite(scale).all() or scale[0] <= 0:
            raise InputError(f"{self!r}: logit_scale is {scale.tolist()}; what would do: one positive number.")
        return float(scale[0])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        import torch

        for text in texts:
            if text not in self._row:
                raise InputError(
                    f"{self!r} has no features of the text {text!r}{nearest(text, self._row) or '.'} "
                    f"It holds {len(self._row)} texts, matched exactly. "
                    "Use these texts, or an encoder that can encode new ones (open_clip:...)."
                )
        return torch.from_numpy(self._features[[self._row[text] for text in texts]])  # (T, D)

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        raise InputError(
            f"{self!r} holds text features only and cannot encode {len(images)} images. "
            "Use a data set that holds image features (features:FILE), or an encoder with a model (open_clip:...)."
        )
