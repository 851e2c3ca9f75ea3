"""Replies that were given before, and nothing else: no server, no model, no network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from descbench.errors import InputError, listed
from descbench.llms.base import LLM
from descbench.prompts import Question, Reply
from descbench.store.around import Around
from descbench.store.replies import ReplyStore

_AT_ONCE = 500


class ReplayLLM:
    """The replies in a cache, whoever gave them: `replay`; or those of one language model: `replay:openai:MODEL`.

    Where several language models have answered the same question, one has to be named. A question that nobody has
    answered stays unanswered.
    """

    def __init__(self, of: str = "", *, cache: str | Path | None = None) -> None:
        self.of = of
        self.path = Path(cache or os.environ.get("DESCBENCH_CACHE") or "cache") / "replies.sqlite"
        if not self.path.is_file():
            raise InputError(f"no reply cache {str(self.path)!r} to replay. Name its folder: --cache-dir FOLDER")
        self._store = ReplyStore(self.path, to_read=True)

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> ReplayLLM:
        """The replies of `replay` or `replay:SPELLING`."""
        return cls(argument, **options)

    def __repr__(self) -> str:
        return f"replay:{self.of}" if self.of else "replay"

    @property
    def name(self) -> str:
        return repr(self)

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions."""
        return [reply for _, reply in self.stream(questions)]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """(position, reply), in the order of the questions."""
        for start in range(0, len(questions), _AT_ONCE):
            some = questions[start : start + _AT_ONCE]
            kept = self._store.recall(some)
            for place, question in enumerate(some, start):
                yield place, self._chosen(question, kept.get((question.text, question.sample), {}))

    def _chosen(self, question: Question, replies: dict[str, Reply]) -> Reply:
        if self.of:
            replies = {llm: reply for llm, reply in replies.items() if llm == self.of}
        if len(replies) > 1:
            raise InputError(
                f"several language models have answered {question.text[:60]!r}...: {listed(sorted(replies))}. "
                f"Name one, as in --llm replay:{min(replies)}"
            )
        return next(iter(replies.values()), Reply.unanswered("not in the cache"))


class Offline(Around):
    """A language model that is not asked: wrapped in a cache, only what is kept is used. What would have been asked is
    counted: `missed` questions of `missed_bytes`, of which `examples` keeps the first of each prompt; `questions` are
    all of them, where `keep` says so."""

    def __init__(self, llm: LLM, *, keep: bool = False) -> None:
        super().__init__(llm)
        self._keep = keep
        self.questions: list[Question] = []
        self.missed: Counter[str] = Counter()  # by prompt
        self.missed_bytes = 0
        self.examples: dict[str, Question] = {}

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Nothing was asked, so nothing is answered."""
        for place in range(len(questions)):
            question = questions[place]
            self.missed[question.prompt] += 1
            self.missed_bytes += len(question.text.encode("utf-8", "replace"))
            self.examples.setdefault(question.prompt, question)
            if self._keep:
                self.questions.append(question)
            yield place, Reply.unanswered("not in the cache")
