"""Why an answer: which texts spoke for it and which for its rival, and what each adds to the score of its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from descbench.texts import TextBank

if TYPE_CHECKING:
    import torch

    from descbench.methods.base import Pool


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


def shares_of(
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
