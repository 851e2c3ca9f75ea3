"""`descbench generate` against a real server: what it asks, keeps, counts, costs, and says when it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from fake_openai import completion
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from descbench.descriptions import Descriptions
from descbench.edits import edited
from descbench.store import ReplyStore

SECRET = "sk-secret-0123456789abcdef"


class Server:
    """Answers as `fake_openai` does, unless `says` has something else for a question that contains its key."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/v1")
        self.llm = f"{self.url}#m"
        self.asked: list[dict[str, Any]] = []
        self.says: dict[str, str | Response] = {}
        server.expect_request("/v1/chat/completions").respond_with_handler(self._reply)

    def _reply(self, request: Request) -> Response:
        body = request.get_json()
        self.asked.append(body)
        text = body["messages"][-1]["content"]
        said = next((said for part, said in self.says.items() if part in text), None)
        if isinstance(said, Response):
            return said
        reply = completion(body)
        if said is not None:
            reply["choices"][0]["message"]["content"] = said
        return Response(json.dumps(reply), content_type="application/json")


@pytest.fixture
def server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr("descbench.llms.openai._FIRST_WAIT", 0.001)
    yield Server(httpserver)
    httpserver.clear()


@pytest.fixture
def classes() -> str:
    return "hen,rooster,emu,turkey"


@pytest.fixture
def prices() -> str:
    Path("prices.json").write_text(json.dumps({"m": {"input": 1.0, "output": 1000.0}}))
    return "prices.json"


def refused(status: int, code: str, message: str = "no") -> Response:
    error = {"error": {"message": message, "code": code, "type": code}}
    return Response(json.dumps(error), status=status, content_type="application/json")


def test_the_same_command_asks_nothing_and_says_what_it_used(run: Run, server: Server, classes: str) -> None:
    first = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert first.code == 0, first.err
    assert "4 classes described; 4 asked, 0 from the cache; written to birds.json" in first.err
    assert f"in all from {server.llm}: 4 replies" in first.err
    content = Path("birds.json").read_text()
    again = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert again.code == 0 and "nothing to ask" in again.err
    Path("birds.json").unlink()
    anew = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert "0 asked, 4 from the cache" in anew.err
    assert Path("birds.json").read_text() == content and len(server.asked) == 4


def test_a_file_that_was_edited_since_is_looked_at_again(run: Run, server: Server, classes: str) -> None:
    run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    path = Path("birds.json")
    data = json.loads(path.read_text())
    data["classes"][0]["texts"] = ["a small red comb"]
    data["classes"][1]["texts"] = []
    path.write_text(json.dumps(data))
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert done.code == 0 and "3 kept from birds.json" in done.err and len(server.asked) == 4
    found = Descriptions.load(path)
    assert found.classes[0] == ["a small red comb"] and found.classes[1]
    assert edited(found) == {(0,): ["a small red comb"]}


def test_a_dry_run_says_what_it_would_send_and_cost_and_sends_nothing(run: Run, server: Server, classes: str) -> None:
    plan = run("generate", classes, "--llm", server.llm, "--dry-run")
    assert plan.code == 0 and server.asked == [] and "nothing was sent" in plan.err
    assert 'a photo shows "hen"' in plan.out and "--- and 3 more like it" in plan.out
    assert "0 replies in the cache, 4 missing: 4 to 12 requests" in plan.out
    assert "completion tokens: unknown, no limit is set" in plan.out and "cost: unknown" in plan.out


def test_a_dry_run_counts_hits_and_bounds_the_cost_by_the_prices(
    run: Run, server: Server, classes: str, prices: str
) -> None:
    run("generate", "hen,rooster", "--llm", server.llm, "--max-tokens", "50")
    done = run(
        "generate", classes, "--llm", server.llm, "--max-tokens", "50", "--dry-run", "--json", "--prices", prices
    )
    plan = json.loads(done.out)
    assert (plan["hits"], plan["misses"], plan["requests"]) == (2, 2, {"least": 2, "most": 6})
    assert ['"emu"' in prompt for prompt in plan["prompts"]] == [True, False]
    sizes = [len(prompt.encode()) + 16 for prompt in plan["prompts"]]
    assert plan["prompt_tokens"] == {"about": round(sum(sizes) / 4), "most": 3 * sum(sizes)}
    assert plan["completion_tokens"] == {"about": 16, "most": 2 * 3 * 50}  # two replies of 8 tokens are kept
    assert plan["cost"]["currency"] == "USD"
    assert plan["cost"]["most"] == pytest.approx((3 * sum(sizes) * 1.0 + 300 * 1000.0) / 1e6)
    assert len(server.asked) == 2


def test_offline_uses_the_cache_alone_and_names_what_is_missing(run: Run, server: Server, classes: str) -> None:
    run("generate", "hen,rooster", "--llm", server.llm, "-o", "two.json")
    done = run("generate", classes, "--llm", server.llm, "--offline", "-o", "birds.json")
    assert done.code == 3 and len(server.asked) == 2
    assert "2 without a description: emu (not in the cache), turkey (not in the cache)" in done.err
    assert list(Descriptions.load("birds.json").classes) == [0, 1]
    replayed = run("generate", "hen,rooster", "--llm", "replay", "-o", "replayed.json")
    assert replayed.code == 0 and len(server.asked) == 2
    for asking in ("--dry-run", "--batch"):
        refused = run("generate", "hen,rooster", "--llm", "replay", asking)
        assert refused.code == 2 and "replay asks nothing" in refused.err
    assert Descriptions.load("replayed.json").classes == Descriptions.load("two.json").classes


def test_a_refresh_asks_about_these_classes_anew_and_keeps_the_rest(run: Run, server: Server, classes: str) -> None:
    run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    server.says = {'"hen"': "- a small comb", '"emu"': "- a long neck"}
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--refresh", "hen")
    assert done.code == 0 and len(server.asked) == 5, done.err
    found = Descriptions.load("birds.json")
    assert found.classes[0] == ["a small comb"] and found.classes[2] != ["a long neck"]
    run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--refresh", "Hen,emu")
    assert len(server.asked) == 7
    assert Descriptions.load("birds.json").classes[2] == ["a long neck"]
    wrong = run("generate", classes, "--llm", server.llm, "--refresh", "hens")
    assert wrong.code == 2 and "hen" in wrong.err and len(server.asked) == 7


def test_a_limit_of_requests_ends_with_code_4_and_the_next_run_goes_on(run: Run, server: Server, classes: str) -> None:
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--max-requests", "3")
    assert done.code == 4 and "the limit of 3 requests is reached" in done.err
    assert len(server.asked) == 3 and not Path("birds.json").exists()
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--max-requests", "3")
    assert done.code == 0 and "1 asked, 3 from the cache" in done.err and len(server.asked) == 4


def test_a_limit_of_cost_is_never_exceeded(run: Run, server: Server, classes: str, prices: str) -> None:
    limit = 0.13  # a question is 0.1 at most, for 100 tokens at 1000 USD a million, and 0.0085 in fact
    options = ["--llm", server.llm, "-o", "birds.json", "--max-tokens", "100", "--prices", prices]
    done = run("generate", classes, *options, "--max-cost", limit)
    assert done.code == 0 and len(server.asked) == 4, done.err
    assert "USD)" in done.err
    Path("birds.json").unlink()
    done = run("generate", classes, *options[:-4], "--max-tokens", "101", "--prices", prices, "--max-cost", "0.05")
    assert done.code == 4 and len(server.asked) == 4
    without = run("generate", classes, "--llm", server.llm, "--max-cost", "1")
    assert without.code == 2 and "--max-cost needs --prices" in without.err
    unknown = run("generate", classes, "--llm", f"{server.url}#other", "--max-cost", "1", "--prices", prices)
    assert unknown.code == 2 and "needs the price of 'other'" in unknown.err


def test_what_says_nothing_usable_is_asked_again_and_then_named_with_the_reason(run: Run, server: Server) -> None:
    server.says = {'"emu"': "I'm sorry, but I can't help with that.", '"hen"': ""}
    done = run("generate", "hen,rooster,emu", "--llm", server.llm, "-o", "birds.json", "--attempts", "2")
    assert done.code == 3
    assert "2 without a description: hen (empty reply), emu (refusal)" in done.err
    assert len(server.asked) == 1 + 2 * 2
    assert "--attempts 4" in done.err
    missing = Descriptions.load("birds.json").provenance["missing"]
    assert missing == [{"classes": ["hen"], "why": "empty reply"}, {"classes": ["emu"], "why": "refusal"}]
    server.says = {}
    done = run("generate", "hen,rooster,emu", "--llm", server.llm, "-o", "birds.json", "--attempts", "3")
    assert done.code == 0 and len(server.asked) == 5 + 2
    assert "missing" not in Descriptions.load("birds.json").provenance


def test_a_question_that_the_server_cannot_answer_costs_no_other_one(run: Run, server: Server, classes: str) -> None:
    server.says = {'"emu"': Response("try later", status=503)}
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert done.code == 3 and "emu (" in done.err and "503" in done.err
    server.says = {}
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json")
    assert done.code == 0 and "1 asked" in done.err


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (401, "invalid_api_key", "Put a valid key into OPENAI_API_KEY"),
        (403, "forbidden", "does not allow this"),
        (429, "insufficient_quota", "quota"),
        (404, "model_not_found", "no model 'm'"),
    ],
)
def test_what_no_retry_can_mend_ends_the_run_with_code_5_and_keeps_what_is_done(
    run: Run, server: Server, classes: str, status: int, code: str, says: str
) -> None:
    server.says = {'"emu"': refused(status, code, f"your key is {SECRET}")}
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--concurrency", "1")
    assert done.code == 5 and says in done.err and SECRET not in done.err
    assert sum('"emu"' in body["messages"][0]["content"] for body in server.asked) == 1
    assert "in all from" in done.err  # what it has used up to there
    server.says = {}
    done = run("generate", classes, "--llm", server.llm, "-o", "birds.json", "--concurrency", "1")
    assert done.code == 0 and "2 asked, 2 from the cache" in done.err


def test_a_key_is_nowhere(run: Run, server: Server, classes: str, tmp_path: Path) -> None:
    server.says = {'"emu"': refused(400, "invalid_value", f"not with the key {SECRET} or {SECRET[:9]}***")}
    commands = [
        ["generate", classes, "--llm", server.llm, "-o", "birds.json"],
        ["generate", classes, "--llm", server.llm, "--dry-run", "--json", "--method", "differential"],
        ["generate", classes, "--llm", server.llm, "--offline"],
        ["cache", "ls", "--json"],
        ["cache", "export", "all.jsonl"],
    ]
    for command in commands:
        done = run(*command)
        assert SECRET not in done.out + done.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_prompt_of_ones_own_fills_the_slots_and_asks_anew(run: Run, server: Server) -> None:
    Path("mine.txt").write_text("Tell me what a $name looks like, among $domain. Use hyphens.")
    done = run("generate", "hen,emu", "--llm", server.llm, "--domain", "birds", "--prompt", "mine.txt", "-o", "b.json")
    assert done.code == 0, done.err
    asked = {body["messages"][0]["content"] for body in server.asked}  # at the same time, so in any order
    assert asked == {f"Tell me what a {name} looks like, among birds. Use hyphens." for name in ("hen", "emu")}
    assert len(server.asked) == 2
    Path("pair.txt").write_text("$first or $second? One vertical bar a line.")
    done = run("generate", "hen,emu", "-m", "differential", "--llm", server.llm, "--prompt", "pair.txt", "-o", "p.json")
    assert done.code == 0 and server.asked[-1]["messages"][0]["content"] == "emu or hen? One vertical bar a line."
    wrong = run("generate", "hen,emu", "--llm", server.llm, "--prompt", "pair.txt")
    assert wrong.code == 2 and "has a slot $first that its method does not fill" in wrong.err
    nothing = run("generate", "hen,emu", "-m", "classname", "--llm", server.llm, "--prompt", "mine.txt")
    assert nothing.code == 2


def test_class_names_are_data(run: Run, server: Server, tmp_path: Path) -> None:
    odd = ["../../escape", "$domain", "{x}", "'; DROP TABLE replies; --", "<script>", "$(touch pwned)"]
    Path("odd.json").write_text(json.dumps(odd))
    before = set(tmp_path.rglob("*"))
    done = run("generate", "odd.json", "--llm", server.llm, "-o", "odd.desc.json")
    assert done.code == 0, done.err
    new = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert new == {"odd.desc.json", "kept"}
    assert len(ReplyStore(tmp_path / "kept" / "replies.sqlite")) == len(odd)
    assert [entry["name"] for entry in json.loads(Path("odd.desc.json").read_text())["classes"]] == odd


def test_an_evaluation_asks_a_replay_and_keeps_nothing_twice(run: Run, server: Server, tmp_path: Path) -> None:
    names = "Ardova lema,Ardova mode"
    run("generate", names, "--llm", server.llm, "--domain", "birds", "-m", "differential", "-o", "pairs.json")
    asked, kept = len(server.asked), len(ReplyStore(tmp_path / "kept" / "replies.sqlite"))
    done = run("evaluate", "demo:n=40", "-m", "fudd(k=2)", "--llm", "replay", "--encoder", "demo")
    assert done.code == 0, done.err
    assert len(server.asked) == asked == kept == len(ReplyStore(tmp_path / "kept" / "replies.sqlite"))


def test_with_rivals_each_class_is_asked_only_against_its_nearest(run: Run, server: Server) -> None:
    names = "Ardova lema,Ardova mode,Belquin pobu,Corvell paril"
    options = ["--domain", "birds", "--llm", server.llm, "-m", "comparative", "--encoder", "demo"]
    done = run("generate", names, *options, "--rivals", "1", "-o", "near.json")
    assert done.code == 0, done.err
    pairs = Descriptions.load("near.json").pairs
    assert 2 <= len(pairs) <= 4 and {i for pair in pairs for i in pair} == {0, 1, 2, 3}
    assert len(server.asked) == 2 * len(pairs)  # both sides of a pair
    assert run("generate", names, *options, "--rivals", "1", "-o", "near.json").err.endswith("nothing to ask\n")
    run("generate", names, *options, "-o", "near.json")
    assert len(Descriptions.load("near.json").pairs) == 6
