"""A language model with a limit: so many questions or so much money, and then a clean end that keeps every reply."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from descbench.errors import BudgetError, InputError, listed, nearest
from descbench.llms.base import LLM
from descbench.prompts import Picked, Question, Reply
from descbench.store.around import Around

Prices = Mapping[str, Mapping[str, float]]
"""Model -> {"input": US dollars for a million tokens of questions, "output": the same for replies}."""

ROLES = 16  # tokens around a question, for the roles of a chat
_REPLY = 1024  # the longest reply that is expected before one was seen, in tokens


def read_prices(path: str | Path) -> Prices:
    """Prices from a JSON file. Raises `InputError` where it is missing, no JSON, or holds something else."""
    shape = 'Write {"MODEL": {"input": 1.25, "output": 10.0}, ...}, in US dollars for a million tokens.'
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read the prices {str(path)!r}: {error.strerror}. {shape}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the prices {str(path)!r} are no JSON: {error}. {shape}") from None
    if not isinstance(found, dict) or not found:
        raise InputError(f"the prices {str(path)!r} are no object of models. {shape}")
    for model, price in found.items():
        for part in ("input", "output"):
            value = price.get(part) if isinstance(price, dict) else None
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InputError(f"the prices {str(path)!r} give no {part} price for {model!r}: {value!r}. {shape}")
    return {model: {part: float(price[part]) for part in ("input", "output")} for model, price in found.items()}


def price_of(prices: Prices, llm: LLM) -> Mapping[str, float] | None:
    """The price of a language model, by its name or else its spelling; None where it is unknown."""
    return prices.get(llm.name) or prices.get(repr(llm))


def dollars(price: Mapping[str, float], prompt_tokens: float, completion_tokens: float) -> float:
    """What so many tokens cost, in US dollars."""
    return (prompt_tokens * price["input"] + completion_tokens * price["output"]) / 1_000_000


class Limited(Around):
    """Hands on at most `max_requests` questions, and none that could take the cost above `max_cost` US dollars.

    When it ends, every question that was handed on has its reply, and then `BudgetError` is raised. The limits are for
    the life of this object; `sent` and `cost` say what is used.
    What a question may cost is bounded before it is sent: a token of it for each byte of its text and 16 more, and a
    reply of `max_tokens` where the language model has that, else as long as the longest so far, and at least 1024
    tokens: without `max_tokens` a single reply can be longer than any before it, and cost more. A reply that comes
    without a count of its tokens is counted at its bound. Retries, and the forms of reply that are tried for the first
    question with a schema, are not counted.
    """

    def __init__(
        self,
        llm: LLM,
        max_requests: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
    ) -> None:
        for name, limit in {"max_requests": max_requests, "max_cost": max_cost}.items():
            if limit is not None and not limit >= 0:
                raise InputError(f"{name} must be at least 0, not {limit}.")
        super().__init__(llm)
        self.max_requests, self.max_cost = max_requests, max_cost
        self._price = price_of(prices or {}, llm)
        if max_cost is not None and self._price is None:
            known = f"{nearest(llm.name, prices or {}) or ';'} the prices name: {listed(prices or {}) or 'no model'}"
            raise InputError(f"max_cost={max_cost} needs the price of {llm.name!r}{known}. Add it to the prices file.")
        self.sent = 0
        self.cost = 0.0
        self._longest = _REPLY

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Each (position, reply) as it arrives. By cost, questions go in rounds: as many as surely fit in what is left,
        and when their replies have come, and cost less than they could have, the next ones."""
        start = 0
        while start < len(questions):
            stop = self._affordable(questions, start)
            if stop == start:
                raise self._spent(len(questions) - start)
            self.sent += stop - start
            for position, reply in self._inside(Picked(questions, range(start, stop))):
                self._count(questions[start + position], reply)
                yield start + position, reply
            start = stop

    def _affordable(self, questions: Sequence[Question], start: int) -> int:
        """Where the longest run of questions from `start` ends that fits within both limits, whatever the replies."""
        stop = len(questions)
        if self.max_requests is not None:
            stop = min(stop, start + self.max_requests - self.sent)
        if self.max_cost is not None:
            bound = self.cost
            for position in range(start, stop):
                bound += self._bound(questions[position])
                if bound > self.max_cost:
                    return position
        return stop

    def _bound(self, question: Question) -> float:
        given = getattr(self._llm, "max_tokens", None)
        return self._dollars(len(question.text.encode("utf-8", "replace")) + ROLES, given or self._longest)

    def _count(self, question: Question, reply: Reply) -> None:
        if not reply.answered:
            return
        tokens = [reply.usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        if tokens[0] is None or tokens[1] is None:
            self.cost += self._bound(question)
        else:
            self.cost += self._dollars(tokens[0], tokens[1])
            self._longest = max(self._longest, tokens[1])

    def _dollars(self, prompt: int, completion: int) -> float:
        return 0.0 if self._price is None else dollars(self._price, prompt, completion)

    def _spent(self, left: int) -> BudgetError:
        if self.max_requests is not None and self.sent >= self.max_requests:
            limit = f"the limit of {self.max_requests} requests is reached"
        else:
            limit = f"the next question could exceed the limit of {self.max_cost:g} dollars; {self.cost:.4f} are spent"
        return BudgetError(
            f"{limit}, and {left} questions were not asked. What was answered is kept; "
            "the same again goes on from there, with a new or higher limit."
        )
