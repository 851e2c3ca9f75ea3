"""A follow-up is recursion, not a mode: each stage decides among the k best classes of the stage before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from descbench.errors import InputError
from descbench.methods.base import Method, choice, whole
from descbench.methods.differential import Differential
from descbench.methods.names import Template


@dataclass(frozen=True, init=False, repr=False)
class Cascade:
    """`cascade(first, second, ..., k=10)`: the second stage scores the k best classes of the first, as if they were the
    whole vocabulary, and only reorders them; and so on. With k = 1 the first stage's answer stands.
    """

    spelled: ClassVar[str] = "cascade"

    stages: tuple[Method, ...]
    k: int

    def __init__(self, *stages: Method, k: int = 10) -> None:
        if not stages:
            raise InputError("a cascade needs a stage, as in cascade(dclip, differential, k=5)")
        for stage in stages:
            if isinstance(stage, Cascade):
                raise InputError(f"{stage!r} cannot be a stage of a cascade; list its stages instead")
            if not hasattr(stage, "texts"):
                raise InputError(f"{stage!r} cannot be a stage of a cascade: it is not a method")
        whole("k", k, 1)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "k", k)

    def __repr__(self) -> str:
        return f"cascade({', '.join(map(repr, self.stages))}, k={self.k})"


@dataclass(frozen=True, init=False, repr=False)
class FuDD(Cascade):
    """Follow-up differential descriptions: one template first, then captions that tell its k best classes apart
    (Esfandiarpoor & Bach 2024, section 3; k = 10 on every data set).

    Differs from the authors' code: k = 1 returns the first stage's answer (theirs the first class's); ours keeps the
    case of names. `phrasing="authors"` restores their texts, `str.capitalize` of each.
    """

    spelled: ClassVar[str] = "fudd"

    phrasing: Literal["ours", "authors"] = field(default="ours")

    def __init__(self, k: int = 10, phrasing: Literal["ours", "authors"] = "ours") -> None:
        choice("phrasing", phrasing, ("ours", "authors"))
        template = "A photo of a {}." if phrasing == "authors" else "a photo of a {}."
        super().__init__(Template(template), Differential(fallback=template, phrasing=phrasing), k=k)
        object.__setattr__(self, "phrasing", phrasing)

    def __repr__(self) -> str:
        given = [f"k={self.k}"] if self.k != 10 else []
        given += [f"phrasing={self.phrasing!r}"] if self.phrasing != "ours" else []
        return "fudd" + (f"({', '.join(given)})" if given else "")


def stages_of(method: Method | Cascade) -> tuple[Method, ...]:
    """The stages of a cascade; a plain method is a cascade of one."""
    return method.stages if isinstance(method, Cascade) else (method,)
