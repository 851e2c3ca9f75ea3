"""The table of the demo as a picture: a bar a method with its 95 % interval, and a few of the birds."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from descbench.statistics import Metric

_ROW, _LEFT, _SCALE, _TOP = 30, 270, 4.2, 118  # pixels: a row, where bars begin, a per cent, where rows begin


def svg(rows: Mapping[str, Metric], images: Sequence[Image.Image], caption: str) -> str:
    """One self-contained SVG: `rows` are accuracies by method, top to bottom, `images` stand above them."""
    width, height = _LEFT + int(100 * _SCALE) + 170, _TOP + _ROW * len(rows) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="14"><title>{escape(caption)}</title>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#fbfaf7"/>',
    ]
    for i, image in enumerate(images):
        content = BytesIO()
        image.resize((88, 88)).save(content, "PNG", optimize=True)
        data = base64.b64encode(content.getvalue()).decode()
        parts.append(f'<image x="{16 + 96 * i}" y="14" width="88" height="88" href="data:image/png;base64,{data}"/>')
    for i, (method, metric) in enumerate(rows.items()):
        y = _TOP + _ROW * i + _ROW / 2
        low, value, high = (_LEFT + 100 * _SCALE * share for share in (metric.low, metric.value, metric.high))
        parts.append(
            f'<text x="{_LEFT - 12}" y="{y + 5}" text-anchor="end" fill="#333">{escape(method)}</text>'
            f'<rect x="{_LEFT}" y="{y - 9}" width="{value - _LEFT:.1f}" height="18" rx="2" fill="#7fa7c9"/>'
            f'<path d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10" stroke="#1d3d5c" '
            'stroke-width="1.6"/>'
            f'<text x="{high + 10:.1f}" y="{y + 5}" fill="#1d3d5c">{escape(str(metric))}</text>'
        )
    parts.append(f'<text x="16" y="{height - 16}" fill="#666" font-size="13">{escape(caption)}</text></svg>')
    return "\n".join(parts) + "\n"
