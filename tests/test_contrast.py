"""One question tells a whole candidate set apart: against loops over the definition, in any order, and asked once."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from server import Answer, Asked, said, serving
from support import Scripted, drawn, unit

import descbench as db
from descbench import DescbenchWarning, Descriptions, Question, Reply, Vocabulary
from descbench.edits import edited
from descbench.errors import InputError
from descbench.testing import FakeEncoder, FakeLLM

DIM = 32
BIRDS = Vocabulary(["Red_hen", "rooster", "goose", "owl", "emu"], "farm birds", [7, 3, 11, 0, 5])
X = drawn(3, 30, DIM)
ENCODER = FakeEncoder(dim=DIM)
SAID = Descriptions(
    sets={
        (11, 7, 3): {7: ["a low comb", "a thin neck", "a low comb", " "], 3: ["a tall comb"]},
        (7, 3): {7: ["a small comb"], 3: ["spurs", "a tall comb"]},
    },
    names=dict(BIRDS),
)


def texts(spelling: str, vocabulary: Vocabulary, descriptions: Descriptions = SAID) -> list[tuple[str, ...]]:
    bank = db.method(spelling).texts(vocabulary, descriptions)
    return [bank.texts_of(position) for position in range(len(vocabulary))]


def feature(text: str) -> np.ndarray:
    row: np.ndarray = ENCODER.encode_texts([text])[0].numpy().astype(np.float64)
    return row


def candidates(vocabulary: Vocabulary, k: int) -> list[list[int]]:
    """The ids of the k best classes of each image by the first stage, from the definition."""
    first = {id_: feature(f"a photo of a {name}.".replace("_", " ")) for id_, name in vocabulary}
    return [sorted(first, key=lambda id_: -float(x @ first[id_]))[:k] for x in X.astype(np.float64)]


def followed(vocabulary: Vocabulary, k: int, llm: object = None, known: Descriptions | None = None) -> db.Classifier:
    method = db.method(f"cascade(template, contrast, k={k})")
    return db.Classifier(vocabulary, method, ENCODER, llm, known)  # type: ignore[arg-type]


def test_a_class_has_its_distinct_captions_in_the_set_of_all_candidates_and_else_the_fallback() -> None:
    assert texts("contrast", BIRDS.subset([7, 3, 11])) == [
        ("a low comb", "a thin neck"),
        ("a tall comb",),
        ("a photo of a goose.",),
    ]
    assert texts("contrast", BIRDS.subset([3, 7])) == [("spurs", "a tall comb"), ("a small comb",)]
    assert db.method("contrast").pool == "mean_feature"


def test_a_set_that_nobody_described_and_a_class_alone_have_the_fallback() -> None:
    assert texts("contrast(fallback='the {}')", BIRDS.subset([7, 11])) == [("the Red hen",), ("the goose",)]
    assert texts("contrast", BIRDS.subset([7])) == [("a photo of a Red hen.",)]


def test_one_question_names_all_classes_of_the_set_by_name_and_further_attempts_are_further_samples() -> None:
    method = db.method("contrast")
    (question,) = method.questions(BIRDS, (3, 7, 11))
    assert question.text.startswith("A photo shows one of these farm birds:\nRed hen\ngoose\nrooster\n\nWhat can")
    assert (question.sample, question.prompt, question.schema) == (0, "contrast", "contrast")
    assert method.questions(BIRDS, (3, 7, 11), 2) == [replace(question, sample=2)]
    assert db.method("contrast(structured=False)").questions(BIRDS, (3, 7, 11)) == [replace(question, schema="")]


def test_a_reply_is_read_with_the_names_of_its_set() -> None:
    reply = Reply("Red hen: a low comb; a thin neck\n- owl: a flat face\n**Goose**: a long neck")
    found = db.method("contrast").read(BIRDS, (3, 7, 11), [reply])
    assert dict(found.sets) == {(3, 7, 11): {3: [], 7: ["a low comb", "a thin neck"], 11: ["a long neck"]}}
    assert found.provenance == {"repairs": {"unknown name": 1}}
    assert db.method("contrast").read(BIRDS, (3, 7, 11), [Reply("I'm sorry, I cannot.")]).sets == {}


@pytest.mark.parametrize("k", [2, 3, 5, 99])
def test_a_follow_up_is_the_loop_over_its_definition(k: int) -> None:
    clf = followed(BIRDS, k, FakeLLM())
    pred = clf.predict_features(X, top_k=min(k, 5))
    for row, among in enumerate(candidates(BIRDS, k)):
        told = clf.descriptions.sets[tuple(sorted(among))]
        scores = {}
        for id_ in among:
            assert len(told[id_]) == 2
            scores[id_] = float(X[row] @ unit(sum((feature(text) for text in told[id_]), np.zeros(DIM)) / 2))
        best = sorted(among, key=lambda id_: -scores[id_])
        assert pred.ids[row].tolist() == best
        assert pred.scores[row] == pytest.approx([scores[id_] for id_ in best], abs=1e-6)


def test_each_different_set_is_asked_about_once_and_all_in_one_batch() -> None:
    llm = FakeLLM()
    clf = followed(BIRDS, 3, llm)
    clf.predict_features(np.concatenate([X, X]))
    different = {tuple(sorted(among)) for among in candidates(BIRDS, 3)}
    pairs = {pair for among in different for pair in combinations(among, 2)}
    assert [len(batch) for batch in llm.batches] == [len(different)] and 1 < len(different) <= 10 == len(pairs)
    assert set(clf.descriptions.sets) == different
    assert (clf.counts["candidate_sets"], clf.counts["undescribed_sets"]) == (len(different), 0)
    clf.predict_features(X)
    assert len(llm.batches) == 1


def test_a_set_that_the_file_has_is_not_asked_about_again() -> None:
    sets = sorted({tuple(sorted(among)) for among in candidates(BIRDS, 3)})
    known = Descriptions(sets={sets[0]: {sets[0][0]: ["by hand"]}}, names=dict(BIRDS))
    llm = FakeLLM()
    clf = followed(BIRDS, 3, llm, known)
    clf.predict_features(X)
    assert [len(batch) for batch in llm.batches] == [len(sets) - 1]
    assert clf.descriptions.sets[sets[0]] == known.sets[sets[0]]


def test_without_a_language_model_the_sets_that_are_missing_are_counted() -> None:
    sets = {tuple(sorted(among)) for among in candidates(BIRDS, 3)}
    clf = followed(BIRDS, 3, known=SAID)
    absent = len(sets - {(3, 7, 11)})
    with pytest.warns(DescbenchWarning, match=f"{absent} of {len(sets)} sets among the candidates have no description"):
        clf.predict_features(X)
    plain = db.Classifier(BIRDS, db.method("contrast"), ENCODER, descriptions=SAID)
    with pytest.warns(DescbenchWarning, match="1 of 1 sets"):
        plain.predict_features(X)
    assert plain.counts["undescribed_sets"] == 1


def test_as_many_candidates_as_classes_are_the_method_alone() -> None:
    alone = db.Classifier(BIRDS, db.method("contrast"), ENCODER, llm=FakeLLM()).predict_features(X)
    assert np.array_equal(followed(BIRDS, 5, FakeLLM()).predict_features(X).ids, alone.ids)
    assert np.array_equal(followed(BIRDS, 99, FakeLLM()).predict_features(X).ids, alone.ids)


def test_one_class_or_one_name_is_no_question() -> None:
    for vocabulary in (Vocabulary(["hen"]), Vocabulary(["missile", "missile"])):
        assert db.method("contrast").subjects(vocabulary) == []
        llm = FakeLLM()
        for method in ("contrast", "cascade(template, contrast, k=2)"):
            pred = db.Classifier(vocabulary, db.method(method), ENCODER, llm=llm).predict_features(X)
            assert (pred.ids[:, 0] == 0).all()
        assert llm.batches == []


def test_classes_of_one_name_are_one_in_a_set_and_have_the_same_captions() -> None:
    odd = Vocabulary(["tank", "missile", "hen", "missile"], ids=[4, 1, 2, 8])
    sets = np.array([[1, 4, 8], [8, 4, 1], [4, 8, 2], [1, 2, 4], [1, 8, 1]])
    assert set(db.method("contrast").subjects(odd, sets)) == {(1, 4), (2, 4, 8), (1, 2, 4)}
    assert db.method("contrast").subjects(odd) == [(1, 2, 4)]
    llm = FakeLLM()
    clf = followed(odd, 3, llm)
    pred = clf.predict_features(X)
    (batch,) = llm.batches
    asked = {tuple(question.text.split("\n\n")[0].split("\n")[1:]) for question in batch}
    expected = {tuple(sorted({odd.name(i) for i in among})) for among in candidates(odd, 3)}
    assert len(batch) == len(asked) and asked == expected  # twins share a question
    both = [row for row in range(len(X)) if {1, 8} <= set(pred.ids[row, :3].tolist())]
    assert both
    for row in both:
        ids = pred.ids[row].tolist()
        assert ids.index(8) == ids.index(1) + 1 and pred.scores[row, ids.index(1)] == pred.scores[row, ids.index(8)]


def test_no_order_of_classes_changes_a_question_or_an_answer() -> None:
    asked, answers = [], []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [3, 4, 1, 2, 0]):
        for ids in (None, [9, 2, 30, 4, 11]):
            llm = FakeLLM()
            vocabulary = Vocabulary([BIRDS.names[i] for i in order], BIRDS.domain, ids)
            answers.append(followed(vocabulary, 3, llm).predict_features(X, 5).names())
            asked.append({question for batch in llm.batches for question in batch})
    assert all(one == asked[0] for one in asked) and all(one == answers[0] for one in answers)


@pytest.mark.parametrize("order", [[7, 3, 11, 0, 5], [5, 0, 7, 11, 3]])
def test_a_budget_goes_to_the_sets_that_compete_most_often_and_then_by_name(order: list[int]) -> None:
    vocabulary = Vocabulary([BIRDS.name(i) for i in order], BIRDS.domain)  # new ids
    count: dict[tuple[str, ...], int] = {}
    for among in candidates(vocabulary, 2):
        names = tuple(sorted(map(vocabulary.name, among)))
        count[names] = count.get(names, 0) + 1
    ranked = sorted(count, key=lambda names: (-count[names], names))
    assert len(ranked) > 4
    llm = FakeLLM()
    clf = db.Classifier(vocabulary, db.method("cascade(template, contrast, k=2, budget=3)"), ENCODER, llm)
    with pytest.warns(DescbenchWarning, match=f"{len(ranked) - 3} x left out by budget=3"):
        clf.predict_features(X)
    assert {tuple(sorted(map(vocabulary.name, ids))) for ids in clf.descriptions.sets} == set(ranked[:3])
    assert sum(map(len, llm.batches)) == 3


def test_more_classes_than_one_question_can_be_about_are_refused_before_anything_is_asked() -> None:
    many = Vocabulary([f"bird {i:02}" for i in range(21)])
    llm = FakeLLM()
    for method in ("contrast", "cascade(dclip, contrast, k=3)"):
        message = r"at most 20 classes at once, and here are 21: use it as a follow-up, cascade\(template, contrast"
        with pytest.raises(InputError, match=message):
            db.generate(many, db.method(method), llm)
    assert llm.batches == []
    by_hand = Descriptions(sets={tuple(range(21)): {0: ["a comb"]}}, names=dict(many))
    assert db.generate(many, db.method("contrast"), llm, known=by_hand).sets == by_hand.sets
    assert len(db.generate(many.subset(range(20)), db.method("contrast"), llm).sets) == 1


def test_what_says_nothing_is_asked_again_and_a_class_that_was_left_out_is_not() -> None:
    reply = '{"classes": [{"name": "hen", "captions": ["a low comb"]}, {"name": "emu", "captions": []}]}'
    llm = Scripted({"emu\nhen\nowl": ["I do not know.", "", reply]})
    birds = Vocabulary(["owl", "hen", "emu"])
    found = db.generate(birds, db.method("contrast"), llm)
    assert [[question.sample for question in batch] for batch in llm.batches] == [[0], [1], [2]]
    assert dict(found.sets) == {(0, 1, 2): {0: [], 1: ["a low comb"], 2: []}}
    silent = db.generate(birds, db.method("contrast"), Scripted({"": "no"}))
    assert silent.sets == {} and silent.provenance["missing"] == [
        {"classes": ["owl", "hen", "emu"], "why": "no list in it"}
    ]


THREE = BIRDS.subset([7, 3, 11])
TOLD = Descriptions(
    sets={
        (3, 7, 11): {
            7: ["a Red hen with a low comb, unlike a rooster", "short legs"],
            3: ["a rooster with a tall comb"],
            11: ["a goose with a long neck"],
        },
        (3, 7): {7: ["of another set"], 3: ["of another set"]},
    },
    names=dict(BIRDS),
)


def test_shuffled_moves_the_captions_of_a_set_with_all_names_in_them() -> None:
    hen, rooster, goose = texts("shuffled(contrast)", THREE, TOLD)
    given_by = {"low": 2, "tall": 1, "long": 1}
    assert sorted(len(own) for own in (hen, rooster, goose)) == sorted(given_by.values())
    for name, own, not_own in (("Red hen", hen, "low"), ("rooster", rooster, "tall"), ("goose", goose, "long")):
        assert own[0].startswith(f"a {name} with") and not_own not in own[0]
        if "unlike" in own[0]:
            assert own[0].partition("unlike a ")[2] in {"Red hen", "rooster", "goose"} - {name}


def test_shared_and_random_descriptions_stay_within_the_set() -> None:
    marks = ["with a low comb, unlike a rooster", "with a tall comb", "with a long neck"]
    for (_, name), own in zip(THREE, texts("shared(contrast)", THREE, TOLD), strict=True):
        assert set(own) == {f"a {name.replace('_', ' ')} {mark}" for mark in marks} | {"short legs"}
    seen: set[str] = set()
    for seed in range(20):
        found = texts(f"random_descriptions(contrast, seed={seed})", THREE, TOLD)
        assert [len(own) for own in found] == [2, 1, 1]
        seen.update(found[1])
    assert "short legs" in seen and "of another set" not in seen and len(seen) == 4


def test_scrambled_keeps_the_words_of_a_caption_and_nameless_takes_all_names_of_the_set() -> None:
    (one, legs), *_ = texts("scrambled(contrast)", THREE, TOLD)
    words = ["a", "Red hen", "with", "a", "low", "comb,", "unlike", "a", "rooster"]
    assert "Red hen" in one and sorted(one.split()) == sorted(" ".join(words).split()) and one != " ".join(words)
    assert legs == "legs short"
    assert texts("nameless(contrast)", THREE, TOLD) == [
        ("a farm birds with a low comb, unlike a farm birds", "short legs"),
        ("a farm birds with a tall comb",),
        ("a farm birds with a long neck",),
    ]
    assert texts("nameless(contrast)", BIRDS.subset([11, 0]), TOLD) == [("a photo of a farm birds.",)] * 2


CONTROLS = ["shuffled", "shared", "random_descriptions", "scrambled", "nameless"]


@given(st.permutations(range(4)), st.sampled_from(CONTROLS), st.integers(0, 20))
@settings(deadline=None, max_examples=60)
def test_no_order_or_id_changes_a_text_of_a_control_even_with_a_name_twice(
    order: list[int], control: str, seed: int
) -> None:
    names = ["missile", "tank", "missile", "hen"]
    first = Vocabulary(names)
    known = db.generate(first, db.method("contrast"), FakeLLM())
    other = Vocabulary([names[i] for i in order])
    spelling = f"{control}(contrast)" if control == "nameless" else f"{control}(contrast, seed={seed})"

    def by_name(vocabulary: Vocabulary) -> list[tuple[str, int, tuple[str, ...]]]:
        found = texts(spelling, vocabulary, known.matched(vocabulary))
        place = {i: vocabulary.names[:i].count(name) for i, name in enumerate(vocabulary.names)}
        return sorted((name, place[i], found[i]) for i, name in enumerate(vocabulary.names))

    assert by_name(other) == by_name(first)
    assert not any(text.endswith(".") for _, _, own in by_name(other) for text in own)  # as the fallback does


def answering(asked: Asked) -> Answer:
    """A server that answers as `FakeLLM` does."""
    (reply,) = FakeLLM().complete([Question(asked.text)])
    return said(reply.text)


def test_generate_asks_about_a_small_vocabulary_as_one_set_and_keeps_what_a_person_wrote(run: Run) -> None:
    with serving(answering) as server:
        llm = f"{server.url}#m"
        plan = json.loads(run("generate", "hen,emu,owl", "-m", "contrast", "--llm", llm, "--dry-run", "--json").out)
        assert (plan["hits"], plan["misses"], plan["requests"]) == (0, 1, {"least": 1, "most": 3})
        assert plan["prompts"][0].startswith("A photo shows one of these objects:\nemu\nhen\nowl\n")
        done = run("generate", "hen,emu,owl", "-m", "contrast", "--llm", llm, "-o", "b.json")
        assert done.code == 0 and "1 sets described; 1 asked, 0 from the cache" in done.err
        data = json.loads(Path("b.json").read_text())
        assert (data["sets"][0]["names"], len(server.asked)) == (["hen", "emu", "owl"], 1)
        Path("b.json").unlink()
        assert "0 asked, 1 from the cache" in run("generate", "owl,hen,emu", "-m", "contrast", "--llm", llm).err
        data["sets"][0]["texts"][1] = ["a long neck"]
        Path("b.json").write_text(json.dumps(data))
        again = run("generate", "hen,emu,owl", "-m", "contrast", "--llm", llm, "-o", "b.json")
        assert again.code == 0 and "1 kept from b.json" in again.err and len(server.asked) == 1
        assert edited(Descriptions.load("b.json")) == {(1, 0, 2): ["a long neck"]}
        anew = run("generate", "hen,emu,owl", "-m", "contrast", "--llm", llm, "-o", "b.json", "--refresh", "emu")
        assert anew.code == 0 and len(server.asked) == 2 and edited(Descriptions.load("b.json")) == {}
        Path("one.txt").write_text("hen\n")
        one = run("generate", "one.txt", "-m", "contrast", "--llm", llm)
        assert one.code == 2 and "asks nothing about these classes" in one.err


def test_evaluate_asks_about_the_candidates_of_each_picture_and_once_for_a_set(run: Run) -> None:
    method = "cascade(template, contrast, k=2)"
    with serving(answering) as server:
        done = run("evaluate", "demo:n=8", "--encoder", "demo", "-m", method, "--llm", f"{server.url}#m", "--json")
        assert done.code == 0, done.err
        assert 1 < len(server.asked) == len({request.text for request in server.asked}) <= 8


def test_a_candidate_set_larger_than_a_question_is_refused_with_a_word_on_k() -> None:
    many = Vocabulary([f"bird {i:02}" for i in range(30)])
    with pytest.raises(InputError, match="at most 20 classes at once, and here are 25"):
        followed(many, 25, FakeLLM()).predict_features(X)


def test_names_that_read_alike_are_asked_about_once_and_share_their_captions() -> None:
    alike = Vocabulary(["red_hen", "red hen", "owl"])
    llm = FakeLLM()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = db.Classifier(alike, db.method("contrast"), ENCODER, llm=llm)
        clf.predict_features(X)
    assert llm.batches[0][0].text.startswith("A photo shows one of these objects:\nowl\nred hen\n\n")
    told = clf.descriptions.sets[0, 1, 2]
    assert told[0] == told[1] != told[2]
