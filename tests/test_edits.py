"""A file remembers what was generated, so that it can be said which lines a person wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import descbench as db
from descbench import Descriptions, Vocabulary, generate
from descbench.edits import Edit, edited, marked, removed, write_edit
from descbench.errors import InputError
from descbench.testing import FakeEncoder, FakeLLM

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
BIRDS = Vocabulary(["hen", "rooster", "emu"], "farm birds")


def test_nothing_is_edited_in_a_file_as_it_was_generated(tmp_path: Path) -> None:
    for method in ("dclip", "differential", "contrast", "cascade(dclip, differential, contrast)"):
        generate(BIRDS, db.method(method), FakeLLM()).save(tmp_path / "birds.desc.json")
        found = Descriptions.load(tmp_path / "birds.desc.json")
        assert edited(found) == {} and removed(found) == 0


def test_a_changed_and_an_added_line_are_named_and_a_removed_one_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "birds.desc.json"
    generate(BIRDS, db.method("cascade(dclip, differential)"), FakeLLM()).save(path)
    found = Descriptions.load(path)
    classes = {**found.classes, 0: ["a small red comb", *found.classes[0][1:]], 1: [*found.classes[1], "spurs"]}
    pairs = {**found.pairs, (0, 2): (found.pairs[0, 2][0], [*found.pairs[0, 2][1], "a long neck"])}
    by_hand = replace(found, classes={**classes, 2: classes[2][:-1]}, pairs=pairs)
    assert edited(by_hand) == {(0,): ["a small red comb"], (1,): ["spurs"], (2, 0): ["a long neck"]}
    assert removed(by_hand) == 2


def test_a_line_of_a_set_is_edited_against_all_others_and_the_order_of_ids_is_no_edit() -> None:
    found = generate(BIRDS, db.method("contrast"), FakeLLM())
    ((ids, said),) = found.sets.items()
    by_hand = replace(found, sets={ids: {**said, 1: [*said[1], "spurs"], 2: said[2][1:]}})
    assert edited(by_hand) == {(1, 0, 2): ["spurs"]} and removed(by_hand) == 1
    other = Vocabulary(["emu", "rooster", "hen"])
    assert edited(by_hand.matched(other)) == {(1, 0, 2): ["spurs"]} and edited(found.matched(other)) == {}


def test_what_was_edited_stays_edited_when_more_is_generated() -> None:
    first = generate(BIRDS.subset([0, 1]), db.method("dclip"), FakeLLM())
    by_hand = replace(first, classes={**first.classes, 0: ["a small red comb"]})
    more = generate(BIRDS, db.method("dclip"), FakeLLM(), known=by_hand)
    assert set(more.classes) == {0, 1, 2}
    assert edited(more) == {(0,): ["a small red comb"]}


def test_what_a_classifier_asks_on_its_way_is_not_taken_for_a_persons() -> None:
    first = generate(BIRDS, db.method("dclip"), FakeLLM())
    by_hand = replace(first, classes={**first.classes, 0: ["a small red comb"]})
    encoder = FakeEncoder()
    for spelling in ("cascade(dclip, differential, k=2)", "cascade(dclip, contrast, k=3)"):
        classifier = db.Classifier(BIRDS, db.method(spelling), encoder, FakeLLM(), by_hand)
        classifier.predict_features(encoder.encode_texts(BIRDS.names))
        assert classifier.descriptions.pairs or classifier.descriptions.sets
        assert edited(classifier.descriptions) == {(0,): ["a small red comb"]}


def test_a_file_that_remembers_nothing_still_has_nothing_to_tell_when_a_classifier_has_asked() -> None:
    imported = Descriptions({id_: ["a comb"] for id_ in range(3)}, names=dict(BIRDS))
    encoder = FakeEncoder()
    classifier = db.Classifier(BIRDS, db.method("cascade(dclip, differential, k=2)"), encoder, FakeLLM(), imported)
    classifier.predict_features(encoder.encode_texts(BIRDS.names))
    assert classifier.descriptions.pairs and edited(classifier.descriptions) == {}


def test_other_ids_and_another_spelling_of_a_name_are_no_edit() -> None:
    found = generate(BIRDS, db.method("cascade(dclip, differential)"), FakeLLM())
    other = Vocabulary(["Emu", "HEN", "rooster"], ids=[5, 9, 1])
    assert edited(found.matched(other)) == {}


def test_a_file_that_remembers_nothing_has_no_edits_to_tell() -> None:
    assert edited(Descriptions({0: ["a comb"]}, names={0: "hen"})) == {}
    broken = Descriptions({0: ["a comb"]}, names={0: "hen"}, provenance={"generated": 7})
    assert edited(broken) == {}


@given(st.lists(TEXT, min_size=1, max_size=8), st.data())
def test_exactly_the_texts_that_were_not_there_are_edited(texts: list[str], data: st.DataObject) -> None:
    found = marked(Descriptions({0: texts}, names={0: "hen"}), Descriptions())
    new = data.draw(st.lists(TEXT, max_size=4))
    by_hand = replace(found, classes={0: [*texts, *new]})
    expected = [
        text for text in new if text.encode("utf-8", "replace") not in {t.encode("utf-8", "replace") for t in texts}
    ]
    assert edited(by_hand) == ({(0,): expected} if expected else {})


LINES = ["a red comb", "3", "long spurs"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(drop=("1",)), ["3", "long spurs"]),
        (Edit(drop=("3",)), ["a red comb", "long spurs"]),  # a text before a number
        (Edit(drop=("2", "a red comb")), ["long spurs"]),
        (
            Edit(replace=(("1", "a red hat"),), add=("a tail", "a beak")),
            ["a red hat", "3", "long spurs", "a tail", "a beak"],
        ),
        (Edit(drop=("1",), add=("A red comb",)), ["3", "long spurs", "A red comb"]),
        (Edit(replace=(("1", "a RED comb"),)), ["a RED comb", "3", "long spurs"]),
        (Edit(drop=("1", "2", "long spurs")), []),
        (Edit(), LINES),
    ],
)
def test_lines_are_dropped_replaced_in_place_and_added_at_the_end(edit: Edit, expected: list[str]) -> None:
    assert edit.applied(LINES, "hen") == expected and bool(edit) == (expected != LINES)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(drop=("7",)), "'hen' has no line 7; it has the lines 1 to 3"),
        (Edit(drop=("0",)), "'hen' has no line 0"),
        (Edit(drop=("a red com",)), "'hen' has no line 'a red com'; did you mean 'a red comb'"),
        (Edit(drop=("1", "a red comb")), "line 1 of 'hen' is named twice"),
        (Edit(drop=("1",), replace=(("1", "x"),)), "line 1 of 'hen' is named twice"),
        (Edit(add=(" \t",)), "a new line of 'hen' is blank"),
        (Edit(add=("A  Red comb ",)), "'hen' has the line 'a red comb' already"),
        (Edit(add=("new", "NEW")), "'hen' has the line 'new' already"),
        (Edit(replace=(("1", "long spurs"),)), "'hen' has the line 'long spurs' already"),
        (Edit(add=("half \ud83d",)), "half of a character"),
    ],
)
def test_an_edit_that_cannot_be_made_says_why(edit: Edit, message: str) -> None:
    with pytest.raises(InputError, match=message):
        edit.applied(LINES, "hen")


def test_a_class_without_lines_gets_its_first() -> None:
    assert Edit(add=("a comb",)).applied([], "hen") == ["a comb"]
    with pytest.raises(InputError, match="no line 1; it has no lines"):
        Edit(drop=("1",)).applied([], "hen")


def test_a_file_is_changed_in_these_lines_alone_and_knows_that_a_person_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "birds.desc.json"
    generate(BIRDS, db.method("cascade(dclip, differential)"), FakeLLM()).save(path)
    data = json.loads(path.read_text())
    data["classes"].reverse()  # neither the order nor what nobody reads may change
    data = {"comment": "ours", **data}
    data["classes"][0]["seen"] = "by me"
    path.write_text(json.dumps(data))
    before = json.loads(path.read_text())
    texts = next(entry["texts"] for entry in data["classes"] if entry["id"] == 1)
    write_edit(path, 1, [*texts[1:], "long spurs"], ["long spurs"])
    after = json.loads(path.read_text())
    assert [*after] == [*before] and [entry["id"] for entry in after["classes"]] == [2, 1, 0]
    assert after["classes"][1]["texts"] == [*texts[1:], "long spurs"]
    assert after["provenance"].pop("edited") and after["classes"][1].pop("texts") and before["classes"][1].pop("texts")
    assert after == before
    assert edited(Descriptions.load(path)) == {(1,): ["long spurs"]} and removed(Descriptions.load(path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_file_that_remembers_nothing_knows_the_lines_that_were_written_by_command(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    Descriptions({0: ["a comb"], 1: ["spurs"]}, names={0: "hen", 1: "rooster"}).save(path)
    write_edit(path, 0, ["a comb", "a small head"], ["a small head"])
    write_edit(path, 1, ["long spurs"], ["long spurs"])
    assert edited(Descriptions.load(path)) == {(0,): ["a small head"], (1,): ["long spurs"]}
    other = Vocabulary(["rooster", "hen"])
    assert edited(Descriptions.load(path).matched(other)) == {(1,): ["a small head"], (0,): ["long spurs"]}
    write_edit(path, 0, ["a comb"], [])
    assert edited(Descriptions.load(path)) == {(1,): ["long spurs"]}


def test_only_files_of_ours_are_written_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    path.write_text('{"hen": ["a comb"]}')
    with pytest.raises(InputError, match=r"published by others.*descbench import"):
        write_edit(path, 0, ["x"], ["x"])
    assert path.read_text() == '{"hen": ["a comb"]}'
    Descriptions({0: ["a comb"]}, names={0: "hen"}).save(path)
    with pytest.raises(InputError, match="no class with id 5"):
        write_edit(path, 5, ["x"], ["x"])
