"""Asking: one batch for all that is open, again where a reply says nothing, and silence is no description."""

from __future__ import annotations

import numpy as np
import pytest
from support import Lookup, Scripted

import descbench as db
from descbench import Descriptions, Vocabulary, generate
from descbench.errors import DescbenchError
from descbench.generation import ask, nearest_rivals, undescribed
from descbench.testing import FakeLLM

BIRDS = Vocabulary(["hen", "rooster", "emu"], "farm birds", ids=[7, 3, 11])


def test_every_class_is_asked_about_in_one_batch() -> None:
    llm = FakeLLM()
    found = generate(BIRDS, db.method("dclip"), llm)
    assert [len(batch) for batch in llm.batches] == [3]
    assert set(found.classes) == {7, 3, 11} and all(found.classes.values())
    assert found.names == dict(BIRDS) and found.domain == "farm birds"


def test_a_cascade_asks_what_each_of_its_stages_asks() -> None:
    llm = FakeLLM()
    found = generate(BIRDS, db.method("cascade(template, dclip, differential, k=2)"), llm)
    assert [len(batch) for batch in llm.batches] == [3, 3]
    assert len(found.classes) == 3 and len(found.pairs) == 3


def test_a_method_that_asks_nothing_asks_nothing() -> None:
    llm = FakeLLM()
    assert generate(BIRDS, db.method("templates"), llm).classes == {}
    assert llm.batches == []


def test_only_what_was_silent_is_asked_again_with_a_new_sample() -> None:
    llm = Scripted({'list for "hen"': "- a comb", 'list for "rooster"': ["Sorry.", "- spurs"], '"': ""})
    found = generate(BIRDS, db.method("dclip"), llm)
    assert found.classes == {7: ["a comb"], 3: ["spurs"]}
    asked = [[(question.text.split("list for ")[1], question.sample) for question in batch] for batch in llm.batches]
    assert asked == [
        [('"hen":', 0), ('"rooster":', 0), ('"emu":', 0)],
        [('"rooster":', 1), ('"emu":', 1)],
        [('"emu":', 2)],
    ]
    assert undescribed(BIRDS, db.method("dclip"), found) == [(11,)]


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_number_of_attempts_is_kept(attempts: int) -> None:
    llm = Scripted({})
    assert generate(BIRDS, db.method("dclip"), llm, attempts=attempts).classes == {}
    assert len(llm.batches) == attempts


def test_a_question_that_two_subjects_share_is_asked_once_and_answers_both() -> None:
    missiles = Vocabulary(["missile", "tank", "missile"])
    llm = FakeLLM()
    found = generate(missiles, db.method("cascade(dclip, differential)"), llm)
    assert [len(batch) for batch in llm.batches] == [2, 1]
    assert found.classes[0] == found.classes[2]
    assert found.pair(0, 1) == found.pair(2, 1) != None  # noqa: E711


def test_a_subject_that_is_given_twice_is_asked_about_once() -> None:
    llm = FakeLLM()
    ask(BIRDS, db.method("dclip"), [(7,), (3,), (7,)], llm)
    assert [len(batch) for batch in llm.batches] == [2]


def test_captions_stand_on_the_side_of_their_class() -> None:
    llm = Scripted({'lines for "emu" and "hen"': "- legs: long legs | short legs"})
    found = generate(BIRDS.subset([7, 11]), db.method("differential"), llm)
    assert found.pair(11, 7) == (["long legs"], ["short legs"])
    assert found.pair(7, 11) == (["short legs"], ["long legs"])


def test_a_language_model_that_drops_replies_is_named() -> None:
    class Dropping(FakeLLM):
        def complete(self, questions):  # type: ignore[no-untyped-def]
            return super().complete(questions)[1:]

    with pytest.raises(DescbenchError, match=r"FakeLLM\(seed=0\) gave 2 replies to 3 questions"):
        generate(BIRDS, db.method("dclip"), Dropping())


def test_where_descriptions_come_from_is_kept_with_them() -> None:
    found = generate(BIRDS, db.method("dclip(prompt='dclip')"), FakeLLM(seed=2)).provenance
    assert (
        found["method"] == "dclip" and found["llm"] == "FakeLLM(seed=2)" and found["llm_fingerprint"] == "fake:seed=2"
    )
    assert found["descbench"] == db.__version__


def test_what_is_known_is_not_missing() -> None:
    method = db.method("cascade(dclip, differential)")
    assert len(undescribed(BIRDS, method, Descriptions())) == 6
    assert undescribed(BIRDS, method, generate(BIRDS, method, FakeLLM())) == []


def test_the_nearest_rivals_are_those_of_a_loop_and_follow_no_order() -> None:
    rng = np.random.default_rng(3)
    names = [f"kind {letter}" for letter in "abcdefghijkl"]
    rows = {f"a photo of a {name}.": row for name, row in zip(names, rng.normal(size=(12, 5)), strict=True)}
    unit = {name: rows[f"a photo of a {name}."] / np.linalg.norm(rows[f"a photo of a {name}."]) for name in names}
    expected = set()
    for name in names:
        others = sorted((other for other in names if other != name), key=lambda other: -unit[name] @ unit[other])
        expected |= {frozenset((name, other)) for other in others[:3]}
    for order in (names, names[::-1]):
        vocabulary = Vocabulary(order, ids=[7 * place % 31 for place in range(12)])
        found = nearest_rivals(vocabulary, Lookup(rows), k=3)
        assert {frozenset(map(vocabulary.name, pair)) for pair in found.tolist()} == expected
        assert len(found) == len(expected)
    assert len(nearest_rivals(Vocabulary(names), Lookup(rows), k=50)) == 66  # all pairs there are
    assert nearest_rivals(Vocabulary(names[:1]), Lookup(rows)).shape == (0, 2)


def test_with_rivals_only_these_pairs_are_asked() -> None:
    llm = FakeLLM()
    pairs = np.array([[3, 7]])
    found = generate(BIRDS, db.method("cascade(dclip, differential)"), llm, rivals=pairs)
    assert set(found.pairs) == {(3, 7)} and len(found.classes) == 3
    assert undescribed(BIRDS, db.method("differential"), found, pairs) == []
    assert len(undescribed(BIRDS, db.method("differential"), found)) == 2
