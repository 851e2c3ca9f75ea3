"""`descbench evaluate`: methods side by side on one labelled data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.bench import Bench, check_choices, check_views
from descbench.cli.common import (
    DEFAULT_ENCODER,
    CacheDir,
    Classes,
    Compile,
    DescriptionFile,
    Device,
    Domain,
    Encoder,
    Json,
    Limit,
    Llm,
    MaxRequests,
    Precision,
    Split,
    Strict,
    TemplateFile,
    Views,
    cache_dir,
    choose_classes,
    note,
    open_encoder,
    open_llm,
    print_json,
    progress_shown,
    use_templates,
    usual_method,
)
from descbench.errors import DescbenchError, DescbenchWarning, InputError, listed
from descbench.progress import report

if TYPE_CHECKING:
    from descbench.comparison import Controlled
    from descbench.evaluation import Curve, Evaluation
    from descbench.methods import Cascade, Method

BASELINES = ("classname", "template('a photo of a {}.')", "templates")
SHOWN = (0, 0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20, 39.75)  # of the 160 weights of a curve; all are in --json


def command(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A data set: folder:PATH, hf:ORG/NAME, ...: `descbench ls datasets`.")
    ],
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="A method; several times for several of them.")
    ] = None,
    descriptions: DescriptionFile = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    classes: Classes = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="A csv file (label,class) from the data set's labels to classes.")
    ] = None,
    split: Split = "",
    limit: Limit = None,
    strict: Strict = False,
    domain: Domain = "",
    baselines: Annotated[bool, typer.Option(help="Show the three baselines (name, template, templates) too.")] = True,
    controls: Annotated[
        bool, typer.Option("--controls", help="Say whether the meaning of the descriptions carries a method's gain.")
    ] = False,
    support: Annotated[
        str, typer.Option("--support", help="A labelled data set whose images select texts, for disclip.")
    ] = "",
    validation: Annotated[
        str, typer.Option("--validation", help="A labelled data set that chooses the weight w of disclip.")
    ] = "",
    curve: Annotated[
        bool, typer.Option("--curve", help="Show disclip at every weight w on the data set itself: not a result.")
    ] = False,
    templates: TemplateFile = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder to keep the runs in.")] = None,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Score methods on a labelled data set, with 95 % intervals and paired differences.

    The classes are those of --classes, else of the descriptions, else of the labels file, else of the data set.
    Images are encoded once and kept: the same command again encodes nothing. With --controls each method is run with
    descriptions that are shuffled, drawn at random, shared, scrambled or without names, and with random words for them.
    --support and --validation are other pictures than those of DATA; results name them. The weight w is chosen where it
    is left at its default; without --validation nothing is tuned.

    Example: descbench evaluate folder:./photos -d birds.desc.json --method dclip --encoder demo
    """
    from descbench import spec
    from descbench.comparison import RULE, controls_of, verdict
    from descbench.embedding import embed
    from descbench.evaluation import check_unseen, labels_of

    source = spec.dataset(data, split=split, limit=limit, strict=strict)
    vocabulary, known = choose_classes(classes, descriptions, domain, labels, source)
    asked = method or ([] if known is None else [usual_method(known)])
    specs = dict.fromkeys([*(BASELINES if baselines or not asked else ()), *asked])
    methods = use_templates({text: spec.method(text) for text in specs}, templates)
    check_choices(methods, support, validation, curve)
    check_views(methods, views)
    described = {text: kinds for text, built in methods.items() if controls and (kinds := controls_of(built))}
    if controls and not described:
        raise InputError(
            f"--controls needs a method with descriptions, as --method dclip; given: {listed(asked) or 'none'}"
        )
    chosen = encoder or ("demo" if data.partition(":")[0] == "demo" else DEFAULT_ENCODER)
    model = open_encoder(chosen, cache_dir(cache), device=device, precision=precision, compile=compile, views=views)
    language = open_llm(llm, cache_dir(cache), max_requests) if llm else None
    results: dict[str, Evaluation] = {}
    unavailable: dict[str, str] = {}
    # Whatever can be wrong with what was given is found before an image of the data set is read.
    labels_of(source, vocabulary, labels)
    bench = Bench(vocabulary, model, language, known, labels, device, output)
    with progress_shown():
        bench.choose_by(support, validation, strict)
        classifiers = {text: bench.classifier(built) for text, built in methods.items()}
        embedded = embed(source, model)
        check_unseen(embedded, bench.support, bench.validation)
        for text, classifier in classifiers.items():
            try:
                ready = bench.ready(classifier)
                results[text] = bench.run(ready, embedded, text)
            except DescbenchError as error:
                # A baseline that cannot be had (an encoder that knows some texts only) must not cost the answer.
                if text in asked:
                    raise
                unavailable[text] = str(error)
            else:
                classifiers[text], bench.known = ready, ready.descriptions
        curves = bench.curves(classifiers, embedded) if curve else {}
    if not results:
        raise InputError(f"no method could be run: {'; '.join(unavailable.values())}")
    first = next(iter(results.values()))
    usual = [results[text] for text in BASELINES if text in results]

    def run(control: Method | Cascade) -> Evaluation:
        return bench.run(bench.ready(bench.classifier(control)), embedded)

    with progress_shown():
        controlled = run_controls({text: results[text] for text in described}, described, run, unavailable)
    verdicts = {text: verdict(results[text], usual, rows, text) for text, rows in controlled.items()}
    if json:
        found: dict[str, Any] = {"runs": [_as_json(result) for result in results.values()], "unavailable": unavailable}
        if curve:
            found["curves"] = {text: _curve_json(one) for text, one in curves.items()}
        if controls:
            found["rule"] = RULE
            found["controls"] = {
                text: {"rows": [asdict(row) for row in rows], "verdict": verdicts[text]}
                for text, rows in controlled.items()
            }
        print_json(found)
    else:
        typer.echo(table(results, f"{data} with {model!r}"))
        for text, result in results.items():
            if result.ties:
                typer.echo(f"{text}: {result.ties} ties: the best two scores are nearer than 1e-6, rounding may decide")
        for text, one in curves.items():
            typer.echo(f"\n{curve_table(text, one)}")
        for text, rows in controlled.items():
            typer.echo(f"\n{control_table(text, rows)}\n{verdicts[text]}")
        if controls:
            typer.echo(RULE)
    if unavailable:
        note(f"note: left out: {listed(unavailable)}. {next(iter(unavailable.values()))}")
    if output is not None:
        note(f"{bench.kept} runs kept in {output}")
    if first.failures:
        shown = listed((f"{source}: {reason}" for source, reason in first.failures), 5)
        note(f"{len(first.failures)} images cannot be read and are not among those scored: {shown}")
    if first.failures or bench.failed:
        raise typer.Exit(3)


def table(results: dict[str, Evaluation], title: str) -> str:
    """The runs as text, a line each: top-1, top-5 and mean per-class accuracy in per cent with their intervals."""
    first = next(iter(results.values()))
    counts = first.counts
    left_out = [f"{counts[kind]} {kind}" for kind in ("unlabelled", "unreadable") if counts.get(kind)]
    head = f"{title}: {counts['images']} images, {len(first.predictions.vocabulary)} classes" + (
        f" ({', '.join(left_out)} left out)" if left_out else ""
    )
    if "limit" in counts:
        head += f"; a partial run: {counts['limit']} of {counts['available']} images, drawn by --limit"
    metrics = {text: result.metrics for text, result in results.items()}
    shown = [name for name in ("top1", "top5", "per_class") if name in next(iter(metrics.values()))]
    title_of = {"top1": "top-1 % [95 %]", "top5": "top-5 % [95 %]", "per_class": "mean per class % [95 %]"}
    unread = counts.get("unreadable", 0)
    against = [f"% if {unread} unreadable are wrong"] if unread else []
    rows = [["method", *(title_of[name] for name in shown), "right", *against, "protocol"]]
    for text, result in results.items():
        hits, images = int(result.hits.sum()), len(result.labels)
        called = text if result.title == result.method else result.title  # templates are named by their file
        cells = [str(metrics[text][name]) for name in shown] + [f"{hits} of {images}"]
        rows.append([called, *cells, *(f"{100 * hits / (images + unread):.1f}" for _ in against), result.protocol])
    widest = max(len(row[-1]) for row in rows)
    rows = [[*row[:-1], row[-1].ljust(widest)] for row in rows]  # protocols are read from the left
    return head + "\n" + "\n".join(line.rstrip() for line in aligned(rows).splitlines())


def run_controls(
    results: dict[str, Evaluation],
    controls: dict[str, dict[str, list[Method | Cascade]]],
    run: Callable[[Method | Cascade], Evaluation],
    unavailable: dict[str, str],
) -> dict[str, list[Controlled]]:
    """The controls of each method, a row each; what two methods share is run once. What cannot be run is added to
    `unavailable`, and its row left out."""
    from descbench.comparison import against

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


def curve_table(text: str, curve: Curve) -> str:
    """A curve as text: some of its weights and the best, a line each with a bar."""
    best = curve.best
    share = 100 * curve.right / curve.images
    head = (
        f"curve of {text} over w on {curve.dataset}, {curve.images} images: not a result, since its best "
        f"({share.max():.1f} at w = {best:g}) is tuned on this split"
    )
    cells = [["w", "top-1 %", ""]]
    for w, value in zip(curve.weights.tolist(), share.tolist(), strict=True):
        if w in SHOWN or w == best:
            cells.append([f"{w:g}", f"{value:.1f}", ("#" * round(value / 2.5)).ljust(40)])
    return head + "\n" + "\n".join(line.rstrip() for line in aligned(cells).splitlines())


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells in columns, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _as_json(result: Evaluation) -> dict[str, Any]:
    return {
        "dataset": result.dataset,
        "method": result.method,
        "title": result.title,
        "encoder": result.encoder,
        "llm": result.llm,
        "protocol": result.protocol,
        "chosen": {what: dict(by) for what, by in result.chosen.items()},
        "ties": result.ties,
        "compute": dict(result.compute),
        "right": int(result.hits.sum()),
        "images": len(result.labels),
        "metrics": {name: asdict(metric) for name, metric in result.metrics.items()},
        "counts": dict(result.counts),
        "failures": [list(failure) for failure in result.failures],
    }


def _curve_json(curve: Curve) -> dict[str, Any]:
    return {
        "method": curve.method,
        "dataset": curve.dataset,
        "images": curve.images,
        "not_a_result": "the best weight is tuned on this split",
        "best": curve.best,
        "weights": curve.weights.tolist(),
        "right": curve.right.tolist(),
    }
