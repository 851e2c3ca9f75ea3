"""Filling a prompt leaves every name as it is, and a broken prompt is one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from descbench import prompts
from descbench.errors import InputError


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


@pytest.mark.parametrize("prompt", sorted(prompts.names()))
def test_a_shipped_prompt_has_the_slots_of_its_row_in_the_table(prompt: str) -> None:
    table = (prompts.folder() / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if line.startswith(f"| `{prompt}.txt` |")]
    assert set(prompts.load(prompt).get_identifiers()) == set(re.findall(r"`\$(\w+)`", row))
