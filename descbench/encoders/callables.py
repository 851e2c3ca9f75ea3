"""Two functions as an encoder: whatever model there is, on one's own terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.arrays import unit_rows
from descbench.errors import InputError

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor


class CallablesEncoder:
    """`encode_images` (PIL images) and `encode_texts` (strings), each to (N, D): tensors or arrays, of any length.

    `fingerprint` names what the features depend on (the weights, the preprocessing): caches keep them under it, so two
    models need two. Raises `InputError` for what are no functions, and when one gives other rows than it should.
    """

    def __init__(
        self,
        encode_images: Callable[[Sequence[PIL.Image.Image]], Any],
        encode_texts: Callable[[Sequence[str]], Any],
        *,
        fingerprint: str = "",
        name: str = "two functions",
        logit_scale: float = 100.0,
    ) -> None:
        for what, function in (("images", encode_images), ("texts", encode_texts)):
            if not callable(function):
                raise InputError(
                    f"the function that encodes {what} is {function!r}; give (encode_images, encode_texts)"
                )
        if not fingerprint or not isinstance(fingerprint, str):
            raise InputError(
                f"two functions as an encoder need a fingerprint, given: {fingerprint!r}. Features are kept under it: "
                'name the model and its weights, as in fingerprint="my-clip, epoch 12".'
            )
        if not (isinstance(logit_scale, int | float) and np.isfinite(logit_scale) and logit_scale > 0):
            raise InputError(f"logit_scale is {logit_scale!r}; what would do: one positive number, as 100.0")
        self._images, self._texts = encode_images, encode_texts
        self.name, self.logit_scale = name, float(logit_scale)
        self.fingerprint = f"callables:{fingerprint}"
        self._dimension = 0

    def __repr__(self) -> str:
        return self.name

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """(N, D) float32 on the CPU, unit rows."""
        return self._rows(self._images, list(images), [f"image {i}" for i in range(len(images))])

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D) float32 on the CPU, unit rows."""
        return self._rows(self._texts, list(texts), texts)

    def _rows(self, function: Callable[[Any], Any], items: list[Any], names: Sequence[str]) -> Tensor:
        import torch

        if not items:
            return torch.empty(0, self._dimension)
        rows = unit_rows(function(items), names, f"encoder {self!r}")
        if rows.ndim != 2 or self._dimension not in (0, rows.shape[1]):
            raise InputError(
                f"encoder {self!r} gave {len(rows)} rows of shape {rows.shape[1:]}, and of ({self._dimension or 'D'},) "
                "before; images and texts are compared, so both functions give one vector each, of one width"
            )
        self._dimension = rows.shape[1]
        return torch.from_numpy(rows)
