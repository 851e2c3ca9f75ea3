"""`descbench explain`: what each description adds to one answer, or is worth over a whole data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.bench import choose_methods
from descbench.cli.common import (
    CacheDir,
    Classes,
    Compile,
    DescriptionFile,
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
from descbench.cli.whatif import class_id
from descbench.errors import InputError

if TYPE_CHECKING:
    from descbench.classifier import Classifier
    from descbench.explanation import Explanation


def command(
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="A picture.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", "-a", help="Why not this class? Else the one that comes next.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="Instead of IMAGE: what each description is worth over this data set.")
    ] = "",
    method: OneMethod = None,
    descriptions: DescriptionFile = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    classes: Classes = None,
    labels: Labels = None,
    split: Split = "",
    limit: Limit = None,
    domain: Domain = "",
    templates: TemplateFile = None,
    most: Annotated[int, typer.Option("--max", min=0, help="Descriptions shown, of each end; 0 shows all.")] = 10,
    heatmap: Annotated[
        Path | None, typer.Option("--heatmap", help="Draw where the best reasons are seen: a .png, .jpg or .webp.")
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """What each description adds to the decision between the answer for IMAGE and another class; or with --data, which
    descriptions make answers right, and which make them wrong.

    What a description adds is how much it moves the answer ahead of the other class; all together they add up to its
    lead. One of the answer speaks for it by fitting well, one of the other class by fitting badly. Over a data set, a
    description is worth the images that would be lost without it, less those that would be gained.

    Example: descbench explain photo.jpg -d birds.desc.json --against rooster --encoder demo
    """
    from descbench import spec
    from descbench.classifier import Classifier
    from descbench.datasets.images import load_image
    from descbench.evaluation import labels_of
    from descbench.heatmaps import save_heatmaps, sheet_path

    if (image is None) == (not data):
        raise InputError(
            "explain takes a picture, or --data DATA for a whole data set" + ("; give one" if data else "")
        )
    if data and (against is not None or heatmap is not None):
        raise InputError("--against and --heatmap are for one picture; over a data set all classes compete")
    if not data and (labels or split or limit):
        raise InputError("--labels, --split and --limit are for --data; one picture needs none")
    picture = load_image(image) if image is not None else None  # what cannot be is said before a model is loaded
    if heatmap is not None:
        sheet_path(heatmap)
    source = spec.dataset(data, split=split, limit=limit) if data else None
    vocabulary, known = choose_classes(classes, descriptions, domain, labels, source)
    (chosen,) = choose_methods([method] if method else [], known, templates, views).values()
    rival = class_id(against, vocabulary, "among those that compete") if against is not None else None
    if source is not None:
        labels_of(source, vocabulary, labels)
    options = {"device": device, "precision": precision, "compile": compile, "views": views}
    model = open_encoder(encoder_for(data, encoder), cache_dir(cache), **options)
    language = open_llm(llm, cache_dir(cache), max_requests) if llm else None
    classifier = Classifier(vocabulary, chosen, model, language, known, device=device)
    if image is not None:
        with progress_shown():
            why = classifier.explain(image, rival)
            if heatmap is not None and picture is not None:
                save_heatmaps(heatmap, picture, why, model)
        if json:
            print_json({"image": str(image), **explanation_json(why)})
        else:
            typer.echo(f"{image}: {why.table(most)}")
        if heatmap is not None:
            note(f"drawn into {heatmap}")
    else:
        _worth(classifier, source, labels, most, json)


def _worth(classifier: Classifier, source: Any, labels: Path | None, most: int, json: bool) -> None:
    from descbench.embedding import embed
    from descbench.worth import usefulness

    with progress_shown():
        embedded = embed(source, classifier.encoder)
        found = usefulness(classifier, embedded, labels=labels)
    if json:
        head = {"method": found.method, "dataset": found.dataset, "images": found.images, "right": found.right}
        uses = [{**asdict(use), "own": _or_none(use.own), "others": _or_none(use.others)} for use in found.ranked]
        print_json({**head, "idle": len(found.idle), "uses": [{"worth": u["lost"] - u["gained"], **u} for u in uses]})
    else:
        typer.echo(found.table(most))
    note_unreadable(embedded.failures)
    if embedded.failures:
        raise typer.Exit(3)


def _or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if value == value else None


def explanation_json(why: Explanation) -> dict[str, Any]:
    """An explanation for programs: its fields, with the contributions ranked."""
    found: dict[str, Any] = {
        "answer": why.answer,
        "against": why.against,
        "stage": why.stage,
        "pool": why.pool,
        "score": why.score,
        "rival_score": why.rival_score,
        "lead": why.lead,
        "contributions": [asdict(one) for one in why.contributions],
    }
    if why.first_stage:
        found |= {"first_stage": why.first_stage, "first": why.first, "changed": why.changed}
        found["turn"] = explanation_json(why.turn) if why.turn else None
    return found
