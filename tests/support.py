"""What several tests share: an encoder that is a dictionary, and a language model that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from descbench.prompts import Question, Reply


class Lookup:
    """Text features by exact text; a text that it does not know is a `KeyError`. `asked` keeps every text, in order."""

    name = fingerprint = "lookup"

    def __init__(self, features: Mapping[str, np.ndarray], logit_scale: float = 100.0) -> None:
        self.features, self.logit_scale = features, logit_scale
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        return torch.from_numpy(np.stack([np.asarray(self.features[text], dtype=np.float32) for text in texts]))

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        raise AssertionError("this test gives features, not images")


class Scripted:
    """A language model that answers what `replies` says for the first of its keys that the question contains.

    `batches` keeps what it was asked, one list a call; a reply may be a list, one entry a sample.
    """

    name = fingerprint = "scripted"

    def __init__(self, replies: Mapping[str, str | list[str]]) -> None:
        self.replies = replies
        self.batches: list[list[Question]] = []

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        self.batches.append(list(questions))
        return [Reply(self._text(question)) for question in questions]

    def _text(self, question: Question) -> str:
        for key, reply in self.replies.items():
            if key in question.text:
                return reply if isinstance(reply, str) else reply[min(question.sample, len(reply) - 1)]
        return ""


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Random unit rows, float32."""
    return unit(np.random.default_rng(seed).normal(size=shape)).astype(np.float32)
