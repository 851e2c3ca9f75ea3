"""`descbench cache`: what it shows, carries elsewhere and deletes; and that it deletes nothing unasked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from conftest import Run
from faults import only_read

from descbench.prompts import Question, Reply
from descbench.store import CachedEncoder, ReplyStore
from descbench.store.replies import canonical, plain_request
from descbench.testing import FakeEncoder


@pytest.fixture
def kept(tmp_path: Path) -> ReplyStore:
    store = ReplyStore(tmp_path / "kept" / "replies.sqlite")
    for name in ("hen", "rooster", "emu"):
        question = Question(f'What does a "{name}" look like?', prompt="dclip")
        usage = {"prompt_tokens": 10, "completion_tokens": 20}
        reply = Reply(f"- the look of a {name}\x1b[2J", "stop", "gpt-7-2026", usage, {"mode": "text"})
        store.keep(canonical(plain_request("f", question)), question, reply, "openai:gpt-7")
    return store


def test_ls_counts_replies_and_tokens_by_model_and_prompt(run: Run, kept: ReplyStore) -> None:
    done = run("cache", "ls")
    assert done.code == 0
    assert done.out.startswith("openai:gpt-7  dclip  3 replies  30 + 60 tokens  ")
    (row,) = json.loads(run("cache", "ls", "--json").out)["replies"]
    assert (row["llm"], row["model"], row["replies"], row["completion_tokens"]) == ("openai:gpt-7", "gpt-7-2026", 3, 60)


def test_show_finds_by_text_and_by_key_and_obeys_no_terminal_code(run: Run, kept: ReplyStore) -> None:
    by_text = run("cache", "show", '"rooster"')
    assert "the look of a rooster" in by_text.out and "hen" not in by_text.out and "\x1b" not in by_text.out
    key = by_text.out.split()[0]
    assert run("cache", "show", key).out == by_text.out
    (entry,) = json.loads(run("cache", "show", key, "--json").out)
    assert entry["text"].endswith("\x1b[2J") and entry["request"]["text"] == 'What does a "rooster" look like?'
    nothing = run("cache", "show", "ostrich")
    assert nothing.code == 2 and "no reply whose key starts with 'ostrich'" in nothing.err


def test_an_export_goes_to_a_file_or_to_stdout_and_comes_in_elsewhere(
    run: Run, kept: ReplyStore, tmp_path: Path
) -> None:
    out = run("cache", "export").out
    assert len(out.splitlines()) == 3
    assert run("cache", "export", "all.jsonl").out == ""
    assert Path("all.jsonl").read_text(encoding="utf-8") == out
    done = run("cache", "import", "all.jsonl", "--cache-dir", "elsewhere")
    assert done.code == 0 and "3 new, 0 known" in done.err
    Path("broken.jsonl").write_text("{\n" + out, encoding="utf-8")
    done = run("cache", "import", "broken.jsonl", "--cache-dir", "elsewhere", "--json")
    assert done.code == 3 and "1 lines refused: 1 (not valid JSON)" in done.err
    (told,) = json.loads(done.out)
    assert told["known"] == 3 and told["refused"] == [{"line": 1, "why": "not valid JSON"}]


def test_prune_deletes_only_when_told_twice(run: Run, kept: ReplyStore) -> None:
    assert run("cache", "prune").code == 2
    assert "3 replies would be deleted" in run("cache", "prune", "--llm", "openai:gpt-7").err
    assert len(kept) == 3
    assert run("cache", "prune", "--before", "yesterday").code == 2
    assert "0 replies would be deleted" in run("cache", "prune", "--before", "2000-01-01").err
    assert "3 replies deleted; 0 are left" in run("cache", "prune", "--llm", "openai:gpt-7", "--yes").err
    assert len(kept) == 0


def test_a_cache_that_may_only_be_read_is_shown_and_not_pruned(run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        where = ("--cache-dir", folder)
        store = ReplyStore(Path(folder, "replies.sqlite"))
        question = Question("What does a hen look like?", prompt="dclip")
        store.keep(canonical(plain_request("f", question)), question, Reply("- a comb"), "openai:gpt-7")
        store.close()
        CachedEncoder(FakeEncoder(), Path(folder, "features")).encode_texts(["a hen"])
        with only_read(Path(folder)):
            done = run("cache", "ls", *where)
            assert done.code == 0 and "1 replies" in done.out and "0 images, 1 texts" in done.out
            assert "- a comb" in run("cache", "show", "hen look", *where).out
            assert len(run("cache", "export", *where).out.splitlines()) == 1
            assert "1 replies would be deleted" in run("cache", "prune", "--prompt", "dclip", *where).err
            for what in (["--prompt", "dclip"], ["--features"]):
                done = run("cache", "prune", *what, "--yes", *where)
                assert done.code == 2 and "writable" in done.err and len(done.err.splitlines()) == 1
        assert "1 replies deleted" in run("cache", "prune", "--prompt", "dclip", "--yes", *where).err


@pytest.mark.parametrize("command", [["ls"], ["show", "hen"], ["export"], ["prune", "--superseded"]])
def test_where_there_is_no_cache_none_is_made(run: Run, command: list[str], tmp_path: Path) -> None:
    done = run("cache", *command)
    assert done.code == 2 and "no reply cache" in done.err and not (tmp_path / "kept").exists()
    assert run("cache", "import", "nowhere.jsonl").code == 2
