"""Filling a prompt leaves every name as it is; parsing takes what a reply says, and no reply breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descbench import prompts
from descbench.errors import InputError
from descbench.prompts import Reply, parse_bullets, parse_pairs

REPLIES = Path(__file__).parents[2] / "shared" / "data" / "batch"


def test_the_shipped_prompts_are_found_by_name() -> None:
    assert {"dclip", "differential"} <= set(prompts.names())
    assert prompts.fill("dclip", name="hen", domain="farm birds").count('"hen"') == 2
    assert not prompts.fill("dclip", name="hen", domain="birds").endswith("\n")


@pytest.mark.parametrize("name", ["$first", "{x}$y", "${second}", 'the "big" one', "a\\b", "🦜", "x" * 300])
def test_a_name_is_filled_in_as_it_is(name: str) -> None:
    text = prompts.fill("differential", first=name, second="hen", domain="birds")
    assert f'A photo of "{name}" is easily taken for a photo of "hen"' in text


def test_a_prompt_of_ones_own_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("What is a $name worth in $$?\n\n", encoding="utf-8")
    assert prompts.fill(str(path), name="hen", domain="birds") == "What is a hen worth in $?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Tell me about $nmae", r"has a slot \$nmae that its method does not fill. Slots here: \$name"),
        ("It costs 5 $ a $name", r"cannot be filled: .* Write \$\$ for a dollar sign"),
        (b"cr\xe8me $name", "not UTF-8"),
    ],
)
def test_a_broken_prompt_is_one_clear_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        prompts.fill(str(path), name="hen")


def test_an_unknown_prompt_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no prompt 'dcilp'; did you mean 'dclip'"):
        prompts.fill("dcilp", name="hen")
    for name in ("", "no/such/file.txt", "../dclip"):
        with pytest.raises(InputError, match="no prompt"):
            prompts.fill(name, name="hen")


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("- a red comb\n- two legs\n", ["a red comb", "two legs"]),
        ("Some:\n\n* a comb\n • two legs\n1. a beak\n2) wattles", ["a comb", "two legs", "a beak", "wattles"]),
        ('- "a red comb",\n- two legs;\n- \'wattles\'', ["a red comb", "two legs", "wattles"]),
        ("- **comb**: red\n- **large** feet", ["comb: red", "large feet"]),
        ("- \n-\n- a beak", ["a beak"]),
        ("-no blank after the hyphen", ["no blank after the hyphen"]),
        ("- a well-known, 2-legged bird", ["a well-known, 2-legged bird"]),
        ("A hen has a red comb.", []),
        ("**Key features:**\n- a red comb", ["a red comb"]),
        ("---\n- a red comb\n***\n", ["a red comb"]),
        ("- a beak\n3.5 inches long", ["a beak"]),
        ("- a red comb\n- two legs\n\nQ: What are features of a goose?\nA:\n- a long neck", ["a red comb", "two legs"]),
        ("What should you look for?\n- a red comb", ["a red comb"]),
        ("- crème brûlée colour\n- 🦜", ["crème brûlée colour", "🦜"]),
        ("", []),
    ],
)  # fmt: skip
def test_features_are_the_bulleted_lines(text: str, features: list[str]) -> None:
    assert parse_bullets(Reply(text)) == features


def test_a_bullet_that_was_cut_off_is_left_out() -> None:
    assert parse_bullets(Reply("- a red comb\n- two le", "length")) == ["a red comb"]
    assert parse_bullets(Reply("- a red comb\n- two legs\n", "length")) == ["a red comb", "two legs"]
    assert parse_bullets(Reply("- a red comb\n- two le", "stop")) == ["a red comb", "two le"]
    assert parse_bullets(Reply("- a r", "length")) == []


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("- comb: a large comb | a small comb", [("a large comb", "a small comb")]),
        ("- **comb:** **a large comb** | a small comb,", [("a large comb", "a small comb")]),
        ('1. comb: "a large comb" | "a small comb"', [("a large comb", "a small comb")]),
        ("- comb: a large comb: red | a small comb: pale", [("a large comb: red", "a small comb: pale")]),
        ("- comb: only one caption", []),
        ("- comb: | a small comb", []),
        ("- comb: one | two | three", []),
        ("- a large comb | a small comb", []),
        ("comb: a large comb | a small comb", []),
    ],
)
def test_pairs_are_lines_with_an_attribute_and_two_captions(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_pairs(Reply(text)) == pairs


def test_a_pair_that_was_cut_off_is_left_out() -> None:
    assert parse_pairs(Reply("- a: one | two\n- b: three | fo", "length")) == [("one", "two")]


LINES = st.lists(st.one_of(st.text(), st.text("-*•–—1.): |\n\"'*,; aé🦜", max_size=30)), max_size=6).map("\n".join)


@given(LINES, st.sampled_from(["stop", "length", "", "content_filter"]))
@settings(deadline=None, max_examples=300)
def test_no_reply_breaks_a_parser_or_gives_a_blank_text(text: str, reason: str) -> None:
    reply = Reply(text, reason)
    for feature in parse_bullets(reply):
        assert feature == feature.strip() != ""
    for first, second in parse_pairs(reply):
        assert first == first.strip() != "" and second == second.strip() != ""


@given(st.lists(st.from_regex(r"[a-z]{2,9}( [a-z]{2,9}){0,4}", fullmatch=True), max_size=7))
@settings(deadline=None, max_examples=60)
def test_a_list_that_was_written_as_asked_is_read_back(features: list[str]) -> None:
    assert parse_bullets(Reply("".join(f"- {feature}\n" for feature in features))) == features
    lines = "".join(f"- part: {feature} | not {feature}\n" for feature in features)
    assert parse_pairs(Reply(lines)) == [(feature, f"not {feature}") for feature in features]


@pytest.mark.skipif(not REPLIES.is_dir(), reason="the recorded replies are not part of the project")
@pytest.mark.parametrize("name", ["dclip_eurosat", "dclip_pets"])
def test_every_recorded_reply_gives_the_features_that_it_has_lines_for(name: str) -> None:
    lines = (REPLIES / f"{name}_replies.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        choice = json.loads(line)["response"]["body"]["choices"][0]
        text = choice["message"]["content"]
        expected = [part.strip("- \t") for part in text.splitlines() if part.lstrip().startswith("-")]
        assert len(expected) >= 3
        found = parse_bullets(Reply(text, choice["finish_reason"]))
        cut = choice["finish_reason"] == "length"
        kept = [feature.replace("**", "").rstrip(",;") for feature in expected][: len(expected) - cut]
        assert found == [feature for feature in kept if feature]
