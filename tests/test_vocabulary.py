"""Classes: names may repeat, ids never do, and names of other sources are joined by name or refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descbench import Vocabulary
from descbench.errors import InputError, MatchError
from descbench.vocabulary import folder_names, normalise, read_labels

BIRDS = Vocabulary(["hen", "rooster", "turkey"], domain="farm birds", ids=[7, 3, 11])
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip),
    min_size=1,
    max_size=8,
)


def test_ids_are_positions_unless_given() -> None:
    assert Vocabulary(["hen", "rooster"]).ids.tolist() == [0, 1]
    assert list(BIRDS) == [(7, "hen"), (3, "rooster"), (11, "turkey")]
    assert len(BIRDS) == 3


def test_a_subset_keeps_ids_and_domain_in_the_order_asked() -> None:
    part = BIRDS.subset([11, 7])
    assert list(part) == [(11, "turkey"), (7, "hen")]
    assert part.domain == "farm birds"
    assert BIRDS.subset(BIRDS.ids) == BIRDS


def test_names_and_positions_are_found_by_id() -> None:
    assert BIRDS.name(3) == "rooster"
    assert BIRDS.position(11) == 2
    assert BIRDS.positions(np.array([[11, 3], [7, 7]])).tolist() == [[2, 1], [0, 0]]
    for look in (BIRDS.name, BIRDS.position, lambda id_: BIRDS.positions(np.array([3, id_]))):
        for unknown in (4, 12, -1):
            with pytest.raises(InputError, match=f"no class with id {unknown} in this vocabulary of 3 classes"):
                look(unknown)


def test_a_vocabulary_is_a_value_that_nobody_can_change() -> None:
    ids = np.array([7, 3, 11])
    same = Vocabulary(("hen", "rooster", "turkey"), "farm birds", ids)
    ids[0] = 99
    assert same == BIRDS and hash(same) == hash(BIRDS)
    assert Vocabulary(["hen", "rooster", "turkey"], "farm birds") != BIRDS
    assert BIRDS != "hen"
    with pytest.raises(ValueError, match="read-only"):
        same.ids[0] = 1


@pytest.mark.parametrize(
    ("names", "ids", "message"),
    [
        ([], None, "the vocabulary is empty"),
        ("hen", None, r"a list of names, not one text: Vocabulary\(\['hen'\]\)"),
        (["hen", "  "], None, "class 1 has no name"),
        (["hen", None], None, r"class 1 has no name \(given: None\)"),
        (["hen", 5], None, r"class 1 has no name \(given: 5\)"),
        (["hen\nrooster"], None, "control characters"),
        (["hen", "rooster"], [1], "2 names need as many ids, given: 1"),
        (["hen", "rooster"], [1, 1], "ids occur twice: 1"),
        (["hen", "rooster"], ["a", "b"], "ids must be whole numbers"),
        (["hen", "rooster"], [0.5, 1.5], "ids must be whole numbers"),
        (["hen", "rooster"], [None, None], "ids must be whole numbers"),
    ],
)
def test_what_is_no_vocabulary_is_refused_by_name(names: object, ids: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary(names, ids=ids)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Crème_brûlée", "creme brulee"),
        ("a  Hen", "hen"),
        ("The-A-Team", "a team"),
        ("a", "a"),
        ("jack-o'-lantern", "jack o' lantern"),
        ("_", "_"),
        ("ﬁsh", "fish"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
    ],
)
def test_names_are_compared_without_case_accents_article_and_separators(name: str, plain: str) -> None:
    assert normalise(name) == plain


def test_an_exact_name_wins_over_a_normalised_one() -> None:
    both = Vocabulary(["Crane", "crane", "hen"])
    assert both.match(["crane", "Crane", "the hen"]).tolist() == [1, 0, 2]
    with pytest.raises(MatchError, match="fits 2 classes"):
        both.find(["CRANE"])


def test_two_classes_of_one_name_are_joined_in_order_of_ids_where_both_are_asked_for() -> None:
    missiles = Vocabulary(["missile", "hen", "missile"], ids=[9, 1, 4])
    assert missiles.match(["missile", "hen", "missile"]).tolist() == [4, 1, 9]
    with pytest.raises(MatchError, match=r"'missile' fits 2 classes .* Give these classes names that differ"):
        missiles.match(["missile"])


def test_names_without_a_class_are_listed_with_both_sides() -> None:
    with pytest.raises(MatchError) as caught:
        BIRDS.match(["hen", "roster", "emu"], "label")
    text = str(caught.value)
    assert "2 labels without a class: 'roster'; did you mean 'rooster'?; 'emu'" in text
    assert "The vocabulary has 3 classes: hen, rooster, turkey." in text
    assert BIRDS.find(["emu", "Hen"]) == [None, 7]


@given(NAMES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_names_join_with_themselves_in_any_order(names: list[str], random: object) -> None:
    vocabulary = Vocabulary(names)
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = vocabulary.match(shuffled)
    assert [vocabulary.name(id_) for id_ in found] == shuffled
    assert sorted(found) == list(range(len(names)))


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("birds.txt", "hen\n\n  rooster \r\na/b\n", ["hen", "rooster", "a/b"]),
        ("birds.txt", "\ufeffhen\ncrème brûlée\n", ["hen", "crème brûlée"]),
        ("birds.csv", "image,label\n1.jpg,hen\n2.jpg,rooster\n3.jpg,hen\n", ["hen", "rooster"]),
        ("birds.csv", 'name\n"hen, brown"\nrooster\n', ["hen, brown", "rooster"]),
        ("birds.json", '["hen", "rooster"]', ["hen", "rooster"]),
        ("birds.json", '{"hen": ["red comb"], "rooster": []}', ["hen", "rooster"]),
    ],
)
def test_classes_are_read_from_files(tmp_path: Path, file: str, text: str, names: list[str]) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8", newline="")
    assert list(Vocabulary.load(tmp_path / file).names) == names


def test_ids_and_domain_of_a_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n7,missile\n2,missile\n")
    assert list(Vocabulary.load(tmp_path / "a.csv")) == [(7, "missile"), (2, "missile")]
    (tmp_path / "a.json").write_text(json.dumps({"names": ["hen"], "ids": [5], "domain": "birds"}))
    assert Vocabulary.load(tmp_path / "a.json") == Vocabulary(["hen"], "birds", [5])
    assert Vocabulary.load(tmp_path / "a.json", domain="fowl").domain == "fowl"


def test_a_folder_of_class_folders_is_a_vocabulary(tmp_path: Path) -> None:
    for name in ("red_hen", "Auk", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.jpg").touch()
    assert Vocabulary.load(tmp_path).names == ("Auk", "red hen")
    assert folder_names(["a_b", "a b"]) == ["a_b", "a b"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("none.txt", None, "no file or folder"),
        ("empty.txt", b" \n", "is empty"),
        ("latin.txt", "crème".encode("latin-1"), "not UTF-8"),
        ("broken.json", b'["hen",]', "not valid JSON"),
        ("number.json", b"5", "neither a list of names nor an object"),
        ("list.json", b"[[1]]", "class 0 has no name"),
        ("ids.json", b'{"names": ["hen"], "ids": ["x"]}', "ids must be whole numbers"),
        ("classes.json", b'{"classes": ["hen"]}', "class entry 0"),
        ("columns.csv", b"a,b\n1,2\n", "no column 'name', 'class' or 'label'"),
        ("ids.csv", b"id,name\nx,hen\n", "the column 'id' must hold whole numbers"),
        ("short.csv", b"id,name\n1\n", "class 0 has no name"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused_by_name(
    tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Vocabulary.load(tmp_path / file)


FOWL = Vocabulary(["hen", "rooster", "turkey"], ids=[7, 3, 11], synonyms={7: ["Female_Chicken", "hen", "biddy"]})


def test_synonyms_go_by_id_each_once_and_without_the_name() -> None:
    assert FOWL.synonyms == {7: ("Female_Chicken", "biddy")}
    assert [FOWL.names_of(id_) for id_, _ in FOWL] == [("hen", "Female_Chicken", "biddy"), ("rooster",), ("turkey",)]
    assert "synonyms={7: ('Female_Chicken', 'biddy')}" in repr(FOWL) and "synonyms" not in repr(BIRDS)
    FOWL.synonyms[3] = ("cock",)
    assert 3 not in FOWL.synonyms  # nobody can change them


def test_synonyms_are_part_of_what_a_vocabulary_is() -> None:
    same = Vocabulary(FOWL.names, FOWL.domain, FOWL.ids, FOWL.synonyms)
    assert same == FOWL and hash(same) == hash(FOWL)
    assert FOWL != Vocabulary(FOWL.names, ids=FOWL.ids) == FOWL.renamed(FOWL.names)
    assert FOWL.subset([11, 7]).synonyms == FOWL.synonyms and not FOWL.subset([11, 3]).synonyms
    assert FOWL.subset(FOWL.ids) == FOWL == pickle.loads(pickle.dumps(FOWL))
    assert Vocabulary(["hen"], synonyms={0: []}) == Vocabulary(["hen"])


def test_labels_join_by_synonyms_exactly_or_normalised() -> None:
    assert FOWL.match(["biddy", "the female-chicken", "HEN", "rooster"]).tolist() == [7, 7, 7, 3]
    assert FOWL.id("Biddy") == 7 and FOWL.called("female chicken") == [7]
    with pytest.raises(MatchError, match="'bidy'; did you mean 'biddy'"):
        FOWL.match(["bidy"])


def test_each_name_takes_its_turn_in_front_and_none_is_lost() -> None:
    turns = [FOWL.led_by(number) for number in range(4)]
    assert [turn.names[0] for turn in turns] == ["hen", "Female_Chicken", "biddy", "hen"]
    assert turns[0] == turns[3] == FOWL
    for turn in turns:
        assert set(turn.names_of(7)) == set(FOWL.names_of(7)) and turn.names[1:] == FOWL.names[1:]
        assert turn.ids.tolist() == FOWL.ids.tolist()


@pytest.mark.parametrize(
    ("synonyms", "message"),
    [
        (
            {0: ["rooster"]},
            "belongs to one class, and these are names of several: 'rooster' .'hen' and 'rooster'.",
        ),
        ({0: ["fowl"], 1: ["the Fowl"]}, "'fowl' .'hen' and 'rooster'."),
        ({0: ["  "]}, r"a synonym of 'hen' is blank \(given: '  '\)"),
        ({0: [5]}, r"a synonym of 'hen' is blank \(given: 5\)"),
        ({0: ["a\tb"]}, "a synonym of 'hen' has control characters"),
        ({0: "biddy"}, "the synonyms of 'hen' are a list of names, given: 'biddy'"),
        ({5: ["biddy"]}, "synonyms for the ids 5, which no class of the 2 has"),
        ([["biddy"], []], r"synonyms go by the id of their class, as in \{0: \['female chicken'\]\}"),
    ],
)
def test_what_is_no_synonym_is_refused_by_name(synonyms: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary(["hen", "rooster"], synonyms=synonyms)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("birds.csv", "id,name,synonyms\n7,hen,Female_Chicken | biddy\n3,rooster,\n11,turkey\n"),
        ("birds.json", '{"names": ["hen", "rooster", "turkey"], "ids": [7, 3, 11], '
                       '"synonyms": [["Female_Chicken", "biddy"], [], null]}'),
        ("birds.json", '{"names": [["hen", "Female_Chicken", "biddy"], "rooster", ["turkey"]], "ids": [7, 3, 11]}'),
        ("birds.json", '{"classes": [{"id": 7, "name": "hen", "synonyms": ["Female_Chicken", "biddy"]}, '
                       '{"id": 3, "name": "rooster"}, {"id": 11, "name": "turkey", "texts": ["x"]}]}'),
    ],
)  # fmt: skip
def test_synonyms_are_read_from_files(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert Vocabulary.load(tmp_path / file) == FOWL
    (tmp_path / "again.json").write_text(json.dumps(FOWL.to_json()))
    assert Vocabulary.load(tmp_path / "again.json") == Vocabulary.from_json(FOWL.to_json()) == FOWL


def test_rows_of_one_name_give_their_synonyms_together(tmp_path: Path) -> None:
    (tmp_path / "birds.csv").write_text("image,label,synonyms\n1,hen,biddy\n2,rooster,\n3,hen,biddy|cluck\n")
    assert Vocabulary.load(tmp_path / "birds.csv").synonyms == {0: ("biddy", "cluck")}
    (tmp_path / "birds.json").write_text('[["hen", "biddy"], "rooster"]')
    assert Vocabulary.load(tmp_path / "birds.json").synonyms == {0: ("biddy",)}
    for broken in ('{"names": ["hen"], "synonyms": [[], []]}', '{"names": ["hen"], "synonyms": ["biddy"]}'):
        (tmp_path / "birds.json").write_text(broken)
        with pytest.raises(InputError, match=r"1 lists of names, one for each class|of 'hen' are a list of names"):
            Vocabulary.load(tmp_path / "birds.json")


def test_an_empty_folder_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class folders"):
        Vocabulary.load(tmp_path)


def test_a_labels_file_maps_each_label_to_one_class(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('label,class\nAbyssinian,cat\n"beagle, old",dog\nAbyssinian,cat\n')
    assert read_labels(path) == {"Abyssinian": "cat", "beagle, old": "dog"}
    for text, message in (
        ("label,class\na,cat\na,dog\n", "maps 'a' to both 'cat' and 'dog'"),
        ("from,to\na,cat\n", "needs the columns 'label' and 'class'; it has: from, to"),
        ("label,class\n", "has no rows"),
        ("", "needs the columns"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_labels(path)
    with pytest.raises(InputError, match="no file"):
        read_labels(tmp_path / "none.csv")
