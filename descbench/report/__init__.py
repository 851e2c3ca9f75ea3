"""Evaluations as one HTML file that needs nothing else: no network, no server, no library."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup

from descbench.evaluation import Evaluation
from descbench.markup import clean, facts, name, shortened
from descbench.plugins import version_of
from descbench.report import sections
from descbench.report.runs import Run, Runs

__all__ = ["Run", "Runs", "render"]

HERE = Path(__file__).parent


def render(runs: Sequence[Run | Evaluation], focus: str = "") -> str:
    """The report of some runs as one HTML document.

    One run is shown in detail: the one with the highest accuracy, or the one whose title is `focus`; `InputError` where
    there is none. What a run does not hold has no section.
    """
    import jinja2

    found = Runs.of([run if isinstance(run, Run) else Run(run) for run in runs], focus)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"shortened": shortened, "capitalised": lambda text: text[:1].upper() + text[1:]}
    content = _content(found)
    return environment.get_template("page.html.jinja").render(
        **content,
        title=clean(f"{shortened(found.names[found.focus])} on {shortened(found.shown.result.dataset)}"),
        version=version_of("descbench"),
        # Both are files of ours; as the policy holds their hashes, nothing else is style or script here.
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
        contents=[(id_, text) for id_, text, section in _contents(content) if section],
    )


def _content(runs: Runs) -> dict[str, Any]:
    pictures = sections.pictures(runs.shown)
    classes = sections.classes(runs)
    repeat = sections.repeat(runs)
    chosen = {f"chosen: {what}": by for what, by in repeat["chosen"].items()}
    return {
        "heading": sections.heading(runs),
        "results": sections.results(runs),
        "grid": sections.grid(runs),
        "paired": sections.paired(runs),
        "confusion": sections.confusion(runs, pictures),
        "classes": classes,
        "data": json_data(classes["searched"]),
        "answers": sections.answers(runs, pictures),
        "descriptions": sections.descriptions(runs),
        "confidence": sections.confidence(runs),
        "groups": sections.groups(runs),
        "tables": [part for part in (sections.levels(runs), sections.open_set(runs)) if part],
        "controls": sections.controls(runs),
        "cost": sections.cost(runs),
        "left_out": sections.left_out(runs),
        "repeat": {
            "command": repeat["command"],
            "list": facts({term: name(text, 600) for term, text in (repeat["facts"] | chosen).items() if text}),
        },
    }


def _contents(content: dict[str, Any]) -> list[tuple[str, str, object]]:
    return [
        ("results", "Results", True),
        ("encoders", "Encoders", content["grid"]),
        ("differences", "Differences", content["paired"]),
        ("confused", "Confused", content["confusion"]),
        ("classes", "Classes", True),
        ("answers", "Answers", content["answers"]),
        ("descriptions", "Descriptions", content["descriptions"]),
        ("confidence", "Confidence", content["confidence"]),
        ("groups", "Groups of images", content["groups"]),
        *((part["id"], part["title"], True) for part in content["tables"]),
        ("controls", "Controls", content["controls"]),
        ("cost", "Cost", content["cost"]),
        ("left-out", "Left out", content["left_out"]),
        ("repeat", "Repeat", True),
    ]


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that allows this style, this script and pictures within the page, and no request."""
    style_hash, script_hash = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def json_data(data: object) -> Markup:
    """JSON that may stand inside a <script>: no character of it can end the element or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
