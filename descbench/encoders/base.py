"""What an encoder is: something that turns images and texts into unit vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """Any object with these members serves; there is no base class to inherit.

    One that reads so many tokens of a text may say which texts have more: `overlong(texts)` gives for each of these
    (its tokens, those that are read), and encodes nothing. A classifier then refuses them where the method does not say
    that they may be cut. Without it nothing is known of them, and nothing refused.

    One that is found by name ("open_clip:ARGUMENT") is also built by `from_spec(argument, **options)`, and its `repr`
    is that spelling.
    """

    @property
    def name(self) -> str:
        """For people."""

    @property
    def fingerprint(self) -> str:
        """For caches: architecture, weights, preprocessing, tokenizer, precision."""

    @property
    def logit_scale(self) -> float:
        """exp of the learned temperature, e.g. 100.0."""

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """(N, D) float32 on the CPU, unit rows."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D) float32 on the CPU, unit rows."""
