"""Differential descriptions: captions that tell a class from each of its rivals, asked for pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.methods.base import PairMethod, Pool, Subject, choice, text
from descbench.methods.names import checked, fill
from descbench.parsing import parse_pairs, repairs_of
from descbench.prompts import Question, Reply
from descbench.texts import plain
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class Differential(PairMethod):
    """A class is the mean feature of its distinct captions against all other classes of the vocabulary, that is, of the
    candidates when it is a follow-up (FuDD: Esfandiarpoor & Bach 2024, section 3).

    A pair without captions counts with `fallback` for both, as in the authors' code. `phrasing="authors"` also
    capitalises texts as they do ("A photo of a abyssinian."), and removes duplicates before that; ours keeps case.
    `structured` asks for JSON.
    """

    spelled: ClassVar[str] = "differential"

    prompt: str = "differential"
    fallback: str = "a photo of a {}."
    phrasing: Literal["ours", "authors"] = "ours"
    structured: bool = False

    def __post_init__(self) -> None:
        text("prompt", self.prompt)
        choice("phrasing", self.phrasing, ("ours", "authors"))
        checked(self.fallback)
        choice("structured", self.structured, (False, True))

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        first, second = (plain(vocabulary.name(id_)) for id_ in subject)
        domain = vocabulary.domain or "objects"
        prompt = "differential_json" if self.structured and self.prompt == "differential" else self.prompt
        filled = prompts.fill(prompt, first=first, second=second, domain=domain)
        return [Question(filled, attempt, prompt, "pairs" if self.structured else "")]

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        parsed = [parse_pairs(reply) for reply in replies]
        found = [captions for one in parsed for captions in one.items]
        first, second = subject
        both = ([a for _, a, _ in found], [b for _, _, b in found])
        return Descriptions(pairs={(first, second): both} if found else {}, provenance=repairs_of(parsed))

    def captions(self, vocabulary: Vocabulary, descriptions: Descriptions, id: int, rival: int) -> Sequence[str]:
        pair = descriptions.pair(id, rival)
        return pair[0] if pair and pair[0] else [fill(self.fallback, vocabulary.name(id))]

    def worded(self, vocabulary: Vocabulary, id: int, caption: str) -> str:
        return caption.capitalize() if self.phrasing == "authors" else caption
