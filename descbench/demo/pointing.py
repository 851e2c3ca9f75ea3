"""How often a heatmap points at the part that its text names: on the aviary it is known where each part was drawn.

This is the pointing game of Zhang et al. (2018, Top-Down Neural Attention by Excitation Backprop): a map hits if its
highest place lies on the part, or no farther from it than 3 % of the picture's side (15 pixels of 500 there, 4 of 128
here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from descbench.demo.guide import TRAITS, Bird, species, wordings
from descbench.demo.renderer import parts, render
from descbench.heatmaps import Heatmap, Occlusion, heatmap
from descbench.progress import report

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
    rivals: bool = True,
    shuffled: bool = False,
    first_seed: int = FIRST_SEED,
) -> dict[str, Points]:
    """The counts of each trait, over so many pictures: the species in turn, each trait that the picture shows.

    `rivals`: from each map the mean map of the trait's other values is taken off, as `heatmap(against=...)` does.
    `shuffled` is the control: each part is held against the map of another trait of the same bird.
    """
    phrases = {(trait, value): wordings(trait, value)[0] for trait, values in TRAITS.items() for value in values}
    places = {pair: row for row, pair in enumerate(phrases)}
    found = dict.fromkeys(TRAITS, Points())
    for number in range(pictures):
        bird, seed = species()[number % len(species())].bird, first_seed + number
        heat = heatmap(render(bird, seed, SIZE), list(phrases.values()), encoder, method)
        masks = shown(bird, seed)
        looked_at = _swapped(list(masks), seed) if shuffled else {trait: trait for trait in masks}
        for trait, mask in masks.items():
            said = looked_at[trait]
            others = [places[said, value] for value in TRAITS[said] if value != bird[said]] if rivals else []
            found[trait] += _point(heat, places[said, bird[said]], others, mask)
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


def _point(heat: Heatmap, row: int, others: list[int], mask: Mask) -> Points:
    cells = heat.cells[row] - (heat.cells[others].mean(axis=0) if others else 0)
    one = Heatmap(heat.texts[row : row + 1], cells[None], heat.box, heat.size, heat.by, heat.passes)
    x, y = one.peak(0)
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
