"""The methods by name: an explicit table. A new one is a file here and a line below."""

from __future__ import annotations

from descbench.methods.adaptclipzs import AdaptCLIPZS
from descbench.methods.base import Method, Wrapper
from descbench.methods.cascade import Cascade, FuDD
from descbench.methods.comparative import Comparative
from descbench.methods.contrast import Contrast
from descbench.methods.controls import Nameless, RandomDescriptions, Scrambled, Shared, Shuffled
from descbench.methods.cupl import CuPL
from descbench.methods.dclip import DCLIP
from descbench.methods.differential import Differential
from descbench.methods.disclip import DisCLIP, Selected, SelectFewshot
from descbench.methods.names import ClassName, Template, Templates
from descbench.methods.truncated import Truncated
from descbench.methods.waffle import Waffle, WaffleAnd
from descbench.methods.weighted import AWT, WCA

METHODS: dict[str, type] = {
    kind.spelled: kind
    for kind in (
        *(ClassName, Template, Templates, DCLIP, CuPL, AdaptCLIPZS, Comparative, Differential),
        *(Contrast, FuDD, Cascade, Shuffled, Nameless),
        *(Waffle, WaffleAnd, Shared, RandomDescriptions, Scrambled),
        *(Selected, DisCLIP, SelectFewshot),
        *(WCA, AWT, Truncated),
    )
}

__all__ = [
    "AWT",
    "DCLIP",
    "METHODS",
    "WCA",
    "AdaptCLIPZS",
    "Cascade",
    "ClassName",
    "Comparative",
    "Contrast",
    "CuPL",
    "Differential",
    "DisCLIP",
    "FuDD",
    "Method",
    "Nameless",
    "RandomDescriptions",
    "Scrambled",
    "SelectFewshot",
    "Selected",
    "Shared",
    "Shuffled",
    "Template",
    "Templates",
    "Truncated",
    "Waffle",
    "WaffleAnd",
    "Wrapper",
]
