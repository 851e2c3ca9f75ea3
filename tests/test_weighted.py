"""Texts that count unlike: WCA and AWT through the classifier, against loops over their definitions, in any company."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import drawn, unit
from test_transport import by_definition

import descbench as db
from descbench import Classifier, DescbenchWarning, Descriptions, TextBank, Vocabulary
from descbench.arrays import check_rows
from descbench.datasets.pictures import PicturesDataset
from descbench.embedding import embed
from descbench.encoders import Resized, Views
from descbench.errors import InputError
from descbench.evaluation import protocol_of
from descbench.methods import DCLIP
from descbench.scoring import weighed
from descbench.selection import Support, confirmed
from descbench.store import CachedEncoder
from descbench.testing import ODD_NAMES, FakeEncoder, FakeLLM
from descbench.texts import Anchors

DIM = 32
BIRDS = Vocabulary(
    ["hen", "rooster", "turkey", "goose", "duck", "quail", "pigeon"], "farm birds", [7, 3, 11, 0, 5, 9, 2]
)
ENCODER = FakeEncoder(dim=DIM)
X = drawn(3, 12, DIM)
VIEWS = unit(X[:, None] + 0.8 * drawn(4, 12, 6, DIM)).astype(np.float32)
DESCRIPTIONS = db.generate(BIRDS, db.method("dclip"), FakeLLM()).merged(
    Descriptions({3: ["a tall comb"], 9: ["a stripe", "a stripe", "a small body"]}, names=dict(BIRDS))
)


def features(texts: tuple[str, ...] | list[str]) -> np.ndarray:
    rows: np.ndarray = ENCODER.encode_texts(list(texts)).numpy()
    return rows


def built(spelling: str, vocabulary: Vocabulary = BIRDS, **options: object) -> Classifier:
    return Classifier(vocabulary, db.method(spelling), ENCODER, descriptions=DESCRIPTIONS, **options)  # type: ignore[arg-type]


def wca(x: np.ndarray, texts: tuple[str, ...], anchor: str) -> float:
    """The score of a class for one picture, from the definition."""
    name = features([anchor])[0].astype(np.float64)
    mean, rows = np.zeros(DIM), features(texts).astype(np.float64)
    weights = [math.exp(math.e**2 * float(row @ name)) for row in rows]
    for weight, row in zip(weights, rows, strict=True):
        mean += weight / sum(weights) * row
    return float(x @ mean) / math.sqrt(float(mean @ mean))


def expected_wca(x: np.ndarray, bank: TextBank, anchors: list[str]) -> list[float]:
    return [wca(x, bank.texts_of(c), anchor) for c, anchor in enumerate(anchors)]


@pytest.mark.parametrize("inner", ["dclip", "shuffled(dclip)", "waffle_and(dclip)", "cupl", "dclip(pool='max_score')"])
def test_wca_weighs_texts_by_their_likeness_to_the_name(inner: str) -> None:
    pred = built(f"wca({inner})").predict_features(X, 7)
    bank = db.method(inner).texts(BIRDS, DESCRIPTIONS)
    for row, x in enumerate(X):
        scores = np.array(expected_wca(x, bank, [f"a photo of a {name}." for name in BIRDS.names]))
        order = np.argsort(-scores)
        assert pred.ids[row].tolist() == BIRDS.ids[order].tolist()
        assert pred.scores[row] == pytest.approx(scores[order], abs=1e-6)


def test_a_control_around_wca_changes_texts_and_anchor_alike() -> None:
    for outer, anchors in (
        ("nameless", ["a photo of a farm birds."] * 7),
        ("shuffled", [f"a photo of a {name}." for name in BIRDS.names]),
    ):
        bank = db.method(f"{outer}(dclip)").texts(BIRDS, DESCRIPTIONS)
        found = built(f"{outer}(wca(dclip))").predict_features(X, 7)
        for row, x in enumerate(X):
            assert found.scores[row] == pytest.approx(sorted(expected_wca(x, bank, anchors))[::-1], abs=1e-6)


@pytest.mark.parametrize("block", [300, 1 << 24])
def test_a_follow_up_by_wca_is_wca_among_the_candidates(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descbench.scoring.BLOCK", block)
    pred = built("cascade(template, wca(dclip), k=3)").predict_features(X, 3)
    bank = db.method("dclip").texts(BIRDS, DESCRIPTIONS)
    for row, x in enumerate(X):
        for id_, score in zip(pred.ids[row], pred.scores[row], strict=True):
            position = BIRDS.position(int(id_))
            anchor = f"a photo of a {BIRDS.name(int(id_))}."
            assert score == pytest.approx(wca(x, bank.texts_of(position), anchor), abs=1e-6)
        assert (np.diff(pred.scores[row]) <= 0).all()


def test_a_follow_up_by_pairs_is_weighed_too() -> None:
    pairs = db.generate(BIRDS, db.method("differential"), FakeLLM())
    method = db.method("cascade(template, wca(differential), k=3)")
    pred = Classifier(BIRDS, method, ENCODER, descriptions=pairs).predict_features(X[:4], 3)
    for row, x in enumerate(X[:4]):
        among = BIRDS.subset(sorted(pred.ids[row].tolist(), key=BIRDS.position))
        bank = db.method("differential").texts(among, pairs)
        scores = expected_wca(x, bank, [f"a photo of a {name}." for name in among.names])
        assert pred.scores[row] == pytest.approx(sorted(scores)[::-1], abs=1e-6)


@dataclass(frozen=True, repr=False)
class Weighted(DCLIP):
    """Weights of its own, by the length of the text."""

    spelled = "weighted"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        bank = super().texts(vocabulary, descriptions)
        return replace(bank, weights=np.array([len(text) for text in bank.texts], dtype=np.float32))


def test_a_follow_up_counts_the_weights_of_a_method_as_the_first_stage_does() -> None:
    first = Classifier(BIRDS, Weighted(), ENCODER, descriptions=DESCRIPTIONS).predict_features(X, 7)
    method = db.methods.Cascade(db.method("template"), Weighted(), k=7)
    followed = Classifier(BIRDS, method, ENCODER, descriptions=DESCRIPTIONS).predict_features(X, 7)
    assert np.array_equal(first.ids, followed.ids) and np.allclose(first.scores, followed.scores, atol=1e-6)
    plain = built("dclip").predict_features(X, 7)
    assert not np.allclose(first.scores, plain.scores, atol=1e-4)


def test_weights_and_anchors_multiply() -> None:
    rows = torch.from_numpy(drawn(0, 4, 8))
    bank = TextBank(("a", "b", "a"), np.array([0, 3]), np.array([False]), np.array([1, 2, 3], np.float32))
    (found,) = weighed([replace(bank, anchors=Anchors(("name",), 5.0))], rows, {"a": 0, "b": 1, "name": 3})
    similar = rows.numpy() @ rows.numpy()[3]
    raw = np.array([1, 2, 3]) * np.exp(5 * similar[[0, 1, 0]])
    assert found.anchors is None and found.weights is not None
    assert found.weights / found.weights.sum() == pytest.approx(raw / raw.sum(), abs=1e-6)


def test_a_sharp_anchor_leaves_the_nearest_text_and_no_nan() -> None:
    rows = torch.from_numpy(drawn(0, 4, 8))
    bank = TextBank(("a", "b"), np.array([0, 2]), np.array([False]), anchors=Anchors(("name",), 1e6))
    (found,) = weighed([bank], rows, {"a": 0, "b": 1, "name": 3})
    similar = (rows[:2] @ rows[3]).numpy()
    assert found.weights is not None and found.weights.tolist() == (similar == similar.max()).astype(float).tolist()


def support() -> tuple[np.ndarray, np.ndarray]:
    ids = BIRDS.ids[np.arange(21) % 7]
    own = features([f"{BIRDS.name(int(i))}, which has a tall comb" for i in ids])
    return own + 0.5 * drawn(8, 21, DIM), ids


def test_the_few_shot_filter_goes_with_both_and_inside_or_outside_is_the_same() -> None:
    for kind, x in (("wca", X), ("awt", VIEWS)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DescbenchWarning)
            found = [
                built(spelling, support=support()).predict_features(x, 7)
                for spelling in (f"select_fewshot({kind}(dclip))", f"{kind}(select_fewshot(dclip))")
            ]
            unfiltered = built(f"{kind}(dclip)").predict_features(x, 7)
        assert np.array_equal(found[0].scores, found[1].scores) and np.array_equal(found[0].ids, found[1].ids)
        assert not np.allclose(found[0].scores, unfiltered.scores, atol=1e-4)
        if kind == "wca":
            bank = db.method("dclip").texts(BIRDS, DESCRIPTIONS)
            left, _ = confirmed(bank, BIRDS, Support.of(support(), BIRDS), ENCODER.encode_texts)
            expected = [expected_wca(x, left, [f"a photo of a {name}." for name in BIRDS.names]) for x in X]
            assert np.allclose(found[0].scores, -np.sort(-np.array(expected), axis=1), atol=1e-6)


def test_random_texts_among_a_class_s_own_are_weighed_as_these_are() -> None:
    one, other = (built(s).predict_features(X, 7) for s in ("waffle_and(wca(dclip))", "wca(waffle_and(dclip))"))
    assert np.array_equal(one.ids, other.ids) and np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("wca(wca(dclip))", "wca.dclip. weighs its texts already"),
        ("wca(awt(dclip))", "leave out wca or the other"),
        ("awt(shuffled(wca(dclip)))", "leave out awt or the other"),
        ("wca(nameless(dclip))", r"by the name; write nameless\(wca\(...\)\)"),
        ("wca(selected)", "chooses and scores its texts by itself; leave out wca"),
        ("awt(nameless(selected(w=0)))", "leave out awt"),
        ("awt(fudd)", r"awt changes one method"),
    ],
)
def test_what_cannot_be_weighed_is_one_clear_line(spelling: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        db.method(spelling)


def test_awt_does_not_pass_over_the_weights_of_a_method() -> None:
    clf = Classifier(BIRDS, db.methods.AWT(Weighted()), ENCODER, descriptions=DESCRIPTIONS)
    with pytest.raises(InputError, match="weighs its texts already; leave out awt"):
        clf.predict_features(VIEWS)


def expected_awt(x: np.ndarray, bank: TextBank) -> list[float]:
    scores, _ = by_definition(x, np.split(features(bank.texts), bank.offsets[1:-1]), ENCODER.logit_scale)
    return scores


@pytest.mark.parametrize("inner", ["dclip", "template", "shuffled(dclip)", "nameless(dclip)"])
def test_awt_transports_views_to_texts(inner: str) -> None:
    pred = built(f"awt({inner})").predict_features(VIEWS, 7)
    bank = db.method(inner).texts(BIRDS, DESCRIPTIONS)
    for row, x in enumerate(VIEWS):
        scores = np.array(expected_awt(x, bank))
        found = dict(zip(pred.ids[row].tolist(), pred.scores[row].tolist(), strict=True))
        assert [found[id_] for id_ in BIRDS.ids.tolist()] == pytest.approx(scores, abs=1e-5)


def test_a_follow_up_by_awt_is_awt_among_the_candidates_of_the_whole_picture() -> None:
    pred = built("cascade(template, awt(dclip), k=3)").predict_features(VIEWS, 7)
    first = built("template").predict_features(VIEWS[:, 0], 7)
    for row, x in enumerate(VIEWS):
        assert sorted(pred.ids[row, :3]) == sorted(first.ids[row, :3])
        assert pred.ids[row, 3:].tolist() == first.ids[row, 3:].tolist()
        among = BIRDS.subset(sorted(pred.ids[row, :3].tolist(), key=BIRDS.position))
        scores = expected_awt(x, db.method("dclip").texts(among, DESCRIPTIONS))
        assert pred.scores[row, :3] == pytest.approx(sorted(scores)[::-1], abs=1e-5)
    again = built("cascade(awt(dclip), template, k=7)").predict_features(VIEWS, 7)
    assert np.array_equal(again.ids, first.ids)


@pytest.mark.parametrize("spelling", ["templates", "dclip", "dclip(pool='mean_prob')", "wca(dclip)", "fudd(k=3)"])
def test_any_other_method_sees_the_whole_picture(spelling: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        apart, alone = built(spelling), built(spelling)
        for x, one in ((VIEWS, VIEWS[:, 0]), (torch.from_numpy(VIEWS), torch.from_numpy(VIEWS[:, 0]))):
            found, expected = apart.predict_features(x, 7), alone.predict_features(one, 7)
            assert np.array_equal(found.ids, expected.ids) and np.array_equal(found.scores, expected.scores)
        assert apart.explain_features(VIEWS[0]) == alone.explain_features(VIEWS[0, 0])


def test_support_may_have_its_views_apart() -> None:
    rows, ids = support()
    apart = np.stack([rows, *drawn(5, 2, *rows.shape)], axis=1)
    found = [built("disclip", support=(x, ids)) for x in (rows, apart)]
    one, other = (clf.predict_features(VIEWS, 7) for clf in found)
    assert np.array_equal(one.ids, other.ids) and np.array_equal(one.scores, other.scores)
    assert np.array_equal(found[0].curve(VIEWS), found[1].curve(VIEWS[:, 0]))


def test_pictures_of_one_vector_are_refused_with_the_way_out() -> None:
    for spelling in ("awt(dclip)", "cascade(template, shuffled(awt(dclip)), k=3)"):
        with pytest.raises(InputError, match=r"awt\(dclip\).* of shape \(12, 32\).*--views 'resized\(50\)'"):
            built(spelling).predict_features(X)
    with pytest.raises(InputError, match=r"awt\(dclip\) weighs the views"):
        built("awt(dclip)").explain_features(X[0])
    with pytest.raises(InputError, match=r"given shape \(12, 0, 32\)"):
        built("awt(dclip)").predict_features(VIEWS[:, :0])
    spoilt = VIEWS.copy()
    spoilt[4, 2] = 0
    with pytest.raises(InputError, match="row 4 is zero"):
        built("awt(dclip)").predict_features(spoilt)


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]


def test_views_are_kept_and_given_back(tmp_path: Path) -> None:
    class Once(FakeEncoder):
        calls = 0

        def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
            self.calls += 1
            return super().encode_images(images)

    inner = Once(dim=DIM)
    for _ in range(2):
        kept = embed(PicturesDataset(pictures()), CachedEncoder(Views(inner, Resized(3)), tmp_path))
        assert inner.calls == 3
        assert np.array_equal(kept.features, Views(FakeEncoder(dim=DIM), Resized(3)).encode_images(pictures()))


@pytest.mark.parametrize(("value", "kind"), [(0.0, "is all zero"), (np.nan, "holds NaN or infinity")])
def test_a_view_without_a_direction_is_named_where_it_comes_in(value: float, kind: str) -> None:
    spoilt = VIEWS.copy()
    spoilt[4, 2] = value
    with pytest.raises(InputError, match=f"from there: row 4 .'e'. {kind}, and 1 of 12 rows do"):
        check_rows(spoilt, "abcdefghijkl", "from there")
    assert np.array_equal(check_rows(VIEWS, "abcdefghijkl", "from there"), VIEWS)
    with pytest.raises(InputError, match=r"shape \(12, 0, 32\)"):
        check_rows(VIEWS[:, :0], "abcdefghijkl", "from there")


def test_pictures_are_encoded_with_their_views_and_explained() -> None:
    encoder, images = Views(FakeEncoder(dim=DIM), Resized(3)), pictures()
    clf = Classifier(BIRDS, db.method("awt(dclip)"), encoder, descriptions=DESCRIPTIONS)
    found, direct = clf.predict(images, 7), clf.predict_features(encoder.encode_images(images), 7)
    assert np.array_equal(found.ids, direct.ids)
    assert clf.explain(images[0]) == clf.explain_features(encoder.encode_images(images[:1])[0])


@pytest.mark.parametrize(
    "spelling",
    [
        *("wca(dclip)", "nameless(wca(dclip))", "cascade(template, wca(dclip), k=4)"),
        *("awt(dclip)", "shuffled(awt(dclip))", "cascade(template, awt(dclip), k=4)"),
        "cascade(awt(dclip), wca(dclip), k=4)",
    ],
)
def test_the_shares_of_an_explanation_add_up_to_the_score(spelling: str) -> None:
    clf = built(spelling)
    pred = clf.predict_features(VIEWS, 7)
    for row in range(4):
        why = clf.explain_features(VIEWS[row])
        assert (why.answer, why.against) == tuple(pred.names()[row][:2])
        for reasons, score in ((why.reasons, pred.scores[row, 0]), (why.counter_reasons, pred.scores[row, 1])):
            assert sum(reason.share for reason in reasons) == pytest.approx(score, abs=1e-5)
            for reason in reasons:
                assert reason.similarity == pytest.approx(float(VIEWS[row, 0] @ features([reason.text])[0]), abs=1e-6)


@pytest.mark.parametrize("spelling", ["wca(dclip)", "awt(dclip)", "cascade(template, awt(dclip), k=4)"])
def test_no_order_of_classes_or_pictures_changes_an_answer(spelling: str) -> None:
    expected = built(spelling).predict_features(VIEWS, 7)
    for order in ([11, 2, 9, 7, 3, 5, 0], BIRDS.ids[::-1]):
        found = built(spelling, BIRDS.subset(order)).predict_features(VIEWS, 7)
        assert np.array_equal(found.ids, expected.ids)
        assert np.allclose(found.scores, expected.scores, atol=1e-6)
    turned = built(spelling).predict_features(VIEWS[::-1].copy(), 7)
    assert np.array_equal(turned.ids[::-1], expected.ids)
    assert np.allclose(turned.scores[::-1], expected.scores, atol=1e-6)


@pytest.mark.parametrize("spelling", ["wca(dclip)", "awt(dclip)", "cascade(template, awt(dclip), k=13)"])
def test_classes_of_one_name_tie_and_the_first_comes_first(spelling: str) -> None:
    odd = Vocabulary(ODD_NAMES)
    pred = Classifier(odd, db.method(spelling), ENCODER, llm=FakeLLM()).predict_features(VIEWS, len(odd))
    twins = [position for position, name in enumerate(odd.names) if name == "missile"]
    for row in range(len(VIEWS)):
        place = {id_: column for column, id_ in enumerate(pred.ids[row].tolist())}
        assert place[twins[1]] == place[twins[0]] + 1
        assert pred.scores[row, place[twins[0]]] == pred.scores[row, place[twins[1]]]


@pytest.mark.parametrize("spelling", ["wca(dclip)", "awt(dclip)", "cascade(template, awt(dclip), k=3)"])
def test_one_class_is_the_answer_and_no_picture_gives_no_row(spelling: str) -> None:
    one = BIRDS.subset([9])
    assert built(spelling, one).predict_features(VIEWS).ids.tolist() == [[9]] * 12
    assert built(spelling).predict_features(VIEWS[:0], 3).ids.shape == (0, 3)


def test_awt_is_multi_view_by_itself_and_views_apart_are_not() -> None:
    encoder = Views(FakeEncoder(dim=DIM), Resized(3))
    for spelling, protocol in (
        ("templates", "inductive"),
        ("wca(dclip)", "inductive"),
        ("shuffled(awt(dclip))", "multi-view"),
        ("cascade(awt(dclip), awt(dclip), k=3)", "multi-view"),
        ("select_fewshot(awt(dclip))", "uses support labels, multi-view"),
        ("cascade(awt(select_fewshot(dclip)), awt(dclip), k=2)", "uses support labels, multi-view"),
    ):
        given = support() if "fewshot" in spelling else None
        clf = Classifier(BIRDS, db.method(spelling), encoder, descriptions=DESCRIPTIONS, support=given)
        assert protocol_of(clf) == protocol
