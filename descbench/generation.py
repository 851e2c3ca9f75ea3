"""Asking: the questions of a method about classes or pairs, in one batch, again where a reply says nothing."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, Protocol

from descbench.descriptions import Descriptions
from descbench.errors import DescbenchError
from descbench.methods import Cascade, Method
from descbench.methods.base import Subject
from descbench.methods.cascade import stages_of
from descbench.plugins import version_of
from descbench.prompts import Question, Reply
from descbench.vocabulary import Vocabulary


class Answers(Protocol):
    """What is needed of a language model here: see `descbench.llms.base.LLM`."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def complete(self, questions: Sequence[Question]) -> list[Reply]: ...


def ask(
    vocabulary: Vocabulary, method: Method, subjects: Sequence[Subject], llm: Answers, attempts: int = 3
) -> Descriptions:
    """What the language model says about these subjects. What it says nothing usable about is asked again, a new sample
    each time, at most `attempts` times in all, and is then simply absent from the result."""
    found = Descriptions(names=dict(vocabulary), domain=vocabulary.domain)
    open_subjects = list(dict.fromkeys(subjects))
    for attempt in range(attempts):
        if not open_subjects:
            break
        asked = {subject: method.questions(vocabulary, subject, attempt) for subject in open_subjects}
        distinct = list(dict.fromkeys(question for questions in asked.values() for question in questions))
        answers = llm.complete(distinct)
        if len(answers) != len(distinct):
            raise DescbenchError(f"{llm.name} gave {len(answers)} replies to {len(distinct)} questions")
        reply_to = dict(zip(distinct, answers, strict=True))
        classes, pairs = dict(found.classes), dict(found.pairs)
        for subject, questions in asked.items():
            said = method.parse(subject, [reply_to[question] for question in questions])
            classes.update(said.classes)
            pairs.update(said.pairs)
        found = Descriptions(classes, pairs, found.names, found.domain)
        open_subjects = [subject for subject in open_subjects if not method.known(subject, found)]
    return found


def generate(
    vocabulary: Vocabulary,
    method: Method | Cascade,
    llm: Answers,
    *,
    known: Descriptions | None = None,
    attempts: int = 3,
) -> Descriptions:
    """Ask a language model all that a method asks about a vocabulary and `known` does not say; return both together.

    A follow-up method asks about every pair of classes here, C (C - 1) / 2 of them; a `Classifier` with an `llm` asks
    only about pairs that occur. Subjects without a usable reply after `attempts` are absent: see `undescribed`.
    """
    found = (known or Descriptions()).matched(vocabulary)
    for stage in stages_of(method):
        missing = [subject for subject in stage.subjects(vocabulary) if not stage.known(subject, found)]
        found = found.merged(ask(vocabulary, stage, missing, llm, attempts))
    return found.merged(Descriptions(provenance=provenance(method, llm)))


def undescribed(vocabulary: Vocabulary, method: Method | Cascade, descriptions: Descriptions) -> list[Subject]:
    """The subjects of a method that these descriptions say nothing about."""
    return [
        subject
        for stage in stages_of(method)
        for subject in stage.subjects(vocabulary)
        if not stage.known(subject, descriptions)
    ]


def provenance(method: Method | Cascade, llm: Answers) -> dict[str, Any]:
    """Where generated descriptions come from, for the file that holds them."""
    return {
        "method": repr(method),
        "llm": repr(llm),
        "llm_fingerprint": llm.fingerprint,
        "descbench": version_of("descbench"),
        "python": platform.python_version(),
    }
