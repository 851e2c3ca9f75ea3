"""The language models by name, in one explicit table: `openai:MODEL`, `http://HOST/v1#MODEL`, `transformers:...`."""

from __future__ import annotations

from descbench.llms.base import LLM, RecordingLLM, StreamingLLM
from descbench.llms.demo import DemoLLM
from descbench.llms.limited import Limited
from descbench.llms.openai import OpenAILLM
from descbench.llms.replay import Offline, ReplayLLM
from descbench.llms.transformers import TransformersLLM

# The word before the colon of a spelling -> the class whose `from_spec(argument, **options)` takes what follows; the
# whole of it where it is a URL.
LLMS: dict[str, type[OpenAILLM] | type[TransformersLLM] | type[ReplayLLM]] = {
    "openai": OpenAILLM,
    "http": OpenAILLM,
    "https": OpenAILLM,
    "transformers": TransformersLLM,
    "replay": ReplayLLM,
    "demo": DemoLLM,
}

__all__ = [
    "LLM",
    "LLMS",
    "DemoLLM",
    "Limited",
    "Offline",
    "OpenAILLM",
    "RecordingLLM",
    "ReplayLLM",
    "StreamingLLM",
    "TransformersLLM",
]
