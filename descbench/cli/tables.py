"""One table, four spellings: columns of text for a terminal, csv for programs, Markdown and LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import typer

from descbench.errors import InputError

Csv = Annotated[bool, typer.Option("--csv", help="Print the table as csv, each bound in a column of its own.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")]
Latex = Annotated[bool, typer.Option("--latex", help="Print the table in LaTeX, as a tabular that needs no package.")]

Form = Literal["text", "json", "csv", "markdown", "latex"]

_MARKDOWN = {character: f"\\{character}" for character in "\\`*_[]<>|~#"}
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


def form_of(*, json: bool, csv: bool, markdown: bool, latex: bool) -> Form:
    """The form that was asked for, text where none was. Raises `InputError` for two."""
    given: list[Form] = []
    for form, asked in (("json", json), ("csv", csv), ("markdown", markdown), ("latex", latex)):
        if asked:
            given.append(form)  # type: ignore[arg-type]  # the four names above are forms
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]} are two forms of the same; give one")
    return given[0] if given else "text"


@dataclass(frozen=True)
class Cell:
    """What people read, and what programs do: the values of csv, under the column's name with a suffix each."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object) -> Cell:
        """One value, the same for both."""
        return cls(str(value), {"": value})


@dataclass(frozen=True)
class Table:
    """Rows of cells. A column has a title for people and a name for programs."""

    columns: Mapping[str, str]  # name -> title
    rows: Sequence[Sequence[Cell]]

    def rendered(self, form: Form) -> str:
        """The table in one of its forms."""
        cells = [list(self.columns.values()), *([cell.text for cell in row] for row in self.rows)]
        if form == "csv":
            return self._csv()
        if form == "markdown":
            return _markdown(cells)
        return _latex(cells) if form == "latex" else aligned(cells)

    def _csv(self) -> str:
        """Each value in a column of its own: top1, top1_low, top1_high, ..."""
        names: list[str] = []
        for place, name in enumerate(self.columns):
            suffixes = dict.fromkeys(suffix for row in self.rows for suffix in row[place].values)
            names += [name + suffix for suffix in suffixes or ("",)]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            found = {name + suffix: value for name, cell in zip(self.columns, row, strict=True)
                     for suffix, value in cell.values.items()}  # fmt: skip
            writer.writerow(found)
        return text.getvalue().rstrip("\n")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    head, *body = [[_escaped(cell, _MARKDOWN) for cell in row] for row in rows]
    return "\n".join([line(head), line(["---", *("---:" for _ in head[1:])]), *map(line, body)])


def _latex(rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(_escaped(cell, _LATEX) for cell in row) + r" \\" for row in rows]
    # An empty group before "[", which would be read as an argument of the line break above it.
    head, *body = [f"{{}}{line}" if line.startswith(("[", "*")) else line for line in lines]
    columns = "l" + "r" * (len(rows[0]) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"]
    )


def _escaped(text: str, special: Mapping[str, str]) -> str:
    """On one line, with the characters that mean something there as themselves."""
    return "".join(special.get(character, character) for character in " ".join(text.split()))
