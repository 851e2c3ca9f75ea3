"""Texts that are longer than the encoder reads are counted, listed, and cut only where the method says so."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_encoders_open_clip import CONFIG, save_model

import descbench as db
from descbench.embedding import embed
from descbench.encoders import OpenCLIPEncoder, Views
from descbench.encoders.views import cuts
from descbench.errors import CutWarning, DescbenchWarning, InputError
from descbench.methods import METHODS
from descbench.store import CachedEncoder
from descbench.testing import FakeEncoder

BIRDS = db.Vocabulary(["hen", "rooster", "duck"])
LONG = "a red comb " + "and a very long tail " * 4  # 25 tokens with its ends, where the model reads 16
SAID = db.Descriptions({0: ["a comb", LONG], 1: ["a tail"], 2: ["a bill", LONG, "webbed feet"]})
CAPTIONS = db.Descriptions(
    pairs={(0, 1): ([LONG], ["a tail"]), (0, 2): (["a comb"], ["a bill"]), (1, 2): (["a"], ["b"])}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small"
    save_model(path, CONFIG)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenCLIPEncoder:
    return OpenCLIPEncoder(f"local-dir:{folder}", device="cpu")


def unloadable(folder: Path, monkeypatch: pytest.MonkeyPatch, *parts: str) -> OpenCLIPEncoder:
    """The same encoder, of which these parts must not be loaded."""

    def refuse(self: OpenCLIPEncoder) -> None:
        raise AssertionError("it was loaded")

    for part in parts:
        monkeypatch.setattr(OpenCLIPEncoder, part, refuse)
    return OpenCLIPEncoder(f"local-dir:{folder}", device="cpu")


def features(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 24)).astype(np.float32)


def classifier(method: str, encoder: object, said: db.Descriptions = SAID) -> db.Classifier:
    return db.Classifier(BIRDS, db.method(method), encoder, descriptions=said)  # type: ignore[arg-type]


@cache
def simple_tokenizer() -> Any:
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")


WORDS = st.lists(
    st.sampled_from(["hen", "&amp;", "&nGt;", "naïve", "!#!", "ﷺ", "x" * 12, "🐦", "a", "It's"]), max_size=20
)


@settings(deadline=None, max_examples=40)
@given(st.lists(WORDS.map(" ".join), max_size=6))
def test_what_is_too_long_is_what_has_more_tokens_than_the_context(encoder: OpenCLIPEncoder, texts: list[str]) -> None:
    tokenizer = simple_tokenizer()
    counts = {text: len(tokenizer.encode(text)) + 2 for text in texts}  # with start and end
    assert {text for text, count in counts.items() if count > 16} == set(encoder.overlong(texts))


@pytest.mark.parametrize("text", ["a1" * 7, "a1" * 7 + "a", "\u1300" * 4, "\u1300" * 12, "&nGt;" * 3], ids=ascii)
def test_a_token_a_character_or_less_is_counted_right(text: str, encoder: OpenCLIPEncoder) -> None:
    count = len(simple_tokenizer().encode(text)) + 2
    assert encoder.overlong([text]) == ({text: (count, 16)} if count > 16 else {})


def test_each_too_long_text_is_told_with_its_tokens_and_those_that_are_read(encoder: OpenCLIPEncoder) -> None:
    fits, longer = " ".join(["hen"] * 14), " ".join(["hen"] * 15)
    assert encoder.overlong([longer, fits, LONG, longer]) == {longer: (17, 16), LONG: (25, 16)}
    assert encoder.overlong([]) == {}


def test_a_method_that_does_not_say_so_refuses_them_before_an_image_is_read(encoder: OpenCLIPEncoder) -> None:
    clf = classifier("dclip", encoder)
    with pytest.raises(InputError) as refused:
        clf.predict(["no such picture.jpg"])
    message = str(refused.value)
    assert message.startswith("2 of 6 texts of dclip have more tokens than the 16 that open_clip:local-dir:")
    longest = "hen, which is a red comb and a very long tail and a very long tail"
    for part in (f"{longest[:60]!r} (29)", "'duck, which ", "truncated(dclip)"):
        assert part in message
    assert "descbench lint FILE --encoder open_clip:local-dir:" in message


@pytest.mark.parametrize("spelling", ["cupl", "truncated(dclip)", "shuffled(cupl)", "truncated(cascade_stage)"])
def test_a_method_that_says_so_cuts_and_counts_them(spelling: str, encoder: OpenCLIPEncoder) -> None:
    spelling = spelling.replace("truncated(cascade_stage)", "cascade(cupl, truncated(dclip), k=2)")
    clf = classifier(spelling, encoder)
    with pytest.warns(DescbenchWarning) as told:
        clf.predict_features(features(4))
    own = {
        "cupl": 1,
        "shuffled(cupl)": 1,
        "truncated(dclip)": 2,
    }  # LONG as it is; or behind the name of hen and of duck
    assert clf.counts["truncated"] == own.get(spelling, 3)
    assert all("their ends are cut off" in str(one.message) for one in told)
    assert not any(issubclass(one.category, CutWarning) for one in told)  # it is said once, and not by the encoder too


def test_cut_texts_are_those_that_the_encoder_cuts(encoder: OpenCLIPEncoder) -> None:
    clf = classifier("truncated(dclip)", encoder)
    with pytest.warns(DescbenchWarning, match="2 of 6 texts"):
        pred = clf.predict_features(features(5), top_k=3)
    x = features(5) / np.linalg.norm(features(5), axis=1, keepdims=True)
    texts = [list(db.method("dclip").texts(BIRDS, SAID).texts_of(i)) for i in range(3)]
    with pytest.warns(CutWarning):
        rows = [encoder.encode_texts(some).numpy() for some in texts]
    scores = np.stack([(x @ row.T).mean(axis=1) for row in rows], axis=1)
    assert np.allclose(np.sort(scores, axis=1)[:, ::-1], pred.scores, atol=1e-5)


@pytest.mark.parametrize("spelling", ["shuffled(dclip)", "nameless(dclip)", "cascade(cupl, dclip, k=2)", "wca(dclip)"])
@pytest.mark.filterwarnings("ignore::descbench.errors.DescbenchWarning")
def test_a_control_or_a_cascade_does_not_change_what_its_method_says(spelling: str, encoder: OpenCLIPEncoder) -> None:
    with pytest.raises(InputError, match="more tokens than the 16"):
        classifier(spelling, encoder).predict_features(features(4))


def test_a_follow_up_by_pairs_refuses_them_too(encoder: OpenCLIPEncoder) -> None:
    with pytest.raises(InputError, match=r"1 of 6 texts of differential .*truncated\(differential\)"):
        classifier("cascade(classname, differential, k=3)", encoder, CAPTIONS).predict_features(features(4))
    cut = classifier("cascade(classname, truncated(differential), k=3)", encoder, CAPTIONS)
    with pytest.warns(DescbenchWarning, match="ends are cut off"):
        cut.predict_features(features(4))
    assert cut.counts["truncated"] == 1


def test_a_text_that_one_stage_may_cut_is_refused_by_another(encoder: OpenCLIPEncoder) -> None:
    clf = classifier("cascade(cupl, cupl(samples=1), k=2)", encoder)
    with pytest.warns(DescbenchWarning):
        clf.predict_features(features(3))
    strict = classifier("cascade(cupl, adaptclipzs, k=2)", encoder)
    with pytest.warns(DescbenchWarning), pytest.raises(InputError, match="texts of adaptclipzs"):
        strict.predict_features(features(3))


def test_a_long_name_is_no_baseline(encoder: OpenCLIPEncoder) -> None:
    names = db.Vocabulary(["hen", "a bird " * 9])
    with pytest.raises(InputError, match=r"1 of 2 texts of classname have more tokens than the 16 .*\(20\)"):
        db.Classifier(names, db.method("classname"), encoder).predict_features(features(2))


def test_texts_that_fit_are_counted_as_none_cut(encoder: OpenCLIPEncoder) -> None:
    clf = db.Classifier(BIRDS, db.method("classname"), encoder)
    clf.predict_features(features(2))
    assert clf.counts["truncated"] == 0


def test_an_encoder_that_does_not_say_is_asked_for_features_only() -> None:
    clf = classifier("dclip", FakeEncoder(dim=24))
    clf.predict_features(features(2))
    assert "truncated" not in clf.counts


def test_who_encodes_texts_by_hand_is_warned_and_not_refused(encoder: OpenCLIPEncoder) -> None:
    with pytest.warns(CutWarning, match="1 of 2 texts are longer than the 16 tokens"):
        encoder.encode_texts(["a hen", LONG])


def test_the_store_knows_without_weights_or_tokenizer(
    folder: Path, encoder: OpenCLIPEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(DescbenchWarning, match="1 of 5 texts of cupl"):
        classifier("cupl", CachedEncoder(encoder, tmp_path)).predict_features(features(2))
    with pytest.raises(InputError):
        classifier("dclip", CachedEncoder(encoder, tmp_path)).predict_features(features(2))
    warm = unloadable(folder, monkeypatch, "_load", "_load_tokenizer")
    clf = classifier("cupl", CachedEncoder(warm, tmp_path))
    with pytest.warns(DescbenchWarning, match="1 of 5 texts of cupl have more tokens than the 16 .*25"):
        clf.predict_features(features(2))
    assert clf.counts["truncated"] == 1
    with pytest.raises(InputError, match="2 of 6 texts of dclip have more tokens than the 16"):
        classifier("dclip", CachedEncoder(warm, tmp_path)).predict_features(features(2))


def test_of_an_older_store_texts_are_counted_once_by_the_tokenizer_alone(
    folder: Path, encoder: OpenCLIPEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(DescbenchWarning):
        classifier("cupl", CachedEncoder(encoder, tmp_path)).predict_features(features(2))
    lengths = list(tmp_path.glob("*/lengths-*"))
    assert lengths
    for path in lengths:
        path.unlink()
    for parts in (["_load"], ["_load", "_load_tokenizer"]):
        clf = classifier("cupl", CachedEncoder(unloadable(folder, monkeypatch, *parts), tmp_path))
        with pytest.warns(DescbenchWarning, match="ends are cut off"):
            clf.predict_features(features(2))
        assert clf.counts["truncated"] == 1


def test_a_refusal_loads_no_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cold = unloadable(folder, monkeypatch, "_load")
    with pytest.raises(InputError, match="more tokens"):
        classifier("dclip", CachedEncoder(cold, tmp_path)).predict_features(features(2))


def test_views_pass_on_what_their_encoder_says(encoder: OpenCLIPEncoder) -> None:
    assert Views(encoder, cuts("crops(2)")).overlong([LONG]) == {LONG: (25, 16)}
    assert Views(FakeEncoder(), cuts("crops(2)")).overlong([LONG]) == {}


def test_results_carry_the_count(encoder: OpenCLIPEncoder, tmp_path: Path) -> None:
    for name in BIRDS.names:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), {"hen": "red"}.get(name, "blue")).save(tmp_path / "data" / name / "1.png")
    data = db.dataset(f"folder:{tmp_path / 'data'}")
    with pytest.warns(DescbenchWarning, match="ends are cut off"):
        result = db.evaluate(classifier("cupl", encoder, SAID), embed(data, encoder))
    result.save(tmp_path / "run")
    assert db.Evaluation.load(tmp_path / "run").counts["truncated"] == 1


def test_of_all_methods_only_cupl_and_the_wrapper_say_so() -> None:
    spelled = {"shuffled", "nameless", "waffle_and", "shared", "random_descriptions", "scrambled", "select_fewshot"}
    spelled |= {"wca", "awt", "truncated"}
    built = [db.method(f"{name}(dclip)" if name in spelled else name) for name in METHODS if name != "cascade"]
    saying = {stage.spelled for method in built for stage in getattr(method, "stages", (method,)) if stage.truncates}
    assert saying == {"cupl", "truncated"}


def test_nothing_is_warned_of_where_all_fit(encoder: OpenCLIPEncoder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier("cupl", encoder, db.Descriptions({0: ["a"], 1: ["b"], 2: ["c"]})).predict_features(features(2))
