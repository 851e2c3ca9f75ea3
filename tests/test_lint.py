"""What `lint` finds and what it leaves alone; what `fixed` mends and what it never touches."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descbench.descriptions import Descriptions
from descbench.lint import CODES, Finding, clean, estimated_tokens, fixed, lint

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "descriptions"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no published descriptions beside this checkout")


def described(**classes: Sequence[str]) -> Descriptions:
    """One class a keyword, "_" in it read as a blank."""
    names = {i: name.replace("_", " ") for i, name in enumerate(classes)}
    return Descriptions({i: list(texts) for i, texts in enumerate(classes.values()) if texts}, names=names)


def paired(first: str, second: str, of_first: Sequence[str], of_second: Sequence[str]) -> Descriptions:
    return Descriptions(pairs={(0, 1): (list(of_first), list(of_second))}, names={0: first, 1: second})


def read(path: Path) -> Descriptions:
    """A published JSON object {class: [texts]}; its blank texts are none, as for every reader."""
    data = json.loads(path.read_text(encoding="utf-8"))
    texts = {i: [text for text in data[name] if text.strip()] for i, name in enumerate(data)}
    return Descriptions({i: said for i, said in texts.items() if said}, names=dict(enumerate(data)))


def of(code: str, findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.code == code]


def codes(text: str) -> set[str]:
    """The codes found for a text that stands alone in its class."""
    return {finding.code for finding in lint(described(wug=[text]))}


# Each code: texts that it is about, and near misses that it is not about.
TEXTS = {
    "junk": (
        ["1.", "a.", ".", "27%", "(b)", "--", "12 34", "**"],
        ["TV", "a TV", "猫", "3 legs", "fur"],
    ),
    "refusal": (
        [
            "I'm sorry, but I can't help with that.",
            "Sorry, I cannot describe it.",
            "As an AI language model, I have no eyes.",
            "There is no definitive answer to this question as wugs vary.",
            "There are 300 kinds, so it is difficult to give a specific description.",
            "This is a difficult question.",
            "I am not sure what you are asking.",
        ],
        [
            "legs that are difficult to see",
            "a sign that says no entry",
            "a large question mark on its back",
            "a sorry-looking, wrinkled face",
            "an answering machine with one button",
        ],
    ),
    "url": (["Image of it: https://images.", "The website www."], ["a hat that reads WWW", "a http-yellow stripe"]),
    "prompt": (
        [
            "What does it look like?",
            "What are the marks of a wug?It has a comb.",
            "Q: what are useful features",
            "Here are five features:",
            "Sure, a red comb.",
            "There is no one answer to this question, but most have a comb.",
        ],
        ["here and there a white spot", "a certain look", "A tall tower: red and white"],
    ),
    "truncated": (
        [
            "a red comb and",
            "a body covered with a",
            "a long tail (about",
            "smooth and creamy,",
            "It has a wingspan of 2.",
            "the characteristics are:",
            'a fish also called "the king.',
            "a long ...",
            "full of",
        ],
        [
            "a perch to stand on",
            "a hole that lava comes out of",
            'a monitor of 24" and a 17" one, 12 cm apart',
            "built from 1908 to 1927.",
            "a ring (of gold) around the neck",
            "the numbers from 1 to 6.",
            "a filling in between",
            "the identifying marks are: a) red wings and b) a tail.",
            "a 'tall' hat, the king's",
        ],
    ),
    "negation": (
        ["no tail", "fur that is not striped", "a body without scales", "lacks a crest", "doesn't have ears"],
        [
            "a knotted tail",
            "a hairless body",
            "not only red but blue",
            "no more than two legs",
            "a notched bill",
            "a lid for when it is not in use",
            "flies without stopping",
        ],
    ),
    "non-visual": (
        [
            "a sweet smell",
            "a loud, clear call",
            "tastes of lemon",
            "an expensive watch",
            "native to the Alps",
            "found in South America",
            "an intelligent and loyal dog",
            "weighs ten kilos",
        ],
        [
            "found in tall grass",
            "a sound system",
            "an intelligent expression",
            "a price tag",
            "a tail as long as its body",
            "lives in trees",
            "a noise-cancelling pad on each ear",
        ],
    ),
    "markup": (
        [
            "- a red comb",
            "* a red comb",
            "2. a red comb",
            "**a red comb**",
            "<p>a red comb",
            "A: a red comb",
            "a) a comb",
        ],
        ["-40 degrees on the scale", "2.5 inches wide", "red-brown", "a * on the key", "A red comb", "1-2 horns"],
    ),
    "list": (
        ["a comb\nred legs", "It has: - a comb\n- legs", "-Signs -Shelves -Lanes"],
        ["a comb - red", "red-and-white: all of it", "It has:\n* a comb"],
    ),
    "blanks": ([" a red comb", "a red comb\n"], ["a red  comb"]),
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (hits, _) in TEXTS.items() for text in hits])
def test_a_text_is_found(code: str, text: str) -> None:
    assert code in codes(text)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, (_, misses) in TEXTS.items() for text in misses])
def test_a_near_miss_is_left_alone(code: str, text: str) -> None:
    assert code not in codes(text)


def test_a_class_without_a_text_is_empty_and_a_pair_without_captions_too() -> None:
    (found,) = lint(described(hen=["a red comb"], wug=[]))
    assert (found.code, found.severity, found.ids, found.name, found.text) == ("empty", "error", (1,), "wug", "")
    (found,) = lint(paired("hen", "duck", ["a red comb"], []))
    assert (found.code, found.ids, found.name) == ("empty", (1, 0), "duck")


def test_a_file_of_pairs_alone_has_no_empty_classes() -> None:
    assert lint(paired("hen", "duck", ["a red comb"], ["a flat bill"])) == []


def test_a_copy_is_a_duplicate_and_another_case_is_the_same_folded() -> None:
    texts = ["a red comb", "A red  comb", "a red comb", "- a red comb", "a red combs", "A red  comb"]
    found = lint(described(wug=texts))
    assert [f.text for f in of("duplicate", found)] == ["a red comb", "A red  comb"]
    assert [f.text for f in of("same-folded", found)] == ["A red  comb", "- a red comb"]


def test_two_classes_may_have_the_same_text() -> None:
    assert lint(described(hen=["a red comb"], rooster=["a red comb"])) == []


def test_a_caption_on_both_sides_of_a_pair_is_found_once() -> None:
    found = lint(paired("hen", "duck", ["two legs", "a comb"], ["Two legs", "a flat bill"]))
    assert [(f.code, f.ids, f.text) for f in found] == [("same-as-rival", (0, 1), "two legs")]


def test_the_name_of_another_class_is_found_with_its_id() -> None:
    texts = ["smaller than a duck", "ducks' feet", "a wheaten terrier's coat", "duckling yellow", "a wooden desk"]
    found = of("rival-name", lint(described(hen=texts, duck=["a bill"], wheaten_terrier=["a coat"])))
    assert [(f.ids, f.text) for f in found] == [((0, 1), texts[0]), ((0, 1), texts[1]), ((0, 2), texts[2])]


def test_a_class_may_be_called_by_a_part_of_its_own_name() -> None:
    """A wheaten terrier is a terrier, and a text about terriers may not speak of one breed."""
    found = lint(described(wheaten_terrier=["a small terrier with a soft coat"], terrier=["like a wheaten terrier"]))
    assert [(f.code, f.ids) for f in found] == [("rival-name", (1, 0))]


@pytest.mark.parametrize("text", ["orange feathers", "a short tail", "bees swing by"])
def test_words_that_only_look_like_a_class_are_none(text: str) -> None:
    assert of("rival-name", lint(described(wug=[text], orange=["round"], swim_shorts=["red"], swing=["a seat"]))) == []


def test_only_the_rival_of_a_pair_is_a_rival() -> None:
    known = Descriptions(
        pairs={(0, 1): (["a hen, unlike a duck", "a hen near a goose"], ["a duck"])},
        names={0: "hen", 1: "duck", 2: "goose"},
    )
    assert [(f.code, f.ids, f.text) for f in lint(known)] == [("rival-name", (0, 1), "a hen, unlike a duck")]


def test_a_feature_that_names_its_class_is_found() -> None:
    found = lint(
        described(Crème_brûlée=["a creme brulee dish", "a brown crust", "a cracked sugar top"], hen=["a comb"])
    )
    assert [(f.code, f.severity, f.text) for f in found] == [("own-name", "info", "a creme brulee dish")]


def test_where_most_texts_name_their_class_it_is_said_once() -> None:
    found = lint(described(hen=["A hen has a comb.", "Hens are small."], duck=["A duck has a bill.", "It swims."]))
    assert [(f.code, f.ids) for f in found] == [("own-name", ())]
    assert "3 of 4" in found[0].message


def test_the_captions_of_a_set_are_linted_like_those_of_a_pair() -> None:
    known = Descriptions(
        sets={
            (0, 1, 2): {
                0: ["two legs", "a photo of a hen", "a comb,"],
                1: ["Two legs", "unlike a hen", "near a goose"],
                2: ["two legs"],
            },
            (0, 1): {0: ["two legs"]},
        },
        names={0: "hen", 1: "duck", 2: "emu", 3: "goose"},
    )
    assert {(f.code, f.ids, f.text, f.message.partition(" has ")[0]) for f in lint(known)} == {
        ("same-as-rival", (0, 1, 2), "two legs", "duck"),
        ("same-as-rival", (1, 0, 2), "Two legs", "emu"),
        ("truncated", (0, 1, 2), "a comb,", "ends in ','"),
        ("rival-name", (1, 0), "unlike a hen", "names hen, and so draws the class towards it"),
        ("empty", (1, 0), "", "no caption against hen"),
    }


def test_fixing_a_set_cleans_its_captions_and_drops_none() -> None:
    known = Descriptions(sets={(0, 1, 2): {0: ["- a comb", "a comb", "a comb"], 1: [" a bill"], 2: ["1."]}})
    assert mended(known).sets == {(0, 1, 2): {0: ["a comb", "a comb", "a comb"], 1: ["a bill"], 2: ["1."]}}


def test_captions_of_pairs_name_their_class() -> None:
    assert lint(paired("hen", "duck", ["a photo of a hen with a comb"], ["a photo of a duck with a bill"])) == []


def test_a_far_shorter_list_is_uneven_and_a_somewhat_shorter_one_is_not() -> None:
    lists = {f"class_{i}": [f"a {word} mark {i}" for word in "abcdef"] for i in range(9)}
    found = lint(
        described(**lists, short=["a b", "c d"], less=["a b", "c d", "e f"], long=[f"x{i}" for i in range(18)])
    )
    assert [(f.code, f.name) for f in found] == [("uneven", "short"), ("uneven", "long")]


def test_texts_are_too_long_by_the_encoders_own_count() -> None:
    known = described(wug=["one two three four", "one two"])
    found = lint(known, token_count=lambda text: len(text.split()) + 2, context=5)
    assert [(f.code, f.text) for f in found] == [("too-long", "one two three four")]
    assert "6 tokens" in found[0].message


def test_without_an_encoder_tokens_are_estimated() -> None:
    fits, over = " ".join(["comb"] * 75), " ".join(["comb"] * 76)
    assert [f.text for f in of("too-long", lint(described(wug=[fits, over])))] == [over]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 2), ("a comb", 4), ("hippopotamus", 4), ("10 legs", 5), ("red, (big)!", 7)]
)
def test_the_estimate_follows_its_rule(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


@published
@pytest.mark.slow  # importing open_clip takes longer than the test
def test_the_estimate_is_near_the_count_of_clips_tokenizer() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    texts = [text for said in read(PUBLISHED / "cupl" / "pets_prompts_full.json").classes.values() for text in said]
    off = [abs(estimated_tokens(text) - len(tokenizer.encode(text)) - 2) for text in texts]
    assert sum(off) / len(off) < 2


# Copied lines

BIRDS = ["a short tail", "black and white", "a pointed beak"]


def test_a_power_cord_on_an_animal_is_leaked_and_on_a_machine_it_is_not() -> None:
    found = of("leaked", lint(described(cat=["whiskers", "a power cord"], kettle=["a spout", "a power cord"])))
    assert [(f.name, f.text) for f in found] == [("cat", "a power cord")]


def test_three_lines_of_a_known_example_are_leaked_wherever_they_stand() -> None:
    lines = ["electronic device", "a viewfinder", "one or more speakers", "a remote control"]
    found = of("leaked", lint(described(camera=lines, television=lines)))
    assert [(f.name, f.text) for f in found] == [("camera", lines[0]), ("camera", lines[2]), ("camera", lines[3])]


def test_ordinary_lines_that_many_classes_share_are_not_leaked() -> None:
    birds = {f"bird_{i}": [*BIRDS, f"a {word} crest"] for i, word in enumerate("abcdefghijklmnopqrstuvwxyzäöüß")}
    assert of("leaked", lint(described(**{name: texts[:2] + texts[3:] for name, texts in birds.items()}))) == []


def test_a_run_of_lines_in_unlike_classes_is_leaked() -> None:
    run = ["a sharp crest", "green claws", "a round belly", "stripes on its back"]
    known = described(
        toast=["brown bread", *run], steak=["red meat", *run], soup=["a bowl", *run], cake=["icing", *run[:3]]
    )
    found = of("leaked", lint(known))
    assert Counter(f.name for f in found) == {"toast": 4, "steak": 4, "soup": 4}


def test_a_run_of_lines_in_classes_of_one_kind_is_not_leaked() -> None:
    run = ["a sharp beak", "green claws", "a round belly", "stripes on its back"]
    known = described(House_Wren=["brown", *run], Rock_Wren=["grey", *run], Cactus_Wren=["white", *run])
    assert of("leaked", lint(known)) == []


def test_a_rare_line_in_classes_that_share_nothing_else_is_leaked() -> None:
    others = ["kettle", "lamp", "poppy", "herring", "bridge", "violin", "tractor", "sofa"]
    classes = {name: [f"a {name[:3]}ish rim", f"{name[::-1]} marks"] for name in others}
    for name in others[:5]:
        classes[name].append("a glass lantern room at the top")
    found = of("leaked", lint(described(**classes)))
    assert [f.name for f in found] == others[:5]
    assert {f.text for f in found} == {"a glass lantern room at the top"}


# Order and severity


def test_findings_come_by_code_and_then_in_the_order_of_the_file() -> None:
    found = lint(described(b=["no tail", "1."], a=["no ears", "2.", "2."], c=[]))
    assert [(f.code, f.name) for f in found] == [
        ("empty", "c"),
        ("junk", "b"),
        ("junk", "a"),
        ("duplicate", "a"),
        ("negation", "b"),
        ("negation", "a"),
    ]
    assert [f.severity for f in found] == [CODES[f.code].severity for f in found]


def test_every_code_is_tried_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [code for code in CODES if code not in TEXTS and f'"{code}"' not in source] == []


# Mending


def mended(known: Descriptions) -> Descriptions:
    return fixed(known, lint(known))


def test_fixed_mends_what_is_safe_and_leaves_the_rest_as_it_is() -> None:
    known = described(
        hen=[" a red comb", "- Red legs", "red legs", "1.", "no teeth  at all", "a red comb", "and a tail with a"],
        duck=["I'm sorry, I can't help.", "a flat  bill ,"],
    )
    assert mended(known).classes == {
        0: ["a red comb", "Red legs", "no teeth  at all", "and a tail with a"],
        1: ["a flat  bill ,"],
    }


def test_fixed_never_drops_a_class_s_last_text() -> None:
    known = described(hen=["1.", "2."], duck=["a flat bill"])
    after = mended(known)
    assert after.classes == {0: ["1."], 1: ["a flat bill"]}
    assert [f.code for f in lint(after)] == ["junk"]


def test_fixed_does_only_what_the_findings_say() -> None:
    known = described(hen=["- a comb", "a comb", "1."])
    assert fixed(known, of("markup", lint(known))).classes == {0: ["a comb", "a comb", "1."]}
    assert fixed(known, []).classes == known.classes


def test_fixed_cleans_captions_and_drops_none() -> None:
    known = paired("hen", "duck", ["- a hen", "a hen", "1."], ["a duck ", "a duck"])
    assert mended(known).pairs == {(0, 1): (["a hen", "a hen", "1."], ["a duck", "a duck"])}


PIECES = [
    "- ",
    "**",
    "a ",
    "red comb",
    "RED COMB",
    "1. ",
    " ",
    "\n",
    "A: ",
    "(",
    '"',
    ".",
    ":",
    "*",
    " no ",
    "<b>",
    "5.",
]
PIECES += ["I'm sorry", " but ", "no answer", "what?", "with", "www.x", "found in Asia", "smell", "a power cord"]
TEXT = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
CLASSES = st.dictionaries(st.integers(0, 3), st.lists(TEXT, min_size=1, max_size=6), max_size=4)


@given(CLASSES, st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3), TEXT)
def test_any_text_is_looked_over_and_mended_for_good(
    classes: dict[int, list[str]], first: list[str], second: list[str], name: str
) -> None:
    names = {0: name or "x", 1: "red comb", 2: "hen", 3: "RED"}
    known = Descriptions(classes, {(0, 1): (first, second)}, names)
    findings = lint(known)
    after = fixed(known, findings)
    assert set(after.classes) == set(classes)
    assert all(after.classes[i] for i in classes)
    assert fixed(after, lint(after)) == after
    for i, texts in classes.items():
        soiled = {finding.text for finding in findings if CODES[finding.code].mended and finding.ids == (i,)}
        left = iter(after.classes[i])
        assert all(text in left for text in texts if text not in soiled)  # byte by byte, in their order


@given(TEXT)
def test_clean_is_done_at_once_and_only_takes_away(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert len(clean(text)) <= len(text)


# What is known to be in the published files


@published
@pytest.mark.parametrize(
    ("file", "empty"),
    [
        ("descriptors_food101.json", ["donuts", "french fries", "fried calamari", "mussels", "oysters"]),
        ("descriptors_places365.json", ["corn_field"]),
        ("descriptors_cub.json", []),
    ],
)
def test_the_empty_classes_of_the_published_files_are_found(file: str, empty: list[str]) -> None:
    assert sorted(f.name for f in of("empty", lint(read(PUBLISHED / "dclip" / file)))) == empty


@published
def test_cupls_base_file_has_998_keys_and_1693_duplicates() -> None:
    known = read(PUBLISHED / "cupl" / "imagenet_prompts_base.json")
    assert (len(known.names), sum(map(len, known.classes.values()))) == (998, 29940)
    findings = lint(known)
    assert (
        len(of("duplicate", findings)) == sum(len(texts) - len(set(texts)) for texts in known.classes.values()) == 1693
    )
    (style,) = of("own-name", findings)
    assert style.ids == ()
    after = fixed(known, findings)
    assert not {"duplicate", "same-folded", "junk", "refusal", "markup", "blanks"} & {f.code for f in lint(after)}


@published
def test_the_examples_of_dclips_prompt_are_found_where_they_leaked() -> None:
    found = of("leaked", lint(read(PUBLISHED / "dclip" / "descriptors_imagenet.json")))
    by = {name: {f.text for f in found if f.name == name} for name in {f.name for f in found}}
    assert by["fire salamander"] >= {"furry body", "clawed hands and feet"}
    assert by["reflex camera"] >= {"a power cord", "a remote control", "one or more speakers"}
    assert not {"television", "ring-tailed lemur", "coffeemaker", "washing machine", "goldfinch", "quail"} & set(by)
    food = of("leaked", lint(read(PUBLISHED / "dclip" / "descriptors_food101.json")))
    assert {"four-limbed animal", "fur", "whiskers"} <= {f.text for f in food if f.name == "french toast"}


@pytest.mark.slow
def test_ten_times_the_classes_take_about_ten_times_as_long() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(5000)]

    def seconds(count: int) -> float:
        texts = {i: [" ".join(rng.choices(words, k=6)) for _ in range(10)] for i in range(count)}
        known = Descriptions(texts, names={i: f"{rng.choice(words)} {rng.choice(words)}" for i in texts})
        start = time.process_time()
        lint(known)
        return time.process_time() - start

    assert seconds(20_000) < 25 * min(seconds(2_000), seconds(2_000))
