"""Texts that are longer than an encoder reads: found before they are encoded, and cut only where the method says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from descbench.errors import CutWarning, InputError, listed
from descbench.methods.base import Method

if TYPE_CHECKING:
    from descbench.encoders.base import Encoder


class Lengths:
    """What an encoder cannot read whole, each text asked about once.

    Of an encoder without `overlong` (see `encoders.base`) nothing is known.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._told = getattr(encoder, "overlong", None)
        self._asked: set[str] = set()
        self._long: dict[str, tuple[int, int]] = {}  # text -> its tokens, those that are read

    @property
    def known(self) -> bool:
        """Whether the encoder says which texts are too long."""
        return self._told is not None

    def check(self, stage: Method, texts: Iterable[str]) -> tuple[list[str], str]:
        """The texts of a stage that will be cut, and what to say of them. Loads a tokenizer, and no weights.

        Raises `InputError` that counts and lists them where the stage does not say that they may be cut.
        """
        if self._told is None:
            return [], ""
        distinct = list(dict.fromkeys(texts))
        if new := [text for text in distinct if text not in self._asked]:
            self._long |= self._told(new)
            self._asked.update(new)
        long = {text: self._long[text] for text in distinct if text in self._long} if self._long else {}
        if not long:
            return [], ""
        of = f"{len(long)} of {len(distinct)} texts of {stage!r:.200} {_listed(long, repr(self._encoder))}"
        if not getattr(stage, "truncates", False):
            raise InputError(
                f"{of}. Shorten them (`descbench lint FILE --encoder {self._encoder!r}` finds all of a file), or let "
                f"their ends be cut off: {_truncated(stage)}"
            )
        return list(long), f"{of}; their ends are cut off"

    @contextmanager
    def quietly(self, texts: Sequence[str]) -> Iterator[None]:
        """Without the encoder's own words about cut texts, where these were told already."""
        if self._long.keys().isdisjoint(texts):
            yield
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CutWarning)
            yield


def _listed(long: Mapping[str, tuple[int, int]], encoder: str) -> str:
    """What is too long, the longest first."""
    (read,) = {read for _, read in long.values()}
    ranked = sorted(long.items(), key=lambda entry: (-entry[1][0], entry[0]))
    shown = listed((f"{text[:60]!r} ({tokens})" for text, (tokens, _) in ranked), 5)
    return f"have more tokens than the {read} that {encoder} reads: {shown}"


def _truncated(stage: Method) -> str:
    spelled = f"truncated({stage!r})"
    return spelled if len(spelled) <= 200 else "truncated(METHOD)"
