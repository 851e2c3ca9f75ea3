"""Every method on the aviary beside its own controls: `make methods-table` writes them into docs/methods-table.md.

    descbench demo --every [--into docs/methods-table.md]

All methods get the same knowledge. What the demo's language model said of each bird, and of each two, is put into the
form that a method takes, since that model answers two prompts only: so rows differ by the method, not by the asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from descbench import spec
from descbench.classifier import Classifier
from descbench.comparison import Controlled, against, controls_of
from descbench.demo.tour import whole_guide
from descbench.demo.truth import CAPTION
from descbench.descriptions import Descriptions
from descbench.embedding import Embedded, embed
from descbench.errors import InputError
from descbench.evaluation import Evaluation, evaluate
from descbench.generation import generate
from descbench.methods.cascade import stages_of
from descbench.progress import report
from descbench.vocabulary import Vocabulary

CONTROLS = ("shuffled", "random_descriptions", "shared", "scrambled", "nameless", "own", "waffle")
BEGIN, END = "<!-- what `make methods-table` writes begins here -->", "<!-- and ends here -->"


@dataclass(frozen=True)
class Row:
    """A method as it is spelled, what it is given, and how it looks at pictures."""

    method: str
    given: str = "features"  # features, captions, guide, genus: see `Table.given`
    views: str = ""
    support: bool = False
    name: str = ""  # where the spelling alone does not say it

    @property
    def title(self) -> str:
        parts = [self.name or f"`{self.method}`", f"views {self.views}" if self.views else ""]
        return ", ".join(part for part in parts if part)


GROUPS: Mapping[str, tuple[Row, ...]] = {
    "Names only": (
        Row("classname"),
        Row("template"),
        Row("templates"),
        Row("waffle"),
    ),
    "A description of each class": (
        Row("dclip"),
        *(Row(f"dclip(pool={pool!r})") for pool in ("mean_feature", "max_score", "mean_prob")),
        Row("cupl", "captions"),
        Row("cupl(with_templates=True)", "captions"),
        Row("adaptclipzs", "captions"),
        Row("waffle_and(dclip)"),
        Row("wca(dclip)"),
    ),
    "Many views of a picture": (
        Row("dclip", views="crops(60)"),
        Row("wca(dclip)", views="crops(60)"),
        Row("awt(dclip)", views="resized(50)"),
        Row("awt(cupl)", "captions", views="resized(50)"),
    ),
    "With 4 labelled pictures a class": (
        Row("select_fewshot(dclip)", support=True),
        Row("disclip(w=0)", support=True),
        Row("disclip", support=True),
        Row("disclip(named=True)", support=True),
        Row("disclip(own=True)"),
    ),
    "What tells classes apart": (
        Row("comparative", "phrases"),
        Row("differential"),
        Row("fudd(k=3)"),
        Row("fudd(k=5)"),
        Row("fudd"),
        Row("cascade(dclip, differential, k=5)"),
        Row("cascade(dclip, differential, k=5, margin=0.01)"),
    ),
    "Why some rows are as they are": (
        Row("dclip", "guide", name="`dclip` with the whole field guide"),
        Row("dclip", "genus", name="`dclip`, the name of the genus for each of its species"),
        Row("classname", "genus", name="`classname`, the name of the genus for each of its species"),
    ),
}


@dataclass
class Table:
    """The rows, run one after the other; `llm` and `encode(views)` are those spelled "demo", wrapped in caches."""

    llm: Any
    encode: Any
    images: int
    _embedded: dict[tuple[str, str], Embedded] = field(default_factory=dict)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(spec.dataset("demo").names, "birds")

    @cached_property
    def said(self) -> Descriptions:
        """What the language model says of each bird, and of each two."""
        told = [generate(self.vocabulary, spec.method(method), self.llm) for method in ("dclip", "differential")]
        return told[0].merged(told[1])

    def given(self, form: str) -> Descriptions:
        """That in the form that a method takes: features, captions of one bird, or phrases that tell two apart."""
        if form == "guide":
            return whole_guide()
        name = self.vocabulary.name
        if form == "captions":
            captions = {i: [f"a photo of a {name(i)} with {text}." for text in texts]
                        for i, texts in self.said.classes.items()}  # fmt: skip
            return replace(self.said, classes=captions)
        if form == "phrases":
            phrases = {pair: (_phrases(first), _phrases(second)) for pair, (first, second) in self.said.pairs.items()}
            return replace(self.said, pairs=phrases)
        return self.said

    def pictures(self, data: str, views: str) -> Embedded:
        if (data, views) not in self._embedded:
            self._embedded[data, views] = embed(spec.dataset(data), self.encode(views))
        return self._embedded[data, views]

    def run(self, row: Row, method: Any = None) -> Evaluation:
        """A row, or a control of it in its place."""
        vocabulary, given = self.vocabulary, self.given(row.given)
        if row.given == "genus":
            vocabulary = Vocabulary([name.split()[0] for name in vocabulary.names], vocabulary.domain)
            given = replace(given, names=dict(vocabulary))
        built = method if method is not None else spec.method(row.method)
        support = None
        if row.support and any(stage.needs_support for stage in stages_of(built)):
            shown = self.pictures(f"demo:n={4 * len(vocabulary)},seed=2", row.views)
            support = (shown.features, vocabulary.ids[shown.labels])
        classifier = Classifier(vocabulary, built, self.encode(row.views), None, given, support)
        pictures = self.pictures(f"demo:n={self.images}", row.views)
        if row.given == "genus":
            pictures = replace(pictures, dataset=_Renamed(pictures.dataset, vocabulary.names))
        return evaluate(classifier, pictures)

    def lines(self) -> Iterator[str]:
        """The table in Markdown."""
        rows = [row for group in GROUPS.values() for row in group]
        yield "| method | top-1 % [95 %] | " + " | ".join(CONTROLS) + " | protocol |"
        yield "|---|---|" + "---|" * (len(CONTROLS) + 1)
        done = 0
        for group, members in GROUPS.items():
            yield f"| **{group}** |" + " |" * (len(CONTROLS) + 2)
            for row in members:
                result = self.run(row)
                found = self.controls(row, result) if row.given != "genus" else {}
                cells = [_cell(found.get(control)) for control in CONTROLS]
                yield f"| {row.title} | {result.metrics['top1']} | {' | '.join(cells)} | {result.protocol} |"
                done += 1
                report("running methods", done, len(rows))

    def controls(self, row: Row, result: Evaluation) -> dict[str, Controlled]:
        """The controls of a row by name."""
        found = {}
        for name, kinds in controls_of(spec.method(row.method)).items():
            try:
                found[name] = against(result, name, [self.run(row, one) for one in kinds])
            except InputError:  # a control that this method cannot have: `disclip` without the name is disclip(w=0)
                continue
        return found


class _Renamed:
    """A data set whose classes are called otherwise; classes of one name stay apart by their order."""

    def __init__(self, dataset: Any, names: tuple[str, ...]) -> None:
        self.dataset, self.names = dataset, names

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __repr__(self) -> str:
        return repr(self.dataset)


def _phrases(captions: list[str]) -> list[str]:
    """What the captions of a bird say of it: "a photo of a Bo with red legs" says "red legs"."""
    return [match["phrase"] if (match := CAPTION.match(text)) else text for text in captions]


def _cell(control: Controlled | None) -> str:
    """A control's top-1 as mean and deviation; one that is above its method beyond chance is marked."""
    if control is None:
        return ""
    spread = "" if control.deviation is None else f" ± {100 * control.deviation:.1f}"
    text = f"{100 * control.mean:.1f}{spread}"
    return f"**{text}** ↑" if control.difference.high < 0 else text


def write(path: Path, lines: Iterator[str]) -> None:
    """Put the lines between the two marks of a file; what people wrote around them stays."""
    text = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"{path} has no lines {BEGIN!r} and {END!r} to write between; add them where it belongs")
    made = "\n".join(lines)
    path.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{made}\n\n{END}", text), encoding="utf-8")
