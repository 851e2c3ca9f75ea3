"""How the argument of a data set is written: what it is of, then options, as in "photos.csv,label=breed,split=test"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from descbench.errors import SpecError, listed, nearest


def read_options(
    kind: str, argument: str, known: Sequence[str], given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """What stands before the options, and the options: those at the end of `argument`, and those `given` in Python.

    A path that is there is taken as it stands, commas and all.

    Raises `SpecError` where nothing stands before them, for an option that the data set does not have, and where one is
    given twice and differs.
    """
    parts = [argument] if Path(argument).expanduser().exists() else argument.split(",")
    options: dict[str, Any] = {}
    while len(parts) > 1 and (found := re.fullmatch(r"\s*([a-z]+)\s*=(.*)", parts[-1])):
        key, value = found[1], found[2].strip()
        if key not in known:
            raise SpecError(
                f"data set {kind!r} has no option {key!r}{nearest(key, known) or '.'} There are: {listed(known)}."
            )
        if options.setdefault(key, value) != value:
            raise SpecError(f"data set {kind!r}: the option {key!r} is given twice in {argument!r}")
        parts.pop()
    plain = ",".join(parts).strip()
    if not plain:
        raise SpecError(f"data set {kind!r} needs an argument; `descbench ls datasets` shows how it is spelled")
    for key, value in given.items():
        if options.setdefault(key, value) != value:
            raise SpecError(f"data set {kind!r}: {key} is {options[key]!r} in {argument!r}, and {value!r} beside it")
    return plain, options


def whether(name: str, value: str | bool) -> bool:
    """An option that is on or off. Raises `SpecError` where it is neither yes nor no."""
    if isinstance(value, bool):
        return value
    if value.lower() not in ("yes", "no"):
        raise SpecError(f"{name}={value} is not possible; it is yes or no")
    return value.lower() == "yes"
