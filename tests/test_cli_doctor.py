"""What doctor says is tried: a machine that works, and each thing that does not."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from conftest import Done, Run

from descbench.cli.doctor import PACKAGES


def states(done: Done) -> dict[str, tuple[str, str]]:
    """The state and the words of each finding, of several with one name the last."""
    return {entry["what"]: (entry["state"], entry["told"]) for entry in json.loads(done.out)}


def test_where_all_works_every_row_says_so_and_the_demo_has_recognised_a_bird(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    run("evaluate", "demo:n=8", "-m", "classname")
    done = run("doctor", "--llm", "demo", "--encoder", "demo", "--json", "--device", "cpu")
    found = states(done)
    assert done.code == 0 and "wrong" not in {state for state, _ in found.values()}
    assert all(package in found["packages"][1] for package in PACKAGES)
    assert found["demo"][1].startswith("its CLIP knows Belquin zekon by its traits")
    assert found["features"][1].startswith("8 images and ")
    assert "128 dimensions" in found["encoder"][1] and "answered " in found["llm"][1]
    assert found["openai"] == ("ok", "OPENAI_API_KEY is set") and "secret" not in done.out
    lines = run("doctor", "--device", "cpu").out.splitlines()
    assert lines[0].split()[:2] == ["ok", "descbench"] and len(lines) >= 8


def test_what_does_not_work_is_named_and_the_rest_is_still_looked_at(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    cache.mkdir()
    with sqlite3.connect(cache / "replies.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    done = run("doctor", "--device", "cuda:77", "--llm", "http://127.0.0.1:9/v1#none", "--json")
    found = states(done)
    assert done.code == 3 and done.err == ""
    assert {what for what, (state, _) in found.items() if state == "wrong"} == {"device", "demo", "replies", "llm"}
    assert "cuda:77" in found["device"][1] and "no server answers at http://127.0.0.1:9/v1" in found["llm"][1]
    assert found["cache"][0] == "ok" and found["packages"][0] == "ok"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be written")
def test_a_cache_that_may_only_be_read_is_worth_a_note(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    cache.mkdir(mode=0o555)
    assert states(run("doctor", "--json"))["cache"][0] == "note"
