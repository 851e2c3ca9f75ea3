"""Language models in this process: any causal model with a chat template, where a reply never depends on its batch."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from descbench.errors import AccessError, InputError, SpecError, listed
from descbench.prompts import Question, Reply

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_WEIGHTS = (".safetensors", ".bin")
_SMALL = 64 * 2**20  # bytes of weights up to which all of them enter the fingerprint
_Number = TypeVar("_Number", int, float)
_BLOCKS, _BLOCK = 256, 4096  # of larger files: this many evenly spaced blocks of this many bytes


class TransformersLLM:
    """A causal language model with a chat template, from a folder or by its id on the hub (`ORG/NAME`, `ORG/NAME@REV`).

    Nothing is loaded before the first question. The reply to a question depends on its text, its `sample` and the
    parameters below, and not on the questions around it, on their order, or on `batch_size`.
    `temperature=0` takes the likeliest token: then all samples of a question are equal.
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
        local = Path(self.path_or_id).expanduser()
        self._folder = local if local.is_dir() else None
        if self._folder is None:
            looks_local = self.path_or_id.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(self.path_or_id)
            if local.exists() or looks_local:
                raise InputError(
                    f"no model folder {self.path_or_id!r}. Give a folder in transformers' format (config.json, "
                    "safetensors, tokenizer files), or an id on the hub such as Qwen/Qwen3-0.6B."
                )
        elif not (self._folder / "config.json").is_file():
            raise InputError(
                f"the folder {self.path_or_id!r} is no transformers model: it has no config.json. "
                "Give the folder that save_pretrained() wrote."
            )

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> TransformersLLM:
        """The model of `transformers:ARGUMENT`."""
        if not argument:
            raise SpecError("'transformers:' names no model. Write transformers:FOLDER or transformers:ORG/NAME.")
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
        return "@".join(self._revision)

    @cached_property
    def _revision(self) -> tuple[str, str]:
        """The hub's id and the commit of it: that of the local copy where there is one, else the hub is asked once."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        model, _, revision = self.path_or_id.partition("@")
        try:
            cached = try_to_load_from_cache(model, "config.json", revision=revision or None)
            if not isinstance(cached, str):
                cached = hf_hub_download(model, "config.json", revision=revision or None)
            return model, Path(cached).parent.name  # snapshots/COMMIT/config.json
        except HFValidationError as error:
            raise InputError(f"{self.path_or_id!r} is neither a folder nor an id on the hub: {_line(error)}") from None
        except (HfHubHTTPError, OSError) as error:
            raise self._unreachable(error) from None

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions."""
        replies = dict(self.stream(questions))
        return [replies[position] for position in range(len(questions))]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Each (position, reply) as its batch is done. A question that stands there twice is asked once."""
        positions = defaultdict(list)
        for position, question in enumerate(questions):
            positions[question].append(position)
        if not positions:
            return
        for batch in self._batches(list(positions)):
            for question, reply in zip(batch.questions, self._generate(batch), strict=True):
                for position in positions[question]:
                    yield position, reply

    def _batches(self, questions: Sequence[Question]) -> Iterator[_Batch]:
        """Questions of about one length together, the longest first: what does not fit in memory shows at once."""
        tokenizer = self._loaded.tokenizer
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question.text}],
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=False,  # templates that know no thinking ignore it
            )
            for question in questions
        ]
        tokens = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        limits = [self._limit(question, len(ids)) for question, ids in zip(questions, tokens, strict=True)]
        order = sorted(range(len(questions)), key=lambda i: (limits[i], -len(tokens[i])))
        while order:
            # One limit a batch: a question near the end of the context must not shorten its neighbours' replies.
            taken = [i for i in order[: self.batch_size] if limits[i] == limits[order[0]]]
            order = order[len(taken) :]
            yield _Batch([questions[i] for i in taken], [tokens[i] for i in taken], limits[taken[0]])

    def _limit(self, question: Question, length: int) -> int:
        """How many tokens a reply may have: `max_tokens`, or what the model's context leaves."""
        context: int = self._loaded.context
        if length >= context:
            raise InputError(
                f"a question of {length} tokens does not fit the {context} of {self!r}: {question.text[:60]!r}... "
                "Shorten the prompt or take a model with a longer context."
            )
        return min(self.max_tokens, context - length)

    def _generate(self, batch: _Batch) -> list[Reply]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        loaded = self._loaded
        width = max(map(len, batch.tokens))
        # Padded on the left, so that every row goes on at its right end; the mask hides the padding, and generate()
        # counts positions by the mask. So a row computes the same alone and in company, up to float noise.
        ids = torch.full((len(batch.tokens), width), loaded.pad)  # (B, width)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch.tokens):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, width - len(tokens) :] = 1
        # Sampling as generate() does it draws from one stream for the whole batch. Here do_sample is off and chance
        # comes in by the Gumbel-max trick: the largest of logit + Gumbel noise is a draw from the softmax.
        processors = LogitsProcessorList()
        if self.temperature > 0:
            processors.append(TemperatureLogitsWarper(float(self.temperature)))
            if self.top_p < 1:
                processors.append(TopPLogitsWarper(float(self.top_p)))
            processors.append(_Gumbel([_key(self.seed, question) for question in batch.questions], width))
        with torch.inference_mode(), _quiet():
            output = loaded.model.generate(
                input_ids=ids.to(loaded.model.device),
                attention_mask=mask.to(loaded.model.device),
                logits_processor=processors,
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=batch.limit,
                    eos_token_id=sorted(loaded.ends) or None,
                    pad_token_id=loaded.pad,
                ),
            )
        return [
            self._reply(len(tokens), row, batch.limit)
            for tokens, row in zip(batch.tokens, output[:, width:].tolist(), strict=True)
        ]

    def _reply(self, prompt_tokens: int, row: Sequence[int], limit: int) -> Reply:
        """One row of the output up to its end: what follows is padding."""
        ends = self._loaded.ends
        length = next((place for place, token in enumerate(row) if token in ends), None)
        kept = row[:limit] if length is None else row[:length]
        return Reply(
            text=self._loaded.tokenizer.decode(kept, skip_special_tokens=True),
            finish_reason="length" if length is None else "stop",
            model=self.name if self._folder else "@".join(self._revision),
            usage={"prompt_tokens": prompt_tokens, "completion_tokens": len(kept) + (length is not None)},
        )

    @cached_property
    def _loaded(self) -> _Loaded:
        """The model and its tokenizer, on first use."""
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        if self._folder:
            source: dict[str, Any] = {"pretrained_model_name_or_path": str(self._folder), "local_files_only": True}
        else:
            model_id, revision = self._revision
            source = {"pretrained_model_name_or_path": model_id, "revision": revision}
        device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with _quiet():
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
                    f"the model folder {self.path_or_id!r} cannot be loaded: {_line(error)} "
                    "Give a folder with config.json, safetensors and the tokenizer files."
                ) from None
            raise self._unreachable(error) from None
        except (ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise InputError(
                f"{self!r} cannot be loaded as a causal language model: {_line(error)} "
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
        return _Loaded(model.to(device).eval(), tokenizer, frozenset(ends), pad, context)

    def _unreachable(self, error: Exception) -> AccessError:
        return AccessError(
            f"no model {self.path_or_id!r}: it is no folder here, and the hub does not give it: {_line(error)} "
            "Check the id, and for a private model `hf auth login`; without network give a downloaded folder."
        )


@dataclass(frozen=True)
class _Loaded:
    """What the first use brings: `ends` end a reply, `context` is the most tokens that question and reply may have."""

    model: Any
    tokenizer: Any
    ends: frozenset[int]
    pad: int
    context: int


@dataclass(frozen=True)
class _Batch:
    """Questions that are generated together, as tokens, and how many tokens a reply may have."""

    questions: list[Question]
    tokens: list[list[int]]
    limit: int


class _Gumbel:
    """Adds to every logit its Gumbel noise: a hash of the row's key, the step and the token.

    A hash, and not a `torch.Generator` a row: it takes all rows at once, and is the same on every device.
    """

    def __init__(self, keys: Sequence[int], width: int) -> None:
        self.keys = keys
        self.width = width

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        step = input_ids.shape[1] - self.width
        keys = torch.tensor(self.keys, device=scores.device)[:, None]  # (B, 1)
        tokens = torch.arange(scores.shape[1], device=scores.device)[None]  # (1, vocabulary)
        noise = _mix(_mix(tokens ^ (keys & _WORD)) ^ _mix((keys >> 32 & _WORD) + step))  # (B, vocabulary)
        uniform = (noise.double() + 0.5) / 2**32
        return scores.float() - torch.log(-torch.log(uniform)).float()


_WORD = 2**32 - 1


def _mix(x: Any) -> Any:
    """Scrambles 32-bit numbers held in int64 (the finaliser `lowbias32`); the products wrap, the mask keeps 32 bits."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)


def _key(seed: int, question: Question) -> int:
    """The 63 bits that a question's chance comes from."""
    text = json.dumps([seed, question.text, question.sample])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and notes; its settings are put back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _at_least(low: _Number, name: str, given: _Number) -> _Number:
    if not given >= low:
        raise InputError(f"{name} must be at least {low}, not {given}.")
    return given


def _several(given: int | Sequence[int] | None) -> Sequence[int]:
    """The end tokens of a generation config, which may be none, one or a list."""
    return [] if given is None else [given] if isinstance(given, int) else given


def _line(error: Exception) -> str:
    """The first sentence or so of another library's error."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " ..."
    return text if text.endswith((".", "...")) else f"{text}."
