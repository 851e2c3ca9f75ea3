"""The reply cache: nothing is asked twice, and nothing that was answered is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from faults import only_read, room

from descbench.errors import DescbenchError, DescbenchWarning, InputError
from descbench.prompts import Question, Reply
from descbench.store import CachedLLM, ReplyStore
from descbench.store.replies import canonical, key_of, plain_request


def asked(fingerprint: str, question: Question) -> str:
    """The canonical request of a plain language model."""
    return canonical(plain_request(fingerprint, question))


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
    all_asked = [*questions(40), Question("what is 0?"), Question("what is 0?", sample=1)]
    expected = [f"{q.text}/{q.sample}" for q in all_asked]
    for run in range(2):
        inner = kind()
        llm = CachedLLM(inner, ReplyStore(tmp_path / "deep" / "replies.sqlite"))
        assert [reply.text for reply in llm.complete(all_asked)] == expected
        assert len(inner.seen) == (41 if run == 0 else 0)  # "what is 0?" is one request, whatever the prompt is called
        assert (llm.hits, llm.asked) == ((0, 41) if run == 0 else (41, 0))
        assert llm.usage.total() == (41 * 5 if run == 0 else 0)
    assert (llm.name, llm.fingerprint, repr(llm)) == ("echo", "echo/1", "echo")


def test_a_reply_comes_back_whole(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    question = Question("naïve 🐦 {x}$y\n'\"", 3, "differential")
    reply = Reply("- a\n\x00 ü 🐦", "length", "model-7", {"prompt_tokens": 1}, {"request_id": "r-1", "mode": "text"})
    request = asked("f", question)
    store.keep(request, question, reply)
    store.close()
    store = ReplyStore(tmp_path / "r.sqlite")
    assert store.find([request]) == {request: reply}
    assert store.find([asked("g", question)]) == {}
    assert store.find([asked("f", Question(question.text, 4))]) == {}
    half = Question("half an emoji")
    assert store.keep(asked("f", half), half, Reply("\ud83d")).text == "?"


def test_a_row_holds_the_request_and_what_it_came_from(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    question = Question("t", 2, "dclip")
    store.keep(asked("f", question), question, Reply("r", "stop", "m", {"completion_tokens": 9}), "openai:m")
    store.close()
    with sqlite3.connect(tmp_path / "r.sqlite") as connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM replies").fetchone())
    connection.close()
    assert json.loads(row["request"]) == {"version": 1, "llm": "f", "text": "t", "sample": 2}
    assert (row["text"], row["finish_reason"], row["model"], row["prompt"]) == ("r", "stop", "m", "dclip")
    assert (row["llm"], row["completion_tokens"], row["prompt_tokens"], row["superseded"]) == ("openai:m", 9, 0, "")
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
    question = Question("q")
    assert first.keep(asked("f", question), question, Reply("one")).text == "one"
    assert second.keep(asked("f", question), question, Reply("two")).text == "one"


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
    for i in range(250):
        (reply,) = store.find([asked("slow", Question(f"q{i}"))]).values()
        assert reply.text == f"Q{i}"


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
    requests = [asked("slow", Question(f"q{i}")) for i in range(20)]
    found = ReplyStore(path).find(requests)
    assert [found[request].text for request in requests] == [f"Q{i}" for i in range(20)]


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
    with pytest.raises(InputError, match="has schema 9, and this version of descbench knows 2"):
        ReplyStore(newer)
    with pytest.raises(InputError, match="cannot be used"):
        ReplyStore(text / "below a file.sqlite")
    with pytest.raises(InputError, match="cannot be used"):
        ReplyStore(tmp_path)


def test_a_damaged_page_is_one_clear_line_and_not_a_wrong_reply(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    store = ReplyStore(path)
    for question in questions(200):
        store.keep(asked("f", question), question, Reply("x" * 200))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        ReplyStore(path).find([asked("f", question) for question in questions(200)])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the users of a Unix")
def test_a_file_that_cannot_be_written_is_one_clear_line_before_anything_is_asked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.sqlite")
        ReplyStore(path).close()
        with only_read(Path(folder)), pytest.raises(InputError, match=r"Make it writable[^\n]*$"):
            ReplyStore(path)


def test_replies_are_read_where_the_file_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.sqlite")
        store = ReplyStore(path)
        CachedLLM(Echo(), store).complete(questions(3))
        store.close()
        requests = [asked("echo/1", question) for question in questions(3)]
        with only_read(Path(folder)):
            reader = ReplyStore(path, to_read=True)
            assert len(reader) == len(reader.find(requests)) == 3
            with pytest.raises(InputError, match="cannot be used"):
                reader.write("DELETE FROM replies")
            reader.close()
        writer = ReplyStore(path)  # somebody has it open, and its log holds what is not in the file yet
        writer.keep(asked("echo/1", Question("late")), Question("late"), Reply("yes"))
        with only_read(Path(folder)):
            reader = ReplyStore(path, to_read=True)
            assert len(reader) == 4
            reader.close()
        writer.close()


def test_a_full_disk_is_one_clear_line_and_what_was_kept_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    store = ReplyStore(path)
    CachedLLM(Echo(), store).complete(questions(3))
    with room(100_000), pytest.raises(InputError, match=r"cannot be used: .* see that the disk has room"):
        for number in range(100):
            store.keep(asked("f", Question(f"long {number}")), Question(f"long {number}"), Reply("x" * 10_000))
    store.close()
    kept = ReplyStore(path)
    assert len(kept.find([asked("echo/1", question) for question in questions(3)])) == 3
    for text, *_ in kept.rows("SELECT text FROM replies WHERE text LIKE 'x%'"):
        assert text == "x" * 10_000
    kept.close()
    with room(1), pytest.raises(InputError, match="see that the disk has room"):
        ReplyStore(path)
    with room(1):
        assert len(ReplyStore(path, to_read=True)) >= 3


def first_version(path: Path, requests: Sequence[str]) -> None:
    """A cache as the first version of descbench wrote it."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE replies (key TEXT PRIMARY KEY, request TEXT NOT NULL, text TEXT NOT NULL, "
            "finish_reason TEXT NOT NULL, model TEXT NOT NULL, usage TEXT NOT NULL, prompt TEXT NOT NULL, "
            "time TEXT NOT NULL, versions TEXT NOT NULL)"
        )
        usage = '{"prompt_tokens": 5, "completion_tokens": 7}'
        for request in requests:
            row = (key_of(request), request, "- a comb", "stop", "m", usage, "dclip", "2026-11-01T00:00:00+00:00", "{}")
            connection.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute(f"PRAGMA application_id = {0x64736362}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_cache_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    first_version(tmp_path / "r.sqlite", [asked("echo/1", question) for question in questions(3)])
    for _ in range(2):
        inner = Echo()
        store = ReplyStore(tmp_path / "r.sqlite")
        replies = CachedLLM(inner, store).complete(questions(3))
        assert [reply.text for reply in replies] == ["- a comb"] * 3 and inner.seen == []
        assert len(store.recall(questions(3))) == 3
        assert store.usage("") == {"replies": 3, "prompt_tokens": 15, "completion_tokens": 21}
        store.close()


def test_a_refreshed_reply_counts_and_the_earlier_one_stays_as_superseded(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    CachedLLM(Echo(), store).complete(questions(2))
    for mark in ("new ", "newer "):
        (reply,) = CachedLLM(Echo(mark=mark), store, refresh=True).complete(questions(1))
        assert reply.text == f"{mark}what is 0?/0"
    inner = Echo()
    replies = CachedLLM(inner, store).complete(questions(2))
    assert [reply.text for reply in replies] == ["newer what is 0?/0", "what is 1?/0"] and inner.seen == []
    assert len(store) == 2
    assert sorted(row[0] for row in store.rows("SELECT text FROM replies WHERE superseded <> ''")) == [
        "new what is 0?/0",
        "what is 0?/0",
    ]
    assert store.usage("echo")["replies"] == 4  # all of them were paid for


class Falls(Echo):
    """Sends "precise", and falls back to "plain" where the server refuses: it says under which request it answers."""

    def requests(self, question: Question) -> list[dict[str, object]]:
        return [{"text": question.text, "mode": mode} for mode in ("precise", "plain")]

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        replies = super().complete(questions)
        return [
            Reply(reply.text, details={"request": self.requests(question)[1], "mode": "plain"})
            for question, reply in zip(questions, replies, strict=True)
        ]


def test_a_reply_to_what_was_sent_instead_is_found_by_a_run_that_has_learned_nothing_yet(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    CachedLLM(Falls(), store).complete(questions(2))
    assert {json.loads(row[0])["mode"] for row in store.rows("SELECT request FROM replies")} == {"plain"}
    inner = Falls()
    replies = CachedLLM(inner, store).complete(questions(2))
    assert inner.seen == [] and [reply.details for reply in replies] == [{"mode": "plain"}] * 2


def test_a_question_that_stayed_unanswered_is_not_kept_and_is_asked_again(tmp_path: Path) -> None:
    class Busy(Echo):
        def complete(self, questions: Sequence[Question]) -> list[Reply]:
            return [
                Reply.unanswered("503 after 6 tries") if "1" in question.text else reply
                for question, reply in zip(questions, super().complete(questions), strict=True)
            ]

    store = ReplyStore(tmp_path / "r.sqlite")
    llm = CachedLLM(Busy(), store)
    assert [reply.answered for reply in llm.complete(questions(3))] == [True, False, True]
    assert (llm.asked, llm.unanswered, len(store)) == (2, 1, 2)
    inner = Echo()
    assert all(reply.answered for reply in CachedLLM(inner, store).complete(questions(3)))
    assert [question.text for question in inner.seen] == ["what is 1?"]


def test_a_file_that_another_process_is_making_at_this_moment_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, makers = tmp_path / "replies.sqlite", list[threading.Thread]()

    class Interrupted(sqlite3.Connection):
        """Once it has read that the file is nobody's, the other one has half a second to make it."""

        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
            if statement == "PRAGMA user_version" and not makers:
                makers.append(threading.Thread(target=lambda: ReplyStore(path).close()))
                makers[0].start()
                makers[0].join(0.5)
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Interrupted))
    with contextlib.closing(ReplyStore(path)) as store:
        makers[0].join()
        assert len(store) == 0
