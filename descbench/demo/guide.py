"""The field guide: 40 invented birds, nine traits each, and the words for every trait.

Ten genera of four species. A genus fixes four of the nine traits; any two of its species differ in two or three of the
other five. So a name that gives away the genus gives away some of the bird, and never all of it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

COLOURS = ("black", "white", "red", "orange", "yellow", "green", "blue", "purple")

TRAITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "body": COLOURS,
        "wings": COLOURS,
        "belly": COLOURS,
        "head": COLOURS,
        "beak": ("long", "short", "hooked", "curved"),
        "crest": ("bare", "pointed", "round", "spiky"),
        "tail": ("forked", "fanned", "long", "short"),
        "pattern": ("plain", "spotted", "striped", "edged"),
        "legs": ("black", "red", "yellow", "blue"),
    }
)

_SHAPES: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("beak", "long"): ("a long straight beak", "a beak like a needle"),
        ("beak", "short"): ("a short thick beak", "a stubby beak"),
        ("beak", "hooked"): ("a hooked beak", "a beak with a hooked tip"),
        ("beak", "curved"): ("a long curved beak", "a beak that curves down"),
        ("crest", "bare"): ("a smooth crown", "a bare crown"),
        ("crest", "pointed"): ("a pointed crest", "a single pointed plume"),
        ("crest", "round"): ("a round crest", "a crest like a fan"),
        ("crest", "spiky"): ("a spiky crest", "a crest of spikes"),
        ("tail", "forked"): ("a forked tail", "a tail split in two"),
        ("tail", "fanned"): ("a fanned tail", "a wide tail like a fan"),
        ("tail", "long"): ("a long thin tail", "a tail like a ribbon"),
        ("tail", "short"): ("a short square tail", "a stubby tail"),
        ("pattern", "plain"): ("plain wings", "wings without marks"),
        ("pattern", "spotted"): ("spotted wings", "wings full of spots"),
        ("pattern", "striped"): ("striped wings", "wings with stripes across"),
        ("pattern", "edged"): ("edged wings", "wings with a bright edge"),
    }
)


def wordings(trait: str, value: str) -> tuple[str, ...]:
    """The phrases that name a trait, the usual one first: `wordings("belly", "red") == ("a red belly", ...)`."""
    if (trait, value) in _SHAPES:
        return _SHAPES[trait, value]
    return {
        "body": (f"a {value} body", f"{value} feathers on the body"),
        "wings": (f"{value} wings", f"wings that are {value}"),
        "belly": (f"a {value} belly", f"{value} underparts"),
        "head": (f"a {value} head", f"a head that is {value}"),
        "legs": (f"{value} legs", f"{value} feet and legs"),
    }[trait]


@dataclass(frozen=True)
class Bird:
    """What the renderer draws: one value for each of the nine traits, in the order of `TRAITS`."""

    values: tuple[str, ...]

    def __getitem__(self, trait: str) -> str:
        return self.values[list(TRAITS).index(trait)]


@dataclass(frozen=True)
class Species:
    """A page of the guide: `name` is genus and epithet, `common` are the four traits that its genus fixes."""

    genus: str
    epithet: str
    bird: Bird
    common: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.genus} {self.epithet}"

    def differs(self, other: Species) -> list[str]:
        """The traits in which two species differ, in the order of `TRAITS`."""
        return [trait for trait in TRAITS if self.bird[trait] != other.bird[trait]]


@cache
def species() -> tuple[Species, ...]:
    """The 40 pages, in the order of the file `field_guide.csv`, which is the one source of truth."""
    with (Path(__file__).parent / "field_guide.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Species(row["genus"], row["epithet"], Bird(tuple(row[t] for t in TRAITS)), tuple(row["common"].split()))
            for row in csv.DictReader(file)
        )
