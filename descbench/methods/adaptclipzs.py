"""AdaptCLIPZS: captions of a class as they stand, scored by the mean of their probabilities among all captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from descbench.descriptions import Descriptions
from descbench.methods.base import POOLS, Method, Pool, Subject, choice, text, whole, with_texts
from descbench.methods.cupl import in_forms, sentences
from descbench.prompts import Question, Reply
from descbench.texts import TextBank
from descbench.vocabulary import Vocabulary


@dataclass(frozen=True, repr=False)
class AdaptCLIPZS(Method):
    """A class is the mean probability of its captions in a softmax over those of all classes (Saha et al. 2024,
    "Improved Zero-Shot Classification by Adapting VLMs with Text Descriptions").

    Differs from the authors' code: ours takes their texts and their scoring, and trains nothing; theirs fine-tunes CLIP
    on such captions first. Their captions say the domain ("A bird with ..."), those of our prompt say the class's name;
    both are used as they stand. Probabilities depend on the temperature of the model, `logit_scale`.
    """

    spelled: ClassVar[str] = "adaptclipzs"
    asks_about: ClassVar[Literal["nothing", "class", "pair"]] = "class"

    prompt: str = "adaptclipzs"
    samples: int = 1  # one reply lists captions over all attributes
    pool: Pool = "mean_prob"

    def __post_init__(self) -> None:
        text("prompt", self.prompt)
        whole("samples", self.samples, 1)
        choice("pool", self.pool, POOLS)

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        return in_forms(self.prompt, self.samples, vocabulary, subject, attempt)

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        return sentences(subject, replies)

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return TextBank.of(vocabulary, with_texts(descriptions.classes, vocabulary))
