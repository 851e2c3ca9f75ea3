"""Language models in this process: any causal model with a chat template, where a reply never depends on its batch."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from descbench.devices import pick_device
from descbench.errors import DescbenchWarning, InputError, listed
from descbench.hub import Pretrained, line, quiet
from descbench.llms.rows import Grammar, Gumbel, Leave, Row, chance_of, joined
from descbench.parsing import SCHEMAS
from descbench.prompts import Question, Reply

_WINDOW = 16  # batches of questions that are read ahead and sorted by length
_LEAVE = 0.25  # the share of a batch that has to end before ended rows leave it
_STRUCTURED = ("auto", "text", "json_schema")
_WEIGHTS = (".safetensors", ".bin")
_SMALL = 64 * 2**20  # bytes of weights up to which all of them enter the fingerprint
_Number = TypeVar("_Number", int, float)
_BLOCKS, _BLOCK = 256, 4096  # of larger files: this many evenly spaced blocks of this many bytes


class TransformersLLM:
    """A causal language model with a chat template, from a folder or by its id on the hub (`ORG/NAME`, `ORG/NAME@REV`).

    Nothing is loaded before the first question. The reply to a question depends on its text, its `sample` and the
    parameters below, and not on the questions around it, on their order, or on `batch_size`.
    `temperature=0` takes the likeliest token: then all samples of a question are equal.
    `structured` is about questions with a schema: "json_schema" allows only tokens that keep to it (through the extra
    xgrammar), "text" asks and hopes, "auto" enforces it where xgrammar is installed and knows the tokenizer.
    """

    def __init__(
        self,
        path_or_id: str,
        *,
        device: str = "auto",
        batch_size: int = 64,
        max_tokens: int = 512,
        temperature: float = 0.7,  # as the papers ask GPT
        top_p: float = 1.0,
        seed: int = 0,
        structured: str = "auto",
    ) -> None:
        self.path_or_id = str(path_or_id)
        self.device = device
        self.batch_size = _at_least(1, "batch_size", batch_size)
        self.max_tokens = _at_least(1, "max_tokens", max_tokens)
        self.temperature = _at_least(0.0, "temperature", temperature)
        if not 0 < top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, not {top_p}.")
        self.top_p = top_p
        self.seed = seed
        if structured not in _STRUCTURED:
            raise InputError(f"structured must be one of {listed(_STRUCTURED)}, not {structured!r}.")
        if structured == "json_schema" and not _has_xgrammar():
            raise InputError(
                "structured='json_schema' needs xgrammar, which is not installed. "
                "Run pip install \"descbench[xgrammar]\", or take structured='auto'."
            )
        self.structured = structured
        self._pretrained = Pretrained(self.path_or_id, "tokenizer files", "Qwen/Qwen3-0.6B")
        self._folder = self._pretrained.folder
        if self._folder and not (self._folder / "config.json").is_file():
            raise InputError(
                f"the folder {self.path_or_id!r} is no transformers model: it has no config.json. "
                "Give the folder that save_pretrained() wrote."
            )

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> TransformersLLM:
        """The model of `transformers:ARGUMENT`."""
        return cls(argument, **options)

    def __repr__(self) -> str:
        return f"transformers:{self.path_or_id}"

    @property
    def name(self) -> str:
        return self._folder.resolve().name if self._folder else self.path_or_id

    @cached_property
    def fingerprint(self) -> str:
        """`transformers:`, the model's files, and the parameters that sampling takes: without loading any weights."""
        sent: dict[str, float] = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.temperature > 0:
            sent |= {"top_p": self.top_p, "seed": self.seed}
        return f"transformers:{self._files}:{json.dumps(sent, sort_keys=True, separators=(',', ':'))}"

    @cached_property
    def _files(self) -> str:
        """What stands for the weights, the tokenizer and its chat template: a revision of the hub, or a hash."""
        if self._folder:
            return _hash_folder(self._folder)
        return "@".join(self._pretrained.revision)

    def requests(self, question: Question) -> list[dict[str, Any]]:
        """What a reply is kept under: for a question with a schema also that, and whether it is enforced."""
        plain = {"llm": self.fingerprint, "text": question.text, "sample": question.sample}
        if not question.schema:
            return [plain]
        modes = [self.structured]
        if self.structured == "auto":
            modes = ["json_schema", "text"] if _has_xgrammar() else ["text", "json_schema"]
        return [{**plain, "schema": question.schema, "mode": mode} for mode in modes]

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions."""
        replies = dict(self.stream(questions))
        return [replies[position] for position in range(len(questions))]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Each (position, reply) soon after it ends; its place in the batch goes to a question that waits.

        `_WINDOW` batches of questions are read ahead. One that stands twice among them is asked once.
        The library's own continuous batching takes no noise of ours but by a back door, and is slower on a CPU.
        """
        waiting = self._rows(questions)
        running: list[Row] = []
        cache = None
        while True:
            entering = list(islice(waiting, self.batch_size - len(running)))
            if entering and cache is not None:
                first = self._advance(entering, None, steps=1)
                yield from self._ended(entering)
                running, cache = joined((running, cache), (entering, first))
            else:
                running = running + entering
            if not running:
                return
            cache = self._advance(running, cache, steps=self.max_tokens)
            yield from self._ended(running)
            running, cache = joined((running, cache))

    def _rows(self, questions: Sequence[Question]) -> Iterator[Row]:
        """Questions as tokens, a window at a time, the longest first: what does not fit in memory shows at once."""
        window = _WINDOW * self.batch_size
        for start in range(0, len(questions), window):
            positions = defaultdict(list)
            for position in range(start, min(start + window, len(questions))):
                positions[questions[position]].append(position)
            tokenizer = self._loaded.tokenizer
            prompts = [
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": question.text}],
                    add_generation_prompt=True,
                    tokenize=False,
                    enable_thinking=False,  # templates that know no thinking ignore it
                )
                for question in positions
            ]
            tokens = tokenizer(prompts, add_special_tokens=False)["input_ids"]
            for question, prompt in sorted(zip(positions, tokens, strict=True), key=lambda pair: -len(pair[1])):
                limit = self._limit(question, len(prompt))
                yield Row(question, positions[question], prompt, limit, self._matcher(question))

    def _limit(self, question: Question, length: int) -> int:
        """How many tokens a reply may have: `max_tokens`, or what the model's context leaves."""
        context: int = self._loaded.context
        if length >= context:
            raise InputError(
                f"a question of {length} tokens does not fit the {context} of {self!r}: {question.text[:60]!r}... "
                "Shorten the prompt or take a model with a longer context."
            )
        return min(self.max_tokens, context - length)

    def _advance(self, rows: Sequence[Row], cache: Any, *, steps: int) -> Any:
        """Lets all rows go on by at most `steps` tokens, until enough of them have ended. Returns their cache.

        `cache` holds all but the last token of each row. None: they are read anew, and so they are next time where None
        comes back, since this model's cache cannot be taken apart.
        """
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        loaded = self._loaded
        device = loaded.model.device
        width = max(len(row) for row in rows)
        # Padded on the left, so that every row goes on at its right end; the mask hides the padding, and generate()
        # counts positions by the mask. So a row computes the same alone and in company, up to float noise.
        ids = torch.full((len(rows), width), loaded.pad)  # (B, width)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, width - len(row) :] = torch.tensor(row.prompt + row.reply)
            mask[place, width - len(row) :] = 1
        # No row may outgrow the context, not even one that has ended and is carried along.
        steps = min(steps, max(row.limit - len(row.reply) for row in rows), loaded.context - width)
        leave = math.ceil(len(rows) * _LEAVE) if loaded.joins else len(rows)
        with torch.inference_mode(), quiet():
            output = loaded.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                logits_processor=LogitsProcessorList(self._processors(rows, width, device)),
                stopping_criteria=StoppingCriteriaList([Leave(rows, width, loaded.ends, leave, device)]),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=steps,
                    eos_token_id=sorted(loaded.ends) or None,
                    pad_token_id=loaded.pad,
                    return_dict_in_generate=True,
                ),
                **{_cache_name(): cache},
            )
        for row, tokens in zip(rows, output.sequences[:, width:].tolist(), strict=True):
            row.take(tokens, loaded.ends)
        return output[_cache_name()] if loaded.joins else None

    def _processors(self, rows: Sequence[Row], width: int, device: Any) -> list[Any]:
        """What turns logits into scores, of which the largest is taken.

        Sampling as generate() does it draws from one stream for the whole batch. Here do_sample is off and chance comes
        in by the Gumbel-max trick: the largest of logit + Gumbel noise is a draw from the softmax.
        """
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        processors: list[Any] = []
        if any(row.matcher for row in rows):
            loaded = self._loaded
            size = loaded.model.config.get_text_config().vocab_size  # some tokenizers know more than their model
            special = {token for token, text in loaded.tokenizer.added_tokens_decoder.items() if text.special}
            processors.append(Grammar(rows, width, sorted(t for t in special - loaded.ends if t < size)))
        if self.temperature > 0:
            processors.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_p < 1:
                processors.append(TopPLogitsWarper(float(self.top_p)))
            starts = [width - len(row.reply) for row in rows]
            processors.append(Gumbel([chance_of(self.seed, row.question) for row in rows], starts, device))
        return processors

    def _ended(self, rows: Sequence[Row]) -> Iterator[tuple[int, Reply]]:
        for row in rows:
            if row.ended:
                reply = self._reply(row)
                for position in row.positions:
                    yield position, reply

    def _reply(self, row: Row) -> Reply:
        stopped = row.ended == "stop"
        details = {}
        if row.question.schema:
            mode = "json_schema" if row.matcher else "text"
            request = next(asked for asked in self.requests(row.question) if asked["mode"] == mode)
            details = {"request": request, "mode": mode}
        return Reply(
            text=self._loaded.tokenizer.decode(row.reply[: len(row.reply) - stopped], skip_special_tokens=True),
            finish_reason=row.ended,
            model=self.name if self._folder else "@".join(self._pretrained.revision),
            usage={"prompt_tokens": len(row.prompt), "completion_tokens": len(row.reply)},
            details=details,
        )

    def _matcher(self, question: Question) -> Any:
        """What follows a reply by the grammar of its question's schema: one for each row. None: in plain text."""
        if not question.schema or self.structured == "text" or self._compiler is None:
            return None
        from xgrammar import GrammarMatcher

        if question.schema not in SCHEMAS:
            raise InputError(f"no schema {question.schema!r}; there are: {listed(SCHEMAS)}.")
        # On one line: a small model may write white space without end where that is allowed.
        schema = json.dumps(SCHEMAS[question.schema])
        return GrammarMatcher(self._compiler.compile_json_schema(schema, any_whitespace=False))  # it compiles each once

    @cached_property
    def _compiler(self) -> Any:
        """Of grammars for this model's tokens; None where that cannot be and `structured` is "auto"."""
        if self.structured == "auto" and not _has_xgrammar():
            return None
        from xgrammar import GrammarCompiler, TokenizerInfo

        loaded = self._loaded
        size = loaded.model.config.get_text_config().vocab_size
        try:
            tokens = TokenizerInfo.from_huggingface(
                loaded.tokenizer, vocab_size=size, stop_token_ids=sorted(loaded.ends)
            )
        except (ValueError, RuntimeError) as error:  # a tokenizer of a kind that it does not know, or no end token
            problem = f"xgrammar cannot serve {self!r}, so no schema can be enforced: {line(error)}"
            if self.structured == "json_schema":
                raise InputError(f"{problem} Take structured='text', or another model.") from None
            warnings.warn(f"{problem} It is asked in plain text.", DescbenchWarning, stacklevel=2)
            return None
        return GrammarCompiler(tokens)

    @cached_property
    def _loaded(self) -> _Loaded:
        """The model and its tokenizer, on first use."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        source = self._pretrained.source
        device = pick_device(self.device, float64=True)  # the noise of sampling needs it
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(**source)
                if not tokenizer.chat_template:
                    raise InputError(
                        f"this model has no chat template: {self!r}. Give an instruction-tuned model "
                        "(their names often end in -Instruct), or put a chat_template.jinja into its folder."
                    )
                # On a CPU in float32: half precision is slow there. Else in the precision of the checkpoint.
                dtype = torch.float32 if device == "cpu" else "auto"
                model, info = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, output_loading_info=True)
        except OSError as error:
            if self._folder:
                raise InputError(
                    f"the model folder {self.path_or_id!r} cannot be loaded: {line(error)} "
                    "Give a folder with config.json, safetensors and the tokenizer files."
                ) from None
            raise self._pretrained.unreachable(error) from None
        except (ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise InputError(
                f"{self!r} cannot be loaded as a causal language model: {line(error)} "
                "Are its config, weights and tokenizer those of one model, and does transformers know it?"
            ) from None
        if missing := sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"]))):
            # transformers would fill these with random numbers and only log it.
            raise InputError(
                f"the weights of {self!r} are those of another model: {len(missing)} of its tensors are missing "
                f"({listed(missing, 3)}). Give the weights that belong to its config.json."
            )
        settings = model.generation_config
        ends = {tokenizer.eos_token_id, *_several(settings.eos_token_id)} - {None}
        pad = next(token for token in (tokenizer.pad_token_id, settings.pad_token_id, *ends, 0) if token is not None)
        # generate() takes what it is not given from here (a top_k, a repetition penalty): only what we send may count.
        model.generation_config = GenerationConfig()
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31
        model = model.to(device).eval()
        return _Loaded(model, tokenizer, frozenset(ends), pad, context, _joins(model, pad))


@dataclass(frozen=True)
class _Loaded:
    """What the first use brings: `ends` end a reply, `context` is the most tokens that question and reply may have.

    `joins` says whether rows can enter and leave a running batch.
    """

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    pad: int
    context: int
    joins: bool


def _hash_folder(folder: Path) -> str:
    """A hash over the model's files: all of the small ones, and of large weights their sizes and evenly spaced blocks.

    Blocks of the weights, because two fine-tunings of one model agree in names, sizes and header.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    texts = [path for path in files if path.suffix in (".json", ".jinja", ".model", ".txt")]
    weights = [path for path in files if path.suffix in _WEIGHTS]
    total = sum(path.stat().st_size for path in weights)
    digest = hashlib.sha256()
    for path in (*texts, *weights):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if path in texts or total <= _SMALL:
                while block := file.read(2**20):
                    digest.update(block)
            else:
                for number in range(_BLOCKS):
                    file.seek(number * max(size - _BLOCK, 0) // (_BLOCKS - 1))
                    digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]


def _joins(model: Any, pad: int) -> bool:
    """Whether the cache is plain keys and values, one for each token, and positions are told and not counted there.

    Not so where layers see a sliding window or hold a state: such a batch stays together to its end.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.cache_utils import DynamicLayer

    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    one = torch.full((1, 1), pad, device=model.device)
    config = GenerationConfig(max_new_tokens=1, pad_token_id=pad, return_dict_in_generate=True)
    with torch.inference_mode(), quiet():
        output = model.generate(input_ids=one, attention_mask=torch.ones_like(one), generation_config=config)
    layers = getattr(output.get(_cache_name()), "layers", [])
    return bool(layers) and all(type(layer) is DynamicLayer and layer.is_initialized for layer in layers)


def _cache_name() -> str:
    """What generate() calls keys and values: "cache" since transformers 5.24, where the older name warns."""
    from transformers.generation import GenerateDecoderOnlyOutput

    return "cache" if "cache" in {field.name for field in fields(GenerateDecoderOnlyOutput)} else "past_key_values"


def _has_xgrammar() -> bool:
    return find_spec("xgrammar") is not None


def _at_least(low: _Number, name: str, given: _Number) -> _Number:
    if not given >= low:
        raise InputError(f"{name} must be at least {low}, not {given}.")
    return given


def _several(given: int | Sequence[int] | None) -> Sequence[int]:
    """The end tokens of a generation config, which may be none, one or a list."""
    return [] if given is None else [given] if isinstance(given, int) else given
