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

from descbench.encoders import ENCODERS, DemoEncoder, Encoder, OpenCLIPEncoder
from descbench.errors import AccessError, DescbenchWarning, InputError, SpecError

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
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


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


@pytest.mark.parametrize("argument", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:nobody/nothing"])
def test_what_cannot_be_fetched_is_an_access_error_and_never_a_random_model(
    argument: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AccessError, match=r"cannot get open_clip:.*local-dir:PATH") as caught:
        OpenCLIPEncoder(argument, device="cpu").encode_texts(["a hen"])
    assert caught.value.exit_code == 5


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
    with pytest.raises(SpecError, match=r"no precision 'fp8'\. There are: fp32, bf16, fp16"):
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
