"""Many views of a picture: as one feature, weighted by how much each crop is like the whole, or each kept apart."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import exp, log
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from descbench.devices import Compute
from descbench.encoders.base import Encoder
from descbench.errors import InputError, SpecError

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

_SHARPNESS = exp(4)  # what a similarity is multiplied by before the softmax, as in WCA
_SMALLEST, _LARGEST = 0.5, 0.9  # the side of a square crop, as a share of the shorter side of the picture
_AREA, _ASPECT, _TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # of a resized crop, as in torchvision's RandomResizedCrop


@dataclass(frozen=True)
class Cuts:
    """So many crops at random: which ones follows from the pixels and the seed alone."""

    spelled: ClassVar[str]

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                where = f"{name}={value!r} of {self.spelled}"
                raise InputError(f"{where} is not possible; it is a whole number from {least} on")

    def __repr__(self) -> str:
        told = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)[1:] if getattr(self, f.name) != f.default]
        return f"{self.spelled}({', '.join([str(self.count), *told])})"

    @property
    def kept_apart(self) -> bool:
        """Whether a picture is all its views, and not their mean."""
        return False

    @property
    def identity(self) -> str:
        """For caches: what the crops of a picture depend on."""
        return repr(self)

    def of(self, image: PIL.Image.Image) -> list[PIL.Image.Image]:
        """The crops of a picture."""
        raise NotImplementedError

    def _draw(self, image: PIL.Image.Image) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed} {image.size} {image.mode}".encode() + image.tobytes()).digest()
        return np.random.default_rng(list(digest))


@dataclass(frozen=True, repr=False)
class Crops(Cuts):
    """`crops(60)`: square crops of half to nine tenths of the shorter side, as in WCA; `apart=True` keeps each."""

    spelled: ClassVar[str] = "crops"

    count: int = 60
    apart: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.apart, bool):
            raise InputError(f"apart={self.apart!r} of crops is not possible; it is True or False")

    @property
    def kept_apart(self) -> bool:
        return self.apart

    @property
    def identity(self) -> str:
        return f"{self!r},{_SMALLEST},{_LARGEST}" + ("" if self.apart else f",{_SHARPNESS:.6f}")

    def of(self, image: PIL.Image.Image) -> list[PIL.Image.Image]:
        """The crops of a picture. A picture of one pixel has itself as every crop."""
        draw = self._draw(image)
        width, height = image.size
        sides = draw.uniform(_SMALLEST, _LARGEST, self.count) * min(width, height)
        sides = np.maximum(1, np.rint(sides)).astype(int)
        lefts = (draw.random(self.count) * (width - sides + 1)).astype(int)
        tops = (draw.random(self.count) * (height - sides + 1)).astype(int)
        boxes = zip(lefts.tolist(), tops.tolist(), sides.tolist(), strict=True)
        return [image.crop((left, top, left + side, top + side)) for left, top, side in boxes]


@dataclass(frozen=True, repr=False)
class Resized(Cuts):
    """`resized(50)`: crops of 8 % to 100 % of the area and an aspect of 3:4 to 4:3, each squeezed into a square and,
    one time in two, seen in a mirror; always kept apart. The views of AWT (Zhu et al. 2024).

    Differs from the authors' code, which squeezes to the size of the model's input at once: here a crop becomes a
    square of its longer side, and the model's own preprocessing sets the size.
    """

    spelled: ClassVar[str] = "resized"

    count: int = 50

    @property
    def kept_apart(self) -> bool:
        return True

    @property
    def identity(self) -> str:
        return f"{self!r},{_AREA},{_ASPECT},{_TRIES}"

    def of(self, image: PIL.Image.Image) -> list[PIL.Image.Image]:
        """The crops of a picture, squares."""
        from PIL.Image import Resampling, Transpose

        draw = self._draw(image)
        boxes = self.boxes(image.size, draw)
        squares = [image.resize((max(w, h),) * 2, Resampling.BICUBIC, (x, y, x + w, y + h)) for x, y, w, h in boxes]
        mirrored = draw.random(self.count) < 0.5
        return [
            square.transpose(Transpose.FLIP_LEFT_RIGHT) if mirror else square
            for square, mirror in zip(squares, mirrored.tolist(), strict=True)
        ]

    def boxes(self, size: tuple[int, int], draw: np.random.Generator) -> list[tuple[int, int, int, int]]:
        """Left, top, width and height of each crop: the first of ten draws that fits, else the middle."""
        width, height = size
        shape = (self.count, _TRIES)
        areas = width * height * draw.uniform(*_AREA, shape)
        aspects = np.exp(draw.uniform(log(_ASPECT[0]), log(_ASPECT[1]), shape))
        sides = np.rint(np.sqrt(np.stack([areas * aspects, areas / aspects], axis=-1))).astype(int)  # (count, tries, 2)
        fits = ((sides > 0) & (sides <= size)).all(axis=-1)  # (count, tries)
        chosen = sides[np.arange(self.count), fits.argmax(axis=1)]  # (count, 2)
        corners = (draw.random((self.count, 2)) * (np.array(size) - chosen + 1)).astype(int)
        middle = [min(width, round(height * _ASPECT[1])), min(height, round(width / _ASPECT[0]))]
        unfit = np.flatnonzero(fits.sum(axis=1) == 0)
        chosen[unfit] = middle
        corners[unfit] = (np.array(size) - middle) // 2
        found = np.concatenate([corners, chosen], axis=1).tolist()
        return [(left, top, wide, high) for left, top, wide, high in found]


CUTS: dict[str, type[Crops] | type[Resized]] = {kind.spelled: kind for kind in (Crops, Resized)}


def cuts(spec: str) -> Cuts:
    """Crops from their spelling: "crops(60)", "crops(50, apart=True)", "resized(50)". Raises `SpecError` for others."""
    try:
        call = ast.parse(spec.strip(), mode="eval").body
        if isinstance(call, ast.Name) and call.id in CUTS:
            return CUTS[call.id]()
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CUTS:
            named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
            return CUTS[call.func.id](*map(ast.literal_eval, call.args), **named)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass
    raise SpecError(f"no views {spec!r:.80}; write crops(60), crops(60, seed=1), crops(50, apart=True) or resized(50)")


class Views:
    """An encoder that looks at a picture in crops. Texts are as they were.

    Either as their mean, weighted by a softmax over their similarity to the whole picture: the image side of WCA (Li et
    al. 2024, Visual-Text Cross Alignment). The weights follow from the picture alone, so a picture stays one vector,
    and every method works on it as before. Or kept apart, the whole picture first: for `awt`, which weighs views by
    texts. Any other method then sees the whole picture only.
    """

    def __init__(self, encoder: Encoder, views: Cuts) -> None:
        if getattr(getattr(encoder, "compute", None), "draft", False):
            raise InputError("views are cut from a picture, and a draft has too few pixels for them; leave one out")
        self._encoder = encoder
        self.views = views

    def __repr__(self) -> str:
        return f"{self._encoder!r} with {self.views!r}"

    @property
    def protocol(self) -> str:
        """Views that are kept apart are not seen until a method looks at them."""
        return "" if self.views.kept_apart else "multi-view"

    @property
    def compute(self) -> Compute | None:
        return getattr(self._encoder, "compute", None)

    @property
    def name(self) -> str:
        return f"{self._encoder.name} with {self.views!r}"

    @property
    def fingerprint(self) -> str:
        return f"{self._encoder.fingerprint}|{self.views.identity}"

    @property
    def logit_scale(self) -> float:
        return self._encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D), as the encoder inside gives them."""
        return self._encoder.encode_texts(texts)

    def overlong(self, texts: Sequence[str]) -> dict[str, tuple[int, int]]:
        """As the encoder inside says; none where it does not."""
        told = getattr(self._encoder, "overlong", None)
        return told(texts) if told else {}

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """(N, D), or (N, 1 + V, D) of views that are kept apart: picture by picture, so that only the crops of one are
        in memory."""
        import torch

        rows = []
        for image in images:
            seen = self._encoder.encode_images([image, *self.views.of(image)]).float()  # (1 + V, D)
            rows.append(seen if self.views.kept_apart else _mean(seen[0], seen[1:]))
        if rows:
            return torch.stack(rows)
        none = self._encoder.encode_images([])
        return none[:, None].expand(0, 1 + self.views.count, -1) if self.views.kept_apart else none


def _mean(whole: Tensor, crops: Tensor) -> Tensor:
    """The mean (D,) of crops (V, D), weighted by their similarity to the whole picture (D,)."""
    import torch

    weights = torch.softmax(crops @ whole * _SHARPNESS, dim=0)  # (V,)
    mean = weights @ crops
    unit: Tensor = mean / torch.linalg.vector_norm(mean).clamp_min(1e-12)
    return unit
