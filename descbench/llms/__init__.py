"""The language models by name, in one explicit table: `transformers:PATH_OR_ID`, `demo`."""

from __future__ import annotations

from descbench.llms.base import LLM, StreamingLLM
from descbench.llms.demo import DemoLLM
from descbench.llms.transformers import TransformersLLM

# The word before the colon of a spelling -> the class whose `from_spec(argument, **options)` takes what follows.
LLMS: dict[str, type[TransformersLLM]] = {
    "transformers": TransformersLLM,
    "demo": DemoLLM,
}

__all__ = ["LLM", "LLMS", "DemoLLM", "StreamingLLM", "TransformersLLM"]
