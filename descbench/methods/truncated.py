"""Texts that may lose their ends: a method whose paper does not say so, for an encoder that reads less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from descbench.descriptions import Descriptions
from descbench.methods.base import Method, Wrapper
from descbench.texts import TextBank
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class Truncated(Wrapper):
    """The same method, whose texts are cut at the length that the encoder reads, and counted; without it, a text that
    is longer is an error. `cupl` says so by itself, as its paper does (Pratt et al. 2023)."""

    spelled: ClassVar[str] = "truncated"

    method: Method

    @property
    def truncates(self) -> bool:  # type: ignore[override]
        return True

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return self.method.texts(vocabulary, descriptions)
