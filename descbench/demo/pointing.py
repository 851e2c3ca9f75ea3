"""How often a heatmap points at the part that its text names: on the aviary it is known where each part was drawn.

This is the pointing game of Zhang et al. (2018, Top-Down Neural Attention by Excitation Backprop): a map hits if its
highest place lies on the part, or no farther from it than 3 % of the picture's side (15 pixels of 500 there, 4 of 128
here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from descbench.classifier import Classifier
from descbench.demo.guide import TRAITS, Bird, species, wordings
from descbench.demo.reasons import trait_of
from descbench.demo.renderer import parts, render
from descbench.demo.tour import whole_guide
from descbench.heatmaps import Heatmap, Occlusion, heatmap
from descbench.heatmaps.drawing import TOP, speaking, unnamed
from descbench.methods import DCLIP
from descbench.progress import report
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    from descbench.encoders.base import Encoder

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "body": ("body",),
        "wings": ("wing",),
        "belly": ("belly",),
        "head": ("head", "eye"),
        "beak": ("beak",),
        "crest": ("crest",),
        "tail": ("tail",),
        "pattern": ("wing",),
        "legs": ("legs",),
    }
)
"""The parts of the renderer that a text about a trait names."""

KINDS = ("drawn", "each trait", "less the other values", "its map alone", "shuffled")
"""Which maps are held against the parts: those that a sheet of the explanation shows; the same of every trait that the
picture shows, whether or not it speaks for the answer; the trait's phrase less the mean of its other values; the phrase
alone; and as control each part with the map of another trait of the same answer."""

NEAR = 0.03  # of the picture's side
FIRST_SEED = 2_000_000_000  # no other picture of the aviary has a seed as large
SIZE = 128
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Points:
    """Counts over (picture, trait) pairs: how many maps hit, exactly (`on`) and within `NEAR` of the part.

    `chance` and `chance_near` are the sums of the shares of the picture that would have been hits: what a peak anywhere
    would score.
    """

    pairs: int = 0
    on: int = 0
    near: int = 0
    chance: float = 0.0
    chance_near: float = 0.0

    def __add__(self, other: Points) -> Points:
        return Points(
            self.pairs + other.pairs,
            self.on + other.on,
            self.near + other.near,
            self.chance + other.chance,
            self.chance_near + other.chance_near,
        )

    def __str__(self) -> str:
        n = max(1, self.pairs)
        return (
            f"{self.pairs:4d} pairs: {100 * self.near / n:5.1f} % near ({100 * self.chance_near / n:.1f} % by chance), "
            f"{100 * self.on / n:5.1f} % on it ({100 * self.chance / n:.1f} % by chance)"
        )


def pointing(
    encoder: Encoder,
    pictures: int,
    *,
    method: Literal["auto", "patches", "occlusion"] | Occlusion = "auto",
    first_seed: int = FIRST_SEED,
) -> dict[str, dict[str, Points]]:
    """The counts of each trait for each of `KINDS`, over so many pictures: the species in turn.

    Each bird is explained by all nine traits of its answer and of the class that comes next, in the guide's words.
    """
    birds = species()
    names = Vocabulary([page.name for page in birds])
    classifier = Classifier(names, DCLIP(), encoder, descriptions=whole_guide())
    phrases = {(trait, value): wordings(trait, value)[0] for trait, values in TRAITS.items() for value in values}
    found = {kind: dict.fromkeys(TRAITS, Points()) for kind in KINDS}
    for number in range(pictures):
        bird, seed = birds[number % len(birds)].bird, first_seed + number
        picture, masks = render(bird, seed, SIZE), shown(bird, seed)
        why = classifier.explain(picture)
        seen = unnamed(why)
        heat = heatmap(picture, [*dict.fromkeys([*seen.values(), *phrases.values()])], encoder, method)
        cells = dict(zip(heat.texts, heat.cells, strict=True))
        both = np.mean([cells[text] for text in dict.fromkeys(seen.values())], axis=0)
        explained = {trait_of(one.text): cells[seen[one.text]] - both for one in why.reasons}
        drawn = {trait_of(text) for text in speaking(why)[:TOP]}
        by_trait = {stated[0]: (cell, stated in drawn) for stated, cell in explained.items() if stated is not None}
        swapped = _swapped(list(masks), seed)
        for trait, mask in masks.items():
            alone = cells[phrases[trait, bird[trait]]]
            others = [cells[phrases[trait, value]] for value in TRAITS[trait] if value != bird[trait]]
            maps = {
                "each trait": by_trait[trait][0],
                "less the other values": alone - np.mean(others, axis=0),
                "its map alone": alone,
                "shuffled": by_trait[swapped[trait]][0],
            }
            if by_trait[trait][1]:
                maps["drawn"] = by_trait[trait][0]
            for kind, cell in maps.items():
                found[kind][trait] += _point(replace(heat, texts=(trait,), cells=cell[None]), mask)
        report("pointing at parts", number + 1, pictures)
    return found


def total(points: Mapping[str, Points]) -> Points:
    """All traits together."""
    return sum(points.values(), Points())


def shown(bird: Bird, seed: int) -> dict[str, Mask]:
    """Where each trait of a rendered bird is seen, (SIZE, SIZE) by trait; without those that nothing is drawn for, such
    as a bare crown, or that other parts hide."""
    drawn: dict[str, Any] = parts(bird, seed, SIZE)
    masks = {
        trait: sum((np.asarray(drawn[name]) > 0 for name in names if name in drawn), np.zeros((SIZE, SIZE), bool))
        for trait, names in PARTS.items()
    }
    return {trait: mask for trait, mask in masks.items() if mask.any()}


def _swapped(traits: list[str], seed: int) -> dict[str, str]:
    """Another trait for each, of another part: the traits in a random ring."""
    order = Random(f"{seed} swapped").sample(traits, len(traits))
    ring = {one: order[(place + 1) % len(order)] for place, one in enumerate(order)}
    return ring if all(PARTS[one] != PARTS[other] for one, other in ring.items()) else _swapped(traits, seed + 1)


def _point(heat: Heatmap, mask: Mask) -> Points:
    """One map held against one part."""
    x, y = heat.peak(0)
    close = _grown(mask, round(NEAR * SIZE))
    return Points(1, int(mask[y, x]), int(close[y, x]), float(mask.mean()), float(close.mean()))


def _grown(mask: Mask, reach: int) -> Mask:
    """What lies within `reach` pixels of a part, as the crow flies."""
    across = np.arange(-reach, reach + 1)
    grown = np.zeros_like(mask)
    padded = np.pad(mask, reach)
    for dy in across:
        for dx in across:
            if dx * dx + dy * dy <= reach * reach:
                grown |= padded[reach + dy : reach + dy + len(mask), reach + dx : reach + dx + mask.shape[1]]
    return grown
