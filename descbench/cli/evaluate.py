"""`descbench evaluate`: methods side by side on one labelled data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import (
    DEFAULT_ENCODER,
    CacheDir,
    Classes,
    DescriptionFile,
    Device,
    Domain,
    Encoder,
    Json,
    Llm,
    Views,
    cache_dir,
    choose_classes,
    note,
    open_encoder,
    open_llm,
    print_json,
    progress_shown,
    usual_method,
)
from descbench.errors import DescbenchError, DescbenchWarning, InputError, listed
from descbench.progress import report

if TYPE_CHECKING:
    from descbench.evaluation import Controlled, Evaluation
    from descbench.methods import Cascade, Method

BASELINES = ("classname", "template('a photo of a {}.')", "templates")


def command(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data set: folder:PATH, features:FILE, demo.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="A method; several times for several of them.")
    ] = None,
    descriptions: DescriptionFile = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    classes: Classes = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="A csv file (label,class) from the data set's labels to classes.")
    ] = None,
    domain: Domain = "",
    baselines: Annotated[bool, typer.Option(help="Show the three baselines (name, template, templates) too.")] = True,
    controls: Annotated[
        bool, typer.Option("--controls", help="Say whether the meaning of the descriptions carries a method's gain.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder to keep the runs in.")] = None,
    device: Device = "auto",
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Score methods on a labelled data set, with 95 % intervals and paired differences.

    The classes are those of --classes, else of the descriptions, else of the labels file, else of the data set.
    Images are encoded once and kept: the same command again encodes nothing. With --controls each method is run with
    descriptions that are shuffled, drawn at random, shared, scrambled or without names, and with random words for them.

    Example: descbench evaluate folder:./photos -d birds.desc.json --method dclip --encoder demo
    """
    from descbench import spec
    from descbench.classifier import Classifier
    from descbench.embedding import embed
    from descbench.evaluation import RULE, controls_of, evaluate, label_ids, verdict

    source = spec.dataset(data)
    vocabulary, known = choose_classes(classes, descriptions, domain, labels, source)
    asked = method or ([] if known is None else [usual_method(known)])
    specs = dict.fromkeys([*(BASELINES if baselines or not asked else ()), *asked])
    methods = {text: spec.method(text) for text in specs}
    described = {text: kinds for text, built in methods.items() if controls and (kinds := controls_of(built))}
    if controls and not described:
        raise InputError(
            f"--controls needs a method with descriptions, as --method dclip; given: {listed(asked) or 'none'}"
        )
    chosen = encoder or ("demo" if data.partition(":")[0] == "demo" else DEFAULT_ENCODER)
    model = open_encoder(chosen, cache_dir(cache), device=device, views=views)
    language = open_llm(llm, cache_dir(cache)) if llm else None
    results: dict[str, Evaluation] = {}
    unavailable: dict[str, str] = {}
    # Whatever can be wrong with what was given is found before an image is read.
    label_ids(source.names, vocabulary, labels)
    classifiers = {
        text: Classifier(vocabulary, built, model, llm=language, descriptions=known, device=device)
        for text, built in methods.items()
    }
    with progress_shown():
        embedded = embed(source, model)
        for text, classifier in classifiers.items():
            classifier.descriptions = known or classifier.descriptions
            try:
                results[text] = evaluate(classifier, embedded, labels=labels)
            except DescbenchError as error:
                # A baseline that cannot be had (an encoder that knows some texts only) must not cost the answer.
                if text in asked:
                    raise
                unavailable[text] = str(error)
            else:
                if output is not None:
                    results[text].save(output / _folder_name(text, len(results)))
                known = classifier.descriptions
    if not results:
        raise InputError(f"no method could be run: {'; '.join(unavailable.values())}")
    first = next(iter(results.values()))
    usual = [results[text] for text in BASELINES if text in results]
    number = count(len(results))

    def run(control: Method | Cascade) -> Evaluation:
        classifier = Classifier(vocabulary, control, model, llm=language, descriptions=known, device=device)
        result = evaluate(classifier, embedded, labels=labels)
        if output is not None:
            result.save(output / _folder_name(result.method, next(number)))
        return result

    with progress_shown():
        controlled = run_controls({text: results[text] for text in described}, described, run, unavailable)
    verdicts = {text: verdict(results[text], usual, rows, text) for text, rows in controlled.items()}
    if json:
        found: dict[str, Any] = {"runs": [_as_json(result) for result in results.values()], "unavailable": unavailable}
        if controls:
            found["rule"] = RULE
            found["controls"] = {
                text: {"rows": [asdict(row) for row in rows], "verdict": verdicts[text]}
                for text, rows in controlled.items()
            }
        print_json(found)
    else:
        typer.echo(table(results, f"{data} with {model!r}"))
        for text, rows in controlled.items():
            typer.echo(f"\n{control_table(text, rows)}\n{verdicts[text]}")
        if controls:
            typer.echo(RULE)
    if unavailable:
        note(f"note: left out: {listed(unavailable)}. {next(iter(unavailable.values()))}")
    if output is not None:
        note(f"{next(number)} runs kept in {output}")
    if first.failures:
        shown = listed((f"{source}: {reason}" for source, reason in first.failures), 5)
        note(f"{len(first.failures)} images cannot be read and are not counted: {shown}")
        raise typer.Exit(3)


def table(results: dict[str, Evaluation], title: str) -> str:
    """The runs as text, a line each: top-1, top-5 and mean per-class accuracy in per cent with their intervals."""
    first = next(iter(results.values()))
    counts = first.counts
    left_out = [f"{counts[kind]} {kind}" for kind in ("unlabelled", "unreadable") if counts.get(kind)]
    head = f"{title}: {counts['images']} images, {len(first.predictions.vocabulary)} classes" + (
        f" ({', '.join(left_out)} left out)" if left_out else ""
    )
    metrics = {text: result.metrics for text, result in results.items()}
    shown = [name for name in ("top1", "top5", "per_class") if name in next(iter(metrics.values()))]
    title_of = {"top1": "top-1 % [95 %]", "top5": "top-5 % [95 %]", "per_class": "mean per class % [95 %]"}
    rows = [["method", *(title_of[name] for name in shown), "right", "protocol"]]
    for text, result in results.items():
        right = f"{int(result.hits.sum())} of {len(result.labels)}"
        rows.append([text, *(str(metrics[text][name]) for name in shown), right, result.protocol])
    return head + "\n" + aligned(rows)


def run_controls(
    results: dict[str, Evaluation],
    controls: dict[str, dict[str, list[Method | Cascade]]],
    run: Callable[[Method | Cascade], Evaluation],
    unavailable: dict[str, str],
) -> dict[str, list[Controlled]]:
    """The controls of each method, a row each; what two methods share is run once. What cannot be run is added to
    `unavailable`, and its row left out."""
    from descbench.evaluation import against

    kept: dict[str, Evaluation | None] = {}
    wanted = {repr(c): c for kinds in controls.values() for seeds in kinds.values() for c in seeds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)  # the method itself has said it
        for spelling, control in wanted.items():
            try:
                kept[spelling] = run(control)
            except DescbenchError as error:
                kept[spelling] = None
                unavailable[spelling] = str(error)
            report("running controls", len(kept), len(wanted))
    return {
        text: [
            against(results[text], name, runs)
            for name, seeds in kinds.items()
            if (runs := [done for control in seeds if (done := kept[repr(control)]) is not None])
        ]
        for text, kinds in controls.items()
    }


def control_table(text: str, rows: list[Controlled]) -> str:
    """The controls of a method as text, a line each."""
    cells = [["control", "top-1 %, mean ± sd", "seeds", f"{text} is better by, points [95 %]"]]
    for row in rows:
        spread = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
        cells.append([row.control, f"{100 * row.mean:.1f}{spread}", str(len(row.runs)), str(row.difference)])
    return f"controls of {text}, over seeds:\n{aligned(cells)}"


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells in columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _folder_name(spec: str, number: int) -> str:
    """A folder for a run: its number and the plain characters of its method."""
    plain = "".join(c if c.isalnum() else "-" for c in spec.lower()).strip("-")[:60]
    return f"{number:02d}-{plain}"


def _as_json(result: Evaluation) -> dict[str, Any]:
    return {
        "dataset": result.dataset,
        "method": result.method,
        "encoder": result.encoder,
        "llm": result.llm,
        "protocol": result.protocol,
        "right": int(result.hits.sum()),
        "images": len(result.labels),
        "metrics": {name: asdict(metric) for name, metric in result.metrics.items()},
        "counts": dict(result.counts),
        "failures": [list(failure) for failure in result.failures],
    }
