"""What every wrapper around a language model passes on: its name, fingerprint, spelling and requests, and questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from descbench.prompts import Question, Reply
from descbench.store.replies import plain_request

if TYPE_CHECKING:
    from descbench.llms.base import LLM

_CHUNK = 16  # questions at once where a language model does not hand over replies as they arrive


class Around:
    """A language model with something around it, which answers under its name. A subclass gives `stream`."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    @property
    def name(self) -> str:
        return self._llm.name

    @property
    def fingerprint(self) -> str:
        return self._llm.fingerprint

    def __repr__(self) -> str:
        return repr(self._llm)

    def requests(self, question: Question) -> list[dict[str, Any]]:
        """What stands for this question, the likeliest first: see `descbench.llms.base.RecordingLLM`."""
        own = getattr(self._llm, "requests", None)
        return own(question) if own else [plain_request(self.fingerprint, question)]

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions."""
        replies = dict(self.stream(questions))
        return [replies[place] for place in range(len(questions))]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(position in `questions`, reply), in the order of arrival; each position once."""
        raise NotImplementedError

    def _inside(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """The replies of the language model inside: as they arrive, or else a few questions at a time."""
        if not len(questions):
            return
        stream = getattr(self._llm, "stream", None)
        if stream is not None:
            yield from stream(questions)
            return
        for start in range(0, len(questions), _CHUNK):
            yield from enumerate(self._llm.complete(questions[start : start + _CHUNK]), start)
