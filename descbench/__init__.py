"""Zero-shot image classification by description: any vocabulary, any language model, any CLIP, one honest evaluation.

The public names, lazily: importing descbench imports neither torch nor openai.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descbench.classifier import Classifier
    from descbench.comparison import Comparison, compare
    from descbench.descriptions import Descriptions
    from descbench.errors import DescbenchError, DescbenchWarning
    from descbench.evaluation import Evaluation, evaluate, labelled
    from descbench.explanation import Explanation
    from descbench.formats import read_descriptions
    from descbench.generation import generate
    from descbench.methods import Cascade
    from descbench.predictions import Predictions
    from descbench.prompts import Question, Reply
    from descbench.spec import dataset, encoder, llm, method
    from descbench.texts import TextBank
    from descbench.vocabulary import Vocabulary
    from descbench.whatif import WhatIf, what_if
    from descbench.worth import Usefulness, usefulness

_WHERE = {
    "Cascade": "methods",
    "Classifier": "classifier",
    "Comparison": "comparison",
    "DescbenchError": "errors",
    "DescbenchWarning": "errors",
    "Descriptions": "descriptions",
    "Evaluation": "evaluation",
    "Explanation": "explanation",
    "Predictions": "predictions",
    "Question": "prompts",
    "Reply": "prompts",
    "TextBank": "texts",
    "Usefulness": "worth",
    "Vocabulary": "vocabulary",
    "WhatIf": "whatif",
    "compare": "comparison",
    "dataset": "spec",
    "encoder": "spec",
    "evaluate": "evaluation",
    "generate": "generation",
    "labelled": "evaluation",
    "llm": "spec",
    "method": "spec",
    "read_descriptions": "formats",
    "usefulness": "worth",
    "what_if": "whatif",
}

__all__ = [  # noqa: PLE0604, RUF100
    "Cascade",
    "Classifier",
    "Comparison",
    "DescbenchError",
    "DescbenchWarning",
    "Descriptions",
    "Evaluation",
    "Explanation",
    "Predictions",
    "Question",
    "Reply",
    "TextBank",
    "Usefulness",
    "Vocabulary",
    "WhatIf",
    "compare",
    "dataset",
    "encoder",
    "evaluate",
    "generate",
    "labelled",
    "llm",
    "method",
    "read_descriptions",
    "usefulness",
    "what_if",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("descbench")
    if name not in _WHERE:
        raise AttributeError(f"module 'descbench' has no attribute {name!r}")
    return getattr(import_module(f"descbench.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
