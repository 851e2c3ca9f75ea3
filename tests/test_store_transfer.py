"""Replies as JSON lines: whole, sorted, and merged without losing either side."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from descbench.prompts import Question, Reply
from descbench.store import ReplyStore
from descbench.store.replies import canonical, plain_request
from descbench.store.transfer import Filter, export, import_

JSON = st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(json.dumps)


def keep(
    store: ReplyStore, text: str, reply: str, llm: str = "one", prompt: str = "dclip", refresh: bool = False
) -> None:
    question = Question(text, prompt=prompt)
    usage = {"prompt_tokens": 3, "completion_tokens": len(reply)}
    answer = Reply(reply, "stop", f"{llm}-2026", usage, {"request_id": f"id of {text}"})
    store.keep(canonical(plain_request(llm, question)), question, answer, llm, refresh=refresh)


def filled(path: Path) -> ReplyStore:
    store = ReplyStore(path)
    for number in range(5):
        keep(
            store, f"q{number}", f"- a comb {number} 🐦", "one" if number < 3 else "two", "dclip" if number else "other"
        )
    keep(store, "q1", "- newer", refresh=True)
    return store


def test_an_export_read_into_another_cache_gives_the_same_export(tmp_path: Path) -> None:
    lines = list(export(filled(tmp_path / "a.sqlite")))
    assert len(lines) == 6
    other = ReplyStore(tmp_path / "b.sqlite")
    done = import_(other, lines)
    assert (done.new, done.known, done.other, done.refused) == (6, 0, 0, [])
    assert list(export(other)) == lines
    assert other.usage("one") == {"replies": 4, "prompt_tokens": 12, "completion_tokens": 3 * 12 + 7}
    again = import_(other, lines)
    assert (again.new, again.known) == (0, 6)


def test_an_export_has_one_sorted_json_object_a_line(tmp_path: Path) -> None:
    lines = list(export(filled(tmp_path / "a.sqlite")))
    entries = [json.loads(line) for line in lines]
    assert [(entry["key"], entry["superseded"]) for entry in entries] == sorted(
        (entry["key"], entry["superseded"]) for entry in entries
    )
    assert all("\n" not in line and list(json.loads(line)) == sorted(json.loads(line)) for line in lines)
    assert all(entry["request"]["llm"] == entry["llm"] for entry in entries)
    assert "🐦" in "".join(lines)  # a person can read it


def test_an_export_takes_what_the_filter_says(tmp_path: Path) -> None:
    store = filled(tmp_path / "a.sqlite")
    sizes = {
        Filter(llm="two"): 2,
        Filter(prompt="other"): 1,
        Filter(superseded=True): 1,
        Filter(superseded=False): 5,
        Filter(llm="one", prompt="dclip", superseded=False): 2,
        Filter(before="2000-01-01"): 0,
        Filter(): 6,
    }
    assert {which: len(list(export(store, which))) for which in sizes} == sizes


def test_what_is_there_stays_when_an_export_has_another_reply(tmp_path: Path) -> None:
    first, second = ReplyStore(tmp_path / "a.sqlite"), ReplyStore(tmp_path / "b.sqlite")
    keep(first, "q", "ours")
    keep(second, "q", "theirs")
    keep(second, "p", "new")
    done = import_(first, export(second))
    assert (done.new, done.known, done.other) == (1, 0, 1)
    assert {json.loads(line)["text"] for line in export(first)} == {"ours", "new"}


def test_a_broken_line_is_named_and_the_others_come_in(tmp_path: Path) -> None:
    lines = list(export(filled(tmp_path / "a.sqlite")))
    changed = json.loads(lines[1])
    changed["request"]["text"] = "another question"
    short = json.loads(lines[2])
    del short["usage"]
    broken = ["<<<<<<< ours", lines[0], json.dumps(changed), json.dumps(short), "", "[1]", *lines[3:]]
    other = ReplyStore(tmp_path / "b.sqlite")
    done = import_(other, broken)
    assert done.new == 4
    assert done.refused == [
        (1, "not valid JSON"),
        (3, "its key is not that of its request"),
        (4, "no 'usage'"),
        (6, "not a JSON object"),
    ]


def test_many_replies_are_exported_in_order_and_imported_whole(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "a.sqlite")
    for number in range(2500):
        keep(store, f"q{number}", str(number))
    lines = list(export(store))
    assert len(lines) == 2500
    other = ReplyStore(tmp_path / "b.sqlite")
    assert import_(other, lines).new == 2500
    assert list(export(other)) == lines


@given(st.text(max_size=60) | JSON)
def test_no_line_breaks_an_import(line: str) -> None:
    store = ReplyStore(":memory:")
    done = import_(store, [line])
    assert done.new == 0 and len(done.refused) == bool(line.strip())
    store.close()
