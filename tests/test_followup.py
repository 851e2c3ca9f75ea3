"""A follow-up by sums of pairs says what the texts of each candidate set say, and asks no more than it may."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Scripted, drawn

import descbench as db
from descbench import DescbenchWarning, Descriptions, TextBank, Vocabulary, followup
from descbench.errors import InputError
from descbench.followup import by_pairs, competing
from descbench.methods import Comparative, Differential, Method
from descbench.testing import FakeEncoder, FakeLLM

DIM = 16


class Recorded(FakeEncoder):
    """Keeps every text that it is asked for."""

    def __init__(self) -> None:
        super().__init__(dim=DIM)
        self.asked: set[str] = set()

    def encode_texts(self, texts):  # type: ignore[no-untyped-def]
        self.asked |= set(texts)
        return super().encode_texts(texts)


@dataclass(frozen=True, repr=False)
class DifferentialBySets(Differential):
    """The same method, which does not say that its texts are those of its pairs."""

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return super().texts(vocabulary, descriptions)


@dataclass(frozen=True, repr=False)
class ComparativeBySets(Comparative):
    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        return super().texts(vocabulary, descriptions)


WORDS = st.sampled_from(["red", "Red", "blue", "a crest", "long legs", " ", "spots"])  # few, so that rivals share them


@st.composite
def described(draw: st.DrawFn) -> tuple[Vocabulary, Descriptions]:
    names = draw(st.lists(st.sampled_from(["hen", "owl", "emu", "kiwi", "rhea", "ibis"]), min_size=1, max_size=7))
    ids = draw(st.permutations([3 * i + 1 for i in range(len(names))]))
    texts = st.lists(WORDS, max_size=4)
    pairs = draw(st.dictionaries(st.sampled_from([*combinations(ids, 2), (-1, -2)]), st.tuples(texts, texts)))
    return Vocabulary(names, "birds", ids), Descriptions(pairs={p: t for p, t in pairs.items() if p != (-1, -2)})


@given(
    described(),
    st.sampled_from([1, 2, 3, 9]),
    st.sampled_from(
        [
            (Differential(), DifferentialBySets()),
            (Differential(phrasing="authors"), DifferentialBySets(phrasing="authors")),
            (Comparative(), ComparativeBySets()),
        ]
    ),
    st.sampled_from([1, 3, 40]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=80)
def test_the_sums_of_pairs_are_the_texts_of_each_set(
    given_: tuple[Vocabulary, Descriptions], k: int, stages: tuple[Method, Method], repeated: int, seed: int
) -> None:
    vocabulary, descriptions = given_
    images = np.repeat(drawn(seed, 12, DIM), repeated, axis=0)
    assert by_pairs(stages[0]) and not by_pairs(stages[1])
    found = []
    for stage in stages:
        encoder = Recorded()
        clf = db.Classifier(
            vocabulary, db.Cascade(db.method("classname"), stage, k=k), encoder, descriptions=descriptions
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            pred = clf.predict_features(images, top_k=len(vocabulary))
        counts = {name: n for name, n in clf.counts.items() if "pairs" in name}
        found.append((pred, encoder.asked, counts, [str(one.message) for one in said]))
        again = clf.predict_features(images, top_k=len(vocabulary))
        assert np.array_equal(again.ids, pred.ids) and clf.counts.items() >= counts.items()
    (fast, *told), (slow, *told_slow) = found
    assert told == told_slow
    by_class = [np.take_along_axis(p.scores, np.argsort(p.ids, axis=1), axis=1) for p in (fast, slow)]
    assert by_class[0] == pytest.approx(by_class[1], abs=2e-6)
    clear = np.diff(slow.scores[:, :2], axis=1).min(axis=1, initial=-1) < -4e-6
    assert np.array_equal(fast.ids[clear, 0], slow.ids[clear, 0])


def test_the_size_of_a_block_reaches_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary([f"bird {i}" for i in range(9)])
    descriptions = db.generate(vocabulary, db.method("fudd"), FakeLLM())
    found = []
    for size in (1, 50, 1 << 20):
        monkeypatch.setattr(followup, "CACHED", size)
        monkeypatch.setattr(followup, "BLOCK", size)
        clf = db.Classifier(vocabulary, db.method("fudd(k=4)"), FakeEncoder(dim=DIM), descriptions=descriptions)
        found.append(clf.predict_features(drawn(0, 50, DIM), top_k=9).scores)
    assert found[0] == pytest.approx(found[2], abs=1e-6) and found[1] == pytest.approx(found[2], abs=1e-6)


def test_classes_with_the_same_captions_tie_whoever_their_rivals_are() -> None:
    vocabulary = Vocabulary(["owl", "hen", "owl", "emu", "kiwi"])
    captions = {name: [f"{name} {n}" for n in range(5)] for name in vocabulary.names}
    pairs = {(a, b): (captions[vocabulary.name(a)], captions[vocabulary.name(b)]) for a, b in combinations(range(5), 2)}
    for k in (4, 5):
        clf = db.Classifier(
            vocabulary, db.method(f"fudd(k={k})"), FakeEncoder(dim=DIM), descriptions=Descriptions(pairs=pairs)
        )
        pred = clf.predict_features(drawn(1, 200, DIM), top_k=k)
        both = [row for row in range(200) if {0, 2} <= set(pred.ids[row].tolist())]
        assert both
        for row in both:
            ids = pred.ids[row].tolist()
            assert ids.index(2) == ids.index(0) + 1
            assert pred.scores[row, ids.index(0)] == pred.scores[row, ids.index(2)]


def test_later_images_bring_in_pairs_that_were_not_laid_out() -> None:
    vocabulary = Vocabulary([f"bird {i}" for i in range(12)])
    descriptions = db.generate(vocabulary, db.method("fudd"), FakeLLM())
    images = drawn(2, 60, DIM)

    def made() -> db.Classifier:
        return db.Classifier(vocabulary, db.method("fudd(k=3)"), FakeEncoder(dim=DIM), descriptions=descriptions)

    one, whole = made(), made().predict_features(images)
    parts = [one.predict_features(images[i : i + 1]) for i in range(60)]
    assert np.array_equal(np.concatenate([part.ids for part in parts]), whole.ids)


def test_pairs_are_counted_by_the_images_they_compete_in(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.sort(np.stack([np.random.default_rng(i).permutation(8)[:4] for i in range(30)]), axis=1)
    expected: dict[tuple[int, int], int] = {}
    for row in rows.tolist():
        for pair in combinations(row, 2):
            expected[pair] = expected.get(pair, 0) + 1
    for size in (1, 1 << 24):
        monkeypatch.setattr(followup, "BLOCK", size)
        pairs, often = competing(rows, 8)
        assert dict(zip(map(tuple, pairs.tolist()), often.tolist(), strict=True)) == expected


@pytest.mark.parametrize("second", ["differential", "shuffled(differential)", "dclip"])
def test_with_a_margin_only_doubtful_images_are_followed_up(second: str) -> None:
    vocabulary = Vocabulary([f"bird {i}" for i in range(9)])
    images = drawn(4, 40, DIM)
    first = db.Classifier(vocabulary, db.method("classname"), FakeEncoder(dim=DIM)).predict_features(images, top_k=9)
    gaps = first.scores[:, 0] - first.scores[:, 1]
    margin = float(np.median(gaps))
    doubtful = gaps < margin
    llm = FakeLLM()
    found = {
        spelled: db.Classifier(
            vocabulary, db.method(f"cascade(classname, {second}, k=3{spelled})"), FakeEncoder(DIM), llm
        )
        for spelled in ("", f", margin={margin!r}", ", margin=0", ", margin=9.0")
    }
    every, some, none, all_ = (clf.predict_features(images, top_k=9) for clf in found.values())
    assert [clf.counts["followed_up"] for clf in found.values()] == [40, doubtful.sum(), 0, 40]
    assert np.array_equal(none.ids, first.ids) and np.array_equal(all_.ids, every.ids)
    assert np.array_equal(some.ids, np.where(doubtful[:, None], every.ids, first.ids))
    assert some.scores == pytest.approx(np.where(doubtful[:, None], every.scores, first.scores), abs=1e-6)
    described = list(found.values())[1].descriptions
    if second == "differential":
        pairs = {p for row in np.sort(first.ids[doubtful, :3], axis=1).tolist() for p in combinations(row, 2)}
        assert set(described.pairs) == pairs
    for row in (int(np.argmax(doubtful)), int(np.argmin(doubtful))):
        explained = list(found.values())[1].explain_features(images[row])
        assert explained.stage == (second if doubtful[row] else "classname")


def test_a_budget_goes_to_the_pairs_that_compete_most_often() -> None:
    vocabulary = Vocabulary(["owl", "hen", "emu", "kiwi", "rhea", "ibis"], ids=[4, 9, 1, 0, 7, 2])
    images = drawn(5, 50, DIM)
    template = db.Classifier(vocabulary, db.method("template"), FakeEncoder(dim=DIM))
    count: dict[tuple[str, str], int] = {}
    for row in template.predict_features(images, top_k=3).names():
        for pair in combinations(sorted(row), 2):
            count[pair] = count.get(pair, 0) + 1
    ranked = sorted(count, key=lambda pair: (-count[pair], pair))
    for budget in (0, 1, 4, 1000):
        llm = Scripted({"": "- neck: a long neck | a short neck"})
        clf = db.Classifier(vocabulary, db.method(f"fudd(k=3, budget={budget})"), FakeEncoder(dim=DIM), llm)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            clf.predict_features(images)
            clf.predict_features(images[::-1].copy())
        asked = [tuple(sorted(vocabulary.name(id_) for id_ in pair)) for pair in clf.descriptions.pairs]
        assert set(asked) == set(ranked[:budget]) and len(asked) == min(budget, len(ranked))
        assert len(llm.batches) == (budget > 0) and sum(map(len, llm.batches)) <= budget
        assert clf.counts["undescribed_pairs"] == len(ranked) - len(asked)
        assert bool(said) == (budget < len(ranked))
        if said:
            assert f"{len(ranked) - len(asked)} x left out by budget={budget}" in str(said[0].message)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
def test_what_a_budget_is_spent_on_follows_from_names(order: list[int]) -> None:
    names = ["owl", "hen", "emu", "kiwi", "rhea", "ibis"]
    clf = db.Classifier(
        Vocabulary([names[i] for i in order]), db.method("fudd(k=6, budget=3)"), FakeEncoder(dim=DIM), FakeLLM()
    )
    with pytest.warns(DescbenchWarning, match=r"12 of 15 pairs .* \(12 x left out by budget=3\)"):
        clf.predict_features(drawn(6, 4, DIM))
    asked = {tuple(sorted(clf.vocabulary.name(i) for i in pair)) for pair in clf.descriptions.pairs}
    assert asked == {("emu", "hen"), ("emu", "ibis"), ("emu", "kiwi")}  # all compete alike: by name


@pytest.mark.parametrize(
    "spelling", ["fudd(margin=0.02)", "fudd(k=3, budget=7)", "cascade(dclip, differential, k=2, margin=0.5, budget=0)"]
)
def test_margin_and_budget_are_spelled(spelling: str) -> None:
    assert repr(db.method(spelling)) == spelling and db.method(spelling) != db.method("fudd")


@pytest.mark.parametrize(
    "wrong", ["margin=-0.1", "margin='a'", "margin=True", "budget=-1", "budget=0.5", "budget=True"]
)
def test_a_margin_is_a_difference_and_a_budget_a_number(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong.replace("'", ".")):
        db.method(f"fudd({wrong})")
