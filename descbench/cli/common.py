"""What the commands share: their common options, the caches, the classes, and progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench import progress
from descbench.errors import InputError

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.vocabulary import Vocabulary

DEFAULT_ENCODER = "open_clip:ViT-B-32/laion2b_s34b_b79k"

CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", help="Where replies and features are kept. Default: $DESCBENCH_CACHE, else ./cache."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Of the encoder: fp32 (default), bf16, fp16, amp (float32, autocast).")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the encoder: a minute once, then faster on a GPU.")]
Draft = Annotated[
    bool, typer.Option("--draft", help="Decode large JPEGs at a fraction of their size: faster, features differ a bit.")
]
Domain = Annotated[str, typer.Option("--domain", help='What the classes all are, as "birds"; shown to the model.')]
Llm = Annotated[str | None, typer.Option("--llm", help="A language model: see `descbench ls llms`.")]
MaxRequests = Annotated[
    int | None,
    typer.Option(min=0, help="How many questions a follow-up may ask; exit code 4 where it needs more."),
]
Encoder = Annotated[str | None, typer.Option("--encoder", "-e", help="A CLIP-like model: see `descbench ls encoders`.")]
Split = Annotated[str, typer.Option("--split", help="The part of the data set that it calls so, as test.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Look at so many images, drawn by their ids; the run is partial.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images that are encoded together.")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Processes that decode images; 0: threads, one a core.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A data set: folder:PATH, hf:ORG/NAME, ...: `descbench ls datasets`.")
]
Support = Annotated[str, typer.Option("--support", help="A labelled data set whose images select texts, for disclip.")]
Validation = Annotated[
    str, typer.Option("--validation", help="A labelled data set that chooses the weight w of disclip.")
]
Views = Annotated[
    str,
    typer.Option(
        "--views",
        help='Look at each picture in weighted crops, "crops(60)", or keep them apart for awt, "resized(50)". '
        "Takes as much longer.",
    ),
]
OneMethod = Annotated[str | None, typer.Option("--method", "-m", help="See `descbench ls methods`.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", help="A csv file (label,class) from the data set's labels to classes.")
]
DescriptionFile = Annotated[
    Path | None,
    typer.Option("--descriptions", "-d", help="Descriptions: a file of descbench's, or one that was published."),
]
TemplateFile = Annotated[
    Path | None,
    typer.Option("--templates", help="Other templates for `templates` and cupl: a JSON list, or a template a line."),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", "-c", help="The classes: a txt, csv or json file, a folder, or names with commas."),
]


def cache_dir(given: Path | None) -> Path:
    """The option, else the environment, else ./cache."""
    return given or Path(os.environ.get("DESCBENCH_CACHE") or "cache")


def encoder_for(data: str, given: str | None) -> str:
    """The encoder that is given; else the demo's for its own data set, and for any other the usual one."""
    return given or ("demo" if data.partition(":")[0] == "demo" else DEFAULT_ENCODER)


def open_llm(spec: str, cache: Path, max_requests: int | None = None) -> Any:
    """A language model that asks nothing twice, and no more than it may; what is replayed is in the cache already."""
    from descbench.llms.limited import Limited
    from descbench.spec import llm
    from descbench.store import CachedLLM, ReplyStore

    if spec.partition(":")[0] == "replay":
        return llm(spec, cache=cache)
    found = llm(spec)
    limited = found if max_requests is None else Limited(found, max_requests=max_requests)
    return CachedLLM(limited, ReplyStore(cache / "replies.sqlite"))


def open_encoder(spec: str, cache: Path, **options: Any) -> Any:
    """An encoder that encodes nothing twice; ready features are not copied into the cache."""
    from descbench.encoders import FeaturesEncoder
    from descbench.spec import encoder
    from descbench.store import CachedEncoder

    # What is not asked for is not passed on: an encoder need not know every option.
    asked = {name: value for name, value in options.items() if value or name == "device"}
    found = encoder(spec, **asked)
    if options.get("draft"):
        note("note: large JPEGs are decoded as drafts; their features are kept apart from those of whole pictures")
    if options.get("views") and spec.partition(":")[0] == "features":
        raise InputError("--views needs pictures to cut; features: has none, only what was encoded before")
    return found if isinstance(found, FeaturesEncoder) else CachedEncoder(found, cache / "features")


def find_classes(given: str, domain: str) -> Vocabulary:
    """Classes from a file, a folder, a data set's spelling, or names with commas."""
    from descbench.vocabulary import Vocabulary

    if Path(given).exists():
        return Vocabulary.load(given, domain)
    name = given.partition(":")[0]
    from descbench.datasets import DATASETS
    from descbench.plugins import available

    if name in available("datasets", DATASETS):
        from descbench.spec import dataset

        return _of_dataset(dataset(given), domain)
    if "," in given:
        return Vocabulary([part.strip() for part in given.split(",") if part.strip()], domain)
    raise InputError(
        f"no file {given!r}; give a file with a class name a line, or names with commas: hen,rooster,turkey"
    )


def choose_classes(
    classes: str | None, file: Path | None, domain: str, labels: Path | None = None, data: Any = None
) -> tuple[Vocabulary, Descriptions | None]:
    """The classes, and the descriptions of FILE under their ids.

    The classes are those that are given, else those described, else those of the labels file, else those of the data.
    """
    from descbench.formats import read

    given = find_classes(classes, domain) if classes else None
    described = read(file, vocabulary=given) if file else None  # a file of numbers needs the classes that they are of
    vocabulary = given or _vocabulary(described, domain, labels, data)
    return vocabulary, described and described.matched(vocabulary)


def _vocabulary(described: Descriptions | None, domain: str, labels: Path | None, data: Any) -> Vocabulary:
    from descbench.vocabulary import Vocabulary, read_labels

    if described is not None and described.names:
        found = described.vocabulary()
        domain = domain or found.domain or getattr(data, "domain", "")
        return Vocabulary(found.names, domain, found.ids, found.synonyms)
    if labels:
        return Vocabulary(list(dict.fromkeys(read_labels(labels).values())), domain)
    if data is None or not len(data.names):
        raise InputError("which classes? Give --classes FILE, --classes hen,rooster,turkey, or --descriptions FILE")
    return _of_dataset(data, domain)


def _of_dataset(data: Any, domain: str) -> Vocabulary:
    from descbench.vocabulary import Vocabulary

    return Vocabulary(list(data.names), domain or getattr(data, "domain", ""))


def usual_method(known: Descriptions) -> str:
    """The method that a file of descriptions is for: of classes, or of pairs only."""
    return "dclip" if known.classes else "fudd"


def use_templates(methods: dict[str, Any], file: Path | None) -> dict[str, Any]:
    """The methods with the templates of FILE in place of the shipped ones; raises `InputError` where none uses them."""
    if file is None:
        return methods
    from descbench.methods.cupl import with_templates
    from descbench.methods.names import read_templates

    given = read_templates(file)
    found = {text: with_templates(built, given) for text, built in methods.items()}
    if found == methods:
        raise InputError(f"--templates {file}: no method here uses a list of templates; templates does")
    return found


def note_unreadable(failures: Sequence[tuple[str, str]], of: int | None = None, then: str = "", most: int = 20) -> None:
    """On stderr: how many images (of how many) cannot be read, and the first of them, a line each with the reason."""
    if not failures:
        return
    from descbench.datasets.images import NEXT_STEP

    what = "image" if len(failures) == 1 and of is None else "images"
    note(f"{len(failures)}{f' of {of}' if of is not None else ''} {what} cannot be read{then}:")
    for source, reason in failures[:most]:
        note(f"  {source}: {reason.removeprefix(f'cannot read image {source!r}: ').removesuffix(NEXT_STEP)}")
    if len(failures) > most:
        note(f"  and {len(failures) - most} more")


def note(text: str) -> None:
    """One line on stderr."""
    typer.echo(text, err=True)


def print_json(data: Any) -> None:
    """JSON on stdout."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


@contextmanager
def progress_shown(after: float = 1.0) -> Iterator[None]:
    """A bar on stderr for each task that takes longer than a moment; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        started: dict[str, float] = {}
        tasks: dict[str, Any] = {}

        def listen(task: str, done: int, total: int) -> None:
            now = time.monotonic()
            if now - started.setdefault(task, now) > after and task not in tasks and done < total:
                tasks[task] = bars.add_task(task, total=total)
            if task in tasks:
                bars.update(tasks[task], completed=done, total=total)
            if done >= total:
                started.pop(task, None)
                if task in tasks:
                    bars.remove_task(tasks.pop(task))

        with progress.shown(listen):
            yield
