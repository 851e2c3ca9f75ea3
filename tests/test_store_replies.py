"""The reply cache: nothing is asked twice, and nothing that was answered is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from descbench.errors import DescbenchError, DescbenchWarning, InputError
from descbench.prompts import Question, Reply
from descbench.store import CachedLLM, ReplyStore


class Echo:
    """Answers with the question, counted; after `fails_after` questions it fails."""

    name = "echo"
    fingerprint = "echo/1"

    def __init__(self, fails_after: int | None = None, mark: str = "") -> None:
        self.seen: list[Question] = []
        self.fails_after = fails_after
        self.mark = mark

    def __repr__(self) -> str:
        return "echo"

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        replies = []
        for question in questions:
            if len(self.seen) == self.fails_after:
                raise DescbenchError("the server went away")
            self.seen.append(question)
            text = f"{self.mark}{question.text}/{question.sample}"
            replies.append(Reply(text, "stop", "echo-1", {"prompt_tokens": 2, "completion_tokens": 3}))
        return replies


class Streaming(Echo):
    """The same, handing over each reply as it arrives: the last question first."""

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        for index in reversed(range(len(questions))):
            yield index, self.complete([questions[index]])[0]


def questions(n: int) -> list[Question]:
    return [Question(f"what is {i}?", prompt="dclip") for i in range(n)]


@pytest.mark.parametrize("kind", [Echo, Streaming])
def test_what_is_kept_is_not_asked_again_and_the_order_is_that_of_the_questions(tmp_path: Path, kind: type) -> None:
    asked = [*questions(40), Question("what is 0?"), Question("what is 0?", sample=1)]
    expected = [f"{q.text}/{q.sample}" for q in asked]
    for run in range(2):
        inner = kind()
        llm = CachedLLM(inner, ReplyStore(tmp_path / "deep" / "replies.sqlite"))
        assert [reply.text for reply in llm.complete(asked)] == expected
        assert len(inner.seen) == (41 if run == 0 else 0)  # "what is 0?" is one request, whatever the prompt is called
        assert (llm.hits, llm.asked) == ((0, 41) if run == 0 else (41, 0))
        assert llm.usage.total() == (41 * 5 if run == 0 else 0)
    assert (llm.name, llm.fingerprint, repr(llm)) == ("echo", "echo/1", "echo")


def test_a_reply_comes_back_whole(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    question = Question("naïve 🐦 {x}$y\n'\"", 3, "differential")
    reply = Reply("- a\n\x00 ü 🐦", "length", "model-7", {"prompt_tokens": 1})
    store.keep("f", question, reply)
    store.close()
    store = ReplyStore(tmp_path / "r.sqlite")
    assert store.find("f", [question]) == {question: reply}
    assert store.find("g", [question]) == {}
    assert store.find("f", [Question(question.text, 4)]) == {}
    assert store.keep("f", Question("half an emoji"), Reply("\ud83d")).text == "?"


def test_a_row_holds_the_request_and_what_it_came_from(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.keep("f", Question("t", 2, "dclip"), Reply("r", "stop", "m", {"completion_tokens": 9}))
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM replies").fetchone())
    connection.close()
    assert json.loads(row["request"]) == {"version": 1, "llm": "f", "text": "t", "sample": 2}
    assert (row["text"], row["finish_reason"], row["model"], row["prompt"]) == ("r", "stop", "m", "dclip")
    assert json.loads(row["usage"]) == {"completion_tokens": 9}
    assert "python" in json.loads(row["versions"])
    assert row["time"].startswith("20")


@pytest.mark.parametrize(("kind", "kept"), [(Echo, 32), (Streaming, 39)])
def test_what_was_answered_before_a_failure_is_kept(tmp_path: Path, kind: type, kept: int) -> None:
    with pytest.raises(DescbenchError, match="went away"):
        CachedLLM(kind(fails_after=39), ReplyStore(tmp_path / "r.sqlite")).complete(questions(40))
    inner = kind()
    llm = CachedLLM(inner, ReplyStore(tmp_path / "r.sqlite"))
    llm.complete(questions(40))
    assert (llm.hits, llm.asked, len(inner.seen)) == (kept, 40 - kept, 40 - kept)


def test_a_language_model_that_leaves_questions_out_is_an_error(tmp_path: Path) -> None:
    class Short(Echo):
        def complete(self, questions: Sequence[Question]) -> list[Reply]:
            return super().complete(questions)[:-1]

    with pytest.raises(DescbenchError, match="answered 4 of 5 questions"):
        CachedLLM(Short(), ReplyStore(tmp_path / "r.sqlite")).complete(questions(5))


def test_an_entry_that_was_changed_is_reported_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    CachedLLM(Echo(), ReplyStore(path)).complete(questions(2))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE replies SET request = replace(request, 'what is 0', 'what is 7')")
    connection.close()
    inner = Echo(mark="new ")
    with pytest.warns(DescbenchWarning, match="holds another request than its key says"):
        replies = CachedLLM(inner, ReplyStore(path)).complete(questions(2))
    assert [reply.text for reply in replies] == ["new what is 0?/0", "what is 1?/0"]
    assert CachedLLM(Echo(), ReplyStore(path)).complete(questions(2)) == replies


def test_who_is_first_wins_so_that_all_processes_see_one_reply(tmp_path: Path) -> None:
    first, second = ReplyStore(tmp_path / "r.sqlite"), ReplyStore(tmp_path / "r.sqlite")
    assert first.keep("f", Question("q"), Reply("one")).text == "one"
    assert second.keep("f", Question("q"), Reply("two")).text == "one"


CHILD = """
import sys, time
from descbench.prompts import Question, Reply
from descbench.store import CachedLLM, ReplyStore

class Slow:
    name = fingerprint = "slow"
    def stream(self, questions):
        for index, question in enumerate(questions):
            time.sleep(float(sys.argv[4]))
            yield index, Reply(question.text.upper())
            print(index, flush=True)

llm = CachedLLM(Slow(), ReplyStore(sys.argv[1]))
llm.complete([Question(f"q{i}") for i in range(int(sys.argv[2]), int(sys.argv[3]))])
"""


def child(path: Path, first: int, last: int, pause: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(path), str(first), str(last), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    running = [child(path, start, start + 150, 0.0) for start in (0, 50, 100)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = ReplyStore(path)
    assert len(store) == 250
    asked = [Question(f"q{i}") for i in range(250)]
    assert {q.text: r.text for q, r in store.find("slow", asked).items()} == {f"q{i}": f"Q{i}" for i in range(250)}


def test_a_killed_process_loses_nothing_that_had_arrived(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    process = child(path, 0, 10_000, 0.01)
    assert process.stdout is not None and process.stderr is not None
    arrived = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert arrived == list(range(20))
    found = ReplyStore(path).find("slow", [Question(f"q{i}") for i in range(20)])
    assert [reply.text for reply in found.values()] == [f"Q{i}" for i in range(20)]


def test_a_writer_waits_for_another_one(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    ReplyStore(path).close()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    process = child(path, 0, 1, 0.0)
    time.sleep(1.0)
    blocker.execute("COMMIT")
    blocker.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(ReplyStore(path)) == 1


def test_a_file_that_cannot_serve_is_one_clear_line(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("this is not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(InputError, match=r"text.sqlite' cannot be used: [^\n]*damaged or no SQLite file[^\n]*$"):
        ReplyStore(text)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(InputError, match="another program's SQLite file"):
        ReplyStore(foreign)
    newer = tmp_path / "newer.sqlite"
    ReplyStore(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(InputError, match="has schema 9, and this version of descbench knows 1"):
        ReplyStore(newer)
    with pytest.raises(InputError, match="cannot be used"):
        ReplyStore(text / "below a file.sqlite")
    with pytest.raises(InputError, match="cannot be used"):
        ReplyStore(tmp_path)


def test_a_damaged_page_is_one_clear_line_and_not_a_wrong_reply(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    store = ReplyStore(path)
    for question in questions(200):
        store.keep("f", question, Reply("x" * 200))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        ReplyStore(path).find("f", questions(200))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the users of a Unix")
def test_a_file_that_cannot_be_written_is_one_clear_line_before_anything_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    ReplyStore(path).close()
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        if os.access(path, os.W_OK):
            pytest.skip("this user may write anything")
        with pytest.raises(InputError, match="Make it writable"):
            ReplyStore(path)
    finally:
        tmp_path.chmod(0o755)
