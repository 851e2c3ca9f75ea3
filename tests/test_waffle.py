"""Waffle says nothing about a class: the same random items for all, in the form of the names, drawn by the seed."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from support import Lookup, drawn

import descbench as db
from descbench import Descriptions, Vocabulary
from descbench.errors import InputError
from descbench.methods.waffle import Form, shipped_words

BIRDS = Vocabulary(["Red hen", "rooster", "great_grey owl", "duck"], "birds", [7, 3, 11, 0])
FEATURES = Descriptions(
    {7: ["a comb", "spurs"], 3: [f"mark {i}" for i in range(25)], 11: ["a disc"]}, names=dict(BIRDS)
)


def texts(spelling: str, vocabulary: Vocabulary = BIRDS, descriptions: Descriptions = FEATURES) -> list[list[str]]:
    bank = db.method(spelling).texts(vocabulary, descriptions)
    return [list(bank.texts_of(position)) for position in range(len(vocabulary))]


def items(found: list[str], name: str) -> list[str]:
    """The random parts of the texts of a class, whose form is checked on the way."""
    heads = (f"A photo of a {name}, which has ", f"A photo of a {name}, which is ", f"A photo of a {name}, which ")
    parts = []
    for text in found:
        head = next(head for head in heads if text.startswith(head))
        assert text.endswith(".")
        parts.append(text[len(head) : -1])
    return parts


def test_thirty_texts_a_class_whose_random_items_are_the_same_for_all() -> None:
    found = texts("waffle")
    names = ("Red hen", "rooster", "great grey owl", "duck")
    said = [items(own, name) for own, name in zip(found, names, strict=True)]
    assert {len(own) for own in found} == {30}
    assert all(own == said[0] for own in said)


def test_items_take_the_form_of_the_names() -> None:
    # Words a name: 2, 1, 3, 1, so 1.75 on average. Letters a word: 3, 7, 4, 4, so 4.5, which NumPy rounds to 4.
    # The longest words have 3, 7, 5, 4 letters, so 4.75 on average, 5 rounded up: two groups of 5 // 2 + 1.
    assert Form.of(BIRDS) == Form(2, 4, 3)
    said = items(texts("waffle")[1], "rooster")
    for words, letters in zip(said[::2], said[1::2], strict=True):
        assert len(words.split()) == 2
        assert all(word in {known[:4] for known in shipped_words()} for word in words.split())
        assert [len(group) for group in letters.split(", ")] == [3, 3]
        assert letters.replace(", ", "").isalpha() and letters.isascii()


def test_a_seed_draws_other_items_and_the_same_seed_the_same() -> None:
    assert texts("waffle(seed=1)") == texts("waffle(seed=1)")
    assert not set(map(tuple, texts("waffle(seed=1)"))) & set(map(tuple, texts("waffle(seed=2)")))


def test_it_needs_no_description_and_depends_on_none() -> None:
    method = db.method("waffle")
    assert method.asks_about == "nothing" and method.subjects(BIRDS) == []
    assert texts("waffle", descriptions=Descriptions()) == texts("waffle")
    assert not method.texts(BIRDS, Descriptions()).undescribed.any()


def test_no_order_of_the_classes_changes_a_text() -> None:
    expected = dict(zip(BIRDS.names, texts("waffle"), strict=True))
    for names in permutations(BIRDS.names):
        assert dict(zip(names, texts("waffle", Vocabulary(names)), strict=True)) == expected


def test_the_form_is_at_least_one_word_of_one_letter() -> None:
    assert Form.of(Vocabulary(["x"])) == Form(1, 1, 2)
    assert len(items(texts("waffle", Vocabulary(["x"]))[0], "x")) == 30


def test_the_words_are_a_few_hundred_each_once_plain_and_in_the_package() -> None:
    words = shipped_words()
    assert 300 <= len(words) == len(set(words))
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert (Path(db.__file__).parent / "methods" / "words.txt").is_file()


@pytest.mark.parametrize("pool", ["mean_score", "mean_feature", "max_score"])
def test_its_scores_are_pooled_over_all_thirty(pool: str) -> None:
    bank = db.method("waffle").texts(BIRDS, Descriptions())
    features = dict(zip(bank.texts, drawn(0, len(bank), 16), strict=True))
    x = drawn(1, 5, 16)
    spelling = f"waffle(pool={pool!r})"
    pred = db.Classifier(BIRDS, db.method(spelling), Lookup(features), device="cpu").predict_features(x, top_k=4)
    for row in range(5):
        for id_, score in zip(pred.ids[row], pred.scores[row], strict=True):
            own = np.stack([features[text] for text in bank.texts_of(BIRDS.position(int(id_)))]).astype(np.float64)
            mean = own.mean(axis=0)
            expected = {
                "mean_score": float(np.mean([x[row] @ t for t in own])),
                "mean_feature": float(x[row] @ mean / np.linalg.norm(mean)),
                "max_score": max(float(x[row] @ t) for t in own),
            }[pool]
            assert score == pytest.approx(expected, abs=1e-6)


def test_a_mixture_keeps_thirty_of_twenty_own_and_twenty_random_at_the_same_places() -> None:
    found = texts("waffle_and(dclip)")
    random = {text.replace("Red hen", "{}") for text in texts("waffle(pairs=10)")[0]}
    own = {"Red hen": 2, "rooster": 20, "great grey owl": 1}
    kinds = []
    for texts_of, (name, most) in zip(found, own.items(), strict=False):
        is_random = [text.replace(name, "{}") in random for text in texts_of]
        described = {text for text, waffle in zip(texts_of, is_random, strict=True) if not waffle}
        assert len(texts_of) == 30 and 10 <= sum(is_random) <= 20
        assert all(text.startswith(f"{name}, which") for text in described) and 0 < len(described) <= most
        kinds.append(is_random)
    assert all(kind == kinds[0] for kind in kinds)
    counts = [found[0].count(f"Red hen, which {part}") for part in ("is a comb", "has spurs")]
    assert sum(counts) == 30 - sum(kinds[0]) and min(counts) >= 1


def test_a_mixture_leaves_a_class_without_descriptions_its_random_texts_and_counts_it() -> None:
    bank = db.method("waffle_and(dclip)").texts(BIRDS, FEATURES)
    assert bank.undescribed.tolist() == [False, False, False, True]
    assert all(text.startswith("A photo of a duck, which") for text in bank.texts_of(3))
    assert 10 <= len(bank.texts_of(3)) <= 20


def test_a_mixture_asks_and_pools_as_its_method_and_draws_by_its_seed() -> None:
    method = db.method("waffle_and(cupl(pool='max_score'))")
    assert method.asks_about == "class" and method.pool == "max_score"
    assert texts("waffle_and(dclip)") != texts("waffle_and(dclip, seed=1)")


@pytest.mark.parametrize("spelling", ["waffle(seed=-1)", "waffle(pairs=0)", "waffle(pool='median')", "waffle_and(3)"])
def test_a_parameter_that_cannot_be_is_named(spelling: str) -> None:
    with pytest.raises(InputError, match=r"is not possible|changes one method"):
        db.method(spelling)
