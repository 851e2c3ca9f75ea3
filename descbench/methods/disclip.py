"""Descriptions that labelled images choose: for every set of candidates its own (DisCLIP), or once for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.methods.base import Method, Pool, Subject, Wrapper, choice, text, together, whole, with_texts
from descbench.methods.cascade import Cascade, changed, stages_of
from descbench.methods.dclip import DCLIP
from descbench.methods.names import Template, fill
from descbench.prompts import Question, Reply
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary

CAPTION = "A photo of a {}."  # the same for every data set, in the paper


@dataclass(frozen=True, repr=False)
class Selected(Method):
    """Among the candidates, a class is scored by the descriptors of any class that tell it from the others on labelled
    images (Ma et al. 2025, DisCLIP, section 3): a stage of a cascade, and of `disclip`.

    Without the name: w x (similarity to "A photo of a {name}.") + mean similarity to its `m` bare descriptors; w = 0 is
    the paper's name-free test. With `named`: "A photo of a {name}, {descriptor}.", repeated in turn up to `m`. Where no
    descriptor fits a class, the first `m` of its own list stand. `own` is the control: all of its own list, no support.
    Differs from the authors' code: it reports the w that is best on the test set; here w is fixed beforehand, or chosen
    on another split (`Classifier.tuned`). A class without support images takes its own list.
    """

    spelled: ClassVar[str] = "selected"
    asks_about: ClassVar[Literal["nothing", "class", "pair"]] = "class"

    m: int = 5  # as in the paper
    w: float = 1.0  # name and descriptors count the same: the paper tunes it, and 1 is what needs no tuning
    named: bool = False
    pool: Pool = "mean_score"
    own: bool = False
    prompt: str = "dclip"

    def __post_init__(self) -> None:
        whole("m", self.m, 1)
        if isinstance(self.w, bool) or not isinstance(self.w, int | float) or not 0 <= self.w < math.inf:
            raise InputError(f"w={self.w!r} is not possible; it is a number from 0 on, the weight of the name")
        choice("named", self.named, (False, True))
        choice("pool", self.pool, ("mean_score", "max_score"))
        choice("own", self.own, (False, True))
        text("prompt", self.prompt)
        if self.named and (self.own or self.w != 1):
            given = "own=True" if self.own else f"w={self.w!r}"
            raise InputError(f"{given} goes with bare descriptors, and named=True has none; leave out one of the two")

    @property
    def needs_support(self) -> bool:
        return not self.own

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        return DCLIP(self.prompt).questions(vocabulary, subject, attempt)

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        return DCLIP(self.prompt).parse(subject, replies)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        """The bare descriptors of each class: what there is to choose from."""
        return TextBank.of(vocabulary, with_texts(descriptions.classes, vocabulary))

    def caption(self, name: str) -> str:
        """What stands for the name of a class."""
        return fill(CAPTION, name)

    def with_name(self, name: str, descriptor: str) -> str:
        """A descriptor together with a name."""
        return f"A photo of a {plain(name)}, {descriptor}."


@dataclass(frozen=True, init=False, repr=False)
class DisCLIP(Cascade):
    """One caption first, then the descriptors that tell its k best classes apart on labelled images (Ma et al. 2025,
    DisCLIP, section 3; k = 3, m = 5): `cascade(template, selected, k=3)` under its paper's name.

    Differs from the authors' code as `selected` does. Their control, the language model's own lists among all classes,
    is `disclip(own=True)` with k = the number of classes.
    """

    spelled: ClassVar[str] = "disclip"

    chosen: Selected = field(init=False)

    def __init__(
        self,
        k: int = 3,
        m: int = 5,
        w: float = 1.0,
        named: bool = False,
        pool: Pool = "mean_score",
        own: bool = False,
    ) -> None:
        chosen = Selected(m=m, w=w, named=named, pool=pool, own=own)
        super().__init__(Template(CAPTION), chosen, k=k)
        object.__setattr__(self, "chosen", chosen)

    def with_stages(self, *stages: Method) -> Cascade:
        chosen = stages[-1]
        if len(stages) == 2 and stages[0] == self.stages[0] and type(chosen) is Selected:
            same = DisCLIP(self.k, chosen.m, chosen.w, chosen.named, chosen.pool, chosen.own)
            if same.stages == stages:
                return same
        return super().with_stages(*stages)

    def __repr__(self) -> str:
        given = [f"k={self.k}"] if self.k != 3 else []
        for name in ("m", "w", "named", "pool", "own"):
            value = getattr(self.chosen, name)
            if value != getattr(Selected, name):
                given.append(f"{name}={value!r}")
        return "disclip" + (f"({', '.join(given)})" if given else "")


@dataclass(frozen=True, repr=False)
class SelectFewshot(Wrapper):
    """The texts that labelled images of their class confirm, cos(text, mean image) > min(cos(name, mean image), 0.3):
    the few-shot filter of the comparative descriptors, offline FuDD (Esfandiarpoor & Bach 2024).

    Texts are compared as they are encoded. A class that keeps none is scored by its bare name, and counted; one without
    support images keeps all of its texts.
    """

    spelled: ClassVar[str] = "select_fewshot"

    method: Method

    def __post_init__(self) -> None:
        super().__post_init__()
        if selected_in(self.method) is not None:
            raise InputError(f"{self.method!r} selects from labelled images by itself; leave out select_fewshot")

    @property
    def needs_support(self) -> bool:
        return True

    @property
    def protocol(self) -> str:
        return together("uses support labels", self.method.protocol)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        """The texts to choose from; the classifier knows the images."""
        return self.method.texts(vocabulary, descriptions)


def layers_of(stage: object) -> list[object]:
    """A stage and what it wraps, outermost first."""
    found = [stage]
    while isinstance(found[-1], Wrapper):
        found.append(found[-1].method)
    return found


def selected_in(stage: object) -> Selected | None:
    """The `selected` that a stage is, or wraps; None where there is none."""
    last = layers_of(stage)[-1]
    return last if isinstance(last, Selected) else None


def weight_of(method: Method | Cascade) -> float | None:
    """The weight w of the name in a follow-up by `selected`; None for a method that has none."""
    stages = stages_of(method)
    chosen = selected_in(stages[-1])
    return chosen.w if chosen is not None and not chosen.named and len(stages) == 2 else None


def with_weight(method: Method | Cascade, w: float) -> Method | Cascade:
    """The same method with another weight of the name."""
    return changed(method, lambda stage: replace(stage, w=w) if isinstance(stage, Selected) else stage)
