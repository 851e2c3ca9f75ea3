"""No order changes an answer: of the classes, of a file's keys, of the images, of the threads; for every method."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drawn

import descbench as db
from descbench import Classifier, DescbenchWarning, Descriptions, Predictions, Vocabulary
from descbench.methods import METHODS, Cascade, Method
from descbench.methods.cascade import stages_of
from descbench.testing import ODD_NAMES, FakeEncoder, FakeLLM

DIM, VIEWS = 24, 3
PICTURES = drawn(11, 9, VIEWS, DIM)
MANY = drawn(12, 2000, 1, DIM)  # so many that torch divides them among its threads
CLOSE = 1e-6  # of the golden tests: two scores that are nearer than this may stand in any order

WRAPPERS = (
    *("shuffled", "nameless", "waffle_and", "shared", "random_descriptions", "scrambled", "select_fewshot"),
    *("wca", "awt", "truncated"),
)
SPELLINGS = [
    *("classname", "template", "templates", "dclip", "cupl", "cupl(with_templates=True)", "adaptclipzs", "waffle"),
    *("dclip(pool='max_score')", "dclip(pool='mean_feature')", "dclip(pool='mean_prob')"),
    *("comparative", "differential", "contrast"),
    *(f"{wrapper}({method})" for wrapper in WRAPPERS for method in ("dclip", "differential")),
    *("fudd", "fudd(k=3)", "fudd(k=3, margin=0.05)"),
    *("disclip", "disclip(k=99, w=0)", "disclip(named=True)", "disclip(own=True)"),
    *("cascade(dclip, differential, k=3)", "cascade(classname, dclip, comparative, k=99)"),
    *("cascade(template, contrast, k=3)", "cascade(template, selected(pool='max_score'), k=2)"),
    *("cascade(template, dclip(pool='mean_prob'), k=3)", "cascade(template, shuffled(differential), k=3)"),
    *("cascade(template, wca(dclip), k=3)", "cascade(template, awt(dclip), k=3)"),
]
# In these a class has not the texts of the others of its name, by lot; or its texts are chosen by the classifier.
UNTIED = ("shuffled", "random_descriptions", "waffle_and(differential)", "margin", "sel", "disclip")


class Kept(FakeEncoder):
    """The same vectors; each text is drawn once for all tests."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._known: dict[str, torch.Tensor] = {}

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, super().encode_texts(new), strict=True))
        return torch.stack([self._known[text] for text in texts])


ENCODER = Kept(DIM)


@dataclass(frozen=True)
class Case:
    """Classes, what is known about them, and labelled images of each, by name: (M, DIM)."""

    vocabulary: Vocabulary
    descriptions: Descriptions
    labelled: Mapping[str, np.ndarray]

    def moved(self, vocabulary: Vocabulary) -> Case:
        """The same for the classes in another order, and the descriptions with their keys in another order."""
        d = self.descriptions
        parts: tuple[Mapping[Any, Any], ...] = (d.classes, d.pairs, d.names)
        classes, pairs, names = (dict(reversed(list(part.items()))) for part in parts)
        return replace(self, vocabulary=vocabulary, descriptions=Descriptions(classes, pairs, names))

    def classifier(self, spelling: str) -> Classifier:
        method = db.method(spelling)
        support = None
        if any(stage.needs_support for stage in stages_of(method)):
            rows = [(row, id_) for id_, name in self.vocabulary for row in self.labelled[name]]
            support = (np.stack([row for row, _ in rows]), np.array([id_ for _, id_ in rows]))
        return Classifier(
            self.vocabulary, method, ENCODER, FakeLLM(), descriptions=self.descriptions, support=support, device="cpu"
        )


def case(names: Sequence[str], ids: Sequence[int], gaps: Sequence[int] = ()) -> Case:
    """Lists of unequal lengths. A class at one of the `gaps`, and a pair with it, is known to have no text: nobody is
    asked about it. Classes of one name have the same labelled images."""
    vocabulary = Vocabulary(names, "farm birds", ids)
    said = db.generate(vocabulary, db.method("dclip"), FakeLLM())
    told = db.generate(vocabulary, db.method("differential"), FakeLLM())
    mute = {ids[gap] for gap in gaps}
    classes = {id_: texts[: 1 + len(vocabulary.name(id_)) % 4] for id_, texts in said.classes.items()}
    classes |= {id_: [] for id_ in mute}
    pairs = {pair: ([], []) if mute & set(pair) else texts for pair, texts in told.pairs.items()}
    labelled = {name: drawn(len(name), 1 + len(name) % 3, DIM) for name in names}
    return Case(vocabulary, Descriptions(classes, pairs, dict(vocabulary)), labelled)


@cache
def farm() -> Case:
    return case(["hen", "rooster", "turkey", "goose", "duck", "quail", "pigeon"], [7, 3, 11, 0, 5, 9, 2], gaps=[4])


@cache
def twins() -> Case:
    return case(["missile", "hen", "auk", "missile", "auk"], [5, 1, 9, 2, 0])


@cache
def crowd() -> Case:
    return case([f"bird {number}" for number in range(12)], range(12))


@cache
def cases() -> tuple[Case, ...]:
    return farm(), twins(), case(["rooster", "hen"], [4, 6]), case(["hen"], [4]), case(ODD_NAMES[1:8], range(9, 2, -1))


def in_views(method: Method | Cascade) -> bool:
    return any(stage.pool == "transport" for stage in stages_of(method))


def first_of(method: Method | Cascade) -> int:
    """How many classes a follow-up ranks by themselves."""
    return method.k if isinstance(method, Cascade) else 0


def predicted(classifier: Classifier, size: int = 10_000, pictures: np.ndarray = PICTURES) -> Predictions:
    """All classes of all pictures (N, views, DIM) in order, `size` pictures at a time."""
    x = pictures if in_views(classifier.method) else pictures[:, 0]
    C = len(classifier.vocabulary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        parts = [classifier.predict_features(x[start : start + size], C) for start in range(0, len(x), size)]
    ids, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "scores"))
    return Predictions(classifier.vocabulary, ids, scores)


def by_name(pred: Predictions, k: int) -> list[list[tuple[str, bool, float]]]:
    """Of each picture every class's name, whether it is among the first k, and its score: sorted, for any order."""
    first = [place < k for place in range(len(pred.vocabulary))]
    return [
        sorted(zip(map(pred.vocabulary.name, ids), first, scores, strict=True))
        for ids, scores in zip(pred.ids.tolist(), pred.scores.tolist(), strict=True)
    ]


def check_ranks(pred: Predictions, k: int) -> None:
    """Every class once, best first, those that tie by position; the first k by themselves."""
    places = pred.vocabulary.positions(pred.ids)
    assert (np.sort(places, axis=1) == np.arange(len(pred.vocabulary))).all()
    for part in (slice(0, k), slice(k, None)):
        down = np.diff(pred.scores[:, part])
        assert (down <= 0).all()
        assert (np.diff(places[:, part])[down == 0] > 0).all()


def check_same(expected: Predictions, found: Predictions, k: int) -> None:
    """The same scores, and so the same ranks but for those that tie."""
    check_ranks(found, k)
    for ours, theirs in zip(by_name(expected, k), by_name(found, k), strict=True):
        assert [entry[:2] for entry in ours] == [entry[:2] for entry in theirs]
        assert np.allclose([entry[2] for entry in ours], [entry[2] for entry in theirs], rtol=0, atol=CLOSE)


def check_orders(given_case: Case, spelling: str, order: Sequence[int], sizes: Sequence[int] = ()) -> None:
    """The classes in another order, with their ids and with new ones, against the case as it is."""
    classifier, k = given_case.classifier(spelling), first_of(db.method(spelling))
    expected = predicted(classifier)
    check_ranks(expected, k)
    for size in sizes:
        check_same(expected, predicted(classifier, size), k)
    kept = given_case.vocabulary.subset(given_case.vocabulary.ids[list(order)])
    for vocabulary in (kept, Vocabulary(kept.names, kept.domain)):
        check_same(expected, predicted(given_case.moved(vocabulary).classifier(spelling)), k)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_order_of_classes_keys_or_images_changes_an_answer(spelling: str) -> None:
    for given_case in cases():
        sizes = (1, 7) if given_case is farm() else ()
        check_orders(given_case, spelling, range(len(given_case.vocabulary))[::-1], sizes)


def test_every_method_is_among_them() -> None:
    inside = {stage.spelled for spelling in SPELLINGS for stage in stages_of(db.method(spelling))}
    assert {spelling.split("(")[0] for spelling in SPELLINGS} | inside == set(METHODS)


WORDS = ["hen", "auk", "goose", "a duck", "Auk", "under_score", "crème brûlée", "a/b", "{}", "$name", "ends in a dot."]


@given(st.data())
@settings(max_examples=50, deadline=None, derandomize=True)  # a candidate by 1e-7 may be none in another order
def test_nor_does_any_permutation_of_any_classes(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6))
    ids = data.draw(st.lists(st.integers(0, 10**9), min_size=len(names), max_size=len(names), unique=True))
    # Of classes with one name all are without texts or none: descriptions are joined to new ids by name.
    alone = [place for place, name in enumerate(names) if names.count(name) == 1]
    gaps = data.draw(st.lists(st.sampled_from(alone), max_size=1)) if alone else []
    order = data.draw(st.permutations(range(len(names))))
    check_orders(case(names, ids, gaps), data.draw(st.sampled_from(SPELLINGS)), order)


@pytest.mark.parametrize("spelling", [spelling for spelling in SPELLINGS if not any(u in spelling for u in UNTIED)])
def test_classes_with_the_same_texts_tie_exactly_and_the_first_comes_first(spelling: str) -> None:
    classifier = twins().classifier(spelling)
    pred = predicted(classifier)
    position = pred.vocabulary.position
    tied = 0
    for ids, scores in zip(pred.ids.tolist(), pred.scores.tolist(), strict=True):
        candidates = ids[: first_of(classifier.method) or None]
        among = pred.vocabulary.subset(sorted(candidates, key=position))
        bank = stages_of(classifier.method)[-1].texts(among, classifier.descriptions)
        texts = {id_: sorted(bank.texts_of(place)) for place, (id_, _) in enumerate(among)}
        for a, b in combinations(candidates, 2):
            if among.name(a) == among.name(b) and texts[a] == texts[b]:
                assert scores[ids.index(a)] == scores[ids.index(b)]
                assert position(a) < position(b)
                tied += 1
    assert tied


# Threads divide arithmetic: each pool, and each kind of follow-up, in which all other methods end.
@pytest.mark.parametrize(
    "spelling",
    [
        *("template", "dclip", "dclip(pool='max_score')", "dclip(pool='mean_prob')", "differential", "wca(dclip)"),
        *("awt(dclip)", "fudd(k=3)", "disclip", "disclip(named=True)", "select_fewshot(dclip)"),
        *("cascade(template, contrast, k=3)", "cascade(template, dclip(pool='mean_prob'), k=3)"),
        *("cascade(template, awt(dclip), k=3)", "cascade(template, wca(dclip), k=3)"),
    ],
)
def test_the_number_of_threads_changes_no_answer(spelling: str) -> None:
    method = db.method(spelling)
    pictures = PICTURES if in_views(method) else MANY
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(predicted(crowd().classifier(spelling), pictures=pictures))
    finally:
        torch.set_num_threads(threads)
    check_ranks(found[1], first_of(method))
    by_class = [np.argsort(pred.ids, axis=1) for pred in found]  # where each class stands, (N, C)
    one, two = (np.take_along_axis(pred.scores, place, axis=1) for pred, place in zip(found, by_class, strict=True))
    assert np.allclose(one, two, rtol=0, atol=CLOSE)
    assert np.array_equal(*(place < first_of(method) for place in by_class))
