"""Heatmaps as pictures: one over its picture, or a sheet with one for each of the texts that spoke for an answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from descbench.datasets.images import load_image
from descbench.errors import InputError
from descbench.explanation import Explanation
from descbench.heatmaps.maps import Heatmap, Occlusion, heatmap
from descbench.methods.controls import renamed

if TYPE_CHECKING:
    from typing import Literal

    from descbench.encoders.base import Encoder

ANCHORS = ((27, 15, 66), (92, 24, 114), (160, 44, 112), (215, 84, 79), (241, 143, 46), (247, 224, 132))
"""From low to high, (R, G, B): the lightness grows by about the same from each to the next, and between them evenly."""

UNSEEN = (205, 205, 205)  # of what the encoder does not see, hatched
TOP = 6  # maps on a sheet
WORD = "object"  # in place of a class's name, as in `nameless` without a domain
_AREA, _LONGEST, _NARROWEST = 90_000, 900, 250  # pixels of a drawn picture, its longest side, the width of a panel
_WIDE = 1_200  # of a sheet
_GAP, _LINE, _SIZE, _BAR = 14, 19, 14, 10  # pixels: between panels, of a line of text, of its letters, of a scale
_INK, _FAINT, _PAPER = (30, 30, 34), (100, 100, 108), (255, 255, 255)
_LEAST = 0.1  # of the strongest map's highest value: no scale ends lower
_SAME = 5e-5  # a map whose values differ by less shows rounding
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")  # more letters than Pillow's own


def save_heatmaps(
    path: str | Path,
    image: str | Path | Image.Image,
    told: Explanation | Sequence[str],
    encoder: Encoder,
    *,
    method: Literal["auto", "patches", "occlusion"] | Occlusion = "auto",
    top: int = TOP,
) -> Path:
    """Write a sheet: the picture, then a heatmap of each of the `top` texts, which stand below them.

    Of an explanation these are the texts of the answer that spoke for it most, without the classes' names and each less
    the mean of the maps of all texts of both classes: see `unnamed`. Returns the path. Raises `InputError` for another
    suffix than .png, .jpg or .webp, and as `heatmap` does.
    """
    path = sheet_path(path)
    if top < 1:
        raise InputError(f"top={top} heatmaps are not possible; it is a whole number from 1 on")
    picture = load_image(image)
    if isinstance(told, Explanation):
        seen = unnamed(told)
        texts, every = list(dict.fromkeys(seen[text] for text in speaking(told))), list(dict.fromkeys(seen.values()))
        title = f"{told.answer}, and not {told.against}: where its texts are seen"
        less = f", less the mean over the {len(every)} texts of both classes"
        less += f' ("{WORD}" stands for their names)' if any(seen[text] != text for text in seen) else ""
    else:
        texts, every, title, less = list(told), [], "Where each text is seen", ""
    made = sheet(picture, heatmap(picture, texts[:top], encoder, method, against=every), title, less)
    content = io.BytesIO()
    made.save(content, {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG"))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.getvalue())
    part.replace(path)
    return path


def sheet_path(path: str | Path) -> Path:
    """The path, where a sheet can be written under that name. Raises `InputError` for another suffix."""
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"a sheet of heatmaps cannot be {str(path)!r}; give a name that ends in {', '.join(_SUFFIXES)}"
        )
    return path


def speaking(told: Explanation) -> list[str]:
    """The texts of the answer that speak for it, the strongest first; all of them where none does."""
    ranked = [one for one in told.contributions if one.of != "rival"]
    return [one.text for one in ranked if one.contribution > 0] or [one.text for one in ranked]


def unnamed(told: Explanation) -> dict[str, str]:
    """Each text of an explanation, the answer's first, and what is looked for in its place: the same without the names.

    All texts of a class name it, and that name is seen all over the thing; what sets one text apart from the others is
    the rest. Where names alone tell the classes apart, as in templates, they stay.
    """
    names = {told.answer: WORD, told.against: WORD}
    own, rivals = (
        {one.text: renamed(one.text, names) for one in side} for side in (told.reasons, told.counter_reasons)
    )
    if set(own.values()) == set(rivals.values()):
        own, rivals = ({text: text for text in side} for side in (own, rivals))
    return own | rivals


def sheet(picture: Image.Image, heat: Heatmap, title: str, less: str = "") -> Image.Image:
    """The picture and all maps side by side, in rows, with a title and what the colours mean.

    `less` says what was taken off the maps.
    """
    panels = [_framed(_enlarged(picture), ["the picture"])]
    panels += [panel(picture, heat, row) for row in range(len(heat.texts))]
    width = panels[0].width
    columns = max(1, min(len(panels), (_WIDE - _GAP) // (width + _GAP)))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    whole = max(_GAP + columns * (width + _GAP), 2 * _GAP + 560)
    head, foot = _wrapped(title, whole - 2 * _GAP, _SIZE + 4), _wrapped(_reading(heat, less), whole - 2 * _GAP)
    heights = [max(one.height for one in row) for row in rows]
    tall = _GAP * (len(rows) + 3) + len(head) * (_LINE + 5) + sum(heights) + len(foot) * _LINE
    made = Image.new("RGB", (whole, tall), _PAPER)
    draw = ImageDraw.Draw(made)
    y = _GAP
    for line in head:
        draw.text((_GAP, y), line, _INK, _font(_SIZE + 4))
        y += _LINE + 5
    y += _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, one in enumerate(row):
            made.paste(one, (_GAP + column * (width + _GAP), y))
        y += height + _GAP
    for line in foot:
        draw.text((_GAP, y), line, _FAINT, _font(_SIZE))
        y += _LINE
    return made


def _reading(heat: Heatmap, less: str) -> str:
    """What the maps show, in a few sentences."""
    how = {
        "patches": "Colours: how similar each patch of the picture is to the text, from low (dark) to high (bright)",
        "occlusion": "Colours: how much similarity to the text is lost where the picture is covered, from nothing "
        "(dark) to most (bright)",
    }[heat.by]
    unseen = " Hatched parts are not seen by the encoder." if np.isnan(heat.map(0)).any() else ""
    return (
        f"{how}{less}; each map on the scale below it. {heat!s}.{unseen} "
        "This is similarity: it does not show what caused the answer."
    )


def panel(picture: Image.Image, heat: Heatmap, row: int, alpha: float = 0.6) -> Image.Image:
    """The map of one text over the picture in grey, its scale and the text below.

    `alpha` is how much of the colours covers the grey, 0 to 1. Raises `InputError` for another picture's size.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha={alpha} is not possible; it is from 0 (the picture alone) to 1 (the colours alone)")
    if picture.size != heat.size:
        raise InputError(
            f"the heatmap is of a picture of {heat.size} pixels, this one has {picture.size}; give its own"
        )
    values = heat.map(row)
    low, high = _scale(heat, row)
    flat = high - low < _SAME
    share = np.where(np.isnan(values), np.nan, 0.0 if flat else np.clip((values - low) / (high - low), 0, 1))
    drawn = _enlarged(picture)
    share = _enlarged_map(share, drawn.size)
    grey = np.asarray(drawn.convert("L"), dtype=np.float64)[..., None]
    mixed = np.where(
        np.isnan(share)[..., None], _hatched(drawn.size, grey), grey * (1 - alpha) + alpha * colours(share)
    )
    if flat:
        ends = ("nothing anywhere" if low == 0 else "the same everywhere", "")
    else:
        ends = ("0 or less" if low == 0 else f"{low:+.4f}", f"{high:+.4f}")
    return _framed(Image.fromarray(np.rint(mixed).astype(np.uint8)), [heat.texts[row]], ends)


def _scale(heat: Heatmap, row: int) -> tuple[float, float]:
    """The values of a map that are drawn darkest and brightest.

    Where 0 says that a place is nothing to the text, as in all maps but the bare cosines of patches, it is the darkest,
    and the scale ends no lower than at a part of the strongest map's: what is hardly seen anywhere is dark everywhere.
    """
    low, high = float(np.nanmin(heat.cells[row])), float(np.nanmax(heat.cells[row]))
    if heat.by == "patches" and not heat.against:
        return low, high
    return 0.0, max(high, _LEAST * float(np.nanmax(heat.cells)), 0.0)


def colours(share: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Shares from 0 to 1 -> (..., 3): the colours of `ANCHORS` and those between them."""
    steps = np.linspace(0, 1, len(ANCHORS))
    known = np.nan_to_num(share)
    return np.stack([np.interp(known, steps, channel) for channel in zip(*ANCHORS, strict=True)], axis=-1)


def _hatched(size: tuple[int, int], grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What is not seen: the picture, faint, under slanted lines."""
    lines = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 8 < 2
    faint: npt.NDArray[np.float64] = np.where(lines[..., None], UNSEEN, 0.35 * grey + 0.65 * 255)
    return faint


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """How large a picture is drawn: about the same area for every shape."""
    zoom = (_AREA / (size[0] * size[1])) ** 0.5
    zoom = min(zoom, _LONGEST / max(size))
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


def _enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize(_shown_size(picture.size), Image.Resampling.BICUBIC)


def _enlarged_map(share: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W) -> (height, width) of the drawn picture; what is not seen stays so."""
    unseen = np.isnan(share)
    values = Image.fromarray(np.nan_to_num(share).astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    hidden = Image.fromarray(np.where(unseen, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    found: npt.NDArray[np.float64] = np.where(np.asarray(hidden) > 127, np.nan, np.asarray(values, dtype=np.float64))
    return found


def _framed(drawn: Image.Image, texts: list[str], scale: tuple[str, str] | None = None) -> Image.Image:
    """A drawn picture on paper of the panel's width, a scale from low to high where there is one, and texts below."""
    width = max(drawn.width, _NARROWEST)
    lines = [line for text in texts for line in _wrapped(text, width)]
    below = drawn.height + 6
    made = Image.new("RGB", (width, below + (_BAR + _LINE + 4 if scale else 0) + len(lines) * _LINE + 4), _PAPER)
    made.paste(drawn, (0, 0))
    draw = ImageDraw.Draw(made)
    if scale:
        ramp = np.broadcast_to(colours(np.linspace(0, 1, width)), (_BAR, width, 3))
        made.paste(Image.fromarray(np.rint(ramp).astype(np.uint8)), (0, below))
        draw.text((0, below + _BAR + 2), scale[0], _FAINT, _font(_SIZE - 2))
        draw.text((width, below + _BAR + 2), scale[1], _FAINT, _font(_SIZE - 2), anchor="ra")
        below += _BAR + _LINE + 4
    for number, line in enumerate(lines):
        draw.text((0, below + number * _LINE), line, _INK, _font(_SIZE))
    return made


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _wrapped(text: str, width: int, size: int = _SIZE) -> list[str]:
    """A text as lines that fit: cut between words, and within a word that is longer than a line."""
    font = _font(size)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
