"""How evaluations look: as a table with intervals, as JSON, and what is said beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from descbench.cli.tables import Cell, Table, aligned
from descbench.errors import InputError, listed, nearest

if TYPE_CHECKING:
    from descbench.comparison import Controlled
    from descbench.evaluation import Confidence, Curve, Evaluation
    from descbench.groups import Groups
    from descbench.published import Published

TITLES = {"top1": "top-1 %", "top5": "top-5 %", "per_class": "per class %"}
"""What the usual metrics are called; the others by their own names."""

KNOWN = (
    *("top1", "top5", "per_class", "macro_precision", "macro_f1", "ece", "nll", "ece_fitted", "nll_fitted"),
    *("auroc_score", "fpr95_score", "auroc_probability", "fpr95_probability"),
)
"""All that a run may have: which of them it has follows from its method and its images."""

BRIEF = ("top5",)
"""Shown without its interval where no metrics are asked for, so that the table fits into 100 columns."""

ASKED = ("nll_fitted", "ece_fitted", "auroc_score", "fpr95_score")
"""Shown beside the usual ones where a run has them, since somebody asked for them: by --calibrate, by --unknown."""

SHOWN = (0, 0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20, 39.75)  # of the 160 weights of a curve; all are in --json

COVERAGES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)  # shares of answered images that are shown

GROUPS = 10  # shown of each method, where there are more

Runs = Mapping[str, Sequence["Evaluation"]]
"""The runs of each method, one a seed."""


def head(results: Runs, title: str) -> str:
    """What was run, over how many images and classes, and what is left out."""
    first = _first(results)
    counts = first.counts
    left_out = [f"{counts[kind]} {kind}" for kind in ("unlabelled", "unreadable") if counts.get(kind)]
    text = f"{title}: {counts['images']} images, {len(first.predictions.vocabulary)} classes" + (
        f" ({', '.join(left_out)} left out)" if left_out else ""
    )
    if "limit" in counts:
        text += f"; a partial run: {counts['limit']} of {counts['available']} images, drawn by --limit"
    return text


def table(
    grid: Mapping[str, Runs],
    metrics: str = "",
    *,
    encoders: bool = False,
    published: Mapping[tuple[str, str], Published] | None = None,
) -> Table:
    """A row for each method with each encoder: its metrics in per cent with 95 % intervals, or over several seeds as
    mean and standard deviation. `metrics` names those that are shown, "all" of them or the usual ones; with
    `encoders` a column says which it is; `published` has figures of others, by encoder and method.
    """
    from descbench.comparison import spread

    runs = {(encoder, text): seeds for encoder, results in grid.items() for text, seeds in results.items()}
    there = dict.fromkeys(name for seeds in runs.values() for name in seeds[0].metrics)
    usual = [name for name in (there if metrics == "all" else (*TITLES, *ASKED)) if name in there]
    shown = check_metrics(metrics) or usual
    unread = _first(next(iter(grid.values()))).counts.get("unreadable", 0)
    columns = {"method": "method", "encoder": "encoder"} if encoders else {"method": "method"}
    for name in shown:
        columns[name] = TITLES.get(name, name) + ("" if not metrics and name in BRIEF else " [95 %]")
    columns["right"] = "right"
    if unread:
        columns["if_unreadable_wrong"] = f"% if {unread} unreadable are wrong"
    if published:
        columns["published"] = "published, top-1 %"
    columns["protocol"] = "protocol"
    rows = []
    for (encoder, text), seeds in runs.items():
        first = seeds[0]
        hits, images = spread([int(run.hits.sum()) for run in seeds])[0], len(first.labels)
        row = [Cell.of(called(text, seeds)), *([Cell.of(encoder)] if encoders else [])]
        row += [_measured(name, seeds, brief=not metrics and name in BRIEF) for name in shown]
        row.append(Cell(f"{hits:g} of {images}", {"": hits, "_of": images}))
        if unread:
            share = hits / (images + unread)
            row.append(Cell(f"{100 * share:.1f}", {"": share}))
        if published:
            row.append(_cited(published.get((encoder, text))))
        rows.append([*row, Cell.of(first.protocol)])
    widest = max(len(row[-1].text) for row in rows)
    # Protocols are read from the left.
    rows = [[*row[:-1], Cell(row[-1].text.ljust(widest), row[-1].values)] for row in rows]
    return Table(columns, rows)


def called(text: str, seeds: Sequence[Evaluation]) -> str:
    """What a row is called: as it was asked for, or by the title of its templates' file, with the number of seeds."""
    name = text if seeds[0].title == seeds[0].method else seeds[0].title
    return f"{name}, {len(seeds)} seeds" if len(seeds) > 1 else name


def _first(results: Runs) -> Evaluation:
    return next(iter(results.values()))[0]


def check_metrics(given: str) -> list[str]:
    """The metrics that are named; none for "" and "all". Raises `InputError` for one that there is not."""
    wanted = [] if given in ("", "all") else [name.strip() for name in given.split(",")]
    for name in wanted:
        if name not in KNOWN:
            raise InputError(f"no metric {name!r}{nearest(name, KNOWN) or '.'} There are: all, {listed(KNOWN, 40)}")
    return wanted


def _measured(name: str, seeds: Sequence[Evaluation], brief: bool) -> Cell:
    """A metric of the runs of a method; blank where it has none."""
    from descbench.comparison import spread
    from descbench.statistics import Quantity

    found = [run.metrics[name] for run in seeds if name in run.metrics]
    if not found:
        return Cell("")
    scale, digits = (1, 3) if isinstance(found[0], Quantity) else (100, 1)
    if len(found) > 1:
        mean, deviation = spread([metric.value for metric in found])
        assert deviation is not None
        text = f"{scale * mean:.{digits}f} ± {scale * deviation:.{digits}f}"
        return Cell(text, {"": mean, "_deviation": deviation})
    (metric,) = found
    values = {"": metric.value, "_low": metric.low, "_high": metric.high}
    return Cell(f"{scale * metric.value:.{digits}f}" if brief else str(metric), values)


def _cited(found: Published | None) -> Cell:
    return Cell("") if found is None else Cell(f"{found.top1:.2f}", {"": found.top1 / 100, "_source": found.source})


def control_table(text: str, rows: Sequence[Controlled]) -> str:
    """The controls of a method as text, a line each."""
    cells = [["control", "top-1 %, mean ± sd", "seeds", f"{text} is better by, points [95 %]"]]
    for row in rows:
        spread = "" if row.deviation is None else f" ± {100 * row.deviation:.1f}"
        cells.append([row.control, f"{100 * row.mean:.1f}{spread}", str(len(row.runs)), str(row.difference)])
    return f"controls of {text}, over seeds:\n{aligned(cells)}"


def groups_table(results: Mapping[str, Evaluation]) -> str:
    """Accuracy by group as text, and the worst group of each run; "" where no groups are known."""
    cells, sentences = [["method", "group", "images", "top-1 % [95 %]"]], []
    for name, result in results.items():
        if (found := result.groups) is None:
            continue
        few = found.rows if len(found.rows) <= GROUPS else (*found.rows[: GROUPS - 1], found.best)
        cells += [
            [name if i == 0 else "", row.name, f"{row.accuracy.n}", str(row.accuracy)] for i, row in enumerate(few)
        ]
        if more := len(found.rows) - len(few):
            cells.insert(-1, ["", f"({more} between; --json has all)", "", ""])
        sentences.append(f"{name}: {found.sentence}")
    if not sentences:
        return ""
    width = max(len(row[1]) for row in cells)
    cells = [[row[0], row[1].ljust(width), *row[2:]] for row in cells]  # names are read from the left
    return "\n".join(["by group, the worst first:", aligned(cells), *sentences])


def levels_table(results: Mapping[str, Evaluation]) -> str:
    """Accuracy at each level of the taxonomy as text; "" where there is none."""
    known = {name: result.levels() for name, result in results.items() if result.taxonomy is not None}
    if not known:
        return ""
    first = next(iter(known.values()))
    titles = [f"{level.nodes} {'classes' if level is first[-1] else 'groups'}" for level in first]
    brief = len(first) > 3  # intervals would not fit into 100 columns
    cells = [["method", *titles]]
    for name, levels in known.items():
        values = [f"{100 * level.accuracy.value:.1f}" if brief else str(level.accuracy) for level in levels]
        cells.append([name, *values])
    told = "top-1 %; --json has the intervals" if brief else "top-1 % [95 %]"
    return f"by level of the taxonomy, {told}:\n{aligned(cells)}"


def abstention_table(results: Mapping[str, Evaluation]) -> str:
    """Accuracy as text where the less sure answers are withheld, by how many are given."""
    cells = [["method", "sure by", *(f"{100 * coverage:.0f} %" for coverage in COVERAGES)]]
    for name, result in results.items():
        by = _sure_by(result)
        curve = result.abstention(by)
        found = [curve.at(coverage) for coverage in COVERAGES]
        # Of equal confidences all are answered or none: then it is not the share that was asked for.
        shares = [
            f"{100 * one.accuracy.value:.1f}"
            + (f" (at {100 * one.coverage:.0f} %)" if abs(one.coverage - wanted) > 0.02 else "")
            for one, wanted in zip(found, COVERAGES, strict=True)
        ]
        cells.append([name, by, *shares])
    told = "top-1 % where only the surest answers are given, by their share; --json has intervals and thresholds:"
    return f"{told}\n{aligned(cells)}"


def _sure_by(result: Evaluation) -> Confidence:
    return "margin" if result.softmax is None else "probability"


def curve_table(text: str, curve: Curve) -> str:
    """A curve as text: some of its weights and the best, a line each with a bar."""
    best = curve.best
    share = 100 * curve.right / curve.images
    title = (
        f"curve of {text} over w on {curve.dataset}, {curve.images} images: not a result, since its best "
        f"({share.max():.1f} at w = {best:g}) is tuned on this split"
    )
    cells = [["w", "top-1 %", ""]]
    for w, value in zip(curve.weights.tolist(), share.tolist(), strict=True):
        if w in SHOWN or w == best:
            cells.append([f"{w:g}", f"{value:.1f}", ("#" * round(value / 2.5)).ljust(40)])
    return f"{title}\n{aligned(cells)}"


def as_json(result: Evaluation) -> dict[str, Any]:
    """What a run is, and its figures: shares between 0 and 1."""
    by = _sure_by(result)
    curve, found = result.abstention(by), dict[str, Any]()
    if result.groups is not None:
        found["groups"] = groups_json(result.groups)
    if result.taxonomy is not None:
        found["levels"] = [asdict(level) for level in result.levels()]
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
        "abstention": {"by": by, "area": curve.area, "at": [asdict(curve.at(coverage)) for coverage in COVERAGES]},
        "counts": dict(result.counts),
        "failures": [list(failure) for failure in result.failures],
        **found,
    }


def groups_json(groups: Groups) -> dict[str, Any]:
    """Accuracy by group, the worst first, and how far the worst is behind the best."""
    return {
        "rows": [{"group": row.name, "right": row.right, **asdict(row.accuracy)} for row in groups.rows],
        "left_out": groups.left_out,
        "worst": groups.worst.name,
        "best": groups.best.name,
        "gap": groups.gap and {"value": groups.gap.value, "low": groups.gap.low, "high": groups.gap.high},
        "p": groups.p,
    }


def seeds_json(text: str, encoder: str, seeds: Sequence[Evaluation]) -> dict[str, Any]:
    """The mean and standard deviation of each metric over the runs of several seeds."""
    from descbench.comparison import spread

    spreads = {name: spread([run.metrics[name].value for run in seeds]) for name in seeds[0].metrics}
    return {
        "method": text,
        "encoder": encoder,
        "runs": [run.method for run in seeds],
        "metrics": {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in spreads.items()},
    }


def curve_json(curve: Curve) -> dict[str, Any]:
    """A curve with all of its weights."""
    return {
        "method": curve.method,
        "dataset": curve.dataset,
        "images": curve.images,
        "not_a_result": "the best weight is tuned on this split",
        "best": curve.best,
        "weights": curve.weights.tolist(),
        "right": curve.right.tolist(),
    }
