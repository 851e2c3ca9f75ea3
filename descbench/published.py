"""Figures that others have published, to stand beside a run of one's own, and never among what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from descbench.errors import InputError, listed, nearest

BACKBONES: Mapping[str, str] = {
    "open_clip:ViT-B-32/openai": "ViT-B-32 openai",
    "open_clip:ViT-B-32-quickgelu/openai": "ViT-B-32 openai",
    "transformers:openai/clip-vit-base-patch32": "ViT-B-32 openai",
}
"""The encoders whose weights the figures are of, in their exact spellings."""


@dataclass(frozen=True)
class Published:
    """One figure: `top1` in per cent, of a method on a split of a data set with a backbone, and who says so."""

    source: str
    dataset: str
    split: str
    backbone: str
    method: str
    protocol: str
    remark: str
    top1: float

    def __str__(self) -> str:
        remark = f", {self.remark}" if self.remark else ""
        return f"{self.method}: {self.top1:.2f}, {self.source}, {self.dataset} ({self.split}), {self.protocol}{remark}"


@cache
def figures() -> tuple[Published, ...]:
    """All figures, from `published.csv` beside this module."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return tuple(Published(**(row | {"top1": float(row["top1"])})) for row in csv.DictReader(file))  # type: ignore[arg-type]


def dataset_of(spec: str) -> str:
    """The data set of a spelling as the figures call it: torchvision's by its name where it has no options; "" for any
    other, whose images nobody knows."""
    kind, _, rest = spec.partition(":")
    name = rest.partition(":")[0]
    known = kind == "torchvision" and "," not in rest and any(name == one.dataset for one in figures())
    return name if known else ""


def published(dataset: str, encoder: str) -> dict[str, Published]:
    """The figures of a data set with an encoder, by method; of one method the first source counts.

    Raises `InputError` for a data set without a figure.
    """
    known = dict.fromkeys(one.dataset for one in figures())
    if dataset not in known:
        raise InputError(
            f"no figures are known of {dataset!r}{nearest(dataset, known) or '.'} There are: {listed(known, 20)}"
        )
    found: dict[str, Published] = {}
    for one in figures():
        if one.dataset == dataset and one.backbone == BACKBONES.get(encoder):
            found.setdefault(one.method, one)
    return found
