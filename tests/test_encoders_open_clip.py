"""The open_clip encoder gives what open_clip gives, and never features of a model that nobody meant."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import descbench as db
from descbench.encoders import ENCODERS, DemoEncoder, Encoder, OpenCLIPEncoder
from descbench.encoders.open_clip import _check_tag
from descbench.errors import AccessError, DescbenchWarning, InputError, SpecError
from descbench.testing import check_encoder

CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "resize_mode": "squash"},
}
TEXTS = ["a hen", "a bird with a red comb", "a hen", "tench", ""]


def save_model(folder: Path, config: dict, seed: int = 0) -> None:
    """A real architecture with random weights, in open_clip's own format."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def in_hub_cache(model: Path, cache: Path, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model as the hub's client keeps it, as `birds/small-clip`, and no network."""
    kept = cache / "models--birds--small-clip"
    shutil.copytree(model, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))


def images() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = [(40, 30), (30, 50), (32, 32), (1, 1), (100, 20)]
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small"
    save_model(path, CONFIG)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_features_are_those_of_open_clip_used_directly(folder: Path) -> None:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        of_images = torch.cat([model.encode_image(preprocess(i)[None], normalize=True) for i in images()])
        of_texts = torch.cat([model.encode_text(tokenizer([t]), normalize=True) for t in TEXTS])
    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", batch_size=2)
    assert torch.allclose(encoder.encode_images(images()), of_images, atol=1e-5)
    assert torch.allclose(encoder.encode_texts(TEXTS), of_texts, atol=1e-5)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert isinstance(encoder, Encoder)


def words_tokenizer(folder: Path, **options: object) -> None:
    """A small tokenizer with an end of text, in transformers' own files."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "a", "hen", "bird", "with", "red", "comb", "tench"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 1), ("</s>", 2)]
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special, **options).save_pretrained(folder)


TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
OWN = {**TEXT, "vocab_size": 16, "hf_tokenizer_name": "its own"}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TIMM = {"timm_model_pretrained": False, "timm_proj": "linear", "timm_pool": "avg", "image_size": 32}
ROBERTA = {"hf_model_name": "HERE", "hf_tokenizer_name": "its own", "hf_pooler_type": "mean_pooler"}
ARCHITECTURES: dict[str, dict] = {
    "CLIP": {"vision_cfg": VIT, "text_cfg": TEXT},
    "CLIP with QuickGELU": {"vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "ResNet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}, "text_cfg": TEXT},
    "custom text": {"vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "CoCa": {
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
    "SigLIP": {
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit3", "timm_pool": "map", "image_size": 160},
        "text_cfg": {
            **OWN,
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
            "norm_kwargs": {"eps": 1e-6},
        },
        "init_logit_bias": -10,
        "custom_text": True,
    },
    "SigLIP 2": {
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit3", "timm_pool": "map", "image_size": 160},
        "text_cfg": {
            **OWN,
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
        "init_logit_bias": -10,
        "custom_text": True,
    },
    "EVA": {
        "vision_cfg": {**TIMM, "timm_model_name": "eva02_tiny_patch14_224", "image_size": 224, "timm_pool": "token"},
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "MobileCLIP": {
        "vision_cfg": {**TIMM, "timm_model_name": "fastvit_t8", "image_size": 64},
        "text_cfg": {**TEXT, "no_causal_mask": True},
        "custom_text": True,
    },
    "ConvNeXt": {"vision_cfg": {**TIMM, "timm_model_name": "test_convnext"}, "text_cfg": TEXT},
    "worldwide": {"vision_cfg": VIT, "text_cfg": {**OWN, "pool_type": "eos", "eos_id": 2}},
    "CLIPA": {"vision_cfg": VIT, "text_cfg": {**OWN, "no_causal_mask": True, "pool_type": "last"}},
    "RoBERTa": {"vision_cfg": VIT, "text_cfg": {**ROBERTA, "hf_proj_type": "linear", "context_length": 16}},
    "mT5": {"vision_cfg": VIT, "text_cfg": {**ROBERTA, "hf_proj_type": "linear", "context_length": 16}},
    "NLLB": {
        "vision_cfg": VIT,
        "text_cfg": {**ROBERTA, "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear", "context_length": 16},
    },
    "CoCa with RoBERTa": {
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**ROBERTA, "hf_proj_type": "linear", "output_tokens": True, "context_length": 16},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 2},
        "custom_text": True,
    },
}
CUT = {"CLIP", "CLIP with QuickGELU", "ResNet", "custom text", "EVA", "ConvNeXt", "worldwide", "RoBERTa"}
CUT |= {"mT5", "NLLB", "CoCa with RoBERTa"}  # the text towers that never see padding


def text_tower(kind: str):
    """The configuration of a text tower of transformers."""
    import transformers as t

    if kind == "mT5":
        return t.MT5Config(d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, vocab_size=16, pad_token_id=0)
    if kind == "NLLB":
        layers = {"encoder_layers": 2, "decoder_layers": 1}
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
        sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 20}
        return t.M2M100Config(**layers, **heads, **sizes, vocab_size=16, pad_token_id=0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return t.RobertaConfig(**sizes, vocab_size=16, max_position_embeddings=20, pad_token_id=0)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small model of each kind, with random weights, in open_clip's own format."""
    folder = tmp_path_factory.mktemp("architecture") / "model"
    config = json.loads(json.dumps({**CONFIG, "model_cfg": {"embed_dim": 32, **ARCHITECTURES[request.param]}}))
    text = config["model_cfg"]["text_cfg"]
    if text.get("hf_model_name"):
        text["hf_model_name"] = str(folder.parent / "text")
        text_tower(request.param).save_pretrained(folder.parent / "text")
    save_model(folder, config)
    if "hf_tokenizer_name" in text:
        words_tokenizer(folder)
    return request.param, folder


def test_every_architecture_gives_what_open_clip_gives_by_its_own_path(architecture: tuple[str, Path]) -> None:
    import open_clip
    import torch

    _, folder = architecture
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    names = ["hen", "bird with red comb", "tench", "red bird", "hen hen hen hen hen hen hen hen"]
    pixels = torch.stack([preprocess(image) for image in images()])
    with torch.no_grad():
        of_texts = open_clip.build_zero_shot_classifier(model, tokenizer, names, ["a {}"]).T
        forward = model(pixels, tokenizer([f"a {name}" for name in names]))
    theirs = (forward["image_features"], forward["text_features"]) if isinstance(forward, dict) else forward[:2]
    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", batch_size=2)
    of_images, ours = encoder.encode_images(images()), encoder.encode_texts([f"a {name}" for name in names])
    assert torch.allclose(ours, of_texts, atol=1e-5)
    assert torch.allclose(of_images, theirs[0], atol=1e-5)
    assert torch.allclose(ours, theirs[1], atol=1e-5)
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert encoder.logit_bias == (None if model.logit_bias is None else pytest.approx(model.logit_bias.item()))


def test_a_text_or_image_has_the_same_feature_alone_in_a_batch_and_in_any_order(architecture: tuple[str, Path]) -> None:
    check_encoder(OpenCLIPEncoder(f"local-dir:{architecture[1]}", device="cpu", batch_size=3), quiet=True)


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 2e-3)])
def test_in_every_architecture_precision_and_batch_change_features_by_rounding_only(
    architecture: tuple[str, Path], precision: str, near: float
) -> None:
    import torch

    name, folder = architecture
    whole, half = (OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", precision=p) for p in ("fp32", precision))
    pictures, texts = images()[:2], ["a hen", "a bird with a red comb"]
    for ours, exact, items in (
        (half.encode_images, whole.encode_images, pictures),
        (half.encode_texts, whole.encode_texts, texts),
    ):
        rows = ours(items)
        assert (rows - exact(items)).abs().max() < near
        assert (rows - torch.cat([ours([item]) for item in items])).abs().max() < near
        assert torch.equal(rows, exact(items)) == (precision == "fp32")
    rounded = "timm_model_name" in ARCHITECTURES[name]["vision_cfg"]  # open_clip rounds the scale, too
    assert half.logit_scale == pytest.approx(whole.logit_scale, rel=1e-2 if rounded else 1e-6)


def test_padding_is_computed_only_where_the_model_sees_it(
    architecture: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch import nn

    name, folder = architecture
    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", batch_size=2)
    encoder.encode_texts(["a"])
    widths = set()
    forward = nn.Embedding.forward

    def recorded(self: nn.Embedding, ids):
        widths.add(ids.shape[-1])
        return forward(self, ids)

    monkeypatch.setattr(nn.Embedding, "forward", recorded)
    encoder.encode_texts(["a hen", "a bird", "a bird with a red comb", "a red hen with a red comb"])
    if name in CUT:
        assert max(widths) == 9  # the longest text and its two ends, where the model reads 16
    else:
        assert max(widths) == 16


def test_pictures_are_moved_as_bytes_and_scaled_there_as_open_clip_does_to_the_last_bit(
    architecture: tuple[str, Path],
) -> None:
    import open_clip
    import torch

    encoder = OpenCLIPEncoder(f"local-dir:{architecture[1]}", device="cpu")
    _, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{architecture[1]}")
    prepared = torch.stack([encoder.prepare(image) for image in images()])
    ready = torch.stack([preprocess(image) for image in images()])
    assert prepared.dtype == torch.uint8 and prepared.shape == ready.shape
    assert torch.equal(encoder.encode_pixels(prepared), encoder.encode_pixels(ready))


def test_rows_are_float32_of_length_one_and_none_for_nothing(folder: Path) -> None:
    import torch

    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", precision="bf16")
    for rows in (encoder.encode_images(images()), encoder.encode_texts(TEXTS)):
        assert rows.dtype == torch.float32
        assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-6)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, 24)


def test_texts_that_the_model_cuts_off_are_counted(folder: Path) -> None:
    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu")
    fits, too_long = " ".join(["hen"] * 14), " ".join(["hen"] * 15)  # with start and end: 16 and 17 tokens
    encoder.encode_texts([fits, "a hen"])  # warnings are errors in these tests
    with pytest.warns(DescbenchWarning, match=r"1 of 3 texts are longer than the 16 tokens .* 'hen hen"):
        encoder.encode_texts([fits, too_long, "a hen", too_long])


def test_a_folder_brings_its_own_tokenizer(copy: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", "hen"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "anything"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"no tokenizer, and its open_clip_config.json asks for 'anything'"):
        OpenCLIPEncoder(f"local-dir:{copy}")
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(copy)
    encoder = OpenCLIPEncoder(f"local-dir:{copy}", device="cpu")
    same, other = encoder.encode_texts(["a turkey", "a rooster"]), encoder.encode_texts(["a hen"])
    assert np.allclose(same[0], same[1], atol=1e-6)  # both are [UNK] to this tokenizer
    assert not np.allclose(same[0], other[0], atol=1e-3)
    with pytest.warns(DescbenchWarning, match="1 of 2 texts"):
        encoder.encode_texts(["hen " * 14, "hen " * 15])


def test_the_fingerprint_is_of_the_contents_and_not_of_the_place(folder: Path, copy: Path) -> None:
    def fingerprint(**options: str) -> str:
        return OpenCLIPEncoder(f"local-dir:{copy}", **options).fingerprint

    original = OpenCLIPEncoder(f"local-dir:{folder}").fingerprint
    (copy / "README.md").write_text("not read by the model")
    assert fingerprint() == original
    assert fingerprint(precision="bf16") != original
    config = json.loads(json.dumps(CONFIG))
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    other_preprocessing = fingerprint()
    shutil.copy(folder / "open_clip_config.json", copy)
    weights = bytearray((copy / "open_clip_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "open_clip_model.safetensors").write_bytes(weights)
    assert len({original, other_preprocessing, fingerprint()}) == 3


def test_making_one_and_its_fingerprint_import_neither_torch_nor_open_clip(folder: Path) -> None:
    code = (
        "import sys; from descbench.encoders import ENCODERS\n"
        f"print(repr(ENCODERS['open_clip'].from_spec('local-dir:{folder}')))\n"
        f"ENCODERS['open_clip'].from_spec('local-dir:{folder}').fingerprint\n"
        "ENCODERS['open_clip'].from_spec('ViT-B-32/laion2b_s34b_b79k').fingerprint\n"
        "assert not {'torch', 'open_clip', 'transformers', 'openai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"open_clip:local-dir:{folder}"


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ("ViT-B-32", SpecError, r"names no weights.*ViT-B-32/TAG.*laion2b_s34b_b79k"),
        ("ViT-B/32/openai", SpecError, r"did you mean 'ViT-B-32/openai'"),
        ("ViT-B/32", SpecError, r"did you mean 'ViT-B-32/TAG'"),
        ("ViT-B-33/openai", SpecError, r"no architecture 'ViT-B-33'; did you mean 'ViT-B-32'"),
        ("nonsense/openai", SpecError, r"no architecture 'nonsense'\. Write"),
        ("ViT-B-16-SigLIP/weights/siglip.pt", InputError, r"weights file.*how images are prepared.*local-dir:PATH"),
        ("hf-hub:name", SpecError, r"hf-hub:ORG/NAME"),
        ("local-dir:/no/such/folder", InputError, r"no folder '/no/such/folder'"),
    ],
)
def test_a_spelling_that_would_be_silently_wrong_is_an_error(argument: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        ENCODERS["open_clip"].from_spec(argument)


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ("ViT-B-32/laion2b", SpecError, r"no weights 'laion2b' of ViT-B-32.*There are: openai"),
        ("ViT-B-32/openai", InputError, r"with QuickGELU.*Use open_clip:ViT-B-32-quickgelu/openai"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", SpecError, r"no weights"),
    ],
)
def test_a_tag_is_checked_before_anything_is_fetched(argument: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        OpenCLIPEncoder(argument).encode_texts(["a hen"])


def test_every_tag_is_taken_or_refused_with_one_that_is_taken() -> None:
    import open_clip

    known = open_clip.list_pretrained()
    taken = set()
    instead = {}
    for architecture, tag in known:
        try:
            _check_tag(architecture, tag)
            taken.add(f"{architecture}/{tag}")
        except InputError as error:
            instead[f"{architecture}/{tag}"] = str(error).rpartition("Use open_clip:")[2].removesuffix(".")
    assert len(taken) + len(instead) == len(known) > 100
    assert set(instead.values()) <= taken
    assert instead["ViT-L-14/openai"] == "ViT-L-14-quickgelu/openai"
    assert "roberta-ViT-B-32/laion2b_s12b_b32k" in taken  # the only architecture of these weights


@pytest.mark.parametrize("argument", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:nobody/nothing"])
def test_what_cannot_be_fetched_is_an_access_error_and_never_a_random_model(
    argument: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AccessError, match=r"cannot get open_clip:.*local-dir:PATH") as caught:
        OpenCLIPEncoder(argument, device="cpu").encode_texts(["a hen"])
    assert caught.value.exit_code == 5


def test_a_model_of_the_hub_is_known_by_its_commit_and_checked_as_a_folder_is(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    in_hub_cache(copy, tmp_path / "hub", commit, monkeypatch)
    encoder = OpenCLIPEncoder("hf-hub:birds/small-clip", device="cpu")
    assert encoder.fingerprint == f"open_clip/1:hf-hub:hf-hub:birds/small-clip@{commit}:fp32"
    local = OpenCLIPEncoder(f"local-dir:{copy}", device="cpu")
    assert np.array_equal(encoder.encode_texts(TEXTS), local.encode_texts(TEXTS))
    config = tmp_path / "hub" / "models--birds--small-clip" / "snapshots" / commit / "open_clip_config.json"
    config.write_text(json.dumps({**CONFIG, "preprocess_cfg": {}}))
    for call in ("encode_texts", "overlong"):  # which asks the tokenizer alone
        with pytest.raises(InputError, match="has no mean, std"):
            getattr(OpenCLIPEncoder("hf-hub:birds/small-clip", device="cpu"), call)(["a hen " * 20])
    config.write_text("{")
    with pytest.raises(InputError, match=r"cannot load open_clip:hf-hub:birds/small-clip: .*Copy them again"):
        OpenCLIPEncoder("hf-hub:birds/small-clip", device="cpu").overlong(["a hen " * 20])


def test_a_tag_is_loaded_with_the_preprocessing_that_belongs_to_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import open_clip
    import torch
    from open_clip import pretrained

    own = {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1], "interpolation": "bilinear", "resize_mode": "squash"}
    (tmp_path / "ViT-of-birds.json").write_text(json.dumps(CONFIG["model_cfg"]))
    open_clip.add_model_config(tmp_path)
    tags = {"own": {"hf_hub": "birds/small-clip/", **own}, "quick": {"hf_hub": "birds/small-clip/", "quick_gelu": True}}
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-of-birds", tags)
    in_hub_cache(copy, tmp_path / "hub", "0123456789abcdef0123456789abcdef01234567", monkeypatch)
    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{copy}", **{f"image_{k}": own[k] for k in own}
    )
    model.eval()
    with torch.no_grad():
        theirs = model.encode_image(torch.stack([preprocess(image) for image in images()]), normalize=True)
        of_texts = model.encode_text(open_clip.get_tokenizer("ViT-of-birds")(TEXTS), normalize=True)
    encoder = db.encoder("open_clip:ViT-of-birds/own", device="cpu")
    assert torch.allclose(encoder.encode_images(images()), theirs, atol=1e-5)
    assert torch.allclose(encoder.encode_texts(TEXTS), of_texts, atol=1e-5)
    folder = db.encoder(f"open_clip:local-dir:{copy}", device="cpu")
    assert not torch.allclose(folder.encode_images(images()), theirs, atol=1e-2)  # which has a preprocessing of its own
    with pytest.raises(InputError, match=r"with QuickGELU, and ViT-of-birds is the other way.*local-dir:PATH"):
        db.encoder("open_clip:ViT-of-birds/quick", device="cpu").encode_texts(TEXTS)


def test_a_folder_without_configuration_or_weights_is_an_error(copy: Path) -> None:
    weights = copy / "open_clip_model.safetensors"
    weights.rename(copy / "model.txt")
    with pytest.raises(InputError, match="has no weights"):
        OpenCLIPEncoder(f"local-dir:{copy}")
    for content, message in (("{", "not a configuration"), ('{"model_cfg": {"text_cfg": {}}}', "has no embed_dim")):
        (copy / "open_clip_config.json").write_text(content)
        with pytest.raises(InputError, match=message):
            OpenCLIPEncoder(f"local-dir:{copy}")
    (copy / "open_clip_config.json").unlink()
    with pytest.raises(InputError, match=r"no open_clip_config\.json"):
        OpenCLIPEncoder(f"local-dir:{copy}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocess_cfg": {}}, r"has no mean, std, and open_clip would take OpenAI's.*write there"),
        ({"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}, "has no std, and"),
        ({"vocab_size": 32000}, r"32000 tokens and no hf_tokenizer_name.*Name the model's own"),
    ],
)
def test_what_open_clip_would_replace_in_silence_is_an_error(copy: Path, change: dict, message: str) -> None:
    config = json.loads(json.dumps(CONFIG))
    if "vocab_size" in change:
        config["model_cfg"]["text_cfg"].update(change)
    else:
        config.update(change)
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        OpenCLIPEncoder(f"local-dir:{copy}")


def test_the_tokenizer_of_another_model_is_an_error(tmp_path: Path) -> None:
    save_model(tmp_path / "model", {**CONFIG, "model_cfg": {"embed_dim": 24, **ARCHITECTURES["worldwide"]}})
    words_tokenizer(tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    larger = json.loads(file.read_text())
    larger["model"]["vocab"]["hen"] = 40
    file.write_text(json.dumps(larger))
    with pytest.raises(InputError, match="gives token 40, and the model knows 16: they are not of one model"):
        OpenCLIPEncoder(f"local-dir:{tmp_path / 'model'}", device="cpu").encode_texts(["a hen"])


def test_a_text_tower_whose_configuration_is_not_here_is_an_access_error(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**CONFIG, "model_cfg": {"embed_dim": 24, **json.loads(json.dumps(ARCHITECTURES["RoBERTa"]))}}
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "nobody/nothing"
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    words_tokenizer(copy)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AccessError, match=r"has the text tower 'nobody/nothing' and cannot get its .*network, or"):
        OpenCLIPEncoder(f"local-dir:{copy}", device="cpu").encode_texts(["a hen"])


def test_an_architecture_of_ones_own_needs_weights_and_a_preprocessing_too(tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "ViT-of-ones-own.json").write_text(json.dumps(CONFIG["model_cfg"]))
    open_clip.add_model_config(tmp_path)
    with pytest.raises(SpecError, match="names no weights, and an architecture alone would be random"):
        OpenCLIPEncoder("ViT-of-ones-own")
    with pytest.raises(InputError, match=r"weights file.*beside an open_clip_config\.json.*local-dir:PATH"):
        OpenCLIPEncoder("ViT-of-ones-own/weights.safetensors")


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 2e-3), ("amp", 2e-2)])
def test_a_batch_its_order_and_half_precision_change_features_by_rounding_only(
    folder: Path, precision: str, near: float
) -> None:
    import torch

    whole, half = (OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", precision=p) for p in ("fp32", precision))
    for ours, exact, alone in (
        (half.encode_images(images()), whole.encode_images(images()), [half.encode_images([i]) for i in images()]),
        (half.encode_texts(TEXTS), whole.encode_texts(TEXTS), [half.encode_texts([text]) for text in TEXTS]),
    ):
        assert (ours - exact).abs().max() < near
        assert (ours - torch.cat(alone)).abs().max() < near
    assert precision == "fp32" or not torch.equal(ours, exact)
    for encode, items in ((half.encode_images, images()), (half.encode_texts, TEXTS)):
        assert (encode(items[::-1]).flip(0) - encode(items)).abs().max() < near


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_features(folder: Path) -> None:
    plain, compiled = (OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", compile=c) for c in (False, True))
    assert plain.fingerprint != compiled.fingerprint
    assert np.allclose(compiled.encode_images(images()), plain.encode_images(images()), atol=1e-5)
    assert np.allclose(compiled.encode_texts(TEXTS), plain.encode_texts(TEXTS), atol=1e-5)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _foreign(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"some.other.weight": np.zeros((2, 2), dtype=np.float32)}, path)


def _other_width(path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["model_cfg"]["text_cfg"]["width"] = 64
    (path.parent / "open_clip_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "spoil",
    [
        _truncated,
        _foreign,
        _other_width,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_text("version https://git-lfs"),
    ],
    ids=["truncated", "foreign", "other architecture", "empty", "pointer"],
)
def test_weights_that_do_not_fit_are_one_clear_line(copy: Path, spoil) -> None:
    spoil(copy / "open_clip_model.safetensors")
    with pytest.raises(InputError, match=r"^cannot load open_clip:local-dir:[^\n]*one and the same model[^\n]*$"):
        OpenCLIPEncoder(f"local-dir:{copy}", device="cpu").encode_texts(["a hen"])


def test_a_damaged_weights_file_in_torchs_format_is_one_clear_line(copy: Path) -> None:
    (copy / "open_clip_model.safetensors").unlink()
    (copy / "open_clip_pytorch_model.bin").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="cannot load open_clip:local-dir:"):
        OpenCLIPEncoder(f"local-dir:{copy}", device="cpu").encode_texts(["a hen"])


def test_unknown_precision_device_and_batch_size_are_named(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"no precision 'fp8'\. There are: fp32, bf16, fp16, amp"):
        OpenCLIPEncoder(f"local-dir:{folder}", precision="fp8")
    with pytest.raises(SpecError, match="batch_size is 0"):
        OpenCLIPEncoder(f"local-dir:{folder}", batch_size=0)
    with pytest.raises(SpecError, match="no device 'gpu'"):
        OpenCLIPEncoder(f"local-dir:{folder}", device="gpu").encode_texts(["a hen"])


def test_the_demo_encoder_is_spelled_demo_and_takes_no_argument() -> None:
    with pytest.raises(SpecError, match="takes no argument"):
        DemoEncoder.from_spec("birds")
    if not (Path(sys.modules["descbench"].__file__ or "").parent / "demo" / "clip" / "open_clip_config.json").exists():
        pytest.skip("the small CLIP is not trained yet: make demo-models")
    encoder = ENCODERS["demo"].from_spec("")
    assert repr(encoder) == "demo"
    assert encoder.encode_texts(["a red belly"]).shape == encoder.encode_images(images()[:1]).shape
