"""A language model over HTTP: what is sent, what is made of every kind of answer, and where the key never goes."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from server import Answer, Asked, Server, completion, error, response, said, serving
from werkzeug import Request, Response

import descbench as db
from descbench.errors import AccessError, DescbenchError, DescbenchWarning, InputError, PartialError, SpecError
from descbench.llms import LLMS, OpenAILLM, RecordingLLM, StreamingLLM
from descbench.llms import openai as module
from descbench.llms.responses import fits, hiding, judge, one_line, read
from descbench.parsing import SCHEMAS
from descbench.prompts import Question, Reply
from descbench.testing import check_llm

KEY = "sk-proj-AbCdEfGh1234567890"
HEN = Question("What does a hen look like?")
FEATURES = Question("List features as JSON.", schema="features")
VALID = '{"features": ["red comb"]}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, and no settings of the machine that runs this."""
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "DESCBENCH_API_KEY", "OPENAI_CUSTOM_HEADERS", "OPENAI_LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DESCBENCH_API_KEY", KEY)


@contextmanager
def asking(script: Callable[[Asked], Answer], **options: Any) -> Iterator[tuple[OpenAILLM, Server]]:
    with serving(script) as server:
        yield OpenAILLM("m", base_url=server.url, **{"timeout": 10, **options}), server


def in_turn(*answers: Answer) -> Callable[[Asked], Answer]:
    """The first answer to the first request, and so on; the last one for ever."""
    return lambda asked: answers[min(asked.number, len(answers) - 1)]


def questions(count: int) -> list[Question]:
    return [Question(f"question {number}") for number in range(count)]


# what is sent


def test_a_plain_question_is_sent_with_nothing_that_was_not_given() -> None:
    with asking(in_turn(said("- red", system_fingerprint="fp"))) as (llm, server):
        (reply,) = llm.complete([HEN])
    assert server.bodies == [{"model": "m", "messages": [{"role": "user", "content": HEN.text}]}]
    assert server.asked[0].path == "/v1/chat/completions"
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert (reply.text, reply.finish_reason, reply.model) == ("- red", "stop", "m-2026")
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 3}
    (request,) = llm.requests(HEN)
    assert reply.details == {"request": request, "mode": "text", "system_fingerprint": "fp"}
    assert request == {
        "provider": "openai",
        "base_url": server.url,
        "model": "m",
        "messages": [{"role": "user", "content": HEN.text}],
        "mode": "text",
        "sample": 0,
    }


def test_parameters_are_sent_where_given_and_each_sample_has_its_seed() -> None:
    with asking(in_turn(said()), temperature=0, max_tokens=9, top_p=0.5, seed=5) as (llm, server):
        llm.complete([Question("q", sample=2)])
    sent = {"temperature": 0.0, "max_completion_tokens": 9, "top_p": 0.5, "seed": 7}
    assert server.bodies[0] == {"model": "m", "messages": [{"role": "user", "content": "q"}], **sent}
    recorded = llm.requests(Question("q", sample=2))[0]
    assert (recorded["max_tokens"], recorded["seed"], recorded["temperature"]) == (9, 7, 0.0)


def test_the_fingerprint_says_server_model_and_sampling_and_nothing_else() -> None:
    url = "http://localhost:8000/v1"
    base = OpenAILLM("m", base_url=url, temperature=1)
    assert base.fingerprint == f'{{"base_url":"{url}","model":"m","provider":"openai","temperature":1.0}}'
    assert OpenAILLM("m", base_url=url + "/", temperature=1.0, concurrency=3, timeout=1, retries=0, rpm=5).fingerprint == base.fingerprint  # fmt: skip  # noqa: E501
    others = [{"temperature": 0.5}, {"temperature": 1, "seed": 0}, {"temperature": 1, "max_tokens": 5}]
    assert len({OpenAILLM("m", base_url=url, **other).fingerprint for other in others} | {base.fingerprint}) == 4


def test_a_question_without_schema_and_sampling_has_one_request_and_else_all_that_may_be_sent() -> None:
    llm = OpenAILLM("m", base_url="http://h/v1", max_tokens=5)
    assert isinstance(llm, RecordingLLM) and isinstance(llm, StreamingLLM)
    assert len(llm.requests(HEN)) == 1
    assert [r["mode"] for r in llm.requests(FEATURES)] == ["json_schema", "json_object", "text"]
    hot = OpenAILLM("m", base_url="http://h/v1", temperature=1, top_p=0.5)
    kept = [({*r} & {"temperature", "top_p"}, r.get("refused", {})) for r in hot.requests(HEN)]
    assert kept == [
        ({"temperature", "top_p"}, {}),
        ({"top_p"}, {"temperature": 1.0}),
        ({"temperature"}, {"top_p": 0.5}),
        (set(), {"temperature": 1.0, "top_p": 0.5}),
    ]


def test_the_contract_holds_against_another_http_server(httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        text = request.get_json()["messages"][0]["content"]
        return Response(json.dumps(completion(f"- {len(text)} and {text[:9]}")), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions", method="POST").respond_with_handler(answer)
    check_llm(db.llm(httpserver.url_for("/v1") + "#a/model"))


def test_odd_names_reach_the_server_as_they_are() -> None:
    texts = ["crème brûlée 🦜", '"; DROP {x} $y', "a\x00b\u2028c", "half \ud800 a pair"]
    with asking(lambda asked: said(asked.text)) as (llm, _):
        replies = llm.complete([Question(text) for text in texts])
    assert [reply.text for reply in replies] == [*texts[:3], "half ? a pair"]


# spelling and settings


@pytest.mark.parametrize(
    "spelling",
    ["openai:gpt-x", "http://localhost:8000/v1#Qwen/Qwen3-8B", "https://host.example/v1#m", "http://[::1]:80/v1#m?x#y"],
)
def test_a_spelling_is_its_repr(spelling: str) -> None:
    llm = db.llm(spelling, temperature=0.5)
    assert repr(llm) == spelling
    assert db.llm(repr(llm), temperature=0.5).fingerprint == llm.fingerprint
    assert llm.name == spelling.partition("#")[2] if "#" in spelling else llm.name == "gpt-x"


def test_the_table_has_the_adapter_under_three_names() -> None:
    assert LLMS["openai"] is LLMS["http"] is LLMS["https"] is OpenAILLM


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("openai:", "which model"),
        ("openai", "which model"),
        ("http://localhost:8000/v1", "'http://localhost:8000/v1' names no model"),
        ("http://localhost:8000/v1#", "names no model"),
        ("http://#m", "no URL of a server"),
        ("http://a b/v1#m", "no URL of a server"),
        ("http://h:port/v1#m", "no URL of a server"),
        ("http:localhost#m", "no URL of a server"),
        ("openai:ftp://h/v1#m", "no URL of a server"),
    ],
)
def test_a_wrong_spelling_is_one_clear_line(spelling: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        db.llm(spelling)


@pytest.mark.parametrize("url", [f"http://user:{KEY}@h/v1", f"http://{KEY}@h/v1", f"http://h/v1?key={KEY}"])
def test_a_url_that_holds_a_key_is_refused_and_not_quoted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="DESCBENCH_API_KEY") as caught:
        db.llm(f"{url}#m")
    assert KEY not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(SpecError, match="may hold no user"):
        db.llm("openai:m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be at least 1, not 0"),
        ({"rpm": 0}, "rpm must be above 0, not 0"),
        ({"timeout": -1}, "timeout must be above 0"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be at least 0, not nan"),
        ({"temperature": "hot"}, "temperature must be at least 0, not 'hot'"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"top_p": 1.5}, "top_p must be at most 1"),
        ({"structured": "xml"}, "structured='xml' is not possible; it is one of: auto, json_schema"),
    ],
)
def test_a_value_that_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        db.llm("openai:m", **options)


def test_openai_needs_its_key_at_the_first_question_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = db.llm("openai:m")
    assert llm.base_url == "https://api.openai.com/v1" and llm.complete([]) == []
    with pytest.raises(AccessError, match="OPENAI_API_KEY"):
        llm.complete([HEN])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-line\nbreak")
    with pytest.raises(AccessError, match="OPENAI_API_KEY holds characters") as caught:
        llm.complete([HEN])
    assert "sk-line" not in str(caught.value)


def test_openai_asks_the_server_of_its_variable_with_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(in_turn(said())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        monkeypatch.setenv("OPENAI_API_KEY", "own")
        llm = db.llm("openai:m")
        assert json.loads(llm.fingerprint)["base_url"] == server.url
        llm.complete([HEN])
    assert server.asked[0].headers["authorization"] == "Bearer own"


def test_each_server_gets_the_key_that_is_meant_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(url: str) -> str:
        return OpenAILLM("m", base_url=url).credentials()[0]

    monkeypatch.setenv("OPENAI_API_KEY", "open")
    assert key("http://far.example/v1") == key("http://localhost:1/v1") == KEY
    monkeypatch.delenv("DESCBENCH_API_KEY")
    assert key("http://far.example/v1") == key("http://127.0.0.1.far.example/v1") == key("http://10.0.0.1/v1") == ""
    assert key("http://localhost:1/v1") == key("http://127.0.0.1:1/v1") == key("http://[::1]:1/v1") == "open"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://far.example/v1/")
    assert key("http://far.example/v1") == "open"
    assert key("http://far.example/v2") == ""


def test_an_authorization_of_the_sdks_environment_goes_to_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer another\nX-Team: birds")
    monkeypatch.delenv("DESCBENCH_API_KEY")
    with asking(in_turn(said())) as (llm, server):
        llm.complete([HEN])
    assert server.asked[0].headers["authorization"] == "Bearer none"
    assert server.asked[0].headers["x-team"] == "birds"


# faults that pass


def reset(connection: socket.socket) -> None:
    """Half of an answer, and then not an end but a reset."""
    connection.sendall(said("- red")[:60])
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_off(connection: socket.socket) -> None:
    connection.sendall(said("- red")[:-20])


def drip(connection: socket.socket) -> None:
    """A byte at a time: no wait between two of them is long."""
    for byte in said("- red"):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def hang(connection: socket.socket) -> None:
    time.sleep(3)


FAULTS: dict[str, Answer] = {
    "429": error(429, "slow down"),
    "429 with Retry-After": error(429, "slow down", retry_after="0.05"),
    "500": error(500, "oh"),
    "503 with a page": response(503, b"<html><body>sorry</body></html>", content_type="text/html"),
    "408": error(408, "late"),
    "409": error(409, "locked"),
    "reset in the middle": reset,
    "nothing at all": lambda connection: None,
    "cut off": cut_off,
    "slow drip": drip,
    "timeout": hang,
    "truncated JSON": response(200, json.dumps(completion()).encode()[:-30]),
    "no JSON": response(200, b"\xff\xfe"),
    "HTML with 200": response(200, b"<!doctype html><html>Sign in</html>", content_type="text/html"),
    "JSON of another kind": response(200, [1, 2]),
    "deep JSON": response(200, b"[" * 100_000),
    "no body": response(200, b""),
    "empty choices": response(200, {"choices": []}),
    "choices of another kind": response(200, {"choices": ["x"]}),
    "no message": response(200, {"choices": [{"finish_reason": "stop"}]}),
    "an error with 200": response(200, {"error": {"message": "overloaded", "code": 503}}),
    "not gzip": response(200, b"abc", content_encoding="gzip"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_asked_again_and_then_answered(fault: str) -> None:
    with asking(in_turn(FAULTS[fault], FAULTS[fault], said("- red")), timeout=0.5) as (llm, server):
        (reply,) = llm.complete([HEN])
    assert reply.text == "- red"
    assert len(server.asked) == 3  # one retry layer: two faults, two retries


@pytest.mark.parametrize("fault", ["500", "timeout", "slow drip", "HTML with 200", "empty choices", "429"])
def test_a_question_whose_retries_are_used_up_is_unanswered_and_the_others_go_on(fault: str) -> None:
    def script(asked: Asked) -> Answer:
        return FAULTS[fault] if asked.text == "question 1" else said(asked.text)

    with asking(script, retries=2, timeout=0.3) as (llm, server):
        replies = llm.complete(questions(4))
    assert [reply.answered for reply in replies] == [True, False, True, True]
    assert [reply.text for reply in replies] == ["question 0", "", "question 2", "question 3"]
    assert "no answer after 3 attempts" in replies[1].details["error"]
    assert sum(asked.text == "question 1" for asked in server.asked) == 3
    assert "<html" not in replies[1].details["error"]


def test_the_sdk_does_not_retry_beside_us() -> None:
    with asking(in_turn(error(500, "oh")), retries=0) as (llm, server):
        assert not llm.complete([HEN])[0].answered
    assert len(server.asked) == 1


def test_waits_double_are_drawn_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT", 1.0)
    run = module._Run(OpenAILLM("m", base_url="http://h/v1"))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    fault = module.Fault("retry", "", 500)

    async def main() -> None:
        for _ in range(200):
            for failures in (1, 2, 3, 20):
                await run._wait(fault, failures)
        await run._wait(module.Fault("retry", "", 500, wait=1e9), 1)
        await run.close()

    asyncio.run(main())
    for place, bound in enumerate((1, 2, 4, 60)):
        drawn = waits[place:-1:4]
        assert 0 <= min(drawn) < 0.1 * bound and 0.9 * bound < max(drawn) <= bound
    assert waits[-1] == 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(1e9 + 30, usegmt=True), "date": formatdate(1e9, usegmt=True)}, 30),
        ({"retry-after": formatdate(1e9 - 30, usegmt=True), "date": formatdate(1e9, usegmt=True)}, 0),
        ({"retry-after": formatdate(1e9, usegmt=True)}, None),  # by whose clock?
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert judge(429, headers, b"", (), hiding("")).wait == seconds


def test_a_429_pauses_every_request_of_the_model() -> None:
    def script(asked: Asked) -> Answer:
        return error(429, "slow down", retry_after="0.5") if asked.number == 0 else said()

    with asking(script, concurrency=2) as (llm, server):
        llm.complete(questions(6))
    times = [asked.time - server.asked[0].time for asked in server.asked]
    assert sum(0.1 < moment < 0.48 for moment in times) == 0  # nobody asked in the pause
    assert len(times) == 7 and times[-1] < 2


def test_a_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, jumps = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (86_400 if next(jumps) % 2 else -86_400))
    later = {"retry_after": formatdate(1e9 + 1, usegmt=True), "date": formatdate(1e9, usegmt=True)}
    start = time.monotonic()
    with asking(in_turn(error(429, "slow", **later), error(500, "oh"), said("- red")), rpm=600) as (llm, _):
        assert llm.complete([HEN])[0].text == "- red"
    assert 1 <= time.monotonic() - start < 4


def test_requests_keep_their_distance_retries_too() -> None:
    with asking(in_turn(error(500, "oh"), said()), rpm=600, concurrency=4) as (llm, server):
        llm.complete(questions(5))
    times = [asked.time for asked in server.asked]
    assert len(times) == 6
    assert times[-1] - times[0] >= 0.48  # five gaps of 0.1 s
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.05


# what ends the run

ENDS: dict[str, tuple[Answer, type[DescbenchError], str]] = {
    "401": (
        error(401, f"Incorrect API key provided: {KEY}."),
        AccessError,
        r"the key in DESCBENCH_API_KEY \(401\): .*\[key\]",
    ),
    "403": (error(403, "Country not supported"), AccessError, "Country not supported. See what the key"),
    "403 with a page": (response(403, b"<html>Access denied</html>"), AccessError, r"\(a page of HTML\)"),
    "quota": (error(429, "You exceeded your current quota", "insufficient_quota"), AccessError, "used up.*Add credit"),
    "billing": (error(429, "Limit", "billing_hard_limit_reached"), AccessError, "used up"),
    "402": (error(402, "Insufficient Balance"), AccessError, "used up"),
    "no model": (error(404, "The model `m` does not exist"), AccessError, "no model 'm' at http://.*The model `m`"),
    "no path": (response(404, {"detail": "Not Found"}), InputError, "Not Found. Does the URL end as it should"),
    "redirect": (response(307, b"", location="http://h/"), InputError, r"rejects the request \(307\)"),
    "400": (error(400, "temperature must be at most 2", param="temperature"), InputError, "must be at most 2"),
    "422": (response(422, {"detail": [{"loc": ["body", "x"], "msg": "bad"}]}), InputError, "rejects the request.*bad"),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_cannot_pass_ends_the_run_at_once_and_says_what_to_do(end: str) -> None:
    answer, kind, message = ENDS[end]
    with asking(in_turn(answer), temperature=3, concurrency=1) as (llm, server):
        with pytest.raises(kind, match=message) as caught:
            llm.complete(questions(5))
        assert len(server.asked) == 1
    line = str(caught.value)
    assert type(caught.value) is kind and "\n" not in line and len(line) < 500
    assert KEY not in line and "AbCdEf" not in line


def test_replies_that_came_before_the_end_are_handed_over_first_and_the_others_cancelled() -> None:
    together = threading.Barrier(2)

    def script(asked: Asked) -> Answer:
        if asked.text == "question 0":
            together.wait(5)
            return said("first")
        if asked.text == "question 1":
            together.wait(5)
            time.sleep(0.3)
            return error(401, "no")
        time.sleep(5)
        return said("too late")

    start = time.monotonic()
    found = []
    with asking(script, concurrency=3) as (llm, server):
        with pytest.raises(AccessError):
            for position, reply in llm.stream(questions(3)):
                found.append((position, reply.text))
        assert time.monotonic() - start < 3
    assert found == [(0, "first")]
    assert len(server.asked) == 3


def test_where_nobody_listens_the_run_ends_and_asks_whether_it_runs(unused_port: int) -> None:
    llm = OpenAILLM("m", base_url=f"http://127.0.0.1:{unused_port}/v1", retries=2)
    with pytest.raises(AccessError, match=rf"no server answers at http://127.0.0.1:{unused_port}/v1: .*Is it running"):
        llm.complete(questions(100))


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_a_host_that_does_not_exist_is_the_same_error() -> None:
    llm = OpenAILLM("m", base_url="http://no-such-host.invalid/v1", retries=0)
    with pytest.raises(AccessError, match=r"no server answers at http://no-such-host\.invalid/v1"):
        llm.complete([HEN])


def test_a_server_that_goes_away_ends_the_run_and_keeps_what_came() -> None:
    def script(asked: Asked) -> Answer:
        return said("- red") if asked.number < 3 else error(500, "down")

    found = []
    with (
        asking(script, retries=0, concurrency=1) as (llm, server),
        pytest.raises(PartialError, match=r"8 questions in a row unanswered.*down.*What was answered is kept"),
    ):
        for _, reply in llm.stream(questions(100)):
            found.append(reply)
    assert sum(reply.answered for reply in found) == 3
    assert len(found) == len(server.asked) == 11


# one question only


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(400, "too long", "context_length_exceeded"), "unanswered"),
        (error(400, "This model's maximum context length is 96 tokens."), "unanswered"),
        (error(413, "Payload too large"), "unanswered"),
        (error(400, "filtered", "content_filter"), "content_filter"),
        (error(400, "Your request was rejected", "content_policy_violation"), "content_filter"),
    ],
)
def test_a_question_that_is_refused_does_not_stop_the_others(answer: bytes, expected: str) -> None:
    def script(asked: Asked) -> Answer:
        return answer if asked.text == "question 1" else said()

    with asking(script) as (llm, server):
        replies = llm.complete(questions(3))
    assert [reply.finish_reason for reply in replies] == ["stop", expected, "stop"]
    assert len(server.asked) == 3
    assert replies[1].details["error"] and replies[1].details["request"] == llm.requests(Question("question 1"))[0]


@pytest.mark.parametrize(
    ("answer", "text", "reason"),
    [
        (said("- a lo", "length"), "- a lo", "length"),
        (said("- a", "content_filter"), "- a", "content_filter"),
        (said(None, "content_filter"), "", "content_filter"),
        (said(None), "", "stop"),
        (said("- a", None), "- a", "stop"),
        (said("- a", "eos"), "- a", "stop"),
        (said([{"type": "text", "text": "- a"}, {"type": "text", "text": " b"}]), "- a b", "stop"),  # type: ignore[arg-type]
    ],
)
def test_a_reply_is_kept_as_it_is_with_the_reason_of_its_end(answer: bytes, text: str, reason: str) -> None:
    with asking(in_turn(answer)) as (llm, _):
        (reply,) = llm.complete([HEN])
    assert (reply.text, reply.finish_reason) == (text, reason)


def test_of_three_choices_the_first_is_taken_and_their_number_noted() -> None:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("one", "two", "three")]
    with asking(in_turn(response(200, {"choices": choices}, x_request_id="r-1"))) as (llm, _):
        (reply,) = llm.complete([HEN])
    assert (reply.text, reply.details["choices"], reply.details["request_id"]) == ("one", 3, "r-1")
    assert reply.usage == {}


def test_a_refusal_is_a_reply_of_its_own_kind() -> None:
    choice = {"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}
    with asking(in_turn(response(200, {"choices": [choice]}))) as (llm, _):
        (reply,) = llm.complete([HEN])
    assert (reply.text, reply.finish_reason) == ("I cannot.", "refusal")


def test_cached_and_reasoning_tokens_are_counted_where_given() -> None:
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": 5, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    with asking(in_turn(said(usage=usage))) as (llm, _):
        (reply,) = llm.complete([HEN])
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 0, "cached_tokens": 5, "reasoning_tokens": 2}


# refused parameters

REFUSALS = [
    error(400, "Unsupported value: 'temperature' does not support 0.7.", "unsupported_value", "temperature"),
    error(400, "Unsupported parameter: 'temperature' is not supported with this model.", "unsupported_parameter"),
    response(422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "temperature"], "msg": "Extra inputs"}]}),
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_parameter_is_dropped_once_with_a_note_and_stays_dropped(refusal: bytes) -> None:
    def script(asked: Asked) -> Answer:
        return refusal if "temperature" in asked.body else said()

    with asking(script, temperature=0.7, top_p=0.9, concurrency=4) as (llm, server):
        fresh = llm.requests(HEN)
        with pytest.warns(DescbenchWarning, match="refuses temperature, so it is left out") as noted:
            replies = llm.complete([HEN, *questions(20)])
        first = len(server.asked)
        assert len(noted) == 1
        assert all(reply.answered for reply in replies)
        assert first - 21 <= 4  # only what was on its way when it was found out
        llm.complete(questions(3))
        assert len(server.asked) == first + 3
    assert all(body["top_p"] == 0.9 for body in server.bodies)
    assert replies[0].details["refused"] == {"temperature": 0.7}
    assert replies[0].details["request"] == llm.requests(HEN)[0]
    assert replies[0].details["request"] in fresh  # a run that has not learned yet finds the reply


def test_a_limit_goes_by_its_older_name_where_the_newer_is_refused() -> None:
    def script(asked: Asked) -> Answer:
        if "max_completion_tokens" in asked.body:
            return error(400, "Unrecognized request argument supplied: max_completion_tokens")
        return said()

    with asking(script, max_tokens=5) as (llm, server):
        before = llm.requests(HEN)
        (reply,) = llm.complete([HEN])
        assert llm.requests(HEN) == before == [reply.details["request"]]
    assert server.bodies[-1]["max_tokens"] == 5 and len(server.asked) == 2
    assert reply.details["request"]["max_tokens"] == 5 and "refused" not in reply.details


def test_a_limit_that_is_refused_under_both_names_is_an_error() -> None:
    def script(asked: Asked) -> Answer:
        name = next(name for name in asked.body if name.startswith("max_"))
        return error(400, f"Unsupported parameter: {name}", "unsupported_parameter", name)

    with (
        asking(script, max_tokens=5) as (llm, server),
        pytest.raises(InputError, match="Unsupported parameter: max_tokens"),
    ):
        llm.complete([HEN])
    assert len(server.asked) == 2


# the form of a reply


def form_of(asked: Asked) -> str:
    return str(asked.body.get("response_format", {"type": "text"})["type"])


def test_a_schema_is_sent_strictly_and_kept_where_it_is_followed() -> None:
    with asking(in_turn(said(VALID))) as (llm, server):
        replies = llm.complete([FEATURES, Question("again", schema="features"), HEN])
    strict = {"name": "features", "strict": True, "schema": SCHEMAS["features"]}
    asked = {body["messages"][0]["content"]: body.get("response_format") for body in server.bodies}
    assert asked[FEATURES.text] == asked["again"] == {"type": "json_schema", "json_schema": strict}
    assert asked[HEN.text] is None
    assert [reply.details["mode"] for reply in replies] == ["json_schema", "json_schema", "text"]
    assert replies[0].details["request"]["schema"] == "features" and replies[0].details["valid"] is True
    assert len(server.asked) == 3


def ladder(*, json_schema: Answer, json_object: Answer, text: Answer) -> Callable[[Asked], Answer]:
    answers = {"json_schema": json_schema, "json_object": json_object, "text": text}
    return lambda asked: answers[form_of(asked)]


NO_FORM = error(400, "'response_format' of type 'json_schema' is not supported", None, "response_format")
NO_WORD = error(400, "'messages' must contain the word 'json'")
TEXT = said("- a")


@pytest.mark.parametrize(
    ("script", "expected", "tried"),
    [
        (ladder(json_schema=TEXT, json_object=TEXT, text=TEXT), "text", 3),
        (ladder(json_schema=NO_FORM, json_object=said(VALID), text=TEXT), "json_object", 2),
        (ladder(json_schema=NO_FORM, json_object=said('{"other": 1}'), text=TEXT), "text", 3),
        (ladder(json_schema=said('{"features": [1]}'), json_object=said(VALID), text=TEXT), "json_object", 2),
        (ladder(json_schema=NO_FORM, json_object=NO_WORD, text=TEXT), "text", 3),
    ],
    ids=["ignores the schema", "takes json_object only", "gives other JSON", "does not keep to it", "wants a word"],
)
def test_the_ladder_is_climbed_down_once_a_run(script: Any, expected: str, tried: int) -> None:
    forms = ["json_schema", "json_object", "text"][:tried]
    asked = [Question(f"q{number}", schema="features") for number in range(12)]
    with asking(script, concurrency=4) as (llm, server):
        fresh = llm.requests(asked[3])
        with pytest.warns(DescbenchWarning, match=f"asked for as {expected}") as noted:
            replies = llm.complete(asked)
        assert [form_of(one) for one in server.asked[: len(forms)]] == forms  # the first question goes alone
        assert {one.text for one in server.asked[: len(forms)]} == {server.asked[0].text}
        assert [form_of(one) for one in server.asked[len(forms) :]] == [expected] * 11
        llm.complete(asked[:1])
        assert form_of(server.asked[-1]) == expected
    assert len(noted) == 1
    assert {reply.details["mode"] for reply in replies} == {expected}
    assert replies[3].details["request"] == llm.requests(asked[3])[0]
    assert replies[3].details["request"] in fresh


def test_a_form_that_is_named_is_the_one_that_is_asked_for() -> None:
    with asking(in_turn(said("- a")), structured="json_schema") as (llm, server):
        (reply,) = llm.complete([FEATURES])
        assert [r["mode"] for r in llm.requests(FEATURES)] == ["json_schema"]
    assert [form_of(one) for one in server.asked] == ["json_schema"]
    assert (reply.text, reply.details["valid"]) == ("- a", False)
    with (
        asking(in_turn(NO_FORM), structured="json_schema") as (llm, _),
        pytest.raises(InputError, match="Use structured='auto'"),
    ):
        llm.complete([FEATURES])


def test_a_reply_that_was_withheld_shows_nothing_about_the_form() -> None:
    with asking(in_turn(said("", "content_filter"), said(VALID))) as (llm, server):
        replies = llm.complete([FEATURES, Question("next", schema="features"), Question("last", schema="features")])
    assert sorted(reply.finish_reason for reply in replies) == ["content_filter", "stop", "stop"]
    assert {form_of(one) for one in server.asked} == {"json_schema"} and len(server.asked) == 3


def test_a_reply_in_the_form_that_was_cut_off_counts_as_in_the_form() -> None:
    with asking(in_turn(said('{"features": ["re', "length"))) as (llm, server):
        (reply,) = llm.complete([FEATURES])
    assert reply.finish_reason == "length" and len(server.asked) == 1


def test_an_unknown_schema_is_an_error() -> None:
    with (
        asking(in_turn(said())) as (llm, _),
        pytest.raises(InputError, match="no schema 'colour'; there are: features"),
    ):
        llm.complete([Question("q", schema="colour")])


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ({"features": []}, "features", True),
        ({"features": ["a", 1]}, "features", False),
        ({"features": "a"}, "features", False),
        ({"features": [], "more": []}, "features", False),
        ([], "features", False),
        ({"pairs": [{"attribute": "a", "first": "b", "second": "c"}]}, "pairs", True),
        ({"pairs": [{"attribute": "a", "first": "b"}]}, "pairs", False),
        ({"classes": [{"name": "a", "captions": ["b"]}]}, "contrast", True),
        ({"classes": [{"name": "a", "captions": [None]}]}, "contrast", False),
    ],
)
def test_json_fits_a_schema_or_not(value: object, schema: str, expected: bool) -> None:
    assert fits(value, SCHEMAS[schema]) is expected


# streams, loops and threads


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "descbench asks"]


def test_it_works_inside_a_running_event_loop() -> None:
    async def main() -> list[Reply]:
        return llm.complete(questions(5))

    with asking(lambda asked: said(asked.text)) as (llm, _):
        assert [reply.text for reply in asyncio.run(main())] == [f"question {number}" for number in range(5)]
    assert not ours()


def test_a_stream_that_is_closed_early_cancels_the_rest_and_ends_its_thread() -> None:
    def script(asked: Asked) -> Answer:
        time.sleep(0 if asked.number == 0 else 5)
        return said()

    start = time.monotonic()
    with asking(script, concurrency=8) as (llm, server):
        stream = llm.stream(questions(1000))
        next(stream)
        assert len(ours()) == 1
        stream.close()
        assert not ours()
        assert len(server.asked) <= 8
        assert time.monotonic() - start < 3


class Counted(Sequence[Question]):
    """A long list of questions that are made when they are read."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        self.read += 1
        return Question(f"question {index}")


def test_no_more_questions_are_taken_than_replies_are_handled() -> None:
    asked = Counted(10**9)
    with asking(lambda one: said(one.text), concurrency=4) as (llm, server):
        stream = llm.stream(asked)
        for handled, (position, reply) in enumerate(islice(stream, 20)):
            assert reply.text == f"question {position}"
            time.sleep(0.01)
            assert asked.read <= handled + 4  # the one in hand counts until the next is asked for
        stream.close()
        assert server.busiest <= 4
    gc.collect()


def test_as_many_questions_are_on_their_way_as_were_allowed() -> None:
    def script(asked: Asked) -> Answer:
        time.sleep(0.3)
        return said()

    with asking(script, concurrency=40) as (llm, server):
        start = time.monotonic()
        llm.complete(questions(80))
        assert time.monotonic() - start < 2
    assert server.busiest == 40


def test_each_position_comes_once_and_a_repeated_question_is_asked_once() -> None:
    with asking(lambda asked: said(f"{asked.text} {asked.number}")) as (llm, server):
        assert sorted(position for position, _ in llm.stream(questions(50))) == list(range(50))
        before = len(server.asked)
        replies = llm.complete([HEN, Question("other"), HEN])
    assert replies[0] == replies[2] != replies[1]
    assert len(server.asked) == before + 2


def test_an_interrupt_ends_a_run_that_waits() -> None:
    def script(asked: Asked) -> Answer:
        time.sleep(20)
        return said()

    program = (
        "import signal, sys, descbench as db\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may start us with it ignored
        "try: db.llm(sys.argv[1]).complete([db.Question(str(n)) for n in range(100)])\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    with serving(script) as server:
        waiting = subprocess.Popen([sys.executable, "-c", program, f"{server.url}#m"])
        while len(server.asked) < 16:
            assert waiting.poll() is None
            time.sleep(0.05)
        start = time.monotonic()
        waiting.send_signal(signal.SIGINT)
        try:
            assert waiting.wait(15) == 130
        finally:
            waiting.kill()
            waiting.wait()
        assert time.monotonic() - start < 10  # the server answers after 20 s


def test_an_error_of_our_own_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read", lambda *_: 1 / 0)
    with asking(in_turn(said())) as (llm, _), pytest.raises(ZeroDivisionError):
        llm.complete(questions(3))
    assert not ours()


# keys and strangers' texts


def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)

    def script(asked: Asked) -> Answer:
        echo = asked.headers["authorization"]
        if "temperature" in asked.body:
            return error(400, f"Unsupported value: temperature, by {echo}", "unsupported_value", "temperature")
        return error(500, f"You sent {echo} and {KEY[:12]}**** and ...{KEY[-8:]}") if asked.number < 6 else said()

    with (
        asking(script, retries=1, temperature=1, concurrency=1) as (llm, server),
        warnings.catch_warnings(record=True) as noted,
    ):
        warnings.simplefilter("always")
        replies = llm.complete(questions(4))
    assert not all(reply.answered for reply in replies) and any(reply.answered for reply in replies)
    assert all(asked.headers["authorization"] == f"Bearer {KEY}" for asked in server.asked)
    shown = [repr(llm), llm.fingerprint, json.dumps(llm.requests(HEN)), repr(replies), caplog.text]
    shown += [str(warning.message) for warning in noted]
    assert len(noted) == 1 and "[key]" in shown[-1] and "[key]" in repr(replies)
    assert caplog.text
    for text in shown:
        assert not [part for part in (KEY[i : i + 6] for i in range(len(KEY) - 5)) if part in text]


@given(
    st.text(alphabet="sk-abcdefXYZ0123456789_", min_size=12, max_size=40), st.text(max_size=30), st.text(max_size=30)
)
@settings(max_examples=100, deadline=None)
def test_no_key_is_left_in_what_a_server_says(key: str, before: str, after: str) -> None:
    assert key not in hiding(key)(f"{before} {key} {after}")
    assert key[:8] not in hiding(key)(f"x {key[:8]} y")


def test_what_is_no_key_stays_readable() -> None:
    line = "The model `m` does not exist: see https://host.example/docs (code 404)"
    assert hiding(KEY)(line) == line == hiding("")(line)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_what_a_stranger_says_is_one_short_line(text: str) -> None:
    line = one_line(text)
    assert len(line) <= 200 and all(c.isprintable() for c in line)


@given(
    st.sampled_from([200, 301, 400, 401, 404, 413, 422, 429, 500]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "message", "code", "param", "type", "detail", "choices", "usage", "content"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_reply_or_a_fault(status: int, body: object) -> None:
    content = json.dumps(body).encode()
    fault = judge(status, {"retry-after": str(body)}, content, ("temperature",), hiding(KEY))
    assert fault.said and len(fault.said) <= 200
    read(content, {}, {"mode": "text"}, hiding(KEY))
