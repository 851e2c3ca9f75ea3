"""Where in a picture a description is seen, as a map of similarity: by patches, or by covering parts of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from descbench.datasets.images import load_image
from descbench.errors import InputError
from descbench.heatmaps.seen import Box, seen_box
from descbench.progress import report

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image
    from torch import Tensor

    from descbench.encoders.base import Encoder

Rows = npt.NDArray[np.float32]

_ENOUGH = 512  # pixels of the shorter side: a larger picture is reduced before its parts are covered
_BATCH = 64  # covered pictures that are in memory at once


@dataclass(frozen=True)
class Occlusion:
    """How parts of a picture are covered: `window` x `window` cells of a `grid` x `grid`, each such window once.

    It takes (grid - window + 1)² + 1 passes of the image tower, for any number of texts. `fill` is the picture's mean
    colour, or "blur": the picture itself without detail, so that colours stay.
    """

    grid: int = 12
    window: int = 2
    fill: Literal["mean", "blur"] = "mean"

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.grid:
            raise InputError(f"{self!r} is not possible; window is a whole number from 1 to grid")
        if self.fill not in ("mean", "blur"):
            raise InputError(f"fill={self.fill!r} is not possible; there are: mean, blur")

    @property
    def passes(self) -> int:
        """How many pictures are encoded: one for each window, and the picture itself."""
        return (self.grid - self.window + 1) ** 2 + 1


@dataclass(frozen=True, eq=False)
class Heatmap:
    """How similar each place of a picture is to each of T texts: similarity, and not what caused an answer.

    `cells` (T, h, w) lie on a grid over `box` (left, top, right, bottom, in pixels of the picture), the part that the
    encoder saw; `size` is the picture's width and height. By patches, a cell is the cosine of patch and text; by
    occlusion, by how much the picture's cosine with the text falls where this cell is covered. With `against`, the mean
    of the maps of those texts is taken off. Values of one map compare places; the level of another text is another.
    """

    texts: tuple[str, ...]
    cells: Rows
    box: Box
    size: tuple[int, int]
    by: Literal["patches", "occlusion"]
    passes: int
    against: tuple[str, ...] = ()

    def __str__(self) -> str:
        high, wide = self.cells.shape[1:]
        maps = "1 heatmap" if len(self.texts) == 1 else f"{len(self.texts)} heatmaps"
        passes = "1 picture" if self.passes == 1 else f"{self.passes} pictures"
        return f"{maps} by {self.by}, {wide} x {high} cells, {passes} encoded"

    @cached_property
    def maps(self) -> Rows:
        """(T, H, W) float32 over the whole picture, interpolated between the cells; NaN where the encoder saw none."""
        return np.stack([self.map(row) for row in range(len(self.texts))])

    def map(self, row: int) -> Rows:
        """(H, W) of one text: `maps[row]` without the others in memory."""
        left, top, right, bottom = self.box
        width, height = self.size
        across = _between(width, left, right, self.cells.shape[2])  # (W, w)
        down = _between(height, top, bottom, self.cells.shape[1])  # (H, h)
        found: Rows = down @ self.cells[row] @ across.T
        return found

    def peak(self, row: int) -> tuple[int, int]:
        """The pixel (x, y) where the map of a text is highest: the middle of a cell, but for the picture's edge."""
        y, x = np.divmod(int(np.nanargmax(self.map(row))), self.size[0])
        return int(x), int(y)

    def overlay(self, image: str | Path | Image.Image, row: int = 0, alpha: float = 0.6) -> Image.Image:
        """The picture in grey with the map of one text over it, and the text and its scale below; see `drawing`."""
        from descbench.heatmaps.drawing import panel

        return panel(load_image(image), self, row, alpha)


def heatmap(
    image: str | Path | Image.Image,
    texts: Sequence[str],
    encoder: Encoder,
    method: Literal["auto", "patches", "occlusion"] | Occlusion = "auto",
    *,
    against: Sequence[str] = (),
) -> Heatmap:
    """Where in a picture each text is seen.

    "patches" compares the patches of a ViT with the text (an encoder with `encode_patches`; `encoders.patches` says
    how they are read); one pass. "occlusion" covers the picture part by part and looks what the similarity loses
    (Zeiler & Fergus 2014); any encoder, many passes. "auto" takes patches where the encoder has them.

    `against`: the mean of the maps of these texts is taken off, as of the rival class's, so that what is seen for any
    text alike (the object, against its background) goes away. The maps show similarity, and not why a class was chosen.

    Raises `InputError` for no or blank texts, an unknown method, patches that the encoder does not have, and a picture
    that cannot be read.
    """
    wanted = [*_checked(texts, "texts", 1), *_checked(against, "against", 0)]
    if not isinstance(method, Occlusion) and method not in ("auto", "patches", "occlusion"):
        raise InputError(f"no heatmap method {method!r}; there are: auto, patches, occlusion, Occlusion(grid, window)")
    picture = load_image(image)
    inside = getattr(encoder, "encoder", encoder)  # without its cache: covered pictures are not worth keeping
    patches = getattr(inside, "encode_patches", None)
    if method == "patches" and patches is None:
        raise InputError(
            f"{encoder!r} has no patches to compare with texts: its image tower is no ViT that is known here. "
            'Use method="occlusion", which any encoder can do, or one with a ViT, such as open_clip:ViT-B-32/TAG.'
        )
    features = _array(encoder.encode_texts(wanted))  # (T + rivals, D)
    box = seen_box(inside, picture.size)
    by: Literal["patches", "occlusion"] = "occlusion"
    if patches is not None and method in ("auto", "patches"):
        by, passes, cells = "patches", 1, _by_patches(picture, features, inside, patches)
    else:
        how = method if isinstance(method, Occlusion) else Occlusion()
        passes, cells = how.passes, _by_occlusion(picture, features, inside, box, how)
    own, rivals = cells[: len(texts)], cells[len(texts) :]
    if len(rivals):
        own = own - rivals.mean(axis=0)
    return Heatmap(tuple(texts), own, box, picture.size, by, passes, tuple(against))


def _checked(texts: Sequence[str], what: str, least: int) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"{what} of a heatmap are a list of texts that are not blank, given: {texts!r:.200}")
    if len(texts) < least:
        raise InputError("a heatmap needs at least one text, and none was given")
    return list(texts)


def _by_patches(picture: Image.Image, texts: Rows, encoder: Any, patches: Callable[[Tensor], Tensor]) -> Rows:
    """(T, h, w): the cosine of each patch with each text."""
    import torch

    rows = _array(patches(torch.as_tensor(encoder.preprocess(picture))[None])[0])  # (h, w, D)
    found: Rows = np.einsum("hwd,td->thw", rows, texts)
    return found


def _by_occlusion(picture: Image.Image, texts: Rows, encoder: Any, box: Box, how: Occlusion) -> Rows:
    """(T, grid, grid): the mean of what the similarity loses over all windows that cover a cell."""
    zoom = min(1.0, _ENOUGH / min(picture.size))
    if zoom < 1:
        small = max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom))
        picture = picture.resize(small)
    pixels = np.asarray(picture)  # (H, W, 3)
    cover = _cover(picture, how, zoom * min(box[2] - box[0], box[3] - box[1]))
    columns = _edges(box[0] * zoom, box[2] * zoom, how.grid, picture.width)
    rows = _edges(box[1] * zoom, box[3] * zoom, how.grid, picture.height)
    places = [(y, x) for y in range(how.grid - how.window + 1) for x in range(how.grid - how.window + 1)]
    whole = texts @ _rows(encoder, [picture])[0]  # (T,)
    total, times = np.zeros((len(texts), how.grid, how.grid)), np.zeros((how.grid, how.grid))
    for start in range(0, len(places), _BATCH):
        some = places[start : start + _BATCH]
        covered = [_covered(pixels, cover, rows[y], rows[y + how.window], columns[x], columns[x + how.window])
                   for y, x in some]  # fmt: skip
        drops = whole[:, None] - texts @ _rows(encoder, covered).T  # (T, some)
        for (y, x), drop in zip(some, drops.T, strict=True):
            window = (..., slice(y, y + how.window), slice(x, x + how.window))
            total[window] += drop[:, None, None]
            times[window] += 1
        report("covering parts of the picture", start + len(some), len(places))
    found: Rows = (total / times).astype(np.float32)
    return found


def _cover(picture: Image.Image, how: Occlusion, side: float) -> Rows:
    """What windows are covered with, (H, W, 3): one colour, or the picture blurred over the width of a window."""
    from PIL import ImageFilter

    if how.fill == "blur":
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(side * how.window / how.grid)))
    pixels = np.asarray(picture)
    mean = np.rint(pixels.mean(axis=(0, 1))).astype(np.uint8)
    return np.broadcast_to(mean, pixels.shape)


def _covered(pixels: Any, cover: Any, top: int, bottom: int, left: int, right: int) -> Image.Image:
    from PIL import Image

    changed = pixels.copy()
    changed[top:bottom, left:right] = cover[top:bottom, left:right]
    return Image.fromarray(changed)


def _edges(first: float, last: float, count: int, side: int) -> list[int]:
    """The pixels where cells begin and end, (count + 1), within the picture."""
    return [min(side, max(0, round(edge))) for edge in np.linspace(first, last, count + 1).tolist()]


def _rows(encoder: Any, pictures: list[Image.Image]) -> Rows:
    """Image features (N, D); of an encoder that keeps views apart those of the whole picture."""
    rows = _array(encoder.encode_images(pictures))
    return rows[:, 0] if rows.ndim == 3 else rows


def _array(rows: Tensor) -> Rows:
    found: Rows = np.asarray(rows.cpu(), dtype=np.float32)
    return found


def _between(pixels: int, first: float, last: float, cells: int) -> Rows:
    """(pixels, cells): the weights of linear interpolation between the middles of cells, which lie from `first` to
    `last`; NaN for a pixel whose middle is outside."""
    places = (np.arange(pixels) + 0.5 - first) / (last - first)  # 0 to 1 within
    steps = np.clip(places * cells - 0.5, 0, cells - 1)
    weights = np.clip(1 - np.abs(steps[:, None] - np.arange(cells)), 0, 1)
    half = 0.5 / pixels  # a box that is right to half a pixel of the picture ends at its edge
    weights[(places < -half) | (places > 1 + half)] = np.nan
    found: Rows = weights.astype(np.float32)
    return found
