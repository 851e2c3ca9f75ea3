"""What part of a picture an encoder sees: asked of its preprocessing, whatever that is made of."""

from __future__ import annotations

from typing import Any

import numpy as np

Box = tuple[
    float, float, float, float
]  # left, top, right, bottom, in pixels; may reach beyond a picture that is padded

_PROBE = 1_000_000  # pixels of the picture that is sent through in place of the real one
_EXACT = 0.005  # of the side: nearer to the picture's edge, an end of the box is that edge


def seen_box(encoder: Any, size: tuple[int, int]) -> Box:
    """The box of a picture of `size` (width, height) that fills the encoder's input.

    A picture whose red grows from left to right and whose green from top to bottom is prepared as any other; what
    comes out says of each input pixel where it came from. A black and a white picture undo the normalisation, and show
    what is padding. It is right to half a per cent of the side, for crops, squeezing and padding; a box that ends so
    near to the picture's edge ends there. An encoder without a `preprocess` of (3, h, w) is taken to see all.
    """
    width, height = size
    everything = (0.0, 0.0, float(width), float(height))
    prepare = getattr(encoder, "preprocess", None)
    if prepare is None:
        return everything
    zoom = (_PROBE / (width * height)) ** 0.5  # what is seen depends on the proportions alone
    wide, high = max(1, round(width * zoom)), max(1, round(height * zoom))
    black, white, ramps = (np.asarray(prepare(picture), dtype=np.float64) for picture in _probes(wide, high))
    if black.ndim != 3 or len(black) != 3:
        return everything
    span = white - black  # (3, h, w); nothing where no picture is
    inside = np.abs(span) > 0.5 * np.abs(span).max()
    share = np.where(inside, ramps - black, 0.0) / np.where(inside, span, 1.0)
    left, right = _ends(share[0], inside[0], axis=0)
    top, bottom = _ends(share[1], inside[1], axis=1)
    return left * width, top * height, right * width, bottom * height


def _probes(width: int, height: int) -> list[Any]:
    from PIL import Image

    across = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
    down = np.broadcast_to(((np.arange(height) + 0.5) / height)[:, None], (height, width))
    ramps = np.rint(255 * np.stack([across, down, np.zeros((height, width))], axis=-1)).astype(np.uint8)
    return [*(Image.new("RGB", (width, height), colour) for colour in ("black", "white")), Image.fromarray(ramps)]


def _ends(share: Any, inside: Any, axis: int) -> tuple[float, float]:
    """Where the first and the last column (axis 0) or row (axis 1) end, as shares of the picture's side: a line through
    the means of each, without the outermost tenth, which resizing bends."""
    counts = inside.sum(axis=axis)
    places = np.flatnonzero(counts)
    drop = len(places) // 10
    places = places[drop : len(places) - drop]
    means = share.sum(axis=axis)[places] / counts[places]
    if len(places) < 2:
        return 0.0, 1.0
    slope, start = np.polyfit(places + 0.5, means, 1)
    return _snapped(float(start)), _snapped(float(start + slope * len(counts)))


def _snapped(end: float) -> float:
    """0 or 1, the picture's edges, where an end is as near as it is known."""
    return next((edge for edge in (0.0, 1.0) if abs(end - edge) < _EXACT), end)
