"""`descbench classify`: what is in these pictures, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from descbench.cli.bench import choose_methods
from descbench.cli.common import (
    DEFAULT_ENCODER,
    CacheDir,
    Classes,
    Compile,
    DescriptionFile,
    Device,
    Domain,
    Draft,
    Encoder,
    Json,
    Llm,
    MaxRequests,
    OneMethod,
    Precision,
    TemplateFile,
    Views,
    cache_dir,
    choose_classes,
    note_unreadable,
    open_encoder,
    open_llm,
    print_json,
    progress_shown,
)
from descbench.errors import InputError, listed


def command(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.")],
    method: OneMethod = None,
    descriptions: DescriptionFile = None,
    encoder: Encoder = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    classes: Classes = None,
    domain: Domain = "",
    templates: TemplateFile = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many classes to show an image.")] = 3,
    why: Annotated[int, typer.Option("--why", min=0, help="How many reasons to show an image.")] = 2,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    draft: Draft = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Name what pictures show, with the best descriptions as reasons. No labels are needed.

    Example: descbench classify photos/ -d birds.desc.json --encoder demo
    """
    from descbench.classifier import Classifier
    from descbench.datasets.pictures import PicturesDataset
    from descbench.embedding import embed

    vocabulary, known = choose_classes(classes, descriptions, domain)
    (chosen,) = choose_methods([method] if method else [], known, templates, views).values()
    language = open_llm(llm, cache_dir(cache), max_requests) if llm else None
    options = {"device": device, "precision": precision, "compile": compile, "draft": draft, "views": views}
    model = open_encoder(encoder or DEFAULT_ENCODER, cache_dir(cache), **options)
    classifier = Classifier(vocabulary, chosen, model, language, known, device=device)
    paths = _pictures(images)
    with progress_shown():
        classifier.check_texts()
        embedded = embed(PicturesDataset(paths), model)
        predictions = classifier.predict_features(embedded.features, top_k)
        found: list[dict[str, Any]] = []
        for i, source in enumerate(embedded.sources):
            entry: dict[str, Any] = {
                "image": source,
                "classes": [
                    {"id": int(id_), "name": vocabulary.name(id_), "score": round(float(score), 5)}
                    for id_, score in zip(predictions.ids[i], predictions.scores[i], strict=True)
                ],
            }
            if why and len(vocabulary) > 1:
                explanation = classifier.explain_features(embedded.features[i])
                entry["against"] = explanation.against
                entry["reasons"] = [reason.text for reason in explanation.reasons[:why]]
            found.append(entry)
    if json:
        print_json({"images": found, "failures": [list(failure) for failure in embedded.failures]})
    else:
        for entry in found:
            best, *others = entry["classes"]
            rest = "".join(f"  {c['name']} {c['score']:.4f}" for c in others)
            typer.echo(f"{entry['image']}: {best['name']} {best['score']:.4f}" + (f"  |{rest}" if rest else ""))
            for reason in entry.get("reasons", ()):
                typer.echo(f"    because: {reason}")
    note_unreadable(embedded.failures, of=len(paths))
    if embedded.failures:
        raise typer.Exit(3)


def _pictures(given: list[str]) -> list[Path]:
    """The pictures given, and those in the folders given, sorted; raises `InputError` where there are none."""
    from descbench.datasets.images import SUFFIXES

    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"{path} has no pictures in it; these count: {listed(sorted(SUFFIXES), 20)}")
            found += inside
        else:
            found.append(path)
    return found
