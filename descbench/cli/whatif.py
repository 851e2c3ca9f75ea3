"""`descbench what-if`: what a change of some lines does to the answers, before it is made."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.bench import choose_methods
from descbench.cli.common import (
    CacheDir,
    Device,
    Domain,
    Encoder,
    Json,
    Labels,
    Limit,
    Llm,
    MaxRequests,
    OneMethod,
    Precision,
    Split,
    TemplateFile,
    Views,
    cache_dir,
    choose_classes,
    encoder_for,
    note,
    note_unreadable,
    open_encoder,
    open_llm,
    print_json,
    progress_shown,
)
from descbench.errors import InputError, MatchError, listed, nearest

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.edits import Edit
    from descbench.vocabulary import Vocabulary
    from descbench.whatif import WhatIf

WIDTH = 100


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Descriptions: a file of descbench's, or a published one.")
    ],
    name: Annotated[str, typer.Option("--class", help="The class whose lines change: its name, or its id.")],
    drop: Annotated[
        list[str] | None,
        typer.Option("--drop", help="A line to leave out: its number in the list, from 1 on, or its text."),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", help='Another text for a line: NUMBER=TEXT, as "3=a small red comb".'),
    ] = None,
    add: Annotated[list[str] | None, typer.Option("--add", help="A line to add at the end.")] = None,
    data: Annotated[str, typer.Option("--data", help="A labelled data set: `descbench ls datasets`.")] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Make the change in FILE, which remembers that it is yours.")
    ] = False,
    method: OneMethod = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    labels: Labels = None,
    split: Split = "",
    limit: Limit = None,
    domain: Domain = "",
    templates: TemplateFile = None,
    most: Annotated[
        int, typer.Option("--max", min=0, help="Images shown that are answered otherwise; 0 shows all.")
    ] = 10,
    device: Device = "auto",
    precision: Precision = None,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Say what it does to accuracy to drop, replace or add lines of one class, and which images it changes.

    Without a change it lists the lines of the class with their numbers. --drop, --replace and --add may each be given
    several times; all numbers are those of the list before the change. Images are encoded once and kept: then only new
    lines are encoded. FILE stays as it is without --write.

    Example: descbench what-if birds.desc.json --class hen --drop 3 --add "a small red comb" --data folder:./photos
    """
    from descbench.edits import Edit, edited, write_edit

    edit = Edit(tuple(drop or ()), tuple(map(_replacement, replace or ())), tuple(add or ()))
    if write and not edit:
        raise InputError("--write makes a change; say which: --drop, --replace or --add")
    if edit and not data and not write:
        raise InputError("which images? Give --data DATA to see what the change does, or --write to make it unseen")
    from descbench import spec

    source = spec.dataset(data, split=split, limit=limit) if data else None
    vocabulary, known = choose_classes(None, file, domain, labels, source)
    assert known is not None
    id_ = class_id(name, vocabulary, f"in {file}")
    called, texts = vocabulary.name(id_), known.classes.get(id_, [])
    after = edit.applied(texts, called)
    by_hand = edited(known).get((id_,), [])
    found: dict[str, Any] = {"file": str(file), "class": called, "id": id_, "before": texts, "after": after}
    shown = [] if json else [_lines_table(called, texts, edit, by_hand)]
    failures: tuple[tuple[str, str], ...] = ()
    if source is not None and edit:
        from descbench.classifier import Classifier
        from descbench.embedding import embed
        from descbench.evaluation import labels_of
        from descbench.whatif import what_if

        (chosen,) = choose_methods([method] if method else [], known, templates, views).values()
        labels_of(source, vocabulary, labels)
        options = {"device": device, "precision": precision, "views": views}
        model = open_encoder(encoder_for(data, encoder), cache_dir(cache), **options)
        language = open_llm(llm, cache_dir(cache), max_requests) if llm else None
        classifier = Classifier(vocabulary, chosen, model, language, known, device=device)
        with progress_shown():
            embedded = embed(source, model)
            result = what_if(classifier, _changed(known, id_, after), embedded, labels=labels)
        failures = embedded.failures
        found |= _as_json(result)
        shown += [] if json else [_effect(result, most)]
    if write:
        write_edit(file, id_, after, [text for text in after if text not in texts])
    if json:
        print_json({**found, "written": write})
    else:
        typer.echo("\n".join(shown))
    if write:
        note(f"written to {file}")
    note_unreadable(failures)
    if failures:
        raise typer.Exit(3)


def _replacement(given: str) -> tuple[str, str]:
    """NUMBER=TEXT."""
    number, equals, text = given.partition("=")
    if not equals or not number.strip().isdecimal():
        raise InputError(
            f'--replace takes a line\'s number and its new text, as "3=a small red comb"; given: {given!r}'
        )
    return number.strip(), text


def class_id(given: str, vocabulary: Vocabulary, where: str) -> int:
    """The id of a class by its name, or by the id itself; `where` is "in FILE", for the error."""
    ids = vocabulary.called(given)
    if len(ids) == 1:
        return ids[0]
    if len(ids) > 1:
        raise MatchError(f"{given!r} is the name of {len(ids)} classes {where}; give an id: {listed(ids)}")
    if given.isdecimal() and int(given) in vocabulary.ids:
        return int(given)
    raise MatchError(
        f"no class {given!r} {where}{nearest(given, vocabulary.names) or '.'} There are {len(vocabulary)}: "
        f"{listed(vocabulary.names)}"
    )


def _changed(known: Descriptions, id_: int, texts: list[str]) -> Descriptions:
    from dataclasses import replace

    classes = {**known.classes, id_: texts}
    return replace(known, classes={i: told for i, told in classes.items() if told})


def _lines_table(name: str, texts: list[str], edit: Edit, by_hand: list[str]) -> str:
    """The lines of a class with their numbers, and what becomes of them."""
    gone = {number for number, text in enumerate(texts, 1) if {str(number), text} & set(edit.drop)}
    new = {int(number): text for number, text in edit.replace}
    rows: list[tuple[str, str, str]] = []
    for number, text in enumerate(texts, 1):
        rows.append(
            ("-" if number in gone or number in new else " ", f"{number}.", text + " (edited)" * (text in by_hand))
        )
        rows += [("+", "", new[number])] if number in new else []
    rows += [("+", "", text) for text in edit.add]
    lines = [f"{name}: {len(texts)} lines" if texts else f"{name}: no line yet"]
    for sign, numbered, text in rows:
        said = textwrap.wrap(text, WIDTH - 8) or [""]
        lines += [f"{sign} {numbered:>4} {said[0]}", *(" " * 7 + more for more in said[1:])]
    return "\n".join(line.rstrip() for line in lines)


def _effect(result: WhatIf, most: int) -> str:
    """What the change does, as text."""
    d = result.difference
    right = int(result.before.hits.sum()), int(result.after.hits.sum())
    lines = [
        f"{result.before.title} on {result.before.dataset}: {right[0]} -> {right[1]} of {d.n} images right",
        f"top-1 {100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], McNemar p = {d.p:.2g}: "
        f"{d.gained} gained, {d.lost} lost; {len(result.flips)} answered otherwise",
    ]
    for (before, after), (many, gained, lost) in result.moves.items():
        lines.append(f"  {many:>4}  {before} -> {after}: {gained} become right, {lost} wrong")
    shown = result.flips[: most or None]
    for flip in shown:
        told = "right" if flip.is_right else f"wrong: it is {flip.label}"
        lines.append(f"    {flip.source}: {flip.before} -> {flip.after}, {told}")
    if len(shown) < len(result.flips):
        lines.append(f"    and {len(result.flips) - len(shown)} more: --max 0 shows all")
    return "\n".join(lines)


def _as_json(result: WhatIf) -> dict[str, Any]:
    moves = [
        {"before": before, "after": after, "images": many, "gained": gained, "lost": lost}
        for (before, after), (many, gained, lost) in result.moves.items()
    ]
    return {
        "method": result.before.method,
        "dataset": result.before.dataset,
        "encoder": result.before.encoder,
        "right": [int(result.before.hits.sum()), int(result.after.hits.sum())],
        "images": result.difference.n,
        "top1": [asdict(run.metrics["top1"]) for run in (result.before, result.after)],
        "difference": asdict(result.difference),
        "moves": moves,
        "flips": [asdict(flip) for flip in result.flips],
    }
