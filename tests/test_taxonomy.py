"""Accuracy at each depth of a taxonomy, against a loop that walks up from label and answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descbench import Evaluation, Predictions, Vocabulary
from descbench.errors import InputError, MatchError
from descbench.taxonomy import Taxonomy

BIRDS = Vocabulary(["hen", "rooster", "mallard", "teal", "owl"], ids=[7, 3, 11, 0, 5])
TREE = {
    "hen": "fowl",
    "rooster": "fowl",
    "mallard": "duck",
    "teal": "duck",
    "fowl": "ground bird",
    "duck": "water bird",
    "owl": "night bird",
    "ground bird": "bird",
    "water bird": "bird",
    "night bird": "bird",
}


def run(
    vocabulary: Vocabulary, labels: np.ndarray, answers: np.ndarray, accepted: np.ndarray | None = None
) -> Evaluation:
    found = Predictions(vocabulary, answers[:, None], np.zeros((len(answers), 1), dtype=np.float32))
    names = tuple(f"image {i}" for i in range(len(labels)))
    return Evaluation(found, labels, names, "d", "m", "e", accepted=accepted)


def above(name: str, depth: int) -> str:
    """The name at this depth below the root, or the class itself where it lies higher."""
    way = [name]
    while TREE.get(way[0]):
        way.insert(0, TREE[way[0]])
    return way[min(depth, len(way) - 1)]


@given(st.integers(1, 30), st.integers(0, 9999))
@settings(deadline=None, max_examples=30)
def test_an_answer_is_right_where_it_lies_in_the_group_of_the_label(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels, answers = draw.choice(BIRDS.ids, n), draw.choice(BIRDS.ids, n)
    result = run(BIRDS, labels, answers)
    levels = result.levels(Taxonomy(TREE))
    assert [level.nodes for level in levels] == [3, 3, 5]  # "bird" alone would be right always
    for depth, level in enumerate(levels, 1):
        groups = [
            (above(BIRDS.name(a), depth), above(BIRDS.name(b), depth)) for a, b in zip(labels, answers, strict=True)
        ]
        assert level.accuracy.value == sum(a == b for a, b in groups) / n
        shares = [np.mean([a == b for a, b in groups if a == group]) for group in {a for a, _ in groups}]
        assert level.balanced.value == pytest.approx(np.mean(shares))
    assert levels[-1].accuracy == result.metrics["top1"]
    assert levels[-1].balanced.value == pytest.approx(result.metrics["per_class"].value)


def test_several_roots_are_the_first_level() -> None:
    tree = {name: parent for name, parent in TREE.items() if parent != "bird"}
    levels = run(BIRDS, np.array([7, 11]), np.array([3, 7])).levels(Taxonomy(tree))
    assert [(level.nodes, level.accuracy.value) for level in levels] == [(3, 0.5), (3, 0.5), (5, 0)]


def test_two_classes_of_one_name_stay_two_and_a_class_may_stand_above_others() -> None:
    birds = Vocabulary(["crane", "crane", "bird", "hen"])
    tree = Taxonomy({"crane": "bird", "hen": "bird", "bird": "animal", "dog": "animal"})
    levels = run(birds, np.array([0, 2, 3]), np.array([1, 3, 2])).levels(tree)
    # All are birds: one group, and left out. Then the cranes differ, and "bird" is not "hen".
    assert [(level.nodes, level.accuracy.value) for level in levels] == [(4, 0)]


def test_any_right_label_counts_at_each_level() -> None:
    accepted = np.array([[7, 11]])
    levels = run(BIRDS, np.array([7]), np.array([0]), accepted).levels(Taxonomy(TREE))
    assert [level.accuracy.value for level in levels] == [1, 1, 0]


def test_one_class_has_one_level() -> None:
    levels = run(Vocabulary(["hen"]), np.array([0]), np.array([0])).levels(Taxonomy(TREE))
    assert [(level.nodes, level.accuracy.value) for level in levels] == [(1, 1)]


def test_a_taxonomy_is_read_from_its_file_or_from_that_of_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "tree.csv"
    for text in ("child,parent\nhen,fowl\nfowl,bird\n", "name,id,parent\nhen,7,fowl\nfowl,1, bird\n"):
        path.write_text(text)
        assert Taxonomy.load(path).path("The_Hen") == ("bird", "fowl", "hen")
    for text, message in (
        ("child,parent\nhen,fowl\nhen,duck\n", "puts 'hen' below both 'fowl' and 'duck'"),
        ("child,parent\n,fowl\n", "line 2: no name"),
        ("from,to\nhen,fowl\n", "needs the columns 'child' and 'parent'; it has: from, to"),
        ("child,parent\n", "the taxonomy is empty"),
        ("child,parent\na,b\nb,c\nc,a\n", "in a circle: a < b < c < a"),
        ("child,parent\na,a\n", "in a circle: a < a"),
        ("child,parent\nhen,foul\nfowl,bird\nbird,\n", "no line of their own: foul; did you mean 'fowl'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            Taxonomy.load(path)
    with pytest.raises(InputError, match="no file"):
        Taxonomy.load(tmp_path / "none.csv")


def test_a_file_of_classes_is_a_taxonomy_where_it_has_parents(tmp_path: Path) -> None:
    path = tmp_path / "birds.csv"
    path.write_text("name,parent\nhen,fowl\nowl,\nfowl,\n")
    found = Taxonomy.of_classes(path)
    assert found is not None and found.parents == {"hen": "fowl", "owl": "", "fowl": ""}
    for text in ("name,parent\nhen,\nowl, \n", "name\nhen\n", "name,id\nhen,1\n"):
        path.write_text(text)
        assert Taxonomy.of_classes(path) is None
    (tmp_path / "birds.txt").write_text("name,parent\nhen,fowl\n")
    assert Taxonomy.of_classes(tmp_path / "birds.txt") is Taxonomy.of_classes("hen,owl") is None


def test_classes_that_are_not_in_the_taxonomy_are_listed() -> None:
    with pytest.raises(MatchError, match="2 of 5 classes are not in the taxonomy: mallard, teal"):
        run(BIRDS, np.array([7]), np.array([7])).levels(Taxonomy({"hen": "fowl", "rooster": "fowl", "owl": "night"}))
