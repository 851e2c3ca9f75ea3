"""How often the language model is wrong: what descriptions state, read back and held against the field guide."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from descbench.demo.guide import TRAITS, Species, species, wordings


@dataclass(frozen=True)
class Truth:
    """Counts over texts. A text is right, wrong, or `unread`: it states no trait in the guide's words."""

    stated: int = 0  # texts that state a trait
    wrong: int = 0  # of these, the ones whose bird has another value
    unread: int = 0
    alike: int = 0  # pairs of texts, meant to tell two birds apart, that state the same of both

    @property
    def error_rate(self) -> float:
        """The share of wrong texts among those that state a trait; 0 where none does."""
        return self.wrong / self.stated if self.stated else 0.0

    def __add__(self, other: Truth) -> Truth:
        return Truth(
            self.stated + other.stated,
            self.wrong + other.wrong,
            self.unread + other.unread,
            self.alike + other.alike,
        )

    def __str__(self) -> str:
        parts = [f"{self.wrong} of {self.stated} stated traits are wrong ({100 * self.error_rate:.1f} %)"]
        if self.unread:
            parts.append(f"{self.unread} {'text states' if self.unread == 1 else 'texts state'} none")
        if self.alike:
            parts.append(f"{self.alike} {'pair says' if self.alike == 1 else 'pairs say'} the same of both")
        return ", ".join(parts)


def stated(text: str) -> tuple[str, str] | None:
    """The (trait, value) that a phrase states, or a caption `a photo of a NAME with PHRASE`; None if neither."""
    if caption := CAPTION.match(text):
        text = caption["phrase"]
    return _phrases().get(_plain(text))


def check_descriptions(texts: Mapping[str, Iterable[str]]) -> Truth:
    """How true the texts of each species are; `texts` are by species name. Names that the guide lacks are left out."""
    known = _known()
    return sum((_check(text, known[name]) for name in texts if name in known for text in texts[name]), Truth())


def check_pairs(pairs: Mapping[tuple[str, str], tuple[Sequence[str], Sequence[str]]]) -> Truth:
    """How true the captions are that tell (first, second) apart; a caption of another bird than its own is unread."""
    known = _known()
    total = Truth()
    for (first, second), (of_first, of_second) in pairs.items():
        if first not in known or second not in known:
            continue
        total = sum((_check(text, known[first], caption=True) for text in of_first), total)
        total = sum((_check(text, known[second], caption=True) for text in of_second), total)
        both = [(stated(one), stated(other)) for one, other in zip(of_first, of_second, strict=False)]
        total += Truth(alike=sum(one == other and one is not None for one, other in both))
    return total


def _check(text: str, bird: Species, *, caption: bool = False) -> Truth:
    found = stated(text)
    if caption and not ((match := CAPTION.match(text)) and match["name"] == bird.name):
        found = None
    if found is None:
        return Truth(unread=1)
    trait, value = found
    return Truth(stated=1, wrong=int(bird.bird[trait] != value))


# A name has no " with " in it here, but some phrases do: "a beak with a hooked tip".
CAPTION = re.compile(r"a photo of an? (?P<name>.+?) with (?P<phrase>.+)")


def _plain(phrase: str) -> str:
    """A phrase without case and article: "an orange belly" and "a orange belly" state the same."""
    return re.sub(r"^an? ", "", phrase.strip().rstrip(".").lower())


@cache
def _phrases() -> dict[str, tuple[str, str]]:
    return {
        _plain(phrase): (trait, value)
        for trait, values in TRAITS.items()
        for value in values
        for phrase in wordings(trait, value)
    }


@cache
def _known() -> dict[str, Species]:
    return {bird.name: bird for bird in species()}
