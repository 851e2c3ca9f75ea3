"""`descbench compare`: what kept runs are worth beside each other, image by image."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import Json, note, print_json, progress_shown
from descbench.cli.tables import Cell, Csv, Latex, Markdown, Table, form_of
from descbench.errors import InputError, listed
from descbench.progress import report

if TYPE_CHECKING:
    from descbench.comparison import Comparison
    from descbench.evaluation import Evaluation


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `evaluate -o` wrote: of a run, or of several.")
    ],
    json: Json = False,
    csv: Csv = False,
    markdown: Markdown = False,
    latex: Latex = False,
) -> None:
    """Compare kept runs with the first of them, image by image: how much better each is in top-1, with its 95 %
    interval and McNemar's exact test, corrected by Holm where there are several; and what can be concluded of it.

    The runs must be over the same images with the same labels. Their methods, encoders and classes may differ.

    Example: descbench compare runs/01-classname runs/04-dclip
    """
    from descbench.comparison import compare, names_of
    from descbench.evaluation import Evaluation

    form = form_of(json=json, csv=csv, markdown=markdown, latex=latex)
    folders = run_folders(runs)
    if len(folders) < 2:
        raise InputError(
            f"a comparison needs at least two runs, given: {len(folders)}; `descbench evaluate ... -o {folders[0]}` "
            "makes a run"
        )
    loaded = []
    with progress_shown():
        for number, folder in enumerate(folders, 1):
            loaded.append(Evaluation.load(folder))
            report("reading runs", number, len(folders))
        often = Counter(names_of(loaded))
        names = [
            name if often[name] == 1 else f"{name} ({folder})"
            for name, folder in zip(names_of(loaded), folders, strict=True)
        ]
        found = compare(loaded, names)
    if form == "json":
        print_json(_as_json(found, loaded, folders))
        return
    head = f"{loaded[0].dataset}: {len(loaded[0].ids):,} images, each run against {found.base}"
    if form == "text":
        typer.echo(head)
    else:
        note(head)
    typer.echo(_table(found, loaded).rendered(form))
    say = typer.echo if form == "text" else note
    for name, ties in found.ties.items():
        if ties:
            say(f"{name}: {ties} of the images gained or lost hang on a tie, where rounding may decide")
    for sentence in found.conclusions:
        say(sentence)


def run_folders(given: list[Path]) -> list[Path]:
    """The run folders that are given, and those in the folders given, sorted by name, each once.

    Raises `InputError` for a folder that is not there, or has no run. A run that is not whole is an error where it was
    given, and a note where its folder was.
    """
    found: list[Path] = []
    for folder in given:
        if not folder.is_dir():
            raise InputError(
                f"no folder {str(folder)!r}; give the folder of a run, as `descbench evaluate -o` wrote it"
            )
        if (folder / "run.json").exists() or (folder / "predictions.parquet").exists():
            found.append(folder)
            continue
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        whole = [path for path in inside if (path / "run.json").is_file()]
        if not whole:
            raise InputError(
                f"{folder} holds no run, and no folder in it does; `descbench evaluate ... -o` writes them"
            )
        if len(whole) < len(inside):
            left_out = listed(path.name for path in inside if path not in whole)
            note(f"note: {folder}: left out, since there is no whole run in them: {left_out}")
        found += whole
    return list(dict.fromkeys(found))


def _table(found: Comparison, runs: list[Evaluation]) -> Table:
    from descbench.statistics import p_value

    several = len(found.differences) > 1
    columns = {
        "run": "run",
        "top1": "top-1 %",
        "difference": "points [95 %]",
        "gained": "gained",
        "lost": "lost",
        "p": "McNemar p",
        **({"p_holm": "p by Holm"} if several else {}),
    }
    top1 = [float(run.hits.mean()) for run in runs]
    rows = [[Cell.of(found.base), _share(top1[0]), *(Cell("") for _ in list(columns)[2:])]]
    for (name, d), value in zip(found.differences.items(), top1[1:], strict=True):
        points = f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        tests = [Cell(p_value(p), {"": p}) for p in ((d.p, d.p_holm) if several else (d.p,))]
        bounds = {"": d.value, "_low": d.low, "_high": d.high}
        rows.append([Cell.of(name), _share(value), Cell(points, bounds), Cell.of(d.gained), Cell.of(d.lost), *tests])
    return Table(columns, rows)


def _share(value: float) -> Cell:
    return Cell(f"{100 * value:.1f}", {"": value})


def _as_json(found: Comparison, runs: list[Evaluation], folders: list[Path]) -> dict[str, Any]:
    """Shares, not per cent; `detectable` and `images_needed` are at 80 % power."""
    return {
        "base": found.base,
        "dataset": runs[0].dataset,
        "images": len(runs[0].ids),
        "runs": [
            {"folder": str(folder), "method": run.method, "encoder": run.encoder, "top1": float(run.hits.mean())}
            for folder, run in zip(folders, runs, strict=True)
        ],
        "differences": {
            name: asdict(d)
            | {
                "ties": found.ties[name],
                "shown": d.shown,
                "detectable": d.detectable,
                "images_needed": d.images_needed,
                "conclusion": d.conclusion(name, found.base),
            }
            for name, d in found.differences.items()
        },
    }
