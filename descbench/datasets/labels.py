"""From what files say of their pictures to names and numbers: one rule for every kind of data set."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from descbench.errors import InputError, listed

BETWEEN = "|"  # stands between several labels of one picture, where a file cannot hold lists


def said(value: Any) -> tuple[str, ...]:
    """The labels that a cell or field holds, as texts: none for nothing, an empty text, NaN and -1; a list is several.

    Raises `InputError` for what can be no label.
    """
    if isinstance(value, str):
        value = value.split(BETWEEN)
    parts = value if isinstance(value, list | tuple) else [value]
    return tuple(text for part in parts if (text := _said(part)))


def _said(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # as tables with gaps keep whole numbers
        value = int(value)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{value!r:.80} can be no label; what would do: a text, a whole number, or a list of these")
    text = str(value).strip()
    return "" if text == "-1" else text


def in_order(labels: Iterable[str]) -> list[str]:
    """Distinct labels: whole numbers by their value, texts by their code points, so that no file's order decides."""
    distinct = set(labels)
    if all(_is_number(label) for label in distinct):
        return sorted(distinct, key=lambda label: (int(label), label))
    return sorted(distinct)


def numbered(
    labels: Sequence[Sequence[str]], called: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """The names of the distinct labels, in order, and the numbers of each picture's; `called` gives a label a name."""
    distinct = in_order(label for row in labels for label in row)
    number = {label: position for position, label in enumerate(distinct)}
    names = tuple((called or {}).get(label, label) for label in distinct)
    return names, [tuple(number[label] for label in row) for row in labels]


def among(labels: Sequence[Sequence[str]], names: Sequence[str], where: str) -> list[tuple[int, ...]]:
    """The numbers of each picture's labels, each a position among `names` or one of them.

    Raises `InputError` that lists the labels that are neither.
    """
    number = {name: position for position, name in enumerate(names)}
    number |= {str(position): position for position in range(len(names))}
    unknown = in_order(label for row in labels for label in row if label not in number)
    if unknown:
        raise InputError(
            f"{where} has {len(names)} names, and no place for the labels {listed(map(repr, unknown))}. What would do: "
            f"0 to {len(names) - 1}, or one of the names."
        )
    return [tuple(number[label] for label in row) for row in labels]


def called_by(labels: Sequence[Sequence[str]], classes: Sequence[Sequence[str]], where: str) -> dict[str, str]:
    """What each label is called, where pictures have labels and, beside them, names of classes.

    Raises `InputError` where a picture has more of the one than of the other, and where a label has two names.
    """
    called: dict[str, str] = {}
    for row, (mine, names) in enumerate(zip(labels, classes, strict=True)):
        if len(mine) != len(names):
            raise InputError(f"{where}, picture {row}: labels {listed(mine)}, and class names {listed(names)}; as many")
        for label, name in zip(mine, names, strict=True):
            if called.setdefault(label, name) != name:
                raise InputError(f"{where}: the label {label!r} is called both {called[label]!r} and {name!r}; use one")
    return called


def _is_number(label: str) -> bool:
    return re.fullmatch(r"\d+", label, re.ASCII) is not None
