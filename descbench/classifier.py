"""The one place where words, language model and encoder meet: from images or features to predictions and reasons."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench import progress
from descbench.datasets.pictures import PicturesDataset
from descbench.descriptions import Descriptions
from descbench.embedding import embed
from descbench.errors import DescbenchWarning, InputError, listed
from descbench.generation import Answers, ask
from descbench.methods import Cascade, Method
from descbench.methods.base import Pool, Subject
from descbench.methods.cascade import stages_of
from descbench.predictions import Predictions
from descbench.scoring import best, class_scores, pick_device, unit_rows, within
from descbench.texts import TextBank
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from descbench.encoders.base import Encoder


class Classifier:
    """A vocabulary, a method, an encoder, and what describes the classes: descriptions, a language model, or both.

    With an `llm`, whatever the method needs and the `descriptions` lack is asked when it is needed: a follow-up asks
    about the pairs that occur among the candidates, all in one batch. The attribute `descriptions` grows by them.

    Raises `InputError` where the method needs descriptions and has neither; `MatchError` where descriptions are for
    other classes. Warns (`DescbenchWarning`) of classes and pairs that stay without a description.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        method: Method | Cascade,
        encoder: Encoder,
        llm: Answers | None = None,
        descriptions: Descriptions | None = None,
        support: tuple[Any, Any] | None = None,
        device: str = "auto",
    ) -> None:
        for what, given, example in (
            ("method", method, "db.method('dclip')"),
            ("encoder", encoder, "db.encoder('demo')"),
            ("llm", llm, "db.llm('demo')"),
        ):
            if isinstance(given, str):
                raise InputError(f"the {what} of a Classifier is an object, given the text {given!r}; write {example}")
        if support is not None:
            raise InputError(f"{method!r} does not select from labelled images; leave out support")
        if llm is None and descriptions is None:
            for stage in stages_of(method):
                if stage.asks_about != "nothing":
                    raise InputError(
                        f"{stage!r} needs descriptions and has none: give descriptions=..., or llm=... to be asked"
                    )
        self.vocabulary, self.method, self.encoder, self.llm = vocabulary, method, encoder, llm
        self.descriptions = (descriptions or Descriptions()).matched(vocabulary)
        self.counts: dict[str, int] = {}
        self._device = device
        self._row: dict[str, int] = {}  # distinct text -> row of _features
        self._features: torch.Tensor | None = None  # (U, D)
        self._warned: set[str] = set()
        self._made: tuple[Descriptions, int, Callable[[torch.Tensor], torch.Tensor]] | None = None

    @property
    def logit_scale(self) -> float:
        """The factor from a similarity to a logit; 100 for an encoder that does not say."""
        return float(getattr(self.encoder, "logit_scale", 100.0))

    def predict(self, images: Sequence[str | Path | Image.Image], top_k: int = 5) -> Predictions:
        """The best classes of images, given as paths or PIL images.

        Raises `InputError` that lists the images that cannot be read.
        """
        return self.predict_features(self._embedded(images), top_k)

    def predict_features(self, features: Any, top_k: int = 5) -> Predictions:
        """The best classes for image features (N, D), numpy or torch; they are scaled to unit length.

        Raises `InputError` for features that are not finite, or of another dimension than the encoder's texts.
        """
        if top_k < 1:
            raise InputError(f"top_k={top_k} is not possible; it is a whole number from 1 on")
        x = unit_rows(features, pick_device(self._device), "image features")
        k = min(self.method.k, len(self.vocabulary)) if isinstance(self.method, Cascade) else 1
        width, scores_of = self._first_stage()
        self._check_dimension(x)
        positions, scores = best(x, scores_of, width, len(self.vocabulary), max(top_k, k))
        predictions = Predictions(self.vocabulary, self.vocabulary.ids[positions], scores)
        for stage in stages_of(self.method)[1:]:
            predictions = self._follow_up(x, predictions, stage, k)
        return predictions.top(top_k)

    def explain(self, image: str | Path | Image.Image, against: str | int | None = None) -> Explanation:
        """Why the answer, and not another class (a name or an id; the runner-up when not given)?

        The stage that decided between the two is the last one that had both as candidates.
        """
        return self.explain_features(self._embedded([image])[0], against)

    def explain_features(self, features: Any, against: str | int | None = None) -> Explanation:
        """The same for the features (D,) of one image."""
        import torch

        x = unit_rows(np.asarray(features)[None, :], pick_device(self._device), "image features")
        stages = stages_of(self.method)
        k = min(self.method.k, len(self.vocabulary)) if isinstance(self.method, Cascade) else 1
        ranked = self.predict_features(x, top_k=len(self.vocabulary)).ids[0].tolist()
        if len(ranked) == 1 and against is None:
            raise InputError(f"one class only ({self.vocabulary.names[0]!r}): nothing to explain it against")
        rival = ranked[1] if against is None else self.vocabulary.id(against) if isinstance(against, str) else against
        self.vocabulary.position(rival)
        answer = ranked[0]
        if rival == answer:
            raise InputError(f"{self.vocabulary.name(rival)!r} is the answer itself; name another class")
        followed = len(stages) > 1 and k > 1 and rival in ranked[:k]
        stage = stages[-1] if followed else stages[0]
        among = self.vocabulary.subset(i for i in self.vocabulary.ids.tolist() if not followed or i in ranked[:k])
        bank = stage.texts(among, self.descriptions)
        index = self._encoded(bank.texts)
        assert self._features is not None
        similar = (self._features[index] @ x[0]).cpu()  # (T,)
        shares = _shares(self._features[index].cpu(), similar, bank, stage.pool, self.logit_scale)
        reasons = {}
        for id_ in (answer, rival):
            own = slice(*bank.offsets[among.position(id_) : among.position(id_) + 2])
            rows = zip(bank.texts[own], similar[own].tolist(), shares[own].tolist(), strict=True)
            reasons[id_] = sorted((Reason(*row) for row in rows), key=lambda r: (-r.similarity, r.text))
        scores = {id_: float(torch.tensor([r.share for r in reasons[id_]]).sum()) for id_ in reasons}
        return Explanation(
            self.vocabulary.name(answer),
            self.vocabulary.name(rival),
            repr(stage),
            scores[answer],
            scores[rival],
            tuple(reasons[answer]),
            tuple(reasons[rival]),
        )

    def _first_stage(self) -> tuple[int, Callable[[torch.Tensor], torch.Tensor]]:
        """The width of a row of scores and the function that makes them; made anew when descriptions have changed."""
        if self._made is None or self._made[0] is not self.descriptions:
            first = stages_of(self.method)[0]
            absent = self._describe(first)
            if first.asks_about == "pair":
                self._count_silent(first, first.subjects(self.vocabulary), absent)
            bank = first.texts(self.vocabulary, self.descriptions)
            self._count_undescribed(first, bank)
            index = self._encoded(bank.texts)
            assert self._features is not None
            whole = first.pool in ("max_score", "mean_prob")  # these need the similarity to every text
            width = len(self.vocabulary) + (len(bank) if whole else 0)
            scale = self.logit_scale if first.pool == "mean_prob" else 1.0
            self._made = (self.descriptions, width, class_scores(self._features, index, bank, first.pool, scale))
        return self._made[1:]

    def _embedded(self, images: Sequence[str | Path | Image.Image]) -> np.ndarray:
        if isinstance(images, str | Path) or not isinstance(images, Sequence):
            raise InputError("predict takes a list of images; write predict([image])")
        embedded = embed(PicturesDataset(images), self.encoder)
        if embedded.failures:
            shown = listed((f"{source}: {reason}" for source, reason in embedded.failures), 5)
            raise InputError(f"{len(embedded.failures)} of {len(images)} images cannot be read: {shown}")
        return embedded.features

    def _check_dimension(self, x: torch.Tensor) -> None:
        assert self._features is not None
        if x.shape[1] != self._features.shape[1]:
            raise InputError(
                f"image features have {x.shape[1]} dimensions, the texts of {self.encoder!r} have "
                f"{self._features.shape[1]}: they are not of one model. Encode both with the same encoder."
            )

    def _describe(self, stage: Method, sets: np.ndarray | None = None) -> dict[Subject, str]:
        """Ask what a stage needs and the descriptions lack; returns what stays without an answer, and why."""
        subjects = stage.subjects(self.vocabulary, sets)
        missing = [subject for subject in subjects if not stage.known(subject, self.descriptions)]
        if missing and self.llm is not None:
            said = ask(self.vocabulary, stage, missing, self.llm)
            self.descriptions = self.descriptions.merged(said.descriptions)
            return {s: said.missing.get(s, "") for s in missing if not stage.known(s, self.descriptions)}
        return dict.fromkeys(missing, "")

    def _count_undescribed(self, stage: Method, bank: TextBank) -> None:
        self.counts["undescribed"] = int(bank.undescribed.sum())
        if bank.undescribed.any():
            names = [name for name, bare in zip(self.vocabulary.names, bank.undescribed, strict=True) if bare]
            of = f"{len(names)} of {len(self.vocabulary)} classes have no description"
            self._warn(f"{of} and are scored by their bare name: {listed(names)}")

    def _count_silent(self, stage: Method, subjects: Sequence[Subject], absent: Mapping[Subject, str]) -> None:
        """Count the classes or pairs that compete, and those of them that nothing is known about."""
        what = "pairs" if stage.asks_about == "pair" else "classes"
        self.counts[f"candidate_{what}"], self.counts[f"undescribed_{what}"] = len(subjects), len(absent)
        if absent:
            of = f"{len(absent)} of {len(subjects)} {what} among the candidates"
            reasons = Counter(why for why in absent.values() if why)
            why = f" ({listed(f'{n} x {reason}' for reason, n in reasons.most_common())})" if reasons else ""
            self._warn(f"{of} have no description and are scored without{why}")

    def _warn(self, message: str) -> None:
        """Say a thing once for each classifier."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, DescbenchWarning, stacklevel=4)

    def _encoded(self, texts: Iterable[str]) -> torch.Tensor:
        """The rows of `_features` for texts; each distinct text is encoded once in the life of a classifier."""
        import torch

        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._row]
        if new:
            device = pick_device(self._device)
            rows = unit_rows(self.encoder.encode_texts(new), device, f"text features of {self.encoder!r}")
            if len(rows) != len(new):
                raise InputError(f"{self.encoder!r} gave {len(rows)} features for {len(new)} texts")
            start = len(self._row)
            self._row.update((text, start + i) for i, text in enumerate(new))
            self._features = rows if self._features is None else torch.cat([self._features, rows])
        assert self._features is not None
        return torch.tensor([self._row[text] for text in texts], device=self._features.device)

    def _follow_up(self, x: torch.Tensor, predictions: Predictions, stage: Method, k: int) -> Predictions:
        """The first k classes of each image, scored by a stage as if they were the whole vocabulary, and reordered."""
        if k == 1 or not len(predictions):
            return predictions
        # Sets of candidates as positions, ascending: the order in which they were found must not matter.
        candidates = np.sort(self.vocabulary.positions(predictions.ids[:, :k]), axis=1)  # (N, k)
        sets, set_of = np.unique(candidates, axis=0, return_inverse=True)
        ids = self.vocabulary.ids[sets]  # (S, k)
        absent = self._describe(stage, ids)
        self._count_silent(stage, stage.subjects(self.vocabulary, ids), absent)
        banks = []
        for row in ids:
            banks.append(stage.texts(self.vocabulary.subset(row), self.descriptions))
            progress.report("preparing follow-ups", len(banks), len(ids))
        self._encoded(text for bank in banks for text in bank.texts)
        assert self._features is not None
        indices = [np.array([self._row[text] for text in bank.texts]) for bank in banks]
        scale = self.logit_scale if stage.pool == "mean_prob" else 1.0
        scores = within(x, set_of.ravel(), self._features, banks, indices, stage.pool, scale).cpu().numpy()
        order = np.argsort(-scores, axis=1, kind="stable")  # ties by class position: sets are ascending
        return predictions.reorder_top(
            np.take_along_axis(self.vocabulary.ids[candidates], order, axis=1),
            np.take_along_axis(scores, order, axis=1),
        )


@dataclass(frozen=True)
class Reason:
    """A text, its similarity to the image, and its share of the class's score: the shares of a class add up to it."""

    text: str
    similarity: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """Which descriptions spoke for the answer and which for its rival, each list by similarity to the image."""

    answer: str
    against: str
    stage: str
    score: float
    rival_score: float
    reasons: tuple[Reason, ...]
    counter_reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        lines = [f"{self.answer} ({self.score:.4f}) and not {self.against} ({self.rival_score:.4f}), by {self.stage}"]
        lines += [f"  + {reason.similarity:.4f}  {reason.text}" for reason in self.reasons]
        lines += [f"  - {reason.similarity:.4f}  {reason.text}" for reason in self.counter_reasons]
        return "\n".join(lines)


def _shares(
    features: torch.Tensor, similar: torch.Tensor, bank: TextBank, pool: Pool, logit_scale: float
) -> torch.Tensor:
    """What each text contributes to the score of its class, (T,): the shares of a class add up to its score."""
    import torch

    shares = torch.zeros_like(similar)
    probabilities = torch.softmax(similar * logit_scale, dim=0)
    weights = torch.ones_like(similar) if bank.weights is None else torch.as_tensor(bank.weights)
    for start, stop in zip(bank.offsets, bank.offsets[1:], strict=False):
        own = slice(int(start), int(stop))
        weight = weights[own] / weights[own].sum()
        if pool == "mean_score":
            shares[own] = similar[own] * weight
        elif pool == "mean_feature":
            length = torch.linalg.vector_norm((features[own] * weight[:, None]).sum(dim=0)).clamp_min(1e-12)
            shares[own] = similar[own] * weight / length
        elif pool == "max_score":
            shares[own.start + int(similar[own].argmax())] = similar[own].max()
        else:
            shares[own] = probabilities[own] / (own.stop - own.start)
    return shares
