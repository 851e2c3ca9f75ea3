"""`descbench demo`: the whole job on the aviary, offline, in under a minute."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from descbench.cli.common import CacheDir, Json, cache_dir, open_encoder, open_llm, print_json, progress_shown
from descbench.cli.tables import aligned
from descbench.errors import DescbenchWarning, InputError


def command(
    images: Annotated[int, typer.Option(min=40, help="How many birds to draw and classify.")] = 600,
    picture: Annotated[Path | None, typer.Option("--picture", help="Also draw the table into this SVG file.")] = None,
    every: Annotated[bool, typer.Option("--every", help="Run every method beside its controls instead.")] = False,
    into: Annotated[Path | None, typer.Option("--into", help="With --every: write the table into this page.")] = None,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """See it work, offline: 40 invented birds, a small language model that has read their field guide, a small CLIP
    that has not, and a table of what descriptions and a follow-up are worth.

    Example: descbench demo
    """
    from descbench import spec
    from descbench.demo.picture import svg
    from descbench.demo.tour import AFTER, BEFORE, Tour

    def say(text: str = "") -> None:
        if not json:
            typer.echo(text)

    if every or into:
        every_method(images, into, cache_dir(cache), json)
        return
    started = time.perf_counter()
    place = cache_dir(cache)
    tour = Tour(open_llm("demo", place), open_encoder("demo", place), spec.dataset(f"demo:n={images}"))
    with progress_shown():
        say("1. A language model describes 40 birds that do not exist.")
        truth = tour.describe()
        name = tour.vocabulary.names[0]
        say(f"   {name}: {'; '.join(tour.descriptions.classes.get(0, ()))}")
        say(f"   Held against the field guide: {truth}.")
        say()
        say(
            f"2. A small CLIP classifies {images} pictures of them, and a follow-up asks what tells the best few apart."
        )
        rows = [["method", "top-1 % [95 %]", "right"]]
        for method, result in tour.evaluate():
            rows.append([method, str(result.metrics["top1"]), f"{int(result.hits.sum())} of {len(result.labels)}"])
    say()
    say("\n".join("   " + line for line in aligned(rows).splitlines()))
    say()
    change = tour.follow_up()
    pairs = tour.pair_truth()
    say(
        f"   The follow-up, {AFTER} against {BEFORE} on the same pictures:\n"
        f"   {100 * change.value:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}], McNemar p = "
        f"{change.p:.2g} ({change.gained} gained, {change.lost} lost).\n"
        f"   It asked about {len(tour.descriptions.pairs)} pairs; {pairs}."
    )
    say()
    say("3. Three pictures, and why.")
    folder = place / "demo"
    examples = tour.examples()
    tour.save(folder, examples)
    for number, example in enumerate(examples, 1):
        say(f"   {folder / f'bird-{number}.png'}")
        say(f"   shows {example.label}; dclip says {example.before}, the follow-up {example.after}, because of")
        for reason in example.explanation.reasons[:2]:
            say(f"     {reason.similarity:.3f}  {reason.text}")
        say(f"   and not {example.explanation.against}, of which the best that fits is")
        for reason in example.explanation.counter_reasons[:1]:
            say(f"     {reason.similarity:.3f}  {reason.text}")
    if picture is not None:
        accuracies = {method: result.metrics["top1"] for method, result in tour.evaluations.items()}
        birds = [sample.load() for sample in islice(tour.data.samples(), 0, 40, 5)]
        caption = f"Top-1 accuracy in % with 95 % intervals on {images} pictures of 40 invented birds (descbench demo)"
        picture.write_text(svg(accuracies, birds, caption), encoding="utf-8")
    took = time.perf_counter() - started
    say()
    say(f"Done in {took:.0f} s. Now with your own: a file with a class name a line, and a folder of pictures.")
    say('   descbench generate classes.txt --domain "birds" --llm transformers:PATH_OR_ID -o classes.desc.json')
    say("   descbench classify photos/ -d classes.desc.json")
    say("   descbench evaluate folder:labelled_photos -d classes.desc.json")
    say(f"Or change a line in {folder / 'birds.desc.json'}, and see what it does:")
    say(f"   descbench evaluate demo -d {folder / 'birds.desc.json'}")
    if json:
        print_json(_as_json(tour, truth, pairs, change, took))


def _as_json(tour: Any, truth: Any, pairs: Any, change: Any, took: float) -> dict[str, Any]:
    """The figures of the demo, for those who check them."""
    return {
        "images": len(tour.embedded.labels),
        "methods": {method: asdict(result.metrics["top1"]) for method, result in tour.evaluations.items()},
        "follow_up": {
            "value": change.value,
            "low": change.low,
            "high": change.high,
            "p": change.p,
            "gained": change.gained,
            "lost": change.lost,
        },
        "llm": {
            "descriptions": {"stated": truth.stated, "wrong": truth.wrong, "unread": truth.unread},
            "pairs": {"stated": pairs.stated, "wrong": pairs.wrong, "unread": pairs.unread},
        },
        "seconds": took,
    }


def every_method(images: int, into: Path | None, cache: Path, json: bool) -> None:
    """The table of all methods and their controls, to stdout or into a page that has a place for it."""
    from descbench.demo.table import Table, write

    if json:
        raise InputError("--every prints a table in Markdown; leave out --json")
    encoders: dict[str, Any] = {}

    def encode(views: str) -> Any:
        return encoders.setdefault(views, open_encoder("demo", cache, views=views))

    with progress_shown(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)  # of classes that a control leaves without a text
        lines = Table(open_llm("demo", cache), encode, images).lines()
        if into:
            write(into, lines)
        for line in () if into else lines:
            typer.echo(line)
