"""What the runs of one `descbench evaluate` share: from a method to its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from descbench.errors import InputError

if TYPE_CHECKING:
    from descbench.classifier import Classifier
    from descbench.descriptions import Descriptions
    from descbench.embedding import Embedded
    from descbench.evaluation import Curve, Evaluation
    from descbench.methods import Cascade, Method
    from descbench.selection import Labelled
    from descbench.vocabulary import Vocabulary


class Bench:
    """From a method to its evaluation, kept in a folder where one is given.

    `support` selects texts and `validation` the weight of the name, for the methods that do so; `failed` is how many
    of their images cannot be read. What a language model said for one run, `known`, serves the next.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        model: Any,
        language: Any,
        known: Descriptions | None,
        labels: Path | None,
        device: str,
        output: Path | None,
    ) -> None:
        self.vocabulary, self.model, self.language, self.known = vocabulary, model, language, known
        self.labels, self.device, self.output = labels, device, output
        self.support: Labelled | None = None
        self.validation: Labelled | None = None
        self.failed = 0
        self.kept = 0

    def choose_by(self, support: str, validation: str, strict: bool) -> None:
        """Read and encode the data sets that choose; "" is none."""
        from descbench import spec
        from descbench.embedding import embed
        from descbench.evaluation import labelled, labels_of

        sources = [spec.dataset(data, strict=strict) if data else None for data in (support, validation)]
        for source in filter(None, sources):
            labels_of(source, self.vocabulary, self.labels)
        found: list[Labelled | None] = []
        for source in sources:
            if source is None:
                found.append(None)
                continue
            embedded = embed(source, self.model)
            self.failed += len(embedded.failures)
            found.append(labelled(embedded, self.vocabulary, labels=self.labels))
        self.support, self.validation = found

    def classifier(self, method: Method | Cascade) -> Classifier:
        from descbench.classifier import Classifier

        support = self.support if needs_support(method) else None
        return Classifier(
            self.vocabulary, method, self.model, self.language, self.known, support=support, device=self.device
        )

    def ready(self, classifier: Classifier) -> Classifier:
        """The classifier with what is known by now, and with the weight that the validation split chooses."""
        classifier.descriptions = self.known or classifier.descriptions
        if self.validation is None or not is_tunable(classifier.method):
            return classifier
        return classifier.tuned(self.validation)

    def run(self, classifier: Classifier, embedded: Embedded, name: str = "") -> Evaluation:
        """One evaluation, kept under its number and name."""
        from descbench.evaluation import evaluate

        result = evaluate(classifier, embedded, labels=self.labels)
        self.kept += 1
        if self.output is not None:
            result.save(self.output / _folder_name(name or result.title, self.kept))
        return result

    def curves(self, classifiers: dict[str, Classifier], embedded: Embedded) -> dict[str, Curve]:
        """The curve over the weight of the name, of each method that has one; those that differ in it only have one."""
        from descbench.evaluation import curve_of
        from descbench.methods.disclip import weight_of, with_weight

        different: dict[Any, str] = {}
        for text, classifier in classifiers.items():
            if weight_of(classifier.method) is not None:
                different.setdefault(with_weight(classifier.method, 0), text)
        return {text: curve_of(classifiers[text], embedded, labels=self.labels) for text in different.values()}


def needs_support(method: Method | Cascade) -> bool:
    """Whether a stage of the method selects by labelled images."""
    from descbench.methods.cascade import stages_of

    return any(stage.needs_support for stage in stages_of(method))


def is_tunable(method: Method | Cascade) -> bool:
    """Whether the method has a weight of the name that is left at its default: one that was given stays."""
    from descbench.methods import Selected
    from descbench.methods.disclip import weight_of

    return weight_of(method) == Selected.w


def check_choices(methods: dict[str, Any], support: str, validation: str, curve: bool) -> None:
    """Raises `InputError` for images that would choose nothing, and for a method that needs some and has none."""
    from descbench.methods.disclip import weight_of

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


def _folder_name(spec: str, number: int) -> str:
    """A folder for a run: its number and the plain characters of its method."""
    plain = "".join(c if c.isalnum() else "-" for c in spec.lower()).strip("-")[:60]
    return f"{number:02d}-{plain}"
