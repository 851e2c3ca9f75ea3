"""Controls take away what descriptions mean, and nothing else: their number, their words, or the names stay."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st

import descbench as db
from descbench import Descriptions, Evaluation, Predictions, Vocabulary
from descbench.comparison import RULE, against, controls_of, verdict
from descbench.demo.guide import species
from descbench.demo.renderer import render
from descbench.errors import InputError
from descbench.methods.controls import renamed
from descbench.statistics import paired_difference

BIRDS = Vocabulary(["Red hen", "rooster", "goose", "owl"], "birds", [7, 3, 11, 0])
FEATURES = Descriptions(
    {7: ["a comb", "spurs", "two legs"], 3: ["a long tail", "two legs"], 11: ["a long neck"]}, names=dict(BIRDS)
)
SENTENCES = Descriptions(
    {7: ["A Red hen has a comb."], 3: ["The rooster crows.", "roosters fight"], 11: ["A goose's neck is long."]},
    names=dict(BIRDS),
)
CAPTIONS = Descriptions(
    pairs={
        (7, 3): (["a Red hen with a small comb"], ["a rooster with a large comb"]),
        (7, 11): (["a Red hen with a short neck", "red feathers"], ["a goose with a long neck"]),
        (3, 11): (["a rooster with a crest"], ["a goose, unlike a rooster, on water"]),
    },
    names=dict(BIRDS),
)


def texts(spelling: str, descriptions: Descriptions, vocabulary: Vocabulary = BIRDS) -> list[tuple[str, ...]]:
    bank = db.method(spelling).texts(vocabulary, descriptions)
    return [bank.texts_of(position) for position in range(len(vocabulary))]


def bare(found: list[tuple[str, ...]]) -> list[list[str]]:
    """What follows the name."""
    return [[text.partition(", which ")[2] for text in own] for own in found]


def test_shared_gives_every_described_class_each_text_once_under_its_own_name() -> None:
    union = ["is a comb", "is a long neck", "is a long tail", "has spurs", "has two legs"]
    found = texts("shared(dclip)", FEATURES)
    assert [sorted(own) for own in bare(found)[:3]] == [sorted(union)] * 3
    assert [own[0].partition(",")[0] for own in found[:3]] == ["Red hen", "rooster", "goose"]
    assert found[3] == ("owl",)
    assert db.method("shared(dclip)").texts(BIRDS, FEATURES).undescribed.tolist() == [False, False, False, True]


def test_shared_draws_the_same_few_for_all_where_it_has_a_limit() -> None:
    found = bare(texts("shared(dclip, most=2)", FEATURES)[:3])
    assert found[0] == found[1] == found[2] and len(set(found[0])) == 2
    assert bare(texts("shared(dclip, most=5)", FEATURES)) == bare(texts("shared(dclip)", FEATURES))
    assert len({tuple(bare(texts(f"shared(dclip, most=2, seed={seed})", FEATURES))[0]) for seed in range(9)}) > 1


def test_a_moved_sentence_says_the_name_of_its_new_class() -> None:
    said = {"Red hen": "A Red hen has a comb.", "rooster": "The rooster crows.", "goose": "A goose's neck is long."}
    for (_, name), own in zip(BIRDS, texts("shared(cupl)", SENTENCES), strict=True):
        if name == "owl":
            assert own == ("owl",)
        else:
            moved = {sentence.replace(old, name) for old, sentence in said.items()}
            assert set(own) == moved | {"roosters fight"}


def test_shuffled_moves_sentences_under_the_new_name_too() -> None:
    two = Vocabulary(["Red hen", "rooster"])
    d = Descriptions({0: ["A red hen has a comb."], 1: ["The rooster crows."]}, names=dict(two))
    assert texts("shuffled(cupl)", d, two) == [("The Red hen crows.",), ("A rooster has a comb.",)]
    pairs = Descriptions(pairs={(0, 1): (["a Red hen, no rooster"], ["a rooster, no Red hen, crows"])}, names=dict(two))
    found = texts("shuffled(differential)", pairs, two)
    assert found == [("a Red hen, no rooster, crows",), ("a rooster, no Red hen",)]


def test_random_descriptions_keep_the_number_and_draw_from_all() -> None:
    pool = Counter(text for own in bare(texts("dclip", FEATURES)[:3]) for text in own)
    seen: set[str] = set()
    for seed in range(30):
        found = bare(texts(f"random_descriptions(dclip, seed={seed})", FEATURES))
        assert [len(own) for own in found] == [3, 2, 1, 1]
        assert all(not Counter(own) - pool for own in found[:3])
        seen.update(found[2])
    assert seen == set(pool)


def test_random_descriptions_of_pairs_come_from_pairs_under_the_right_names() -> None:
    found = texts("random_descriptions(comparative)", CAPTIONS)
    for own, name in zip(found[:3], ("Red hen", "rooster", "goose"), strict=True):
        assert all(text.startswith(f"{name}, which") for text in own)
        others = {"Red hen", "rooster", "goose"} - {name}
        assert not any(f"is a {other} with" in text for text in own for other in others)


def test_captions_are_shared_among_pairs() -> None:
    found = texts("shared(differential)", CAPTIONS.matched(BIRDS.subset([7, 3, 11])), BIRDS.subset([7, 3, 11]))
    assert found[0] == tuple(
        sorted(
            {
                "a Red hen with a small comb",
                "a Red hen with a large comb",
                "a Red hen with a short neck",
                "a Red hen with a long neck",
                "a Red hen with a crest",
                "a Red hen, unlike a rooster, on water",
                "red feathers",
            }
        )
    )
    assert {len(own) for own in found} == {7}


def test_only_the_candidates_of_a_follow_up_share_their_captions() -> None:
    two = BIRDS.subset([7, 3])
    assert texts("shared(differential)", CAPTIONS, two) == [
        ("a Red hen with a large comb", "a Red hen with a small comb"),
        ("a rooster with a large comb", "a rooster with a small comb"),
    ]


def test_scrambled_keeps_the_words_and_changes_their_order() -> None:
    d = Descriptions({7: ["a long tail of red feathers"], 3: ["spurs"], 11: ["black back"]}, names=dict(BIRDS))
    for seed in range(20):
        hen, rooster, goose, _ = bare(texts(f"scrambled(dclip, seed={seed})", d))
        words = hen[0].removeprefix("is ").removeprefix("has ").split()
        assert sorted(words) == sorted(["a", "long", "tail", "of", "red", "feathers"])
        assert words != ["a", "long", "tail", "of", "red", "feathers"]
        assert (rooster, goose) == (["has spurs"], ["has back black"])


def test_scrambled_keeps_a_name_in_one_piece() -> None:
    for seed in range(20):
        (text,) = texts(f"scrambled(cupl, seed={seed})", SENTENCES)[0]
        assert "Red hen" in text and sorted(text.split()) == sorted(["A", "Red", "hen", "has", "a", "comb."])


@pytest.mark.parametrize("control", ["shared", "random_descriptions", "scrambled", "shuffled", "waffle_and"])
@pytest.mark.parametrize("method", ["dclip", "cupl", "differential", "comparative"])
def test_controls_compose_with_nameless_on_both_sides(control: str, method: str) -> None:
    d = SENTENCES.merged(CAPTIONS)
    for spelling in (f"nameless({control}({method}))", f"{control}(nameless({method}))"):
        left = " ".join(text for own in texts(spelling, d) for text in own)
        left = left.replace("roosters", "")  # not the name
        rivals = {"rooster"} if method in ("differential", "comparative") else set()  # "unlike a rooster"
        outside = {"Red hen", "rooster", "goose"} - rivals
        if control == "waffle_and" and spelling.startswith(control):
            assert "A photo of a goose" in left  # the random texts have their names still
        else:
            assert not [name for name in outside if name in left], spelling


def test_a_control_asks_and_pools_as_its_method() -> None:
    for control in ("shared", "random_descriptions", "scrambled"):
        found, plain = db.method(f"{control}(differential)"), db.method("differential")
        assert found.asks_about == "pair" and found.pool == plain.pool
        assert found.questions(BIRDS, (3, 7)) == plain.questions(BIRDS, (3, 7))


@pytest.mark.parametrize(
    "spelling", ["shared(dclip, most=-1)", "random_descriptions(dclip, seed=0.5)", "scrambled(dclip, seed=True)"]
)
def test_a_parameter_that_cannot_be_is_named(spelling: str) -> None:
    with pytest.raises(InputError, match="is not possible; it is a whole number from 0 on"):
        db.method(spelling)


@given(st.permutations(range(4)), st.integers(0, 99), st.sampled_from(["shared", "random_descriptions", "scrambled"]))
@settings(deadline=None, max_examples=60)
def test_no_order_of_classes_changes_a_text(order: list[int], seed: int, control: str) -> None:
    other = Vocabulary([BIRDS.names[i] for i in order], "birds")
    for method, d in (("dclip", FEATURES), ("cupl", SENTENCES), ("differential", CAPTIONS)):
        spelling = f"{control}({method}, seed={seed})"
        expected = dict(zip(BIRDS.names, texts(spelling, d), strict=True))
        turned = Descriptions(dict(reversed(d.classes.items())), dict(reversed(d.pairs.items())), d.names)
        assert dict(zip(other.names, texts(spelling, turned.matched(other), other), strict=True)) == expected


def test_names_change_all_at_once_as_whole_words_and_the_longest_first() -> None:
    names = {"hen": "rooster", "rooster": "hen", "Red hen": "C++ {x} \\1"}
    assert renamed("A hen, a ROOSTER, a red hen, hens.", names) == "A rooster, a hen, a C++ {x} \\1, hens."
    assert renamed("no name", names) == "no name"


def spelled(method: str) -> dict[str, list[str]]:
    return {name: list(map(repr, seeds)) for name, seeds in controls_of(db.method(method)).items()}


def test_the_controls_of_a_method_are_wrapped_around_it_and_have_seeds() -> None:
    assert spelled("dclip") == {
        "shuffled": ["shuffled(dclip)", "shuffled(dclip, seed=1)", "shuffled(dclip, seed=2)"],
        "random_descriptions": [
            "random_descriptions(dclip)",
            "random_descriptions(dclip, seed=1)",
            "random_descriptions(dclip, seed=2)",
        ],
        "shared": ["shared(dclip, most=100)"],
        "scrambled": ["scrambled(dclip)", "scrambled(dclip, seed=1)", "scrambled(dclip, seed=2)"],
        "nameless": ["nameless(dclip)"],
        "waffle": ["waffle", *(f"waffle(seed={seed})" for seed in range(1, 7))],
    }


def test_in_a_cascade_each_described_stage_is_wrapped() -> None:
    assert spelled("cascade(template('{}'), dclip, differential, k=3)")["nameless"] == [
        "cascade(template('{}'), nameless(dclip), nameless(differential), k=3)"
    ]
    fudd = spelled("fudd(k=4, phrasing='authors')")["shared"]
    assert fudd == [
        "cascade(template('A photo of a {}.'), "
        "shared(differential(fallback='A photo of a {}.', phrasing='authors'), most=100), k=4)"
    ]


def test_where_labelled_images_choose_out_of_all_texts_moving_lists_is_no_control_but_keeping_them_is() -> None:
    found = spelled("disclip(k=2, w=0)")
    assert list(found) == ["own", "scrambled", "nameless", "waffle"]
    assert found["own"] == ["disclip(k=2, w=0, own=True)"]


@pytest.mark.parametrize("spelling", ["templates", "waffle", "shuffled(dclip)", "cascade(template, nameless(dclip))"])
def test_a_method_without_descriptions_and_a_control_have_no_controls(spelling: str) -> None:
    assert controls_of(db.method(spelling)) == {}


def answered(hits: np.ndarray, method: str) -> Evaluation:
    """A run of two classes that was right where `hits` says so."""
    two = Vocabulary(["hen", "owl"])
    labels = np.arange(len(hits)) % 2
    best = np.where(hits, labels, 1 - labels)
    ids = np.stack([best, 1 - best], axis=1)
    scores = np.tile(np.array([1.0, 0.5], dtype=np.float32), (len(hits), 1))
    names = tuple(f"image {i}" for i in range(len(hits)))
    return Evaluation(Predictions(two, ids, scores), labels, names, "made", method, "none")


def drawn_hits(seed: int, share: float, n: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def test_a_control_is_the_mean_and_deviation_of_its_seeds_and_is_paired_image_by_image() -> None:
    method, seeds = drawn_hits(0, 0.7), [drawn_hits(seed, share) for seed, share in ((1, 0.5), (2, 0.6), (3, 0.4))]
    found = against(answered(method, "m"), "shuffled", [answered(hits, f"s{i}") for i, hits in enumerate(seeds)])
    shares = [hits.sum() / 300 for hits in seeds]
    mean = sum(shares) / 3
    assert found.runs == ("s0", "s1", "s2")
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx((sum((s - mean) ** 2 for s in shares) / 2) ** 0.5)
    each = np.array([method[i] - sum(hits[i] for hits in seeds) / 3 for i in range(300)])
    draws = np.random.default_rng(7)
    means = [each[draws.integers(300, size=300)].mean() for _ in range(4000)]
    assert found.difference.value == pytest.approx(each.mean()) and found.difference.n == 300
    assert (found.difference.low, found.difference.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)


def test_against_one_run_it_is_the_paired_difference_of_two_runs() -> None:
    method, other = drawn_hits(0, 0.7), drawn_hits(1, 0.5)
    found = against(answered(method, "m"), "shared", [answered(other, "s")])
    expected = paired_difference(other, method)
    assert found.deviation is None and found.difference.value == pytest.approx(expected.value)
    assert found.difference.low == pytest.approx(expected.low, abs=0.007)
    assert found.difference.high == pytest.approx(expected.high, abs=0.007)


def test_rows_are_joined_by_image_and_not_by_place() -> None:
    method, other = answered(drawn_hits(0, 0.7), "m"), answered(drawn_hits(1, 0.5), "s")
    turned = Evaluation(
        Predictions(other.predictions.vocabulary, other.predictions.ids[::-1], other.predictions.scores[::-1]),
        other.labels[::-1],
        other.ids[::-1],
        *("made", "s", "none"),
    )
    assert against(method, "shared", [turned]) == against(method, "shared", [other])


def sentence(gain: float, levels: dict[str, float]) -> str:
    method, base = answered(drawn_hits(0, 0.5 + gain), "dclip"), answered(drawn_hits(9, 0.5), "classname")
    rows = [against(method, name, [answered(drawn_hits(50, share), name)]) for name, share in levels.items()]
    return verdict(method, [answered(drawn_hits(8, 0.1), "templates"), base], rows)


def test_the_verdict_is_one_sentence_that_follows_the_rule() -> None:
    low = dict.fromkeys(("shuffled", "random_descriptions", "shared", "waffle"), 0.4)
    high = dict.fromkeys(low, 0.8)
    carried = sentence(0.3, low | {"nameless": 0.99, "scrambled": 0.99})  # these two are shown, and do not decide
    assert "the meaning of its descriptions carries its gain of +" in carried
    assert carried.endswith("it is above shuffled, random_descriptions, shared, waffle.")
    assert "over the best baseline, classname" in carried
    form = sentence(0.3, high)
    assert "the number or form of its descriptions explains its gain of +" in form
    assert form.endswith("it is not above shuffled, random_descriptions, shared, waffle.")
    mixed = sentence(0.3, low | {"waffle": 0.8})
    assert "is not shown: it is above shuffled, random_descriptions, shared, but not above waffle." in mixed
    assert "no gain is shown" in sentence(0.0, low)
    assert sentence(0.3, {"shuffled": 0.4, "shared": 0.4}).endswith("gain without random_descriptions, waffle.")
    method = answered(drawn_hits(0, 0.8), "dclip")
    rows = [against(method, name, [answered(drawn_hits(50, 0.4), name)]) for name in low]
    assert verdict(method, [], rows) == "dclip: nothing can be said of its gain without the baselines."


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Two folders of pictures, and two.json with what is said of them."""
    for number, page in enumerate(species()[:2]):
        folder = tmp_path / "photos" / page.name
        folder.mkdir(parents=True)
        for seed in range(3):
            render(page.bird, 5_000_000 + 10 * number + seed).save(folder / f"{seed}.png")
    said = {
        page.name: [f"a {color} body", "red legs"] for page, color in zip(species(), ("green", "blue"), strict=False)
    }
    (tmp_path / "two.json").write_text(json.dumps(said))
    return tmp_path / "photos"


def test_evaluate_runs_the_controls_and_says_one_sentence_a_method(run: Run, birds: Path) -> None:
    done = run("evaluate", f"folder:{birds}", "-d", "two.json", "-e", "demo", "-m", "dclip", "--controls", "-o", "runs")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    start = lines.index("controls of dclip, over seeds:")
    rows = [line.split("  ")[0] for line in lines[start + 2 : start + 8]]
    assert rows == ["shuffled", "random_descriptions", "shared", "scrambled", "nameless", "waffle"]
    assert lines[start + 8].startswith("dclip: ") and lines[start + 9] == RULE
    assert "22 runs kept in runs" in done.err and len(list(Path("runs").iterdir())) == 4 + 18
    encoded = sorted(Path("kept/features").rglob("*.safetensors"))
    again = run("evaluate", f"folder:{birds}", "-d", "two.json", "-e", "demo", "-m", "dclip", "--controls", "--json")
    assert sorted(Path("kept/features").rglob("*.safetensors")) == encoded  # nothing was encoded a second time
    found = json.loads(again.out)
    kept = {one.method: one for one in map(Evaluation.load, Path("runs").iterdir())}
    for row in found["controls"]["dclip"]["rows"]:
        assert row["mean"] == pytest.approx(np.mean([kept[spelling].hits.mean() for spelling in row["runs"]]))
    assert found["controls"]["dclip"]["verdict"] == lines[start + 8] and found["rule"] == RULE
    assert [one["method"] for one in found["runs"]][3:] == ["dclip"]


def test_controls_need_a_method_with_descriptions(run: Run, birds: Path) -> None:
    done = run("evaluate", f"folder:{birds}", "-e", "demo", "-m", "templates", "--controls")
    assert done.code == 2 and "--controls needs a method with descriptions, as --method dclip" in done.err


def test_a_control_that_an_encoder_cannot_have_is_left_out_by_name(run: Run) -> None:
    two = Vocabulary(["hen", "owl"])
    d = Descriptions({0: ["a comb"], 1: ["a disc"]}, names=dict(two))
    d.save("two.json")
    known = ["hen", "owl", *(f"{name}, which is {a}" for name in two.names for a in ("a comb", "a disc"))]
    rows = np.random.default_rng(0).normal(size=(len(known), 8)).astype(np.float32)
    np.savez("t.npz", texts=np.array(known), text_features=rows)
    labels, ids = np.arange(len(known)) % 2, np.arange(len(known)).astype(str)
    np.savez("f.npz", image_features=rows, labels=labels, names=np.array(two.names), ids=ids)
    done = run("evaluate", "features:f.npz", "-e", "features:t.npz", "-d", "two.json", "-m", "dclip", "--controls")
    assert done.code == 0, done.err
    assert "left out:" in done.err and "waffle" in done.err
    shown = done.out[done.out.index("controls of dclip") :]
    assert "shuffled" in shown.splitlines()[2] and "waffle  " not in shown
    assert "dclip: nothing can be said of its gain without waffle." in shown
