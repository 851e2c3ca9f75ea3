"""The transformers encoder gives what transformers gives by its own forward, and never features of another model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_encoders_open_clip import images, in_hub_cache, words_tokenizer

import descbench as db
from descbench.encoders import Encoder, TransformersEncoder
from descbench.errors import AccessError, DescbenchWarning, InputError, SpecError
from descbench.testing import check_encoder

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
TEXT = {**SIZES, **ENDS, "vocab_size": 16, "max_position_embeddings": 16}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
SHARED = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 24}
EFFICIENT = {
    "image_size": 32, "width_coefficient": 1.0, "depth_coefficient": 0.1, "hidden_dim": 24, "in_channels": [32],
    "out_channels": [24], "kernel_sizes": [3], "strides": [1], "num_block_repeats": [1], "expand_ratios": [1],
    "depthwise_padding": [],
}  # fmt: skip
KINDS = ["clip", "siglip", "siglip2", "altclip", "chinese_clip", "clipseg", "align", "metaclip_2"]
CONTEXT = {"siglip2": 64, "align": 64, "altclip": 18}  # of the others 16
TEXTS = ["a hen", "a bird with a red comb", "a hen", "tench", ""]
SQUARE = {"height": 32, "width": 32}
CROP = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}


def made(kind: str) -> tuple[Any, Any, type]:
    """A model with random weights, an image processor, and the class that joins it with a tokenizer."""
    import transformers as t

    if kind == "clip":
        return t.CLIPModel(t.CLIPConfig(**SHARED)), t.CLIPImageProcessor(**CROP), t.CLIPProcessor
    if kind == "siglip":
        model = t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=VISION))
        model.logit_bias.data.fill_(-10.0)
        return model, t.SiglipImageProcessor(size=SQUARE), t.SiglipProcessor
    if kind == "siglip2":  # the one that keeps a picture's aspect: 256 patches of 16 x 16 at most
        text = {**TEXT, "max_position_embeddings": 64, "vocab_size": 40}
        vision = {**SIZES, "num_patches": 256, "patch_size": 16}
        model = t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=vision))
        return model, t.Siglip2ImageProcessor(), t.Siglip2Processor
    if kind == "altclip":  # RoBERTa's positions begin behind the padding token
        text = {**TEXT, "max_position_embeddings": 19, "project_dim": 24}
        model = t.AltCLIPModel(t.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
        return model, t.CLIPImageProcessor(**CROP), t.AltCLIPProcessor
    if kind == "chinese_clip":
        processor = t.ChineseCLIPImageProcessor(size=SQUARE, do_center_crop=False)
        return t.ChineseCLIPModel(t.ChineseCLIPConfig(**SHARED)), processor, t.ChineseCLIPProcessor
    if kind == "clipseg":  # published with its decoder, which is not needed here
        decoder = {"reduce_dim": 16, "extract_layers": [1], "decoder_num_attention_heads": 2}
        config = t.CLIPSegConfig(**SHARED, **decoder, decoder_intermediate_size=16)
        return t.CLIPSegForImageSegmentation(config), t.ViTImageProcessor(size=SQUARE), t.CLIPSegProcessor
    if kind == "align":
        text = {**TEXT, "max_position_embeddings": 80}
        model = t.AlignModel(t.AlignConfig(text_config=text, vision_config=EFFICIENT, projection_dim=24))
        return model, t.EfficientNetImageProcessor(size=SQUARE), t.AlignProcessor
    return t.MetaClip2Model(t.MetaClip2Config(**SHARED)), t.CLIPImageProcessor(**CROP), t.CLIPProcessor


def characters_tokenizer(folder: Path, **options: Any) -> None:
    """One token a character: SigLIP 2 reads its tokenizer's files as those of Gemma's, which has no words."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<pad>", "<bos>", "<eos>", "<unk>", "\u2581", *"abcdefghijklmnopqrstuvwxyz"]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    core.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 2)])
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special, **options).save_pretrained(folder)


def save(kind: str, folder: Path) -> Path:
    """A small model of a real architecture, in transformers' own files."""
    import torch
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    model, image_processor, processor = made(kind)
    model.save_pretrained(folder)
    unmasked = {"model_input_names": ["input_ids"]}
    if kind == "siglip2":
        characters_tokenizer(folder, model_max_length=64, **unmasked)
    elif kind == "siglip":
        words_tokenizer(folder, model_max_length=16, **unmasked)
    else:  # three of them do not say how much they read
        words_tokenizer(folder, **({} if kind in ("altclip", "chinese_clip", "align") else {"model_max_length": 16}))
    processor(image_processor, AutoTokenizer.from_pretrained(folder)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a kind, saved when it is first asked for."""
    top = tmp_path_factory.mktemp("models")
    return lambda kind: top / kind if (top / kind).is_dir() else save(kind, top / kind)


@pytest.fixture
def copy(folders: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders("clip"), tmp_path / "copy"))


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_logits_are_those_of_the_models_own_forward(kind: str, folders: Callable[[str], Path]) -> None:
    import torch
    from transformers import AutoModel, AutoProcessor

    folder = folders(kind)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    padding = {} if kind in ("siglip2", "align") else padding  # these two pad by themselves
    with torch.no_grad():
        theirs = model(**processor(text=TEXTS, images=images(), return_tensors="pt", **padding))
    encoder = db.encoder(f"transformers:{folder}", device="cpu", batch_size=2)
    of_images, of_texts = encoder.encode_images(images()), encoder.encode_texts(TEXTS)
    assert torch.allclose(of_images, theirs.image_embeds, atol=1e-5)
    assert torch.allclose(of_texts, theirs.text_embeds, atol=1e-5)
    logits = encoder.logit_scale * of_images @ of_texts.T + (encoder.logit_bias or 0.0)
    assert torch.allclose(logits, theirs.logits_per_image, atol=1e-5)
    assert (encoder.logit_bias is not None) == kind.startswith("siglip")
    assert encoder.context_length == CONTEXT.get(kind, 16)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, of_texts.shape[1])
    assert isinstance(encoder, Encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_or_image_has_the_same_feature_alone_in_a_batch_and_in_any_order(
    kind: str, folders: Callable[[str], Path]
) -> None:
    check_encoder(db.encoder(f"transformers:{folders(kind)}", device="cpu", batch_size=3), quiet=True)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_that_the_model_cuts_off_are_counted(kind: str, folders: Callable[[str], Path]) -> None:
    encoder = db.encoder(f"transformers:{folders(kind)}", device="cpu")
    room = CONTEXT.get(kind, 16)
    fits = "h" * (room - 1) if kind == "siglip2" else " ".join(["hen"] * (room - 2))  # and its ends
    long = f"{fits} hen"
    assert encoder.count_tokens([fits, long]) == [room, room + (4 if kind == "siglip2" else 1)]
    encoder.encode_texts([fits, "a hen"])  # warnings are errors in these tests
    with pytest.warns(DescbenchWarning, match=rf"1 of 3 texts are longer than the {room} tokens .* 'h"):
        encoder.encode_texts([fits, long, "a hen", long])


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 4e-3), ("amp", 2e-2)])
@pytest.mark.parametrize("kind", KINDS)
def test_precision_and_batch_change_features_by_rounding_only_and_not_the_scale(
    kind: str, precision: str, near: float, folders: Callable[[str], Path]
) -> None:
    import torch

    whole, half = (db.encoder(f"transformers:{folders(kind)}", device="cpu", precision=p) for p in ("fp32", precision))
    for ours, exact, items in (
        (half.encode_images, whole.encode_images, images()),
        (half.encode_texts, whole.encode_texts, TEXTS),
    ):
        rows = ours(items)
        assert rows.dtype == torch.float32
        assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-6)
        assert (rows - exact(items)).abs().max() < near
        assert (rows - torch.cat([ours([item]) for item in items])).abs().max() < near
        assert torch.equal(rows, exact(items)) == (precision == "fp32")
    assert half.logit_scale == whole.logit_scale


def test_making_one_and_its_fingerprint_import_neither_torch_nor_transformers(folders: Callable[[str], Path]) -> None:
    code = (
        "import sys; import descbench as db\n"
        f"encoder = db.encoder('transformers:{folders('clip')}'); print(repr(encoder)); encoder.fingerprint\n"
        "assert not {'torch', 'open_clip', 'transformers', 'openai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"transformers:{folders('clip')}"


def test_the_fingerprint_is_of_the_contents_the_precision_and_not_of_the_place(
    folders: Callable[[str], Path], copy: Path
) -> None:
    original = TransformersEncoder(str(folders("clip"))).fingerprint
    (copy / "README.md").write_text("not read by the model")
    assert TransformersEncoder(str(copy), device="cpu", batch_size=7).fingerprint == original
    options: list[dict[str, Any]] = [{"precision": "bf16"}, {"precision": "amp"}, {"compile": True}]
    others = {TransformersEncoder(str(copy), **option).fingerprint for option in options}
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    others.add(TransformersEncoder(str(copy)).fingerprint)
    assert len(others | {original}) == 5


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ("", SpecError, "names no model"),
        ("/no/such/folder", InputError, "no model folder '/no/such/folder'"),
        ("a b", InputError, "no model folder 'a b'"),
    ],
)
def test_what_is_no_model_is_named(argument: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        TransformersEncoder.from_spec(argument)


def test_what_cannot_be_fetched_is_an_access_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = TransformersEncoder("nobody/nothing", device="cpu")
    for call in (lambda: encoder.encode_texts(["a hen"]), lambda: encoder.fingerprint):
        with pytest.raises(AccessError, match="no folder here, and the hub does not give it") as caught:
            call()
        assert caught.value.exit_code == 5


def test_a_model_of_the_hub_is_known_by_its_commit_and_read_without_network(
    folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, commit = folders("clip"), "0123456789abcdef0123456789abcdef01234567"
    in_hub_cache(folder, tmp_path, commit, monkeypatch)
    encoder, pinned = (TransformersEncoder(f"birds/small-clip{at}", device="cpu") for at in ("", f"@{commit}"))
    assert encoder.fingerprint == pinned.fingerprint == f"transformers/1:hub:birds/small-clip@{commit}:fp32"
    local = TransformersEncoder(str(folder), device="cpu").encode_texts(TEXTS)
    assert np.array_equal(encoder.encode_texts(TEXTS), local)
    assert np.array_equal(pinned.encode_texts(TEXTS), local)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (["config.json"], "no config.json"),
        (["model.safetensors"], "no weights"),
        (["processor_config.json"], "no image processor"),
        (["tokenizer.json"], "no tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_part_is_no_model(copy: Path, lost: list[str], message: str) -> None:
    for name in lost:
        (copy / name).unlink()
    with pytest.raises(InputError, match=f"{message}. (Give|Copy)"):
        TransformersEncoder(str(copy))


def _made_up_tokenizer(folder: Path) -> None:
    """Without tokenizer.json transformers makes up one of two tokens, and says nothing."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("not of CLIP")


def _larger_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "tokenizer.json").read_text())
    config["model"]["vocab"]["hen"] = 40
    (folder / "tokenizer.json").write_text(json.dumps(config))


def _missing_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _truncated(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])


def _other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "projection_dim": 48}))


def _language_model(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**SIZES, vocab_size=16)).save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_made_up_tokenizer, "knows 2 tokens, and the model 16: it is not the model's own"),
        (_larger_tokenizer, "gives token 40, and the model knows 16"),
        (_missing_tensor, r"1 of its tensors are missing \(text_projection.weight\), .* at random"),
        (_truncated, "cannot load .* one and the same model"),
        (_other_width, "cannot load .* one and the same model"),
        (_language_model, "is a BertModel, which has no features of images and texts"),
    ],
)
def test_a_silent_stand_in_is_one_clear_line(copy: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(copy)
    with pytest.raises(InputError, match=message) as caught:
        TransformersEncoder(str(copy), device="cpu").encode_texts(["a hen"])
    assert "\n" not in str(caught.value)


def test_a_loaded_model_has_no_dropout(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "dropout")
    config = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        config[part]["attention_dropout"] = 0.5
    (folder / "config.json").write_text(json.dumps(config))
    encoder = TransformersEncoder(str(folder), device="cpu")
    assert np.array_equal(encoder.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    assert np.array_equal(encoder.encode_images(images()), encoder.encode_images(images()))
