"""One honest evaluation: predictions and labels are kept, and every number is computed from them."""

from __future__ import annotations

import json
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.classifier import Classifier
from descbench.embedding import Embedded, embed
from descbench.errors import DescbenchWarning, InputError, MatchError, listed
from descbench.methods.base import together
from descbench.methods.cascade import stages_of
from descbench.methods.cupl import title
from descbench.plugins import version_of
from descbench.predictions import Predictions
from descbench.selection import WEIGHTS, Labelled
from descbench.statistics import Metric, mean_per_class, wilson
from descbench.vocabulary import Vocabulary, read_labels

if TYPE_CHECKING:
    from descbench.datasets.base import Dataset
    from descbench.encoders.base import Encoder

SCHEMA = 1
KEPT = 20
TIE = 1e-6  # scores nearer than this may come in either order, on another machine or in another batch


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run answered: predictions (N, K), `labels` (N,) as class ids, `ids` of the images, and what was run.

    `counts` says how many images were unlabelled, unreadable or left out, and how many classes undescribed. `method` is
    a spelling that makes the method again, `title` one for people. `chosen` says what other labelled images chose:
    `support` (texts) and `w` (the weight of the name), each with its `split` and how many `images` it has.
    """

    predictions: Predictions
    labels: np.ndarray  # (N,) int64, ids of the vocabulary
    ids: tuple[str, ...]
    dataset: str
    method: str
    encoder: str
    llm: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    protocol: str = "inductive"  # what was seen besides the one picture and the names
    compute: Mapping[str, str | bool] = field(default_factory=dict)  # the encoder's device, precision, compile
    title: str = ""
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accepted: np.ndarray | None = None  # (N, L) int64, all right ids, `labels` first, where some image has several

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.method)

    @property
    def hits(self) -> np.ndarray:
        """Whether the best class is the label, or one of those that are accepted, (N,) bool."""
        return self._hits(1)

    def _hits(self, k: int) -> np.ndarray:
        """Whether one of the best k classes is right, (N,) bool: of several right labels any one counts."""
        right = self.labels[:, None] if self.accepted is None else self.accepted  # (N, L)
        found: np.ndarray = (self.predictions.ids[:, :k, None] == right[:, None, :]).any(axis=(1, 2))
        return found

    @property
    def tied(self) -> np.ndarray:
        """Whether the best two scores are nearer than 1e-6, so that rounding may have decided, (N,) bool."""
        scores = self.predictions.scores[:, :2].astype(np.float64)
        if scores.shape[1] < 2:
            return np.zeros(len(scores), dtype=bool)
        found: np.ndarray = scores[:, 0] - scores[:, 1] < TIE
        return found

    @property
    def ties(self) -> int:
        """In how many images that is so."""
        return int(self.tied.sum())

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """`top1` and `top5` with Wilson's interval, `per_class` (balanced accuracy) with a bootstrap interval."""
        n = len(self.labels)
        found = {"top1": wilson(int(self.hits.sum()), n)}
        if self.predictions.ids.shape[1] >= 5 and len(self.predictions.vocabulary) > 5:
            found["top5"] = wilson(int(self._hits(5).sum()), n)
        found["per_class"] = mean_per_class(self.hits, self.labels)
        return found

    def save(self, folder: str | Path) -> None:
        """Write the run into a folder: `run.json`, and `predictions.parquet` with a row an image."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                "id": list(self.ids),
                "label": self.labels,
                "ids": list(self.predictions.ids),
                "scores": list(self.predictions.scores),
            }
            | ({} if self.accepted is None else {"accepted": list(self.accepted)})
        )
        pq.write_table(table, folder / "predictions.parquet.part")
        (folder / "predictions.parquet.part").replace(folder / "predictions.parquet")
        vocabulary = self.predictions.vocabulary
        run = {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "method": self.method,
            "title": self.title,
            "encoder": self.encoder,
            "llm": self.llm,
            "protocol": self.protocol,
            "chosen": {what: dict(by) for what, by in self.chosen.items()},
            "ties": self.ties,
            "compute": dict(self.compute),
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "counts": dict(self.counts),
            "failures": [list(failure) for failure in self.failures],
            "versions": dict(self.versions),
            "usage": dict(self.usage),
            "timings": dict(self.timings),
            "vocabulary": {
                "domain": vocabulary.domain,
                "ids": vocabulary.ids.tolist(),
                "names": list(vocabulary.names),
            },
        }
        # run.json is written last: a folder with one is whole.
        (folder / "run.json.part").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "run.json.part").replace(folder / "run.json")

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what `save` wrote; the metrics are computed anew from the predictions.

        Raises `InputError` where the folder holds no run, half of one, or one of a newer version.
        """
        import pyarrow.parquet as pq

        folder = Path(folder)
        missing = [name for name in ("run.json", "predictions.parquet") if not (folder / name).is_file()]
        if missing:
            raise InputError(f"{folder} holds no whole run: {listed(missing)} missing; evaluate again with -o {folder}")
        try:
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            table = pq.read_table(folder / "predictions.parquet")
        except (ValueError, OSError) as error:  # of JSON and of Arrow
            raise InputError(
                f"{folder}: run.json or predictions.parquet is damaged ({error}); evaluate again"
            ) from None
        if not isinstance(run, dict) or "schema" not in run:
            raise InputError(f"{folder}: run.json is not of descbench; evaluate again with -o {folder}")
        if run["schema"] > SCHEMA:
            raise InputError(f"{folder} was written by a newer descbench (schema {run['schema']}); update descbench")
        k = len(table["ids"][0]) if len(table) else 1
        stored = run["vocabulary"]
        vocabulary = Vocabulary(stored["names"], stored["domain"], stored["ids"])
        ids = table["ids"].combine_chunks().flatten().to_numpy().reshape(-1, k)
        scores = table["scores"].combine_chunks().flatten().to_numpy().reshape(-1, k)
        return cls(
            Predictions(vocabulary, ids, scores),
            table["label"].to_numpy(),
            tuple(table["id"].to_pylist()),
            run["dataset"],
            run["method"],
            run["encoder"],
            run["llm"],
            run["counts"],
            tuple((source, reason) for source, reason in run["failures"]),
            run["versions"],
            run["usage"],
            run["timings"],
            run.get("protocol", "inductive"),
            run.get("compute", {}),
            run.get("title", ""),
            run.get("chosen", {}),
            np.stack(table["accepted"].to_numpy()) if "accepted" in table.column_names else None,
        )


def evaluate(
    classifier: Classifier,
    data: Dataset | Embedded,
    *,
    labels: str | Path | Mapping[str, str] | None = None,
    name: str = "",
) -> Evaluation:
    """Run a classifier over a data set (or over one that was embedded before) and keep what it answered.

    `labels` maps the data set's labels to classes: a csv file with the columns `label` and `class`, or a dictionary.
    Images without a label are counted and left out. Raises `MatchError` where a label has no class, `InputError` where
    no labelled image is left, and where one of them is among the classifier's support, or what it was tuned on.
    """
    started = time.perf_counter()
    embedded = data if isinstance(data, Embedded) else embed(data, classifier.encoder)
    encoded = time.perf_counter()
    images = _labelled(embedded, classifier.vocabulary, labels, name)
    check_unseen(embedded, classifier.support, classifier.tuning.split if classifier.tuning else None)
    predictions = classifier.predict_features(images.features, top_k=KEPT)
    done = time.perf_counter()
    return Evaluation(
        predictions,
        images.labels,
        images.ids,
        images.name,
        repr(classifier.method),
        repr(classifier.encoder),
        repr(classifier.llm) if classifier.llm is not None else "",
        {
            "images": len(images),
            "unlabelled": len(embedded) - len(images),
            "unreadable": len(embedded.failures),
            **_part_of(embedded.dataset),
            **classifier.counts,
        },
        tuple(embedded.failures),
        versions(),
        dict(getattr(classifier.llm, "usage", {})),
        {"encode_images": encoded - started, "classify": done - encoded},
        protocol_of(classifier),
        compute.used if (compute := getattr(classifier.encoder, "compute", None)) else {},
        title(classifier.method),
        chosen_by(classifier),
        images.accepted,
    )


def _part_of(dataset: Any) -> dict[str, int]:
    """`limit` and `available`, how many images there are in all, where a run looks at a part of a data set."""
    available = getattr(dataset, "available", 0)
    return {"limit": dataset.limit, "available": available} if available > len(dataset) else {}


def labelled(
    data: Dataset | Embedded,
    vocabulary: Vocabulary,
    encoder: Encoder | None = None,
    *,
    labels: str | Path | Mapping[str, str] | None = None,
    name: str = "",
) -> Labelled:
    """The labelled images of a data set, with classes of the vocabulary as labels: for `Classifier(support=...)`, and
    for `Classifier.tuned`. `labels` maps labels to classes as in `evaluate`; `name` is the split's in results.

    Warns (`DescbenchWarning`) of images that have no label or cannot be read. Raises `MatchError` where a label has no
    class, `InputError` where no image is labelled, and for a data set that is not encoded yet without an encoder.
    """
    if not isinstance(data, Embedded):
        if encoder is None:
            raise InputError(f"{data!r} is not encoded; give the encoder too: db.labelled(data, vocabulary, encoder)")
        data = embed(data, encoder)
    found = _labelled(data, vocabulary, labels, name)
    left_out = [f"{len(data) - len(found)} have no label"] if len(found) < len(data) else []
    if data.failures:
        why = listed((f"{source}: {reason}" for source, reason in data.failures), 5)
        left_out.append(f"{len(data.failures)} cannot be read ({why})")
    if left_out:
        warnings.warn(
            f"{found.name}: of its images {' and '.join(left_out)}; these choose nothing",
            DescbenchWarning,
            stacklevel=2,
        )
    return found


def _labelled(
    data: Embedded, vocabulary: Vocabulary, labels: str | Path | Mapping[str, str] | None, name: str = ""
) -> Labelled:
    """The same, of what is encoded, without a word about what is left out."""
    ids = labels_of(data.dataset, vocabulary, labels)
    known = data.labels >= 0  # (N,)
    if not known.any():
        raise InputError(f"{data.dataset!r} has no labelled image that could be read; `descbench classify` needs none")
    return Labelled(
        data.features if known.all() else data.features[known],  # nothing is copied for nothing
        ids[data.labels[known]],
        name or repr(data.dataset),
        tuple(id_ for id_, keep in zip(data.ids, known, strict=True) if keep),
        None if data.accepted is None else np.asarray(ids[data.accepted[known]]),
    )


def check_unseen(data: Embedded, support: Labelled | None, validation: Labelled | None) -> None:
    """Raises `InputError` where images that are to be tested on are among those that choose texts, or a weight."""
    ids = [id_ for id_, label in zip(data.ids, data.labels.tolist(), strict=True) if label >= 0]
    for what, split in (("support", support), ("validation", validation)):
        if split is not None:
            split.check_apart(what, ids, repr(data.dataset))


def chosen_by(classifier: Classifier) -> dict[str, dict[str, Any]]:
    """What labelled images have chosen for a classifier, and which."""
    found: dict[str, dict[str, Any]] = {}
    if (support := classifier.support) is not None:
        found["support"] = {"split": support.name, "images": len(support)}
    if (tuning := classifier.tuning) is not None:
        split = tuning.split
        found["w"] = {"value": tuning.w, "split": split.name, "images": len(split), "right": tuning.right}
    return found


@dataclass(frozen=True, eq=False)
class Curve:
    """How many images are right at each weight of the name: no result, since its best is chosen on the very images that
    it is counted on. `best` is "tuned on this split"; `Classifier.tuned` chooses on another one."""

    method: str
    dataset: str
    weights: np.ndarray  # (W,)
    right: np.ndarray  # (W,) int64
    images: int

    @property
    def best(self) -> float:
        """The weight with most right, the smallest of several."""
        return float(self.weights[self.right.argmax()])


def curve_of(
    classifier: Classifier, data: Dataset | Embedded, *, labels: str | Path | Mapping[str, str] | None = None
) -> Curve:
    """The curve of a classifier over the paper's 160 weights; errors are those of `evaluate` and `Classifier.curve`."""
    embedded = data if isinstance(data, Embedded) else embed(data, classifier.encoder)
    images = _labelled(embedded, classifier.vocabulary, labels)
    right = images.right(classifier.curve(images.features)).sum(axis=1)
    return Curve(title(classifier.method), images.name, WEIGHTS, right, len(images))


def protocol_of(classifier: Classifier) -> str:
    """What a classifier sees besides the one picture and the names of the classes: results compare within a protocol.

    "inductive" where that is nothing; else of "multi-view", "uses support labels", ... those that hold, with splits.
    """
    seen = [getattr(classifier.encoder, "protocol", "")]
    seen += [getattr(stage, "protocol", "") for stage in stages_of(classifier.method)]
    if getattr(classifier.method, "budget", None) is not None:  # what is asked follows from all images together
        seen.append("uses unlabelled images")
    if classifier.support is not None and classifier.support.name:
        used = "uses support labels"
        seen = [part.replace(used, f"{used} of {classifier.support}") for part in seen]
    return together(*seen, str(classifier.tuning or ""))


def labels_of(
    dataset: Dataset, vocabulary: Vocabulary, labels: str | Path | Mapping[str, str] | None = None
) -> np.ndarray:
    """The class of each label of a data set as `label_ids` finds it; the `MatchError` names the data set."""
    try:
        return label_ids(dataset.names, vocabulary, labels)
    except MatchError as error:
        raise MatchError(f"{dataset!r}: {error}") from None


def label_ids(
    names: Sequence[str], vocabulary: Vocabulary, labels: str | Path | Mapping[str, str] | None = None
) -> np.ndarray:
    """The class of each label of a data set, (len(names),) ids: by its name, or as `labels` maps it.

    Raises `MatchError` where a label has no class.
    """
    if labels is None:
        return vocabulary.match(names, "label")
    mapping = labels if isinstance(labels, Mapping) else read_labels(labels)
    silent = [name for name in names if name not in mapping]
    if silent:
        unknown = [label for label in mapping if label not in set(names)]
        raise MatchError(
            f"the labels file maps {len(mapping)} labels, but not {listed(map(repr, silent))} of the data set"
            + (f"; it has {listed(map(repr, unknown))}, which do not occur there" if unknown else "")
        )
    # Several labels may mean one class, so each class is looked up once.
    distinct = list(dict.fromkeys(mapping[name] for name in names))
    ids = dict(zip(distinct, vocabulary.match(distinct, "class of the labels file").tolist(), strict=True))
    return np.array([ids[mapping[name]] for name in names], dtype=np.int64)


def versions() -> dict[str, str]:
    """What a result depends on: the versions of descbench, Python and the libraries that compute."""
    packages = ("descbench", "torch", "open_clip_torch", "transformers", "numpy", "pillow")
    found = {package: version_of(package) for package in packages}
    return {"python": platform.python_version()} | {package: version for package, version in found.items() if version}
