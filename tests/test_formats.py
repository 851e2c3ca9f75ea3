"""Published files are told apart by their content and joined by name; a broken one is one clear line."""

from __future__ import annotations

import json
import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import descbench as db
from descbench import Descriptions, Vocabulary
from descbench.errors import DescbenchWarning, InputError, MatchError
from descbench.formats import FORMATS, WRITABLE, mapping, read, write
from descbench.formats.openai_batch import Batch, describe, read_batch, subject

DATA = Path(__file__).parents[2] / "shared" / "data"
published = pytest.mark.skipif(not DATA.is_dir(), reason="the published files are not part of the project")

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
    with pytest.raises(MatchError, match=r"3 described classes without a class: 'Red_hen'; .*'rooster'.*cat, dog"):
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
        ([1, 2], "auto", r"no descriptions of a known format \(descbench, openai-batch, .*it is JSON without classes"),
        (["hen", "emu"], "auto", "it is a list of 2 texts, as class names are"),
        (["a photo of a {}."], "auto", "it is a list of templates, which the method templates"),
        ({"images": [{"id": 3}], "info": {"year": 2017}}, "auto", "it is a JSON object with 'images': "),
        ({}, "auto", "no descriptions of a known format"),
        ({"hen": "a comb"}, "auto", "no descriptions of a known format"),
        ({"hen": [1]}, "auto", "no descriptions of a known format"),
        ({"hen": ["x", 1]}, "auto", "class 'hen': text 1 must be a text in double quotes, given: 1"),
        ({"hen": ["x"], "emu": float("nan")}, "auto", "class 'emu': expected a list of texts .*, given: nan"),
        ({"hen": ["x"], "emu": "y"}, "auto", "class 'emu': expected a list of texts"),
        ({"hen": ["x"], " ": ["y"]}, "auto", "a class without a name"),
        ({"hen": ["x"], "e\nmu": ["y"]}, "auto", "has control characters"),
        ({"hen": ["x"], "emu": {"hen": ["y"]}}, "auto", "class 'hen': expected an object, rival -> texts"),
        ({"hen": {"hen": ["x"]}}, "auto", "the class 'hen' is compared with itself"),
        ({"hen": {"emu": ["x"], "owl": 5}}, "auto", "class 'hen': expected a list of texts"),
        ({"0": ["x"]}, "auto", "numbers its classes and does not name them; give the vocabulary"),
        ({"index_to_descriptions": {"x": ["y"]}}, "auto", "keys must be class numbers, given: 'x'"),
        ({"index_to_descriptions": {"1": ["y"], "01": ["z"]}}, "auto", "a class number occurs twice"),
        (
            {"index_to_descriptions": {"1": ["y"]}, "index_to_classname": {"0": "hen"}},
            "auto",
            "describes class 1, which 'index_to_classname' does not name",
        ),
        (DCLIP, "fudd", "is not of the format 'fudd': it looks like 'dclip'; try format 'auto'"),
        (FUDD, "dclip", "is not of the format 'dclip': it looks like 'fudd'"),
        (DCLIP, "csv", "is not of the format 'csv': it looks like 'dclip'"),
        ([1], "cupl", "is not of the format 'cupl': it is JSON without classes"),
        (DCLIP, "dcilp", "no format 'dcilp'; did you mean 'dclip'"),
        ({"a": {"classes": [0], "prompt_pairs": []}}, "auto", "entry 'a': 'classes' must be two class numbers, given"),
        ({"a": {"classes": [0, "1"], "prompt_pairs": []}}, "auto", "entry 'a': 'classes' must be two class numbers"),
        ({"a": {"classes": [0, True], "prompt_pairs": []}}, "auto", "entry 'a': 'classes' must be two class numbers"),
        (
            {"a": {"classes": [1, 1], "prompt_pairs": []}},
            "auto",
            "entry 'a': .* two different ones, given: class 1 twice",
        ),
        ({"a": {"classes": [0, 1], "prompt_pairs": []}, "b": 3}, "auto", "entry 'b': an entry has 'classes' and"),
        ({"a": {"classes": [0, 1], "prompt_pairs": 5}}, "auto", "entry 'a'"),
        ({"a": {"classes": [0, 1], "prompt_pairs": ["x"]}}, "auto", "entry 'a': 'prompt_pair' must be two captions"),
        ({"a": {"classes": [0, 1], "prompt_pairs": [{"prompt_pair": ["x"]}]}}, "auto", "must be two captions"),
        ({"a": {"classes": [0, 1], "prompt_pairs": [{"prompt_pair": ["x", 1]}]}}, "auto", "must be two captions"),
    ],
)
def test_what_is_no_published_file_is_refused_by_entry(tmp_path: Path, data: Any, format: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        db.read_descriptions(written(tmp_path, "x.json", data), format=format)
    assert len(str(caught.value)) < 600


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
    with pytest.raises(InputError, match=r"is a folder without text files; give one of these: \(it is empty\)"):
        db.read_descriptions(tmp_path)
    (tmp_path / "x.json").touch()
    with pytest.raises(InputError, match=r"give one of these: x.json"):
        db.read_descriptions(tmp_path)


def test_a_file_with_one_broken_entry_is_still_known_and_the_entry_is_named(tmp_path: Path) -> None:
    own = Descriptions({7: ["a comb"]}, names={7: "hen"})
    own.save(tmp_path / "own.json")
    data = json.loads((tmp_path / "own.json").read_text())
    data["classes"][0]["texts"] = "a comb"
    with pytest.raises(InputError, match="class entry 0: expected a list of texts"):
        db.read_descriptions(written(tmp_path, "own.json", data))


# --- names -----------------------------------------------------------------------------------------------------------


def test_what_only_one_side_has_is_an_error_that_lists_both_sides_and_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "d.json", DCLIP)
    with pytest.raises(MatchError) as caught:
        db.read_descriptions(path, Vocabulary(["red hen", "emus", "rooster", "duck"]))
    text = str(caught.value)
    assert "1 described class without a class: 'emu'; did you mean 'emus'?" in text
    assert "Without a description: emus, duck." in text and "--allow-missing" in text
    with pytest.raises(MatchError, match="1 described class without a class: 'rooster'"):
        db.read_descriptions(path, Vocabulary(["red hen", "emu"]))
    with pytest.raises(MatchError, match=r"Without a description: 'Rooster B'; did you mean 'rooster'\?\."):
        db.read_descriptions(path, Vocabulary(["red hen", "emu", "rooster", "Rooster B"]))


def test_allow_missing_goes_on_and_lists_what_was_left_out_on_both_sides(tmp_path: Path) -> None:
    path = written(tmp_path, "d.json", DCLIP)
    vocabulary = Vocabulary(["red hen", "duck", "crème"])
    message = "1 described classes left out, which the vocabulary lacks: rooster; 2 .*description: duck, crème"
    with pytest.warns(DescbenchWarning, match=message):
        found = db.read_descriptions(path, vocabulary, allow_missing=True)
    assert found.classes == {0: ["a comb", "two legs"]} and found.names == dict(vocabulary)
    with pytest.raises(MatchError, match=r"no class fits: .*'Red_hen'"):
        db.read_descriptions(path, Vocabulary(["cat"]), allow_missing=True)


def test_the_mapping_says_how_each_class_was_joined() -> None:
    given = ["hen", "EMU", "the_crème-brûlée", "a missile"]
    descriptions = Descriptions({i: ["x"] for i in range(4)}, names=dict(enumerate(given)))
    vocabulary = Vocabulary(["missile", "creme brulee", "emu", "hen", "missile"])
    assert mapping(descriptions, vocabulary) == [
        ("hen", "hen", "same"),
        ("EMU", "emu", "case"),
        ("the_crème-brûlée", "creme brulee", "normalised"),
        ("a missile", "missile", "normalised"),
        ("a missile", "missile", "normalised"),
    ]
    nameless = Descriptions({1: ["x"]})
    assert mapping(nameless, vocabulary) == [("1", "creme brulee", "id")]


def test_a_class_with_an_empty_list_is_known_and_joined(tmp_path: Path) -> None:
    path = written(tmp_path, "d.json", DCLIP)
    found = db.read_descriptions(path, Vocabulary(["Emu", "rooster", "red hen"]))
    assert found.classes == {1: ["spurs", "spurs"], 2: ["a comb", "two legs"]} and found.names[0] == "Emu"


# --- the formats -----------------------------------------------------------------------------------------------------


def test_a_key_that_occurs_twice_is_two_classes_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"missile": ["fins"], "tank": ["tracks"], "missile": ["smoke"]}')
    found = db.read_descriptions(path)
    assert found.names == {0: "missile", 1: "tank", 2: "missile"}
    assert found.classes == {0: ["fins"], 1: ["tracks"], 2: ["smoke"]}
    both = Vocabulary(["missile", "missile", "tank"], ids=[8, 4, 6])
    assert db.read_descriptions(path, both).classes == {4: ["fins"], 8: ["smoke"], 6: ["tracks"]}
    with pytest.raises(MatchError, match="missile"):
        db.read_descriptions(path, Vocabulary(["missile", "tank"]))


@pytest.mark.parametrize(
    "text",
    [
        '{"hen": {"emu": ["a"]}, "hen": {"emu": ["b"]}}',
        '{"x": {"hen": ["a"], "hen": ["b"]}}',
        '{"hen": {"classes": [0, 1], "prompt_pairs": []}, "hen": {"classes": [0, 2], "prompt_pairs": []}}',
        '{"format": "descbench descriptions, version 1", "hen": [], "hen": []}',
        '{"format": "descbench descriptions, version 1", "classes": [{"id": 0, "name": "a", "hen": [], "hen": []}]}',
        '{"index_to_descriptions": {"0": ["x"]}, "hen": 1, "hen": 2}',
    ],
)
def test_a_key_that_occurs_twice_elsewhere_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="the key 'hen' occurs twice in one object"):
        db.read_descriptions(tmp_path / "x.json")


def test_blank_texts_are_left_out_and_counted_by_class(tmp_path: Path) -> None:
    path = written(tmp_path, "d.json", {"hen": ["a comb", " ", ""], "emu": ["\t"], "owl": ["eyes"]})
    with pytest.warns(DescbenchWarning, match=r"d.json: 3 blank texts left out \(hen \(2\), emu\)"):
        found = db.read_descriptions(path)
    assert found.classes == {0: ["a comb"], 2: ["eyes"]} and found.names[1] == "emu"


def test_sentences_are_told_from_descriptors_and_read_alike(tmp_path: Path) -> None:
    cupl = written(tmp_path, "a.json", {"hen": ["A hen is a bird.", "A hen has a comb!"], "emu": ["It runs."]})
    assert db.read_descriptions(cupl).provenance["format"] == "cupl"
    dclip = written(tmp_path, "b.json", DCLIP)
    assert db.read_descriptions(dclip).provenance["format"] == "dclip"
    for format in ("dclip", "cupl", "waffleclip", "comparative"):
        for path in (cupl, dclip):
            found = read(path, format)
            assert found.provenance["format"] == format
            assert (found.classes, found.names) == (read(path).classes, read(path).names)


def test_a_list_of_waffle_texts_serves_every_class(tmp_path: Path) -> None:
    path = written(tmp_path, "w.json", ["foot loud", "!,1h"])
    birds = Vocabulary(["hen", "emu"], ids=[4, 2])
    assert db.read_descriptions(path, birds, "waffleclip").classes == {
        4: ["foot loud", "!,1h"],
        2: ["foot loud", "!,1h"],
    }
    with pytest.raises(InputError, match="lists texts without classes; give the vocabulary"):
        db.read_descriptions(path, format="waffleclip")


def test_disclip_is_joined_by_the_names_it_has_else_by_id(tmp_path: Path) -> None:
    texts = {"1": ["a comb"], "0": ["spurs", "spurs"]}
    named = {"index_to_descriptions": texts, "index_to_classname": {"0": "rooster", "1": "hen", "2": "emu"}}
    found = db.read_descriptions(written(tmp_path, "a.json", named), Vocabulary(["Hen", "Emu", "Rooster"]))
    assert found.classes == {0: ["a comb"], 2: ["spurs", "spurs"]} and found.provenance["format"] == "disclip"
    for data in ({"index_to_descriptions": texts}, texts):
        path = written(tmp_path, "b.json", data)
        birds = Vocabulary(["hen", "emu"], ids=[1, 0])  # by id, so the hen has the texts of "1", not of the first
        assert db.read_descriptions(path, birds).classes == {1: ["a comb"], 0: ["spurs", "spurs"]}
        with pytest.raises(MatchError, match="descriptions for the ids 0, which the vocabulary does not have"):
            db.read_descriptions(path, Vocabulary(["hen", "emu"], ids=[1, 5]))
        with pytest.raises(InputError, match="numbers its classes"):
            db.read_descriptions(path)
    digits = db.read_descriptions(written(tmp_path, "c.json", texts), Vocabulary(["0", "1"]), "dclip")
    assert digits.classes == {1: ["a comb"], 0: ["spurs", "spurs"]}  # the numbers are the names, as in MNIST


def test_both_directions_of_a_fudd_pair_are_one(tmp_path: Path) -> None:
    data = {
        "0_1": {"classes": [0, 1], "prompt_pairs": [{"prompt_pair": ["h", "e"]}]},
        "1_0": {"classes": [1, 0], "prompt_pairs": [{"prompt_pair": ["e2", "h2"]}]},
    }
    found = db.read_descriptions(written(tmp_path, "p.json", data), Vocabulary(["hen", "emu"]))
    assert dict(found.pairs) == {(0, 1): (["h", "h2"], ["e", "e2"])}


def test_comparative_descriptors_are_pairs_from_both_directions(tmp_path: Path) -> None:
    data = {"hen": {"emu": ["short legs", "short legs"], "owl": []}, "emu": {"hen": ["long legs"]}, "auk": {}}
    found = db.read_descriptions(written(tmp_path, "c.json", data))
    assert found.names == {0: "hen", 1: "emu", 2: "auk", 3: "owl"} and not found.classes
    assert dict(found.pairs) == {(0, 1): (["short legs", "short legs"], ["long legs"]), (0, 3): ([], [])}
    joined = db.read_descriptions(tmp_path / "c.json", Vocabulary(["Owl", "Emu", "Hen", "Auk"]))
    assert joined.pair(2, 1) == (["short legs", "short legs"], ["long legs"])


def test_a_folder_of_text_files_has_a_class_a_file(tmp_path: Path) -> None:
    for name, text in (("red hen", "A comb.\r\n\r\n Two legs. \n"), ("St. Emu", ""), ("owl", "\ufeffEyes.\rEyes.")):
        (tmp_path / f"{name}.txt").write_bytes(text.encode())
    found = db.read_descriptions(tmp_path, Vocabulary(["Owl", "st. emu", "Red Hen"]))
    assert found.classes == {2: ["A comb.", "Two legs."], 0: ["Eyes.", "Eyes."]}
    assert found.provenance == {"file": tmp_path.name, "format": "adaptclipzs"}
    (tmp_path / "notes.md").touch()
    (tmp_path / "more.txt").mkdir()
    with pytest.warns(DescbenchWarning, match=r"2 not read, since no text files: more.txt, notes.md"):
        assert len(db.read_descriptions(tmp_path).names) == 3
    (tmp_path / "bad.txt").write_bytes(b"\x00\x01")
    with pytest.raises(InputError, match=r"bad\.txt is not UTF-8 text but binary"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "classes", "pairs"),
    [
        ('class,description\nhen,a comb\nemu,\nhen,"two, legs"\n', {0: ["a comb", "two, legs"]}, {}),
        ("\ufeffLabel;Descriptors\r\nhen;a comb\r\n\r\nemu;\r\n", {0: ["a comb"]}, {}),
        ("name\ttext 1\ttext 2\nhen\ta comb\tlegs\nemu\t\ta\n", {0: ["a comb", "legs"], 1: ["a"]}, {}),
        (
            "class,rival,feature\nhen,emu,short legs\nemu,hen,long legs\nhen,,a comb\n",
            {0: ["a comb"]},
            {(0, 1): (["short legs"], ["long legs"])},
        ),
        ("id,name,text\n0,hen,a\n1,emu,\n0,hen,b\n", {0: ["a", "b"]}, {}),
    ],
)
def test_tables_are_read(tmp_path: Path, text: str, classes: Any, pairs: Any) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    found = db.read_descriptions(tmp_path / "t.csv")
    assert (found.classes, dict(found.pairs), found.names) == (classes, pairs, {0: "hen", 1: "emu"})
    assert found.provenance["format"] == "csv"


def test_classes_of_one_name_are_kept_apart_by_the_id_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,class,text\n7,missile,fins\n2,missile,smoke\n")
    found = db.read_descriptions(tmp_path / "t.csv")
    assert found.classes == {7: ["fins"], 2: ["smoke"]} and found.names == {7: "missile", 2: "missile"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "text without columns for a class and its descriptions: 'a,b'"),
        ("class,description\nhen,a,b\n", "t.csv, line 2: 3 cells for 2 columns; put texts in double quotes"),
        ('class,description\nhen,"a\n', r"no valid csv \(unexpected end of data\); look at its quotes"),
        ("class,description\n,a\n", "line 2: a class without a name"),
        ("class,description,id\nhen,a,x\n", "line 2: an id must be a whole number, given: 'x'"),
        ("class,description,id\nhen,a,1\nemu,a,1\n", "line 3: id 1 is 'emu' here and 'hen' before"),
        ("class,description\rhen,a,b\r", "line 2: 3 cells for 2 columns"),
        ("class,desc\rription\n", "text without columns"),
        ("class,rival,text\nhen,hen,a\n", "line 2: the class 'hen' is its own rival"),
        (f"class,description\nhen,{'x' * 200_000}\n", "no valid csv .*field larger than field limit"),
    ],
)
def test_a_broken_table_is_refused_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text, newline="")
    with pytest.raises(InputError, match=message):
        db.read_descriptions(tmp_path / "t.csv")


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("class,source,description\nhen,me,a comb\n")
    with pytest.warns(DescbenchWarning, match="t.csv: columns not read: source"):
        assert db.read_descriptions(tmp_path / "t.csv").classes == {0: ["a comb"]}


# --- batches ---------------------------------------------------------------------------------------------------------


def reply(custom_id: str, content: Any, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **choice.pop("message", {})}
    body = {
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "details": {"x": 1}},
        "system_fingerprint": "fp_1",
    }
    response = {"status_code": 200, "request_id": f"r-{custom_id}", "body": body}
    return {"id": "b", "custom_id": custom_id, "response": response, "error": None}


def request(custom_id: str) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": {"model": custom_id}}


def lines(path: Path, *given: Any) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in given), encoding="utf-8")
    return path


def test_replies_of_a_batch_are_descriptions_joined_by_custom_id(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "b_replies.jsonl", reply("birds~emu", "- long legs\n- a beak"), reply("birds~hen", "- a comb")
    )
    lines(tmp_path / "b_requests.jsonl", request("birds~hen"), request("birds~emu"))
    found = db.read_descriptions(path, Vocabulary(["Hen", "Emu"]))
    assert found.classes == {0: ["a comb"], 1: ["long legs", "a beak"]}
    assert found.provenance == {"llm": "m-1", "file": "b_replies.jsonl", "format": "openai-batch"}
    entry = read_batch(path).entries[0]
    assert entry.request == {"model": "birds~emu"} and entry.custom_id == "birds~emu"
    assert entry.reply == db.Reply(
        "- long legs\n- a beak",
        "stop",
        "m-1",
        {"prompt_tokens": 7, "completion_tokens": 3},
        {"request_id": "r-birds~emu", "system_fingerprint": "fp_1"},
    )


def test_a_rival_in_the_custom_id_makes_pairs_of_both_directions(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "x.jsonl",
        reply("birds~hen~emu", "- short legs"),
        reply("birds~emu~hen", "- long legs"),
        reply("birds~owl~hen", "- large eyes"),
    )
    found = db.read_descriptions(path)
    assert found.names == {0: "hen", 1: "emu", 2: "owl"}
    assert dict(found.pairs) == {(0, 1): (["short legs"], ["long legs"]), (0, 2): ([], ["large eyes"])}


@pytest.mark.parametrize(
    ("custom_id", "about"),
    [
        ("hen", ("hen",)),
        ("birds~hen", ("hen",)),
        ("birds~hen~emu", ("hen", "emu")),
        ("a~b~c~d", ("a~b~c~d",)),
        ("birds~", ("birds~",)),
        ("birds~~emu", ("birds~~emu",)),
    ],
)
def test_what_a_custom_id_is_about(custom_id: str, about: tuple[str, ...]) -> None:
    assert subject(custom_id) == about


FAILED = ("elk", "ibis", "gull", "tern", "kite", "silent")


def accounted(folder: Path) -> tuple[Batch, int]:
    """A batch with everything that can go wrong in one, and how many lines its files of replies have."""
    fails = {"response": {"status_code": 400, "body": {"error": {"message": "too\nlong"}}}, "error": None}
    replies = [
        reply("b~hen", "- a comb"),
        reply("b~hen", "- another comb"),  # repeated
        reply("b~emu", "I cannot help with that."),  # unusable
        reply("b~auk", None, message={"refusal": "No."}, finish_reason="stop"),
        reply("b~owl", "- large eyes", finish_reason="length"),
        reply("b~elk", [1]),
        reply("b~ibis", "- half \ud83d"),
        reply("b~stranger", "- x"),  # without a request
        {"custom_id": "b~gull", **fails},
        {"custom_id": "b~tern", "response": None, "error": {"code": "batch_expired", "message": "expired"}},
        {"custom_id": "b~kite", "response": {"status_code": 200, "body": {"choices": []}}, "error": None},
        '{"custom_id": "b~cut", "resp',  # the four unreadable ones
        "[1]",
        {"custom_id": 5, "response": {}},
        {"custom_id": "b~odd"},
    ]
    path = lines(folder / "x_replies.jsonl", *replies[:9], *replies[11:])
    lines(folder / "x_errors.jsonl", *replies[9:11])
    names = ("hen", "emu", "auk", "owl", "elk", "ibis", "gull", "tern", "kite", "silent")
    lines(folder / "x_requests.jsonl", *map(request, [f"b~{name}" for name in names]))
    return read_batch(path), len(replies)


def test_every_line_of_a_batch_is_accounted_for(tmp_path: Path) -> None:
    batch, written_lines = accounted(tmp_path)
    assert batch.counts == {
        "answered": 5,  # hen, emu, auk, owl, stranger
        "failed": 5,  # elk, ibis, gull, tern, kite
        "without request": 1,
        "without reply": 1,
        "unreadable": 4,
        "repeated": 1,
    }
    assert len(batch.entries) - 1 + len(batch.unreadable) + len(batch.repeated) == written_lines
    assert {entry.custom_id: entry.error for entry in batch.entries if entry.error} == {
        "b~elk": "a message that is no text: [1]",
        "b~ibis": "half of a character in the reply",
        "b~gull": "too long",
        "b~tern": "expired",
        "b~kite": "a response without choices",
        "b~silent": "no reply",
    }
    ends = {entry.custom_id: entry.reply.finish_reason for entry in batch.entries if entry.reply is not None}
    assert ends["b~auk"] == "refusal" and ends["b~owl"] == "length"
    assert batch.repeated == ("b~hen",) and "line 10" in batch.unreadable[0]


def test_no_class_of_a_batch_is_lost_in_silence(tmp_path: Path) -> None:
    batch, _ = accounted(tmp_path)
    described = describe(batch)
    found = described.descriptions
    assert {found.names[i] for i in found.classes} == {"hen", "stranger"}
    assert found.classes[0] == ["a comb"]
    named = {subject(custom_id)[0] for custom_id in described.unusable}
    assert {found.names[i] for i in found.classes} | named == set(found.names.values())
    assert set(described.unusable) == {f"b~{name}" for name in ("emu", "auk", "owl", *FAILED)}
    assert all(described.unusable.values())
    with pytest.warns(DescbenchWarning) as caught:
        read(tmp_path / "x_replies.jsonl")
    text = str(caught[0].message)
    for part in ("without usable features: b~emu (", "b~gull (too long)", "1 replies without a request: b~stranger"):
        assert part in text
    assert "4 lines cannot be read" in text and "1 lines repeat a custom_id, the first answer stays: b~hen" in text


def test_an_answer_wins_over_a_failure_of_the_same_request(tmp_path: Path) -> None:
    failed = {"custom_id": "hen", "response": None, "error": {"message": "expired"}}
    first = lines(tmp_path / "1.jsonl", failed)
    again = lines(tmp_path / "2.jsonl", reply("hen", "- a comb"))
    for files in ([first, again], [again, first]):
        batch = read_batch(files)
        assert [(entry.custom_id, entry.error) for entry in batch.entries] == [("hen", "")]
        assert batch.counts["repeated"] == 1


def test_several_choices_are_several_samples(tmp_path: Path) -> None:
    line = reply("hen", "- a comb")
    line["response"]["body"]["choices"].append({"message": {"content": "- a tail"}, "finish_reason": "stop"})
    batch = read_batch(lines(tmp_path / "x.jsonl", line))
    assert [(entry.sample, entry.reply and entry.reply.text) for entry in batch.entries] == [
        (0, "- a comb"),
        (1, "- a tail"),
    ]
    assert describe(batch).descriptions.classes == {0: ["a comb", "a tail"]}


def test_requests_alone_are_no_replies(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", request("hen"))
    with pytest.raises(InputError, match=r"has no reply of a batch; x\.jsonl, line 1: a request, and no reply"):
        db.read_descriptions(path)
    with pytest.raises(InputError, match="has no request of a batch"):
        read_batch(lines(tmp_path / "y.jsonl", reply("hen", "- x")), requests=tmp_path / "y.jsonl")
    with pytest.raises(InputError, match="no file of replies"):
        read_batch([])


# --- writing ---------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(str.strip)
NAME = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8).filter(str.strip)
TEXTS = st.lists(TEXT, max_size=3)


@st.composite
def described(draw: st.DrawFn, pairs: bool = True, classes: bool = True, twos: bool = False) -> Descriptions:
    """Descriptions of up to five classes whose names differ, some of them without a text."""
    names = draw(st.lists(NAME, min_size=2, max_size=5, unique=True))
    ids = draw(st.lists(st.integers(0, 2**40), min_size=len(names), max_size=len(names), unique=True))
    order = sorted(ids)
    said = {i: draw(TEXTS) for i in order} if classes else {}
    two = st.integers(0, 3).flatmap(lambda n: st.tuples(*[st.lists(TEXT, min_size=n, max_size=n)] * 2))
    told = st.dictionaries(
        st.lists(st.sampled_from(order), min_size=2, max_size=2, unique=True).map(lambda two: (min(two), max(two))),
        two if twos else st.tuples(TEXTS, TEXTS),
        min_size=1,
        max_size=3,
    )
    return Descriptions(
        {i: texts for i, texts in said.items() if texts},
        draw(told) if pairs else {},
        dict(zip(order, names, strict=True)),
    )


def by_name(found: Descriptions) -> tuple[Any, Any, list[str]]:
    """What is said, without ids."""
    names = found.names
    pairs = {frozenset(((names[a], tuple(x)), (names[b], tuple(y)))) for (a, b), (x, y) in found.pairs.items()}
    return {names[i]: texts for i, texts in found.classes.items()}, pairs, [names[i] for i in sorted(names)]


QUICK = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@QUICK
@given(described())
def test_a_csv_or_descbench_file_reads_back_the_same(tmp_path: Path, whole: Descriptions) -> None:
    for format in ("csv", "descbench"):
        write(whole, tmp_path / "x", format)
        found = read(tmp_path / "x")
        assert found.provenance["format"] == format
        assert (found.classes, found.pairs, found.names) == (whole.classes, whole.pairs, whole.names)


@QUICK
@given(described(pairs=False))
def test_a_dclip_or_cupl_file_reads_back_the_same(tmp_path: Path, whole: Descriptions) -> None:
    for format in ("dclip", "cupl"):
        write(whole, tmp_path / "x.json", format)
        plain = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
        assert plain == {name: whole.classes.get(i, []) for i, name in whole.names.items()}
        assert by_name(read(tmp_path / "x.json", format)) == by_name(whole)


@QUICK
@given(described(classes=False, twos=True))
def test_fudds_two_files_read_back_the_same(tmp_path: Path, whole: Descriptions) -> None:
    write(whole, tmp_path / "x_prompt_pairs.json", "fudd")
    assert json.loads((tmp_path / "x_class_names.json").read_text(encoding="utf-8")) == list(whole.names.values())
    assert by_name(read(tmp_path / "x_prompt_pairs.json")) == by_name(whole)


@pytest.mark.parametrize("format", ["dclip", "csv", "fudd"])
def test_a_set_of_classes_stays_in_our_own_form_and_elsewhere_it_is_said(tmp_path: Path, format: str) -> None:
    sets = {(0, 1, 2): {0: ["a comb"], 1: ["a bill"], 2: ["long legs"]}}
    names = {0: "hen", 1: "duck", 2: "emu"}
    with pytest.raises(InputError, match=f"only 1 sets, which the format {format} cannot hold; descbench can"):
        write(Descriptions(sets=sets, names=names), tmp_path / "x_prompt_pairs.json", format)
    both = Descriptions({0: ["a comb"]}, {(0, 1): (["red"], ["white"])}, names, sets=sets)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write(both, tmp_path / "x_prompt_pairs.json", format)
    assert str(told[0].message) == f"1 sets left out, which the format {format} cannot hold; descbench can"
    write(both, tmp_path / "x.desc.json")
    assert db.read_descriptions(tmp_path / "x.desc.json").sets == sets


def test_what_a_form_cannot_hold_is_said(tmp_path: Path) -> None:
    names = {0: "hen", 1: "emu"}
    both = Descriptions({0: ["a comb"]}, {(0, 1): (["x"], ["y"])}, names)
    with pytest.warns(DescbenchWarning, match="1 pairs left out, which the format dclip cannot hold; fudd or csv can"):
        write(both, tmp_path / "a.json", "dclip")
    with pytest.warns(DescbenchWarning, match="the descriptions of 1 classes left out"):
        write(both, tmp_path / "a_prompt_pairs.json", "fudd")
    uneven = Descriptions({}, {(0, 1): (["x"], [])}, names)
    for descriptions, file, format, message in (
        (
            Descriptions({0: ["x"], 1: ["y"]}, names={0: "a", 1: "a"}),
            "b.json",
            "dclip",
            "'a': several classes of one name",
        ),
        (uneven, "b_prompt_pairs.json", "fudd", "'hen' and 'emu' have 1 and 0 texts as a pair; .*csv holds any number"),
        (uneven, "b.json", "cupl", "there are only 1 pairs, which the format cupl cannot hold"),
        (Descriptions({0: ["x"]}, names=names), "b_prompt_pairs.json", "fudd", "there are no pairs"),
        (both, "b.json", "fudd", "call this one X_prompt_pairs.json"),
        (both, "b.json", "fud", "no format 'fud' to write; did you mean 'fudd'"),
        (Descriptions({0: ["x"]}), "b.csv", "csv", "do not name their classes"),
        (Descriptions({0: ["x\0"]}, names=names), "b.csv", "csv", "zero byte"),
    ):
        with pytest.raises(InputError, match=message):
            write(descriptions, tmp_path / file, format)
        assert not (tmp_path / file).exists()
    assert set(WRITABLE) < set(FORMATS)


# --- robustness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        ('{"hen": ["x"]}'.encode("utf-16"), "it begins as UTF-16 does. Save it as UTF-8"),
        ('{"hen": ["x"]}'.encode("utf-16-le"), "binary: it has a zero byte at 1"),
        (b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        (b'{"hen": ["cr\xe8me"]}', "not UTF-8 text .*byte 12.*Save it as UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"hen": [' + b"1" * 5000 + b"]}", "is not valid JSON"),
        (b'{"hen": ["x"', "is not valid JSON"),
        (b'{"hen": ["\\ud83d"]}', "half of a character"),
        (b'{"\\ud83d": ["x"]}', "half of a character"),
        (b'{"format": "descbench descriptions, version 1", "provenance": {"x": "\\ud83d"}}', "half of a character"),
        (b'{"format": "descbench descriptions, version 1", "provenance": [1]}', "'provenance' must be an object"),
        (b"just some words\nand more", "text without columns .*'just some words'"),
    ],
)
def test_a_file_that_is_no_text_or_no_json_is_one_clear_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        db.read_descriptions(tmp_path / "x.json")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    text = json.dumps(DCLIP, indent=1)
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert db.read_descriptions(tmp_path / "x.json").classes == {0: ["a comb", "two legs"], 2: ["spurs", "spurs"]}
    lines(tmp_path / "y.jsonl", reply("hen", "- a comb"))
    (tmp_path / "y.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "y.jsonl").read_bytes().replace(b"\n", b"\r\n"))
    assert db.read_descriptions(tmp_path / "y.jsonl").classes == {0: ["a comb"]}


def test_a_large_file_of_each_form_is_not_taken_for_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("descbench.formats.source._LARGE", 0)
    for name, text in SAMPLES.items():
        (tmp_path / "x").write_text(text)
        assert read(tmp_path / "x").provenance["format"] == name
    for text in ('{"images": [{"id": 1}]}', '{"info": {"year": 2017}}', '{"hen": [1]}', "[[1]]", "{", '{"a": 1}'):
        (tmp_path / "x").write_text(text)
        with pytest.raises(InputError, match="is JSON, but holds no descriptions: it begins with "):
            read(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize(
    "block",
    [b"\0\1\2\3", b"words of a log\n", b"x" * 64, b"[", b'{"a":', b'{"id": 1, "box": [2, 3.5]},', b"1,", b"{},"],
)
def test_a_file_of_100_mb_of_the_wrong_kind_is_refused_in_seconds(tmp_path: Path, block: bytes) -> None:
    content = block * (100_000_000 // len(block))
    if block[-1:] == b",":
        content = b'{"annotations": [' + content[:-1] + b"]}"
    (tmp_path / "x").write_bytes(content)
    started = time.perf_counter()
    with pytest.raises(InputError) as caught:
        db.read_descriptions(tmp_path / "x")
    assert time.perf_counter() - started < 5 and len(str(caught.value)) < 600


SAMPLES: dict[str, str] = {
    "dclip": json.dumps(DCLIP, indent=1),
    "cupl": json.dumps({"hen": ["A hen is a bird.", "A hen has a comb."], "emu": ["An emu runs."]}),
    "fudd": json.dumps(FUDD),
    "disclip": json.dumps({"index_to_descriptions": {"0": ["x"]}, "index_to_classname": {"0": "hen"}}),
    "comparative": json.dumps({"hen": {"emu": ["short legs"]}, "emu": {"hen": ["long legs"]}}),
    "openai-batch": json.dumps(reply("b~hen~emu", "- a comb")) + "\n" + json.dumps(reply("b~hen", "- a\n- b")),
    "csv": 'class,rival,description,id\nhen,,"a ""red"" comb",3\nemu,hen,long legs,4\n',
    "descbench": json.dumps(Descriptions({7: ["a comb"]}, {(3, 7): (["s"], ["n"])}, {3: "cock", 7: "hen"}).to_json()),
}


def test_there_is_a_sample_of_each_format_that_is_one_file(tmp_path: Path) -> None:
    for name, text in SAMPLES.items():
        (tmp_path / "x").write_text(text)
        assert read(tmp_path / "x").provenance["format"] == name
    assert set(FORMATS) - set(SAMPLES) == {"waffleclip", "adaptclipzs"}


def refused_or_read(path: Path, format: str = "auto") -> Descriptions | None:
    """Descriptions that can be saved, or none where the file is refused in one line; nothing else may happen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        try:
            found = read(path, format)
        except InputError as error:
            assert "\n" not in str(error).replace(str(path), "") and len(str(error)) < 1000
            return None
    json.dumps(found.to_json(), ensure_ascii=False).encode()
    assert all(text.strip() for texts in found.classes.values() for text in texts)
    with suppress(InputError):  # a file of ours may leave names out; whoever needs them is told
        found.vocabulary()
    return found


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file with some bytes cut out, put in, flipped, doubled or swapped."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
        at, to = sorted(chance.choices(range(len(data) + 1), k=2))
        to = min(to, at + chance.choice([1, 3, 30, 10_000]))
        kind = chance.randrange(6)
        if kind == 0:
            del data[at:to]
        elif kind == 1:
            data[at:at] = chance.choice(
                [b"}", b"]", b'"', b",", b"{", b"[", b"null", b"1e999", b"\\ud800", b"\n", b"\0"]
            )
        elif kind == 2 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            data[at:at] = data[at:to]
        elif kind == 4:
            data = data[to:] + data[at:to] + data[:at]
        else:
            data = data[:at]
    return bytes(data)


def sources() -> Iterator[bytes]:
    """The samples above, and the smaller published files where they are."""
    yield from (text.encode() for text in SAMPLES.values())
    for path in sorted([*DATA.glob("descriptions/*/*.json"), *DATA.glob("batch/*_replies.jsonl")]):
        if path.stat().st_size < 100_000:
            content = path.read_bytes()
            yield content if len(content) < 12_000 else content[:6000] + content[-6000:]
            yield content[:3000]


def fuzz(folder: Path, cases: int, seed: int) -> Counter[bool]:
    chance = random.Random(seed)
    given = list(sources())
    path = folder / "x.json"
    done: Counter[bool] = Counter()
    for _ in range(cases):
        path.write_bytes(mutated(chance.choice(given), chance))
        format = chance.choice([*FORMATS]) if chance.random() < 0.2 else "auto"
        done[refused_or_read(path, format) is not None] += 1
    return done


def test_a_mutated_file_is_read_or_refused(tmp_path: Path) -> None:
    done = fuzz(tmp_path, 800, seed=0)
    assert min(done[True], done[False]) > 50  # both happen


@pytest.mark.slow
def test_80_000_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    done = fuzz(tmp_path, 80_000, seed=1)
    assert min(done[True], done[False]) > 5_000


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = (
    "hen emu 0 1 format classes pairs prompt_pairs custom_id response error body choices message content id ids texts "
    "name names first second index_to_descriptions index_to_classname"
)
KEYS = st.sampled_from([*WORDS.split(), "descbench descriptions, version 1"])
SHAPED = st.recursive(
    JUNK | KEYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def shaped_json_is_read_or_refused(folder: Path, data: Any) -> None:
    (folder / "x.json").write_text(json.dumps(data), encoding="utf-8")
    refused_or_read(folder / "x.json")


def no_key_is_lost(folder: Path, members: list[tuple[str, Any]]) -> None:
    """Every key of an object, each time it occurs, is a class; or the file is refused."""
    path = folder / "x.json"
    path.write_text("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in members) + "}")
    found = refused_or_read(path, "dclip")
    if found is not None:
        assert list(found.names.values()) == [key for key, _ in members]
        for id_, (_, texts) in enumerate(members):
            assert found.classes.get(id_, []) == [text for text in texts if text.strip()]


MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["hen", "emu", "Hen", "crème"]) | st.text(max_size=3), st.lists(st.text(max_size=3)) | JUNK
    ),
    max_size=5,
)


@QUICK
@given(SHAPED)
def test_json_of_any_shape_is_read_or_refused(tmp_path: Path, data: Any) -> None:
    shaped_json_is_read_or_refused(tmp_path, data)


@QUICK
@given(MEMBERS)
@example([("hen", ["a"]), ("hen", ["b"])])
def test_no_key_of_a_file_is_lost(tmp_path: Path, members: list[tuple[str, Any]]) -> None:
    no_key_is_lost(tmp_path, members)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "strategy"), [(shaped_json_is_read_or_refused, SHAPED), (no_key_is_lost, MEMBERS)], ids=["shapes", "keys"]
)
def test_10_000_files_of_any_shape_are_read_or_refused(
    tmp_path: Path, check: Callable[..., None], strategy: Any
) -> None:
    @settings(QUICK, max_examples=10_000)
    @given(strategy)
    def run(data: Any) -> None:
        check(tmp_path, data)

    run()


# --- the published files ---------------------------------------------------------------------------------------------


@published
@pytest.mark.parametrize(
    ("file", "format", "classes", "empty", "texts", "repeated"),
    [  # counted with json and a loop, apart from the readers
        ("adaptclipzs/pets", "adaptclipzs", 37, 0, 479, 0),
        ("cupl/imagenet_prompts_base.json", "cupl", 998, 0, 29940, 1693),
        ("cupl/pets_prompts_full.json", "cupl", 37, 0, 740, 22),
        ("dclip/descriptors_food101.json", "dclip", 101, 5, 499, 0),
        ("dclip/descriptors_places365.json", "dclip", 365, 1, 2108, 3),
        ("disclip/descriptions_eurosat_dclip.json", "disclip", 10, 0, 25, 0),
        ("proapo/DCLIP.json", "dclip", 37, 0, 246, 0),
        ("proapo/GPT4Vis.json", "cupl", 37, 0, 740, 0),
    ],
)
def test_a_published_file_is_read_whole(
    file: str, format: str, classes: int, empty: int, texts: int, repeated: int
) -> None:
    found = db.read_descriptions(DATA / "descriptions" / file)
    assert found.provenance["format"] == format
    assert (len(found.names), len(found.names) - len(found.classes)) == (classes, empty)
    assert sum(map(len, found.classes.values())) == texts
    assert sum(len(said) - len(set(said)) for said in found.classes.values()) == repeated


@published
@pytest.mark.parametrize("file", ["dclip/descriptors_pets.json", "proapo/DCLIP.json", "adaptclipzs/pets"])
def test_published_pets_of_any_order_and_case_are_joined_by_name(file: str) -> None:
    names = json.loads((DATA / "descriptions/fudd/pets_class_names.json").read_text())
    vocabulary = Vocabulary(names[::-1])
    found = db.read_descriptions(DATA / "descriptions" / file, vocabulary)
    own = read(DATA / "descriptions" / file)
    said = {name.casefold(): own.classes[i] for i, name in own.names.items()}
    assert found.classes == {id_: said[name.casefold()] for id_, name in vocabulary}


@published
def test_all_507_replies_of_the_batches_have_their_request_and_features() -> None:
    total = 0
    for path in sorted((DATA / "batch").glob("*_replies.jsonl")):
        batch = read_batch(path)
        sent = [json.loads(line)["custom_id"] for line in path.with_name(
            path.name.replace("replies", "requests")).read_text().splitlines()]  # fmt: skip
        assert sorted(sent) == sorted(entry.custom_id for entry in batch.entries)
        assert batch.counts["answered"] == len(batch.entries) == len(sent)
        described = describe(batch)
        assert described.unusable == {}
        answers = re.findall(r'"content": "', path.read_text())
        assert len(answers) == len(batch.entries)
        total += len(batch.entries)
    assert total == 507
