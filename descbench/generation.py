"""Asking: the questions of a method about classes, pairs or sets, in one batch, again where a reply says nothing."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from descbench.descriptions import Descriptions
from descbench.edits import marked
from descbench.errors import DescbenchError, InputError
from descbench.methods import Cascade, Method
from descbench.methods.base import Subject
from descbench.methods.cascade import stages_of
from descbench.methods.names import fill
from descbench.parsing import OTHER_FORM, reason
from descbench.plugins import version_of
from descbench.prompts import LazyQuestions, Question, Reply
from descbench.scoring import best, unit_rows
from descbench.vocabulary import Vocabulary


class Answers(Protocol):
    """What is needed of a language model here: see `descbench.llms.base.LLM`."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def complete(self, questions: Sequence[Question]) -> list[Reply]: ...


class Texts(Protocol):
    """What is needed of an encoder here: see `descbench.encoders.base.Encoder`."""

    def encode_texts(self, texts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class Said:
    """What came of asking: the descriptions, and for each subject that has none the reason why."""

    descriptions: Descriptions
    missing: Mapping[Subject, str] = field(default_factory=dict)


def ask(vocabulary: Vocabulary, method: Method, subjects: Sequence[Subject], llm: Answers, attempts: int = 3) -> Said:
    """What the language model says about these subjects. What it says nothing usable about is asked again, a new sample
    each time, at most `attempts` times in all. A question that stayed unanswered is not asked another time here: its
    subject is missing until the same question is answered, so that an interrupted run ends as any other."""
    classes: dict[int, list[str]] = {}
    pairs: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    sets: dict[tuple[int, ...], Mapping[int, list[str]]] = {}
    missing: dict[Subject, str] = {}
    repairs: Counter[str] = Counter()
    twins = _twins(vocabulary, method, subjects)
    left = list(twins)
    for attempt in range(attempts):
        silent = set()
        for subject, replies in _answered(llm, _Questions(vocabulary, method, left, attempt)):
            if not all(reply.answered for reply in replies):
                missing[subject] = next(reason(reply) for reply in replies if not reply.answered)
                continue
            for twin in twins[subject]:
                said = method.read(vocabulary, twin, replies)
                classes.update(said.classes)
                pairs.update(said.pairs)
                sets.update(said.sets)
            repairs.update(said.provenance.get("repairs", {}))
            if method.known(twin, said):
                missing.pop(subject, None)
            else:
                missing[subject] = _reason(replies)
                silent.add(subject)
        left = [subject for subject in left if subject in silent]  # in order: replies arrive in any
    kept = {"repairs": dict(sorted(repairs.items()))} if repairs else {}
    found = Descriptions(
        {subject[0]: classes[subject[0]] for subject in subjects if subject[0] in classes},
        pairs,
        dict(vocabulary),
        vocabulary.domain,
        kept,
        sets,
        vocabulary.synonyms,
    )
    return Said(found, {twin: missing[s] for s, several in twins.items() if s in missing for twin in several})


def generate(
    vocabulary: Vocabulary,
    method: Method | Cascade,
    llm: Answers,
    *,
    known: Descriptions | None = None,
    attempts: int = 3,
    about: Collection[int] | None = None,
    rivals: np.ndarray | None = None,
) -> Descriptions:
    """Ask a language model all that a method asks about a vocabulary and `known` does not say; return both together.

    A follow-up method asks about every pair of classes here, C (C - 1) / 2 of them, or about all classes as one set; a
    `Classifier` with an `llm` asks only about the pairs or sets that occur, and `rivals` (P, 2), ids as
    `nearest_rivals` gives them, only about these pairs.
    `about` (ids) asks only what concerns these classes. Subjects without a usable reply after `attempts` are absent:
    see `undescribed`, and `provenance["missing"]` for the reasons.
    """
    start = found = (known or Descriptions()).matched(vocabulary)
    reasons: dict[Subject, str] = {}
    repairs: Counter[str] = Counter()
    about_what = [(s, s.subjects(vocabulary, rivals if s.asks_about == "pair" else None)) for s in stages_of(method)]
    for stage, subjects in about_what:
        if subjects and not stage.known(subjects[0], found):
            stage.questions(vocabulary, subjects[0])  # one that cannot be asked is an error before another is paid for
    for stage, subjects in about_what:
        wanted = [subject for subject in subjects if not stage.known(subject, found)]
        if about is not None:
            wanted = [subject for subject in wanted if not set(subject).isdisjoint(about)]
        said = ask(vocabulary, stage, wanted, llm, attempts)
        found = found.merged(said.descriptions)
        reasons.update(said.missing)
        repairs.update(said.descriptions.provenance.get("repairs", {}))
    missing = [{"classes": [vocabulary.name(i) for i in s], "why": why} for s, why in reasons.items()]
    new = provenance(method, llm) | ({"missing": missing} if missing else {})
    new |= {"repairs": dict(sorted(repairs.items()))} if repairs else {}
    old = {name: value for name, value in start.provenance.items() if name not in ("missing", "repairs")}
    return marked(replace(found, provenance=old | new), since=start)


def nearest_rivals(
    vocabulary: Vocabulary, encoder: Texts, k: int = 10, template: str = "a photo of a {}."
) -> np.ndarray:
    """The pairs of each class with its k nearest others, by the cosine of their names' text features: (P, 2) ids.

    P is at most C k: a pair that is near from both sides is there once. Ties go by name. No (C, C) matrix is kept.
    """
    if k < 1:
        raise InputError(f"k={k} is not possible; it is a whole number from 1 on")
    order = np.argsort(np.array(vocabulary.names), kind="stable")
    ids = vocabulary.ids[order]  # (C,)
    texts = [fill(template, vocabulary.names[place]) for place in order]
    rows = unit_rows(encoder.encode_texts(texts), "cpu", "text features of the names")  # (C, D)
    columns = rows.T.contiguous()
    near, _ = best(rows, lambda images: images @ columns, len(ids), len(ids), min(k + 1, len(ids)))
    own = np.arange(len(ids))[:, None]
    other = near != own
    other[other.all(axis=1), -1] = False  # a class with many of its very name need not be among its nearest
    pairs = np.stack([np.broadcast_to(own, near.shape)[other], near[other]], axis=1)
    return np.unique(np.sort(ids[pairs], axis=1), axis=0).reshape(-1, 2)


def undescribed(
    vocabulary: Vocabulary, method: Method | Cascade, descriptions: Descriptions, rivals: np.ndarray | None = None
) -> list[Subject]:
    """The subjects of a method that these descriptions say nothing about; of pairs, only `rivals` where given."""
    return [
        subject
        for stage in stages_of(method)
        for subject in stage.subjects(vocabulary, rivals if stage.asks_about == "pair" else None)
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


def _reason(replies: Sequence[Reply]) -> str:
    """Why several replies together say nothing usable: of these, one may be right in itself."""
    reasons = [reason(reply) for reply in replies]
    return next((why for why in reasons if why != OTHER_FORM), OTHER_FORM)


def _twins(vocabulary: Vocabulary, method: Method, subjects: Sequence[Subject]) -> dict[Subject, list[Subject]]:
    """Subject -> those with the same names, itself first: they have the same questions, which are asked once.

    A set has its classes in no order; in a pair, whose comes first may be part of the question.
    """
    distinct = dict.fromkeys(subjects)
    if len(set(vocabulary.names)) == len(vocabulary):
        return {subject: [subject] for subject in distinct}
    first: dict[tuple[str, ...], Subject] = {}
    twins: dict[Subject, list[Subject]] = {}
    for subject in distinct:
        names = tuple(map(vocabulary.name, subject))
        called = tuple(sorted(names)) if method.asks_about == "set" else names
        twins.setdefault(first.setdefault(called, subject), []).append(subject)
    return twins


def _answered(llm: Answers, questions: _Questions) -> Iterator[tuple[Subject, list[Reply]]]:
    """Each subject as soon as all its questions have replies; no reply is held longer than that."""
    if not len(questions):
        return
    waiting: dict[int, dict[int, Reply]] = {}
    count = 0
    stream = getattr(llm, "stream", None)
    for place, reply in stream(questions) if stream else enumerate(llm.complete(questions[:])):
        number, slot = divmod(place, questions.each)
        count += 1
        if questions.each == 1:
            yield questions.subjects[number], [reply]
            continue
        replies = waiting.setdefault(number, {})
        replies[slot] = reply
        if len(replies) == questions.each:
            del waiting[number]
            yield questions.subjects[number], [replies[slot] for slot in range(questions.each)]
    if count != len(questions):
        raise DescbenchError(f"{llm.name} gave {count} replies to {len(questions)} questions")


class _Questions(LazyQuestions):
    """The questions about many subjects, in their order."""

    def __init__(self, vocabulary: Vocabulary, method: Method, subjects: Sequence[Subject], attempt: int) -> None:
        self.subjects = subjects
        # The latest subjects stay at hand: a question is looked at when it is looked up, sent, and kept.
        self._of = lru_cache(maxsize=1024)(lambda number: method.questions(vocabulary, subjects[number], attempt))
        self.each = len(self._of(0)) if subjects else 1

    def __len__(self) -> int:
        return self.each * len(self.subjects)

    def at(self, place: int) -> Question:
        number, slot = divmod(place, self.each)
        questions = self._of(number)
        if len(questions) != self.each:
            raise DescbenchError(
                f"a method asks as many questions about every subject: {self.each} about {self.subjects[0]}, but "
                f"{len(questions)} about {self.subjects[number]}"
            )
        return questions[slot]
