"""Contrast: captions that tell each class of a candidate set from all others, asked for the whole set at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from descbench import prompts
from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.methods.base import About, Method, Pool, Subject, choice, text
from descbench.methods.names import checked, fill
from descbench.parsing import parse_contrast, repairs_of
from descbench.prompts import Question, Reply
from descbench.texts import TextBank, plain
from descbench.vocabulary import Vocabulary

MOST = 20
"""How many classes one question is about at most: of more, a language model forgets some and repeats itself."""


@dataclass(frozen=True, repr=False)
class Contrast(Method):
    """A class is the mean feature of its distinct captions in the set of all candidates: one question tells k of them
    apart, where `differential` has k (k - 1) / 2.

    Our own, with no paper: the follow-up of FuDD (Esfandiarpoor & Bach 2024) asked once for each set that occurs. A
    class without a caption in its set counts with `fallback`. The prompt asks for JSON; with one of your own that asks
    for lines, `structured=False` leaves the schema out.
    """

    spelled: ClassVar[str] = "contrast"
    asks_about: ClassVar[About] = "set"

    prompt: str = "contrast"
    fallback: str = "a photo of a {}."
    structured: bool = True

    def __post_init__(self) -> None:
        text("prompt", self.prompt)
        checked(self.fallback)
        choice("structured", self.structured, (False, True))

    @property
    def pool(self) -> Pool:
        return "mean_feature"

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        if len(subject) > MOST:
            raise InputError(
                f"contrast asks about at most {MOST} classes at once, and here are {len(subject)}: use it as a "
                "follow-up, cascade(template, contrast, k=3), where a classifier with a language model (evaluate "
                "--llm) asks about the candidates of each image"
            )
        names = sorted({plain(vocabulary.name(id_)) for id_ in subject})
        filled = prompts.fill(self.prompt, candidates="\n".join(names), domain=vocabulary.domain or "objects")
        return [Question(filled, attempt, self.prompt, "contrast" if self.structured else "")]

    def read(self, vocabulary: Vocabulary, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        names = {id_: plain(vocabulary.name(id_)) for id_ in subject}
        parsed = [parse_contrast(reply, list(names.values())) for reply in replies]
        said = {id_: [c for one in parsed for c in one.items.get(name, [])] for id_, name in names.items()}
        return Descriptions(sets={subject: said} if any(said.values()) else {}, provenance=repairs_of(parsed))

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        said = descriptions.set(vocabulary.ids.tolist()) or {}
        lists = []
        for id_, name in vocabulary:
            captions = [caption for caption in dict.fromkeys(said.get(id_, ())) if caption.strip()]
            lists.append(captions or [fill(self.fallback, name)])
        return TextBank.of(vocabulary, lists)
