"""Published files are told apart by their content and joined by name; a broken one is one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import descbench as db
from descbench import Descriptions, Vocabulary
from descbench.errors import InputError, MatchError

DCLIP = {"Red_hen": ["a comb", "two legs"], "emu": [], "rooster": ["spurs", "spurs"]}
FUDD = {
    "1_0": {
        "classes": [1, 0],
        "prompt_pairs": [
            {"attr_type": "legs", "prompt_pair": ["an emu with long legs", "a hen with short legs"]},
            {"attr_type": "comb", "prompt_pair": ["an emu with no comb", "a hen with a comb"]},
        ],
    },
    "1_2": {"classes": [1, 2], "prompt_pairs": []},
}


def written(folder: Path, name: str, data: Any) -> Path:
    (folder / name).write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return folder / name


def test_a_dclip_file_has_the_classes_of_its_keys_in_their_order(tmp_path: Path) -> None:
    found = db.read_descriptions(written(tmp_path, "descriptors_birds.json", DCLIP))
    assert found.names == {0: "Red_hen", 1: "emu", 2: "rooster"}
    assert found.classes == {0: ["a comb", "two legs"], 2: ["spurs", "spurs"]}
    assert found.provenance == {"file": "descriptors_birds.json", "format": "dclip"}


def test_a_dclip_file_is_joined_by_name_and_never_by_position(tmp_path: Path) -> None:
    path = written(tmp_path, "d.json", DCLIP)
    for names in (["rooster", "emu", "red hen"], ["emu", "red hen", "rooster"]):
        vocabulary = Vocabulary(names)
        found = db.read_descriptions(path, vocabulary)
        assert found.classes == {
            vocabulary.id("red hen"): ["a comb", "two legs"],
            vocabulary.id("rooster"): ["spurs"] * 2,
        }


def test_a_dclip_file_for_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MatchError, match=r"2 described classes without a class: 'Red_hen'; .*'rooster'.*cat, dog"):
        db.read_descriptions(written(tmp_path, "d.json", DCLIP), Vocabulary(["cat", "dog"]))


def test_a_fudd_file_takes_its_names_from_the_file_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path, "birds_prompt_pairs.json", FUDD)
    written(tmp_path, "birds_class_names.json", ["hen", "emu", "duck"])
    found = db.read_descriptions(path, Vocabulary(["duck", "hen", "emu"], ids=[5, 6, 7]))
    assert found.pair(7, 6) == (
        ["an emu with long legs", "an emu with no comb"],
        ["a hen with short legs", "a hen with a comb"],
    )
    assert found.pair(6, 7) == tuple(reversed(found.pair(7, 6)))  # type: ignore[arg-type]
    assert found.provenance["format"] == "fudd"


def test_a_fudd_file_without_names_is_joined_by_number(tmp_path: Path) -> None:
    path = written(tmp_path, "pairs.json", FUDD)
    assert db.read_descriptions(path, Vocabulary(["hen", "emu", "duck"])).pair(0, 1) is not None
    with pytest.raises(MatchError, match="the ids 1, 2, which the vocabulary does not have"):
        db.read_descriptions(path, Vocabulary(["hen"]))


def test_our_own_file_is_read_too(tmp_path: Path) -> None:
    own = Descriptions(
        {7: ["a comb"]}, {(3, 7): (["spurs"], ["none"])}, {3: "rooster", 7: "hen"}, "birds", {"llm": "x"}
    )
    own.save(tmp_path / "own.json")
    found = db.read_descriptions(tmp_path / "own.json")
    assert (found.classes, found.pairs, found.names, found.domain) == (own.classes, own.pairs, own.names, "birds")
    assert found.provenance == {"llm": "x", "file": "own.json", "format": "descbench"}


@pytest.mark.parametrize(
    ("data", "format", "message"),
    [
        ([1, 2], "auto", r"no descriptions of a known format \(descbench, fudd, dclip\)"),
        ({}, "auto", "no descriptions of a known format"),
        ({"hen": "a comb"}, "auto", "no descriptions of a known format"),
        ({"hen": [1]}, "auto", "no descriptions of a known format"),
        (DCLIP, "fudd", "is not of the format 'fudd'; try format 'auto'"),
        (FUDD, "dclip", "is not of the format 'dclip'"),
        (DCLIP, "dcilp", "no format 'dcilp'; did you mean 'dclip'"),
        ({"a": {"classes": [0], "prompt_pairs": []}}, "auto", "entry 'a': 'classes' must be two class numbers, given"),
        ({"a": {"classes": [0, "1"], "prompt_pairs": []}}, "auto", "entry 'a': 'classes' must be two class numbers"),
        ({"a": {"classes": [1, 1], "prompt_pairs": []}}, "auto", "entry 'a': .*class 1 twice|two classes"),
        ({"a": {"classes": [0, 1], "prompt_pairs": 5}}, "auto", "entry 'a'"),
        ({"a": {"classes": [0, 1], "prompt_pairs": ["x"]}}, "auto", "entry 'a': 'prompt_pair' must be two captions"),
        ({"a": {"classes": [0, 1], "prompt_pairs": [{"prompt_pair": ["x"]}]}}, "auto", "must be two captions"),
        ({"a": {"classes": [0, 1], "prompt_pairs": [{"prompt_pair": ["x", 1]}]}}, "auto", "must be two captions"),
    ],
)
def test_what_is_no_published_file_is_refused_by_entry(tmp_path: Path, data: Any, format: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        db.read_descriptions(written(tmp_path, "x.json", data), format=format)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hen", "emu"], "speaks of class 2, which birds_class_names.json does not name"),
        ({"0": "hen"}, "birds_class_names.json must be a list of class names"),
        ([1, 2, 3], "birds_class_names.json must be a list of class names"),
    ],
)
def test_a_broken_file_of_class_names_is_named(tmp_path: Path, names: Any, message: str) -> None:
    path = written(tmp_path, "birds_prompt_pairs.json", FUDD)
    written(tmp_path, "birds_class_names.json", names)
    with pytest.raises(InputError, match=message):
        db.read_descriptions(path)


def test_a_missing_file_or_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        db.read_descriptions(tmp_path / "none.json")
    with pytest.raises(InputError, match="is a folder"):
        db.read_descriptions(tmp_path)


def test_a_file_with_one_broken_entry_is_still_known_and_the_entry_is_named(tmp_path: Path) -> None:
    own = Descriptions({7: ["a comb"]}, names={7: "hen"})
    own.save(tmp_path / "own.json")
    data = json.loads((tmp_path / "own.json").read_text())
    data["classes"][0]["texts"] = "a comb"
    with pytest.raises(InputError, match="class entry 0: expected a list of texts"):
        db.read_descriptions(written(tmp_path, "own.json", data))
