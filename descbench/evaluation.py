"""One honest evaluation: predictions and labels are kept, and every number is computed from them."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from descbench.calibration import Softmax
from descbench.classifier import Classifier
from descbench.confidence import Abstention, abstention, auroc, calibration_error, fpr_at_tpr
from descbench.confusion import ClassRow, Confused, Counts
from descbench.devices import pick_device
from descbench.embedding import Embedded, embed
from descbench.errors import DescbenchWarning, InputError, MatchError, listed
from descbench.groups import Groups, assigned, read_groups
from descbench.methods.base import together
from descbench.methods.cascade import stages_of
from descbench.methods.cupl import title
from descbench.plugins import version_of
from descbench.predictions import Predictions
from descbench.runs import PER_CLASS, PREDICTIONS, TAXONOMY, UNKNOWN, Table, csv_text, read_run, write_run
from descbench.selection import WEIGHTS, Labelled
from descbench.statistics import Metric, mean_per_class, mean_value, wilson
from descbench.taxonomy import Level, Taxonomy
from descbench.vocabulary import Vocabulary, read_labels

if TYPE_CHECKING:
    from descbench.datasets.base import Dataset
    from descbench.encoders.base import Encoder

KEPT = 20
TIE = 1e-6  # scores nearer than this may come in either order, on another machine or in another batch


Confidence = Literal["margin", "probability"]


@dataclass(frozen=True, eq=False)
class Unknown:
    """Images of none of the classes: of each the class that was answered all the same, its score and, where there are
    probabilities, the `softmax` that makes one of it. `name` is that of the data set."""

    name: str
    ids: tuple[str, ...]
    answers: np.ndarray  # (M,) int64, ids of the vocabulary
    scores: np.ndarray  # (M,) float32
    softmax: Softmax | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run answered: predictions (N, K), `labels` (N,) as class ids, `ids` of the images, and what was run.

    `counts` says how many images were unlabelled, unreadable or left out, and how many classes undescribed. `method` is
    a spelling that makes the method again, `title` one for people. `chosen` says what other labelled images chose:
    `support` (texts), `w` (the weight of the name) and `temperature`, each with its `split` and how many `images` it
    has. `specification` is what the run was given, as spellings; `warnings` are what was said on the way, and why a
    number is not there.

    `group` (N,) names the group of each image, None for one in none, and `taxonomy` what lies above the classes: where
    they are given, `groups` and `levels()` count by them.

    Where the scores give probabilities, `softmax` makes them at the temperature of the encoder, `fitted` at the one
    that was fitted, and `label_score` (N,) is the score of the label (of several right ones the best).
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
    softmax: Softmax | None = None
    fitted: Softmax | None = None
    label_score: np.ndarray | None = None  # (N,) float32
    unknown: Unknown | None = None
    specification: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str | int] = field(default_factory=dict)  # platform, device and threads
    fingerprints: Mapping[str, str] = field(default_factory=dict)  # of the data set, the encoder and the llm
    warnings: tuple[str, ...] = ()
    group: tuple[str | None, ...] | None = None
    taxonomy: Taxonomy | None = None

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.method)

    @property
    def status(self) -> str:
        """ "complete", or "partial" where some images could not be read."""
        return "partial" if self.failures else "complete"

    @cached_property
    def hits(self) -> np.ndarray:
        """Whether the best class is the label, or one of those that are accepted, (N,) bool."""
        return self._hits(1)

    def _hits(self, k: int) -> np.ndarray:
        """Whether one of the best k classes is right, (N,) bool: of several right labels any one counts."""
        right = self.labels[:, None] if self.accepted is None else self.accepted  # (N, L)
        found: np.ndarray = (self.predictions.ids[:, :k, None] == right[:, None, :]).any(axis=(1, 2))
        return found

    @property
    def margin(self) -> np.ndarray:
        """How far the best score is above the second, (N,) float64; 0 where there is one class only."""
        scores = self.predictions.scores[:, :2].astype(np.float64)
        if scores.shape[1] < 2:
            return np.zeros(len(scores))
        found: np.ndarray = scores[:, 0] - scores[:, 1]
        return found

    @property
    def tied(self) -> np.ndarray:
        """Whether the best two scores are nearer than 1e-6, so that rounding may have decided, (N,) bool."""
        several = self.predictions.ids.shape[1] > 1
        found: np.ndarray = (self.margin < TIE) & several
        return found

    @property
    def ties(self) -> int:
        """In how many images that is so."""
        return int(self.tied.sum())

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What is measured, each with its 95 % interval: see docs/evaluate.md for what each is.

        Always `top1`, `per_class` (balanced accuracy), `macro_precision`, `macro_f1`; `top5` of more than five classes;
        `ece` and `nll` where there are probabilities, and with `_fitted` at the fitted temperature. With unknown
        images `auroc_score` and `fpr95_score`, and `auroc_probability` and `fpr95_probability`, where these compare.
        """
        n = len(self.labels)
        found = {"top1": wilson(int(self.hits.sum()), n)}
        if self.predictions.ids.shape[1] >= 5 and len(self.predictions.vocabulary) > 5:
            found["top5"] = wilson(int(self._hits(5).sum()), n)
        found["per_class"] = mean_per_class(self.hits, self.labels)
        found |= self._counts.macro()
        for suffix, softmax in (("", self.softmax), ("_fitted", self.fitted)):
            if softmax is not None and self.label_score is not None:
                found[f"ece{suffix}"] = calibration_error(softmax.of(self.predictions.scores[:, 0]), self.hits)
                found[f"nll{suffix}"] = mean_value(-softmax.log_of(self.label_score))
        if self.unknown is not None:
            for kind, (known, unknown) in self._told_apart(self.unknown).items():
                found[f"auroc_{kind}"], found[f"fpr95_{kind}"] = auroc(known, unknown), fpr_at_tpr(known, unknown)
        return found

    def _told_apart(self, unknown: Unknown) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What known and unknown images are told apart by: the largest score, and the largest probability."""
        best = self.predictions.scores[:, 0]
        found = {"score": (best, unknown.scores)}
        if self.softmax is not None and unknown.softmax is not None:
            found["probability"] = (self.softmax.of(best), unknown.softmax.of(unknown.scores))
        return found

    @cached_property
    def _counts(self) -> Counts:
        return Counts(self.predictions.vocabulary, self.labels, self.predictions.ids[:, 0], self.hits)

    @cached_property
    def per_class(self) -> list[ClassRow]:
        """A row a class, in the order of the vocabulary: how many images it has and how many of them are right, recall
        with Wilson's interval, precision, and which class it is most often confused with. Of an image with several
        right labels the first is its class."""
        return self._counts.rows()

    def _repr_html_(self) -> str:
        """What a notebook shows: the metrics with their intervals."""
        from descbench import markup

        rows = [[name.replace("_", " "), *str(metric).split(" ", 1)] for name, metric in self.metrics.items()]
        told = f"{markup.shortened(self.title)} on {markup.shortened(self.dataset)}: {len(self.labels):,} images"
        return str(markup.snippet(markup.table(["metric", "%", "95 %"], rows, told, numbers=(1, 2))))

    def confusion(self, most: int | None = None) -> list[Confused]:
        """Which class was answered for which label, the pairs that occur with their counts, worst first."""
        return self._counts.confusion(most)

    def abstention(self, by: Confidence = "margin") -> Abstention:
        """Coverage and accuracy where the less confident answers are withheld: by the margin between the best two
        scores, or by the probability of the answer. Raises `InputError` where there are no probabilities."""
        if by == "margin":
            return abstention(self.margin, self.hits)
        if by != "probability":
            raise InputError(f"by={by!r} is not possible; it is 'margin' or 'probability'")
        if self.softmax is None:
            why = next((said for said in self.warnings if said.startswith("no ece")), "none were kept")
            raise InputError(f"{self.title} has no probabilities ({why}); use by='margin'")
        return abstention(self.softmax.of(self.predictions.scores[:, 0]), self.hits)

    def grouped(self, groups: str | Path | Mapping[str, str]) -> Evaluation:
        """The same run with the groups of its images, by their ids: a dictionary or a csv file as `evaluate` takes it.

        Raises `MatchError` where none of them is of an image here, `InputError` for a file that cannot be used."""
        return replace(self, group=assigned(groups, self.ids))

    @cached_property
    def groups(self) -> Groups | None:
        """How much is right in each group of images, and the gap from the worst to the best; None where no groups are
        known: give them to `evaluate`, or to `grouped`."""
        return None if self.group is None else Groups.of(self.group, self.hits)

    def levels(self, taxonomy: Taxonomy | None = None) -> list[Level]:
        """How much is right at each depth of a taxonomy, from the roots to the classes: an answer is, where it lies in
        the same group as the label, or as one of those that are accepted. Groups are balanced as classes are in
        `per_class`. Without one it is that of the run. Raises `MatchError` where a class is not in the taxonomy, and
        `InputError` where there is none."""
        if (taxonomy := taxonomy or self.taxonomy) is None:
            raise InputError(f"{self.title} was run without a taxonomy; give one: levels(Taxonomy.load('birds.csv'))")
        vocabulary = self.predictions.vocabulary
        right = self.labels[:, None] if self.accepted is None else self.accepted  # (N, L)
        answers, wanted = vocabulary.positions(self.predictions.ids[:, :1]), vocabulary.positions(right)
        found = []
        for depth, groups in enumerate(taxonomy.levels(vocabulary), 1):
            hits = (groups[answers] == groups[wanted]).any(axis=1)
            balanced = mean_per_class(hits, groups[wanted[:, 0]])
            found.append(Level(depth, int(groups.max()) + 1, wilson(int(hits.sum()), len(hits)), balanced))
        return found

    def save(self, folder: str | Path) -> None:
        """Write the run into a folder: `run.json`, `predictions.parquet` with a row an image, `per_class.csv` with a
        row a class, `unknown.parquet` where there were unknown images, and `taxonomy.csv` where one is known. The
        folder holds a whole run, or none.

        Raises `InputError` where it cannot be written.
        """
        vocabulary, found = self.predictions.vocabulary, self.predictions
        tables: dict[str, dict[str, Any]] = {
            PREDICTIONS: {
                "id": list(self.ids),
                "label": self.labels,
                "ids": found.ids,
                "scores": found.scores,
                "margin": self.margin,
                "group": self.group and list(self.group),
                "accepted": self.accepted,
                "first": found.first,
                "label_score": self.label_score,
                "log_normaliser": self.softmax and self.softmax.log_normaliser,
                "log_normaliser_fitted": self.fitted and self.fitted.log_normaliser,
            }
        }
        run: dict[str, Any] = {
            "status": self.status,
            "dataset": self.dataset,
            "method": self.method,
            "title": self.title,
            "encoder": self.encoder,
            "llm": self.llm,
            "protocol": self.protocol,
            "chosen": {what: dict(by) for what, by in self.chosen.items()},
            "specification": dict(self.specification),
            "fingerprints": dict(self.fingerprints),
            "environment": dict(self.environment),
            "versions": dict(self.versions),
            "compute": dict(self.compute),
            "images": len(self.labels),
            "ties": self.ties,
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "softmax": _parameters(self.softmax),
            "fitted": _parameters(self.fitted),
            "counts": dict(self.counts),
            "failures": [list(failure) for failure in self.failures],
            "usage": dict(self.usage),
            "timings": dict(self.timings),
            "warnings": list(self.warnings),
        }
        if self.unknown is not None:
            tables[UNKNOWN] = {
                "id": list(self.unknown.ids),
                "answer": self.unknown.answers,
                "score": self.unknown.scores,
                "log_normaliser": self.unknown.softmax and self.unknown.softmax.log_normaliser,
            }
            run["unknown"] = {"dataset": self.unknown.name, "images": len(self.unknown)}
        texts = {PER_CLASS: csv_text([_class_cells(row) for row in self.per_class])}
        if self.taxonomy is not None:
            texts[TAXONOMY] = csv_text(self.taxonomy.rows)
            run["taxonomy"] = TAXONOMY
        run["vocabulary"] = vocabulary.to_json()
        write_run(folder, run, tables, texts)

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read what `save` wrote; the metrics are computed anew from the predictions.

        Raises `InputError` where the folder holds no run, half of one, or one of a newer version.
        """
        folder = Path(folder)
        run = read_run(folder)
        table = Table(folder / PREDICTIONS, run.get("images"))
        vocabulary = Vocabulary.from_json(run["vocabulary"])
        return cls(
            Predictions(vocabulary, table["ids"], table["scores"], table.maybe("first")),
            table["label"],
            table.texts("id"),
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
            table.maybe("accepted"),
            _softmax(run.get("softmax"), table.maybe("log_normaliser")),
            _softmax(run.get("fitted"), table.maybe("log_normaliser_fitted")),
            table.maybe("label_score"),
            _unknown(folder, run),
            run.get("specification", {}),
            run.get("environment", {}),
            run.get("fingerprints", {}),
            tuple(run.get("warnings", ())),
            table.texts("group") if "group" in table else None,
            Taxonomy.load(folder / TAXONOMY) if run.get("taxonomy") else None,
        )


def _class_cells(row: ClassRow) -> dict[str, object]:
    recall = row.recall
    return {
        "id": row.id,
        "class": row.name,
        "n": row.n,
        "right": row.right,
        "recall": recall and recall.value,
        "low": recall and recall.low,
        "high": recall and recall.high,
        "answered": row.answered,
        "precision": row.precision,
        "confused_with": row.confused_with,
        "confused": row.confused,
    }


def _parameters(softmax: Softmax | None) -> dict[str, Any] | None:
    return None if softmax is None else {"scale": softmax.scale, "logarithm": softmax.logarithm}


def _softmax(stored: Mapping[str, Any] | None, log_normaliser: np.ndarray | None) -> Softmax | None:
    if stored is None or log_normaliser is None:
        return None
    return Softmax(stored["scale"], log_normaliser, stored["logarithm"])


def _unknown(folder: Path, run: Mapping[str, Any]) -> Unknown | None:
    if (stored := run.get("unknown")) is None:
        return None
    table = Table(folder / UNKNOWN, stored["images"])
    softmax = _softmax(run.get("softmax"), table.maybe("log_normaliser"))
    return Unknown(stored["dataset"], table.texts("id"), table["answer"], table["score"], softmax)


def evaluate(
    classifier: Classifier,
    data: Dataset | Embedded,
    *,
    labels: str | Path | Mapping[str, str] | None = None,
    name: str = "",
    unknown: Dataset | Embedded | None = None,
    groups: str | Path | Mapping[str, str] | None = None,
    taxonomy: Taxonomy | str | Path | None = None,
) -> Evaluation:
    """Run a classifier over a data set (or over one that was embedded before) and keep what it answered.

    `labels` maps the data set's labels to classes: a csv file with the columns `label` and `class`, or a dictionary.
    `unknown` are images of none of the classes, to measure how far these can be told from the others. `groups` names
    the groups of images, by path or id: a csv file (see `groups.read_groups`) or a dictionary; `taxonomy` is what lies
    above the classes, or its csv file. Images without a label are counted and left out. Raises `MatchError` where a
    label has no class, a class no place in the taxonomy, or no image a group; `InputError` where no labelled image is
    left, where one of them is among the classifier's support, or what it was tuned or calibrated on, and where an
    unknown image is among them, or has a class as its label.
    """
    said: list[str] = []
    before = Counter(getattr(classifier.llm, "usage", {}))  # by other runs: a language model counts all
    tree = Taxonomy.load(taxonomy) if isinstance(taxonomy, str | Path) else taxonomy
    if tree is not None:
        tree.levels(classifier.vocabulary)  # raises where a class is missing
    if groups is not None and not isinstance(groups, Mapping):
        groups = read_groups(groups)
    with _heard(said):
        if not isinstance(data, Embedded):
            classifier.check_texts()  # before any image is read
        embedded = data if isinstance(data, Embedded) else embed(data, classifier.encoder)
        strangers = unknown if unknown is None or isinstance(unknown, Embedded) else embed(unknown, classifier.encoder)
        encoded = time.perf_counter()
        images = _labelled(embedded, classifier.vocabulary, labels, name)
        check_unseen(embedded, classifier.support, classifier.tuning.split if classifier.tuning else None)
        check_unseen(embedded, None, classifier.calibration.split if classifier.calibration else None)
        if strangers is not None:
            _check_unknown(strangers, images, classifier.vocabulary)
        group = None
        if groups is not None:
            known = (embedded.labels >= 0).tolist()
            sources = [source for source, keep in zip(embedded.sources, known, strict=True) if keep]
            group = assigned(groups, images.ids, sources)
        right = images.labels[:, None] if images.accepted is None else images.accepted
        predictions, watch = classifier.predict_watched(images.features, right, KEPT)
        softmaxes = (*(watch.softmaxes if watch else ()), None, None)
        unfamiliar = None if strangers is None else _answered(classifier, strangers)
    done = time.perf_counter()
    spellings: dict[str, Any] = {
        "dataset": repr(embedded.dataset),
        "method": repr(classifier.method),
        "encoder": repr(classifier.encoder),
        "llm": repr(classifier.llm) if classifier.llm is not None else "",
    }
    if labels is not None:
        spellings["labels"] = dict(labels) if isinstance(labels, Mapping) else str(labels)
    if strangers is not None:
        spellings["unknown"] = repr(strangers.dataset)
    return Evaluation(
        predictions,
        images.labels,
        images.ids,
        images.name,
        spellings["method"],
        spellings["encoder"],
        spellings["llm"],
        {
            "images": len(images),
            "unlabelled": len(embedded) - len(images),
            "unreadable": len(embedded.failures),
            **_part_of(embedded.dataset),
            **classifier.counts,
            **({} if strangers is None else {"unknown": len(strangers), "unknown_unreadable": len(strangers.failures)}),
        },
        tuple(embedded.failures) + (tuple(strangers.failures) if strangers is not None else ()),
        versions(),
        dict(Counter(getattr(classifier.llm, "usage", {})) - before),
        {"encode_images": embedded.seconds, "classify": done - encoded},
        protocol_of(classifier),
        compute.used if (compute := getattr(classifier.encoder, "compute", None)) else {},
        title(classifier.method),
        chosen_by(classifier),
        images.accepted,
        softmax=softmaxes[0],
        fitted=softmaxes[1],
        label_score=watch.label_score if watch else None,
        unknown=unfamiliar,
        specification=spellings,
        environment=environment(classifier.device),
        fingerprints={"dataset": _fingerprint(embedded)}
        | {
            what: getattr(model, "fingerprint", "")
            for what, model in (("encoder", classifier.encoder), ("llm", classifier.llm))
            if model is not None
        },
        warnings=(*said, *_not_measured(classifier, unfamiliar is not None)),
        group=group,
        taxonomy=tree,
    )


@contextmanager
def _heard(said: list[str]) -> Iterator[None]:
    """Note what is warned of in a block, and pass it on."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for one in caught:
        if issubclass(one.category, DescbenchWarning):
            said.append(str(one.message))
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _not_measured(classifier: Classifier, unknown: bool) -> list[str]:
    """Why a number is not there, or what it rests on."""
    if len(stages_of(classifier.method)) > 1:
        missing = "ece, nll" + (" and the AUROC by probability" if unknown else "")
        return [f"no {missing}: {classifier.method!r} ends in a follow-up, whose scores are of some classes only"]
    if not hasattr(classifier.encoder, "logit_scale"):
        return [f"{classifier.encoder!r} has no logit_scale; probabilities are those at a factor of 100"]
    return []


def _check_unknown(unknown: Embedded, known: Labelled, vocabulary: Vocabulary) -> None:
    """Raises `InputError` where an image is known too, or its label is one of the classes."""
    known.check_apart("known", unknown.ids, f"the unknown images {unknown.dataset!r}")
    names = {label: unknown.dataset.names[label] for label in np.unique(unknown.labels[unknown.labels >= 0]).tolist()}
    if classes := {label: name for label, name in names.items() if vocabulary.called(name)}:
        count = int(np.isin(unknown.labels, list(classes)).sum())
        raise InputError(
            f"{count} of the {len(unknown)} unknown images of {unknown.dataset!r} are of classes that are known: "
            f"{listed(classes.values())}; take these out of one of the two"
        )


def _answered(classifier: Classifier, unknown: Embedded) -> Unknown:
    """What a classifier answers for images of none of its classes."""
    found, watch = classifier.predict_watched(unknown.features, top_k=1)
    softmax = watch.softmaxes[0] if watch else None
    return Unknown(repr(unknown.dataset), tuple(unknown.ids), found.ids[:, 0], found.scores[:, 0], softmax)


def _fingerprint(data: Embedded) -> str:
    """A hash of the images that could be read and their labels, in their order; no image is read again for it."""
    found = hashlib.sha256()
    names = data.dataset.names
    for id_, label in zip(data.ids, data.labels.tolist(), strict=True):
        found.update(f"{id_}\t{names[label] if label >= 0 else ''}\n".encode("utf-8", "surrogatepass"))
    return f"sha256:{found.hexdigest()}"


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
    if (fitted := classifier.calibration) is not None:
        split = fitted.split
        found["temperature"] = {"value": fitted.temperature, "split": split.name, "images": len(split)}
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


def environment(device: str = "auto") -> dict[str, str | int]:
    """Where a result was computed: the platform, the device of the scores and how many threads it may take."""
    import torch

    return {"platform": platform.platform(), "device": pick_device(device), "threads": torch.get_num_threads()}
