"""Why an answer: what each text adds to the decision between two classes, and what a follow-up changed."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from descbench.texts import TextBank
from descbench.transport import Transport

if TYPE_CHECKING:
    import torch

    from descbench.methods.base import Pool

WIDTH = 100  # columns of an explanation as text
_BAR = 8  # of a bar, to each side
_NAME = 20  # of a class's name beside its texts

NOTES = {
    "max_score": "Only the best text of each class counts; without it the next one would.",
    "mean_prob": "A text counts by its share in a softmax over all texts, so each hangs on all the others.",
    "transport": "How much a text counts follows from the picture, and from the other texts.",
}
"""What to know of contributions that are not those of a plain mean, by pool."""


@dataclass(frozen=True)
class Reason:
    """A text, its similarity to the image, and its share of the class's score: the shares of a class add up to it.

    `weight` is how much of its class the text is; the weights of a class add up to 1.
    """

    text: str
    similarity: float
    share: float
    weight: float = 0.0


@dataclass(frozen=True)
class Contribution:
    """What a text adds to the lead of the answer over its rival: above 0 it speaks for the answer, below 0 for the
    rival. `of` says whose text it is.

    `share` is its share of the answer's score less that of the rival's. `contribution` is that share beyond what a text
    of this weight would have if both classes scored the same, midway between the two: so a text of the answer speaks
    for it where it fits better than that, and a text of the rival where it fits worse. Both add up to the lead.
    """

    text: str
    of: Literal["answer", "rival", "both"]
    similarity: float
    share: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Which descriptions spoke for the answer and which for its rival, each list by similarity to the image.

    Of a cascade `first` is what its first stage answered. Where a follow-up changed that, and `against` is a third
    class, `turn` explains the answer against the first one.
    """

    answer: str
    against: str
    stage: str
    score: float
    rival_score: float
    reasons: tuple[Reason, ...]
    counter_reasons: tuple[Reason, ...]
    pool: str = ""
    first: str = ""
    first_stage: str = ""
    turn: Explanation | None = None

    @property
    def lead(self) -> float:
        """By how much the answer scores higher than its rival."""
        return self.score - self.rival_score

    @property
    def changed(self) -> bool:
        """Whether a follow-up answered otherwise than the first stage."""
        return bool(self.first_stage) and self.first != self.answer

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What each text adds to the lead, the largest first; a text of both classes, or twice of one, once.

        They add up to `lead`.
        """
        level = (self.score + self.rival_score) / 2
        parts: defaultdict[str, list[tuple[bool, float, Reason]]] = defaultdict(list)
        for sign, reasons in ((1.0, self.reasons), (-1.0, self.counter_reasons)):
            for reason in reasons:
                parts[reason.text].append((sign > 0, sign, reason))
        found = []
        for text, told in parts.items():
            sides = {own for own, _, _ in told}
            found.append(
                Contribution(
                    text,
                    "both" if len(sides) > 1 else "answer" if True in sides else "rival",
                    told[0][2].similarity,
                    math.fsum(sign * reason.share for _, sign, reason in told),
                    math.fsum(sign * (reason.share - reason.weight * level) for _, sign, reason in told),
                )
            )
        return tuple(sorted(found, key=lambda one: (-one.contribution, one.text)))

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """What a notebook shows: the contributions, the largest first."""
        from descbench import markup

        whose = {"answer": markup.name(self.answer), "rival": markup.name(self.against), "both": "both"}
        rows = [
            [markup.name(one.text, 300), whose[one.of], f"{one.similarity:.4f}", f"{one.contribution:+.4f}"]
            for one in self.contributions
        ]
        told = f"{markup.shortened(self.answer)} and not {markup.shortened(self.against)}: a lead of {self.lead:+.4f}"
        found = markup.table(["text", "of", "similarity", "adds to the lead"], rows, told, numbers=(2, 3))
        return str(markup.snippet(found, *([self.turn] if self.turn else [])))

    def table(self, most: int = 0) -> str:
        """The contributions as text, with bars; 0 shows all, else the `most` that weigh most, for or against."""
        lines = []
        if self.changed:
            lines.append(f"{self.first_stage} answered {self.first}; the follow-up changed its mind.")
        lines.append(
            f"{self.answer} ({self.score:.4f}) and not {self.against} ({self.rival_score:.4f}): a lead of "
            f"{self.lead:+.4f}, by {self.stage}"
        )
        lines += _rows(self, most)
        if self.turn is not None:
            lines.append(
                f"What changed it: {self.answer} ({self.turn.score:.4f}) and not {self.first} "
                f"({self.turn.rival_score:.4f}), a lead of {self.turn.lead:+.4f}"
            )
            lines += _rows(self.turn, most)
        if self.pool in NOTES:
            lines.append(NOTES[self.pool])
        return "\n".join(lines)


def _rows(why: Explanation, most: int) -> list[str]:
    """A line for each contribution: how much, as a bar, the similarity, whose text, and the text."""
    every = why.contributions
    shown = every
    if 0 < most < len(every):
        strongest = sorted(every, key=lambda one: -abs(one.contribution))[:most]
        shown = tuple(one for one in every if one in strongest)
    largest = max((abs(one.contribution) for one in shown), default=0.0) or 1.0
    whose = {"answer": why.answer, "rival": why.against, "both": "both"}
    names = {of: name if len(name) <= _NAME else f"{name[: _NAME - 3]}..." for of, name in whose.items()}
    width = max(map(len, names.values()))
    lines = [f"  {'adds':>7} {'against':>{_BAR}}|{'for':<{_BAR}} {'similar':>7}  text of"]
    for one in shown:
        length = round(_BAR * abs(one.contribution) / largest)
        bar = f"{'':{_BAR}}|{'#' * length:<{_BAR}}" if one.contribution >= 0 else f"{'#' * length:>{_BAR}}|{'':{_BAR}}"
        head = f"  {one.contribution:+.4f} {bar} {one.similarity:7.4f}  {names[one.of]:<{width}}  "
        said = textwrap.wrap(one.text, WIDTH - len(head)) or [repr(one.text)]
        lines.append(head + said[0])
        lines += [" " * len(head) + more for more in said[1:]]
    if len(shown) < len(every):
        rest = math.fsum(one.contribution for one in every) - math.fsum(one.contribution for one in shown)
        lines.append(f"  {rest:+.4f} by {len(every) - len(shown)} other texts")
    return lines


def explained(
    answer: str, against: str, stage: str, pool: str, told: Sequence[Reason], told_of_rival: Sequence[Reason]
) -> Explanation:
    """The explanation of an answer against a rival from the reasons of both."""
    reasons, others = (tuple(sorted(side, key=lambda r: (-r.similarity, r.text))) for side in (told, told_of_rival))
    scores = [math.fsum(reason.share for reason in side) for side in (reasons, others)]
    return Explanation(answer, against, stage, scores[0], scores[1], reasons, others, pool)


def reasons_of(
    bank: TextBank,
    features: torch.Tensor,
    index: torch.Tensor,
    image: torch.Tensor,
    pool: Pool,
    logit_scale: float,
    position: int,
) -> list[Reason]:
    """The texts of the class at a position, with what each adds to its score; `image` is (D,), or its views (V, D).

    The texts of the bank have the rows `index` (T,) of `features` (U, D). Similarities are those to the whole picture.
    """
    rows = features[index]
    similar = (rows @ (image[0] if image.ndim == 2 else image)).cpu().double()  # (T,)
    own = slice(*bank.offsets[position : position + 2].tolist())
    if pool == "transport":
        shares = Transport(features, index, bank.offsets, logit_scale).shares(image).cpu().double()[own]
        weights = shares / shares.sum()  # what the plan carries to a text, as if all were alike near
    else:
        shares, weights = _pooled(rows.cpu().double(), similar, bank, pool, logit_scale, own)
    columns = (similar[own].tolist(), shares.tolist(), weights.tolist())
    return [Reason(*told) for told in zip(bank.texts[own], *columns, strict=True)]


def _pooled(
    rows: torch.Tensor, similar: torch.Tensor, bank: TextBank, pool: Pool, logit_scale: float, own: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each text of a class, `own` of all, adds to its score, and its weight in it, both (n,)."""
    import torch

    near = similar[own]
    if pool == "max_score":
        weights = torch.zeros_like(near)
        weights[near.argmax()] = 1
        return near * weights, weights
    if pool == "mean_prob":
        weights = torch.full_like(near, 1 / len(near))
        return torch.softmax(similar * logit_scale, dim=0)[own] * weights, weights
    weights = torch.ones_like(near) if bank.weights is None else torch.as_tensor(bank.weights[own]).double()
    weights = weights / weights.sum()
    if pool == "mean_score":
        return near * weights, weights
    length = torch.linalg.vector_norm((rows[own] * weights[:, None]).sum(dim=0)).clamp_min(1e-12)
    return near * weights / length, weights
