"""`descbench score`: the best classes of any number of pictures, from kept features into a parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descbench.cli.bench import Bench, check_choices, check_views
from descbench.cli.common import (
    DEFAULT_ENCODER,
    CacheDir,
    Classes,
    Compile,
    DescriptionFile,
    Device,
    Domain,
    Encoder,
    Json,
    Limit,
    Llm,
    MaxRequests,
    Precision,
    Split,
    Strict,
    TemplateFile,
    Views,
    cache_dir,
    choose_classes,
    note,
    open_encoder,
    open_llm,
    print_json,
    progress_shown,
    use_templates,
    usual_method,
)
from descbench.errors import listed


def command(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A data set: folder:PATH, hf:ORG/NAME, ...: `descbench ls datasets`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The parquet file to write.")],
    method: Annotated[str | None, typer.Option("--method", "-m", help="See `descbench ls methods`.")] = None,
    descriptions: DescriptionFile = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    classes: Classes = None,
    split: Split = "",
    limit: Limit = None,
    strict: Strict = False,
    domain: Domain = "",
    support: Annotated[
        str, typer.Option("--support", help="A labelled data set whose images select texts, for disclip.")
    ] = "",
    validation: Annotated[
        str, typer.Option("--validation", help="A labelled data set that chooses the weight w of disclip.")
    ] = "",
    templates: TemplateFile = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes to write for an image.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images that are encoded together.")] = 64,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that decode images; 0: threads, one a core.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Write the best classes of each image into a parquet file: id, source, ids, names and scores. Labels are not used.

    Features that `descbench embed` has kept are read block by block; images without any are encoded here, and kept.
    Memory does not grow with their number.

    Example: descbench score folder:./photos -d birds.desc.json --encoder demo -o predictions.parquet
    """
    from descbench import spec
    from descbench.bulk import score

    source = spec.dataset(data, split=split, limit=limit, strict=strict)
    vocabulary, known = choose_classes(classes, descriptions, domain, None, source)
    usual = usual_method(known) if known is not None else "templates"
    methods = use_templates({method or usual: spec.method(method or usual)}, templates)
    check_choices(methods, support, validation, curve=False)
    check_views(methods, views)
    chosen = encoder or ("demo" if data.partition(":")[0] == "demo" else DEFAULT_ENCODER)
    model = open_encoder(chosen, cache_dir(cache), device=device, precision=precision, compile=compile, views=views)
    language = open_llm(llm, cache_dir(cache), max_requests) if llm else None
    bench = Bench(vocabulary, model, language, known, None, device, None)
    with progress_shown():
        bench.choose_by(support, validation, strict)
        classifier = bench.ready(bench.classifier(*methods.values()))
        done = score(classifier, source, output, top_k=top_k, batch_size=batch_size, workers=workers)
    if json:
        print_json(
            {
                "dataset": repr(source),
                "method": repr(classifier.method),
                "encoder": repr(model),
                "output": str(done.path),
                "images": done.images,
                "rows": done.rows,
                "failures": [list(failure) for failure in done.failures],
                "seconds": done.seconds,
                "counts": classifier.counts,
            }
        )
    else:
        rate = f"{done.images / done.seconds:,.0f} images/s over {done.seconds:,.1f} s"
        typer.echo(
            f"{data} by {classifier.method!r} with {model!r}: {done.rows:,} rows, {rate}\nwritten to {done.path}"
        )
    if done.failures:
        shown = listed((f"{source}: {reason}" for source, reason in done.failures), 5)
        note(f"{len(done.failures)} of {done.images} images cannot be read and have no row: {shown}")
    if done.failures or bench.failed:
        raise typer.Exit(3)
