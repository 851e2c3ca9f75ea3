"""Any CLIP that open_clip loads, with its own weights, preprocessing and tokenizer; never a silent stand-in."""

from __future__ import annotations

import json
import logging
import math
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from descbench.encoders import patches
from descbench.encoders.fitting import no_room
from descbench.encoders.model import ModelEncoder, Tokenizer, Towers, files_digest
from descbench.errors import AccessError, InputError, SpecError, listed, nearest
from descbench.hub import line

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from torch import Tensor

_RECIPE = 1  # raised when this file starts to make other features of the same weights
_CONFIG = "open_clip_config.json"
_VOCABULARY = 49408  # of the tokenizer that open_clip takes where none is named
_WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip looks for in a folder
_WEIGHTS_FILES = (*_WEIGHTS, ".pt", ".ckpt", ".npz")  # what people have, and might give after an architecture
_TOKENIZER = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "bpe")  # how the files of a tokenizer begin
_READ = (_CONFIG, "config.json", "special_tokens", "added_tokens", *_TOKENIZER)  # what else the features depend on


class OpenCLIPEncoder(ModelEncoder):
    """`ARCHITECTURE/TAG`, `hf-hub:ORG/NAME` or `local-dir:PATH` (a folder with open_clip_config.json and weights).

    Making one checks what can be checked without torch; the model is loaded when the first image or text comes.
    `precision` is that of the model: features are float32 before they are normalised.
    """

    def __init__(self, argument: str, **options: Any) -> None:
        super().__init__(argument, **options)
        self.name = f"open_clip {argument}"
        self._checked = False
        self._kind, _, rest = argument.partition(":")
        if self._kind == "local-dir":
            self._folder = Path(rest).expanduser()
            self._text_model = _check_folder(self._folder).get("hf_model_name")
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
        return f"open_clip/{_RECIPE}:{self._kind}:{identity}:{self.compute.key}"

    def _load_tokenizer(self) -> Tokenizer:
        import open_clip

        self._check_hub()
        with self._told():
            tokenizer = open_clip.get_tokenizer(self._model_name)
            padding = int(tokenizer([""])[0].mode().values)

        def lengths(texts: list[str]) -> list[int]:
            room = max(tokenizer.context_length, 4 + max(len(text.encode("utf-8", "replace")) for text in texts))
            counts: list[int] = (tokenizer(texts, room) != padding).sum(dim=1).tolist()
            return counts

        return Tokenizer(lambda texts: {"text": tokenizer(texts)}, lengths, int(tokenizer.context_length), padding)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong in open_clip, in our words; what it logs and warns of beside that is not shown."""
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "QuickGELU mismatch")  # `_check_tag` has looked into it
                yield
        except _loading_errors() as error:
            raise self._explained(error) from error
        finally:
            logging.disable(before)

    def _load(self) -> Towers:
        """Raises `InputError` for weights or a tokenizer that do not fit, `AccessError` where they cannot be had."""
        import open_clip
        import torch

        self._check_hub()
        if self._tag is not None:
            _check_tag(self._model_name, self._tag)
        device = self.compute.where
        with self._told():
            config = open_clip.get_model_config(self._model_name)
            # In these open_clip leaves some weights in float32, which then meet inputs of half precision, and fails.
            mixed = "multimodal_cfg" in config or bool(config["text_cfg"].get("hf_model_name"))
            precision = "fp32" if mixed or self.compute.precision == "amp" else self.compute.precision
            model, preprocess = open_clip.create_model_from_pretrained(
                self._model_name, self._tag, precision=precision, device=device
            )
        model.eval()
        model.visual.to(memory_format=torch.channels_last)  # as GPUs compute convolutions fastest
        prepare, scaled = _pixels(preprocess, device)
        bias = getattr(model, "logit_bias", None)
        scale, bias = math.exp(model.logit_scale.item()), None if bias is None else bias.item()
        if mixed:
            model.to(self.compute.dtype)
        whole: Any = partial(model.encode_text, normalize=False)
        encode_texts, needed = (whole, None) if self.compute.compile else _text_tower(model)
        return Towers(
            preprocess=preprocess,
            encode_images=self.compute.compiled(
                lambda pixels: model.encode_image(scaled(pixels).to(self.compute.dtype), normalize=False)
            ),
            encode_texts=self.compute.compiled(encode_texts),
            needed=needed,
            dimension=int(config["embed_dim"]),
            vocabulary=int(getattr(model, "text", model).vocab_size),
            logit_scale=scale,
            logit_bias=bias,
            encode_patches=patches.of_open_clip(model),
            prepare=prepare,
        )

    def _check_hub(self) -> None:
        """What is checked of a folder when it is named, of a model of the hub: before its weights are fetched, and
        before open_clip looks for a tokenizer; once. Raises `InputError`, `AccessError` where it cannot be had."""
        if self._kind != "hf-hub" or self._checked:
            return
        from huggingface_hub import hf_hub_download

        with self._told():
            path = hf_hub_download(self.argument.partition(":")[2], _CONFIG)
            config = json.loads(Path(path).read_text(encoding="utf-8"))
        _check_config(config, f"{self.argument}/{_CONFIG}")
        self._checked = True

    def _explained(self, error: Exception) -> InputError | AccessError:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return no_room("the model", repr(self), self.compute.where, line(error))
        reason = shorten(str(error), 300, placeholder=" ...").rstrip(".") or type(error).__name__
        remote = isinstance(error, OSError) or "Failed" in reason or "could not be loaded" in reason
        if self._kind != "local-dir" and remote:
            return AccessError(
                f"cannot get {self!r}: {reason}. Check its name and the network; without network, copy the model's "
                f"folder ({_CONFIG}, weights, tokenizer) here and give open_clip:local-dir:PATH."
            )
        if self._kind == "local-dir" and remote and self._text_model:
            return AccessError(
                f"{self!r} has the text tower {self._text_model!r} and cannot get its configuration: {reason}. Run it "
                "once with network, or put that config.json into a folder and name the folder as hf_model_name."
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
            _ = self._towers
            found = try_to_load_from_cache(repository, _CONFIG)
        return Path(found).parent.name if isinstance(found, str) else version("open_clip_torch")


def _pixels(
    preprocess: Any, device: torch.device
) -> tuple[Callable[[PIL.Image.Image], Tensor] | None, Callable[[Tensor], Tensor]]:
    """`Towers.prepare`, and what scales a batch of it, on the device; batches of other numbers are left as they are.

    The steps are those of torchvision's ToTensor and Normalize, one by one, so that every bit of the result is theirs.
    """
    import torch
    from torchvision.transforms import Compose, Normalize, PILToTensor, ToTensor

    steps = getattr(preprocess, "transforms", [])
    if len(steps) < 2 or not isinstance(steps[-2], ToTensor) or type(steps[-1]) is not Normalize:
        return None, lambda pixels: pixels
    mean, std = (torch.tensor(part, device=device).view(3, 1, 1) for part in (steps[-1].mean, steps[-1].std))

    def scaled(pixels: Tensor) -> Tensor:
        return pixels if pixels.is_floating_point() else pixels.float().div_(255).sub_(mean).div_(std)

    return Compose([*steps[:-2], PILToTensor()]), scaled


def _loading_errors() -> tuple[type[Exception], ...]:
    """What the libraries raise for a file that is missing or not what it should be."""
    from safetensors import SafetensorError

    return (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
            StopIteration, AssertionError, pickle.UnpicklingError)  # fmt: skip


def _text_tower(model: Any) -> tuple[Callable[..., Tensor], Callable[..., Tensor] | None]:
    """The model's `encode_text`, also for batches that are cut, and `Towers.needed`.

    A causal tower that reads its feature off the end of the text never sees what comes after it, and a text tower of
    transformers masks its padding. SigLIP, MobileCLIP-S and CoCa see theirs: there nothing is cut.
    """
    from open_clip.hf_model import HFTextEncoder
    from open_clip.model import CLIP
    from open_clip.transformer import TextTransformer

    plain = partial(model.encode_text, normalize=False)
    tower = getattr(model, "text", model)
    if isinstance(tower, HFTextEncoder):
        return plain, partial(_last, padding=tower.config.pad_token_id)
    if not isinstance(tower, CLIP | TextTransformer) or getattr(tower, "cls_emb", None) is not None:
        return plain, None
    pool, end = (tower.text_pool_type, tower.text_eos_id) if tower is model else (tower.pool_type, tower.eos_id)
    if tower.attn_mask is None or pool not in ("argmax", "eos"):
        return plain, None
    needed = partial(_end, end=end) if pool == "eos" else _largest
    return _shortened(model, tower), needed


def _last(text: Tensor, padding: int) -> Tensor:
    """(B, L) -> (B,): up to the last token that is no padding."""
    import torch

    return ((text != padding) * torch.arange(1, text.shape[1] + 1)).amax(dim=1).clamp_min(1)


def _end(text: Tensor, end: int) -> Tensor:
    """(B, L) -> (B,): up to the first token that ends a text."""
    return (text == end).int().argmax(dim=1) + 1


def _largest(text: Tensor) -> Tensor:
    """(B, L) -> (B,): up to the largest token, which ends a text in CLIP's vocabulary."""
    return text.argmax(dim=1) + 1


def _shortened(model: Any, tower: Any) -> Callable[[Tensor], Tensor]:
    """The model's own `encode_text`, which adds a table of positions and a mask of full length, with both cut."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, text: Tensor) -> Tensor:
            features: Tensor = self.model.encode_text(text, normalize=False)
            return features

    whole = Whole()
    prefix = "model" if tower is model else "model.text"
    lock = threading.Lock()  # the tables are exchanged for the time of a call

    def encode(text: Tensor) -> Tensor:
        length = text.shape[1]
        tables = {
            f"{prefix}.positional_embedding": tower.positional_embedding[:length],
            f"{prefix}.attn_mask": tower.attn_mask[:length, :length],
        }
        with lock:
            features: Tensor = torch.func.functional_call(whole, tables, (text,))
        return features

    return encode


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
    if quick == bool(open_clip.get_model_config(architecture).get("quick_gelu", False)):
        return
    other = f"{architecture}-quickgelu" if quick else architecture.removesuffix("-quickgelu")
    if tag in _tags(other) and other != architecture:
        instead = f"Use open_clip:{other}/{tag}."
    elif quick:
        instead = f"Put them into a folder with an {_CONFIG} that says so, and give open_clip:local-dir:PATH."
    else:  # weights of this architecture alone (roberta-ViT-B-32), at whose tag it is not noted
        return
    raise InputError(
        f"open_clip:{architecture}/{tag}: these weights were trained {'with' if quick else 'without'} QuickGELU, "
        f"and {architecture} is the other way: its features would be wrong. {instead}"
    )


def _check_folder(folder: Path) -> dict[str, Any]:
    """The `text_cfg` of a folder, without a look at its weights. Raises `InputError` for what is no model's folder."""
    if not folder.is_dir():
        raise InputError(f"no folder {str(folder)!r}. Give the path of a folder with {_CONFIG} and weights.")
    path = folder / _CONFIG
    if not path.is_file():
        raise InputError(
            f"{str(folder)!r} has no {_CONFIG}, which says what the weights are and how images are prepared. "
            "Copy it from where the model comes from; the models of open_clip on the hub have one."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        problem = f"{str(path)!r} is not a configuration of open_clip: {error}"
        raise InputError(f"{problem}. Copy the file of the model again.") from error
    text: dict[str, Any] = _check_config(config, str(path))["text_cfg"]
    names = [file.name for file in folder.iterdir()]
    if not any(name.endswith(_WEIGHTS) for name in names):
        raise InputError(
            f"{str(folder)!r} has no weights. What would do: a {' or '.join(_WEIGHTS)} file, for example "
            "open_clip_model.safetensors."
        )
    if "hf_tokenizer_name" in text and not any(name.startswith(_TOKENIZER) for name in names):
        raise InputError(
            f"{str(folder)!r} has no tokenizer, and its {_CONFIG} asks for {text['hf_tokenizer_name']!r}. "
            "Copy the tokenizer files (tokenizer.json, tokenizer_config.json) of the model into the folder."
        )
    return text


def _check_config(config: Any, where: str) -> dict[str, Any]:
    """The `model_cfg` of an open_clip_config.json. Raises `InputError` for one that lacks what open_clip would replace
    by OpenAI's: the way images are prepared, or the tokenizer."""
    try:
        model: dict[str, Any] = config["model_cfg"]
        missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model]
        text, images = model.get("text_cfg", {}), config.get("preprocess_cfg", {})
        unsaid = [key for key in ("mean", "std") if key not in images]
        foreign = not text.get("hf_tokenizer_name") and text.get("vocab_size", _VOCABULARY) != _VOCABULARY
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where!r} is not a configuration of open_clip ({type(error).__name__}: {error}). What would do: JSON "
            'with {"model_cfg": {"embed_dim", "vision_cfg", "text_cfg"}, "preprocess_cfg": {"mean", "std"}}.'
        ) from error
    if missing:
        raise InputError(f"{where!r}: model_cfg has no {listed(missing)}. Copy the whole file of the model.")
    if unsaid:
        raise InputError(
            f"{where!r}: preprocess_cfg has no {listed(unsaid)}, and open_clip would take OpenAI's, which are wrong "
            "for many models. Copy the whole file of the model, or write there what it was trained with."
        )
    if foreign:
        raise InputError(
            f"{where!r}: text_cfg has a vocabulary of {text['vocab_size']} tokens and no hf_tokenizer_name, and "
            f"open_clip would take OpenAI's tokenizer of {_VOCABULARY}. Name the model's own, and copy its files."
        )
    return model


def _folder_digest(folder: Path) -> str:
    """A hash of what the features depend on, and not of where the folder lies."""
    return files_digest(
        file for file in folder.iterdir() if file.is_file() and (file.suffix in _WEIGHTS or file.name.startswith(_READ))
    )
