"""What a report says, section by section: from runs to rows of text and charts; None where a run has nothing to say."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from descbench.calibration import Softmax
from descbench.comparison import Comparison, Controlled, against, compare, verdict
from descbench.descriptions import Descriptions
from descbench.edits import edited
from descbench.errors import DescbenchError, counted
from descbench.evaluation import Confidence
from descbench.groups import Groups
from descbench.markup import clean, element, name, shortened, table
from descbench.methods.cascade import stages_of
from descbench.published import dataset_of, published
from descbench.report import gallery, shapes
from descbench.report.runs import Run, Runs, alike, base_of, is_baseline
from descbench.spec import method as spelled
from descbench.statistics import Metric, p_value
from descbench.worth import Use

ENDS = 30  # classes at either end of the chart, where there are many
TEXTS = 3_000  # of descriptions
USES = 8  # at either end of what they are worth
PAIRS = 8  # of confused classes
BINS = 15  # of a reliability diagram, as in the metric
POINTS = 150  # of a curve
SAID = 12  # warnings at once
FEWEST = 10  # images from which a diagram says something
CLASSES = 20_000  # that the search looks through
WHOSE = {"answer": "of the answer", "rival": "of the other", "both": "of both"}
TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "per_class": "mean per class",
    "macro_precision": "macro precision",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "nll": "log loss",
}


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def span(low: float, high: float, sign: bool = False) -> str:
    show = points if sign else percent
    return f"{show(low)} to {show(high)}"


def similarity(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")


def seconds(value: float) -> str:
    return "< 0.1" if 0 < value < 0.05 else f"{value:,.1f}"


def heading(runs: Runs) -> dict[str, Any]:
    """The title, and the result in one or two plain sentences."""
    result = runs.shown.result
    top = result.metrics["top1"]
    lead = (
        f" is right in {percent(top.value)}\u00a0% of {top.n:,} images of "
        f"{len(result.predictions.vocabulary):,} classes (95\u00a0% interval {span(top.low, top.high)})."
    )
    found: dict[str, Any] = {
        "dataset": name(result.dataset),
        "method": name(runs.names[runs.focus]),
        "lead": lead,
        "beside": "",
    }
    if runs.base != runs.focus:
        base = runs.main[runs.base]
        compared = compare([base.result, result], [runs.names[runs.base], runs.names[runs.focus]])
        ((called, one),) = compared.differences.items()
        found["beside"] = clean(one.conclusion(called, compared.base))
    return found


def results(runs: Runs) -> dict[str, Any]:
    """Every method with its interval, on one axis."""
    tops = [run.result.metrics["top1"] for run in runs.main]
    axis = shapes.Axis.around([end for top in tops for end in (top.low, top.high)], 0, 1)
    others = [key for key in ("top5", "per_class", "ece") if any(key in run.result.metrics for run in runs.main)]
    datasets = {run.result.dataset for run in runs.main}
    protocols = {run.result.protocol for run in runs.main}
    others_found = [_published(run) for run in runs.main]
    rows: list[dict[str, Any]] = []
    for i, (run, top) in enumerate(zip(runs.main, tops, strict=True)):
        metrics = run.result.metrics
        rows.append(
            {
                "name": name(runs.titles[i]),
                "focus": i == runs.focus,
                "dataset": name(run.result.dataset) if len(datasets) > 1 else "",
                "value": percent(top.value),
                "span": span(top.low, top.high),
                "chart": shapes.interval(axis, top.value, top.low, top.high, kind="ours" if i == runs.focus else ""),
                "others": [_metric(metrics[key]) if key in metrics else "–" for key in others],
                "right": f"{int(run.result.hits.sum()):,} of {top.n:,}",
                "protocol": name(run.result.protocol, 200) if protocols != {"inductive"} else "",
                "published": name(others_found[i], 200),
            }
        )
    return {
        "parts": [(name(title) if title else "", [rows[i] for i in places]) for title, places in runs.parts],
        "others": [TITLES[key] for key in others],
        "scale": shapes.scale(axis),
        "datasets": len(datasets) > 1,
        "protocols": protocols != {"inductive"},
        "published": any(others_found),
    }


def _metric(metric: Metric) -> str:
    return percent(metric.value)


def _published(run: Run) -> str:
    """What others have published of the same method, data set and backbone, and who; "" where nothing is known."""
    result = run.result
    given = result.specification
    if any(given.get(what) for what in ("limit", "split", "views", "labels")):  # other images or classes than theirs
        return ""
    data, encoder = (str(given.get(what, "")) for what in ("data", "encoder"))
    if not (dataset := dataset_of(data or result.dataset)):
        return ""
    found = published(dataset, encoder or result.encoder).get(result.method)
    return "" if found is None else str(found)


def grid(runs: Runs) -> dict[str, Any] | None:
    """Methods by encoders, where there are several encoders."""
    same = [run for run in runs.main if run.images == runs.shown.images]
    encoders = list(dict.fromkeys(run.result.encoder for run in same))
    if len(encoders) < 2:
        return None
    values = {(run.result.title, run.result.encoder): float(run.result.hits.mean()) for run in same}
    titles = list(dict.fromkeys(run.result.title for run in same))
    low, high = min(values.values()), max(values.values())
    rows = []
    for title in titles:
        cells = []
        for encoder in encoders:
            value = values.get((title, encoder))
            level = 0 if value is None else round(8 * (value - low) / ((high - low) or 1))
            cells.append(("–" if value is None else percent(value), level))
        rows.append((name(title), cells))
    return {"encoders": [name(encoder, 60) for encoder in encoders], "rows": rows}


def paired(runs: Runs) -> list[dict[str, Any]] | None:
    """Of each encoder, every run against its first baseline, image by image."""
    found = []
    done: set[int] = set()
    for i, run in enumerate(runs.main):
        if i in done:
            continue
        same = [j for j, other in enumerate(runs.main) if alike(run, other)]
        done |= set(same)
        base = base_of(runs.main, i)
        order = [base, *(j for j in same if j != base)]
        if len(order) < 2:
            continue
        compared = compare([runs.main[j].result for j in order], [runs.titles[j] for j in order])
        found.append(_paired(compared) | {"encoder": name(run.result.encoder) if len(runs.parts) > 1 else ""})
    return found or None


def _paired(compared: Comparison) -> dict[str, Any]:
    every = compared.differences.values()
    axis = shapes.Axis.around([0.0, *(end for one in every for end in (one.low, one.high))], -1, 1)
    rows = [
        {
            "name": name(called),
            "value": points(one.value),
            "span": span(one.low, one.high, sign=True),
            "chart": shapes.interval(axis, one.value, one.low, one.high, zero=0.0, kind="ours" if one.shown else ""),
            "gained": f"{one.gained:,}",
            "lost": f"{one.lost:,}",
            "p": p_value(one.p_holm),
        }
        for called, one in compared.differences.items()
    ]
    return {
        "base": name(compared.base),
        "rows": rows,
        "scale": shapes.scale(axis, signed=True),
        "conclusions": [clean(sentence) for sentence in compared.conclusions],
        "corrected": len(rows) > 1,
    }


def confusion(runs: Runs, pictures: Mapping[str, str]) -> dict[str, Any] | None:
    """The pairs of classes that are confused most, with pictures of them where the gallery has some."""
    pairs = runs.shown.result.confusion(PAIRS)
    if not pairs:
        return None
    n = {row.id: row.n for row in runs.shown.result.per_class}
    shown = runs.shown.shown
    rows = []
    for pair in pairs:
        samples = [
            (one, pictures[one.id])
            for one in shown
            if one.kind == "wrong" and (one.label, one.answer) == (pair.label, pair.answer) and one.id in pictures
        ]
        rows.append(
            {
                "label": name(pair.label),
                "answer": name(pair.answer),
                "count": f"{pair.count:,}",
                "share": percent(pair.count / n[pair.label_id], 0),
                "chart": shapes.bar(pair.count / n[pair.label_id]),
                "pictures": [(url, f"{one.label}, answered as {one.answer}") for one, url in samples[:3]],
            }
        )
    wrong = int((~runs.shown.result.hits).sum())
    return {"rows": rows, "wrong": f"{wrong:,}", "pictures": any(row["pictures"] for row in rows)}


def classes(runs: Runs) -> dict[str, Any]:
    """Each class, the worst first, with what the baseline scores beside; of many the worst and the best, and all of
    them for the search."""
    result = runs.shown.result
    every = [row for row in result.per_class if row.n]
    base = {}
    if runs.base != runs.focus:
        other = runs.main[runs.base].result
        base = {row.id: row.right / row.n for row in other.per_class if row.n}
    every.sort(key=lambda row: (row.right / row.n, -row.n))
    many = len(every) > 2 * ENDS
    parts = [("The worst", every[:ENDS]), ("The best", every[-ENDS:])] if many else [("", every)]
    charts = [
        {
            "title": title,
            "rows": [
                {
                    "name": name(row.name, 60),
                    "n": f"{row.n:,}",
                    "value": percent(row.right / row.n, 0),
                    "chart": shapes.bar(row.right / row.n, base.get(row.id)),
                    "precision": "–" if row.precision is None else percent(row.precision, 0),
                    "confused": name(row.confused_with, 40) if row.confused_with else "",
                    "often": f"{row.confused:,}" if row.confused_with else "",
                }
                for row in rows
            ],
        }
        for title, rows in parts
    ]
    searched = (
        [
            [clean(row.name)[:200], row.n, row.right, row.answered, clean(row.confused_with)[:200], row.confused]
            for row in every[:CLASSES]
        ]
        if many
        else []
    )
    return {
        "charts": charts,
        "base": name(runs.names[runs.base]) if base else "",
        "all": f"{len(every):,}",
        "without": len(result.predictions.vocabulary) - len(every),
        "searched": searched,
        "cut": f"{CLASSES:,}" if many and len(every) > CLASSES else "",
    }


def answers(runs: Runs, pictures: Mapping[str, str]) -> dict[str, Any] | None:
    """Single images with answers and reasons."""
    shown = runs.shown.shown
    if not shown:
        return None
    cards: list[dict[str, Any]] = []
    for one in shown:
        largest = max((abs(reason.contribution) for reason in one.reasons), default=0.0)
        kinds = [one.kind, *(["changed"] if one.changed else [])]
        if one.changed:
            kinds.append("mended" if one.kind == "right" else "first-right" if one.first == one.label else "")
        cards.append(
            {
                "kinds": " ".join(filter(None, kinds)),
                "right": one.kind == "right",
                "changed": one.changed,
                "label": name(one.label, 80),
                "key": clean(one.label),
                "answer": name(one.answer, 80),
                "answer_key": clean(one.answer),
                "first": name(one.first, 80),
                "rival": name(one.rival, 60),
                "source": name(one.source, 80),
                "url": pictures.get(one.id, ""),
                "alt": clean(f"picture of {one.label}")[:160],
                "reasons": [
                    {
                        "text": name(reason.text, 300),
                        "of": WHOSE.get(reason.of, ""),
                        "value": f"{reason.contribution:+.4f}".replace("-", "−"),
                        "chart": shapes.signed(reason.contribution, largest),
                    }
                    for reason in one.reasons
                ],
                "stage": name(one.stage, 120),
                "best": [(name(called, 60), f"{score:.4f}") for called, score in one.scores],
            }
        )
    counts = {kind: sum(kind in card["kinds"].split() for card in cards) for kind in ("right", "wrong", "changed")}
    return {
        "cards": cards,
        "counted": counts,
        "classes": sorted({clean(c) for one in shown for c in (one.label, one.answer)}),
        "pictures": any(card["url"] for card in cards),
        "of": f"{len(runs.shown.result.ids):,}",
    }


def pictures(run: Run) -> dict[str, str]:
    """The thumbnails of a run as data URLs, by the ids of their images."""
    if run.folder is None:
        return {}
    found = {}
    for one in run.shown:
        if (content := gallery.picture(run.folder, one)) is not None:
            found[one.id] = "data:image/jpeg;base64," + base64.b64encode(content).decode()
    return found


def descriptions(runs: Runs) -> dict[str, Any] | None:
    """The descriptions of the classes, the worst classes first, what each text is worth, and what a person wrote."""
    run = runs.shown
    told = _texts(run)
    if told is None or not told.classes:
        return None
    of = _used(runs)
    known = {(use.id, use.description): use for use in of.uses} if of else {}
    by_hand = edited(told)
    right = {row.id: row.right / row.n for row in run.result.per_class if row.n}
    names = dict(run.result.predictions.vocabulary)
    order = sorted(told.classes, key=lambda id_: right.get(id_, 2.0))
    parts, texts = [], 0
    for id_ in order:
        if texts + len(told.classes[id_]) > TEXTS:
            break
        texts += len(told.classes[id_])
        mine = set(by_hand.get((id_,), ()))
        said = [counted(len(told.classes[id_]), "text")]
        said += [f"{len(mine)} edited"] if mine else []
        said += [f"{percent(right[id_], 0)} % right"] if id_ in right else []
        parts.append(
            {
                "name": name(names.get(id_, told.names.get(id_, id_)), 80),
                "called": shortened(names.get(id_, told.names.get(id_, id_)), 80),
                "said": ", ".join(said),
                "rows": [_text(text, known.get((id_, text)), text in mine) for text in told.classes[id_]],
            }
        )
    lines = sum(len(mine) for side, mine in by_hand.items() if len(side) == 1)  # of classes, as all that is shown
    every = sum(map(len, told.classes.values()))
    moving = [use for use in (of.uses if of else ()) if use.gained or use.lost]
    moving.sort(key=lambda use: (-use.worth, use.id, use.number))
    best = [use for use in moving if use.worth > 0][:USES]
    worst = [use for use in moving if use.worth < 0][-USES:][::-1]
    return {
        "count": f"{counted(every, 'text')} of {counted(len(told.classes), 'class')}"
        + (f", of which a person wrote or changed {lines:,}" if lines else ""),
        "of": name(of.result.title) if of and of is not run else "",
        "why": clean(run.without_uses),
        "known": bool(known),
        "ranked": [
            (title, [(name(use.name, 60), _text(use.description, use, use.edited)) for use in found])
            for title, found in (("Worth most", best), ("Worth least", worst))
            if found
        ],
        "idle": f"{len(of.uses) - len(moving):,}" if of else "",
        "classes": parts,
        "more": f"{len(told.classes) - len(parts):,}" if len(parts) < len(told.classes) else "",
    }


def _texts(run: Run) -> Descriptions | None:
    """The copy of the descriptions beside a run."""
    kept = run.result.specification.get("descriptions")
    path = run.folder / str(kept["file"]) if run.folder and isinstance(kept, dict) and "file" in kept else None
    return Descriptions.load(path) if path and path.is_file() else None


def _used(runs: Runs) -> Run | None:
    """The run that says what descriptions are worth: the one shown or, of a follow-up, that of its first stage."""
    if runs.shown.uses:
        return runs.shown
    first = _first_stage(runs)
    return first if first and first.uses else None


def _first_stage(runs: Runs) -> Run | None:
    """Of a follow-up, the run of its first stage over the same images by the same encoder, where there is one."""
    run = runs.shown
    try:
        first, *more = stages_of(spelled(run.result.method))
    except DescbenchError:
        return None
    same = (one for one in runs.main if more and alike(one, run) and one.result.method == repr(first))
    return next(same, None)


def _text(text: str, use: Use | None, by_hand: bool) -> dict[str, Any]:
    return {
        "text": name(text, 400),
        "edited": by_hand,
        "own": "" if use is None or use.own != use.own else similarity(use.own),
        "other": "" if use is None or use.others != use.others else similarity(use.others),
        "gained": "" if use is None else f"{use.gained:,}",
        "lost": "" if use is None else f"{use.lost:,}",
    }


def confidence(runs: Runs) -> dict[str, Any] | None:
    """Whether confidence is worth something: is it as often right as it says, and does it tell right from wrong?"""
    result = runs.shown.result
    if len(result.labels) < FEWEST:
        return None
    figures = []
    of = runs.shown if result.softmax is not None else _first_stage(runs)
    without = ""
    if of is not runs.shown:
        without = "There are no probabilities after a follow-up, since its scores are of some classes only"
        without += f"; those of {clean(of.result.title)}, its first stage, stand beside." if of else "."
    if of is not None and of.result.softmax is not None:
        whose = "" if of is runs.shown else f" of {clean(of.result.title)}, the first stage"
        figures.append(_reliability(of, of.result.softmax, f"Reliability{whose}", "ece"))
        if of.result.fitted is not None:
            figures.append(_reliability(of, of.result.fitted, f"Reliability{whose}, fitted", "ece_fitted"))
    by: Confidence = "margin" if result.softmax is None else "probability"
    found = result.abstention(by)
    wanted = np.arange(1, 11) / 10
    at = np.searchsorted(found.coverage, wanted - 1e-9).clip(max=len(found.coverage) - 1)
    some = np.unique(np.linspace(0, len(found.coverage) - 1, POINTS).round().astype(np.int64))
    some = some[found.coverage[some] >= min(0.02, float(found.coverage[-1]))]  # before that it is a handful of images
    line = list(zip(found.coverage[some].tolist(), found.accuracy[some].tolist(), strict=True))
    what = "probability" if by == "probability" else "lead over the second class"
    figures.append(
        {
            "title": "Accuracy by coverage",
            "chart": shapes.curve(line, "Accuracy by coverage", "answered, %", "right of these, %"),
            "caption": f"Where the answers with the lowest {what} are withheld: how many are given, and how many of "
            f"these are right. Mean risk over all coverages (AURC): {percent(found.area)} %.",
            "table": table(
                ["answered, %", "right, %", f"from a {what} of"],
                [
                    (percent(found.coverage[i], 0), percent(found.accuracy[i]), f"{found.threshold[i]:.4f}")
                    for i in dict.fromkeys(at.tolist())
                ],
                numbers=(0, 1, 2),
            ),
        }
    )
    return {"figures": figures, "without": without}


def _reliability(run: Run, softmax: Softmax, title: str, key: str) -> dict[str, Any]:
    """A reliability diagram, its words and its numbers; `key` is its error among the metrics."""
    result = run.result
    bins = _bins(softmax.of(result.predictions.scores[:, 0]), result.hits)
    error, fitted = result.metrics[key], result.chosen.get("temperature")
    said = "Of answers with this confidence, the share that is right; a larger dot stands for more images."
    if key == "ece_fitted" and isinstance(fitted, Mapping):
        said = f"The same at the temperature that was fitted on {shortened(fitted.get('split', 'other images'))}."
    return {
        "title": title,
        "chart": shapes.reliability([one[2:] for one in bins], title),
        "caption": f"{said} Expected calibration error over {BINS} bins: {percent(error.value)} points "
        f"({span(error.low, error.high)}).",
        "table": table(
            ["confidence, %", "images", "mean, %", "right, %"],
            [
                (f"{100 * low:.0f} to {100 * high:.0f}", f"{n:,}", percent(said), percent(right))
                for low, high, said, right, n in bins
            ],
            numbers=(1, 2, 3),
        ),
    }


def _bins(confidence: np.ndarray, hits: np.ndarray) -> list[tuple[float, float, float, float, int]]:
    """Of each of the bins of equal width that has images: its ends, the mean confidence, the share right, how many."""
    part = np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
    found = []
    for i in np.unique(part).tolist():
        inside = part == i
        said, right = float(confidence[inside].mean()), float(hits[inside].mean())
        found.append((i / BINS, (i + 1) / BINS, said, right, int(inside.sum())))
    return found


def open_set(runs: Runs) -> dict[str, Any] | None:
    """Whether images of none of the classes are told from the others, of every run that saw some."""
    parts: dict[str, list[list[object]]] = {}
    seen: dict[str, None] = {}
    for title, places in runs.parts:
        for i in places:
            unknown, metrics = runs.main[i].result.unknown, runs.main[i].result.metrics
            if unknown is None:
                continue
            seen[f"{len(unknown):,} of {clean(unknown.name)[:200]}"] = None
            for kind in ("score", "probability"):
                if f"auroc_{kind}" in metrics:
                    both = (metrics[f"auroc_{kind}"], metrics[f"fpr95_{kind}"])
                    shares = (part for one in both for part in (percent(one.value), span(one.low, one.high)))
                    again = kind == "probability" and "auroc_score" in metrics
                    called = element("span", name(runs.titles[i]), class_="again" if again else None)
                    parts.setdefault(title, []).append([called, kind, *shares])
    if not parts:
        return None
    head = ["method", "by the largest", "AUROC, %", "interval", "false alarms, %", "interval"]
    return {
        "id": "unknown",
        "title": "Images of none of the classes",
        "lead": f"Unknown images: {'; '.join(seen)}. AUROC is how often an image of the classes has a larger score or "
        "probability than one of none of them; 50 is chance. False alarms: how many unknown images pass where 95 % of "
        "the known ones do. With 95 % intervals.",
        "table": table(head, parts, numbers=range(2, 6)),
    }


def groups(runs: Runs) -> dict[str, Any] | None:
    """Accuracy by group of the run that is shown, and of every run how far its worst group is behind its best."""
    every = {i: found for i, run in enumerate(runs.main) if (found := run.result.groups) is not None}
    if not every:
        return None
    place = runs.focus if runs.focus in every else next(iter(every))
    shown = every[place]
    few = shown.rows if len(shown.rows) <= 2 * USES else (*shown.rows[:USES], *shown.rows[-USES:])
    axis = shapes.Axis.around([end for row in few for end in (row.accuracy.low, row.accuracy.high)], 0, 1)
    rows = [
        {
            "name": name(row.name),
            "n": f"{row.accuracy.n:,}",
            "value": percent(row.accuracy.value),
            "chart": shapes.interval(axis, row.accuracy.value, row.accuracy.low, row.accuracy.high),
            "span": span(row.accuracy.low, row.accuracy.high),
        }
        for row in few
    ]
    head = ["method", "worst group", "top-1, %", "best group", "top-1, %", "points between", "interval", "p"]
    gaps = {
        title: [[name(runs.titles[i]), *_ends(every[i])] for i in places if i in every] for title, places in runs.parts
    }
    return {
        "method": name(runs.names[place]),
        "said": clean(_gap(runs.names[place], shown, len(few))),
        "rows": rows,
        "scale": shapes.scale(axis),
        "gaps": table(head, gaps, "Of each method, the worst group and the best.", numbers=(2, 4, 5, 6, 7))
        if len(every) > 1
        else "",
    }


def _ends(found: Groups) -> list[object]:
    """The worst group and the best with what lies between them, (7,) cells."""
    worst, best = found.worst, found.best
    ends = [name(worst.name, 60), percent(worst.accuracy.value), name(best.name, 60), percent(best.accuracy.value)]
    if found.gap is None:
        return [*ends, "–", "–", "–"]
    return [*ends, percent(found.gap.value), span(found.gap.low, found.gap.high, sign=True), p_value(found.p)]


def _gap(called: str, found: Groups, shown: int) -> str:
    """How far the worst group is behind the best, and what the table leaves out, in sentences."""
    text = f"{called}: one group."
    if (gap := found.gap) is not None and not gap.value:
        text = f"{called}: all {len(found.rows):,} groups are alike."
    elif gap is not None:
        text = (
            f"{called}: {found.worst.name} is {percent(gap.value)} points behind {found.best.name} "
            f"({span(gap.low, gap.high, sign=True)}; p {'' if found.p < 1e-4 else '= '}{p_value(found.p)})."
        )
    if shown < len(found.rows):
        text += f" Not shown: {counted(len(found.rows) - shown, 'group')} between these."
    return text + (f" {counted(found.left_out, 'image')} in no group." if found.left_out else "")


def levels(runs: Runs) -> dict[str, Any] | None:
    """Accuracy at each level of the taxonomy, of every run that has one."""
    parts: dict[str, list[list[object]]] = {}
    for title, places in runs.parts:
        for i in places:
            result = runs.main[i].result
            for number, level in enumerate(result.levels() if result.taxonomy is not None else ()):
                both = (level.accuracy, level.balanced)
                shares = (part for one in both for part in (percent(one.value), span(one.low, one.high)))
                called = element("span", name(runs.titles[i]), class_="again" if number else None)
                parts.setdefault(title, []).append([called, f"{level.nodes:,}", *shares])
    if not parts:
        return None
    return {
        "id": "levels",
        "title": "Levels of the taxonomy",
        "lead": "An answer is right at a level where it lies in the same node as the label: of all images, and as the "
        "mean over the nodes. The last level is that of the classes. With 95 % intervals.",
        "table": table(
            ["method", "nodes", "right, %", "interval", "mean per node, %", "interval"], parts, numbers=range(1, 6)
        ),
    }


def controls(runs: Runs) -> list[dict[str, Any]] | None:
    """Each method beside its controls, and what that says of its gain."""
    from descbench.comparison import RULE

    found = []
    for i, kinds in runs.controls.items():
        run = runs.main[i]
        rows = [against(run.result, control, [one.result for one in ones]) for control, ones in kinds.items()]
        usual = [other.result for other in runs.main if alike(run, other) and is_baseline(other)]
        top = float(run.result.hits.mean())
        ends = [0.0, *(end for row in rows for end in (row.difference.low, row.difference.high))]
        axis = shapes.Axis.around(ends, -1, 1)
        found.append(
            {
                "name": name(runs.names[i]),
                "value": percent(top),
                "rows": [_control(row, axis) for row in rows],
                "scale": shapes.scale(axis, signed=True),
                "verdict": clean(verdict(run.result, usual, rows, runs.names[i])),
                "rule": RULE,
            }
        )
    return found or None


def _control(row: Controlled, axis: shapes.Axis) -> dict[str, Any]:
    d = row.difference
    return {
        "name": row.control,
        "mean": percent(row.mean) + ("" if row.deviation is None else f" ± {percent(row.deviation)}"),
        "seeds": str(len(row.runs)),
        "value": points(d.value),
        "span": span(d.low, d.high, sign=True),
        "chart": shapes.interval(axis, d.value, d.low, d.high, zero=0.0, kind="ours" if row.beaten else ""),
    }


def cost(runs: Runs) -> dict[str, Any] | None:
    """What the language model was sent and said, and how long each step took."""
    columns: dict[str, None] = {}
    rows = []
    for run in runs.main:
        found = {f"{key.replace('_', ' ')}, s": seconds(value) for key, value in run.result.timings.items()}
        found |= {key.replace("_", " "): f"{value:,}" for key, value in run.result.usage.items()}
        columns |= dict.fromkeys(found)
        rows.append(found)
    if not columns:
        return None
    return {
        "table": table(
            ["method", *columns],
            {
                title: [[name(runs.titles[i]), *(rows[i].get(column, "–") for column in columns)] for i in places]
                for title, places in runs.parts
            },
            "What the language model read and wrote, and how long each step took. What a cache gave costs nothing and "
            "takes no time.",
            numbers=range(1, len(columns) + 1),
        )
    }


def left_out(runs: Runs) -> dict[str, Any] | None:
    """Images that were not scored, classes without descriptions, ties: once for all runs that say the same."""
    facts: dict[str, None] = {}
    failures: dict[tuple[str, str], None] = {}
    for run, called in zip(runs.main, runs.names, strict=True):
        counts, result = run.result.counts, run.result
        if counts.get("unlabelled"):
            facts[f"Without a label: {counted(counts['unlabelled'], 'image')} of {clean(result.dataset)}."] = None
        if "limit" in counts:
            facts[f"A partial run: {counts['limit']:,} of {counts['available']:,} images, drawn by --limit."] = None
        if counts.get("undescribed"):
            facts[f"{clean(called)}: without a description, {counted(counts['undescribed'], 'class')}."] = None
        if result.ties:
            facts[
                f"{clean(called)}: in {counted(result.ties, 'image')} the best two scores are nearer than 1e-6, "
                "and rounding may decide."
            ] = None
        for text in result.warnings:
            facts[f"{clean(called)}: {clean(text)}"] = None
        failures |= dict.fromkeys((source, reason) for source, reason in result.failures)
    if not facts and not failures:
        return None
    shown = [(name(source, 90), name(reason, 200)) for source, reason in list(failures)[:50]]
    said = [shortened(fact, 600) for fact in facts]
    return {
        "facts": said[:SAID],
        "further": said[SAID:],
        "failures": shown,
        "failed": counted(len(failures), "image"),
        "more": max(0, len(failures) - 50),
    }


def repeat(runs: Runs) -> dict[str, Any]:
    """What it takes to run it again: specifications, versions, fingerprints."""
    run = runs.shown
    again = run.folder is not None and "data" in run.result.specification
    command = clean(f"descbench evaluate --config {shlex.quote(str(run.folder))}") if again else ""
    return {
        "facts": {
            "data set": run.result.dataset,
            "method": run.result.method,
            "encoder": run.result.encoder,
            "language model": run.result.llm,
            "protocol": run.result.protocol,
            "computed on": _flat(dict(run.result.compute)),
            "environment": _flat(dict(run.result.environment)),
            "versions": _flat(dict(run.result.versions)),
            **{f"fingerprint, {what}": text for what, text in run.result.fingerprints.items()},
            "run folder": str(run.folder) if run.folder else "",
        },
        "command": command,
        "chosen": {what: _flat(dict(by)) for what, by in run.result.chosen.items()},
    }


def _flat(values: Any) -> str:
    if not isinstance(values, dict):
        return str(values)
    return ", ".join(f"{key} {value}" for key, value in values.items())
