"""`descbench generate`: ask a language model what each class looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descbench.cli.common import (
    CacheDir,
    Domain,
    Json,
    Llm,
    cache_dir,
    find_classes,
    note,
    open_llm,
    print_json,
    progress_shown,
)
from descbench.errors import InputError, listed


def command(
    classes: Annotated[
        str, typer.Argument(metavar="CLASSES", help="A txt, csv or json file, a folder, names with commas, or demo.")
    ],
    method: Annotated[
        str, typer.Option("--method", "-m", help="Whose questions: see `descbench ls methods`.")
    ] = "dclip",
    llm: Llm = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write. Default: stdout.")] = None,
    domain: Domain = "",
    attempts: Annotated[int, typer.Option(min=1, help="How often to ask where a reply cannot be used.")] = 3,
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature; sent only if given.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest reply, in tokens.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Keep nothing of what FILE has.")] = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Ask a language model what each class looks like, and write a file that a person can edit.

    What the file already holds is kept, edited lines too, and only what is missing is asked. Every reply is kept in the
    cache: the same command again goes on where it was.

    Example: descbench generate birds.txt --domain birds --llm transformers:./Qwen3-8B -o birds.desc.json
    """
    if llm is None:
        raise InputError("which language model? Add --llm, as in --llm transformers:PATH_OR_ID, or --llm demo")
    from descbench import generation, spec
    from descbench.descriptions import Descriptions

    vocabulary = find_classes(classes, domain)
    chosen = spec.method(method)
    if not generation.undescribed(vocabulary, chosen, Descriptions()):
        raise InputError(f"{method} asks nothing, so there is nothing to generate; dclip and differential do")
    known = Descriptions()
    if output is not None and output.exists() and not overwrite:
        known = Descriptions.load(output).matched(vocabulary)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    model = open_llm(llm, cache_dir(cache), **{k: v for k, v in options.items() if v is not None})
    kept = len(known.classes) + len(known.pairs)
    with progress_shown():
        found = generation.generate(vocabulary, chosen, model, known=known, attempts=attempts)
    if output is not None:
        found.save(output)
    if json or output is None:
        print_json(found.to_json())
    missing = generation.undescribed(vocabulary, chosen, found)
    what = [f"{len(found.classes)} classes"] if found.classes else []
    what += [f"{len(found.pairs)} pairs"] if found.pairs else []
    told = f"{', '.join(what) or 'nothing'} described; {model.asked} asked, {model.hits} from the cache"
    note(told + (f", {kept} kept from {output}" if kept else "") + (f"; written to {output}" if output else ""))
    if missing:
        names = [" / ".join(vocabulary.name(i) for i in subject) for subject in missing]
        more = f"--attempts {2 * attempts} asks them again"
        note(f"{len(missing)} without a usable reply after {attempts} attempts: {listed(names)}; {more}")
        raise typer.Exit(3)
