"""Where words, language model and encoder meet: against loops over the definition, in any order."""

from __future__ import annotations

import warnings
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import Lookup, Scripted, drawn, unit

import descbench as db
from descbench import Classifier, DescbenchWarning, Descriptions, Vocabulary
from descbench.errors import InputError, MatchError
from descbench.methods.base import POOLS
from descbench.testing import ODD_NAMES, FakeEncoder, FakeLLM

DIM = 32
BIRDS = Vocabulary(
    ["hen", "rooster", "turkey", "goose", "duck", "quail", "pigeon"], "farm birds", [7, 3, 11, 0, 5, 9, 2]
)
X = drawn(3, 25, DIM)
ENCODER = FakeEncoder(dim=DIM)


def told(vocabulary: Vocabulary, spelling: str) -> Descriptions:
    return db.generate(vocabulary, db.method(spelling), FakeLLM())


def feature(text: str) -> np.ndarray:
    row: np.ndarray = ENCODER.encode_texts([text])[0].numpy().astype(np.float64)
    return row


def follow_up(
    x: np.ndarray, vocabulary: Vocabulary, descriptions: Descriptions, k: int
) -> tuple[list[int], list[float]]:
    """FuDD for one image, written from the definition: its candidates, best first, and their scores."""
    names = dict(vocabulary)
    first = {id_: float(x @ feature(f"a photo of a {name}.")) for id_, name in names.items()}
    candidates = sorted(first, key=lambda id_: -first[id_])[:k]
    if k == 1:
        return candidates, [first[candidates[0]]]
    scores = {}
    for c in candidates:
        captions = set()
        for rival in candidates:
            if rival != c:
                pair = descriptions.pair(c, rival)
                captions |= set(pair[0]) if pair else {f"a photo of a {names[c]}."}
        mean = sum(feature(text) for text in captions) / len(captions)
        scores[c] = float(x @ unit(np.asarray(mean)))
    best = sorted(candidates, key=lambda id_: -scores[id_])
    return best, [scores[id_] for id_ in best]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_a_follow_up_is_the_loop_over_its_definition(k: int) -> None:
    descriptions = told(BIRDS, "fudd")
    pred = Classifier(BIRDS, db.method(f"fudd(k={k})"), ENCODER, descriptions=descriptions).predict_features(X, top_k=k)
    for row, x in enumerate(X.astype(np.float64)):
        ids, scores = follow_up(x, BIRDS, descriptions, k)
        assert pred.ids[row].tolist() == ids
        assert pred.scores[row] == pytest.approx(scores, abs=1e-6)


def test_a_follow_up_takes_the_template_for_pairs_that_nobody_described() -> None:
    whole = told(BIRDS, "fudd")
    some = Descriptions(pairs=dict(list(whole.pairs.items())[::2]), names=whole.names)
    clf = Classifier(BIRDS, db.method("fudd(k=4)"), ENCODER, descriptions=some)
    with pytest.warns(DescbenchWarning, match="pairs among the candidates have no description and are scored without"):
        pred = clf.predict_features(X, top_k=4)
    for row, x in enumerate(X.astype(np.float64)):
        assert pred.ids[row].tolist() == follow_up(x, BIRDS, some, 4)[0]
    occurring = {frozenset(pair) for row in pred.ids.tolist() for pair in combinations(row, 2)}
    assert clf.counts["candidate_pairs"] == len(occurring)
    assert clf.counts["undescribed_pairs"] == sum(some.pair(*pair) is None for pair in occurring) > 0


@pytest.mark.parametrize(
    "method", ["fudd(k=3)", "cascade(dclip, differential, k=4)", "cascade(classname, dclip, differential, k=3)"]
)
def test_a_follow_up_only_reorders_its_candidates(method: str) -> None:
    descriptions = told(BIRDS, method).merged(told(BIRDS, "dclip"))
    k = db.method(method).k
    first = Classifier(BIRDS, db.method(method).stages[0], ENCODER, descriptions=descriptions).predict_features(X, 7)
    after = Classifier(BIRDS, db.method(method), ENCODER, descriptions=descriptions).predict_features(X, 7)
    assert np.array_equal(np.sort(first.ids[:, :k]), np.sort(after.ids[:, :k]))
    assert np.array_equal(first.ids[:, k:], after.ids[:, k:])
    assert np.array_equal(first.scores[:, k:], after.scores[:, k:])
    assert not np.array_equal(first.ids, after.ids)
    assert (np.diff(after.scores[:, :k]) <= 0).all()


def test_each_stage_decides_among_the_candidates_of_the_stage_before() -> None:
    descriptions = told(BIRDS, "dclip")
    method = db.method("cascade(template, classname, dclip, k=3)")
    pred = Classifier(BIRDS, method, ENCODER, descriptions=descriptions).predict_features(X, 3)
    first = Classifier(BIRDS, db.method("template"), ENCODER).predict_features(X, 3)
    last = Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=descriptions).predict_features(X, 7)
    for row in range(len(X)):
        assert pred.ids[row].tolist() == [id_ for id_ in last.ids[row] if id_ in first.ids[row]]


@pytest.mark.parametrize("pool", POOLS)
def test_a_follow_up_pools_as_its_stage_says(pool: str) -> None:
    descriptions = told(BIRDS, "dclip")
    clf = Classifier(
        BIRDS, db.method(f"cascade(template, dclip(pool={pool!r}), k=3)"), ENCODER, descriptions=descriptions
    )
    pred = clf.predict_features(X[:6], 3)
    for row in range(6):
        among = BIRDS.subset(sorted(pred.ids[row].tolist(), key=BIRDS.position))
        alone = Classifier(among, db.method(f"dclip(pool={pool!r})"), ENCODER, descriptions=descriptions)
        expected = alone.predict_features(X[row : row + 1], 3)
        assert pred.ids[row].tolist() == expected.ids[0].tolist()
        assert pred.scores[row] == pytest.approx(expected.scores[0], abs=1e-6)


def test_one_candidate_leaves_the_first_answer() -> None:
    first = Classifier(BIRDS, db.method("template"), ENCODER).predict_features(X, 7)
    llm = FakeLLM()
    alone = Classifier(BIRDS, db.method("fudd(k=1)"), ENCODER, llm=llm).predict_features(X, 7)
    assert np.array_equal(first.ids, alone.ids) and np.array_equal(first.scores, alone.scores)
    assert llm.batches == []


def test_more_candidates_than_classes_are_all_classes() -> None:
    descriptions = told(BIRDS, "fudd")
    found = [
        Classifier(BIRDS, db.method(spelling), ENCODER, descriptions=descriptions).predict_features(X, top_k).ids
        for spelling, top_k in (("fudd(k=7)", 7), ("fudd(k=10)", 7), ("fudd(k=1000)", 99), ("differential", 7))
    ]
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    "spelling", ["classname", "dclip", "fudd", "differential", "cascade(dclip, differential, k=5)"]
)
def test_one_class_is_always_the_answer(spelling: str) -> None:
    clf = Classifier(Vocabulary(["hen"], ids=[4]), db.method(spelling), ENCODER, llm=FakeLLM())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        pred = clf.predict_features(X, top_k=3)
    assert (pred.ids == 4).all() and pred.ids.shape == (25, 1)


def test_the_language_model_is_asked_once_in_one_batch_about_pairs_that_occur() -> None:
    llm = FakeLLM()
    clf = Classifier(BIRDS, db.method("fudd(k=3)"), ENCODER, llm=llm)
    clf.predict_features(X[:4], top_k=1)
    similar = X[:4] @ ENCODER.encode_texts([f"a photo of a {name}." for name in BIRDS.names]).numpy().T
    best = BIRDS.ids[np.argsort(-similar, axis=1)[:, :3]]
    occurring = {frozenset(pair) for row in best.tolist() for pair in combinations(row, 2)}
    assert 3 <= len(occurring) < 21
    (batch,) = llm.batches
    expected = {tuple(sorted((BIRDS.name(a), BIRDS.name(b)))) for a, b in occurring}
    assert len(batch) == len(expected) == len({question.text for question in batch})
    for first, second in expected:
        assert sum(f'Now the lines for "{first}" and "{second}"' in question.text for question in batch) == 1
    assert {frozenset(pair) for pair in clf.descriptions.pairs} == occurring
    clf.predict_features(X[:4], top_k=1)
    assert len(llm.batches) == 1
    clf.predict_features(X, top_k=1)
    assert not set(batch) & {question for later in llm.batches[1:] for question in later}


def test_what_is_described_is_not_asked_about() -> None:
    llm = FakeLLM()
    descriptions = told(BIRDS, "dclip")
    Classifier(BIRDS, db.method("dclip"), ENCODER, llm=llm, descriptions=descriptions).predict_features(X)
    assert llm.batches == []
    some = Descriptions({7: ["a comb"]}, names=dict(BIRDS))
    clf = Classifier(BIRDS, db.method("dclip"), ENCODER, llm=llm, descriptions=some)
    clf.predict_features(X)
    assert [len(batch) for batch in llm.batches] == [6]
    assert clf.descriptions.classes[7] == ["a comb"] and clf.counts["undescribed"] == 0


def test_every_text_is_encoded_once() -> None:
    texts: list[str] = []

    class Counting(FakeEncoder):
        def encode_texts(self, given: Any) -> torch.Tensor:
            texts.extend(given)
            return super().encode_texts(given)

    clf = Classifier(BIRDS, db.method("fudd(k=4)"), Counting(DIM), llm=FakeLLM())
    for _ in range(2):
        clf.predict_features(X)
        clf.explain_features(X[0])
    assert len(texts) == len(set(texts)) > 7


@pytest.mark.parametrize(
    "spelling",
    [
        "template",
        "templates",
        "dclip",
        "dclip(pool='max_score')",
        "dclip(pool='mean_prob')",
        "fudd(k=4)",
        "shuffled(dclip)",
        "shuffled(differential)",
        "nameless(dclip)",
        "nameless(shuffled(dclip))",
        "cascade(dclip, nameless(differential), k=3)",
    ],
)
def test_no_order_of_classes_or_of_a_files_keys_changes_an_answer(spelling: str) -> None:
    method = db.method(spelling)
    descriptions = told(BIRDS, "dclip").merged(told(BIRDS, "fudd"))
    expected = Classifier(BIRDS, method, ENCODER, descriptions=descriptions).predict_features(X, 4)
    turned = Descriptions(
        dict(reversed(descriptions.classes.items())), dict(reversed(descriptions.pairs.items())), descriptions.names
    )
    for order in ([11, 2, 9, 7, 3, 5, 0], BIRDS.ids[::-1]):
        same_ids = BIRDS.subset(order)
        found = Classifier(same_ids, method, ENCODER, descriptions=turned).predict_features(X, 4)
        assert np.array_equal(found.ids, expected.ids)
        assert np.allclose(found.scores, expected.scores, atol=1e-6)
        new_ids = Vocabulary(same_ids.names, BIRDS.domain)
        found = Classifier(new_ids, method, ENCODER, descriptions=turned).predict_features(X, 4)
        assert found.names() == expected.names()


def test_the_language_model_says_the_same_whatever_the_order() -> None:
    expected = Classifier(BIRDS, db.method("fudd(k=4)"), ENCODER, llm=FakeLLM()).predict_features(X, 4).names()
    for names in list(permutations(BIRDS.names))[:: 5040 // 5]:
        clf = Classifier(Vocabulary(names, BIRDS.domain), db.method("fudd(k=4)"), ENCODER, llm=FakeLLM())
        assert clf.predict_features(X, 4).names() == expected


def test_odd_and_repeated_names_are_classified() -> None:
    odd = Vocabulary(ODD_NAMES)
    for spelling in ("classname", "dclip", "fudd", "cascade(dclip, differential, k=5)", "nameless(dclip)"):
        pred = Classifier(odd, db.method(spelling), ENCODER, llm=FakeLLM()).predict_features(X, len(odd))
        assert (np.sort(pred.ids) == np.arange(len(odd))).all()


def test_classes_of_one_name_tie_and_the_first_comes_first() -> None:
    odd = Vocabulary(["missile", "tank", "missile", "hen"], ids=[8, 1, 4, 2])
    for spelling in ("template", "dclip", "dclip(pool='max_score')"):
        pred = Classifier(odd, db.method(spelling), ENCODER, llm=FakeLLM()).predict_features(X, 4)
        place = np.argsort(pred.ids, axis=1)  # columns: ids 1, 2, 4, 8
        assert (place[:, 3] + 1 == place[:, 2]).all()


def test_candidates_that_tie_in_a_follow_up_go_by_position_not_by_the_stage_before() -> None:
    method = db.method("cascade(template, nameless(template), k=4)")  # the second stage gives every class one text
    first = Classifier(BIRDS, db.method("template"), ENCODER).predict_features(X, 7)
    pred = Classifier(BIRDS, method, ENCODER).predict_features(X, 7)
    for row in range(len(X)):
        assert pred.ids[row, :4].tolist() == sorted(first.ids[row, :4].tolist(), key=BIRDS.position)


def test_classes_without_a_description_are_counted_and_named_once() -> None:
    d = Descriptions({7: ["a comb"], 3: ["spurs"], 11: ["a wattle"], 0: ["a long neck"]}, names=dict(BIRDS))
    clf = Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=d)
    with pytest.warns(DescbenchWarning, match="3 of 7 classes have no description .*: duck, quail, pigeon") as caught:
        clf.predict_features(X)
    assert len(caught) == 1 and clf.counts["undescribed"] == 3
    clf.predict_features(X)  # a second warning would be an error here


def test_a_plain_differential_counts_its_silent_pairs_too() -> None:
    clf = Classifier(BIRDS, db.method("differential"), ENCODER, descriptions=Descriptions(names=dict(BIRDS)))
    with pytest.warns(DescbenchWarning, match="21 of 21 pairs"):
        clf.predict_features(X)
    assert clf.counts["undescribed_pairs"] == 21


def test_a_class_that_the_language_model_cannot_describe_is_counted() -> None:
    llm = Scripted({'list for "hen"': "- a comb", '"': "I do not know."})
    clf = Classifier(BIRDS.subset([7, 3]), db.method("dclip"), ENCODER, llm=llm)
    with pytest.warns(DescbenchWarning, match="1 of 2 classes have no description .*: rooster"):
        clf.predict_features(X)
    assert [len(batch) for batch in llm.batches] == [2, 1, 1]
    assert {question.sample for batch in llm.batches for question in batch} == {0, 1, 2}


def test_a_method_that_needs_descriptions_says_so() -> None:
    for spelling in ("dclip", "fudd", "shuffled(dclip)"):
        with pytest.raises(InputError, match=r"needs descriptions and has none: give descriptions=\.\.\., or llm="):
            Classifier(BIRDS, db.method(spelling), ENCODER).predict_features(X)


def test_descriptions_of_other_classes_are_refused() -> None:
    other = Descriptions({0: ["a"], 1: ["b"]}, names={0: "cat", 1: "dog"})
    with pytest.raises(MatchError, match="the descriptions are for other classes"):
        Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=other)


def test_features_of_another_model_are_refused() -> None:
    clf = Classifier(BIRDS, db.method("classname"), ENCODER)
    with pytest.raises(InputError, match=r"image features have 8 dimensions, the texts of .* have 32"):
        clf.predict_features(drawn(0, 3, 8))
    with pytest.raises(InputError, match="image features: row 1 is not finite"):
        clf.predict_features(np.where(np.arange(3)[:, None] == 1, np.nan, drawn(0, 3, DIM)))
    with pytest.raises(InputError, match="top_k=0"):
        clf.predict_features(X, top_k=0)


def test_an_encoder_that_fails_is_named() -> None:
    for rows, message in (
        (torch.full((7, DIM), torch.nan), "text features of .* row 0 is not finite"),
        (torch.ones(6, DIM), "gave 6 features for 7 texts"),
        (torch.ones(7), r"must be an \(N, D\) array"),
    ):
        encoder = Lookup({})
        encoder.encode_texts = lambda texts, rows=rows: rows  # type: ignore[method-assign, misc]
        with pytest.raises(InputError, match=message):
            Classifier(BIRDS, db.method("classname"), encoder).predict_features(X)


@pytest.mark.parametrize("which", ["method", "encoder", "llm"])
def test_a_spelling_in_place_of_an_object_is_told_apart(which: str) -> None:
    parts: dict[str, Any] = {"method": db.method("dclip"), "encoder": ENCODER, "llm": None, which: "demo"}
    with pytest.raises(InputError, match=f"the {which} of a Classifier is an object, given the text 'demo'"):
        Classifier(BIRDS, **parts)


def test_features_may_be_numpy_or_torch_of_any_length_and_precision() -> None:
    clf = Classifier(BIRDS, db.method("template"), ENCODER)
    expected = clf.predict_features(X, 7)
    for given in (torch.from_numpy(X), 7.5 * X, X.astype(np.float64), torch.from_numpy(X).double()):
        assert np.array_equal(clf.predict_features(given, 7).ids, expected.ids)
    assert expected.ids.dtype == np.int64 and expected.scores.dtype == np.float32


def test_no_image_gives_no_prediction() -> None:
    for spelling in ("template", "fudd"):
        pred = Classifier(BIRDS, db.method(spelling), ENCODER, llm=FakeLLM()).predict_features(np.zeros((0, DIM)), 3)
        assert len(pred) == 0 and pred.names() == []


def test_images_are_encoded_and_an_unreadable_one_is_named(tmp_path: Any) -> None:
    red, path = Image.new("RGB", (20, 30), "red"), tmp_path / "blue.png"
    Image.new("RGB", (30, 20), "blue").save(path)
    clf = Classifier(BIRDS, db.method("template"), ENCODER)
    pred = clf.predict([red, str(path), path], top_k=2)
    direct = clf.predict_features(ENCODER.encode_images([red, Image.open(path)]), top_k=2)
    assert np.array_equal(pred.ids, direct.ids[[0, 1, 1]])
    (tmp_path / "broken.jpg").write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"2 of 3 images cannot be read: .*broken.jpg.*missing.jpg"):
        clf.predict([red, tmp_path / "broken.jpg", tmp_path / "missing.jpg"])
    with pytest.raises(InputError, match=r"write predict\(\[image\]\)"):
        clf.predict(str(path))


@pytest.mark.parametrize(
    "spelling",
    [
        *(f"dclip(pool={pool!r})" for pool in POOLS),
        "templates",
        "fudd(k=4)",
        "cascade(dclip, differential, k=3)",
        "cascade(template, dclip(pool='mean_prob'), k=3)",
    ],
)
def test_the_shares_of_an_explanation_add_up_to_the_score(spelling: str) -> None:
    descriptions = told(BIRDS, "dclip").merged(told(BIRDS, "fudd"))
    clf = Classifier(BIRDS, db.method(spelling), ENCODER, descriptions=descriptions)
    pred = clf.predict_features(X, top_k=7)
    for row in range(5):
        why = clf.explain_features(X[row])
        assert (why.answer, why.against) == tuple(pred.names()[row][:2])
        assert why.score == pytest.approx(pred.scores[row, 0], abs=1e-5)
        assert why.rival_score == pytest.approx(pred.scores[row, 1], abs=1e-5)
        for reasons, score in ((why.reasons, why.score), (why.counter_reasons, why.rival_score)):
            assert sum(reason.share for reason in reasons) == pytest.approx(score, abs=1e-5)
            for reason in reasons:
                assert reason.similarity == pytest.approx(float(X[row] @ feature(reason.text)), abs=1e-6)
            assert [r.similarity for r in reasons] == sorted((r.similarity for r in reasons), reverse=True)


def test_an_explanation_is_against_any_class_by_the_stage_that_decided() -> None:
    descriptions = told(BIRDS, "dclip").merged(told(BIRDS, "fudd"))
    clf = Classifier(BIRDS, db.method("cascade(dclip, differential, k=3)"), ENCODER, descriptions=descriptions)
    ranked = clf.predict_features(X[:1], 7)
    third, last = ranked.names()[0][2], ranked.names()[0][6]
    near, far = clf.explain_features(X[0], against=third), clf.explain_features(X[0], against=last)
    assert (near.against, near.stage) == (third, "differential")
    assert (far.against, far.stage) == (last, "dclip")
    assert far.rival_score == pytest.approx(ranked.scores[0, 6], abs=1e-5)
    assert far == clf.explain_features(X[0], against=int(ranked.ids[0, 6]))
    assert str(far).splitlines()[0].startswith(f"{far.answer} (") and last in str(far)
    for against, message in (
        (ranked.names()[0][0], "is the answer itself"),
        ("emu", "'emu'"),
        (99, "no class with id 99"),
    ):
        with pytest.raises(InputError, match=message):
            clf.explain_features(X[0], against=against)
    with pytest.raises(InputError, match="one class only"):
        Classifier(BIRDS.subset([7]), db.method("classname"), ENCODER).explain_features(X[0])


def test_an_image_is_explained_as_its_features_are() -> None:
    clf = Classifier(BIRDS, db.method("templates"), ENCODER)
    picture = Image.new("RGB", (9, 9), "green")
    assert clf.explain(picture) == clf.explain_features(ENCODER.encode_images([picture])[0])
