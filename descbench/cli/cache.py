"""`descbench cache`: what replies and features are kept; show and prune them, export and import replies."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import CacheDir, Json, cache_dir, note, print_json
from descbench.errors import InputError, listed

if TYPE_CHECKING:
    from descbench.store import ReplyStore
    from descbench.store.features import KeptEncoder

app = typer.Typer(help="Look at the replies and features that are kept, delete some.", no_args_is_help=True)
Model = Annotated[str | None, typer.Option("--llm", help="Only those of this language model, as it was spelled.")]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Only those to this prompt.")]

_LISTED = (
    "SELECT llm, model, prompt, count(*), sum(superseded <> ''), sum(prompt_tokens), sum(completion_tokens), "
    "min(time), max(time) FROM replies GROUP BY llm, model, prompt ORDER BY llm, model, prompt"
)


@app.command("ls")
def ls(cache: CacheDir = None, json: Json = False) -> None:
    """List what is kept: replies by language model and prompt, features by encoder with their data sets.

    Example: descbench cache ls --cache-dir ./cache
    """
    features = _features(cache)
    replies = cache_dir(cache) / "replies.sqlite"
    if features and not replies.is_file():
        if json:
            print_json({"path": None, "bytes": 0, "replies": [], "features": list(map(_as_json, features))})
        else:
            _list_features(features)
        return
    store = _store(cache)
    names = ("llm", "model", "prompt", "replies", "superseded", "prompt_tokens", "completion_tokens", "first", "last")
    rows = [dict(zip(names, row, strict=True)) for row in store.rows(_LISTED)]
    if json:
        size = store.path.stat().st_size
        kept = list(map(_as_json, features))
        print_json({"path": str(store.path), "bytes": size, "replies": rows, "features": kept})
        return
    total = sum(row["replies"] for row in rows)
    for row in rows:
        old = f", {row['superseded']} superseded" if row["superseded"] else ""
        tokens = f"{row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens"
        who = row["llm"] or row["model"] or "unknown"
        typer.echo(f"{who}  {row['prompt'] or '-'}  {row['replies']:,} replies{old}  {tokens}  {row['last'][:10]}")
    _list_features(features)
    note(f"{total:,} replies, {store.path.stat().st_size / 1e6:.1f} MB in {store.path}")


@app.command("show")
def show(
    what: Annotated[
        str, typer.Argument(metavar="KEY|TEXT|ENCODER", help="The start of a key, a text in the question, an encoder.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="The most replies to show.")] = 5,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Show replies with the question that led to each: by key, or by a text that the question contains. Or an encoder,
    as it is spelled or by the start of its folder's name: what features of it are kept, and of which data sets.

    Example: descbench cache show "rooster"
    """
    from descbench.store.replies import COLUMNS

    if chosen := [kept for kept in _features(cache) if kept.matches(what)]:
        if json:
            print_json(list(map(_as_json, chosen)))
        else:
            _show_features(chosen)
        return
    store = _store(cache)
    # A key is hexadecimal and has no wildcard; a text is compared as it stands.
    by_key = all(c in "0123456789abcdef" for c in what) and len(what) >= 4
    rows = store.rows("SELECT * FROM replies WHERE key >= ? AND key < ? LIMIT ?", [what, what + "g", limit + 1])
    if not (by_key and rows):
        rows = store.rows(
            "SELECT * FROM replies WHERE instr(request, ?) > 0 ORDER BY time LIMIT ?",
            [jsonlib.dumps(what)[1:-1], limit + 1],
        )
    if not rows:
        raise InputError(
            f"no reply whose key starts with {what!r} or whose question contains it, and no such encoder; "
            "see descbench cache ls"
        )
    found = [_readable(dict(zip(COLUMNS, row, strict=True))) for row in rows[:limit]]
    if json:
        print_json(found)
    else:
        for entry in found:
            typer.echo(_shown(entry))
    if len(rows) > limit:
        note(f"there are more; --limit {4 * limit} shows them")


@app.command("export")
def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write, or - for stdout.")] = "-",
    llm: Model = None,
    prompt: Prompt = None,
    cache: CacheDir = None,
) -> None:
    """Write replies as JSON lines, sorted by key: two such files diff and merge line by line.

    Example: descbench cache export replies.jsonl --llm openai:MODEL
    """
    from descbench.store.transfer import Filter
    from descbench.store.transfer import export as lines

    store, count = _store(cache), 0
    with ExitStack() as stack:
        part = Path(file + ".part")
        out: Any = sys.stdout if file == "-" else stack.enter_context(part.open("w", encoding="utf-8"))
        for count, line in enumerate(lines(store, Filter(llm, prompt)), 1):  # noqa: B007 - counted below
            out.write(line + "\n")
    if file != "-":
        part.replace(file)
    note(f"{count:,} replies written" + (f" to {file}" if file != "-" else ""))


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What `descbench cache export` wrote.")],
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Add the replies of exports to the cache. What is there stays; a line that is broken is named (exit code 3).

    Example: descbench cache import colleague.jsonl
    """
    from descbench.store import ReplyStore
    from descbench.store.transfer import import_ as add

    for path in files:
        if not path.is_file():
            raise InputError(f"no file {str(path)!r} to import; give what `descbench cache export` wrote")
    store = ReplyStore(cache_dir(cache) / "replies.sqlite")
    refused, told = 0, []
    for path in files:
        done = add(store, _lines(path))
        refused += len(done.refused)
        lines = [{"line": number, "why": why} for number, why in done.refused]
        told.append({"file": str(path), "new": done.new, "known": done.known, "other": done.other, "refused": lines})
        note(f"{path}: {done.new:,} new, {done.known:,} known")
        if done.other:
            note(f"{path}: {done.other:,} requests have another reply here, which stays")
        if done.refused:
            note(f"{path}: {len(lines)} lines refused: {listed(f'{n} ({why})' for n, why in done.refused)}")
    if json:
        print_json(told)
    if refused:
        raise typer.Exit(3)


@app.command("prune")
def prune(
    llm: Model = None,
    prompt: Prompt = None,
    before: Annotated[str | None, typer.Option(help="Only those from before this day: 2026-01-31.")] = None,
    superseded: Annotated[bool, typer.Option("--superseded", help="Only what a refresh has set aside.")] = False,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="Not replies, but the features of this encoder.")
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Not replies, but the features of all encoders.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it nothing is deleted, only counted.")] = False,
    cache: CacheDir = None,
) -> None:
    """Delete replies: of a language model, to a prompt, from before a day, or superseded ones. First only counts them.
    Or features: those of one encoder, or all.

    Example: descbench cache prune --superseded --yes
    """
    from datetime import date

    from descbench.store.transfer import Filter

    if encoder or features:
        if llm or prompt or before or superseded:
            raise InputError(
                "--encoder and --features are about features, the other options about replies: give one kind"
            )
        _prune_features(_features(cache), encoder, yes)
        return
    if not (llm or prompt or before or superseded):
        raise InputError(
            "which replies? Give --llm, --prompt, --before or --superseded; what is given all has to hold. "
            "For features: --encoder or --features"
        )
    if before:
        try:
            date.fromisoformat(before)
        except ValueError:
            raise InputError(f"--before {before!r} is not a day; write it as 2026-01-31") from None
    store = _store(cache, to_read=not yes)
    where, values = Filter(llm, prompt, before, superseded or None).where()
    if not yes:
        ((count,),) = store.rows(f"SELECT count(*) FROM replies WHERE {where}", values)
        note(f"{count:,} replies would be deleted; --yes deletes them, `descbench cache export FILE` keeps a copy")
        return
    count = store.write(f"DELETE FROM replies WHERE {where}", values)
    store.write("VACUUM")
    note(f"{count:,} replies deleted; {len(store):,} are left")


def _store(cache: Path | None, *, to_read: bool = True) -> ReplyStore:
    from descbench.store import ReplyStore

    path = cache_dir(cache) / "replies.sqlite"
    if not path.is_file():
        raise InputError(f"no reply cache {str(path)!r} yet. Name its folder, as in --cache-dir ./cache")
    return ReplyStore(path, to_read=to_read)


def _features(cache: Path | None) -> list[KeptEncoder]:
    from descbench.store.features import kept_encoders

    return list(kept_encoders(cache_dir(cache) / "features"))


def _as_json(kept: KeptEncoder) -> dict[str, Any]:
    return {**asdict(kept), "folder": str(kept.folder), "sets": [asdict(one) for one in kept.sets]}


def _list_features(features: list[KeptEncoder]) -> None:
    """A line an encoder; a data set once, even where it has changed since."""
    for kept in features:
        sets = listed(dict.fromkeys(one.dataset for one in kept.sets), 4)
        counts = f"{kept.images:,} images, {kept.texts:,} texts, {kept.bytes / 1e6:,.1f} MB"
        typer.echo(f"{kept.folder.name[:8]}  {kept.spelling}  {counts}" + (f"  of {sets}" if sets else ""))


def _show_features(features: list[KeptEncoder]) -> None:
    for kept in features:
        typer.echo(f"{kept.spelling} ({kept.name}) in {kept.folder}")
        typer.echo(f"  {kept.images:,} images, {kept.texts:,} texts, {kept.bytes / 1e6:,.1f} MB")
        for one in kept.sets:
            shares = "" if one.shares == one.processes else f", by {one.shares} of {one.processes} processes"
            typer.echo(f"  {one.dataset}: {one.rows:,} images{shares}, sets/{one.key}*.parquet")


def _prune_features(features: list[KeptEncoder], encoder: str | None, yes: bool) -> None:
    import shutil

    chosen = [kept for kept in features if encoder is None or kept.matches(encoder)]
    if not chosen:
        there = f"; there are {listed(kept.spelling for kept in features)}" if features else ""
        raise InputError(f"no features {f'of {encoder!r} ' if encoder else ''}are kept here{there}")
    size = sum(kept.bytes for kept in chosen) / 1e6
    what = f"features of {listed(kept.spelling for kept in chosen)} ({size:,.1f} MB)"
    if not yes:
        note(f"{what} would be deleted; --yes deletes them")
        return
    for kept in chosen:
        try:
            shutil.rmtree(kept.folder)
        except OSError as error:
            raise InputError(
                f"{str(kept.folder)!r} cannot be deleted: {error.strerror or error}. Make it and its folder writable, "
                "and see that no command uses it."
            ) from error
    note(f"{what} deleted")


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        yield from lines


def _readable(entry: dict[str, Any]) -> dict[str, Any]:
    objects = ("request", "usage", "details", "versions")
    return {name: jsonlib.loads(value) if name in objects else value for name, value in entry.items()}


def _shown(entry: dict[str, Any]) -> str:
    request = entry["request"]
    question = request.get("text") or "\n".join(
        f"[{message.get('role')}] {message.get('content')}" for message in request.get("messages", [])
    )
    about = [entry["llm"], entry["model"], f"sample {request.get('sample', 0)}", entry["finish_reason"]]
    about += [str(entry["details"].get("mode", "")), entry["time"][:19], "superseded" if entry["superseded"] else ""]
    head = f"{entry['key'][:12]}  {', '.join(word for word in about if word)}"
    return f"{head}\n{_indented(question)}\n  ->\n{_indented(entry['text'])}\n"


def _indented(text: str) -> str:
    """Two blanks before each line; what a terminal would obey, and a reply may hold, is left out."""
    lines = ("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in x) for x in text.splitlines())
    return "\n".join(f"  {line}" for line in lines)
