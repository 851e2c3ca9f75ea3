"""`descbench score`: the best classes of any number of pictures, from kept features into a parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descbench.cli.bench import Bench, Given, check_choices, choose_methods
from descbench.cli.common import (
    BatchSize,
    CacheDir,
    Classes,
    Compile,
    Data,
    DescriptionFile,
    Device,
    Domain,
    Draft,
    Encoder,
    Json,
    Limit,
    Llm,
    MaxRequests,
    OneMethod,
    Precision,
    Split,
    Strict,
    Support,
    TemplateFile,
    Validation,
    Views,
    Workers,
    cache_dir,
    choose_classes,
    encoder_for,
    note_unreadable,
    print_json,
    progress_shown,
)


def command(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The parquet file to write.")],
    method: OneMethod = None,
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
    support: Support = "",
    validation: Validation = "",
    templates: TemplateFile = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes to write for an image.")] = 5,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    draft: Draft = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Write the best classes of each image into a parquet file: id, source, ids, names and scores. Labels are not used.

    Features that `descbench embed` has kept are read block by block; images without any are encoded here, and kept.
    Memory does not grow with their number.

    Example: descbench score folder:./photos -d birds.desc.json --encoder demo -o predictions.parquet
    """
    from descbench.bulk import score

    run = (data, split, limit, strict, views, precision, compile, llm or "", max_requests, support, validation)
    given = Given(*run, draft=draft)
    source = given.source()
    vocabulary, known = choose_classes(classes, descriptions, domain, None, source)
    methods = choose_methods([method] if method else [], known, templates, views)
    check_choices(methods, given)
    model = given.encoder(encoder_for(data, encoder), cache_dir(cache), device)
    bench = Bench(vocabulary, model, given.language(cache_dir(cache)), known, None, device, given)
    with progress_shown():
        bench.read_others()
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
    note_unreadable(done.failures, of=done.images, then=" and have no row")
    if done.failures or bench.failed:
        raise typer.Exit(3)
