"""The aviary's own language model: it has read the field guide, and runs in this process, offline."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from descbench.errors import SpecError
from descbench.llms.transformers import TransformersLLM


class DemoLLM(TransformersLLM):
    """The small model that comes with descbench, through the adapter that serves any other: spelled `demo`."""

    def __init__(
        self,
        *,
        device: str = "cpu",  # so small that a GPU is no faster
        batch_size: int = 128,
        max_tokens: int = 256,
        temperature: float = 0.7,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            str(files("descbench") / "demo" / "lm"),
            device=device,
            batch_size=batch_size,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            structured="text",  # it has read lists, and no JSON
        )

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> DemoLLM:
        """The model of `demo`, which takes no argument."""
        if argument:
            raise SpecError(f"'demo' takes no argument, but was given {argument!r}. Write demo.")
        return cls(**options)

    def __repr__(self) -> str:
        return "demo"

    @property
    def name(self) -> str:
        return "demo"
