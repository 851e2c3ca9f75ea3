"""Charts as inline SVG: every position is a share of the width or of a fixed frame, every colour a class of the page.

A chart is drawn for the eye; the numbers stand in a table beside it, so a chart in a table row is hidden from screen
readers, and one that stands alone has a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from descbench.markup import element

NARROWEST = 0.02  # that an axis spans


@dataclass(frozen=True)
class Axis:
    """A range of numbers, and where round ones of it lie."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Axis:
        """A little more than the range of the values, between `least` and `most`, with 3 to 6 round ticks."""
        low, high = min(values), max(values)
        if high - low < NARROWEST:
            low, high = max(least, low - NARROWEST / 2), min(most, high + NARROWEST / 2)
        spread = high - low
        step = 10.0 ** math.floor(math.log10(spread))
        step = next(step * share for share in (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5) if spread / (step * share) <= 4.01)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = tuple(round(i * step, 12) for i in range(first, last + 1) if least <= round(i * step, 12) <= most)
        return cls(max(least, min(low, first * step)), min(most, max(high, last * step)), ticks)

    def at(self, value: float) -> float:
        """The place of a value in per cent of the width, with some room at both ends."""
        share = (min(max(value, self.low), self.high) - self.low) / ((self.high - self.low) or 1)
        return 4 + 92 * share


def _pc(place: float) -> str:
    return f"{place:.2f}%"


def scale(axis: Axis, unit: float = 100, signed: bool = False) -> Markup:
    """The ticks of an axis with their numbers: the head of a column of `interval`s."""
    marks = []
    for tick in axis.ticks:
        number = f"{tick * unit:g}"
        text = f"+{number}" if signed and tick > 0 else number.replace("-", "−")
        marks.append(element("text", text, x=_pc(axis.at(tick)), y=13, class_="tick", text_anchor="middle"))
    return element("svg", *marks, class_="row", height=18, aria_hidden="true")


def interval(axis: Axis, value: float, low: float, high: float, zero: float | None = None, kind: str = "") -> Markup:
    """A value with its interval, in one row of a forest plot; `zero` is where a line stands for no difference."""
    grid = [_line(axis.at(tick), 0, axis.at(tick), 26, "grid") for tick in axis.ticks]
    if zero is not None:
        grid.append(_line(axis.at(zero), 0, axis.at(zero), 26, "zero"))
    bar = element(
        "line", x1=_pc(axis.at(low)), x2=_pc(axis.at(high)), y1=13, y2=13, class_="whisker", stroke_linecap="round"
    )
    dot = element("circle", cx=_pc(axis.at(value)), cy=13, r=4.5, class_="dot")
    return element("svg", *grid, bar, dot, class_=f"row {kind}".strip(), height=26, aria_hidden="true")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=_pc(x1), y1=y1, x2=_pc(x2), y2=y2, class_=kind)


def bar(share: float, other: float | None = None) -> Markup:
    """A bar from 0 to a share of 1, and a mark where another one lies."""
    marks = [
        element("rect", x="0", y=3, width="100%", height=10, rx=2, class_="trough"),
        element("rect", x="0", y=3, width=_pc(100 * share), height=10, rx=2, class_="fill"),
    ]
    if other is not None:
        place = min(max(100 * other, 0.5), 99.5)
        marks.append(element("line", x1=_pc(place), x2=_pc(place), y1=0, y2=16, class_="mark"))
    return element("svg", *marks, class_="row", height=16, aria_hidden="true")


def signed(value: float, largest: float) -> Markup:
    """A bar from the middle, to the right for what speaks for an answer and to the left for what speaks against it."""
    length = 50 * min(abs(value) / (largest or 1), 1)
    return element(
        "svg",
        element("line", x1="50%", x2="50%", y1=0, y2=14, class_="zero"),
        element(
            "rect",
            x=_pc(50 if value >= 0 else 50 - length),
            y=3,
            width=_pc(length),
            height=8,
            class_="fill" if value >= 0 else "against",
        ),
        class_="row",
        height=14,
        aria_hidden="true",
    )


WIDE, HIGH, LEFT, TOP, RIGHT, BOTTOM = 360, 270, 46, 14, 14, 44


def _x(share: float) -> str:
    return f"{LEFT + share * (WIDE - LEFT - RIGHT):.1f}"


def _y(share: float) -> str:
    return f"{HIGH - BOTTOM - share * (HIGH - TOP - BOTTOM):.1f}"


def _frame(title: str, said: str, x: str, y: str, low: float, *marks: Markup) -> Markup:
    """A square of shares: x from 0 to 1, y from `low` to 1, both in per cent."""
    parts = [element("title", title), element("desc", said)]
    for i in range(6):
        share, number = i / 5, f"{100 * (low + (1 - low) * i / 5):.0f}"
        parts += [
            element("line", x1=_x(0), x2=_x(1), y1=_y(share), y2=_y(share), class_="grid"),
            element("text", number, x=LEFT - 7, y=float(_y(share)) + 4, text_anchor="end", class_="tick"),
            element(
                "text", f"{100 * share:.0f}", x=_x(share), y=HIGH - BOTTOM + 17, text_anchor="middle", class_="tick"
            ),
        ]
    middle = (TOP + HIGH - BOTTOM) / 2
    parts += [
        element("text", x, x=_x(0.5), y=HIGH - 6, text_anchor="middle", class_="tick"),
        element("text", y, x=12, y=middle, text_anchor="middle", class_="tick", transform=f"rotate(-90 12 {middle})"),
    ]
    return element("svg", *parts, *marks, viewBox=f"0 0 {WIDE} {HIGH}", role="img", class_="chart")


def reliability(bins: Sequence[tuple[float, float, int]], title: str) -> Markup:
    """Of bins (mean confidence, share right, images): a dot each, larger for more images, beside the diagonal."""
    most = max((n for *_, n in bins), default=1)
    dots = [
        element("circle", cx=_x(said), cy=_y(right), r=f"{2.5 + 6 * math.sqrt(n / most):.1f}", class_="dot")
        for said, right, n in bins
        if n
    ]
    line = element("line", x1=_x(0), x2=_x(1), y1=_y(0), y2=_y(1), class_="zero")
    said = "Dots below the line: more confident than right. The numbers are in the table."
    return _frame(title, said, "confidence, %", "right, %", 0.0, line, *dots)


def curve(points: Sequence[tuple[float, float]], title: str, x: str, y: str) -> Markup:
    """A line through points (x, y) of shares, the y axis from 0, 50, 75 or 90 %."""
    lowest = min(value for _, value in points)
    low = max(start for start in (0.0, 0.5, 0.75, 0.9) if start <= lowest)  # of each, a fifth of the rest is round
    path = " ".join(f"{_x(a)},{_y((b - low) / (1 - low))}" for a, b in points)
    line = element("polyline", points=path, class_="curve")
    first, last = points[0], points[-1]
    said = f"From {100 * first[1]:.1f} at {100 * first[0]:.0f} % to {100 * last[1]:.1f} at {100 * last[0]:.0f} %."
    return _frame(title, said, x, y, low, line)
