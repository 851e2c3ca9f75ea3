"""Parsers take what a reply says and no more, count what they mend, and no reply breaks or delays them."""

from __future__ import annotations

import gc
import json
import random
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from descbench.parsing import (
    SCHEMAS,
    Parsed,
    parse_contrast,
    parse_features,
    parse_pairs,
    parse_sentences,
    reason,
    repairs_of,
)
from descbench.prompts import Reply

REPLIES = Path(__file__).parents[2] / "shared" / "data" / "batch"
NAMES = ["Red hen", "goose", "crème brûlée"]


@pytest.mark.parametrize(
    ("text", "features", "repairs"),
    [
        ("- a red comb\n- two legs\n", ["a red comb", "two legs"], {}),
        (
            "Some:\n\n* a comb\n • two legs\n– a tail\n1. a beak\n2) wattles\n(3) feet",
            ["a comb", "two legs", "a tail", "a beak", "wattles", "feet"],
            {"heading": 1, "other bullet": 3, "numbered": 3},
        ),
        ("- \"a red comb\",\n- two legs;\n- 'wattles'", ["a red comb", "two legs", "wattles"], {"quotes": 2}),
        ("- **Comb**: red\n- **large** feet", ["Comb: red", "large feet"], {"bold": 2}),
        ("- \n-\n- a beak", ["a beak"], {"blank": 2}),
        ("-no blank after the hyphen", ["no blank after the hyphen"], {}),
        ("- a well-known, 2-legged bird", ["a well-known, 2-legged bird"], {}),
        ("A hen has a red comb.", [], {"prose": 1}),
        ("---\n- a red comb\n***\n", ["a red comb"], {"blank": 1, "prose": 1}),
        ("- a beak\n3.5 inches long", ["a beak"], {"prose": 1}),
        ("*Note* this\n* a comb", ["a comb"], {"prose": 1, "other bullet": 1}),
        ("What should you look for?\n- a red comb", ["a red comb"], {"prose": 1}),
        ("- crème brûlée colour\n- 🦜", ["crème brûlée colour", "🦜"], {}),
        ("```\n- a comb\n```", ["a comb"], {"fence": 2}),
        ("- a comb\n\nLet me know if you need more!", ["a comb"], {"prose": 1}),
        ("<think>\n- not this\n</think>\n- a comb", ["a comb"], {"thinking": 1}),
        ("Well, a comb...\n</think>\n\n- a comb", ["a comb"], {"thinking": 1}),
        ("<think>\n- not yet", [], {"thinking": 1}),
        ('- a sign with ["STOP"] on it', ['a sign with ["STOP"] on it'], {}),
        ("[1] says:\n- a comb", ["a comb"], {"heading": 1}),
        ("", [], {}),
    ],
)
def test_features_are_the_bulleted_lines(text: str, features: list[str], repairs: dict[str, int]) -> None:
    assert parse_features(Reply(text)) == Parsed(features, repairs)


@pytest.mark.parametrize(
    "text",
    [
        "**Head:**\n- a comb\n- wattles\n\n**Feet:**\n- spurs",
        "## Head\n- a comb\n- wattles\n\n## Feet\n- spurs",
        "1. **Head**\n   - a comb\n   - wattles\n2. **Feet**\n   - spurs",
        "- Several signs, including:\n  - a comb\n  - wattles\n- spurs",
        "- a comb\n- wattles\n\nOther features include:\n- spurs",
    ],
)
def test_a_heading_within_a_list_is_no_feature_and_ends_nothing(text: str) -> None:
    assert parse_features(Reply(text)).items == ["a comb", "wattles", "spurs"]


@pytest.mark.parametrize(
    "turn",
    [
        # As replies of a large model have it, with the names of farm birds.
        "Geese, in comparison, typically have:",
        "For comparison, the goose typically has the following features:",
        "In contrast, a goose would have:",
        "Conversely, geese have:",
        "Conversely, if looking for features to identify a goose:",
        "On the other hand, discerning features of a goose would include:",
        "For additional context:",
        "For further distinction:",
        "And for distinguishing a goose from a hen:",
        "There are several useful visual features to tell the photo is a goose, not a hen.",
        "For distinguishing a **goose** in the photo:",
        "### Goose (bird)",
        "- **Goose**:",
    ],
)
def test_what_follows_a_turn_to_another_class_is_left_out_and_counted(turn: str) -> None:
    text = (
        f"Here are the features of a hen and a goose:\n\n- a comb\n- wattles\n\n{turn}\n- a long neck\n- webbed feet\n"
    )
    parsed = parse_features(Reply(text))
    assert parsed.items == ["a comb", "wattles"]
    assert parsed.repairs["other class"] == 2


def test_features_that_name_their_class_in_brackets_are_those_of_the_first() -> None:
    text = "- a comb (Hen)\n- a long neck (Goose)\n- wattles (Hen)\n- webbed feet (Goose)"
    assert parse_features(Reply(text)) == Parsed(["a comb", "wattles"], {"other class": 2})
    assert parse_features(Reply("- a comb (red)\n- a neck (long)\n- feet (webbed)")).repairs == {}


@pytest.mark.parametrize("question", ["Q: What are features of a goose?\nA:", "Q2: a goose", "What about a goose?"])
def test_a_leaked_question_ends_the_list(question: str) -> None:
    parsed = parse_features(Reply(f"- a red comb\n- two legs\n\n{question}\n- a long neck"))
    assert (parsed.items, parsed.repairs["leaked question"]) == (["a red comb", "two legs"], 1)


def test_an_item_that_was_cut_off_is_left_out() -> None:
    assert parse_features(Reply("- a red comb\n- two le", "length")) == Parsed(["a red comb"], {"cut ending": 1})
    assert parse_features(Reply("- a red comb\n- two legs\n", "length")) == Parsed(["a red comb", "two legs"])
    assert parse_features(Reply("- a red comb\n- two le")).items == ["a red comb", "two le"]
    assert parse_features(Reply("- a r", "length")).items == []
    assert parse_features(Reply("- a comb\n- two le", "content_filter")).items == ["a comb"]
    assert parse_features(Reply("- a comb", "refusal")).items == []


@pytest.mark.parametrize(
    ("text", "features", "repairs"),
    [
        ('{"features": ["a comb", "two legs"]}', ["a comb", "two legs"], {}),
        ('["a comb", "two legs"]', ["a comb", "two legs"], {}),
        ('{"name": "hen", "marks": ["a comb", "two legs"]}', ["a comb", "two legs"], {}),
        ('{"answer": {"features": ["a comb"]}}', ["a comb"], {}),
        ('{"1": "a comb", "2": "two legs"}', ["a comb", "two legs"], {}),
        ('[{"feature": "a comb", "sure": 1.0}, {"feature": "two legs"}]', ["a comb", "two legs"], {}),
        ('{"features": ["a comb", null, 5, "", "two legs"]}', ["a comb", "two legs"], {"blank": 3}),
        ('```json\n["a comb",\n "two legs",]\n```', ["a comb", "two legs"], {"fence": 1, "trailing comma": 1}),
        ('Sure! {"features": ["a comb"]}\nGood luck.', ["a comb"], {"prose": 2}),
        ('{"features": ["a comb", "two legs", "wat', ["a comb", "two legs"], {"cut ending": 1}),
        ('{"features": ["a comb", "two legs"', ["a comb", "two legs"], {"cut ending": 1}),
        ('["a comb"\n"two legs"]', ["a comb", "two legs"], {"missing comma": 1}),
        ('["a comb",\n"a "ticked" coat",\n"two legs"]', ["a comb", "two legs"], {"broken JSON": 1}),
        ('{"features": ["a comb"], "rivals": ["a neck"]}', ["a comb"], {}),
        ('{"hen": ["a comb"], "goose": ["a neck"]}', ["a comb"], {"other list": 1}),
        ('["cr\\u00e8me", "a \\"red\\" comb", "x\\ud800"]', ["crème", 'a "red" comb', "x"], {}),
        ('["it\\\'s red"]', ["it\\'s red"], {"broken JSON": 1}),
        ("[]", [], {"prose": 1}),
        ("{}", [], {"prose": 1}),
        ('{"count": 3}', [], {"prose": 1}),
    ],
)  # fmt: skip
def test_features_in_json_are_read_however_it_is_written(
    text: str, features: list[str], repairs: dict[str, int]
) -> None:
    assert parse_features(Reply(text)) == Parsed(features, repairs)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A hen has a comb. It has two legs.", ["A hen has a comb.", "It has two legs."]),
        ("A hen has a comb.\nIt has two legs.\n", ["A hen has a comb.", "It has two legs."]),
        ("- A hen has a comb. It is red.\n- It has two legs.", ["A hen has a comb. It is red.", "It has two legs."]),
        ("1. A hen.\n2. Two hens.", ["A hen.", "Two hens."]),
        ('{"sentences": ["A hen.", "Two hens."]}', ["A hen.", "Two hens."]),
        ("a photo of a hen in the grass", ["a photo of a hen in the grass"]),
        ("Here are three sentences:\n\nA hen runs! Does it?", ["A hen runs!", "Does it?"]),
        ("A St. Bernard is 2.5 feet tall, e.g. this one.", ["A St. Bernard is 2.5 feet tall, e.g. this one."]),
        ('It says "cluck." Then it runs.', ['It says "cluck."', "Then it runs."]),
        ("Sorry-looking eyes mark the hen.", ["Sorry-looking eyes mark the hen."]),
        ("I'm sorry, but I can't help with that. Hens are birds.", []),
        ("", []),
    ],
)
def test_sentences_stand_as_they_were_written(text: str, sentences: list[str]) -> None:
    assert parse_sentences(Reply(text)).items == sentences


def test_an_unfinished_sentence_of_a_cut_reply_is_left_out() -> None:
    cut = parse_sentences(Reply("A hen has a comb. It has tw", "length"))
    assert cut == Parsed(["A hen has a comb."], {"cut ending": 1})
    assert parse_sentences(Reply("A hen has a comb. It has two legs.", "length")).items[1] == "It has two legs."
    assert parse_sentences(Reply("A hen has", "length")).items == []


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("- comb: a large comb | a small comb", [("comb", "a large comb", "a small comb")]),
        ("- **comb:** **a large comb** | a small comb,", [("comb", "a large comb", "a small comb")]),
        ('1. comb: "a large comb" | "a small comb"', [("comb", "a large comb", "a small comb")]),
        ("- comb: a comb: red | a comb: pale", [("comb", "a comb: red", "a comb: pale")]),
        ("- comb: only one caption", []),
        ("- comb: | a small comb", []),
        ("- comb: one | two | three", []),
        ("- a large comb | a small comb", []),
        ("comb: a large comb | a small comb", []),
        ('{"pairs": [{"attribute": "comb", "first": "a", "second": "b"}]}', [("comb", "a", "b")]),
        ('[{"attribute": "comb", "first": "a", "second": "b"}, {"first": "c"}]', [("comb", "a", "b")]),
        ('```json\n[{"attr_type": "comb", "prompt_pair": ["a", "b"]}]\n```', [("comb", "a", "b")]),
        ('{"pairs": [{"attribute": "x", "first": "a", "second": "b"}, {"attribute": "y", "fi', [("x", "a", "b")]),
    ],
)
def test_pairs_have_an_attribute_and_two_captions(text: str, pairs: list[tuple[str, str, str]]) -> None:
    assert parse_pairs(Reply(text)).items == pairs


def test_a_line_that_is_no_pair_is_counted_and_one_that_was_cut_off_is_left_out() -> None:
    assert parse_pairs(Reply("- a: b | c\n- only d")) == Parsed([("a", "b", "c")], {"not a pair": 1})
    assert parse_pairs(Reply("- a: b | c\n- d: e | f", "length")) == Parsed([("a", "b", "c")], {"cut ending": 1})


@pytest.mark.parametrize(
    "text",
    [
        '{"classes": [{"name": "Red hen", "captions": ["a comb", "wattles"]},'
        '{"name": "GOOSE", "captions": ["a neck"]}]}',
        '{"red_hen": ["a comb", "wattles"], "goose": ["a neck"], "duck": ["a bill"]}',
        '[{"name": "red hen", "captions": ["a comb", "wattles"]}, {"name": "goose", "captions": "a neck"}]',
        "- Red hen: a comb; wattles\n- duck: a bill\n- Goose: a neck",
        "red-hen: a comb; wattles\ngoose: a neck\n",
        "**Red hen**\n- a comb\n- wattles\n\n**Duck:**\n- a bill\n\n### Goose\n1. a neck\n",
        "Red hen:\n- a comb\n- wattles\n\nThe goose:\n- a neck",
    ],
)
def test_captions_are_joined_by_name_and_those_of_other_names_left_out(text: str) -> None:
    found = parse_contrast(Reply(text), NAMES)
    assert found.items == {"Red hen": ["a comb", "wattles"], "goose": ["a neck"]}
    assert ("unknown name" in found.repairs) == ("duck" in text.casefold())


def test_a_contrast_that_was_cut_off_keeps_what_is_whole() -> None:
    text = (
        '{"classes": [{"name": "goose", "captions": ["a neck"]}, {"name": "Creme brulee", "captions": ["a crust", "a sp'
    )
    assert parse_contrast(Reply(text, "length"), NAMES).items == {"goose": ["a neck"], "crème brûlée": ["a crust"]}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply.unanswered("no connection to the server"), "no connection to the server"),
        (Reply("", "unanswered"), "no reply came"),
        (Reply(""), "empty reply"),
        (Reply(" \n\t"), "empty reply"),
        (Reply("- a", "content_filter"), "withheld by a content filter"),
        (Reply("", "refusal"), "refusal"),
        (Reply("I’m sorry, but I can’t assist with that."), "refusal"),
        (Reply("As an AI language model, I cannot see photos."), "refusal"),
        (Reply("I apologize, I cannot do that."), "refusal"),
        (Reply("- a r", "length"), "cut off"),
        (Reply("", "length"), "cut off"),
        (Reply("<think> hm", "length"), "cut off while thinking"),
        (Reply("<think> hm </think>"), "nothing after its thinking"),
        (Reply("A hen is red."), "no list in it"),
        (Reply("Sorry-looking eyes cannot be seen without a lens."), "no list in it"),
        (Reply("I'm sorry for the mix-up.\n- a comb"), "not in the form that was asked for"),
    ],
)
def test_a_reply_that_says_nothing_has_a_reason(reply: Reply, why: str) -> None:
    assert reason(reply) == why


def test_an_apology_before_a_list_is_no_refusal_and_a_feature_is_none() -> None:
    text = "I apologize, there is a mix-up. Here they are:\n- sorry-looking eyes\n- cannot be seen without a lens"
    assert parse_features(Reply(text)).items == ["sorry-looking eyes", "cannot be seen without a lens"]


def test_repairs_are_summed_by_kind() -> None:
    both = [Parsed(["a"], {"bold": 2, "blank": 1}), Parsed(["b"], {"bold": 1}), Parsed([])]
    assert repairs_of(both) == {"repairs": {"blank": 1, "bold": 3}}
    assert repairs_of([Parsed(["a"])]) == {}


# A reply of each schema, and what its parser makes of it.
STRICT: dict[str, tuple[Any, Callable[[Reply], Any], Any]] = {
    "features": ({"features": ["a", "b"]}, parse_features, ["a", "b"]),
    "sentences": ({"sentences": ["A.", "B."]}, parse_sentences, ["A.", "B."]),
    "pairs": ({"pairs": [{"attribute": "x", "first": "a", "second": "b"}]}, parse_pairs, [("x", "a", "b")]),
    "contrast": (
        {"classes": [{"name": "goose", "captions": ["a"]}]},
        lambda reply: parse_contrast(reply, NAMES),
        {"goose": ["a"]},
    ),
}  # fmt: skip


def objects(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inside = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    own = [schema] if schema["type"] == "object" else []
    return [*own, *(found for part in inside for found in objects(part))]


def fits(value: Any, schema: dict[str, Any]) -> bool:
    if schema["type"] == "string":
        return isinstance(value, str)
    if schema["type"] == "array":
        return isinstance(value, list) and all(fits(entry, schema["items"]) for entry in value)
    own = schema["properties"]
    return isinstance(value, dict) and set(value) == set(own) and all(fits(value[key], own[key]) for key in own)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_strict_and_what_it_asks_for_is_read(name: str) -> None:
    schema = SCHEMAS[name]
    value, parse, items = STRICT[name]
    assert schema["type"] == "object" and json.loads(json.dumps(schema)) == schema
    for part in objects(schema):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
    assert fits(value, schema)
    parsed = parse(Reply(json.dumps(value)))
    assert (parsed.items, dict(parsed.repairs)) == (items, {})


# No reply breaks a parser.

PARSERS: list[Callable[[Reply], Parsed[Any]]] = [
    parse_features,
    parse_sentences,
    parse_pairs,
    lambda reply: parse_contrast(reply, NAMES),
]


def texts_of(items: Any) -> list[str]:
    """All texts that a parser took; the attribute of a pair may be blank."""
    if isinstance(items, dict):
        return [text for captions in items.values() for text in captions]
    return [text for item in items for text in ([item] if isinstance(item, str) else item[1:])]


def squeezed(text: str) -> str:
    return text.encode(errors="ignore").decode().replace("**", "")


def decoded(text: str) -> str:
    """All that could be a JSON text in a reply, decoded: what stands between any two quotes."""
    pieces = []
    for piece in text.split('"'):
        try:
            pieces.append(json.loads(f'"{piece}"', strict=False))
        except json.JSONDecodeError:
            pieces.append(piece)
    return squeezed("\n".join(pieces))


def check_all(reply: Reply) -> None:
    assert reason(reply).strip()
    both = squeezed(reply.text) + decoded(reply.text)
    for parse in PARSERS:
        parsed = parse(reply)
        assert all(count > 0 for count in parsed.repairs.values())
        for text in texts_of(parsed.items):
            assert text == text.strip() != ""
            assert text in both or "\\" in reply.text


PIECES = st.one_of(
    st.text(max_size=20),
    st.text("-*•–—1.): |\n\"'*,;{}[]\\#<>`aé🦜 \t", max_size=30),
    st.sampled_from(
        [
            *('```json\n{"features": [', '"a comb", ', '"a comb"\n', "]}", "\n```\n", '{"pairs": [{"attribute": "x", '),
            *('"first": "a", "second": "b"}', "<think>", "</think>"),
            *("\n- a comb", "\n1. a comb\n", "\n* **Comb**: red\n"),
            *("\nRed hen: a; b\n", "\n### goose\n", "\nIn contrast, geese have:\n", "\nQ: what?\n"),
            "I'm sorry, but I can't",
            *("A hen has a comb. ", "- a: b | c\n", "\x00", "\u2028", "\\ud800", "\ud800", "[" * 50, '{"a":' * 20),
        ]
    ),
)  # fmt: skip
REPLY = st.builds(
    Reply,
    st.lists(PIECES, max_size=12).map("".join),
    st.sampled_from(["stop", "length", "", "content_filter", "refusal", "unanswered"]),
)


@given(REPLY)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_no_reply_breaks_a_parser_or_gives_a_text_that_is_not_in_it(reply: Reply) -> None:
    check_all(reply)


@pytest.mark.slow
@given(REPLY)
@settings(deadline=None, max_examples=100_000, suppress_health_check=[HealthCheck.too_slow])
def test_none_of_100_000_replies_breaks_a_parser(reply: Reply) -> None:
    check_all(reply)


@given(st.lists(st.from_regex(r"[a-z]{2,9}( [a-z]{2,9}){0,4}", fullmatch=True), max_size=7))
@settings(deadline=None, max_examples=60)
def test_a_list_that_was_written_as_asked_is_read_back(features: list[str]) -> None:
    assert parse_features(Reply("".join(f"- {feature}\n" for feature in features))) == Parsed(features)
    lines = "".join(f"- part: {feature} | not {feature}\n" for feature in features)
    assert parse_pairs(Reply(lines)) == Parsed([("part", feature, f"not {feature}") for feature in features])


TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=6)


@given(TEXTS, st.booleans(), st.sampled_from([None, 1]))
@settings(deadline=None, max_examples=200)
def test_json_of_any_features_is_read_back(features: list[str], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps({"features": features}, ensure_ascii=ascii_only, indent=indent)
    marks = " \t\n\r\v\f,;*\"'“”‘’"
    plain = [f for f in features if any(c.isalnum() for c in f) and f.strip(marks) == f and f.strip() == f]
    found = parse_features(Reply(text)).items
    assert [f for f in plain if f.replace("**", "") in found] == plain


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 10**6, '{"a":' * 200_000, '"' * 10**6, "- " * 500_000, "-\n" * 300_000),
        *("[" + " " * 10**6, "- a: " + " " * 10**6),
        *("**" * 500_000, "<think>" * 140_000, "</think>" * 120_000, ". " * 500_000, "A. " * 300_000),
        '["a" x\n' * 100_000,
        *("- a\nb c:\n" * 80_000, "#:\n" * 200_000, '["' + "\\" * 10**6, "* a" + " *" * 400_000, "- a (" * 150_000),
    ],
    ids=lambda text: repr(text[:8]),
)  # fmt: skip
@pytest.mark.slow
def test_a_megabyte_of_anything_takes_a_few_seconds_at_most(text: str) -> None:
    for parse in PARSERS:
        started = time.monotonic()
        parse(Reply(text, "length"))
        assert time.monotonic() - started < 15  # quadratic: minutes


@pytest.mark.parametrize(
    "unit", ["[", '"', "- ", "-\n", '{"a":', "a b:\n", "- a\nb c:\n", "- a: |", ". ", "(a ", '["a" x\n']
)
def test_a_reply_of_ten_times_the_length_does_not_take_a_hundred_times_as_long(unit: str) -> None:
    def seconds(length: int) -> float:
        reply = Reply((unit * length)[:length], "length")
        started = time.process_time()
        for parse in PARSERS:
            parse(reply)
        return time.process_time() - started

    seconds(1000)
    gc.disable()  # it walks over all that the other tests have left
    try:
        short, long = (min(seconds(length) for _ in range(3)) for length in (3000, 30_000))
    finally:
        gc.enable()
    assert long < 40 * max(short, 0.002)


# Replies of a large model, where they lie beside the checkout.

real = pytest.mark.skipif(not REPLIES.is_dir(), reason="the recorded replies are not part of the project")


@cache
def recorded() -> dict[str, Reply]:
    found = {}
    for path in sorted(REPLIES.glob("*_replies.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            choice = entry["response"]["body"]["choices"][0]
            found[entry["custom_id"]] = Reply(choice["message"]["content"], choice["finish_reason"])
    return found


@real
def test_every_recorded_reply_gives_features_and_every_hyphened_line_is_one_or_counted() -> None:
    replies = recorded()
    assert len(replies) == 507
    clean = turned = 0
    for id_, reply in replies.items():
        parsed = parse_features(reply)
        lines = [line.strip().removeprefix("-") for line in reply.text.splitlines() if line.lstrip().startswith("-")]
        headings = sum(line.replace("**", "").rstrip().endswith(":") for line in lines)
        left_out = parsed.repairs.get("other class", 0) + parsed.repairs.get("blank", 0)
        assert len(parsed.items) >= 3, id_
        assert len(parsed.items) + left_out + headings == len(lines), id_
        clean += not parsed.repairs
        turned += "other class" in parsed.repairs
    assert (clean, turned) == (339, 42)  # 42 read by eye: each turns to the rival, or to remarks about both


@real
def test_no_feature_of_the_rival_is_read_where_a_reply_lists_both_classes() -> None:
    replies = recorded()
    for id_, last in (
        ("pets~Abyssinian~Bengal", "Sleek and graceful appearance"),
        ("pets~german shorthaired~British Shorthair", "Strong, muscular legs"),
        ("pets~boxer~Persian", "Generally short muzzle"),
        ("pets~beagle~shiba inu", "Lovable, gentle expression"),
        ("pets~Bombay~newfoundland", "Panther-like gait"),
        ("pets~newfoundland~Bombay", "Generally calm and gentle expression"),
    ):
        assert parse_features(replies[id_]).items[-1] == last


def mutated(text: str, draw: random.Random) -> str:
    """A reply cut somewhere, with lines in another order, or with some characters exchanged."""
    kind = draw.choice(["cut", "shuffled", "flipped", "joined"])
    if kind == "cut":
        return text[: draw.randrange(len(text) + 1)]
    if kind == "shuffled":
        lines = text.splitlines(keepends=True)
        return "".join(draw.sample(lines, len(lines)))
    raw = bytearray(text.encode())
    for _ in range(draw.randrange(1, 20) if kind == "flipped" else 0):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    plain = raw.decode(errors="replace")
    return plain if kind == "flipped" else plain.replace("\n", draw.choice(["", " ", "\r\n", "\n\n"]))


@real
@pytest.mark.parametrize("times", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_no_mutated_real_reply_breaks_a_parser(times: int) -> None:
    draw = random.Random(times)
    for reply in recorded().values():
        for _ in range(times):
            check_all(Reply(mutated(reply.text, draw), draw.choice(["stop", "length"])))


ITEM = st.text(st.sampled_from(list("ab9 -:|.,()?#~'\"*`<[{\\;=>é\u2028")), min_size=0, max_size=12)


@settings(max_examples=500)
@given(st.lists(ITEM.map("- {}".format) | ITEM, min_size=1, max_size=5).map("\n".join), st.sampled_from(["", "\n"]))
def test_the_short_way_for_plain_lists_reads_what_the_long_way_reads(lines: str, end: str) -> None:
    reply = Reply(lines + end)
    short = [parse(reply) for parse in (parse_features, parse_pairs, parse_sentences)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("descbench.parsing._PLAIN", re.compile(r"(?!)"))
        assert [parse(reply) for parse in (parse_features, parse_pairs, parse_sentences)] == short


def test_the_short_way_is_linear_in_what_almost_fits() -> None:
    assert parse_features(Reply("- a" * 20_000 + "!")).items == ["a" + "- a" * 19_999 + "!"]
