"""`descbench batch`: how far the jobs of `generate --batch` are, and their replies into the cache."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descbench.cli.common import CacheDir, Json, cache_dir, note, print_json, progress_shown
from descbench.errors import InputError, listed
from descbench.progress import report

if TYPE_CHECKING:
    from descbench.llms.batch import Batches, Job

app = typer.Typer(help="Look after the jobs that `generate --batch` has handed in.", no_args_is_help=True)


@app.command("status")
def status(cache: CacheDir = None, json: Json = False) -> None:
    """List the jobs: how many of their requests are done, and what became of those that were collected.

    Example: descbench batch status
    """
    jobs = _batches(cache).status()
    if json:
        print_json([asdict(job) for job in jobs])
        return
    for job in jobs:
        typer.echo(_line(job))
    if not jobs:
        note("no jobs; `descbench generate ... --batch` hands one in")


@app.command("collect")
def collect(
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every job has ended; Ctrl-C loses nothing.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks, with --wait.")] = 30.0,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Put the replies of the jobs that have ended into the cache. The `generate` command that handed them in, without
    --batch, then makes descriptions of them and asks what is missing. Exit code 3 where requests got no answer.

    Example: descbench batch collect --wait
    """
    batches = _batches(cache)
    done = batches.collect()
    with progress_shown():
        while wait and (open_ := [job for job in batches.status() if job.status != "collected"]):
            asked = sum(job.requests for job in open_)
            report("waiting for the jobs", min(sum(job.done + job.failed for job in open_), asked - 1), asked)
            time.sleep(every)
            done += batches.collect()
    if json:
        print_json([asdict(job) for job in done])
    else:
        for job in done:
            typer.echo(_line(job))
    waiting = sum(job.status != "collected" for job in batches.status())
    if waiting:
        note(f"{waiting} jobs have not ended yet; --wait waits for them")
    if not done and not waiting:
        note("nothing to collect")
    if any(job.summary["failed"] or job.summary["absent"] for job in done):
        note("the same `generate` command asks again what got no answer")
        raise typer.Exit(3)


def _batches(cache: Path | None) -> Batches:
    from descbench.llms.batch import Batches
    from descbench.store import ReplyStore

    path = cache_dir(cache) / "replies.sqlite"
    if not path.is_file():
        raise InputError(f"no reply cache {str(path)!r}, so no jobs. Name its folder, as in --cache-dir ./cache")
    return Batches(ReplyStore(path))


def _line(job: Job) -> str:
    head = f"{job.batch or job.name}  {job.llm}  {job.created[:16]}"
    said = job.summary
    if not said:
        failed = f", {job.failed} failed" if job.failed else ""
        return f"{head}  {job.status}, {job.done} of {job.requests} done{failed}"
    parts = [f"{said['answered']} answered"]
    if said["failed"]:
        reasons = listed(f"{count} x {why}" for why, count in said["failed"].items())
        parts.append(f"{sum(said['failed'].values())} failed ({reasons})")
    parts += [f"{said[name]} {name}" for name in ("absent", "unknown", "repeated") if said[name]]
    return f"{head}  {said['status']}, {', '.join(parts + said['errors'])}"
