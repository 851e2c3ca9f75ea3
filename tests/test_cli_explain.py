"""`explain` and `what-if`, as a person or a script runs them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from PIL import Image

import descbench as db
from descbench.demo.guide import species
from descbench.demo.renderer import render
from descbench.descriptions import Descriptions
from descbench.edits import edited
from descbench.encoders.model import ModelEncoder

BIRDS = species()[:4]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four folders of three pictures each."""
    for number, page in enumerate(BIRDS):
        folder = tmp_path / "photos" / page.name
        folder.mkdir(parents=True)
        for seed in range(3):
            render(page.bird, 5_000_000 + 10 * number + seed).save(folder / f"{seed}.png")
    return tmp_path / "photos"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "birds.json"
    texts = {
        0: ["a green belly", "white wings"],
        1: ["a green belly", "a forked tail", "red legs"],
        2: ["a smooth crown"],
    }
    Descriptions(texts, names={i: page.name for i, page in enumerate(BIRDS)}, domain="birds").save(path)
    return path


def test_explain_shows_each_text_with_what_it_adds(run: Run, photos: Path, told: Path) -> None:
    picture = photos / BIRDS[0].name / "0.png"
    done = run("explain", picture, "-d", told, "-e", "demo", "--against", BIRDS[1].name)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{picture}: ") and f"not {BIRDS[1].name}" in done.out.splitlines()[0]
    assert all(
        f"which is {text}" in done.out or f"which has {text}" in done.out for text in ("a forked tail", "red legs")
    )
    found = json.loads(run("explain", picture, "-d", told, "-e", "demo", "-a", BIRDS[1].name, "--json").out)
    assert (found["answer"], found["against"]) == (BIRDS[0].name, BIRDS[1].name)
    assert math.fsum(one["contribution"] for one in found["contributions"]) == pytest.approx(found["lead"], abs=1e-12)
    assert len(found["contributions"]) == 5 and "turn" not in found


def test_explain_says_what_a_follow_up_changed(run: Run, photos: Path, told: Path) -> None:
    asked = ("-d", told, "-e", "demo", "-m", "cascade(classname, dclip, k=4)", "--json")
    found = [json.loads(run("explain", picture, *asked).out) for picture in sorted(photos.rglob("*.png"))]
    assert {entry["first_stage"] for entry in found} == {"classname"} and any(entry["changed"] for entry in found)
    for entry in found:
        assert entry["changed"] == (entry["first"] != entry["answer"])
        assert (entry["turn"] is not None) == (entry["changed"] and entry["first"] != entry["against"])


def test_explain_draws_where_the_best_reasons_are_seen(run: Run, photos: Path, told: Path) -> None:
    picture = photos / BIRDS[0].name / "0.png"
    done = run("explain", picture, "-d", told, "-e", "demo", "--heatmap", "seen.png")
    assert done.code == 0 and "drawn into seen.png" in done.err
    with Image.open("seen.png") as sheet:
        assert min(sheet.size) > 100
    done = run("explain", picture, "-d", told, "-e", "demo", "--heatmap", "seen.txt")
    assert done.code == 2 and "seen.txt" in done.err


def test_explain_over_a_data_set_ranks_all_descriptions(run: Run, photos: Path, told: Path) -> None:
    done = run("explain", "--data", f"folder:{photos}", "-d", told, "-e", "demo")
    assert done.code == 0, done.err
    assert "of 12 images right; of 6 descriptions" in done.out
    found = json.loads(run("explain", "--data", f"folder:{photos}", "-d", told, "-e", "demo", "--json").out)
    worths = [use["worth"] for use in found["uses"]]
    assert worths == sorted(worths, reverse=True) and len(worths) == 6
    assert all(use["worth"] == use["lost"] - use["gained"] for use in found["uses"])
    rights = {use["name"]: use["right"] for use in found["uses"]}  # of these classes, each with descriptions
    assert 0 < sum(rights.values()) <= found["right"] and max(rights.values()) <= 3
    assert all(use["carried"] <= min(use["lost"], use["right"]) for use in found["uses"])
    assert {(use["name"], use["number"], use["description"]) for use in found["uses"] if use["id"] == 2} == {
        (BIRDS[2].name, 1, "a smooth crown")
    }
    (photos / BIRDS[0].name / "broken.png").write_bytes(b"no picture")
    done = run("explain", "--data", f"folder:{photos}", "-d", told, "-e", "demo")
    assert done.code == 3 and "broken.png" in done.err and "of 12 images right" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "explain takes a picture, or --data DATA"),
        (("x.png", "--data", "demo"), "give one"),
        (("--data", "demo", "-a", "hen"), "--against and --heatmap are for one picture"),
        (("x.png", "--limit", 3), "--labels, --split and --limit are for --data"),
        (("x.png", "-d", "birds.json", "-e", "demo"), "cannot read image 'x.png': there is no such file"),
        (("{picture}", "-d", "birds.json", "-e", "demo", "-a", "hen"), "no class 'hen' among those that compete"),
        (("{picture}", "-d", "birds.json", "-e", "demo", "--heatmap", "seen.pdf"), "give a name that ends in .png"),
        (("{picture}", "-d", "birds.json", "-e", "demo", "-a", "Ardova lemo"), "did you mean 'Ardova lema'"),
        (
            ("--data", "folder:photos", "-d", "birds.json", "-m", "dclip(pool='max_score')", "-e", "demo"),
            "by max_score",
        ),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    run: Run, photos: Path, told: Path, arguments: tuple[object, ...], says: str
) -> None:
    done = run("explain", *(str(a).format(picture=photos / BIRDS[0].name / "0.png") for a in arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and says in done.err


def test_what_if_without_a_change_lists_the_lines(run: Run, told: Path) -> None:
    done = run("what-if", told, "--class", BIRDS[1].name.upper())
    assert done.code == 0, done.err
    assert [line.split(maxsplit=1) for line in done.out.splitlines()[1:]] == [
        ["1.", "a green belly"],
        ["2.", "a forked tail"],
        ["3.", "red legs"],
    ]
    assert "no line yet" in run("what-if", told, "--class", 3).out


def test_what_if_tells_what_an_edit_would_do_and_what_it_does_when_it_is_written(
    run: Run, photos: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = ("evaluate", f"folder:{photos}", "-d", told, "-e", "demo", "-m", "dclip", "--no-baselines", "--json")
    before = json.loads(run(*evaluate).out)["runs"][0]
    written = told.read_text()
    asked: list[str] = []
    encode = ModelEncoder.encode_texts

    def noted(self: ModelEncoder, texts: Any) -> Any:
        asked.extend(texts)
        return encode(self, texts)

    def refused(*_: object) -> None:
        raise AssertionError("no image is encoded")

    monkeypatch.setattr(ModelEncoder, "encode_texts", noted)
    monkeypatch.setattr(ModelEncoder, "encode_pixels", refused)
    change = ("--class", BIRDS[0].name, "--drop", 1, "--replace", "2=black wings", "--add", "a red body")
    command = ("what-if", told, *change, "--data", f"folder:{photos}", "-e", "demo", "--max", 2)
    done = run(*command)
    assert done.code == 0, done.err
    assert sorted(asked) == [f"{BIRDS[0].name}, which has black wings", f"{BIRDS[0].name}, which is a red body"]
    assert told.read_text() == written
    assert [line[:1] for line in done.out.splitlines()[1:6]] == ["-", "-", "+", "+", "d"]
    found = json.loads(run(*command, "--json").out)
    assert found["right"][0] == before["right"] and found["images"] == 12
    assert found["difference"]["gained"] - found["difference"]["lost"] == found["right"][1] - found["right"][0]
    assert len(found["flips"]) == sum(move["images"] for move in found["moves"]) > 0
    assert "McNemar" in done.out and f"{len(found['flips'])} answered otherwise" in done.out
    done = run(*command, "--write")
    assert f"written to {told}" in done.err
    assert Descriptions.load(told).classes[0] == found["after"] == ["black wings", "a red body"]
    assert edited(Descriptions.load(told)) == {(0,): ["black wings", "a red body"]}
    assert json.loads(run(*evaluate).out)["runs"][0]["right"] == found["right"][1]
    assert "a red body (edited)" in run("what-if", told, "--class", 0).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--class", "Ardova lemo"), "no class 'Ardova lemo' in birds.json; did you mean 'Ardova lema'?"),
        (("--class", "0", "--drop", "9", "--data", "demo"), "has no line 9; it has the lines 1 to 2"),
        (("--class", "0", "--add", "", "--write"), "is blank"),
        (("--class", "0", "--add", "White wings", "--write"), "has the line 'white wings' already"),
        (("--class", "0", "--replace", "x", "--write"), 'as "3=a small red comb"'),
        (("--class", "0", "--drop", "1"), "which images? Give --data DATA"),
        (("--class", "0", "--write"), "--write makes a change"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_line_and_leaves_the_file(
    run: Run, told: Path, arguments: tuple[str, ...], says: str
) -> None:
    before = told.read_text()
    done = run("what-if", "birds.json", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and says in done.err
    assert told.read_text() == before


def test_classes_of_one_name_are_told_apart_by_their_ids(run: Run) -> None:
    Descriptions({4: ["a rocket"], 9: ["a shell"]}, names={4: "missile", 9: "missile"}).save("two.json")
    assert (
        "'missile' is the name of 2 classes in two.json; give an id: 4, 9"
        in run("what-if", "two.json", "--class", "missile").err
    )
    assert "a shell" in run("what-if", "two.json", "--class", 9).out


def test_a_published_file_can_be_tried_and_is_not_written_to(run: Run, photos: Path) -> None:
    Path("theirs.json").write_text(json.dumps({page.name: ["a green belly"] for page in BIRDS}))
    change = ("--class", BIRDS[0].name, "--add", "white wings", "--data", f"folder:{photos}", "-e", "demo")
    assert run("what-if", "theirs.json", *change).code == 0
    done = run("what-if", "theirs.json", *change, "--write")
    assert done.code == 2 and "descbench import theirs.json -o NEW" in done.err


@pytest.mark.parametrize("command", ["explain", "what-if"])
def test_the_help_has_an_example(run: Run, command: str) -> None:
    assert f"Example: descbench {command}" in " ".join(run(command, "--help").out.split())


def test_both_are_python_too() -> None:
    assert callable(db.usefulness) and callable(db.what_if) and callable(db.usefulness)
