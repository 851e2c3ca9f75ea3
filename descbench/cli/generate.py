"""`descbench generate`: ask a language model what each class looks like."""

from __future__ import annotations

import hashlib
import json as jsonlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.asking import Asking, tell_plan
from descbench.cli.common import (
    DEFAULT_ENCODER,
    CacheDir,
    Domain,
    Encoder,
    Json,
    Llm,
    cache_dir,
    find_classes,
    note,
    open_encoder,
    print_json,
    progress_shown,
)
from descbench.errors import DescbenchError, InputError, listed

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.vocabulary import Vocabulary


def command(
    classes: Annotated[
        str, typer.Argument(metavar="CLASSES", help="A txt, csv or json file, a folder, names with commas, or demo.")
    ],
    method: Annotated[
        str, typer.Option("--method", "-m", help="Whose questions: see `descbench ls methods`.")
    ] = "dclip",
    llm: Llm = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write. Default: stdout.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help="Your own prompt: $domain with $name, $first and $second, or $candidates."),
    ] = None,
    rivals: Annotated[
        int | None, typer.Option(min=1, help="Of pairs, ask each class only against its nearest; by --encoder.")
    ] = None,
    encoder: Encoder = None,
    domain: Domain = "",
    attempts: Annotated[int, typer.Option(min=1, help="How often to ask where a reply cannot be used.")] = 3,
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature; sent only if given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest reply, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of sampling; sent only if given.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at once, to a server. Default: 16.")] = None,
    rpm: Annotated[float | None, typer.Option(min=0, help="The most requests a minute, to a server.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds for a request to a server.")] = None,
    structured: Annotated[
        str | None, typer.Option(help="How JSON is asked for: auto, json_schema, json_object or text.")
    ] = None,
    refresh: Annotated[
        list[str] | None, typer.Option("--refresh", help="Ask about this class anew; may be given several times.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the cache only; ask nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked and what it costs.")] = False,
    max_requests: Annotated[int | None, typer.Option(min=0, help="Stop after so many requests (exit code 4).")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0, help="Stop before it costs more USD; needs --prices.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help='JSON: {"MODEL": {"input": USD per million tokens, "output": USD}}.')
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Hand all questions in as a batch job: see `descbench batch`.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Keep nothing of what FILE has.")] = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Ask a language model what each class looks like, and write a file that a person can edit.

    What the file already holds is kept, edited lines too, and only what is missing is asked. Every reply is kept in the
    cache as it arrives: after an interruption the same command goes on where it was, and nothing is paid for twice.

    Example: descbench generate birds.txt --domain birds --llm openai:MODEL -o birds.desc.json --dry-run
    """
    if llm is None:
        raise InputError("which language model? Add --llm, as in --llm openai:MODEL, transformers:PATH, or --llm demo")
    from descbench import generation, spec
    from descbench.descriptions import Descriptions
    from descbench.methods.cascade import stages_of

    vocabulary = find_classes(classes, domain)
    chosen = _with_prompt(spec.method(method), prompt)
    silent = {"nothing", "pair", "set"} if len(vocabulary) == 1 else {"nothing"}
    if all(stage.asks_about in silent for stage in stages_of(chosen)):
        raise InputError(f"{method} asks nothing about these classes, so there is nothing to generate; dclip does")
    folder = cache_dir(cache)
    same: dict[str, Any] = {"classes": list(vocabulary), "domain": vocabulary.domain, "method": repr(chosen)}
    if vocabulary.synonyms:
        same |= {"synonyms": vocabulary.synonyms}
    pairs = None
    if rivals is not None:
        same |= {"rivals": rivals, "encoder": encoder or DEFAULT_ENCODER}
    finished = _Finished(folder, output, same)
    if not (refresh or overwrite or dry_run or json) and finished.already():
        note(f"{output} has all that {chosen!r} asks about these {len(vocabulary)} classes; nothing to ask")
        return
    known = Descriptions()
    if output is not None and output.exists() and not overwrite:
        known = Descriptions.load(output).matched(vocabulary)
    sent: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed, "rpm": rpm}
    sent |= {"concurrency": concurrency, "timeout": timeout, "structured": structured}
    options = {name: value for name, value in sent.items() if value is not None}
    asking = Asking(
        llm, folder, options, max_requests, max_cost, prices, silent=offline or dry_run or batch, keep=batch or json
    )
    if asking.offline is None and (dry_run or batch):
        raise InputError("replay asks nothing; --dry-run and --batch are for a language model that could be asked")
    if rivals is not None:
        pairs = generation.nearest_rivals(vocabulary, open_encoder(encoder or DEFAULT_ENCODER, folder), rivals)
    kept = len(known.classes) + len(known.pairs) + len(known.sets)
    anew = _ids(vocabulary, refresh or [])
    try:
        with progress_shown():
            if anew:
                if offline or batch:
                    raise InputError("--refresh asks anew at once; leave it out with --offline and --batch")
                known = _without(known, anew)
                known = generation.generate(
                    vocabulary, chosen, asking.refreshing(), known=known, attempts=attempts, about=anew, rivals=pairs
                )
            found = generation.generate(vocabulary, chosen, asking.llm, known=known, attempts=attempts, rivals=pairs)
    except (DescbenchError, KeyboardInterrupt):
        asking.tell_usage()
        raise
    if dry_run:
        tell_plan(asking, attempts, max_tokens, json)
        return
    if batch:
        asking.hand_in()
        return
    if output is not None:
        found.save(output)
    if json or output is None:
        print_json(found.to_json())
    _tell_result(found, asking, kept, output)
    if not _tell_missing(generation.undescribed(vocabulary, chosen, found, pairs), vocabulary, found, attempts):
        finished.remember()


class _Finished:
    """Whether FILE, as it is now, is known to have all that was asked for: then not even the file is read again."""

    def __init__(self, folder: Path, file: Path | None, asked_for: dict[str, Any]) -> None:
        self._cache = folder / "replies.sqlite"
        self._file = file
        self._asked_for = jsonlib.dumps(asked_for, default=str, sort_keys=True).encode()

    def already(self) -> bool:
        from descbench.store import ReplyStore

        if self._file is None or not self._file.is_file() or not self._cache.is_file():
            return False
        return bool(ReplyStore(self._cache).rows("SELECT 1 FROM finished WHERE what = ?", [self._what()]))

    def remember(self) -> None:
        from descbench.store import ReplyStore

        if self._file is not None:
            ReplyStore(self._cache).write("INSERT OR IGNORE INTO finished VALUES (?)", [self._what()])

    def _what(self) -> str:
        assert self._file is not None
        with self._file.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        return hashlib.sha256(content + self._asked_for).hexdigest()


def _with_prompt(method: Any, prompt: str | None) -> Any:
    """The method with the user's prompt in its stages that ask something."""
    if prompt is None:
        return method
    from descbench.methods import Cascade
    from descbench.methods.cascade import stages_of

    given: list[Any] = list(stages_of(method))
    stages = [replace(stage, prompt=prompt) if hasattr(stage, "prompt") else stage for stage in given]
    if not any(hasattr(stage, "prompt") for stage in given):
        raise InputError(f"{method!r} asks no question that --prompt could change; dclip and differential do")
    return method.with_stages(*stages) if isinstance(method, Cascade) else stages[0]


def _ids(vocabulary: Vocabulary, names: list[str]) -> set[int]:
    """The ids of classes that are named; raises `InputError` for a name that is none."""
    given = [part.strip() for name in names for part in ([name] if vocabulary.called(name) else name.split(","))]
    found = [vocabulary.called(name) for name in given]
    if unknown := [name for name, ids in zip(given, found, strict=True) if not ids]:
        raise InputError(f"--refresh: {vocabulary.mismatch(unknown, 'class')}")
    return {id_ for ids in found for id_ in ids}


def _without(known: Descriptions, ids: set[int]) -> Descriptions:
    return replace(
        known,
        classes={id_: texts for id_, texts in known.classes.items() if id_ not in ids},
        pairs={pair: texts for pair, texts in known.pairs.items() if ids.isdisjoint(pair)},
        sets={several: texts for several, texts in known.sets.items() if ids.isdisjoint(several)},
    )


def _tell_result(found: Descriptions, asking: Asking, kept: int, output: Path | None) -> None:
    what = [f"{len(found.classes):,} classes"] if found.classes else []
    what += [f"{len(found.pairs):,} pairs"] if found.pairs else []
    what += [f"{len(found.sets):,} sets"] if found.sets else []
    told = f"{', '.join(what) or 'nothing'} described; {asking.asked:,} asked, {asking.hits:,} from the cache"
    note(told + (f", {kept:,} kept from {output}" if kept else "") + (f"; written to {output}" if output else ""))
    asking.tell_usage()
    if repairs := found.provenance.get("repairs"):
        note(f"mended in the replies: {listed(f'{count} x {kind}' for kind, count in repairs.items())}")


def _tell_missing(subjects: list[Any], vocabulary: Vocabulary, found: Descriptions, attempts: int) -> bool:
    """What has no description, by class and with the reason; then the command ends with exit code 3."""
    if not subjects:
        return False
    why = {tuple(entry["classes"]): entry["why"] for entry in found.provenance.get("missing", [])}
    names = [tuple(vocabulary.name(i) for i in subject) for subject in subjects]
    shown = listed((f"{' / '.join(name)} ({why[name]})" if name in why else " / ".join(name)) for name in names)
    note(f"{len(subjects):,} without a description: {shown}")
    reasons = set(why.values())
    if reasons == {"not in the cache"}:
        note("the same command without --offline, and with the language model named, asks them")
    else:
        more = f"--attempts {2 * attempts} also what said nothing usable"
        note(f"the same command asks again what was not answered; {more}")
    raise typer.Exit(3)
