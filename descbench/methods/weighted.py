"""Texts that do not count alike: by their likeness to the name (WCA), or by what they tell of a picture (AWT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp
from typing import ClassVar

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.methods.base import Method, Pool, Wrapper, together
from descbench.methods.controls import Nameless
from descbench.methods.disclip import layers_of, selected_in
from descbench.methods.names import fill
from descbench.texts import Anchors, TextBank
from descbench.vocabulary import Vocabulary

CAPTION = "a photo of a {}."  # what stands for a name, in the paper
SHARPNESS = exp(2)  # what a similarity is multiplied by before the softmax over texts, as in the paper


class Weighing(Wrapper):
    """A wrapper that says how much each text counts; there is one such around a method."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if selected_in(self.method) is not None:
            raise InputError(f"{self.method!r} chooses and scores its texts by itself; leave out {self.spelled}")
        if any(isinstance(layer, Weighing) for layer in layers_of(self.method)):
            raise InputError(f"{self.method!r} weighs its texts already; leave out {self.spelled} or the other")


@dataclass(frozen=True, repr=False)
class WCA(Weighing):
    """Texts weighed by their likeness to the name: in a class a softmax over e^2 x cos(text, "a photo of a {name}."),
    then the renormalised weighted mean (Li et al. 2024, Visual-Text Cross Alignment: the texts' side).

    With `views="crops(60)"` on the encoder, the picture's side, it is the whole of WCA: the similarity of a weighted
    mean of crops to one of texts, both renormalised. Differs from the authors' code: any method gives the texts.
    """

    spelled: ClassVar[str] = "wca"

    method: Method

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(isinstance(layer, Nameless) for layer in layers_of(self.method)):
            raise InputError(f"wca would weigh the texts of {self.method!r} by the name; write nameless(wca(...))")

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        bank = self.method.texts(vocabulary, descriptions)
        return replace(bank, anchors=Anchors(tuple(fill(CAPTION, name) for name in vocabulary.names), SHARPNESS))


@dataclass(frozen=True, repr=False)
class AWT(Weighing):
    """Views of a picture against the texts of a class: each weighed by entropy, and scored by the optimal transport
    between them (Zhu et al. 2024, AWT, section 3). It needs an encoder that keeps views apart: `views="resized(50)"`.

    A view weighs more where it is sure of a class, a text where the whole picture is, if this text alone speaks for its
    class; the score is the similarity that the transport carries. Differs from the authors' code: each transport runs
    until its marginals hold to 1e-6, where theirs stops a whole batch early; and here any method gives the texts.
    For many classes it belongs in a cascade: `cascade(template, awt(dclip), k=10)`.
    """

    spelled: ClassVar[str] = "awt"

    method: Method

    @property
    def pool(self) -> Pool:
        return "transport"

    @property
    def protocol(self) -> str:
        return together(self.method.protocol, "multi-view")

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        bank = self.method.texts(vocabulary, descriptions)
        if bank.weights is not None or bank.anchors is not None:
            raise InputError(f"{self!r}: {self.method!r} weighs its texts already; leave out awt")
        return bank
