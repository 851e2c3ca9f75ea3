"""The demo from end to end, as `make demo` runs it: the steps stand in the right order for the right reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import descbench as db
from descbench import Descriptions
from descbench.demo.guide import species
from descbench.demo.tour import AFTER, BEFORE, METHODS, ORACLE


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`descbench demo` in a process of its own, offline, from a folder that is not the checkout."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DESCBENCH_CACHE": str(folder / "kept")}
    command = [sys.executable, "-m", "descbench", "demo", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def done(place: Path) -> dict[str, Any]:
    """The figures of the whole demo, 600 pictures."""
    ended = demo(place, "--json", "--picture", "table.svg")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""  # quiet when piped
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def top1(done: dict[str, Any], method: str) -> float:
    return float(done["methods"][method]["value"])


def test_every_method_is_evaluated_on_all_pictures(done: dict[str, Any]) -> None:
    assert list(done["methods"]) == [*METHODS, ORACLE]
    assert {row["n"] for row in done["methods"].values()} == {600}


def test_a_name_gives_away_the_genus_and_not_the_species(done: dict[str, Any]) -> None:
    assert 0.08 <= top1(done, "classname") <= 0.30


def test_descriptions_are_worth_25_points(done: dict[str, Any]) -> None:
    assert top1(done, BEFORE) >= top1(done, "classname") + 0.25


def test_the_gain_is_in_what_descriptions_say(done: dict[str, Any]) -> None:
    assert top1(done, f"shuffled({BEFORE})") <= top1(done, "classname") + 0.05


def test_the_follow_up_is_worth_5_points_and_not_by_chance(done: dict[str, Any]) -> None:
    assert top1(done, AFTER) >= top1(done, BEFORE) + 0.05
    assert done["follow_up"]["p"] < 0.01
    assert done["follow_up"]["value"] == pytest.approx(top1(done, AFTER) - top1(done, BEFORE))


def test_a_follow_up_alone_doubles_the_bare_name(done: dict[str, Any]) -> None:
    assert top1(done, "fudd") >= 2 * top1(done, "classname")


def test_the_field_guide_itself_is_the_ceiling(done: dict[str, Any]) -> None:
    # A follow-up that asks well says all that matters, and may then be an image or two ahead by chance.
    assert top1(done, ORACLE) >= 0.9
    assert max(row["value"] for row in done["methods"].values()) <= done["methods"][ORACLE]["high"]


def test_the_language_model_is_wrong_at_times_and_this_is_counted(done: dict[str, Any]) -> None:
    for kind in ("descriptions", "pairs"):
        told = done["llm"][kind]
        assert told["stated"] > 100
        assert told["wrong"] / told["stated"] < 0.1


def test_the_general_description_is_brief(done: dict[str, Any], place: Path) -> None:
    counts = [len(texts) for texts in Descriptions.load(place / "kept/demo/birds.desc.json").classes.values()]
    assert len(counts) == len(species())
    assert 4 <= sum(counts) / len(counts) <= 6


def test_the_picture_of_the_table_is_an_svg_that_names_every_method(done: dict[str, Any], place: Path) -> None:
    text = "".join(ET.parse(place / "table.svg").getroot().itertext())
    assert all(method in text for method in done["methods"])


def test_a_second_run_says_the_same_and_tells_what_to_do_next(done: dict[str, Any], place: Path) -> None:
    ended = demo(place)
    assert ended.returncode == 0, ended.stderr
    for method, row in done["methods"].items():
        assert any(method in line and f"{100 * row['value']:.1f} [" in line for line in ended.stdout.splitlines())
    assert "descbench generate" in ended.stdout
    assert (place / "kept/demo/bird-1.png").is_file()


def test_the_shipped_descriptions_are_what_the_shipped_language_model_says() -> None:
    shipped = Descriptions.load(Path(__file__).parents[1] / "cache" / "aviary.desc.json")
    birds = db.Vocabulary(db.dataset("demo").names, domain="birds")
    said = db.generate(birds, db.method("dclip"), db.llm("demo")).classes
    # Another processor adds in another order, which may turn a draw that is all but even.
    assert sum(said[id_] == texts for id_, texts in shipped.classes.items()) >= 38
