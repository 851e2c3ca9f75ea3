"""Any CLIP that open_clip loads, with its own weights, preprocessing and tokenizer; never a silent stand-in."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from descbench.arrays import digest
from descbench.errors import AccessError, DescbenchWarning, InputError, SpecError, listed, nearest

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from torch import Tensor

PRECISIONS = ("fp32", "bf16", "fp16")

_RECIPE = 1  # raised when this file starts to make other features of the same weights
_CONFIG = "open_clip_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip looks for in a folder
_WEIGHTS_FILES = (*_WEIGHTS, ".pt", ".ckpt", ".npz")  # what people have, and might give after an architecture
_TOKENIZER = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "bpe")  # how the files of a tokenizer begin
_READ = (_CONFIG, "config.json", "special_tokens", "added_tokens", *_TOKENIZER)  # what else the features depend on


@dataclass(frozen=True)
class _Loaded:
    model: Any
    preprocess: Callable[[PIL.Image.Image], Tensor]
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype | None
    dimension: int


class OpenCLIPEncoder:
    """`ARCHITECTURE/TAG`, `hf-hub:ORG/NAME` or `local-dir:PATH` (a folder with open_clip_config.json and weights).

    Making one checks what can be checked without torch; the model is loaded when the first image or text comes.
    `precision` is that of the model: features are float32 before they are normalised.
    """

    def __init__(self, argument: str, *, device: str = "auto", precision: str = "fp32", batch_size: int = 64) -> None:
        if precision not in PRECISIONS:
            raise SpecError(f"no precision {precision!r}. There are: {', '.join(PRECISIONS)}.")
        if batch_size < 1:
            raise SpecError(f"batch_size is {batch_size}; what would do: a whole number from 1.")
        self.argument = argument
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.name = f"open_clip {argument}"
        self._kind, _, rest = argument.partition(":")
        if self._kind == "local-dir":
            self._folder = Path(rest).expanduser()
            _check_folder(self._folder)
            self._model_name, self._tag = f"local-dir:{self._folder}", None
        elif self._kind == "hf-hub":
            if rest.count("/") != 1 or not all(rest.split("/")):
                raise SpecError(f"{rest!r} names no model of the hub. Write open_clip:hf-hub:ORG/NAME.")
            self._model_name, self._tag = argument, None
        else:
            self._kind = "tag"
            self._model_name, self._tag = _split(argument)

    @classmethod
    def from_spec(cls, argument: str, **options: Any) -> OpenCLIPEncoder:
        return cls(argument, **options)

    def __repr__(self) -> str:
        return f"open_clip:{self.argument}"

    @cached_property
    def fingerprint(self) -> str:
        """Of a folder: its contents. Of a tag: its name, since a version of open_clip ties it to one file."""
        if self._kind == "local-dir":
            identity = _folder_digest(self._folder)
        elif self._kind == "hf-hub":
            identity = f"{self.argument}@{self._snapshot()}"
        else:
            identity = f"{self.argument}@{version('open_clip_torch')}"
        return f"open_clip/{_RECIPE}:{self._kind}:{identity}:{self.precision}"

    @property
    def logit_scale(self) -> float:
        return math.exp(self._loaded.model.logit_scale.item())

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        import torch

        loaded = self._loaded
        features = torch.empty(len(images), loaded.dimension)  # (N, D)
        with torch.no_grad():
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                pixels = torch.stack([loaded.preprocess(image) for image in batch])
                encoded = loaded.model.encode_image(pixels.to(loaded.device, loaded.dtype), normalize=False)
                features[start : start + len(batch)] = _unit(encoded)
        return features

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Each distinct text once, in batches of similar length. Texts that the model cuts off are counted.

        Warns with `DescbenchWarning` when a text has more tokens than the model reads.
        """
        import torch

        loaded = self._loaded
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        row = {text: index for index, text in enumerate(distinct)}
        features = torch.empty(len(distinct), loaded.dimension)  # (distinct, D)
        cut: list[str] = []
        with torch.no_grad():
            for start in range(0, len(distinct), self.batch_size):
                batch = distinct[start : start + self.batch_size]
                tokens = loaded.tokenizer(batch)
                cut += _cut_off(loaded.tokenizer, batch, tokens)
                encoded = loaded.model.encode_text(tokens.to(loaded.device), normalize=False)
                features[start : start + len(batch)] = _unit(encoded)
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(distinct)} texts are longer than the {loaded.tokenizer.context_length} tokens "
                f"that {self!r} reads, and their ends are not seen; for example {cut[0][:100]!r}. Shorten them.",
                DescbenchWarning,
                stacklevel=2,
            )
        return features[[row[text] for text in texts]]  # (T, D)

    @property
    def context_length(self) -> int:
        """The most tokens of a text that are read."""
        return int(self._tokenizer.context_length)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, with its start and end, before any are cut off. Loads no weights."""
        padding = self._tokenizer([""])[0].mode().values
        counts: list[int] = []
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            room = max(self.context_length, 4 + max(len(text.encode("utf-8", "replace")) for text in batch))
            counts += (self._tokenizer(batch, room) != padding).sum(dim=1).tolist()
        return counts

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        with self._told():
            return open_clip.get_tokenizer(self._model_name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong in open_clip, in our words; what it logs beside that is not shown."""
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        except _loading_errors() as error:
            raise self._explained(error) from error
        finally:
            logging.disable(before)

    @cached_property
    def _loaded(self) -> _Loaded:
        """Raises `InputError` for weights or a tokenizer that do not fit, `AccessError` where they cannot be had."""
        import open_clip

        if self._tag is not None:
            _check_tag(self._model_name, self._tag)
        device = _device(self.device)
        with self._told():
            model, preprocess = open_clip.create_model_from_pretrained(
                self._model_name, self._tag, precision=self.precision, device=device
            )
            dimension = int(open_clip.get_model_config(self._model_name)["embed_dim"])
        model.eval()
        return _Loaded(model, preprocess, self._tokenizer, device, open_clip.get_input_dtype(self.precision), dimension)

    def _explained(self, error: BaseException) -> InputError | AccessError:
        reason = shorten(str(error), 300, placeholder=" ...").rstrip(".") or type(error).__name__
        remote = isinstance(error, OSError) or "Failed" in reason or "could not be loaded" in reason
        if self._kind != "local-dir" and remote:
            return AccessError(
                f"cannot get {self!r}: {reason}. Check its name and the network; without network, copy the model's "
                f"folder ({_CONFIG}, weights, tokenizer) here and give open_clip:local-dir:PATH."
            )
        return InputError(
            f"cannot load {self!r}: {reason}. What would do: weights, {_CONFIG} and tokenizer of one and the same "
            "model, complete. Copy them again."
        )

    def _snapshot(self) -> str:
        """The commit of the hub's files; they are fetched first where they are not here yet."""
        from huggingface_hub import try_to_load_from_cache

        repository = self.argument.partition(":")[2]
        found = try_to_load_from_cache(repository, _CONFIG)
        if not isinstance(found, str):
            _ = self._loaded
            found = try_to_load_from_cache(repository, _CONFIG)
        return Path(found).parent.name if isinstance(found, str) else version("open_clip_torch")


def _loading_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for a file that is missing or not what it should be."""
    from safetensors import SafetensorError

    return (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
            StopIteration, AssertionError, pickle.UnpicklingError)  # fmt: skip


def _unit(encoded: Tensor) -> Tensor:
    """(N, D) of any precision and device -> (N, D) float32 on the CPU, unit rows."""
    rows = encoded.float().cpu()
    rows /= rows.norm(dim=-1, keepdim=True)
    return rows


def _cut_off(tokenizer: Any, texts: list[str], tokens: Tensor) -> list[str]:
    """The texts that lost tokens. Tokenizers cut without a word, so those that fill their row get twice the room."""
    padding = tokenizer([""])[0].mode().values
    full = (tokens[:, -2:] != padding).any(dim=1).tolist()  # the last two: some end a text with the padding token
    texts = [text for text, is_full in zip(texts, full, strict=True) if is_full]
    if not texts:
        return []
    length = tokens.shape[1]
    short, long = tokenizer(texts, length), tokenizer(texts, 2 * length)
    lost = (long != padding).sum(dim=1) > (short != padding).sum(dim=1)
    return [text for text, is_lost in zip(texts, lost.tolist(), strict=True) if is_lost]


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SpecError(f"no device {name!r}. There are: auto, cpu, cuda, cuda:0, mps.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r} was asked for, and torch sees no GPU here. Use device auto or cpu.")
    return device


def _architectures() -> list[str]:
    """The names that open_clip knows. Importing it takes seconds, so else its folder is listed."""
    if "open_clip" in sys.modules:
        return list(sys.modules["open_clip"].list_models())
    spec = find_spec("open_clip")
    folders = (spec.submodule_search_locations if spec else None) or []
    return sorted(path.stem for folder in folders for path in Path(folder, "model_configs").glob("*.json"))


def _split(argument: str) -> tuple[str, str]:
    """`ARCHITECTURE/TAG` as two. Raises `SpecError` or `InputError` for what open_clip would take wrongly."""
    known = _architectures()
    architecture, _, tag = argument.partition("/")
    if architecture not in known:
        parts = argument.split("/")
        for end in range(len(parts), 1, -1):  # "ViT-B/32/openai" is spelled "ViT-B-32/openai" here
            if (joined := "-".join(parts[:end])) in known:
                meant = "/".join([joined, *(parts[end:] or ["TAG"])])
                raise SpecError(f"open_clip has no architecture {architecture!r}; did you mean {meant!r}?")
        raise SpecError(
            f"open_clip has no architecture {architecture!r}{nearest(architecture, known) or '.'} "
            "Write ARCHITECTURE/TAG, hf-hub:ORG/NAME or local-dir:PATH; `python -c 'import open_clip; "
            "print(open_clip.list_pretrained())'` lists architectures and tags."
        )
    if not tag:
        raise SpecError(
            f"open_clip:{architecture} names no weights, and an architecture alone would be random. "
            f"Write open_clip:{architecture}/TAG. There are: {listed(_tags(architecture), 40) or 'no tags'}."
        )
    if Path(tag).suffix in _WEIGHTS_FILES or Path(tag).expanduser().is_file():
        raise InputError(
            f"{tag!r} is a weights file, which does not say how images are prepared: open_clip would use OpenAI's "
            f"way for any model. Put it in a folder beside an {_CONFIG} (model_cfg, preprocess_cfg), "
            "and give open_clip:local-dir:PATH."
        )
    return architecture, tag


def _tags(architecture: str) -> list[str]:
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(architecture))


def _check_tag(architecture: str, tag: str) -> None:
    """Raises `SpecError` for an unknown tag, `InputError` for weights of another activation than the architecture's."""
    import open_clip

    found = open_clip.get_pretrained_cfg(architecture, tag)
    if not found:
        tags = _tags(architecture)
        raise SpecError(
            f"open_clip has no weights {tag!r} of {architecture}{nearest(tag, tags) or '.'} "
            f"There are: {listed(tags, 40) or 'none'}."
        )
    quick = bool(found.get("quick_gelu", False))
    if quick != bool(open_clip.get_model_config(architecture).get("quick_gelu", False)):
        other = f"{architecture}-quickgelu" if quick else architecture.removesuffix("-quickgelu")
        raise InputError(
            f"open_clip:{architecture}/{tag}: these weights were trained {'with' if quick else 'without'} QuickGELU, "
            f"and {architecture} is the other way: its features would be wrong. Use open_clip:{other}/{tag}."
        )


def _check_folder(folder: Path) -> None:
    """Raises `InputError` for a folder that cannot be a model of open_clip's; reads the configuration only."""
    if not folder.is_dir():
        raise InputError(f"no folder {str(folder)!r}. Give the path of a folder with {_CONFIG} and weights.")
    path = folder / _CONFIG
    if not path.is_file():
        raise InputError(
            f"{str(folder)!r} has no {_CONFIG}, which says what the weights are and how images are prepared. "
            "Copy it from where the model comes from; the models of open_clip on the hub have one."
        )
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model]
        own_tokenizer = "hf_tokenizer_name" in model["text_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} is not a configuration of open_clip ({type(error).__name__}: {error}). What would do: JSON "
            'with {"model_cfg": {"embed_dim", "vision_cfg", "text_cfg"}, "preprocess_cfg": {}}.'
        ) from error
    if missing:
        raise InputError(f"{str(path)!r}: model_cfg has no {listed(missing)}. Copy the whole file of the model.")
    names = [file.name for file in folder.iterdir()]
    if not any(name.endswith(_WEIGHTS) for name in names):
        raise InputError(
            f"{str(folder)!r} has no weights. What would do: a {' or '.join(_WEIGHTS)} file, for example "
            "open_clip_model.safetensors."
        )
    if own_tokenizer and not any(name.startswith(_TOKENIZER) for name in names):
        raise InputError(
            f"{str(folder)!r} has no tokenizer, and its {_CONFIG} asks for {model['text_cfg']['hf_tokenizer_name']!r}. "
            "Copy the tokenizer files (tokenizer.json, tokenizer_config.json) of the model into the folder."
        )


def _folder_digest(folder: Path) -> str:
    """A hash of what the features depend on, and not of where the folder lies."""
    files = sorted(
        file for file in folder.iterdir() if file.is_file() and (file.suffix in _WEIGHTS or file.name.startswith(_READ))
    )
    return hashlib.sha256(json.dumps([(file.name, digest(file)) for file in files]).encode()).hexdigest()
