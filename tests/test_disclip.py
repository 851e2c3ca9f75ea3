"""Selecting by labelled images: against a loop over the definition, in any order, with gaps in the support."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Lookup, Scripted, drawn, unit

from descbench import Classifier, DescbenchWarning, Descriptions, Vocabulary, method
from descbench.errors import InputError
from descbench.methods import Method, Selected
from descbench.selection import WEIGHTS, Selector, Support
from descbench.testing import FakeEncoder
from descbench.texts import TextBank

DIM = 24
NAMES = ("hen", "rooster", "turkey", "goose", "grey_duck")
BIRDS = Vocabulary(NAMES, "farm birds", [7, 3, 11, 0, 5])
ENCODER = FakeEncoder(dim=DIM)
X = drawn(1, 40, DIM)
LISTS = {
    7: ["a comb", "brown wings", "short legs", "small size"],
    3: ["a tall comb", "long tail", "bright colours", "a comb", "spurs"],
    11: ["a bare head", "a fan of a tail", "dark wings"],
    0: ["a long neck", "white wings", "an orange bill", "short legs"],
    5: ["a flat bill"],
}
TOLD = Descriptions(LISTS, names=dict(BIRDS))
SUPPORT = (drawn(2, 15, DIM), BIRDS.ids[np.arange(15) % 5])


@cache
def feature(text: str) -> np.ndarray:
    row: np.ndarray = ENCODER.encode_texts([text])[0].numpy().astype(np.float64)
    return row


def loop(
    x: np.ndarray, k: int, m: int, support: tuple[Any, Any] = SUPPORT, lists: dict[int, list[str]] = LISTS
) -> dict[int, list[str]]:
    """DisCLIP's selection for one image, written from the definition: the texts of each candidate, best class first."""
    pool: list[str] = []
    for own in sorted(lists.values()):
        pool += [text for text in own if text not in pool]
    near = {
        (d, c): np.mean([feature(d) @ row for row, label in zip(*support, strict=True) if label == c])
        for d in pool
        for c in lists
        if c in support[1]
    }
    ranked = sorted(
        BIRDS.ids.tolist(), key=lambda c: -(x @ feature(f"A photo of a {BIRDS.name(c).replace('_', ' ')}."))
    )
    candidates, chosen = ranked[:k], {}
    known = [c for c in candidates if c in support[1]]
    for c in candidates:
        fits = [d for d in pool if c in known and all(near[d, c] >= near[d, other] for other in known)]
        gain = {d: np.mean([near[d, c] - near[d, other] for other in known]) for d in fits}
        own = sorted(lists[c], key=pool.index)[:m]
        chosen[c] = sorted(sorted(fits, key=lambda d: -gain[d])[:m], key=pool.index) or own
    return chosen


def scores(x: np.ndarray, chosen: dict[int, list[str]], w: float) -> dict[int, float]:
    names = {c: f"A photo of a {BIRDS.name(c).replace('_', ' ')}." for c in chosen}
    return {c: w * x @ feature(names[c]) + np.mean([x @ feature(d) for d in texts]) for c, texts in chosen.items()}


def classifier(spelling: str, **options: Any) -> Classifier:
    return Classifier(BIRDS, method(spelling), ENCODER, **{"descriptions": TOLD, "support": SUPPORT, **options})


@pytest.mark.parametrize(("k", "m", "w"), [(2, 1, 0.0), (3, 5, 1.0), (4, 2, 0.25), (5, 3, 2.0), (9, 99, 1.0)])
def test_disclip_is_the_loop_over_its_definition(k: int, m: int, w: float) -> None:
    pred = classifier(f"disclip(k={k}, m={m}, w={w})").predict_features(X, top_k=min(k, 5))
    for row, x in enumerate(X.astype(np.float64)):
        expected = scores(x, loop(x, k, m), w)
        assert pred.ids[row].tolist() == sorted(expected, key=lambda c: -expected[c])
        assert pred.scores[row] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)


@pytest.mark.parametrize(("pool", "pooled"), [("mean_score", np.mean), ("max_score", np.max)])
def test_with_the_name_the_texts_are_repeated_in_turn(pool: str, pooled: Any) -> None:
    pred = classifier(f"disclip(m=4, named=True, pool={pool!r})").predict_features(X, top_k=3)
    for row, x in enumerate(X.astype(np.float64)):
        expected = {}
        for c, texts in loop(x, 3, 4).items():
            name = BIRDS.name(c).replace("_", " ")
            repeated = [f"A photo of a {name}, {texts[i % len(texts)]}." for i in range(4)]
            expected[c] = pooled([x @ feature(text) for text in repeated])
        assert pred.scores[row] == pytest.approx([expected[c] for c in pred.ids[row].tolist()], abs=1e-6)
        assert pred.ids[row, 0] == max(expected, key=lambda c: expected[c])


def test_the_curve_is_what_each_weight_answers_by_itself() -> None:
    answers = classifier("disclip(k=4, m=2)").curve(X)
    assert answers.shape == (160, len(X)) and WEIGHTS[[0, 1, -1]].tolist() == [0, 0.25, 39.75]
    for row in (0, 1, 4, 30, 159):
        alone = classifier(f"disclip(k=4, m=2, w={WEIGHTS[row]})").predict_features(X, top_k=1)
        assert np.array_equal(answers[row], alone.ids[:, 0])
    first = Classifier(BIRDS, method("template('A photo of a {}.')"), ENCODER).predict_features(X, top_k=1)
    assert np.array_equal(classifier("disclip").curve(X, [1e6])[0], first.ids[:, 0])
    assert np.array_equal(classifier("disclip(k=1)").curve(X, [0, 3]), np.stack([first.ids[:, 0]] * 2))
    assert classifier("disclip").curve(X[:0]).shape == (160, 0)


@pytest.mark.parametrize("spelling", ["disclip(named=True)", "dclip", "cascade(template, dclip, k=2)"])
def test_what_has_no_weight_of_the_name_has_no_curve(spelling: str) -> None:
    support = SUPPORT if "disclip" in spelling else None
    with pytest.raises(InputError, match="no weight of the name to vary"):
        classifier(spelling, support=support).curve(X)


def test_a_curve_is_over_all_images() -> None:
    with pytest.raises(InputError, match="follows up some images only"):
        classifier("cascade(template, selected, k=2, margin=0.1)").curve(X)


@pytest.mark.parametrize("weights", [[-1], [np.nan], 3])
def test_weights_are_numbers_from_0_on(weights: Any) -> None:
    with pytest.raises(InputError, match="weights are a list of numbers from 0 on"):
        classifier("disclip").curve(X, weights)


@given(st.permutations(range(5)), st.permutations(range(15)), st.sampled_from([0.0, 1.0, 7.5]))
@settings(max_examples=20, deadline=None)
def test_no_order_of_classes_keys_or_support_changes_an_answer(order: list[int], rows: list[int], w: float) -> None:
    turned = BIRDS.subset(BIRDS.ids[order])
    told = Descriptions({id_: LISTS[id_] for id_ in turned.ids.tolist()}, names=dict(turned))
    support = (SUPPORT[0][rows], SUPPORT[1][rows])
    moved = Classifier(turned, method(f"disclip(w={w})"), ENCODER, descriptions=told, support=support)
    plain = classifier(f"disclip(w={w})").predict_features(X, top_k=3)
    assert np.array_equal(moved.predict_features(X, top_k=3).ids, plain.ids)


def test_pictures_in_batches_answer_as_all_at_once() -> None:
    clf = classifier("disclip")
    parts = [clf.predict_features(X[i : i + 7]).ids for i in range(0, len(X), 7)]
    assert np.array_equal(np.concatenate(parts), clf.predict_features(X).ids)


def selector(features: dict[str, np.ndarray], lists: list[list[str]], support: Any, m: int = 1) -> Selector:
    vocabulary = Vocabulary([f"class {i}" for i in range(len(lists))])
    bank = TextBank.of(vocabulary, lists)
    encoder = Lookup(features)
    return Selector(Selected(m=m), bank, vocabulary, Support.of(support, vocabulary), encoder.encode_texts)


def test_equal_gains_go_by_the_order_of_the_pool_also_across_the_edge() -> None:
    e = np.eye(3)
    known = {f"t{i:02}": e[0] for i in range(30)} | {"z": e[1]}
    lists = [[f"t{i:02}" for i in range(30)], ["z"]]
    support = (e[:2], np.array([0, 1]))
    for m in (1, 5, 29, 30, 31):
        rows = selector(known, lists, support, m).select(np.array([[0, 1]]))[0]
        assert rows[0][rows[0] >= 0].tolist() == list(range(min(m, 30)))
        assert rows[1][rows[1] >= 0].tolist() == [30]


def test_where_nothing_fits_a_class_the_first_of_its_own_list_stand() -> None:
    e = np.eye(3)
    known = {"a": e[0], "b": e[0], "c": unit(e[0] + 0.5 * e[1]), "d": unit(e[0] + 0.4 * e[1])}
    support = (e[:2], np.array([0, 1]))
    rows = selector(known, [["a"], ["d", "c", "b"]], support, m=2).select(np.array([[0, 1]]))[0]
    # All four are nearer to class 0. The pool is a, d, c, b: for class 1 the first two of its own.
    assert rows[1].tolist() == [1, 2]


def test_a_class_without_labelled_images_keeps_its_own_list_and_hinders_no_other() -> None:
    seen = SUPPORT[1] != 11
    support = (SUPPORT[0][seen], SUPPORT[1][seen])
    clf = classifier("disclip(m=2)", support=support)
    with pytest.warns(DescbenchWarning, match="1 of 5 classes have no labelled image and keep their own.*turkey"):
        pred = clf.predict_features(X, top_k=3)
    assert clf.counts["unsupported"] == 1 and (pred.ids == 11).any()
    for row, x in enumerate(X.astype(np.float64)):
        expected = scores(x, loop(x, 3, 2, support), 1.0)
        assert pred.ids[row].tolist() == sorted(expected, key=lambda c: -expected[c])
        assert 11 not in expected or loop(x, 3, 2, support)[11] == ["a bare head", "a fan of a tail"]


def test_a_class_without_descriptors_is_its_bare_name_until_another_class_describes_it() -> None:
    clf = classifier("disclip", descriptions=Descriptions(names=dict(BIRDS)))
    with pytest.warns(DescbenchWarning, match="5 of 5 classes have no description"):
        pred = clf.predict_features(X, top_k=3)
    for row, x in enumerate(X.astype(np.float64)):
        for id_, score in zip(pred.ids[row].tolist(), pred.scores[row], strict=True):
            name = BIRDS.name(id_).replace("_", " ")
            assert score == pytest.approx(x @ feature(f"A photo of a {name}.") + x @ feature(name), abs=1e-6)


def test_disclip_asks_about_every_class_once_and_then_selects() -> None:
    llm = Scripted({"": "- a red head\n- long legs\n"})
    clf = classifier("disclip", descriptions=None, llm=llm)
    clf.predict_features(X)
    clf.predict_features(X)
    assert [len(batch) for batch in llm.batches] == [5]


def test_one_class_and_two_classes_of_one_name_are_answered() -> None:
    one = Vocabulary(["hen"])
    support = (X[:2], np.zeros(2, dtype=int))
    told = Descriptions({0: ["a comb"]})
    assert (
        Classifier(one, method("disclip"), ENCODER, descriptions=told, support=support).predict_features(X).ids.max()
        == 0
    )
    twice = Vocabulary(["hen", "hen"])
    told = Descriptions({0: ["a comb"], 1: ["a comb"]})
    pred = Classifier(twice, method("disclip(own=True)"), ENCODER, descriptions=told).predict_features(X)
    assert (
        np.array_equal(pred.scores[:, 0], pred.scores[:, 1]) and (pred.ids[:, 0] == 0).all()
    )  # a tie, to the last bit


@pytest.mark.parametrize(
    "spelling", ["disclip(w=1.5)", "disclip(w=0)", "disclip(named=True)", "disclip(pool='max_score')"]
)
def test_an_explanation_adds_up_to_the_score(spelling: str) -> None:
    clf = classifier(spelling)
    for x in X[:8]:
        pred, why = clf.predict_features(x[None], top_k=2), clf.explain_features(x)
        assert (why.score, why.rival_score) == pytest.approx(tuple(pred.scores[0]), abs=1e-5)
        assert any("A photo of a" in reason.text for reason in why.reasons) == ("w=0" not in spelling)


@pytest.mark.parametrize(
    ("support", "message"),
    [
        (None, "selects by labelled images and has none; give support="),
        (X, "support is two arrays, .* given: ndarray"),
        ((X,), "support is two arrays, .* given: tuple of 1"),
        ((X, SUPPORT[1]), r"one class id for each of the 40 support features, given: int64 of shape \(15,\)"),
        ((X[:2], np.array([7.0, 3.0])), "given: float64"),
        ((X[:2], ["hen", "goose"]), "given: <U5"),
        ((X[:0], np.zeros(0, dtype=int)), "one class id for each of the 0 support features"),
        ((X[:2], np.array([7, 99])), "support labels 99 are no ids of the vocabulary, which has 5 classes; a label is"),
        ((X[0], np.array([7])), r"support features must be an \(N, D\) array"),
        ((X[:2] * np.nan, np.array([7, 3])), "support features: row 0 is not finite"),
    ],
)
def test_a_support_that_cannot_be_used_says_why(support: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier("disclip", support=support)


def test_a_support_of_another_model_is_found_out() -> None:
    with pytest.raises(InputError, match="support features have 7 dimensions, the texts 24: they are not of one model"):
        classifier("disclip", support=(drawn(0, 5, 7), BIRDS.ids)).predict_features(X)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("dclip", "does not select from labelled images; leave out support"),
        ("disclip(own=True)", "does not select from labelled images"),
        ("selected", "decides among candidates; write cascade"),
        ("cascade(template, nameless(selected), k=2)", r"still scores the name; write selected\(w=0\)"),
        ("cascade(template, select_fewshot(dclip), k=2)", "cannot be a later stage"),
        ("cascade(template, selected, k=2, budget=3)", "asks about every class, whatever the candidates"),
    ],
)
def test_a_method_where_it_cannot_stand_is_an_error(spelling: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(spelling)


@pytest.mark.parametrize(
    "spelling",
    [
        *("disclip(m=0)", "disclip(w=-1)", "disclip(w=None)", "disclip(pool='mean_prob')", "disclip(named=1.5)"),
        *("disclip(named=True, w=2)", "disclip(named=True, own=True)", "select_fewshot(selected)", "disclip(k=0)"),
    ],
)
def test_a_parameter_that_cannot_be_is_an_error(spelling: str) -> None:
    with pytest.raises(InputError):
        method(spelling)


def test_each_method_says_what_it_sees() -> None:
    def protocol(spelling: str) -> str:
        found: Method = method(spelling)
        return found.protocol

    assert {protocol(s) for s in ("dclip", "nameless(dclip)", "selected(own=True)")} == {"inductive"}
    uses = ("selected", "shuffled(selected)", "select_fewshot(dclip)", "nameless(select_fewshot(dclip))")
    assert {protocol(s) for s in uses} == {"uses support labels"}


def test_select_fewshot_keeps_what_comes_nearer_than_the_name_or_03() -> None:
    support = (unit(SUPPORT[0] + 0.3 * drawn(4, 15, DIM)), SUPPORT[1])
    clf = classifier("select_fewshot(dclip)", support=support)
    kept, lost = {}, 0
    for id_, name in BIRDS:
        image = unit(support[0][support[1] == id_].astype(np.float64).mean(axis=0))
        limit = min(feature(name.replace("_", " ")) @ image, 0.3)
        texts = method("dclip").texts(BIRDS, TOLD).texts_of(BIRDS.position(id_))
        kept[id_] = [t for t in texts if feature(t) @ image > limit] or [name.replace("_", " ")]
        lost += kept[id_] == [name.replace("_", " ")]
    assert 0 < lost < 5 and any(len(kept[i]) < len(LISTS[i]) for i in LISTS if len(kept[i]) > 1)
    with pytest.warns(DescbenchWarning, match=f"{lost} of 5 classes have no text that their labelled images confirm"):
        pred = clf.predict_features(X, top_k=5)
    assert clf.counts["unconfirmed"] == lost
    for row, x in enumerate(X.astype(np.float64)):
        expected = [np.mean([x @ feature(t) for t in kept[c]]) for c in pred.ids[row].tolist()]
        assert pred.scores[row] == pytest.approx(expected, abs=1e-6)


def test_select_fewshot_leaves_a_class_without_images_as_it_is() -> None:
    e = np.eye(4)
    told = Descriptions({0: ["good", "bad"], 1: ["odd"]})
    names = Vocabulary(["hen", "auk"])
    texts = {"hen": unit(e[0] + 5 * e[1]), "auk": e[1], "hen, which has good": e[0], "hen, which has bad": e[2]}
    encoder = Lookup({**texts, "auk, which has odd": e[3]})
    support = (e[:1], np.array([0]))
    clf = Classifier(names, method("select_fewshot(dclip)"), encoder, descriptions=told, support=support)
    with pytest.warns(DescbenchWarning, match=re.escape("1 of 2 classes have no labelled image")):
        pred = clf.predict_features(e[[0, 3]])
    assert pred.ids[:, 0].tolist() == [0, 1] and pred.scores[:, 0] == pytest.approx([1, 1])
    assert clf.counts["unconfirmed"] == 0 and "hen, which has bad" not in str(clf.explain_features(e[0]))
