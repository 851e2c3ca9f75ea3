"""What can go wrong, as a tree; the exit code of a command is a property of the kind.

DescbenchError               1  unexpected
├── InputError               2  a name, value or file that was given cannot be used
│   ├── SpecError            2  a method, encoder, llm or dataset is spelled wrongly
│   └── MatchError           2  labels, descriptions or names do not fit the vocabulary
├── PartialError             3  some classes or images failed; what was done is kept
├── BudgetError              4  a limit that the user set was reached
└── AccessError              5  authentication, quota, or no such model

A message names the thing, what was given, what would do, and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DescbenchError(Exception):
    """Any error that descbench raises on purpose."""

    exit_code = 1


class InputError(DescbenchError):
    """A name, value or file that was given cannot be used."""

    exit_code = 2


class SpecError(InputError):
    """A method, encoder, llm or dataset is spelled wrongly."""


class MatchError(InputError):
    """Labels, descriptions or names do not fit the vocabulary."""


class PartialError(DescbenchError):
    """Some classes or images failed; what was done is kept."""

    exit_code = 3


class BudgetError(DescbenchError):
    """A limit that the user set was reached; the same command goes on from there."""

    exit_code = 4


class AccessError(DescbenchError):
    """The service or hub refuses: authentication, quota, or no such model."""

    exit_code = 5


class DescbenchWarning(UserWarning):
    """Something was repaired or left out, and counted; the command line prints it as a note."""


class CutWarning(DescbenchWarning):
    """Texts have more tokens than an encoder reads, and their ends are not seen."""


def listed(items: Iterable[object], limit: int = 8) -> str:
    """The first few of `items` for a message, with how many more there are: `a, b, c and 4 more`."""
    texts = [str(item) for item in items]
    if len(texts) <= limit:
        return ", ".join(texts)
    return ", ".join(texts[:limit]) + f" and {len(texts) - limit} more"


def counted(n: int, what: str) -> str:
    """How many of what: `1 class`, `2 classes`, `1,000 images`."""
    return f"{n:,} {what}" + ("" if n == 1 else "es" if what.endswith("s") else "s")


def nearest(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'dclip'?` where something known is close to what was given, else nothing."""
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
