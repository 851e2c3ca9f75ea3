"""What a language model is to descbench: anything that answers a list of questions, one reply a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

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
    """An `LLM` may also hand over each reply as it arrives, so that a cache can keep it before the next one comes."""

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(position in `questions`, reply), in the order of arrival; each position once."""
