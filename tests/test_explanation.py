"""What each text adds to the decision between two classes, against loops over the definition of each pool."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support import Lookup, drawn, unit

import descbench as db
from descbench import Classifier, Descriptions, Explanation, Vocabulary
from descbench.explanation import WIDTH, Reason, explained
from descbench.methods.base import POOLS
from descbench.testing import FakeEncoder, FakeLLM

DIM = 32
BIRDS = Vocabulary(["hen", "rooster", "turkey", "goose", "duck"], "farm birds", [7, 3, 11, 0, 5])
X = drawn(8, 12, DIM)
ENCODER = FakeEncoder(dim=DIM)
TOLD = db.generate(BIRDS, db.method("cascade(dclip, differential)"), FakeLLM())


def built(spelling: str, descriptions: Descriptions = TOLD, **options: Any) -> Classifier:
    return Classifier(BIRDS, db.method(spelling), ENCODER, descriptions=descriptions, **options)


def feature(text: str) -> np.ndarray:
    row: np.ndarray = ENCODER.encode_texts([text])[0].numpy().astype(np.float64)
    return row


def class_parts(
    x: np.ndarray, texts: tuple[str, ...], weights: list[float], renormalise: bool
) -> list[tuple[str, float, float]]:
    """(text, its share of the score of its class, its weight) by the definition of a weighted mean."""
    mean = sum(w / sum(weights) * feature(text) for text, w in zip(texts, weights, strict=True))
    length = math.sqrt(float(mean @ mean)) if renormalise else 1.0  # type: ignore[operator]
    return [
        (text, w / sum(weights) * float(x @ feature(text)) / length, w / sum(weights))
        for text, w in zip(texts, weights, strict=True)
    ]


def parts_of(spelling: str, x: np.ndarray, name: str) -> list[tuple[str, float, float]]:
    inner = spelling.removeprefix("wca(").removesuffix(")") if spelling.startswith("wca") else spelling
    texts = db.method(inner).texts(BIRDS, TOLD).texts_of(BIRDS.names.index(name))
    weights = [1.0] * len(texts)
    if spelling.startswith("wca"):
        anchor = feature(f"a photo of a {name}.")
        weights = [math.exp(math.exp(2) * float(feature(text) @ anchor)) for text in texts]
    return class_parts(x, texts, weights, renormalise=spelling not in ("dclip", "nameless(dclip)"))


@pytest.mark.parametrize("spelling", ["dclip", "nameless(dclip)", "dclip(pool='mean_feature')", "cupl", "wca(dclip)"])
def test_in_a_mean_each_text_adds_its_weight_times_how_far_it_is_above_the_middle_of_both_scores(spelling: str) -> None:
    clf = built(spelling)
    for x in X:
        why = clf.explain_features(x)
        of = {"answer": parts_of(spelling, x, why.answer), "rival": parts_of(spelling, x, why.against)}
        scores = {side: sum(share for _, share, _ in parts) for side, parts in of.items()}
        middle = (scores["answer"] + scores["rival"]) / 2
        shares: dict[str, float] = {}
        expected: dict[str, float] = {}
        for sign, parts in ((1, of["answer"]), (-1, of["rival"])):
            for text, share, weight in parts:
                shares[text] = shares.get(text, 0.0) + sign * share
                expected[text] = expected.get(text, 0.0) + sign * (share - weight * middle)
        found = {one.text: one for one in why.contributions}
        assert found.keys() == expected.keys()
        for text, one in found.items():
            assert one.contribution == pytest.approx(expected[text], abs=1e-6)
            assert one.share == pytest.approx(shares[text], abs=1e-6)
            assert one.similarity == pytest.approx(float(x @ feature(text)), abs=1e-6)
        assert sum(expected.values()) == pytest.approx(scores["answer"] - scores["rival"], abs=1e-9)


@pytest.mark.parametrize(
    "spelling",
    [
        *(f"dclip(pool={pool!r})" for pool in POOLS),
        *("templates", "cupl", "wca(dclip)", "nameless(dclip)", "nameless(dclip(pool='max_score'))", "waffle"),
        *("cascade(template, dclip(pool='mean_prob'), k=3)", "fudd(k=4)", "cascade(dclip, differential, k=3)"),
        *("disclip(k=3)", "disclip(k=3, w=0)", "disclip(k=3, named=True)", "disclip(k=3, pool='max_score')"),
    ],
)
def test_whatever_the_pool_contributions_and_shares_add_up_to_the_lead(spelling: str) -> None:
    options = {"support": (drawn(1, 30, DIM), np.tile(BIRDS.ids, 6))} if "disclip" in spelling else {}
    clf = built(spelling, **options)
    pred = clf.predict_features(X, top_k=5)
    for row, x in enumerate(X):
        for rank in (1, 2):
            why = clf.explain_features(x, against=int(pred.ids[row, rank]))
            assert math.fsum(one.contribution for one in why.contributions) == pytest.approx(why.lead, abs=1e-12)
            assert math.fsum(one.share for one in why.contributions) == pytest.approx(why.lead, abs=1e-12)
            assert why.lead == pytest.approx(float(pred.scores[row, 0] - pred.scores[row, rank]), abs=1e-5)
            assert why.lead >= 0
            for reasons in (why.reasons, why.counter_reasons):
                assert math.fsum(reason.weight for reason in reasons) == pytest.approx(1, abs=1e-12)


def test_transport_adds_up_as_well() -> None:
    views = drawn(5, 4, 3, DIM)
    clf = built("awt(dclip)")
    for picture in views:
        why = clf.explain_features(picture)
        assert math.fsum(one.contribution for one in why.contributions) == pytest.approx(why.lead, abs=1e-12)


def test_of_a_maximum_only_the_best_text_of_each_class_counts_and_the_next_would_take_its_place() -> None:
    why = built("dclip(pool='max_score')").explain_features(X[0])
    counting = [one for one in why.contributions if one.contribution]
    assert [one.of for one in sorted(counting, key=lambda one: one.of)] == ["answer", "rival"]
    assert all(one.contribution == pytest.approx(why.lead / 2) for one in counting)
    assert "the next one would" in str(why)


def test_contributions_are_ranked_and_a_text_of_both_classes_is_there_once_with_its_net_share() -> None:
    a, b, c, d = unit(np.array([[1, 0.2, 0], [0.6, 0, 1], [0.2, 1, 0.1], [0.9, 0.9, 0]]))
    said = Descriptions({7: ["shared", "comb", "comb"], 3: ["shared", "spurs"]})
    birds = BIRDS.subset([7, 3])
    encoder = Lookup({"shared": d, "comb": a, "spurs": c, "none": b})
    x = unit(np.array([1.0, 0.1, 0.1]))
    why = Classifier(birds, db.method("cupl(pool='mean_score')"), encoder, descriptions=said).explain_features(x)
    assert (why.answer, why.against) == ("hen", "rooster")
    scores = {"hen": (x @ d + 2 * (x @ a)) / 3, "rooster": (x @ d + x @ c) / 2}
    middle = (scores["hen"] + scores["rooster"]) / 2
    found = {one.text: one for one in why.contributions}
    assert {text: one.of for text, one in found.items()} == {"shared": "both", "comb": "answer", "spurs": "rival"}
    assert found["shared"].share == pytest.approx(x @ d / 3 - x @ d / 2, abs=1e-6)
    assert found["shared"].contribution == pytest.approx((x @ d - middle) * (1 / 3 - 1 / 2), abs=1e-6)
    assert found["comb"].contribution == pytest.approx((x @ a - middle) * 2 / 3, abs=1e-6)
    assert found["spurs"].contribution == pytest.approx((middle - x @ c) / 2, abs=1e-6)
    ranked = [one.contribution for one in why.contributions]
    assert ranked == sorted(ranked, reverse=True) and min(ranked) < 0 < max(ranked)


def test_a_text_shared_by_classes_of_as_many_texts_decides_nothing() -> None:
    said = Descriptions({7: ["a beak", "a red comb"], 3: ["a beak", "long spurs"]})
    clf = Classifier(BIRDS.subset([7, 3]), db.method("cupl(pool='mean_score')"), ENCODER, descriptions=said)
    (shared,) = [one for one in clf.explain_features(X[0]).contributions if one.of == "both"]
    assert shared.contribution == pytest.approx(0, abs=1e-15)


def test_of_a_follow_up_it_says_what_the_first_stage_answered_and_which_texts_changed_that() -> None:
    clf, first = built("cascade(dclip, differential, k=3)"), built("dclip")
    turned = stayed = apart = 0
    for x in X:
        why, before = clf.explain_features(x), first.predict_features(x[None]).names()[0][0]
        assert (why.first, why.first_stage) == (before, "dclip")
        assert why.changed == (before != why.answer)
        if not why.changed:
            stayed += 1
            assert why.turn is None and "changed its mind" not in str(why)
            continue
        turned += 1
        assert f"dclip answered {before}; the follow-up changed its mind" in str(why).splitlines()[0]
        cause = why if why.against == before else why.turn
        assert cause is not None and (cause.answer, cause.against) == (why.answer, before)
        apart += why.turn is not None
        expected = clf.explain_features(x, against=before)
        assert cause.contributions == expected.contributions and cause.stage == "differential"
        assert expected.turn is None
        assert all(one.text in str(why) for one in cause.contributions if len(one.text) < 40)
    assert turned and stayed and apart


def test_one_stage_has_no_first_answer() -> None:
    why = built("dclip").explain_features(X[0])
    assert (why.first, why.first_stage, why.turn, why.changed) == ("", "", None, False)


def sample(texts: int = 30, name: str = "hen") -> Explanation:
    draw = np.random.default_rng(0)
    told = [
        [
            Reason(f"{of}, which has {'a very long mark ' * (n % 9)}{n}", s, s / texts, 1 / texts)
            for n, s in enumerate(near)
        ]
        for of, near in zip((name, "rooster"), draw.uniform(0.1, 0.4, (2, texts)).tolist(), strict=True)
    ]
    return explained(name, "rooster", "dclip", "mean_score", *told)


@pytest.mark.parametrize("name", ["hen", "a bird of a rather long name that goes on", "x" * 300])
def test_as_text_it_keeps_to_the_width_and_cuts_nothing_off(name: str) -> None:
    why = sample(name=name)
    head, _, *lines = str(why).splitlines()
    assert max(map(len, lines)) <= WIDTH
    shown = name if len(name) <= 20 else f"{name[:17]}..."
    beside = 39 + max(len(shown), len("rooster"))  # where the texts begin
    said = "".join(line[beside:] for line in lines).replace(" ", "")
    assert said == "".join(one.text for one in why.contributions).replace(" ", "")
    assert {line[37:beside].strip() for line in lines} - {""} == {shown, "rooster"}
    assert head.startswith(f"{name} (") and "rooster" in head


def test_as_text_the_longest_bar_is_of_the_largest_and_what_is_left_out_is_summed() -> None:
    why = sample()
    lines = why.table(most=6).splitlines()
    assert lines[-1].endswith("by 54 other texts") and sum("|" in line for line in lines[2:]) == 6
    values = {line: float(line.split()[0]) for line in lines[2:] if line.split()[0][0] in "+-"}
    assert sum(values.values()) == pytest.approx(why.lead, abs=6e-4)
    bars = {line: line.count("#") for line in lines[2:] if "|" in line}
    assert bars[max(bars, key=lambda line: abs(values[line]))] == max(bars.values()) == 8
    assert all((line.index("#") > line.index("|")) == (values[line] > 0) for line in bars if "#" in line)
    strongest = sorted((abs(one.contribution) for one in why.contributions), reverse=True)[:6]
    assert sorted((abs(values[line]) for line in bars), reverse=True) == pytest.approx(strongest, abs=6e-5)
