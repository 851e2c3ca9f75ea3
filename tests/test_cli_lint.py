"""`descbench lint`: its report, its JSON, its exit codes, and what --fix writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from descbench.descriptions import Descriptions
from descbench.lint import CODES

SHARED = Path(__file__).parents[2] / "shared" / "data" / "descriptions"
published = pytest.mark.skipif(not SHARED.is_dir(), reason="no published descriptions beside this checkout")

FILE = {
    "hen": ["a red comb", "a red comb", "- Red legs", "no teeth", "no ears", "no fur"],
    "duck": ["a flat bill", "1.", "smaller than a hen"],
    "wug": [],
}


@pytest.fixture
def run(run: Run) -> Run:
    """Run `descbench lint` in a folder with birds.json (`FILE`)."""
    Path("birds.json").write_text(json.dumps(FILE))
    return lambda *arguments: run("lint", *arguments)


def test_the_report_counts_by_code_and_then_shows_findings(run: Run) -> None:
    done = run("birds.json")
    assert done.code == 3  # an empty class and a text that says nothing
    lines = done.out.splitlines()
    assert lines[0] == "birds.json: 3 classes, 9 texts"
    counts = [line.split()[:3] for line in lines[1 : lines.index("")]]
    assert counts == [
        ["1", "error", "empty"],
        ["1", "error", "junk"],
        ["1", "warning", "duplicate"],
        ["1", "warning", "rival-name"],
        ["3", "warning", "negation"],
        ["1", "warning", "markup"],
    ]
    assert any(line.startswith('  duck: "smaller than a hen" (names hen') for line in lines)
    assert any(line.startswith("  wug: no description") for line in lines)


def test_max_limits_what_is_shown_and_says_how_many_more_there_are(run: Run) -> None:
    shown = run("birds.json", "--max", 1).out
    assert [text in shown for text in ('"no teeth"', '"no ears"', "and 2 more: --only negation --max 0")] == [
        True,
        False,
        True,
    ]
    assert '"no fur"' in run("birds.json", "--max", 0).out


def test_only_keeps_one_code_in_the_report_and_in_the_exit_code(run: Run) -> None:
    done = run("birds.json", "--only", "negation", "--json")
    assert done.code == 0
    assert json.loads(done.out)["counts"] == {"negation": 3}


def test_json_has_every_finding(run: Run) -> None:
    done = run("birds.json", "--json", "--max", 1)
    found = json.loads(done.out)
    assert (found["classes"], found["pairs"], found["texts"]) == (3, 0, 9)
    assert sum(found["counts"].values()) == len(found["findings"]) == 8
    (rival,) = [finding for finding in found["findings"] if finding["code"] == "rival-name"]
    assert (rival["class"], rival["ids"], rival["text"]) == ("duck", [1, 0], "smaller than a hen")


def test_fix_writes_a_new_file_and_leaves_the_first_as_it_is(run: Run) -> None:
    before = Path("birds.json").read_bytes()
    done = run("birds.json", "--fix", "-o", "new.json")
    assert Path("birds.json").read_bytes() == before
    assert Descriptions.load("new.json").classes == {
        0: ["a red comb", "Red legs", "no teeth", "no ears", "no fur"],
        1: ["a flat bill", "smaller than a hen"],
    }
    assert "2 texts dropped and 1 changed, 5 findings left" in done.err
    assert done.code == 3  # the empty class is still empty
    again = run("new.json", "--fix", "-o", "newer.json")
    assert "0 texts dropped and 0 changed" in again.err
    assert Descriptions.load("newer.json").classes == Descriptions.load("new.json").classes


def test_a_clean_file_says_so_and_gives_0(run: Run) -> None:
    Path("clean.json").write_text(json.dumps({"hen": ["a red comb"], "duck": ["a flat bill"]}))
    done = run("clean.json")
    assert (done.code, done.out.splitlines()) == (0, ["clean.json: 2 classes, 2 texts", "nothing found"])


def test_a_vocabulary_shows_which_classes_lack_a_description(run: Run) -> None:
    Path("all.txt").write_text("hen\nduck\nwug\ngoose\n")
    done = run("birds.json", "--vocabulary", "all.txt", "--json", "--only", "empty")
    assert "note: " in done.err and "goose" in done.err
    found = json.loads(done.out)
    assert [finding["class"] for finding in found["findings"]] == ["wug", "goose"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["birds.json", "--only", "negations"], "did you mean 'negation'"),
        (["birds.json", "--fix"], "-o NEW"),
        (["birds.json", "-o", "new.json"], "add --fix"),
        (["birds.json", "--fix", "-o", "birds.json"], "does not overwrite"),
        (["birds.json", "--fix", "-o", "link.json"], "does not overwrite"),
        (["none.json"], "none.json"),
        (["birds.json", "--encoder", "opne_clip:x"], "open_clip"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: Sequence[str], says: str) -> None:
    Path("link.json").symlink_to("birds.json")
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1


class Words:
    """An encoder of a third party that reads three words."""

    name = fingerprint = "words"
    logit_scale = 100.0
    context_length = 3

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> Words:
        return cls()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def test_an_encoder_counts_its_own_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from descbench.encoders import ENCODERS

    monkeypatch.setitem(ENCODERS, "words", Words)  # type: ignore[arg-type]
    found = json.loads(run("birds.json", "--encoder", "words", "--only", "too-long", "--json").out)
    assert [(f["text"], f["message"]) for f in found["findings"]] == [
        ("smaller than a hen", "4 tokens, and the encoder reads 3")
    ]


def test_the_demo_encoder_counts_or_says_that_it_cannot(run: Run) -> None:
    from descbench.spec import encoder

    done = run("birds.json", "--encoder", "demo", "--only", "too-long", "--json")
    if hasattr(encoder("demo"), "count_tokens"):
        assert (done.code, json.loads(done.out)["counts"]) == (0, {})
    else:
        assert (done.code, "leave --encoder away" in done.err) == (2, True)


def test_the_document_lists_every_code_with_its_severity_and_whether_it_is_mended() -> None:
    text = (Path(__file__).parents[1] / "docs" / "lint.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    assert [(row[0].strip("`"), row[1], row[-1].startswith("yes")) for row in rows] == [
        (code, kind.severity, kind.mended) for code, kind in CODES.items()
    ]


@published
def test_a_published_file_is_read_and_counted(run: Run) -> None:
    done = run(SHARED / "cupl" / "imagenet_prompts_base.json", "--max", 1)
    lines = done.out.splitlines()
    assert lines[0].endswith("998 classes, 29,940 texts")
    assert ["1,693", "warning", "duplicate"] in [line.split()[:3] for line in lines]
    assert max(map(len, lines)) < 400
