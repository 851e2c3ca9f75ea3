"""What a language model is to descbench: anything that answers a list of questions, one reply a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from descbench.prompts import Question, Reply


class LLM(Protocol):
    """Answers questions. No base class to inherit: an object with these three serves."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def fingerprint(self) -> str:
        """For caches: provider kind, server, model, the parameters sent. Known before any weights are loaded."""

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions."""


@runtime_checkable
class StreamingLLM(Protocol):
    """An `LLM` may also hand over each reply as it arrives, so that a cache can keep it before the next one comes.

    `questions` may be long and made as it is read: take each item when it is needed, and do not copy it to a list.
    """

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(position in `questions`, reply), in the order of arrival; each position once."""


@runtime_checkable
class RecordingLLM(Protocol):
    """An `LLM` may say what exactly it sends, where that is more than its fingerprint and the question.

    This is what a cache keys by and keeps. Without it that is `{"llm": fingerprint, "text": ..., "sample": ...}`.
    """

    def requests(self, question: Question) -> list[dict[str, Any]]:
        """As JSON: what is sent for this question now, and then what may be sent instead, when the server refuses a
        parameter or a form of reply. Never the key of an account. A reply's `details["request"]` is the one it is for.
        """
