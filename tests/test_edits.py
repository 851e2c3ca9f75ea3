"""A file remembers what was generated, so that it can be said which lines a person wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import descbench as db
from descbench import Descriptions, Vocabulary, generate
from descbench.edits import edited, marked, removed
from descbench.testing import FakeLLM

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
