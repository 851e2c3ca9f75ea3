"""`descbench report`: kept runs as one HTML file that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descbench.cli.common import note, progress_shown
from descbench.cli.compare import run_folders
from descbench.errors import InputError, counted


def command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that `evaluate -o` wrote: of a run, or of several.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("report.html"),
    detail: Annotated[
        str, typer.Option("--detail", help="The method whose classes and single answers are shown; else the best one.")
    ] = "",
) -> None:
    """Write a report of kept runs: one HTML file that needs no network and no server, and can be sent as it is.

    It has the table of results, paired differences, what is confused, single answers with their reasons, confidence,
    controls and what a run cost, as far as the runs hold it. Every figure is computed from the predictions kept.

    Example: descbench report runs -o report.html
    """
    from descbench.files import write_whole
    from descbench.progress import report
    from descbench.report import Run, render

    if output.is_dir():
        raise InputError(f"{output} is a folder; give the name of a file: -o {output / 'report.html'}")
    folders = run_folders(runs)
    loaded = []
    with progress_shown():
        for number, folder in enumerate(folders, 1):
            loaded.append(Run.load(folder))
            report("reading runs", number, len(folders))
    page = render(loaded, detail)
    write_whole(output, page)
    note(f"{counted(len(loaded), 'run')} in {output}, {len(page.encode()) / 1e6:.1f} MB; open it in a browser")
