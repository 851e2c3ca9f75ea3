"""A model of two towers in this process: batches through each, every text once, and every row of length 1."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from descbench.arrays import digest
from descbench.devices import Compute
from descbench.encoders.fitting import Fitting
from descbench.errors import CutWarning, InputError, SpecError, listed
from descbench.progress import report

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

_WINDOW = 16  # batches of texts that are tokenised at once and sorted by their tokens
_ENDS = 4  # the most tokens that a tokenizer adds to those of the text


@dataclass(frozen=True)
class Tokenizer:
    """`tokens(texts)` are a batch's inputs by name, the ids first, each (B, L): cut to `context` tokens, and padded as
    the text tower needs. `lengths(texts)` counts the tokens of each text other than `padding`, before any are cut."""

    tokens: Callable[[list[str]], Mapping[str, Tensor]]
    lengths: Callable[[list[str]], list[int]]
    context: int
    padding: int


@dataclass(frozen=True)
class Towers:
    """A loaded model. Features may be of any precision and length; `vocabulary` is how many tokens it knows.

    `prepare`, where preparing ends with scaling 8-bit pixels, is what comes before that: (3, H, W) uint8, a quarter of
    what has to be moved. `encode_images` takes batches of either, and scales those where the model is.
    `needed(tokens)` says how many leading positions the features of each text depend on, (B,), so that the rest, which
    is padding, need not be computed; None where they depend on all, and in compiled code, which is made for one length.
    """

    preprocess: Callable[[PIL.Image.Image], Tensor]
    encode_images: Callable[[Tensor], Tensor]  # (B, ...) -> (B, D)
    encode_texts: Callable[..., Tensor]  # tokens by name, each (B, L) -> (B, D)
    needed: Callable[..., Tensor] | None
    dimension: int
    vocabulary: int
    logit_scale: float
    logit_bias: float | None = None
    encode_patches: Callable[[Tensor], Tensor] | None = None  # (B, 3, H, W) -> (B, P, D); see `patches`
    prepare: Callable[[PIL.Image.Image], Tensor] | None = None


class ModelEncoder(ABC):
    """What adapters of model libraries share. A subclass says how to load a model, and what its fingerprint is.

    Making one loads nothing; `_tokenizer` and `_towers` load on first use.
    """

    name: str

    def __init__(
        self,
        argument: str,
        *,
        device: str = "auto",
        precision: str = "fp32",
        compile: bool = False,
        draft: bool = False,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise SpecError(f"batch_size is {batch_size}; what would do: a whole number from 1.")
        self.argument = argument
        self.compute = Compute(device, precision, compile, draft)
        self.batch_size = batch_size

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """For caches: architecture, weights, preprocessing, tokenizer, precision."""

    @abstractmethod
    def _load(self) -> Towers: ...

    @abstractmethod
    def _load_tokenizer(self) -> Tokenizer: ...

    @cached_property
    def _towers(self) -> Towers:
        return self._load()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._load_tokenizer()

    @cached_property
    def _fitting(self) -> dict[str, Fitting]:
        return {kind: Fitting(kind, repr(self), self.compute.where) for kind in ("image", "text")}

    @property
    def logit_scale(self) -> float:
        """The factor from a similarity to a logit."""
        return self._towers.logit_scale

    @property
    def logit_bias(self) -> float | None:
        """What SigLIP adds to a logit before the sigmoid; None for a model of softmax. No ranking depends on it."""
        return self._towers.logit_bias

    def preprocess(self, image: PIL.Image.Image) -> Tensor:
        """A picture as the image tower takes it, on the CPU; of one shape for all pictures."""
        return self._towers.preprocess(image)

    def prepare(self, image: PIL.Image.Image) -> Tensor:
        """The same before 8-bit pixels are scaled, which `encode_pixels` then does for a whole batch, on the device;
        where a model prepares pictures otherwise, what `preprocess` gives."""
        return (self._towers.prepare or self._towers.preprocess)(image)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """A batch (B, ...) of what `preprocess` or `prepare` gives -> (B, D) float32 unit rows, on the device.

        Where its memory runs out, in smaller parts: see `Fitting.rows` for what it raises and warns of.
        """
        towers = self._towers

        def encode(part: slice) -> Tensor:
            with self.compute.running():
                return _unit(towers.encode_images(self.compute.moved(pixels[part])))

        rows = self._fitting["image"].rows(len(pixels), encode)
        if rows.shape[1:] != (towers.dimension,):
            raise InputError(
                f"{self!r} gives image features of shape {tuple(rows.shape)} and text features of {towers.dimension} "
                "numbers: it has no common space of both. Use a CLIP-like model."
            )
        return rows

    @property
    def encode_patches(self) -> Callable[[Tensor], Tensor] | None:
        """A function from a batch (B, 3, H, W) of what `preprocess` gives to the patches of each picture in the space
        of texts: (B, h, w, D) float32 unit rows, on the encoder's device. None where the tower has none to read."""
        return self._patches if self._towers.encode_patches else None

    def _patches(self, pixels: Tensor) -> Tensor:
        assert self._towers.encode_patches
        with self.compute.running():
            rows = _unit(self._towers.encode_patches(pixels.to(self.compute.where, self.compute.dtype)))
        high = round((rows.shape[1] * pixels.shape[-2] / pixels.shape[-1]) ** 0.5)
        return rows.reshape(len(rows), high, -1, rows.shape[-1])

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """(N, D) float32 on the CPU, unit rows."""
        import torch

        features = torch.empty(len(images), self._towers.dimension)  # (N, D)
        for start in range(0, len(images), self.batch_size):
            batch = [self.prepare(image) for image in images[start : start + self.batch_size]]
            features[start : start + len(batch)] = self.encode_pixels(torch.stack(batch))
        return features

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D) float32 on the CPU, unit rows: each distinct text once, in batches of similar length.

        Warns with `CutWarning` when texts have more tokens than the model reads, and lists them. Raises `InputError`
        when the tokenizer gives tokens that the model does not know.
        """
        import torch

        towers, tokenizer = self._towers, self._tokenizer
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        features = torch.empty(len(distinct), towers.dimension)  # (distinct, D)
        cut: list[str] = []
        window = self.batch_size * _WINDOW
        for start in range(0, len(distinct), window):
            some = distinct[start : start + window]
            tokens = dict(tokenizer.tokens(some))
            self._check_known(tokens)
            cut += self._cut(some, tokens)
            needs = towers.needed(**tokens) if towers.needed else torch.full((len(some),), tokenizer.context)  # (B,)
            order = needs.argsort(stable=True)
            for first in range(0, len(some), self.batch_size):
                places = order[first : first + self.batch_size]
                length = int(needs[places[-1]])
                features[start + places] = self._text_rows(
                    {name: rows[places, :length] for name, rows in tokens.items()}
                )
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(distinct)} texts are longer than the {tokenizer.context} tokens that {self!r} "
                f"reads, and their ends are not seen: {listed((repr(text[:80]) for text in cut), 3)}. Shorten them.",
                CutWarning,
                stacklevel=2,
            )
        row = {text: index for index, text in enumerate(distinct)}
        return features[[row[text] for text in texts]]  # (T, D)

    def _text_rows(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """A batch of tokens by name, each (B, L) -> (B, D) float32 unit rows, on the CPU."""

        def encode(part: slice) -> Tensor:
            batch = {name: rows[part].to(self.compute.where) for name, rows in tokens.items()}
            with self.compute.running():
                return _unit(self._towers.encode_texts(**batch)).cpu()

        return self._fitting["text"].rows(len(next(iter(tokens.values()))), encode)

    def overlong(self, texts: Sequence[str]) -> dict[str, tuple[int, int]]:
        """The texts with more tokens than are read: how many each has, and how many are read. Loads no weights."""
        tokenizer = self._tokenizer
        # A tokenizer makes at most one token of each character, where cleaning cannot make several of it.
        short = tokenizer.context - _ENDS
        open_ = [
            text for text in dict.fromkeys(texts) if not (len(text) <= short and text.isascii() and "&" not in text)
        ]
        found: dict[str, int] = {}
        window = self.batch_size * _WINDOW
        for start in range(0, len(open_), window):
            some = open_[start : start + window]
            found |= self._cut(some, tokenizer.tokens(some))
            report("counting tokens", start + len(some), len(open_))
        return {text: (found[text], tokenizer.context) for text in dict.fromkeys(texts) if text in found}

    @property
    def context_length(self) -> int:
        """The most tokens of a text that are read."""
        return self._tokenizer.context

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, with its start and end, before any are cut off. Loads no weights."""
        counts: list[int] = []
        for start in range(0, len(texts), self.batch_size):
            counts += self._tokenizer.lengths(list(texts[start : start + self.batch_size]))
        return counts

    def _check_known(self, tokens: Mapping[str, Tensor]) -> None:
        """Raises `InputError` for tokens that the model does not know."""
        ids = next(iter(tokens.values()))
        if len(ids) and (largest := int(ids.max())) >= self._towers.vocabulary:
            raise InputError(
                f"the tokenizer of {self!r} gives token {largest}, and the model knows {self._towers.vocabulary}: they "
                "are not of one model. Copy the tokenizer files that belong to the weights."
            )

    def _cut(self, texts: list[str], tokens: Mapping[str, Tensor]) -> dict[str, int]:
        """The texts that lost tokens, since tokenizers cut without a word, and how many they have."""
        ids = next(iter(tokens.values()))
        # A text that is cut fills its row, where others end in padding (some also end a text with it).
        own = ids != self._tokenizer.padding  # (B, L)
        context = self._tokenizer.context
        full = own[:, -2:].any(dim=1).nonzero().flatten().tolist() if ids.shape[1] == context else []
        counts = self._tokenizer.lengths([texts[place] for place in full]) if full else []
        kept = own.sum(dim=1)  # (B,)
        # An end that is written as padding is not among those that are counted.
        return {
            texts[place]: max(count, context + 1)
            for place, count in zip(full, counts, strict=True)
            if count > int(kept[place])
        }


def _unit(encoded: Tensor) -> Tensor:
    """Features of any precision -> float32 unit rows, on the same device."""
    rows = encoded.float()
    unit: Tensor = rows / rows.norm(dim=-1, keepdim=True)
    return unit


def files_digest(files: Iterable[Path]) -> str:
    """A hash of the names and contents of files, and not of where they lie."""
    kept = sorted((file.name, digest(file)) for file in files)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()
