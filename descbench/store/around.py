"""What every wrapper around a language model passes on: its name, its fingerprint, its spelling, its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descbench.prompts import Question
from descbench.store.replies import plain_request

if TYPE_CHECKING:
    from descbench.llms.base import LLM


class Around:
    """A language model with something around it, which answers under its name."""

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
