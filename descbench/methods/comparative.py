"""Comparative descriptors: features that a class has and a rival has not, over all rivals together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.methods.base import PairMethod, Pool, Subject, text
from descbench.methods.dclip import phrase
from descbench.parsing import parse_features, repairs_of
from descbench.prompts import Question, Reply
from descbench.texts import plain
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class Comparative(PairMethod):
    """The mean similarity to "{name}, which has {feature}" over the distinct features that tell a class from any other
    of the vocabulary: FuDD's questions, asked beforehand, with DCLIP's texts and pool.

    Each of two classes is asked about against the other. The rivals are all other classes, or, as a follow-up, all
    candidates; the original takes the 10 nearest by their texts.
    """

    spelled: ClassVar[str] = "comparative"

    prompt: str = "comparative"

    def __post_init__(self) -> None:
        text("prompt", self.prompt)

    @property
    def pool(self) -> Pool:
        return "mean_score"

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        first, second = (plain(vocabulary.name(id_)) for id_ in subject)
        domain = vocabulary.domain or "objects"
        return [
            Question(prompts.fill(self.prompt, first=a, second=b, domain=domain), attempt, self.prompt)
            for a, b in ((first, second), (second, first))
        ]

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        """The replies stand in the order of the questions; a pair needs both, so that it is asked again without one."""
        parsed = [parse_features(reply) for reply in replies]
        first, second = subject
        told = len(parsed) == 2 and all(one.items for one in parsed)
        pairs = {(first, second): (parsed[0].items, parsed[1].items)} if told else {}
        return Descriptions(pairs=pairs, provenance=repairs_of(parsed))

    def captions(self, vocabulary: Vocabulary, descriptions: Descriptions, id: int, rival: int) -> Sequence[str]:
        pair = descriptions.pair(id, rival)
        return pair[0] if pair else []

    def worded(self, vocabulary: Vocabulary, id: int, caption: str) -> str:
        return f"{plain(vocabulary.name(id))}, {phrase(caption)}"
