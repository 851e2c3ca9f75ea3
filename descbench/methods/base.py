"""A method: which texts stand for a class, and how their similarities are pooled. Pure: no model, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from descbench.descriptions import Descriptions
from descbench.errors import InputError, listed
from descbench.prompts import Question, Reply
from descbench.texts import TextBank
from descbench.vocabulary import Vocabulary

Pool = Literal["mean_score", "mean_feature", "max_score", "mean_prob", "transport"]
POOLS: tuple[Pool, ...] = ("mean_score", "mean_feature", "max_score", "mean_prob")
"""Those of one vector a picture, for a parameter `pool`. `transport` needs many, and `awt` is its name."""

Subject = tuple[int, ...]
"""What a question is about: one class `(id,)`, two `(id, id)`, or a set of classes by their ascending ids."""

About = Literal["nothing", "class", "pair", "set"]


@dataclass(frozen=True)
class Method:
    """The base of every method: a frozen dataclass of parameters, whose defaults are the paper's.

    `asks_about` says what its questions are about. A subclass gives `texts`, and, when it asks, `questions` and `parse`
    (or `read`).
    `repr(method)` is its spelling on the command line and its identity in caches: `spec.method(repr(m)) == m`.
    """

    spelled: ClassVar[str] = ""
    asks_about: ClassVar[About] = "nothing"
    truncates: ClassVar[bool] = False
    """Whether a text that is longer than the encoder reads may lose its end. Where not, such a text is an error."""

    @property
    def pool(self) -> Pool:
        """How the similarities of a class's texts become its score."""
        raise NotImplementedError

    @property
    def needs_support(self) -> bool:
        """Whether it chooses among its texts by labelled images; the classifier is then given `support`."""
        return False

    @property
    def protocol(self) -> str:
        """What it sees besides the one picture and the names: a result is comparable within a protocol."""
        return "uses support labels" if self.needs_support else "inductive"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        """What is encoded for each class of the vocabulary."""
        raise NotImplementedError

    def subjects(self, vocabulary: Vocabulary, sets: np.ndarray | None = None) -> list[Subject]:
        """All that the method asks about when the classes of each row of `sets` (S, k), given as ids, compete with each
        other; without `sets`, when all do. Two classes of one name are no pair, and one in a set: nothing can be asked
        about them."""
        if self.asks_about == "nothing":
            return []
        rows = vocabulary.ids[None, :] if sets is None else sets
        if self.asks_about == "class":
            return [(id_,) for id_ in dict.fromkeys(rows.ravel().tolist())]
        if self.asks_about == "set":
            found = (_one_of_each_name(vocabulary, row) for row in np.unique(np.sort(rows, axis=1), axis=0).tolist())
            return [subject for subject in dict.fromkeys(found) if len(subject) > 1]
        columns = np.triu_indices(rows.shape[1], k=1)
        pairs = np.sort(np.stack([rows[:, columns[0]].ravel(), rows[:, columns[1]].ravel()], axis=1), axis=1)
        # Which of the two is asked for first follows from their names, so that no order of classes matters.
        named = (sorted(((vocabulary.name(a), a), (vocabulary.name(b), b))) for a, b in np.unique(pairs, axis=0))
        return [(int(a), int(b)) for (name, a), (other, b) in named if name != other]

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        """What to ask about a subject; a further attempt asks for further samples."""
        raise NotImplementedError

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        """What the replies say about a subject; empty where they say nothing."""
        raise NotImplementedError

    def read(self, vocabulary: Vocabulary, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        """The same, for a method whose replies can be read only with the names of the classes at hand."""
        return self.parse(subject, replies)

    def known(self, subject: Subject, descriptions: Descriptions) -> bool:
        """Whether the descriptions have an entry for this subject already."""
        if self.asks_about == "set":
            return descriptions.set(subject) is not None
        if len(subject) == 1:
            return subject[0] in descriptions.classes
        return descriptions.pair(*subject) is not None

    def __repr__(self) -> str:
        given = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.default is MISSING:
                given.append(repr(value))
            elif value != f.default:
                given.append(f"{f.name}={value!r}")
        return self.spelled + (f"({', '.join(given)})" if given else "")


class PairMethod(Method):
    """A method whose class stands for all that it is said to have against any rival: its distinct captions, sorted,
    each once however many rivals call for it.

    A subclass gives `captions`, for two classes, and the texts follow. That its texts in a set of candidates are those
    of the pairs together is what lets a follow-up add them up (`descbench.followup`); one that overrides `texts` is
    asked for them set by set instead.
    """

    asks_about: ClassVar[About] = "pair"

    def captions(self, vocabulary: Vocabulary, descriptions: Descriptions, id: int, rival: int) -> Sequence[str]:
        """What tells the class from this rival."""
        raise NotImplementedError

    def worded(self, vocabulary: Vocabulary, id: int, caption: str) -> str:
        """The text that is encoded for a caption."""
        return caption

    def distinct(self, vocabulary: Vocabulary, descriptions: Descriptions, id: int, rival: int) -> set[str]:
        """The captions that count: a blank one is none."""
        return {c for c in self.captions(vocabulary, descriptions, id, rival) if c.strip()}

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        lists = []
        for id_, _ in vocabulary:
            rivals = (rival for rival, _ in vocabulary if rival != id_)
            # Sorted: the order of a set must reach neither a text nor a sum.
            chosen = sorted(set().union(*(self.distinct(vocabulary, descriptions, id_, rival) for rival in rivals)))
            lists.append([self.worded(vocabulary, id_, caption) for caption in chosen])
        return TextBank.of(vocabulary, lists)


class Wrapper(Method):
    """A method that holds another one, asks what that asks, and changes one thing."""

    method: Method

    def __post_init__(self) -> None:
        if not hasattr(self.method, "texts"):
            raise InputError(
                f"{self.spelled} changes one method, as in {self.spelled}(dclip); {self.method!r} is none. "
                f"In a cascade it stands around a stage: cascade(dclip, {self.spelled}(differential))"
            )

    @property
    def pool(self) -> Pool:
        return self.method.pool

    # A property, since what a wrapper asks about is what its method asks about.
    @property
    def asks_about(self) -> About:  # type: ignore[override]
        return self.method.asks_about

    @property
    def truncates(self) -> bool:  # type: ignore[override]
        return self.method.truncates

    @property
    def needs_support(self) -> bool:
        return self.method.needs_support

    @property
    def protocol(self) -> str:
        return self.method.protocol

    def questions(self, vocabulary: Vocabulary, subject: Subject, attempt: int = 0) -> list[Question]:
        return self.method.questions(vocabulary, subject, attempt)

    def parse(self, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        return self.method.parse(subject, replies)

    def read(self, vocabulary: Vocabulary, subject: Subject, replies: Sequence[Reply]) -> Descriptions:
        return self.method.read(vocabulary, subject, replies)


def together(*protocols: str) -> str:
    """Several protocols as one: each part once, "inductive" where there is none."""
    parts = (part for protocol in protocols for part in protocol.split(", "))
    return ", ".join(dict.fromkeys(part for part in parts if part not in ("", "inductive"))) or "inductive"


def choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Check a parameter that is one of a few words; raises `InputError` that lists them."""
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not possible; it is one of: {listed(map(repr, allowed))}")


def text(name: str, value: Any) -> None:
    """Check a parameter that is a text; raises `InputError` where it is none."""
    if not isinstance(value, str):
        raise InputError(f"{name}={value!r} is not possible; it is a text in quotes")


def whole(name: str, value: Any, least: int) -> None:
    """Check a parameter that is a whole number; raises `InputError` that says from where on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name}={value!r} is not possible; it is a whole number from {least} on")


def _one_of_each_name(vocabulary: Vocabulary, ids: Sequence[int]) -> Subject:
    """Of ascending ids those whose name no smaller one has."""
    first: dict[str, int] = {}
    for id_ in ids:
        first.setdefault(vocabulary.name(id_), id_)
    return tuple(first.values())


def with_texts(classes: Mapping[int, Sequence[str]], vocabulary: Vocabulary) -> list[Sequence[str]]:
    """One list a class of the vocabulary, in its order; empty where `classes` has none."""
    return [classes.get(id_, ()) for id_, _ in vocabulary]
