"""Descriptions are joined by name, never by position; a file that a person edited is read, or refused by the entry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descbench import Descriptions, Vocabulary
from descbench.descriptions import readable
from descbench.errors import DescbenchWarning, InputError, MatchError

BIRDS = Vocabulary(["hen", "rooster", "turkey"], domain="farm birds", ids=[7, 3, 11])
GIVEN = Descriptions(
    {0: ["a wattle"], 1: ["a small comb", "round body"], 2: ["a tall comb"]},
    {(1, 2): (["a small comb"], ["a tall comb"]), (0, 1): (["a bare head"], ["a feathered head"])},
    {0: "turkey", 1: "hen", 2: "rooster"},
)


def test_a_pair_is_kept_once_and_found_from_either_side() -> None:
    d = Descriptions(pairs={(5, 2): (["of five"], ["of two"])})
    assert dict(d.pairs) == {(2, 5): (["of two"], ["of five"])}
    assert d.pair(2, 5) == (["of two"], ["of five"])
    assert d.pair(5, 2) == (["of five"], ["of two"])
    assert d.pair(2, 3) is None and d.pair(3, 2) is None
    with pytest.raises(InputError, match="class 4 twice"):
        Descriptions(pairs={(4, 4): ([], [])})


def test_a_set_is_found_by_its_ids_in_any_order_and_has_a_list_for_each() -> None:
    d = Descriptions(sets={(5, 2, 9): {9: ["of nine"], 5: ["of five"]}})
    assert dict(d.sets) == {(2, 5, 9): {2: [], 5: ["of five"], 9: ["of nine"]}}
    assert d.set([9, 2, 5]) == {2: [], 5: ["of five"], 9: ["of nine"]}
    assert d.set([2, 5]) is None and d.set([2]) is None
    assert d.mentioned == {2, 5, 9} and d.texts == ["of five", "of nine"]
    for ids, texts, message in (
        ((4,), {}, "two different classes or more, given: 4"),
        ((4, 4), {}, "two different classes or more, given: 4, 4"),
        ((4, 5), {6: ["x"]}, "a set of the classes 4, 5 has texts of others: 6"),
    ):
        with pytest.raises(InputError, match=message):
            Descriptions(sets={ids: texts})


def test_in_a_set_classes_of_one_name_have_the_texts_of_the_first() -> None:
    d = Descriptions(sets={(2, 5): {2: ["fins"], 5: ["tracks"]}}, names={2: "missile", 5: "tank", 9: "missile"})
    assert d.set([9, 5, 2]) == {2: ["fins"], 5: ["tracks"], 9: ["fins"]}
    assert d.set([9, 5]) is None and d.set([2, 9]) is None
    both = replace(d, sets={**d.sets, (2, 5, 9): {9: ["by hand"]}})
    assert both.set([9, 5, 2]) == {2: [], 5: [], 9: ["by hand"]}


def test_the_classes_of_a_set_are_joined_by_name_and_a_set_that_lacks_one_is_dropped_and_counted() -> None:
    d = Descriptions(
        {0: ["a wattle"]},
        sets={(0, 1, 2): {0: ["bare"], 1: ["small"], 2: ["tall"]}, (1, 3): {1: ["short"], 3: ["long"]}},
        names={0: "turkey", 1: "hen", 2: "rooster", 3: "emu"},
    )
    assert dict(d.matched(BIRDS).sets) == {(3, 7, 11): {3: ["tall"], 7: ["small"], 11: ["bare"]}}
    with pytest.warns(DescbenchWarning, match="lacks: emu; 1 sets left out, of which a class is lacking; 1 classes of"):
        joined = d.matched(Vocabulary(["owl", "rooster", "hen", "turkey"]), allow_missing=True)
    assert dict(joined.sets) == {(1, 2, 3): {1: ["tall"], 2: ["small"], 3: ["bare"]}}
    tanks = Descriptions(sets={(0, 1): {0: ["fins"], 1: ["tracks"]}}, names={0: "missile", 1: "tank"})
    twice = tanks.matched(Vocabulary(["missile", "tank", "missile"]))
    assert dict(twice.sets) == {(0, 1): {0: ["fins"], 1: ["tracks"]}, (1, 2): {1: ["tracks"], 2: ["fins"]}}


def test_what_is_merged_in_wins_for_sets_too() -> None:
    old = Descriptions(sets={(1, 2): {1: ["old"]}, (1, 3): {1: ["kept"]}})
    both = old.merged(Descriptions(sets={(2, 1): {2: ["new"]}}))
    assert dict(both.sets) == {(1, 2): {1: [], 2: ["new"]}, (1, 3): {1: ["kept"], 3: []}}


def test_what_is_merged_in_wins() -> None:
    old = Descriptions(
        {1: ["old"], 2: ["kept"]}, {(1, 2): (["old"], ["old"])}, {1: "hen"}, "birds", {"llm": "a", "x": 1}
    )
    new = Descriptions({1: ["new"]}, {(2, 1): (["of two"], ["of one"])}, {2: "rooster"}, provenance={"llm": "b"})
    both = old.merged(new)
    assert both.classes == {1: ["new"], 2: ["kept"]}
    assert both.pair(1, 2) == (["of one"], ["of two"])
    assert both.names == {1: "hen", 2: "rooster"}
    assert both.domain == "birds" and both.provenance == {"llm": "b", "x": 1}


def test_classes_and_pairs_are_joined_by_name_not_by_position() -> None:
    joined = GIVEN.matched(BIRDS)
    assert joined.classes == {11: ["a wattle"], 7: ["a small comb", "round body"], 3: ["a tall comb"]}
    assert joined.pair(7, 3) == (["a small comb"], ["a tall comb"])
    assert joined.pair(11, 7) == (["a bare head"], ["a feathered head"])
    assert joined.names == dict(BIRDS) and joined.domain == "farm birds"


def test_equal_ids_with_other_names_are_joined_by_name_too() -> None:
    swapped = Vocabulary(["hen", "rooster", "turkey"])  # ids 0, 1, 2 as in GIVEN, names moved
    assert GIVEN.matched(swapped).classes == {2: ["a wattle"], 0: ["a small comb", "round body"], 1: ["a tall comb"]}


def test_joining_twice_changes_nothing() -> None:
    once = GIVEN.matched(BIRDS)
    assert once.matched(BIRDS) == once


def test_names_are_joined_without_case_and_separators() -> None:
    d = Descriptions({0: ["x"], 1: ["y"]}, names={0: "Red_Hen", 1: "crème brûlée"})
    assert d.matched(Vocabulary(["Creme Brulee", "red hen"])).classes == {1: ["x"], 0: ["y"]}


def test_an_exact_name_wins_over_one_that_is_only_like_it() -> None:
    d = Descriptions({0: ["exact"], 1: ["like"]}, names={0: "crane", 1: "The Crane"})
    assert d.matched(Vocabulary(["crane"])).classes == {0: ["exact"]}
    d = Descriptions({0: ["like"], 1: ["exact"]}, names={0: "The Crane", 1: "crane"})
    assert d.matched(Vocabulary(["crane"])).classes == {0: ["exact"]}


def test_two_names_that_are_both_only_like_a_class_are_refused() -> None:
    d = Descriptions({0: ["one"], 1: ["other"]}, names={0: "CRANE", 1: "The Crane"})
    with pytest.raises(MatchError, match="'CRANE' and 'The Crane' both fit the class 'crane'"):
        d.matched(Vocabulary(["crane"]))


def test_a_described_class_without_a_name_among_named_ones_is_refused() -> None:
    d = Descriptions({0: ["x"], 1: ["y"]}, names={1: "hen"})
    with pytest.raises(MatchError, match="the ids 0 have no name"):
        d.matched(BIRDS)


def test_without_names_descriptions_are_joined_by_id() -> None:
    d = Descriptions({7: ["of the hen"]}, {(3, 11): (["r"], ["t"])})
    assert d.matched(BIRDS).classes == {7: ["of the hen"]}
    with pytest.raises(MatchError, match="descriptions for the ids 99, which the vocabulary does not have"):
        Descriptions({99: ["x"]}).matched(BIRDS)


def test_a_name_that_the_file_has_once_and_the_vocabulary_twice_serves_both() -> None:
    missiles = Vocabulary(["missile", "tank", "missile"])
    d = Descriptions({0: ["fins"], 1: ["tracks"]}, {(0, 1): (["thin"], ["wide"])}, {0: "missile", 1: "tank"})
    joined = d.matched(missiles)
    assert joined.classes == {0: ["fins"], 2: ["fins"], 1: ["tracks"]}
    assert joined.pair(2, 1) == (["thin"], ["wide"]) == joined.pair(0, 1)


def test_a_name_that_both_have_twice_is_joined_in_order_of_ids() -> None:
    missiles = Vocabulary(["missile", "tank", "missile"], ids=[5, 6, 2])
    d = Descriptions({10: ["first"], 20: ["second"]}, names={10: "missile", 20: "missile"})
    assert d.matched(missiles).classes == {2: ["first"], 5: ["second"]}


def test_more_of_a_name_in_the_file_than_in_the_vocabulary_is_an_error() -> None:
    d = Descriptions({0: ["a"], 1: ["b"]}, names={0: "missile", 1: "missile"})
    with pytest.raises(MatchError, match="missile"):
        d.matched(Vocabulary(["missile", "tank", "missile", "missile"]))


def test_a_file_for_more_classes_serves_a_smaller_vocabulary() -> None:
    joined = GIVEN.matched(Vocabulary(["rooster", "hen"]))
    assert joined.classes == {0: ["a tall comb"], 1: ["a small comb", "round body"]}
    assert dict(joined.pairs) == {(0, 1): (["a tall comb"], ["a small comb"])}


def test_a_file_for_fewer_classes_leaves_the_others_undescribed() -> None:
    joined = Descriptions({0: ["x"]}, names={0: "hen"}).matched(BIRDS)
    assert joined.classes == {7: ["x"]}


def test_a_file_for_other_classes_is_refused_with_both_sides() -> None:
    d = Descriptions({0: ["x"], 1: ["y"]}, names={0: "hen", 1: "Turkeys"})
    with pytest.raises(MatchError) as caught:
        d.matched(BIRDS)
    text = str(caught.value)
    assert "1 described class without a class: 'Turkeys'; did you mean 'turkey'?" in text
    assert "The vocabulary has 3 classes: hen, rooster, turkey." in text
    assert "Without a description: rooster, turkey." in text


def test_the_classes_of_a_file_are_a_vocabulary() -> None:
    assert GIVEN.vocabulary() == Vocabulary(["turkey", "hen", "rooster"])
    with pytest.raises(InputError, match="do not name their classes"):
        Descriptions({0: ["x"]}).vocabulary()


TEXT = st.text(min_size=1).filter(str.strip)
IDS = st.integers(-3, 12)
DESCRIPTIONS = st.builds(
    Descriptions,
    st.dictionaries(IDS, st.lists(TEXT, min_size=1, max_size=3), max_size=4),
    st.dictionaries(
        st.tuples(IDS, IDS).filter(lambda pair: pair[0] < pair[1]),
        st.tuples(st.lists(TEXT, max_size=2), st.lists(TEXT, max_size=2)),
        max_size=3,
    ),
    st.just({}),
    st.text(),
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none()), max_size=2),
    st.dictionaries(
        st.lists(IDS, min_size=2, max_size=4, unique=True).map(lambda ids: tuple(sorted(ids))),
        st.lists(st.lists(TEXT, max_size=2), min_size=4, max_size=4),
        max_size=2,
    ).map(lambda sets: {ids: dict(zip(ids, lists, strict=False)) for ids, lists in sets.items()}),
)


@given(DESCRIPTIONS, st.lists(TEXT, min_size=16, max_size=16))
@settings(deadline=None, max_examples=60)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, given: Descriptions, names: list[str]
) -> None:
    ids = given.mentioned
    whole = given.merged(Descriptions(names={i: names[i + 3] for i in sorted(ids)}))
    path = tmp_path_factory.mktemp("saved") / "new folder" / "birds.desc.json"
    whole.save(path)
    assert Descriptions.load(path) == whole
    assert [p.name for p in path.parent.iterdir()] == ["birds.desc.json"]


def test_a_file_has_one_text_a_line_and_keeps_accents(tmp_path: Path) -> None:
    Descriptions({0: ["crème", "brûlée 🦜"]}, names={0: "a dessert"}).save(tmp_path / "x.json")
    lines = (tmp_path / "x.json").read_text(encoding="utf-8").splitlines()
    assert [line.strip() for line in lines if "crème" in line or "🦜" in line] == ['"crème",', '"brûlée 🦜"']


def test_a_class_without_texts_is_listed_for_the_person_who_edits(tmp_path: Path) -> None:
    Descriptions({7: ["x"]}, names=dict(BIRDS)).save(tmp_path / "x.json")
    entries = json.loads((tmp_path / "x.json").read_text())["classes"]
    assert [(e["id"], e["name"], e["texts"]) for e in entries] == [
        (3, "rooster", []),
        (7, "hen", ["x"]),
        (11, "turkey", []),
    ]
    assert Descriptions.load(tmp_path / "x.json").classes == {7: ["x"]}


def _edited(**changes: Any) -> dict[str, Any]:
    entry = {"id": 0, "name": "hen", "texts": ["a comb"]}
    pair = {"ids": [0, 1], "names": ["hen", "emu"], "first": ["a"], "second": ["b"]}
    several = {"ids": [2, 0], "names": ["owl", "hen"], "texts": [["c"], ["d"]]}
    several |= changes.pop("set", {})
    whole = {"format": "descbench descriptions, version 1", "domain": "", "classes": [entry], "pairs": [pair]}
    whole |= {"sets": [several]}
    for key, value in changes.items():
        if key in whole:
            whole[key] = value
        else:
            (entry if key in entry else pair)[key] = value
    return whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "is not a file of descbench"),
        ({"classes": {"hen": []}}, "'classes' must be a list"),
        ({"classes": None}, "'classes' must be a list"),
        ({"classes": ["hen"]}, "class entry 0: 'id' must be a whole number, given: 'hen'"),
        ({"id": "0"}, "class entry 0: 'id' must be a whole number"),
        ({"id": None}, "class entry 0: 'id' must be a whole number"),
        ({"texts": "a comb"}, "class entry 0: expected a list of texts in double quotes, given: 'a comb'"),
        ({"texts": [1]}, "class entry 0: expected a list of texts"),
        ({"texts": None}, "class entry 0: expected a list of texts"),
        ({"classes": [{"id": 0, "texts": []}, {"id": 0, "texts": []}]}, "class entry 1: id 0 occurs twice"),
        ({"pairs": 5}, "'pairs' must be a list"),
        ({"pairs": ["x"]}, "pair entry 0: 'ids' must be two class ids"),
        ({"ids": [0]}, "pair entry 0: 'ids' must be two class ids"),
        ({"ids": [0, 0]}, "pair entry 0: .*class 0 twice"),
        ({"first": None}, "pair entry 0: expected a list of texts"),
        ({"second": ["b", 3]}, "pair entry 0: expected a list of texts"),
        ({"sets": {"ids": [0, 1]}}, "'sets' must be a list"),
        ({"sets": ["x"]}, "set entry 0: 'ids' must be two class ids or more"),
        ({"set": {"ids": [0]}}, "set entry 0: 'ids' must be two class ids or more"),
        ({"set": {"ids": [0, "2"]}}, "set entry 0: 'ids' must be two class ids or more"),
        ({"set": {"ids": [2, 0, 2]}}, "set entry 0: a set needs different classes, given: class 2 twice"),
        ({"set": {"ids": [2, 0, 1]}}, "set entry 0: 'texts' must be 3 lists of texts, one for each of 'ids'"),
        ({"set": {"texts": None}}, "set entry 0: 'texts' must be 2 lists of texts"),
        ({"set": {"texts": ["c", "d"]}}, "set entry 0: expected a list of texts in double quotes, given: 'c'"),
        ({"set": {"texts": [["c"], [3]]}}, "set entry 0: expected a list of texts"),
        (
            {"sets": [{"ids": [0, 2], "texts": [[], []]}, {"ids": [2, 0], "texts": [[], []]}]},
            "set entry 1: the classes 0, 2 occur twice as a set; keep one entry",
        ),
    ],
)
def test_a_broken_entry_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(_edited(**changes)))
    with pytest.raises(InputError, match=message) as caught:
        Descriptions.load(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": None}, {"name": 5}, {"names": None}, {"names": []}, {"names": 5}, {"domain": None}),
        *({"texts": [" "]}, {"set": {"names": None}}, {"set": {"texts": [["c", " "], ["d"]]}}),
    ],
)
def test_what_a_person_may_leave_out_is_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "x.json").write_text(json.dumps(_edited(**changes)))
    loaded = Descriptions.load(tmp_path / "x.json")
    assert loaded.pair(0, 1) == (["a"], ["b"])
    assert loaded.set([0, 2]) == {0: ["d"], 2: ["c"]}


def test_sets_are_written_only_where_there_are_some_and_a_text_a_line(tmp_path: Path) -> None:
    assert "sets" not in Descriptions({0: ["x"]}).to_json()
    Descriptions(sets={(0, 2): {2: ["a neck", "legs"]}}, names={0: "hen", 2: "emu"}).save(tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text)["sets"] == [{"ids": [0, 2], "names": ["hen", "emu"], "texts": [[], ["a neck", "legs"]]}]
    assert {'"a neck",', '"legs"'} <= {line.strip() for line in text.splitlines()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"format": "descbench",}', "is not valid JSON: .* Was it edited"),
        (b"[]", "is not a file of descbench"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[" * 100_000, "is not valid JSON"),
        (None, "no file"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Descriptions.load(path)


@given(
    st.dictionaries(st.integers(0, 9), st.lists(st.text(), max_size=3), max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 4), st.integers(5, 9)), st.lists(st.text(), max_size=2), max_size=4),
    st.text(),
)
def test_a_file_is_what_the_json_module_writes_with_indentation(
    classes: dict[int, list[str]], pairs: dict[tuple[int, int], list[str]], name: str
) -> None:
    both = {pair: (texts, texts[:1]) for pair, texts in pairs.items()}
    sets = {pair: dict(zip(pair, two, strict=True)) for pair, two in both.items()}
    kept = {"generated": ["ab cd"], "x": {"y": [1, name]}, "n": None}
    found = Descriptions(classes, both, {0: name}, name, kept, sets)
    assert readable(found.to_json()) == json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n"
