"""A follow-up is recursion, not a mode: each stage decides among the k best classes of the stage before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from descbench.errors import InputError
from descbench.methods.base import Method, Wrapper, choice, whole
from descbench.methods.differential import Differential
from descbench.methods.names import Template


@dataclass(frozen=True, init=False, repr=False)
class Cascade:
    """`cascade(first, second, ..., k=10)`: the second stage scores the k best classes of the first, as if they were the
    whole vocabulary, and only reorders them; and so on. With k = 1 the first stage's answer stands.

    With `margin` only a doubtful image goes on: one whose best two scores, in the stage before, differ by less. With
    `budget` a classifier asks at most so many questions for its follow-ups, those first whose classes compete in most
    images; the rest is as if nothing could be said.
    """

    spelled: ClassVar[str] = "cascade"

    stages: tuple[Method, ...]
    k: int
    margin: float | None
    budget: int | None

    def __init__(self, *stages: Method, k: int = 10, margin: float | None = None, budget: int | None = None) -> None:
        if not stages:
            raise InputError("a cascade needs a stage, as in cascade(dclip, differential, k=5)")
        for stage in stages:
            if isinstance(stage, Cascade):
                raise InputError(f"{stage!r} cannot be a stage of a cascade; list its stages instead")
            if not hasattr(stage, "texts"):
                raise InputError(f"{stage!r} cannot be a stage of a cascade: it is not a method")
        whole("k", k, 1)
        object.__setattr__(self, "stages", stages)
        if margin is not None and (
            not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 <= margin < math.inf
        ):
            raise InputError(f"margin={margin!r} is not possible; it is a difference of scores from 0 on, as 0.02")
        if budget is not None:
            whole("budget", budget, 0)
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "margin", margin)
        object.__setattr__(self, "budget", budget)

    def doubtful(self, scores: np.ndarray) -> np.ndarray:
        """The rows of scores (N, K), best first, that a follow-up looks at, ascending."""
        if self.margin is None:
            return np.arange(len(scores))
        return np.flatnonzero(scores[:, 0] - scores[:, 1] < self.margin)

    def with_stages(self, *stages: Method) -> Cascade:
        """The same cascade with other stages; itself where they are the same."""
        if stages == self.stages:
            return self
        return Cascade(*stages, k=self.k, margin=self.margin, budget=self.budget)

    def _limits(self) -> list[str]:
        """What is spelled of `margin` and `budget`."""
        both = (("margin", self.margin), ("budget", self.budget))
        return [f"{name}={value!r}" for name, value in both if value is not None]

    def __repr__(self) -> str:
        return f"cascade({', '.join([*map(repr, self.stages), f'k={self.k}', *self._limits()])})"


@dataclass(frozen=True, init=False, repr=False)
class FuDD(Cascade):
    """Follow-up differential descriptions: one template first, then captions that tell its k best classes apart
    (Esfandiarpoor & Bach 2024, section 3; k = 10 on every data set).

    Differs from the authors' code: k = 1 returns the first stage's answer (theirs the first class's); ours keeps the
    case of names. `phrasing="authors"` restores their texts, `str.capitalize` of each.
    """

    spelled: ClassVar[str] = "fudd"

    phrasing: Literal["ours", "authors"] = field(default="ours")

    def __init__(
        self,
        k: int = 10,
        phrasing: Literal["ours", "authors"] = "ours",
        *,
        margin: float | None = None,
        budget: int | None = None,
    ) -> None:
        choice("phrasing", phrasing, ("ours", "authors"))
        template = "A photo of a {}." if phrasing == "authors" else "a photo of a {}."
        super().__init__(
            Template(template), Differential(fallback=template, phrasing=phrasing), k=k, margin=margin, budget=budget
        )
        object.__setattr__(self, "phrasing", phrasing)

    def __repr__(self) -> str:
        given = [f"k={self.k}"] if self.k != 10 else []
        given += [f"phrasing={self.phrasing!r}"] if self.phrasing != "ours" else []
        given += self._limits()
        return "fudd" + (f"({', '.join(given)})" if given else "")


def stages_of(method: Method | Cascade) -> tuple[Method, ...]:
    """The stages of a cascade; a plain method is a cascade of one."""
    return method.stages if isinstance(method, Cascade) else (method,)


def changed(method: Method | Cascade, change: Callable[[Method], Method]) -> Method | Cascade:
    """The same method with each of its stages changed, inside what wraps it: `shuffled(dclip)` becomes
    `shuffled(change(dclip))`."""

    def inside(stage: Method) -> Method:
        if not isinstance(stage, Wrapper):
            return change(stage)
        holder: Any = stage  # each wrapper is a dataclass with a field `method`; their base is none
        held: Method = replace(holder, method=inside(stage.method))
        return held

    if isinstance(method, Cascade):
        return method.with_stages(*map(inside, method.stages))
    return inside(method)
