"""DCLIP: a class is scored by the mean similarity to its name with each of its descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.methods.base import POOLS, Method, Pool, Subject, choice, text, with_texts
from descbench.parsing import parse_features, repairs_of
from descbench.prompts import Question, Reply
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary


def phrase(descriptor: str) -> str:
    """A descriptor as a relative clause, by its first word: an article reads "which is", as in the paper.

    >>> phrase("a long bill"), phrase("antennae"), phrase("used as a toy"), phrase("may be red")
    ('which is a long bill', 'which has antennae', 'which is used as a toy', 'which may be red')
    """
    first = descriptor.split(maxsplit=1)[0].casefold() if descriptor.strip() else ""
    if first in {"has", "have", "is", "are", "often", "usually", "typically", "may", "can"}:
        return f"which {descriptor}"
    if first in {"a", "an", "used", "made", "worn", "served"}:
        return f"which is {descriptor}"
    return f"which has {descriptor}"


def authors_phrase(descriptor: str) -> str:
    """The authors' rule, by characters: it also gives "which is antennae" and "which candles"."""
    if descriptor.startswith("a"):
        return f"which is {descriptor}"
    if descriptor.startswith(("has", "often", "typically", "may", "can")):
        return f"which {descriptor}"
    if descriptor.startswith("used"):
        return f"which is {descriptor}"
    return f"which has {descriptor}"


@dataclass(frozen=True, repr=False)
class DCLIP(Method):
    """Classification by the mean similarity to "{name}, which has {descriptor}" (Menon & Vondrick 2023, section 3).

    Differs from the authors' code: the relative clause goes by the first word, not by its first letters; a class
    without descriptors is scored by its bare name, not by "{name}, which has "; scores are float32 without softmax.
    `phrasing="authors"` restores both texts. Duplicate descriptors weigh twice, as there. `structured` asks for JSON.
    """

    spelled: ClassVar[str] = "dclip"
    asks_about: ClassVar[Literal["nothing", "class", "pair"]] = "class"

    prompt: str = "dclip"
    phrasing: Literal["ours", "authors"] = "ours"
    pool: Pool = "mean_score"  # the mean is not renormalised: section 3, equation 1
    structured: bool = False  # as in the paper, a bulleted list

    def __post_init__(self) -> None:
        text("prompt", self.prompt)
        choice("phrasing", self.phrasing, ("ours", "authors"))
        choice("pool", self.pool, POOLS)
        choice("structured", self.structured, (False, True))

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        name = plain(vocabulary.name(subject[0]))
        prompt = "dclip_json" if self.structured and self.prompt == "dclip" else self.prompt
        filled = prompts.fill(prompt, name=name, domain=vocabulary.domain or "objects")
        return [Question(filled, attempt, prompt, "features" if self.structured else "")]

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        parsed = [parse_features(reply) for reply in replies]
        found = [feature for one in parsed for feature in one.items]
        return Descriptions({subject[0]: found} if found else {}, provenance=repairs_of(parsed))

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        given = with_texts(descriptions.classes, vocabulary)
        lists = [texts or [""] for texts in given] if self.phrasing == "authors" else given
        clause = authors_phrase if self.phrasing == "authors" else phrase
        bank = TextBank.of(
            vocabulary,
            [[f"{plain(n)}, {clause(t)}" for t in texts] for n, texts in zip(vocabulary.names, lists, strict=True)],
        )
        # The authors' text for an empty list is no description either: it is counted as well.
        return replace(bank, undescribed=np.array([not texts for texts in given], dtype=bool))
