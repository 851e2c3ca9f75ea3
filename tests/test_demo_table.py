"""The table of all methods: its knowledge in every form, a control beside each method, and a place in a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import descbench as db
from descbench.demo import table
from descbench.demo.table import BEGIN, END, Row, Table, write
from descbench.errors import InputError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Table:
    """The table over 40 pictures, with the field guide in place of the language model, and a few rows."""
    rows = (Row("classname"), Row("dclip"), Row("classname", "genus", name="genus"))
    monkeypatch.setattr(table, "GROUPS", {"Some": rows})
    encoder = db.encoder("demo")

    def encode(views: str) -> Any:
        return encoder

    found = Table(None, encode, 40)
    found.__dict__["said"] = table.whole_guide()
    return found


def test_a_row_has_the_method_its_controls_and_its_protocol(small: Table) -> None:
    lines = list(small.lines())
    assert [line.count("|") for line in lines] == [lines[0].count("|")] * len(lines)
    name, described, genus = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[3:])
    assert name[0] == "`classname`" and not any(name[2:-1]) and name[-1] == "inductive"
    assert genus[0] == "genus" and genus[1].startswith("25.0 ")  # one of four species, by the order of the classes
    shuffled, *_, waffle = (float(cell.split()[0]) for cell in described[2:-1] if cell)
    assert float(described[1].split()[0]) > 80 > 60 > max(shuffled, waffle)


def test_captions_and_phrases_say_what_was_said(small: Table) -> None:
    features = small.given("features")
    captions = small.given("captions").classes
    assert captions[0][0] == f"a photo of a {small.vocabulary.names[0]} with {features.classes[0][0]}."
    told = db.Descriptions(pairs={(0, 1): (["a photo of a Bo ka with a beak with a hooked tip"], ["other words"])})
    small.__dict__["said"] = told
    assert small.given("phrases").pairs == {(0, 1): (["a beak with a hooked tip"], ["other words"])}


def test_a_table_is_written_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n", encoding="utf-8")
    write(page, iter(["| a |", "|---|"]))
    write(page, iter(["| b |", "|---|"]))
    assert page.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\n| b |\n|---|\n\n{END}\nafter\n"
    page.write_text("no place\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no lines"):
        write(page, iter([]))
