"""A language model that looks its replies up first, and keeps every new one as it arrives."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from descbench.errors import DescbenchError
from descbench.progress import report
from descbench.prompts import Picked, Question, Reply
from descbench.store.around import Around
from descbench.store.replies import ReplyStore, canonical, key_of

if TYPE_CHECKING:
    from descbench.llms.base import LLM

_LOOK_UP = 500  # questions that are looked up together


class CachedLLM(Around):
    """A language model that looks its replies up first. `hits`, `asked`, `unanswered` and `usage` count this run's.

    Questions with the same text, sample and schema are one request. Every reply is kept as it arrives, whatever comes
    after. With `refresh` nothing is looked up: all is asked anew, and what was kept is set aside as superseded.
    """

    def __init__(self, llm: LLM, store: ReplyStore, *, refresh: bool = False) -> None:
        super().__init__(llm)
        self._store = store
        self._refresh = refresh
        self.hits = 0
        self.asked = 0
        self.unanswered = 0
        self.usage: Counter[str] = Counter()

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Kept replies first, then new ones as they arrive. Of many questions only the missing ones' places are held.

        Raises `DescbenchError` when the language model ends without an answer to every question.
        """
        missing = array("q")  # the first place of each request that is not kept
        again: dict[int, list[int]] = {}  # that place -> the further places of the same request
        first: dict[int, int] = {}
        for start in range(0, len(questions), _LOOK_UP):
            some = questions[start : start + _LOOK_UP]
            for place, (request, reply) in enumerate(self._look_up(some), start):
                new = first.setdefault(request, place) == place
                if reply is not None:
                    self.hits += new
                    yield place, reply
                elif new:
                    missing.append(place)
                else:
                    again.setdefault(first[request], []).append(place)
        del first
        answered = 0
        for at, fresh in self._inside(Picked(questions, missing)):
            place = missing[at]
            reply = self._kept(questions[place], fresh)
            answered += 1
            report("asking the language model", answered, len(missing))
            for index in (place, *again.get(place, ())):
                yield index, reply
        if answered != len(missing):
            raise DescbenchError(
                f"{self!r} answered {answered} of {len(missing)} questions and gave no error. "
                "What was answered is kept; the same command asks the others again."
            )

    def _look_up(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | None]]:
        """For each question a number that stands for its request, and the reply that is kept: to the likeliest request,
        or to one that may take its place."""
        possible = []
        for question in questions:
            requests = [canonical(request) for request in self.requests(question)]
            possible.append({key_of(request): request for request in requests})
        wanted = {} if self._refresh else {key: request for keys in possible for key, request in keys.items()}
        kept = self._store.find_keys(wanted)
        for keys in possible:
            reply = next((kept[key] for key in keys if key in kept), None)
            yield int(next(iter(keys))[:32], 16), reply  # half a hash: this number is held for every question

    def _kept(self, question: Question, fresh: Reply) -> Reply:
        if not fresh.answered:
            self.unanswered += 1
            return fresh
        self.asked += 1
        self.usage.update(fresh.usage)
        request = canonical(fresh.details.get("request") or self.requests(question)[0])
        return self._store.keep(request, question, fresh, repr(self._llm), refresh=self._refresh)
