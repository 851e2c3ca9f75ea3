"""The methods by name: an explicit table. A new one is a file here and a line below."""

from __future__ import annotations

from descbench.methods.base import Method, Wrapper
from descbench.methods.cascade import Cascade, FuDD
from descbench.methods.comparative import Comparative
from descbench.methods.controls import Nameless, Shuffled
from descbench.methods.cupl import CuPL
from descbench.methods.dclip import DCLIP
from descbench.methods.differential import Differential
from descbench.methods.names import ClassName, Template, Templates

METHODS: dict[str, type] = {
    kind.spelled: kind
    for kind in (
        *(ClassName, Template, Templates, DCLIP, CuPL, Comparative, Differential),
        *(FuDD, Cascade, Shuffled, Nameless),
    )
}

__all__ = [
    "DCLIP",
    "METHODS",
    "Cascade",
    "ClassName",
    "Comparative",
    "CuPL",
    "Differential",
    "FuDD",
    "Method",
    "Nameless",
    "Shuffled",
    "Template",
    "Templates",
    "Wrapper",
]
