"""`descbench import` and `descbench export`: from the files of others, and back into them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import CacheDir, Domain, Json, cache_dir, find_classes, note, print_json
from descbench.errors import InputError, listed

if TYPE_CHECKING:
    from descbench.descriptions import Descriptions
    from descbench.formats import Joined
    from descbench.formats.openai_batch import Batch, Described
    from descbench.vocabulary import Vocabulary

_HOW = {"same": "the same", "case": "by case", "normalised": "by normalised name", "id": "by id"}
Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="A file or folder; of an OpenAI batch, several: output and errors."),
    ],
    output: Output,
    format: Annotated[
        str, typer.Option("--format", help="auto, or one of docs/formats.md; told by the content if not given.")
    ] = "auto",
    vocabulary: Annotated[
        str | None, typer.Option("--vocabulary", "-c", help="Your classes: a txt, csv or json file, or names.")
    ] = None,
    domain: Domain = "",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Go on without classes that only one side has.")
    ] = False,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="The requests of an OpenAI batch. Default: beside the replies.")
    ] = None,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Read descriptions that somebody published, or the replies of a batch, and write a file that a person can edit.

    Classes are joined by name, never by position, and the mapping is printed. What fits no class is an error.

    Example: descbench import descriptors_pets.json --vocabulary pets.txt -o pets.desc.json
    """
    from descbench.formats import join, mapping

    classes = find_classes(vocabulary, domain) if vocabulary else None
    batch, described, found = _read(files, format, classes, requests)
    # Without a vocabulary the classes are those of the file, which raises where it does not name them.
    target = classes or found.vocabulary()
    joined, left_out = mapping(found, target), found.left_out(target)
    found = join(found, target, allow_missing)
    found = replace(found, domain=domain or found.domain)
    found.save(output)
    if json:
        report = {**_report(found), "mapping": [row._asdict() for row in joined]}
        report["left_out"] = dict(zip(("file", "vocabulary"), left_out, strict=True))
        if batch is not None and described is not None:
            report["batch"] = {**batch.counts, "unusable": described.unusable, "mended": dict(described.repairs)}
        print_json(report)
    else:
        typer.echo(f"{_amount(found)} of the format {found.provenance['format']}")
        typer.echo(
            _told(joined) if classes else f"{len(target)} classes, named as in the file; their ids are its order"
        )
        if silent := _silent(found):
            typer.echo(f"{len(silent)} without a description: {listed(silent)}")
    note(f"written to {output}")
    if batch is not None:
        _into_cache(batch, cache_dir(cache))
    if described is not None and described.unusable:
        raise typer.Exit(3)


def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Descriptions: a file of descbench's, or published.")],
    output: Output,
    format: Annotated[str, typer.Option("--format", help="dclip, cupl, fudd or csv.")],
) -> None:
    """Write descriptions in a form that other tools read.

    dclip and cupl are {"class": [texts]}; fudd is X_prompt_pairs.json with X_class_names.json beside it; csv is a text
    a row and holds everything.

    Example: descbench export pets.desc.json --format dclip -o descriptors_pets.json
    """
    from descbench.formats import read_descriptions, write

    found = read_descriptions(file)
    write(found, output, format)
    note(f"{_amount(found)} written to {output}")


def _read(
    files: list[Path], format: str, classes: Vocabulary | None, requests: Path | None
) -> tuple[Batch | None, Described | None, Descriptions]:
    """The descriptions under the ids of the file; with the batch where it is one."""
    from descbench.formats import openai_batch, read
    from descbench.formats.source import Source

    source = Source(files[0])
    if format == "openai-batch" or (format == "auto" and openai_batch.detect(source)):
        batch = openai_batch.read_batch(files, requests)
        described = openai_batch.describe(batch, str(files[0]))
        source.notes += openai_batch.told(batch, described)
        source.warn()
        provenance = {**described.descriptions.provenance, "file": files[0].name, "format": "openai-batch"}
        return batch, described, replace(described.descriptions, provenance=provenance)
    if len(files) > 1 or requests is not None:
        raise InputError(f"{files[0]} is no batch of OpenAI's; give one file, and no --requests")
    return None, None, read(files[0], format, classes)


def _into_cache(batch: Batch, folder: Path) -> None:
    from descbench.llms.batch import take_over
    from descbench.store import ReplyStore

    kept, new, bare = take_over(batch, ReplyStore(folder / "replies.sqlite"))
    unknown = f"; {bare:,} have no request to be kept under" if bare else ""
    note(f"{kept:,} replies in the cache, {new:,} of them new{unknown}")


def _told(joined: list[Joined]) -> str:
    """How the classes were joined, on one line: `37 classes: 20 the same; 17 by case: beagle -> Beagle, ...`."""
    parts = []
    for how, count in Counter(row.how for row in joined).most_common():
        examples = [f"{row.given} -> {row.name}" for row in joined if row.how == how]
        parts.append(f"{count} {_HOW[how]}" + ("" if how == "same" else f": {listed(examples, 3)}"))
    return f"{len(joined)} classes: {'; '.join(parts)}"


def _report(found: Descriptions) -> dict[str, Any]:
    return {
        "format": found.provenance["format"],
        "classes": len(found.classes),
        "pairs": len(found.pairs),
        "sets": len(found.sets),
        "texts": len(found.texts),
        "without": _silent(found),
    }


def _silent(found: Descriptions) -> list[str]:
    """The classes without a text, alone or in a pair."""
    return [name for id_, name in found.names.items() if id_ not in found.mentioned]


def _amount(found: Descriptions) -> str:
    what = [f"{len(found.classes)} classes"] if found.classes else []
    what += [f"{len(found.pairs)} pairs"] if found.pairs else []
    what += [f"{len(found.sets)} sets"] if found.sets else []
    return f"{', '.join(what) or 'nothing'} described in {len(found.texts)} texts"
