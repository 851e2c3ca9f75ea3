"""What the runs of one `descbench evaluate` share: from methods to their evaluations with one encoder."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descbench.cli.common import open_encoder, open_llm, use_templates, usual_method
from descbench.errors import DescbenchError, DescbenchWarning, InputError
from descbench.progress import report

if TYPE_CHECKING:
    from descbench.classifier import Classifier
    from descbench.comparison import Controlled
    from descbench.descriptions import Descriptions
    from descbench.embedding import Embedded
    from descbench.evaluation import Curve, Evaluation
    from descbench.methods import Cascade, Method
    from descbench.report.gallery import Thumbnails
    from descbench.selection import Labelled
    from descbench.taxonomy import Taxonomy
    from descbench.vocabulary import Vocabulary


DESCRIPTIONS = "descriptions.json"


@dataclass(frozen=True)
class Given:
    """What a run was given on the command line, apart from method, encoder, classes and descriptions: as spellings."""

    data: str
    split: str = ""
    limit: int | None = None
    strict: bool = False
    views: str = ""
    precision: str | None = None
    compile: bool = False
    llm: str = ""
    max_requests: int | None = None
    support: str = ""
    validation: str = ""
    calibrate: str = ""
    unknown: str = ""
    draft: bool = False

    def source(self) -> Any:
        """The data set that is tested on."""
        from descbench.spec import dataset

        return dataset(self.data, split=self.split, limit=self.limit, strict=self.strict)

    def encoder(self, spelled: str, cache: Path, device: str) -> Any:
        """An encoder as this run uses it, with what is kept of it."""
        options = {"precision": self.precision, "compile": self.compile, "draft": self.draft, "views": self.views}
        return open_encoder(spelled, cache, device=device, **options)

    def language(self, cache: Path) -> Any:
        """The language model; None where none was given."""
        return open_llm(self.llm, cache, self.max_requests) if self.llm else None


@dataclass
class Keeper:
    """Numbered folders for runs below one; nothing is written where there is none."""

    folder: Path | None
    gallery: bool = True  # whether images with reasons, and what texts are worth, are kept too
    count: int = 0

    def keep(self, result: Evaluation, name: str, descriptions: Descriptions | None) -> Path | None:
        """Write a run under its number and the plain characters of its name, with the descriptions that it used."""
        self.count += 1
        if self.folder is None:
            return None
        plain = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:60]
        place = self.folder / f"{self.count:02d}-{plain}"
        save_run(result, place, descriptions)
        return place


@dataclass
class Bench:
    """From methods to their evaluations with one encoder, `model`, each kept as soon as it is there.

    `support` selects texts and `validation` the weight of the name, for the methods that do so; `calibration` fits a
    temperature, and `unknown` are images of none of the classes. `groups` and `taxonomy` are what is counted by. What a
    language model said for one run, `known`, serves the next. `results` has the runs of each method, one a seed;
    `unavailable` says why a baseline or control could not be run, and `failed` lists the images that choose and cannot
    be read.
    """

    vocabulary: Vocabulary
    model: Any
    language: Any
    known: Descriptions | None
    labels: Mapping[str, str] | None
    device: str
    given: Given
    spelled: str = ""  # the encoder
    keeper: Keeper = field(default_factory=lambda: Keeper(None))
    support: Labelled | None = None
    validation: Labelled | None = None
    calibration: Labelled | None = None
    unknown: Embedded | None = None
    groups: Mapping[str, str] | None = None
    taxonomy: Taxonomy | None = None
    failed: list[tuple[str, str]] = field(default_factory=list)
    results: dict[str, list[Evaluation]] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    _classifiers: dict[str, Classifier] = field(default_factory=dict)
    _embedded: Embedded | None = None
    _thumbnails: Thumbnails | None = None

    @property
    def embedded(self) -> Embedded:
        """The images of the test, once `measure` has encoded them."""
        assert self._embedded is not None
        return self._embedded

    def read_others(self) -> None:
        """Read and encode the data sets that choose, and the unknown images."""
        from descbench import spec
        from descbench.embedding import embed
        from descbench.evaluation import labelled, labels_of

        given, strict = self.given, self.given.strict
        choosing = (given.support, given.validation, given.calibrate)
        sources = [spec.dataset(data, strict=strict) if data else None for data in choosing]
        for source in filter(None, sources):
            labels_of(source, self.vocabulary, self.labels)
        found: list[Labelled | None] = []
        for source in sources:
            if source is None:
                found.append(None)
                continue
            embedded = embed(source, self.model)
            self.failed += embedded.failures
            found.append(labelled(embedded, self.vocabulary, labels=self.labels))
        self.support, self.validation, self.calibration = found
        if given.unknown:
            self.unknown = embed(spec.dataset(given.unknown, strict=strict), self.model)
            self.failed += self.unknown.failures

    def measure(
        self, source: Any, methods: Mapping[str, Sequence[Method | Cascade]], baselines: Sequence[str] = ()
    ) -> None:
        """Encode the images and those of the other data sets, and run each method in each of its seeds.

        Raises what a method raises, unless it is one of the `baselines`: what an encoder cannot have, as one that knows
        some texts only, must not cost the answer.
        """
        from descbench.embedding import embed
        from descbench.evaluation import check_unseen

        self.read_others()
        # What can be wrong with a method is found before an image of the test is read.
        classifiers = {text: [self.classifier(built) for built in seeds] for text, seeds in methods.items()}
        for classifier in (one for text, seeds in classifiers.items() if text not in baselines for one in seeds):
            classifier.check_texts()
        self._embedded = embed(source, self.model)
        check_unseen(self.embedded, self.support, self.validation)
        done, total = 0, sum(map(len, methods.values()))
        for text, seeds in classifiers.items():
            try:
                for classifier in seeds:
                    ready = self.ready(classifier)
                    result = self.run(ready, classifier.method, text if len(seeds) == 1 else "")
                    self.results.setdefault(text, []).append(result)
                    self._classifiers.setdefault(text, ready)
                    self.known = ready.descriptions
                    done += 1
                    report("running methods", done, total)
            except DescbenchError as error:
                if text not in baselines:
                    raise
                self.unavailable[text] = str(error)

    def classifier(self, method: Method | Cascade) -> Classifier:
        from descbench.classifier import Classifier

        support = self.support if needs_support(method) else None
        return Classifier(
            self.vocabulary, method, self.model, self.language, self.known, support=support, device=self.device
        )

    def ready(self, classifier: Classifier) -> Classifier:
        """The classifier with what is known by now, and with the weight and temperature that other splits choose."""
        from descbench.methods.cascade import stages_of

        classifier.descriptions = self.known or classifier.descriptions
        if self.validation is not None and is_tunable(classifier.method):
            classifier = classifier.tuned(self.validation)
        if self.calibration is not None and len(stages_of(classifier.method)) == 1:
            classifier = classifier.calibrated(self.calibration)
        return classifier

    def run(self, classifier: Classifier, asked: Method | Cascade, name: str = "") -> Evaluation:
        """One evaluation, kept under its number and name with all that makes it again: `asked` is the method before
        anything was chosen for it. With a name some of its images are kept too, with reasons."""
        from descbench.evaluation import evaluate
        from descbench.report import gallery, uses

        by: dict[str, Any] = {"groups": self.groups, "taxonomy": self.taxonomy}
        done = evaluate(classifier, self.embedded, labels=self.labels, unknown=self.unknown, **by)
        told = asdict(self.given) | {"labels": self.labels and dict(self.labels)}
        told |= {"encoder": self.spelled, "method": repr(asked)}
        result = replace(done, specification={**done.specification, **told})
        place = self.keeper.keep(result, name or result.title, classifier.descriptions if describes(asked) else None)
        # Seeds and controls are many, and nobody looks at their single answers.
        if place is not None and name and self.keeper.gallery:
            self._thumbnails = self._thumbnails or gallery.Thumbnails(self.embedded)
            gallery.keep(place, classifier, self.embedded, result, self._thumbnails)
            uses.keep(place, classifier, self.embedded, result, self.labels)
        return result

    def controlled(
        self, controls: Mapping[str, Mapping[str, Sequence[Method | Cascade]]]
    ) -> dict[str, list[Controlled]]:
        """The controls of each method that was run, a row each; what two methods share is run once. What cannot be run
        is added to `unavailable`, and its row left out."""
        from descbench.comparison import against

        kept: dict[str, Evaluation | None] = {}
        wanted = {repr(c): c for kinds in controls.values() for seeds in kinds.values() for c in seeds}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DescbenchWarning)  # the method itself has said it
            for spelling, control in wanted.items():
                try:
                    kept[spelling] = self.run(self.ready(self.classifier(control)), control)
                except DescbenchError as error:
                    kept[spelling] = None
                    self.unavailable[spelling] = str(error)
                report("running controls", len(kept), len(wanted))
        return {
            text: [
                against(self.results[text][0], name, runs)
                for name, seeds in kinds.items()
                if (runs := [done for control in seeds if (done := kept[repr(control)]) is not None])
            ]
            for text, kinds in controls.items()
        }

    def curves(self) -> dict[str, Curve]:
        """The curve over the weight of the name, of each method that has one; those that differ in it only have one."""
        from descbench.evaluation import curve_of
        from descbench.methods.disclip import weight_of, with_weight

        different: dict[Any, str] = {}
        for text, classifier in self._classifiers.items():
            if weight_of(classifier.method) is not None:
                different.setdefault(with_weight(classifier.method, 0), text)
        return {
            text: curve_of(self._classifiers[text], self.embedded, labels=self.labels) for text in different.values()
        }


def save_run(result: Evaluation, folder: Path, descriptions: Descriptions | None) -> None:
    """Write a run with a copy of the descriptions that it used, since the file that they came from is made to be
    edited. Raises `InputError` where the folder cannot be written."""
    copy = folder / DESCRIPTIONS
    told: dict[str, str] | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if descriptions is not None:
            descriptions.save(folder / f"{DESCRIPTIONS}.new")
            told = {"file": DESCRIPTIONS, "sha256": sha256(folder / f"{DESCRIPTIONS}.new")}
            if not copy.is_file() or sha256(copy) != told["sha256"]:
                (folder / "run.json").unlink(missing_ok=True)  # an earlier run's, which had others
            (folder / f"{DESCRIPTIONS}.new").replace(copy)
        else:
            copy.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"the run cannot be kept in {folder}: {error}; choose another folder with -o") from None
    replace(result, specification={**result.specification, "descriptions": told}).save(folder)


def sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describes(method: Method | Cascade) -> bool:
    """Whether a stage of the method has texts from descriptions."""
    from descbench.methods.cascade import stages_of

    return any(stage.asks_about != "nothing" for stage in stages_of(method))


def needs_support(method: Method | Cascade) -> bool:
    """Whether a stage of the method selects by labelled images."""
    from descbench.methods.cascade import stages_of

    return any(stage.needs_support for stage in stages_of(method))


def is_tunable(method: Method | Cascade) -> bool:
    """Whether the method has a weight of the name that is left at its default: one that was given stays."""
    from descbench.methods import Selected
    from descbench.methods.disclip import weight_of

    return weight_of(method) == Selected.w


def choose_methods(
    given: Sequence[str], known: Descriptions | None, templates: Path | None, views: str, otherwise: str = "templates"
) -> dict[str, Any]:
    """The methods that are given, by their spelling; else the one that the descriptions are for, else `otherwise`.

    Raises `InputError` for templates that none of them uses, and for one that compares views where there are none.
    """
    from descbench.spec import method

    spelled = given or [otherwise if known is None else usual_method(known)]
    methods = use_templates({text: method(text) for text in spelled}, templates)
    check_views(methods, views)
    return methods


def check_choices(methods: dict[str, Any], given: Given, curve: bool = False) -> None:
    """Raises `InputError` for images that would choose nothing, and for a method that needs some and has none."""
    from descbench.methods.cascade import stages_of
    from descbench.methods.disclip import weight_of

    support, validation = given.support, given.validation

    needing = [text for text, built in methods.items() if needs_support(built)]
    if needing and not support:
        raise InputError(
            f"{needing[0]} selects by labelled images; name some that are not those of the test, as --support "
            "folder:./train"
        )
    if support and not needing:
        raise InputError("--support is for a method that selects by labelled images: disclip or select_fewshot(dclip)")
    if validation and not any(map(is_tunable, methods.values())):
        raise InputError("--validation chooses the weight w of disclip, where none is given; no such method here")
    if given.calibrate and all(len(stages_of(built)) > 1 for built in methods.values()):
        raise InputError("--calibrate fits the temperature of a method of one stage; no such method here")
    if curve and all(weight_of(built) is None for built in methods.values()):
        raise InputError("--curve is over the weight w of disclip; no method here has it")


def check_views(methods: dict[str, Any], views: str) -> None:
    """Raises `InputError` for a method that compares views, where none are kept apart; before any is encoded."""
    from descbench.encoders.views import cuts
    from descbench.methods.cascade import stages_of

    comparing = [
        text for text, built in methods.items() if any(stage.pool == "transport" for stage in stages_of(built))
    ]
    if comparing and not (views and cuts(views).kept_apart):
        given = f"--views {views!r} gives one vector a picture" if views else "no --views are given"
        raise InputError(f"{comparing[0]} compares the views of a picture, and {given}; add --views 'resized(50)'")
