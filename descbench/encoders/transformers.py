"""Any CLIP-like model of transformers, with its own image processor and tokenizer; never a silent stand-in."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descbench.encoders import patches
from descbench.encoders.fitting import no_room
from descbench.encoders.model import ModelEncoder, Tokenizer, Towers, files_digest
from descbench.errors import AccessError, InputError, listed
from descbench.hub import Pretrained, line, quiet

if TYPE_CHECKING:
    import PIL.Image
    import torch
    from torch import Tensor

_RECIPE = 1  # raised when this file starts to make other features of the same weights
_WEIGHTS = (".safetensors", ".bin")
_READ = (*_WEIGHTS, ".json", ".txt", ".model")  # what the features depend on
_PROCESSOR = ("processor_config.json", "preprocessor_config.json")
_TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")

_MASKED = frozenset({"align", "altclip", "chinese_clip", "clip", "clipseg", "metaclip_2"})
"""Architectures whose text features do not depend on padding: tested. All others get it up to their full length."""


class TransformersEncoder(ModelEncoder):
    """`PATH` of a folder that `save_pretrained` wrote, or `ORG/NAME[@REVISION]` of the hub.

    CLIP, SigLIP, AltCLIP, Chinese-CLIP, ALIGN and others: every model with `get_image_features`, `get_text_features`
    and a learned scale. Making one checks what can be checked without torch; the model is loaded when the first image
    or text comes.
    """

    def __init__(self, argument: str, **options: Any) -> None:
        super().__init__(argument, **options)
        self.name = f"transformers {argument}"
        self._model = Pretrained(argument, "processor and tokenizer files", "openai/clip-vit-base-patch32")
        if self._model.folder:
            _check_folder(self._model.folder)

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> TransformersEncoder:
        """The encoder of `transformers:ARGUMENT`."""
        return cls(argument, **options)

    def __repr__(self) -> str:
        return f"transformers:{self.argument}"

    @cached_property
    def fingerprint(self) -> str:
        """Of a folder: its contents. Of the hub: the commit."""
        if self._model.folder:
            files = [file for file in self._model.folder.iterdir() if file.is_file() and file.suffix in _READ]
            identity = f"folder:{files_digest(files)}"
        else:
            identity = f"hub:{'@'.join(self._model.revision)}"
        return f"transformers/{_RECIPE}:{identity}:{self.compute.key}"

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoProcessor

        with self._told():
            found = AutoProcessor.from_pretrained(**self._model.source)
        lacking = [part for part in ("image_processor", "tokenizer") if getattr(found, part, None) is None]
        if lacking:
            raise InputError(f"{self!r} has no {listed(lacking)}: it is no model of images and texts. Use a CLIP.")
        return found

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        with self._told():
            return AutoConfig.from_pretrained(**self._model.source)

    def _load_tokenizer(self) -> Tokenizer:
        """Raises `InputError` for a tokenizer that transformers made up, as it does for CLIP where it finds no file."""
        config, tokenizer = self._config.get_text_config(), self._processor.tokenizer
        if 2 * len(tokenizer) < config.vocab_size:
            raise InputError(
                f"the tokenizer of {self!r} knows {len(tokenizer)} tokens, and the model {config.vocab_size}: it is "
                "not the model's own. Copy the model's tokenizer files (tokenizer.json, tokenizer_config.json) again."
            )
        if tokenizer.pad_token_id is None:
            raise InputError(f"the tokenizer of {self!r} has no padding token. Copy the model's own tokenizer again.")
        # A processor that pads by itself (ALIGN's, SigLIP 2's) says how long the texts of training were.
        padded, plain = (len(made([""])["input_ids"][0]) for made in (lambda t: self._processor(text=t), tokenizer))
        limits = [_positions(config), tokenizer.model_max_length, *([padded] if padded > plain else [])]
        context, masked = int(min(limits)), self._config.model_type in _MASKED

        def tokens(texts: list[str]) -> dict[str, Tensor]:
            with quiet():
                return dict(
                    tokenizer(
                        texts,
                        padding="longest" if masked and not self.compute.compile else "max_length",
                        return_attention_mask=True if masked else None,
                        truncation=True,
                        max_length=context,
                        return_tensors="pt",
                    )
                )

        def lengths(texts: list[str]) -> list[int]:
            with quiet():
                rows = tokenizer(texts)["input_ids"]
            return [sum(token != tokenizer.pad_token_id for token in row) for row in rows]

        return Tokenizer(tokens, lengths, context, tokenizer.pad_token_id)

    def _load(self) -> Towers:
        """Raises `InputError` for a model that is not whole or not CLIP-like, `AccessError` where it cannot be had."""
        import torch
        from transformers import AutoModel

        tokenizer, images = self._tokenizer, self._processor.image_processor
        with self._told():
            # In float32 first: the scale is read from it, and half precision would round it by a per cent.
            model, info = AutoModel.from_pretrained(**self._model.source, dtype=torch.float32, output_loading_info=True)
        if missing := sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"]))):
            raise InputError(
                f"the weights of {self!r} are those of another model: {len(missing)} of its tensors are missing "
                f"({listed(missing, 3)}), and transformers would draw them at random. Copy the model again."
            )
        scale = _scale(model)
        if scale is None or not hasattr(model, "get_text_features") or not hasattr(model, "get_image_features"):
            raise InputError(
                f"{self!r} is a {type(model).__name__}, which has no features of images and texts with one scale. "
                "Use a CLIP-like model: CLIP, SigLIP, AltCLIP, Chinese-CLIP, ALIGN."
            )
        with self._told():
            model.eval().to(self.compute.where, self.compute.dtype)

        def preprocess(image: PIL.Image.Image) -> Tensor:
            return _packed(images(image, return_tensors="pt"))

        def encode_images(pixels: Tensor) -> Tensor:
            return _features(model.get_image_features(**_unpacked(pixels, self.compute.dtype)))

        def encode_texts(**tokens: Tensor) -> Tensor:
            return _features(model.get_text_features(**tokens))

        probe = {name: rows.to(self.compute.where) for name, rows in tokenizer.tokens(["a"]).items()}
        with self.compute.running():
            dimension = encode_texts(**probe).shape[-1]
        bias = getattr(model, "logit_bias", None)
        return Towers(
            preprocess=preprocess,
            encode_images=self.compute.compiled(encode_images),
            encode_texts=self.compute.compiled(encode_texts),
            needed=_needed if self._config.model_type in _MASKED and not self.compute.compile else None,
            dimension=int(dimension),
            vocabulary=int(self._config.get_text_config().vocab_size),
            logit_scale=scale,
            logit_bias=None if bias is None else float(bias.detach()),
            encode_patches=patches.of_transformers(model),
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong in transformers, in our words; what it logs beside that is not shown."""
        from safetensors import SafetensorError

        try:
            with quiet():
                yield
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError,
                EOFError, pickle.UnpicklingError) as error:  # fmt: skip
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> InputError | AccessError:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            return no_room("the model", repr(self), self.compute.where, line(error))
        if not self._model.folder and isinstance(error, OSError):
            return self._model.unreachable(error)
        return InputError(
            f"cannot load {self!r}: {line(error)} What would do: config.json, weights, processor and tokenizer files "
            "of one and the same model that this version of transformers knows, complete."
        )


def _check_folder(folder: Path) -> None:
    """Raises `InputError` for a folder that lacks what transformers would replace or not find."""
    names = {file.name for file in folder.iterdir()}
    for what, there, next_step in (
        ("config.json", "config.json" in names, "Give the folder that save_pretrained() wrote."),
        ("weights", any(name.endswith(_WEIGHTS) for name in names), "Copy the model's model.safetensors."),
        ("image processor", names & set(_PROCESSOR), f"Copy the model's {' or '.join(_PROCESSOR)}."),
        ("tokenizer", names & set(_TOKENIZER), "Copy the model's tokenizer.json and tokenizer_config.json."),
    ):
        if not there:
            raise InputError(
                f"the folder {str(folder)!r} is no whole model of transformers: it has no {what}. {next_step}"
            )


def _positions(config: Any) -> float:
    """How many tokens a text tower has places for. Those after RoBERTa number theirs from behind the padding token."""
    places = getattr(config, "max_position_embeddings", None) or float("inf")
    roberta = "roberta" in config.model_type or config.model_type == "altclip_text_model"
    return places - config.pad_token_id - 1 if roberta else places


def _scale(model: Any) -> float | None:
    """The factor from a similarity to a logit: exp(logit_scale), in ALIGN 1 / temperature."""
    if (learned := getattr(model, "logit_scale", None)) is not None:
        return float(learned.detach().exp())
    if (temperature := getattr(model, "temperature", None)) is not None:
        return 1 / float(temperature.detach())
    return None


def _features(output: Any) -> Tensor:
    """The projected features: since transformers 5 inside an output object."""
    features: Tensor = getattr(output, "pooler_output", output)
    return features


def _needed(attention_mask: Tensor, **_: Tensor) -> Tensor:
    """(B, L) -> (B,): up to the last token that is no padding."""
    import torch

    places = torch.arange(1, attention_mask.shape[1] + 1)
    return (attention_mask * places).amax(dim=1).clamp_min(1)


def _packed(made: Any) -> Tensor:
    """What an image processor made of one picture as one tensor. SigLIP 2 with free sizes gives patches (P, d) with a
    mask (P,) and the picture's height and width in patches: these become three more columns."""
    import torch

    pixels: Tensor = made["pixel_values"][0]
    if "spatial_shapes" not in made:
        return pixels
    mask, shape = made["pixel_attention_mask"][0], made["spatial_shapes"][0]
    return torch.cat([pixels, mask[:, None], shape.expand(len(pixels), 2)], dim=1)


def _unpacked(pixels: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """A batch of what `_packed` gives as arguments by name."""
    if pixels.ndim == 4:
        return {"pixel_values": pixels.to(dtype)}
    patches, mask, shapes = pixels[:, :, :-3].to(dtype), pixels[:, :, -3].long(), pixels[:, 0, -2:].long()
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}
