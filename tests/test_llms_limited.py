"""A limit on requests or cost: it ends cleanly, after every reply that was asked for, and never later than it says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from server import said, serving

from descbench.errors import BudgetError, InputError
from descbench.llms import Limited, OpenAILLM, RecordingLLM, StreamingLLM
from descbench.llms.limited import price_of, read_prices
from descbench.prompts import Question, Reply
from descbench.testing import FakeLLM, check_llm

PRICES = {"counting": {"input": 1.0, "output": 2.0}}  # dollars a million tokens


class Counting:
    """Answers with `usage`, in whole batches; `asked` keeps the questions."""

    name = fingerprint = "counting"

    def __init__(self, usage: dict[str, int] | None = None) -> None:
        self.usage = {} if usage is None else usage
        self.asked: list[Question] = []

    def __repr__(self) -> str:
        return "counting:1"

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        self.asked += questions
        return [Reply(question.text, usage=self.usage) for question in questions]


class Streaming(Counting):
    """The same, one by one, the last question first; it says how long a reply may be."""

    max_tokens = 100

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for position in reversed(range(len(questions))):
            (reply,) = self.complete([questions[position]])
            yield position, reply


def questions(count: int, length: int = 4) -> list[Question]:
    return [Question(f"{number:0{length}}") for number in range(count)]


def replies(llm: Limited, asked: Sequence[Question]) -> tuple[dict[int, Reply], BudgetError | None]:
    found = {}
    try:
        for position, reply in llm.stream(asked):
            assert position not in found
            found[position] = reply
    except BudgetError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("kind", [Counting, Streaming])
@pytest.mark.parametrize("limit", [0, 1, 7, 40])
def test_so_many_questions_are_handed_on_and_each_of_them_has_its_reply(kind: type[Counting], limit: int) -> None:
    inner = kind()
    llm = Limited(inner, max_requests=limit)
    found, error = replies(llm, questions(40))
    assert len(inner.asked) == len(found) == llm.sent == limit
    assert sorted(found) == list(range(limit))
    assert all(reply.text == f"{position:04}" for position, reply in found.items())
    assert (error is None) is (limit == 40)
    if error:
        assert error.exit_code == 4
        assert f"limit of {limit} requests is reached, and {40 - limit} questions were not asked" in str(error)


def test_the_limit_is_for_the_life_of_the_object() -> None:
    llm = Limited(Counting(), max_requests=5)
    assert len(llm.complete(questions(3))) == 3
    with pytest.raises(BudgetError, match="2 questions were not asked"):
        llm.complete(questions(4))
    assert llm.sent == 5 and llm.complete([]) == []


def test_cost_is_what_the_replies_took() -> None:
    llm = Limited(Counting({"prompt_tokens": 10, "completion_tokens": 500}), prices=PRICES)
    llm.complete(questions(3))
    assert llm.cost == pytest.approx(3 * (10 * 1.0 + 500 * 2.0) / 1e6)


def test_a_question_is_sent_only_where_its_bound_fits() -> None:
    # A question of 4 bytes may take 4 + 16 tokens, and its reply 1024: at most 0.002068 dollars.
    inner = Counting({"prompt_tokens": 20, "completion_tokens": 1024})
    for limit, expected in ((0.002067, 0), (0.002069, 1), (0.004135, 1), (0.004137, 2)):
        inner.asked = []
        _, error = replies(Limited(inner, max_cost=limit, prices=PRICES), questions(5))
        assert len(inner.asked) == expected
        assert error is not None and f"limit of {limit:g} dollars" in str(error)


def test_what_is_left_of_the_bound_is_used_in_further_rounds() -> None:
    inner = Streaming({"prompt_tokens": 1, "completion_tokens": 1})  # three millionths each; bound: 220
    found, error = replies(Limited(inner, max_cost=0.001, prices=PRICES), questions(1000))
    # Spent 3 n millionths after n replies; one more may go where 3 n + 220 <= 1000.
    assert len(found) == 261 and error is not None
    assert sorted(found) == list(range(261))


def test_a_reply_longer_than_any_before_raises_the_bound_and_one_without_a_count_costs_its_bound() -> None:
    long = Counting({"prompt_tokens": 0, "completion_tokens": 5000})
    llm = Limited(long, max_cost=0.03, prices=PRICES)  # a first round at 0.002068 each
    replies(llm, questions(3))
    assert llm.cost == pytest.approx(0.03)
    with pytest.raises(BudgetError):
        llm.complete([Question("next")])
    uncounted = Limited(Counting(), prices=PRICES)
    uncounted.complete(questions(1))
    assert uncounted.cost == pytest.approx(0.002068)


def test_an_unanswered_question_costs_nothing() -> None:
    class Silent(Counting):
        def complete(self, questions: Sequence[Question]) -> list[Reply]:
            return [Reply.unanswered("no") for _ in questions]

    llm = Limited(Silent(), max_cost=1, prices=PRICES)
    llm.complete(questions(9))
    assert llm.cost == 0


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100), st.booleans()), max_size=40),
    st.floats(0, 0.01),
    st.integers(0, 50),
)
@settings(max_examples=200, deadline=None)
def test_neither_limit_is_ever_exceeded_where_replies_keep_to_their_bounds(
    drawn: list[tuple[int, int, bool]], max_cost: float, max_requests: int
) -> None:
    class Drawn(Streaming):
        def complete(self, questions: Sequence[Question]) -> list[Reply]:
            self.asked += questions
            rows = [drawn[int(question.text.split()[0])] for question in questions]
            return [
                Reply("", usage={"prompt_tokens": length, "completion_tokens": out} if counted else {})
                for length, out, counted in rows
            ]

    asked = [Question(f"{number} {'x' * length}") for number, (length, _, _) in enumerate(drawn)]
    inner = Drawn()
    llm = Limited(inner, max_requests=max_requests, max_cost=max_cost, prices=PRICES)
    found, error = replies(llm, asked)
    assert llm.cost <= max_cost + 1e-12 and llm.sent <= max_requests
    assert sorted(found) == list(range(len(found))) and len(found) == len(inner.asked) == llm.sent
    assert (error is None) is (len(found) == len(asked))


def test_it_is_to_others_what_it_wraps() -> None:
    served = OpenAILLM("m", base_url="http://h/v1", temperature=1)
    llm = Limited(served, max_requests=5)
    assert (repr(llm), llm.name, llm.fingerprint) == (repr(served), served.name, served.fingerprint)
    assert llm.requests(Question("q")) == served.requests(Question("q"))
    assert isinstance(llm, StreamingLLM) and isinstance(llm, RecordingLLM)
    assert Limited(Counting()).requests(Question("q", 3)) == [{"llm": "counting", "text": "q", "sample": 3}]
    check_llm(Limited(FakeLLM(), max_requests=100))


def test_around_a_server_it_ends_after_so_many_requests_and_hands_over_their_replies() -> None:
    with serving(lambda asked: said(asked.text)) as server:
        llm = Limited(OpenAILLM("counting", base_url=server.url, max_tokens=10), max_requests=20)
        found, error = replies(llm, questions(100))
    assert len(found) == len(server.asked) == 20 and error is not None


def test_a_long_list_is_not_copied() -> None:
    class Long(Sequence[Question]):
        def __len__(self) -> int:
            return 10**12

        def __getitem__(self, index: Any) -> Any:
            return Question(str(index))

    llm = Limited(Streaming(), max_requests=3)
    assert replies(llm, Long())[0].keys() == {0, 1, 2}


def test_cost_without_a_price_names_the_models_that_have_one() -> None:
    with pytest.raises(InputError, match=r"max_cost=1 needs the price of 'counting'; did you mean 'countin'.*countin"):
        Limited(Counting(), max_cost=1, prices={"countin": PRICES["counting"], "b": PRICES["counting"]})
    with pytest.raises(InputError, match="the prices name: no model"):
        Limited(Counting(), max_cost=1)
    assert Limited(Counting()).cost == 0
    for limits in ({"max_requests": -1}, {"max_cost": -0.5}, {"max_cost": float("nan")}):
        with pytest.raises(InputError, match="must be at least 0"):
            Limited(Counting(), prices=PRICES, **limits)  # type: ignore[arg-type]


def test_a_price_is_found_by_name_and_else_by_spelling() -> None:
    name, spelling = {"input": 1.0, "output": 2.0}, {"input": 3.0, "output": 4.0}
    assert price_of({"counting": name, "counting:1": spelling}, Counting()) == name
    assert price_of({"counting:1": spelling}, Counting()) == spelling
    assert price_of({"other": name}, Counting()) is None
    free = {"counting": {"input": 0.0, "output": 0.0}}
    llm = Limited(Counting(), max_cost=0, prices=free)
    assert len(llm.complete(questions(100))) == 100


def test_prices_are_read_from_json(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text('\ufeff{"m": {"input": 1, "output": 2.5, "note": "2026"}}', encoding="utf-8")
    assert read_prices(file) == {"m": {"input": 1.0, "output": 2.5}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the prices .*No such file"),
        ("{", "are no JSON"),
        ("[]", "are no object of models"),
        ("{}", "are no object of models"),
        ('{"m": 5}', "give no input price for 'm': None"),
        ('{"m": {"input": 1}}', "give no output price for 'm': None"),
        ('{"m": {"input": "1", "output": 2}}', "give no input price for 'm': '1'"),
        ('{"m": {"input": -1, "output": 2}}', "give no input price for 'm': -1"),
        ('{"m": {"input": true, "output": 2}}', "give no input price for 'm': True"),
        ('{"m": {"input": NaN, "output": 2}}', "give no input price for 'm': nan"),
        ('{"m": {"input": 1, "output": Infinity}}', "give no output price for 'm': inf"),
    ],
)
def test_prices_that_are_none_are_one_clear_line(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "prices.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_prices(file)
    assert "\n" not in str(caught.value) and json.dumps("input") in str(caught.value)
