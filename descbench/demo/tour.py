"""The main job on the aviary, step by step: describe, evaluate, explain. What each step was worth is known here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench import spec
from descbench.classifier import Classifier
from descbench.demo.guide import TRAITS, species, wordings
from descbench.demo.truth import Truth, check_descriptions, check_pairs
from descbench.descriptions import Descriptions
from descbench.embedding import Embedded, embed
from descbench.evaluation import Evaluation, evaluate
from descbench.explanation import Explanation
from descbench.generation import generate
from descbench.statistics import PairedDifference, paired_difference
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image

BEFORE, AFTER = "dclip", "cascade(dclip, differential, k=5)"
ORACLE = "dclip with the whole field guide"
METHODS = ("classname", "templates", BEFORE, f"shuffled({BEFORE})", f"nameless({BEFORE})", "fudd", AFTER)


@dataclass(frozen=True)
class Example:
    """A picture of the data set, what it shows, what was answered before and after the follow-up, and why."""

    image: Image.Image
    label: str
    before: str
    after: str
    explanation: Explanation


@dataclass
class Tour:
    """`llm`, `encoder` and `data` are those spelled "demo", wrapped in caches or not."""

    llm: Any
    encoder: Any
    data: Any
    device: str = "auto"
    descriptions: Descriptions = field(default_factory=Descriptions)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.data.names, "birds")

    @cached_property
    def embedded(self) -> Embedded:
        """The image features, (N, D)."""
        return embed(self.data, self.encoder)

    def describe(self) -> Truth:
        """Have the language model describe the 40 species; how true that is, by the field guide."""
        self.descriptions = generate(self.vocabulary, spec.method(BEFORE), self.llm)
        return check_descriptions({self.vocabulary.name(i): texts for i, texts in self.descriptions.classes.items()})

    def evaluate(self) -> Iterator[tuple[str, Evaluation]]:
        """Each method in turn, and the ceiling: the same score with all nine traits of the field guide."""
        for method in METHODS:
            classifier = self._classifier(method)
            self.evaluations[method] = evaluate(classifier, self.embedded)
            self.descriptions = classifier.descriptions
            yield method, self.evaluations[method]
        self.evaluations[ORACLE] = evaluate(self._classifier(BEFORE, whole_guide()), self.embedded)
        yield ORACLE, self.evaluations[ORACLE]

    def pair_truth(self) -> Truth:
        """How true the captions are that tell two species apart."""
        name = self.vocabulary.name
        return check_pairs({(name(a), name(b)): pair for (a, b), pair in self.descriptions.pairs.items()})

    def follow_up(self) -> PairedDifference:
        """What the follow-up changed, on the same pictures."""
        return paired_difference(self.evaluations[BEFORE].hits, self.evaluations[AFTER].hits)

    def examples(self) -> list[Example]:
        """Three pictures: one that the follow-up got right, one that was right before, and one that is wrong still."""
        before, after = self.evaluations[BEFORE], self.evaluations[AFTER]
        kinds = (after.hits & ~before.hits, before.hits & after.hits, ~after.hits)
        classifier = self._classifier(AFTER)
        samples = list(self.data.samples())
        found = []
        for kind in kinds:
            if not kind.any():
                continue
            row = int(np.flatnonzero(kind)[0])
            name = self.vocabulary.name
            label, guess = name(int(after.labels[row])), name(int(before.predictions.ids[row, 0]))
            answer = name(int(after.predictions.ids[row, 0]))
            # Against what it was taken for, or should have been; else against the runner-up.
            rival = next((other for other in (guess, label) if other != answer), None)
            explanation = classifier.explain_features(self.embedded.features[row], rival)
            found.append(Example(samples[row].load(), label, guess, answer, explanation))
        return found

    def save(self, folder: Path, examples: Sequence[Example]) -> None:
        """Write the descriptions and the pictures of the examples, to look at and to go on with."""
        folder.mkdir(parents=True, exist_ok=True)
        self.descriptions.save(folder / "birds.desc.json")
        for number, example in enumerate(examples, 1):
            example.image.save(folder / f"bird-{number}.png")

    def _classifier(self, method: str, descriptions: Descriptions | None = None) -> Classifier:
        known = descriptions or self.descriptions
        return Classifier(self.vocabulary, spec.method(method), self.encoder, self.llm, known, device=self.device)


def whole_guide() -> Descriptions:
    """All nine traits of each species, in the guide's words."""
    return Descriptions(
        {i: [wordings(trait, page.bird[trait])[0] for trait in TRAITS] for i, page in enumerate(species())},
        names={i: page.name for i, page in enumerate(species())},
    )
