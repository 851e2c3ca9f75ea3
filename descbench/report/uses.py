"""What each description of a run is worth, kept beside it: a report shows it and has no features to compute it from."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from descbench.errors import InputError
from descbench.files import write_whole
from descbench.methods.cascade import stages_of
from descbench.report.gallery import SCHEMA, fingerprint, read_beside
from descbench.worth import Use, usefulness

if TYPE_CHECKING:
    from collections.abc import Mapping

    from descbench.classifier import Classifier
    from descbench.embedding import Embedded
    from descbench.evaluation import Evaluation

FILE = "usefulness.json"
MOST = 20_000_000
"""Images times texts up to which it is computed for every run, in a second or two; `descbench explain` has no limit."""


def keep(
    folder: Path, classifier: Classifier, embedded: Embedded, result: Evaluation, labels: Mapping[str, str] | None
) -> None:
    """Write `usefulness.json` for a method whose descriptions count one by one; of a large run, why it has none."""
    (folder / FILE).unlink(missing_ok=True)
    stage, *more = stages_of(classifier.method)
    if more or stage.asks_about != "class" or stage.needs_support or stage.pool not in ("mean_score", "mean_feature"):
        return
    texts, images = sum(map(len, classifier.descriptions.classes.values())), len(result.labels)
    data: dict[str, object] = {"schema": SCHEMA, "of": fingerprint(result), "uses": []}
    if texts * images > MOST:
        data["left_out"] = f"{images:,} images and {texts:,} texts are more than is computed for every run"
    else:
        try:
            data["uses"] = [asdict(use) for use in usefulness(classifier, embedded, labels=labels).uses]
        except InputError as error:  # a method whose texts are not its descriptions, one by one
            data["left_out"] = str(error)
    write_whole(folder / FILE, json.dumps(data) + "\n")


def load(folder: Path, result: Evaluation) -> tuple[tuple[Use, ...], str]:
    """The uses of a run and, where it has none, why not. Raises `InputError` where the file is broken, or newer."""
    path = folder / FILE
    if (data := read_beside(path, result)) is None:
        return (), ""
    try:
        return tuple(_read(entry) for entry in data["uses"]), str(data.get("left_out", ""))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, or evaluate again with -o") from None


def _read(entry: dict[str, float]) -> Use:
    use = Use(**entry)  # type: ignore[arg-type]
    if not all(isinstance(number, float) and not math.isinf(number) for number in (use.own, use.others)):
        raise ValueError("similarities are numbers")
    return use
