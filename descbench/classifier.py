"""The one place where words, language model and encoder meet: from images or features to predictions and reasons."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench import progress
from descbench.calibration import RANGE, Calibration, Normalisers, fit_scale
from descbench.datasets.pictures import PicturesDataset
from descbench.descriptions import Descriptions
from descbench.devices import pick_device
from descbench.edits import grown
from descbench.embedding import embed
from descbench.errors import DescbenchWarning, InputError, listed
from descbench.explanation import Explanation, Reason, explained, reasons_of
from descbench.followup import PairTexts, by_pairs, competing
from descbench.generation import Answers, ask
from descbench.lengths import Lengths
from descbench.methods import Cascade, Method
from descbench.methods.base import PairMethod, Subject
from descbench.methods.cascade import stages_of
from descbench.methods.disclip import selected_in, weight_of, with_weight
from descbench.predictions import Predictions
from descbench.scoring import (
    Watch,
    best,
    class_scores,
    rows_at_once,
    unit_rows,
    unit_views,
    weighed,
    whole,
    within,
)
from descbench.selection import (
    WEIGHTS,
    Labelled,
    Selector,
    Support,
    Tuning,
    check_names,
    check_stages,
    confirmed,
    filters,
)
from descbench.texts import TextBank, of_every_name, plain
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from descbench.encoders.base import Encoder


class Classifier:
    """A vocabulary, a method, an encoder, and what describes the classes: descriptions, a language model, or both.

    With an `llm`, whatever the method needs and the `descriptions` lack is asked when it is needed: a follow-up asks
    about the pairs or sets that occur among the candidates, in one batch. The attribute `descriptions` grows by them.

    `support` are the labelled images of a method that selects by some: `db.labelled(data, vocabulary, encoder)`, or two
    arrays, features (M, D) and class ids (M,).

    Raises `InputError` where the method needs descriptions and has neither; `MatchError` where descriptions are for
    other classes. Warns (`DescbenchWarning`) of classes, pairs and sets that stay without a description.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        method: Method | Cascade,
        encoder: Encoder,
        llm: Answers | None = None,
        descriptions: Descriptions | None = None,
        support: Labelled | tuple[Any, Any] | None = None,
        device: str = "auto",
    ) -> None:
        for what, given, example in (
            ("method", method, "db.method('dclip')"),
            ("encoder", encoder, "db.encoder('demo')"),
            ("llm", llm, "db.llm('demo')"),
        ):
            if isinstance(given, str):
                raise InputError(f"the {what} of a Classifier is an object, given the text {given!r}; write {example}")
        check_stages(method, stages_of(method), support)
        check_names(stages_of(method), vocabulary)
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
        self._lengths = Lengths(encoder)
        self._cut: set[str] = set()  # the texts that a stage has let be cut
        self._warned: set[str] = set()
        self._pairs: dict[Method, PairTexts] = {}  # what each follow-up by pairs has summed
        self._spent = 0  # of a cascade's budget
        self.support = None if support is None else Labelled.of(support, vocabulary, "support")
        self.tuning: Tuning | None = None
        self.calibration: Calibration | None = None
        self._support = None if self.support is None else Support.of(self.support, vocabulary)
        self._selectors: dict[Method, tuple[Descriptions, Selector]] = {}
        self._made: tuple[Descriptions, int, Callable[[torch.Tensor], torch.Tensor]] | None = None

    @property
    def device(self) -> str:
        """Where it computes, as torch names it."""
        return pick_device(self._device)

    @property
    def logit_scale(self) -> float:
        """The factor from a similarity to a logit; 100 for an encoder that does not say."""
        return float(getattr(self.encoder, "logit_scale", 100.0))

    def check_texts(self) -> None:
        """Find texts that the encoder cannot read whole before any image is looked at: those of the first stage, as far
        as it is described by now. The rest is found when it is encoded.

        Raises `InputError` that lists them, where the method does not say that they may be cut (`Method.truncates`).
        """
        if self._lengths.known and self._made is None:
            first = stages_of(self.method)[0]
            self._lengths.check(first, _texts_of(of_every_name(first, self.vocabulary, self.descriptions)))

    def predict(self, images: Sequence[str | Path | Image.Image], top_k: int = 5) -> Predictions:
        """The best classes of images, given as paths or PIL images.

        Raises `InputError` that lists the images that cannot be read.
        """
        self.check_texts()
        return self.predict_features(self._embedded(images), top_k)

    def predict_features(self, features: Any, top_k: int = 5) -> Predictions:
        """The best classes for image features (N, D), numpy or torch; they are scaled to unit length.

        Of features (N, V, D), whose views are kept apart, `awt` takes all and any other method the first, the whole
        picture. Raises `InputError` for features that are not finite, of another dimension than the encoder's texts, or
        without the views that the method needs.
        """
        if top_k < 1:
            raise InputError(f"top_k={top_k} is not possible; it is a whole number from 1 on")
        x = self._pictures(features)
        return self._decided(x, top_k)[0].top(top_k)

    def predict_watched(
        self, features: Any, right: np.ndarray | None = None, top_k: int = 5
    ) -> tuple[Predictions, Normalisers | None]:
        """`predict_features`, and what makes probabilities of the scores: at the temperature of the encoder and, where
        one was fitted, at that too; None after a follow-up, whose scores are of some classes only.

        `right` (N, L) has the ids of all classes that are right for an image, whose score is then kept too.
        """
        x = self._pictures(features)
        watch = None
        if len(stages_of(self.method)) == 1:
            scales = [self._softmax_scale()] + ([self.calibration.scale] if self.calibration else [])
            positions = None if right is None else self.vocabulary.positions(right)
            watch = Normalisers(len(x), scales, self._gives_shares, positions)
        return self._decided(x, top_k, watch)[0].top(top_k), watch

    @property
    def _gives_shares(self) -> bool:
        """Whether the scores are shares of a probability already, and no similarities."""
        return stages_of(self.method)[0].pool == "mean_prob"

    def _softmax_scale(self) -> float:
        """The factor of the scores in a softmax over them: that of the encoder is in a share already."""
        return 1.0 if self._gives_shares else self.logit_scale

    def _pictures(self, features: Any) -> torch.Tensor:
        """Image features as unit rows on the device: (N, D), or (N, V, D) where a stage weighs views."""
        weighing = [stage for stage in stages_of(self.method) if stage.pool == "transport"]
        if getattr(features, "ndim", 2) == 3 and not weighing:
            features = whole(features)
        x = unit_views(features, pick_device(self._device), "image features")
        if weighing and x.ndim == 2:
            raise InputError(
                f"{weighing[0]!r} weighs the views of a picture, and image features of shape {tuple(x.shape)} have one "
                "each. Keep views apart when encoding: --views 'resized(50)', or db.encoder(..., views='resized(50)')"
            )
        return x

    def _decided(self, x: torch.Tensor, top_k: int, watch: Watch | None = None) -> tuple[Predictions, np.ndarray]:
        """At least the best `top_k` classes of each image, and which stage was the last to look at it, (N,)."""
        k = min(self.method.k, len(self.vocabulary)) if isinstance(self.method, Cascade) else 1
        width, scores_of = self._first_stage()
        self._check_dimension(x)
        seen = _seen(stages_of(self.method)[0], x)
        positions, scores = best(seen, scores_of, width, len(self.vocabulary), max(top_k, k), watch)
        predictions = Predictions(self.vocabulary, self.vocabulary.ids[positions], scores)
        decided = np.zeros(len(x), dtype=np.int64)
        if isinstance(self.method, Cascade):
            first = predictions.ids[:, 0].copy()
            for number, stage in enumerate(self.method.stages[1:], 1):
                rows = self.method.doubtful(predictions.scores) if k > 1 else np.zeros(0, dtype=np.int64)
                some = replace(predictions, ids=predictions.ids[rows], scores=predictions.scores[rows])
                some = self._follow_up(x if len(rows) == len(x) else x[rows], some, stage, k)
                predictions.ids[rows], predictions.scores[rows] = some.ids, some.scores
                decided[rows] = number
            self.counts["followed_up"] = int((decided > 0).sum())
            if len(self.method.stages) > 1:
                predictions = replace(predictions, first=first)
        return predictions, decided

    def curve(self, features: Any, weights: Any = WEIGHTS) -> np.ndarray:
        """What `disclip` answers for image features (N, D) at each weight of the name: class ids, (len(weights), N).

        The default weights are the paper's 160. Which of them is best is a question for images with labels that are not
        the test set; the answers at w = 0 are the name-free test. Raises `InputError` for a method without the weight.
        """
        stages = stages_of(self.method)
        if weight_of(self.method) is None:
            raise InputError(f"{self.method!r} has no weight of the name to vary; disclip has, without named=True")
        tried = np.asarray(weights, dtype=np.float64)
        if tried.ndim != 1 or not (np.isfinite(tried) & (tried >= 0)).all():
            raise InputError(f"weights are a list of numbers from 0 on, given: {weights!r:.80}")
        assert isinstance(self.method, Cascade)
        if self.method.margin is not None:
            raise InputError(f"{self.method!r} follows up some images only; a curve is over all, so leave out margin")
        x = self._pictures(features)
        k = min(self.method.k, len(self.vocabulary))
        width, scores_of = self._first_stage()
        self._check_dimension(x)
        positions, _ = best(_seen(stages[0], x), scores_of, width, len(self.vocabulary), k)
        if k == 1 or not len(x):
            return np.broadcast_to(self.vocabulary.ids[positions[:, 0]], (len(tried), len(x))).copy()
        selector = self._selector(stages[-1])
        candidates = np.sort(positions, axis=1)
        sets, set_of = _different(candidates)
        columns = selector.curve(_seen(stages[-1], x), set_of, sets, tried)  # (W, N)
        ids: np.ndarray = self.vocabulary.ids[candidates[np.arange(len(x)), columns]]
        return ids

    def tuned(self, validation: Labelled | tuple[Any, Any], split: str = "") -> Classifier:
        """The same with the weight of the name that is best on labelled images which are not those of the test: of the
        paper's 160 the one that is right most often, the smallest of several.

        `validation` is `db.labelled(data, ...)`, or features (M, D) and labels (M,) with the name of their `split`. The
        attribute `tuning` of what is returned says which weight it was, and every evaluation of it, on what it was
        tuned. Raises `InputError` for a method without the weight, without a name of the split, and where images of it
        are among the support.
        """
        images = self._validation(validation, split, "tuned")
        right = images.right(self.curve(images.features)).sum(axis=1)  # (W,)
        first = int(right.argmax())  # of the best
        w = float(WEIGHTS[first])
        found = self._with(with_weight(self.method, w))
        found.tuning = Tuning(w, images, int(right[first]))
        return found

    def calibrated(self, validation: Labelled | tuple[Any, Any], split: str = "") -> Classifier:
        """The same with the temperature that makes labelled images, which are not those of the test, likeliest: an
        evaluation of it has `ece_fitted` and `nll_fitted` too. Answers and scores stay.

        `validation` and `split` are those of `tuned`. The attribute `calibration` of what is returned says which
        temperature it was; warns (`DescbenchWarning`) where none in the range is the best, as of images that are all
        right or all wrong. Raises `InputError` for a method with a follow-up, whose scores are of some classes only.
        """
        import torch

        if len(stages_of(self.method)) > 1:
            raise InputError(
                f"{self.method!r} decides by a follow-up, whose scores are of some classes only: there are no "
                "probabilities of all to fit a temperature to. Calibrate a method of one stage"
            )
        images = self._validation(validation, split, "calibrated")
        x = self._pictures(images.features)
        accepted = images.labels[:, None] if images.accepted is None else images.accepted
        right = torch.as_tensor(self.vocabulary.positions(accepted), device=x.device)  # (M, L)
        width, scores_of = self._first_stage()
        self._check_dimension(x)
        seen, step = _seen(stages_of(self.method)[0], x), rows_at_once(width)

        def blocks() -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
            for start in range(0, len(x), step):
                part = slice(start, start + step)
                yield scores_of(seen[part]), right[part]
                progress.report("fitting the temperature", min(start + step, len(x)), len(x))

        own = self._softmax_scale()
        scale, passes = fit_scale(blocks, own, self._gives_shares)
        found = self._with(self.method)
        found.tuning = self.tuning
        found.calibration = Calibration(own / scale, scale, images, passes, scale in (own / RANGE, own * RANGE))
        if found.calibration.at_edge:
            why = "the images are right all the time, or no more often than by chance"
            found._warn(f"{found.calibration}, the end of the range: {why}; fit it on more images, or others")
        return found

    def _validation(self, validation: Labelled | tuple[Any, Any], split: str, what: str) -> Labelled:
        """The labelled images that choose for `tuned` or `calibrated`, checked and with a name."""
        images = Labelled.of(validation, self.vocabulary, "validation")
        images = replace(images, name=split or images.name)
        if not images.name:
            raise InputError(f"which split is it {what} on? Results name it: {what}((features, labels), split='val')")
        if self.support is not None:
            self.support.check_apart("support", images.ids, images.name)
        return images

    def _with(self, method: Method | Cascade) -> Classifier:
        """A classifier of another method, with all that is known and encoded here."""
        found = Classifier(
            *(self.vocabulary, method, self.encoder, self.llm, self.descriptions, self.support), self._device
        )
        found._row, found._features, found._warned = dict(self._row), self._features, set(self._warned)
        found._lengths = self._lengths
        return found

    def described(self, descriptions: Descriptions) -> Classifier:
        """The same with other descriptions: what is encoded already is not encoded again."""
        found = self._with(self.method)
        found.descriptions = descriptions.matched(self.vocabulary)
        found.tuning = self.tuning
        return found

    def explain(self, image: str | Path | Image.Image, against: str | int | None = None) -> Explanation:
        """Why the answer, and not another class (a name or an id; the runner-up when not given)?

        The stage that decided between the two is the last one that had both as candidates.
        """
        return self.explain_features(self._embedded([image])[0], against)

    def explain_features(self, features: Any, against: str | int | None = None) -> Explanation:
        """The same for the features (D,) of one image, or its views (V, D)."""
        x = self._pictures(np.asarray(features)[None])
        predictions, decided = self._decided(x, len(self.vocabulary))
        ranked = predictions.ids[0].tolist()
        if len(ranked) == 1 and against is None:
            raise InputError(f"one class only ({self.vocabulary.names[0]!r}): nothing to explain it against")
        rival = ranked[1] if against is None else self.vocabulary.id(against) if isinstance(against, str) else against
        self.vocabulary.position(rival)
        if rival == ranked[0]:
            raise InputError(f"{self.vocabulary.name(rival)!r} is the answer itself; name another class")
        why = self._explanation(x, ranked, int(decided[0]), rival)
        stages = stages_of(self.method)
        if len(stages) == 1:
            return why
        assert predictions.first is not None
        first = int(predictions.first[0])
        turn = None if first in (ranked[0], rival) else self._explanation(x, ranked, int(decided[0]), first)
        return replace(why, first=self.vocabulary.name(first), first_stage=repr(stages[0]), turn=turn)

    def _explanation(self, x: torch.Tensor, ranked: Sequence[int], decided: int, rival: int) -> Explanation:
        """Why one image (1, ...) is the first of the ranked classes and not `rival`; `decided` is the last stage that
        looked at it."""
        stages = stages_of(self.method)
        k = min(self.method.k, len(ranked)) if isinstance(self.method, Cascade) else 1
        followed = decided > 0 and rival in ranked[:k]
        stage = stages[decided] if followed else stages[0]
        if selected_in(stage) is not None:
            row = np.sort(self.vocabulary.positions(np.array(ranked[:k])))
            found = self._selector(stage).shares(whole(x)[0], row)
            shares = dict(zip(self.vocabulary.ids[row].tolist(), found, strict=True))
            told = [[Reason(*share) for share in shares[id_]] for id_ in (ranked[0], rival)]
        else:
            among = self.vocabulary.subset(i for i in self.vocabulary.ids.tolist() if not followed or i in ranked[:k])
            bank, index = self._bank(stage, among)
            assert self._features is not None
            about = (bank, self._features, index, x[0] if stage.pool == "transport" else whole(x)[0])
            scale = self._scale(stage)
            told = [reasons_of(*about, stage.pool, scale, among.position(id_)) for id_ in (ranked[0], rival)]
        name = self.vocabulary.name
        return explained(name(ranked[0]), name(rival), repr(stage), stage.pool, *told)

    def bank(self) -> tuple[TextBank, torch.Tensor, torch.Tensor]:
        """The texts of the first stage as they are scored, features (U, D), and which of these each text has, (T,)."""
        self._first_stage()  # asks what is missing, and counts
        bank, index = self._bank(stages_of(self.method)[0], self.vocabulary)
        assert self._features is not None
        return bank, self._features, index

    def _bank(self, stage: Method, among: Vocabulary) -> tuple[TextBank, torch.Tensor]:
        """The texts that a stage has for some classes, encoded and weighed, and the rows of their features, (T,)."""
        import torch

        bank = of_every_name(stage, among, self.descriptions)
        if self._support is not None and filters(stage):
            bank = self._confirmed(bank, self._support, stage)
        ((bank, rows),) = self._ready([bank], stage)
        assert self._features is not None
        return bank, torch.as_tensor(rows, device=self._features.device)

    def _first_stage(self) -> tuple[int, Callable[[torch.Tensor], torch.Tensor]]:
        """The width of a row of scores and the function that makes them; made anew when descriptions have changed."""
        import torch

        if self._made is None or self._made[0] is not self.descriptions:
            first = stages_of(self.method)[0]
            absent = self._describe(first)
            if first.asks_about in ("pair", "set"):
                self._count_silent(first, first.subjects(self.vocabulary), absent)
            bank = of_every_name(first, self.vocabulary, self.descriptions)
            self._count_undescribed(first, bank)
            if self._support is not None and filters(first):
                bank = self._confirmed(bank, self._support, first)
            ((bank, rows),) = self._ready([bank], first)
            assert self._features is not None
            index = torch.as_tensor(rows, device=self._features.device)
            every = first.pool in ("max_score", "mean_prob")  # these need the similarity to every text
            width = len(self.vocabulary) + (len(bank) if every else 0)
            scores_of = class_scores(self._features, index, bank, first.pool, self._scale(first))
            self._made = (self.descriptions, width, scores_of)
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
        if x.shape[-1] != self._features.shape[1]:
            raise InputError(
                f"image features have {x.shape[-1]} dimensions, the texts of {self.encoder!r} have "
                f"{self._features.shape[1]}: they are not of one model. Encode both with the same encoder."
            )

    def _describe(
        self, stage: Method, sets: np.ndarray | None = None, candidates: np.ndarray | None = None
    ) -> dict[Subject, str]:
        """Ask what a stage needs and the descriptions lack; returns what stays without an answer, and why.

        With the `candidates` of all images, (N, k) positions, a budget goes to what most of them are about.
        """
        subjects = stage.subjects(self.vocabulary, sets)
        missing = [subject for subject in subjects if not stage.known(subject, self.descriptions)]
        if missing and self.llm is not None:
            asked, why = missing, ""
            budget = self.method.budget if isinstance(self.method, Cascade) else None
            if budget is not None and candidates is not None:
                asked, why = self._affordable(stage, missing, candidates, budget), f"left out by budget={budget}"
            reasons = dict.fromkeys(missing, why)
            if asked:
                said = ask(self.vocabulary, stage, asked, self.llm)
                self.descriptions = grown(self.descriptions, said.descriptions)
                reasons |= {subject: said.missing.get(subject, "") for subject in asked}
            return {s: reason for s, reason in reasons.items() if not stage.known(s, self.descriptions)}
        return dict.fromkeys(missing, "")

    def _affordable(
        self, stage: Method, missing: Sequence[Subject], candidates: np.ndarray, budget: int
    ) -> list[Subject]:
        """As many of the subjects as the rest of the budget has questions for: first those that compete in most images,
        then by name. What is asked another time, because its reply says nothing, does not count."""
        count = self._images_about(stage, candidates)
        ranked = sorted(missing, key=lambda s: (-count[frozenset(s)], sorted(self.vocabulary.name(i) for i in s), s))
        chosen: list[Subject] = []
        for subject in ranked:
            cost = len(stage.questions(self.vocabulary, subject))
            if self._spent + cost > budget:
                break
            self._spent += cost
            chosen.append(subject)
        return chosen

    def _images_about(self, stage: Method, candidates: np.ndarray) -> Mapping[frozenset[int], int]:
        """In how many images each subject of a stage competes."""
        ids = self.vocabulary.ids
        if stage.asks_about == "set":
            found: Counter[frozenset[int]] = Counter()
            sets, images = np.unique(candidates, axis=0, return_counts=True)
            for row, often in zip(ids[sets], images.tolist(), strict=True):
                # One subject at most; several sets may have the same, where classes share a name.
                found.update({frozenset(subject): often for subject in stage.subjects(self.vocabulary, row[None])})
            return found
        if stage.asks_about == "pair":
            about, images = competing(candidates, len(ids))
        else:
            about, images = (part.reshape(len(part), -1) for part in np.unique(candidates, return_counts=True))
        return dict(zip(map(frozenset, ids[about].tolist()), images.ravel().tolist(), strict=True))

    def _count_undescribed(self, stage: Method, bank: TextBank) -> None:
        self.counts["undescribed"] = int(bank.undescribed.sum())
        if bank.undescribed.any():
            names = [name for name, bare in zip(self.vocabulary.names, bank.undescribed, strict=True) if bare]
            of = f"{len(names)} of {len(self.vocabulary)} classes have no description"
            self._warn(f"{of} and are scored by their bare name: {listed(names)}")

    def _count_silent(self, stage: Method, subjects: Sequence[Subject], absent: Mapping[Subject, str]) -> None:
        """Count the classes, pairs or sets that compete, and those of them that nothing is known about."""
        what = {"pair": "pairs", "set": "sets"}.get(stage.asks_about, "classes")
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

    def _check_lengths(self, stage: Method, texts: Iterable[str]) -> None:
        """Count and tell those texts of a stage that are cut; raises `InputError` where they may not be."""
        if self._lengths.known:
            cut, note = self._lengths.check(stage, texts)
            if cut:
                self._cut.update(cut)
                self._warn(note)
            self.counts["truncated"] = len(self._cut)

    def _encoded(self, texts: Iterable[str], stage: Method | None) -> torch.Tensor:
        """The rows of `_features` for texts, of a stage where one is named; each distinct text is encoded once in the
        life of a classifier. See `_check_lengths` for those of a stage that are too long."""
        import torch

        texts = list(texts)
        if stage is not None:
            self._check_lengths(stage, texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._row]
        if new:
            device = pick_device(self._device)
            with self._lengths.quietly(new):
                encoded = self.encoder.encode_texts(new)
            rows = unit_rows(encoded, device, f"text features of {self.encoder!r}")
            if len(rows) != len(new):
                raise InputError(f"{self.encoder!r} gave {len(rows)} features for {len(new)} texts")
            start = len(self._row)
            self._row.update((text, start + i) for i, text in enumerate(new))
            self._features = rows if self._features is None else torch.cat([self._features, rows])
        assert self._features is not None
        return torch.tensor([self._row[text] for text in texts], dtype=torch.int64, device=self._features.device)

    def _ready(self, banks: Sequence[TextBank], stage: Method) -> list[tuple[TextBank, np.ndarray]]:
        """Banks whose texts are encoded and whose anchors are weights, each with the rows of its texts, (T,)."""
        self._encoded((text for bank in banks for text in _texts_of(bank)), stage)
        assert self._features is not None
        found = weighed(banks, self._features, self._row)
        return [(bank, np.array([self._row[text] for text in bank.texts])) for bank in found]

    def _scale(self, stage: Method) -> float:
        """The factor of a stage's logits; 1 where it has none, since asking an encoder for it may load a model."""
        return self.logit_scale if stage.pool in ("mean_prob", "transport") else 1.0

    def _selector(self, stage: Method) -> Selector:
        """What chooses for a stage; made anew when descriptions have changed. It asks about all classes, since each
        may be described by what was said of another."""
        known = self._selectors.get(stage)
        if known is None or known[0] is not self.descriptions:
            chosen = selected_in(stage)
            assert chosen is not None
            self._describe(stage)
            bank = of_every_name(stage, self.vocabulary, self.descriptions)
            self._count_undescribed(stage, bank)
            support = self._support if chosen.needs_support else None
            if support is not None:
                self._count_unsupported(support)
            selector = Selector(chosen, bank, self.vocabulary, support, partial(self.text_features, stage=stage))
            known = self._selectors[stage] = (self.descriptions, selector)
        return known[1]

    def _confirmed(self, bank: TextBank, support: Support, stage: Method) -> TextBank:
        """The texts that the labelled images of their classes confirm; counts the classes that lost all."""
        self._count_unsupported(support)
        kept, lost = confirmed(bank, self.vocabulary, support, partial(self.text_features, stage=stage))
        self.counts["unconfirmed"] = int(lost.sum())
        if lost.any():
            names = [name for name, gone in zip(self.vocabulary.names, lost, strict=True) if gone]
            of = f"{len(names)} of {len(self.vocabulary)} classes have no text that their labelled images confirm"
            self._warn(f"{of} and are scored by their bare name: {listed(names)}")
        return kept

    def _count_unsupported(self, support: Support) -> None:
        self.counts["unsupported"] = int((support.counts == 0).sum())
        if self.counts["unsupported"]:
            names = [name for name, n in zip(self.vocabulary.names, support.counts, strict=True) if not n]
            of = f"{len(names)} of {len(self.vocabulary)} classes have no labelled image"
            self._warn(f"{of} and keep their own descriptions: {listed(names)}")

    def text_features(self, texts: Sequence[str], stage: Method | None = None) -> torch.Tensor:
        """The features of texts, (len(texts), D) unit rows on the device; each distinct text is encoded once.

        Raises `InputError` where they are those of a stage, too long for the encoder, and may not be cut.
        """
        index = self._encoded(texts, stage)
        assert self._features is not None
        return self._features[index]

    def _follow_up(self, x: torch.Tensor, predictions: Predictions, stage: Method, k: int) -> Predictions:
        """The first k classes of each image, scored by a stage as if they were the whole vocabulary, and reordered."""
        if k == 1 or not len(predictions):
            return predictions
        # As ascending positions: the order in which candidates were found must not matter.
        candidates = np.sort(self.vocabulary.positions(predictions.ids[:, :k]), axis=1)  # (N, k)
        if selected_in(stage) is not None:
            sets, set_of = _different(candidates)
            scores = self._selector(stage).scores(_seen(stage, x), set_of, sets)
        else:
            # What is summed by pairs has one name a class: with several, texts are those of each set.
            alone = by_pairs(stage) and not self.vocabulary.synonyms
            by = self._pair_scores if alone else self._set_scores
            scores = by(_seen(stage, x), candidates, stage).cpu().numpy()
        order = np.argsort(-scores, axis=1, kind="stable")  # ties by class position: sets are ascending
        return predictions.reorder_top(
            np.take_along_axis(self.vocabulary.ids[candidates], order, axis=1),
            np.take_along_axis(scores, order, axis=1),
        )

    def _pair_scores(self, x: torch.Tensor, candidates: np.ndarray, stage: Method) -> torch.Tensor:
        """The scores of images for their candidates (N, k), from what each pair of them adds: see `PairTexts`."""
        import torch

        pairs = self._pairs.get(stage)
        used = pairs.used(candidates) if pairs is not None and pairs.descriptions is self.descriptions else None
        if pairs is None or used is None or (self.llm is not None and pairs.told(used)[1]):
            occurring, _ = competing(candidates, len(self.vocabulary))  # (P, 2)
            ids = self.vocabulary.ids[occurring]
            absent = self._describe(stage, ids, candidates)
            self._count_silent(stage, stage.subjects(self.vocabulary, ids), absent)
            assert isinstance(stage, PairMethod)
            pairs = PairTexts(stage, self.vocabulary, self.descriptions, occurring, str(x.device))
            index = self._encoded(pairs.texts, stage)
            assert self._features is not None
            pairs.add(self._features, index)
            self._pairs[stage] = pairs
        else:
            self.counts["candidate_pairs"], self.counts["undescribed_pairs"] = pairs.told(used)
        bare = torch.zeros(len(self.vocabulary), dtype=torch.int64, device=x.device)
        if len(silent := pairs.silent(candidates)):
            there = torch.as_tensor(silent, device=x.device)
            bare[there] = self._encoded((plain(self.vocabulary.names[position]) for position in silent), stage)
        assert self._features is not None
        return pairs.scores(x, candidates, self._features, bare)

    def _set_scores(self, x: torch.Tensor, candidates: np.ndarray, stage: Method) -> torch.Tensor:
        """The scores of images for their candidates (N, k), from the texts that any method has for each set of them."""
        sets, set_of = _different(candidates)
        ids = self.vocabulary.ids[sets]  # (S, k)
        absent = self._describe(stage, ids, candidates)
        self._count_silent(stage, stage.subjects(self.vocabulary, ids), absent)
        banks = []
        for row in ids:
            banks.append(of_every_name(stage, self.vocabulary.subset(row), self.descriptions))
            progress.report("preparing follow-ups", len(banks), len(ids))
        ready, indices = zip(*self._ready(banks, stage), strict=True)
        assert self._features is not None
        return within(x, set_of, self._features, ready, indices, stage.pool, self._scale(stage))


def _different(candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different sets among the candidates (N, k), (S, k), and which of them each image has, (N,)."""
    sets, set_of = np.unique(candidates, axis=0, return_inverse=True)
    return sets, set_of.ravel()


def _texts_of(bank: TextBank) -> tuple[str, ...]:
    """All texts of a bank that are encoded, its anchors too."""
    return (*bank.texts, *(bank.anchors.texts if bank.anchors else ()))


def _seen(stage: Method, x: torch.Tensor) -> torch.Tensor:
    """What a stage looks at: the whole pictures, or for `transport` all their views."""
    return x if stage.pool == "transport" else whole(x)
