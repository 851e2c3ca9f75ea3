"""Many views of a picture as one feature: crops, weighted by how much each is like the whole."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from descbench.encoders.base import Encoder
from descbench.errors import InputError, SpecError

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

_SHARPNESS = exp(4)  # what a similarity is multiplied by before the softmax, as in WCA
_SMALLEST, _LARGEST = 0.5, 0.9  # the side of a crop, as a share of the shorter side of the picture


@dataclass(frozen=True)
class Crops:
    """`crops(60)`: so many square crops at random places. Which ones follows from the pixels and the seed alone."""

    count: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name}={value!r} of crops is not possible; it is a whole number from {least} on")

    def __repr__(self) -> str:
        return f"crops({self.count}" + (f", seed={self.seed})" if self.seed else ")")

    @classmethod
    def parse(cls, spec: str) -> Crops:
        """Crops from their spelling. Raises `SpecError` for anything else."""
        try:
            call = ast.parse(spec.strip(), mode="eval").body
            if isinstance(call, ast.Name) and call.id == "crops":
                return cls()
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "crops":
                named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
                return cls(*map(ast.literal_eval, call.args), **named)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            pass
        raise SpecError(f"no views {spec!r:.80}; write crops(60) or crops(60, seed=1)")

    def of(self, image: PIL.Image.Image) -> list[PIL.Image.Image]:
        """The crops of a picture. A picture of one pixel has itself as every crop."""
        digest = hashlib.sha256(f"{self.seed} {image.size} {image.mode}".encode() + image.tobytes()).digest()
        draw = np.random.default_rng(list(digest))
        width, height = image.size
        sides = draw.uniform(_SMALLEST, _LARGEST, self.count) * min(width, height)
        sides = np.maximum(1, np.rint(sides)).astype(int)
        lefts = (draw.random(self.count) * (width - sides + 1)).astype(int)
        tops = (draw.random(self.count) * (height - sides + 1)).astype(int)
        boxes = zip(lefts.tolist(), tops.tolist(), sides.tolist(), strict=True)
        return [image.crop((left, top, left + side, top + side)) for left, top, side in boxes]


class Views:
    """An encoder that sees a picture as the mean of its crops, weighted by a softmax over their similarity to the whole
    picture: the image side of WCA (Li et al. 2024, Visual-Text Cross Alignment). Texts are as they were.

    Since the weights follow from the picture alone, a picture stays one vector, and every method works on it as before.
    """

    protocol = "multi-view"

    def __init__(self, encoder: Encoder, views: Crops) -> None:
        self._encoder = encoder
        self.views = views

    def __repr__(self) -> str:
        return f"{self._encoder!r} with {self.views!r}"

    @property
    def name(self) -> str:
        return f"{self._encoder.name} with {self.views!r}"

    @property
    def fingerprint(self) -> str:
        return f"{self._encoder.fingerprint}|{self.views!r},{_SMALLEST},{_LARGEST},{_SHARPNESS:.6f}"

    @property
    def logit_scale(self) -> float:
        return self._encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D), as the encoder inside gives them."""
        return self._encoder.encode_texts(texts)

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """(N, D): picture by picture, so that only the crops of one are in memory."""
        import torch

        rows = []
        for image in images:
            seen = self._encoder.encode_images([image, *self.views.of(image)]).float()  # (1 + V, D)
            whole, crops = seen[0], seen[1:]
            weights = torch.softmax(crops @ whole * _SHARPNESS, dim=0)  # (V,)
            mean = weights @ crops
            rows.append(mean / torch.linalg.vector_norm(mean).clamp_min(1e-12))
        return torch.stack(rows) if rows else self._encoder.encode_images([])
