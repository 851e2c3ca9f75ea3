"""A heatmap shows where a text is similar: the same numbers as a loop over the definition, in the right place."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_encoders_transformers as theirs
import torch
from PIL import Image
from test_encoders_open_clip import ARCHITECTURES, CONFIG, images, save_model, words_tokenizer

import descbench as db
from descbench.demo import pointing as game
from descbench.demo.guide import TRAITS, Bird, species
from descbench.demo.renderer import parts, render
from descbench.encoders import OpenCLIPEncoder, TransformersEncoder
from descbench.errors import InputError
from descbench.explanation import Explanation, Reason
from descbench.heatmaps import Heatmap, Occlusion, heatmap, save_heatmaps
from descbench.heatmaps.drawing import ANCHORS, TOP, _font, _wrapped, colours
from descbench.heatmaps.seen import seen_box

State = dict[str, np.ndarray]
TOLERANCE = 1e-5


# Patches.


def opened(kind: str, folder: Path) -> OpenCLIPEncoder:
    config = json.loads(json.dumps({**CONFIG, "model_cfg": {"embed_dim": 32, **ARCHITECTURES[kind]}}))
    save_model(folder, config)
    if "hf_tokenizer_name" in config["model_cfg"]["text_cfg"]:
        words_tokenizer(folder)
    return OpenCLIPEncoder(f"local-dir:{folder}", device="cpu")


def weights(encoder: OpenCLIPEncoder) -> State:
    from safetensors.numpy import load_file

    return load_file(encoder._folder / "open_clip_model.safetensors")


def norm(x: np.ndarray, state: State, name: str, eps: float = 1e-5) -> np.ndarray:
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int) -> np.ndarray:
    """Attention of (L, D), head by head."""
    out = []
    for a, b, c in zip(*(np.split(x, heads, axis=-1) for x in (q, k, v)), strict=True):
        out.append(softmax(np.einsum("ld,md->lm", a, b) / np.sqrt(a.shape[-1])) @ c)
    return np.concatenate(out, axis=-1)


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x / np.sqrt(2))).numpy())


def patches_by_definition(state: State, pixels: np.ndarray, heads: int) -> np.ndarray:
    """One picture (3, H, W) -> (P, D): the whole of CLIP's ViT from its weights, value-value attention at the end."""
    kernel = state["visual.conv1.weight"]  # (width, 3, p, p)
    p = kernel.shape[-1]
    cut = pixels.reshape(3, pixels.shape[1] // p, p, pixels.shape[2] // p, p)
    x = np.einsum("cihjw,kchw->ijk", cut, kernel).reshape(-1, len(kernel))
    x = np.concatenate([state["visual.class_embedding"][None], x]) + state["visual.positional_embedding"]
    x = norm(x, state, "visual.ln_pre")
    blocks = 1 + max(int(key.split(".")[3]) for key in state if key.startswith("visual.transformer.resblocks"))
    for number in range(blocks):
        block = f"visual.transformer.resblocks.{number}"
        joined = norm(x, state, f"{block}.ln_1") @ state[f"{block}.attn.in_proj_weight"].T
        q, k, v = np.split(joined + state[f"{block}.attn.in_proj_bias"], 3, axis=-1)
        last = number == blocks - 1
        mixed = attended(v, v, v, heads) if last else attended(q, k, v, heads)
        mixed = mixed @ state[f"{block}.attn.out_proj.weight"].T + state[f"{block}.attn.out_proj.bias"]
        if last:
            return (norm(mixed[1:], state, "visual.ln_post") @ state["visual.proj"]).astype(np.float64)
        x = x + mixed
        inner = norm(x, state, f"{block}.ln_2") @ state[f"{block}.mlp.c_fc.weight"].T + state[f"{block}.mlp.c_fc.bias"]
        x = x + erf_gelu(inner) @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    raise AssertionError


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_patches_of_a_vit_are_those_of_a_loop_over_its_weights(tmp_path: Path) -> None:
    encoder = opened("CLIP", tmp_path / "model")
    pixels = torch.stack([encoder.preprocess(image) for image in images()])
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(pixels).numpy()
    assert found.shape == (5, 4, 4, 32)
    state = {key: value.astype(np.float64) for key, value in weights(encoder).items()}
    for picture, rows in zip(pixels.numpy(), found, strict=True):
        expected = unit(patches_by_definition(state, picture.astype(np.float64), heads=2))
        assert np.abs(rows.reshape(-1, 32) - expected).max() < TOLERANCE


def test_patches_of_siglip_are_what_its_pool_makes_of_one_patch_alone(tmp_path: Path) -> None:
    encoder = TransformersEncoder(str(theirs.save("siglip", tmp_path / "model")), device="cpu")
    pixels = torch.stack([encoder.preprocess(image) for image in images()])
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(pixels).numpy().reshape(5, 16, 32)
    from safetensors.numpy import load_file
    from transformers import AutoModel

    state = load_file(tmp_path / "model" / "model.safetensors")
    with torch.no_grad():
        tokens = AutoModel.from_pretrained(tmp_path / "model").vision_model(pixels).last_hidden_state.numpy()
    head = "vision_model.head"
    values = tokens @ state[f"{head}.attention.in_proj_weight"][64:].T + state[f"{head}.attention.in_proj_bias"][64:]
    x = values @ state[f"{head}.attention.out_proj.weight"].T + state[f"{head}.attention.out_proj.bias"]
    inner = (
        norm(x, state, f"{head}.layernorm", 1e-6) @ state[f"{head}.mlp.fc1.weight"].T + state[f"{head}.mlp.fc1.bias"]
    )
    inner = torch.nn.functional.gelu(torch.from_numpy(inner), approximate="tanh").numpy()
    expected = x + inner @ state[f"{head}.mlp.fc2.weight"].T + state[f"{head}.mlp.fc2.bias"]
    assert np.abs(found - unit(expected)).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["clip", "altclip", "chinese_clip", "clipseg", "metaclip_2"])
def test_patches_of_transformers_are_value_value_attention_in_the_last_block(kind: str, tmp_path: Path) -> None:
    encoder = TransformersEncoder(str(theirs.save(kind, tmp_path / "model")), device="cpu")
    pixels = torch.stack([encoder.preprocess(image) for image in images()])
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(pixels).numpy().reshape(5, 16, 24)
    from transformers import AutoModel

    model = AutoModel.from_pretrained(tmp_path / "model")
    state = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    inside = "clip." if hasattr(model, "clip") else ""
    with torch.no_grad():
        states = getattr(model, "clip", model).vision_model(pixels, output_hidden_states=True).hidden_states
    layer = f"{inside}vision_model.encoder.layers.1"
    for before, rows in zip(states[-2].numpy(), found, strict=True):
        normed = norm(before, state, f"{layer}.layer_norm1")
        v = normed @ state[f"{layer}.self_attn.v_proj.weight"].T + state[f"{layer}.self_attn.v_proj.bias"]
        mixed = attended(v, v, v, 2) @ state[f"{layer}.self_attn.out_proj.weight"].T
        mixed = mixed + state[f"{layer}.self_attn.out_proj.bias"]
        posted = norm(mixed[1:], state, f"{inside}vision_model.post_layernorm")
        assert np.abs(rows - unit(posted @ state[f"{inside}visual_projection.weight"].T)).max() < TOLERANCE


@pytest.mark.parametrize(("kind", "cells"), [("SigLIP", 10), ("CoCa", 4), ("CLIP", 4), ("CLIP with QuickGELU", 4)])
def test_reading_patches_leaves_the_features_of_pictures_as_they_were(kind: str, cells: int, tmp_path: Path) -> None:
    encoder = opened(kind, tmp_path / "model")
    before = encoder.encode_images(images())
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(torch.stack([encoder.preprocess(image) for image in images()]))
    assert found.shape == (5, cells, cells, 32)
    assert torch.allclose(found.norm(dim=-1), torch.ones(5, cells, cells), atol=1e-5)
    assert torch.equal(encoder.encode_images(images()), before)


def loaded(encoder: OpenCLIPEncoder) -> Any:
    import open_clip

    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{encoder._folder}", None)
    return model.eval().visual


@pytest.mark.parametrize("kind", ["SigLIP", "CoCa"])
def test_a_patch_is_what_the_pool_says_of_a_picture_that_is_that_patch_everywhere(kind: str, tmp_path: Path) -> None:
    encoder = opened(kind, tmp_path / "model")
    pixels = encoder.preprocess(images()[0])[None]
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(pixels)[0].flatten(0, 1)
    tower = loaded(encoder)
    with torch.no_grad():
        if kind == "SigLIP":
            tokens = tower.trunk.forward_features(pixels)[0, -100:]  # before them a class token
            expected = [tower.head(tower.trunk.attn_pool(token.expand(1, 7, -1)))[0] for token in tokens]
        else:
            tokens = tower.transformer(tower._embeds(pixels))[0, 1:]
            pooled = [tower.ln_post(tower.attn_pool(token.expand(1, 7, -1)))[0, 0] for token in tokens]
            expected = [one @ tower.proj for one in pooled]
    assert np.abs(found.numpy() - unit(torch.stack(expected).numpy())).max() < TOLERANCE


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_patches_of_a_plain_vit_of_timm_are_value_value_attention_in_the_last_block(pool: str, tmp_path: Path) -> None:
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": "linear"}
    model = {"embed_dim": 32, "vision_cfg": {**vision, "image_size": 160}, "text_cfg": CONFIG["model_cfg"]["text_cfg"]}
    save_model(tmp_path / "model", {**CONFIG, "model_cfg": model})
    encoder = OpenCLIPEncoder(f"local-dir:{tmp_path / 'model'}", device="cpu")
    pixels = encoder.preprocess(images()[0])[None]
    assert encoder.encode_patches is not None
    found = encoder.encode_patches(pixels)[0].flatten(0, 1).numpy()
    tower = loaded(encoder)
    trunk = tower.trunk
    with torch.no_grad():
        x = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(pixels)))
        for block in trunk.blocks[:-1]:
            x = block(x)
        last = trunk.blocks[-1]
        normed = last.norm1(x)[0].numpy()
        v = normed @ last.attn.qkv.weight.numpy()[-64:].T + last.attn.qkv.bias.numpy()[-64:]
        mixed = last.attn.proj(torch.from_numpy(attended(v, v, v, last.attn.num_heads)).float())
        expected = tower.head(trunk.fc_norm(trunk.norm(mixed[trunk.num_prefix_tokens :]))).numpy()
    assert np.abs(found - unit(expected)).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["ResNet", "ConvNeXt", "MobileCLIP", "EVA"])
def test_towers_without_patches_are_looked_at_by_occlusion(kind: str, tmp_path: Path) -> None:
    encoder = opened(kind, tmp_path / "model")
    assert encoder.encode_patches is None
    assert heatmap(images()[0], ["a hen"], encoder, Occlusion(2, 1)).by == "occlusion"
    with pytest.raises(InputError, match=r"has no patches.*occlusion"):
        heatmap(images()[0], ["a hen"], encoder, "patches")


def test_a_map_by_patches_is_the_cosine_of_patch_and_text(tmp_path: Path) -> None:
    encoder = opened("CLIP", tmp_path / "model")
    picture = images()[1]  # 30 x 50, squeezed
    heat = heatmap(picture, ["a hen", "tench"], encoder)
    assert (heat.by, heat.passes, heat.cells.shape) == ("patches", 1, (2, 4, 4))
    assert encoder.encode_patches is not None
    patches = encoder.encode_patches(encoder.preprocess(picture)[None])[0]
    texts = encoder.encode_texts(["a hen", "tench"])
    for t in range(2):
        for y in range(4):
            for x in range(4):
                assert heat.cells[t, y, x] == pytest.approx(float(patches[y, x] @ texts[t]), abs=1e-6)
    rival = heatmap(picture, ["a hen"], encoder, against=["tench", "a hen"])
    assert np.allclose(rival.cells[0], heat.cells[0] - (heat.cells[0] + heat.cells[1]) / 2, atol=1e-6)


# What an encoder sees.


@pytest.mark.parametrize("size", [(256, 256), (300, 200), (200, 301), (2000, 300), (37, 90), (3, 2), (1, 1)])
@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
def test_the_box_that_an_encoder_sees_is_that_of_its_preprocessing(mode: str, size: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    class Prepared:
        preprocess = staticmethod(image_transform_v2(PreprocessCfg(size=64, resize_mode=mode), is_train=False))

    reference = {"squash": size, "shortest": (min(size),) * 2, "longest": (max(size),) * 2}[mode]
    scaled = [max(1, round(64 * side / one)) for side, one in zip(size, reference, strict=True)]  # before cut or pad
    expected = []
    for side, drawn in zip(size, scaled, strict=True):
        before = round((drawn - 64) / 2)  # below 0 for padding
        expected.append((side * before / drawn, side * (before + 64) / drawn))
    found = seen_box(Prepared(), size)
    if mode == "squash":  # to the very edge, without a seam
        assert found == (0, 0, *size)
    for side, drawn, first, last, ends in zip(size, scaled, found[:2], found[2:], expected, strict=True):
        one_pixel = side / drawn  # of the 64 that the encoder sees
        assert np.abs(np.subtract((first, last), ends)).max() <= one_pixel
        if drawn == 64:
            assert np.abs(np.subtract((first, last), ends)).max() <= side / 200


def test_what_the_encoder_does_not_see_has_no_value() -> None:
    heat = Heatmap(("a",), np.ones((1, 3, 3), np.float32), (10, 0, 20, 10), (30, 10), "patches", 1)
    assert np.isnan(heat.map(0)[:, :9]).all() and np.isnan(heat.map(0)[:, 21:]).all()
    assert np.allclose(heat.map(0)[:, 10:20], 1)
    assert heat.maps.shape == (1, 10, 30) and heat.maps.dtype == np.float32


def test_values_between_the_middles_of_cells_lie_on_a_line() -> None:
    cells = np.array([[[0.0, 4.0], [8.0, 12.0]]], np.float32)
    heat = Heatmap(("a",), cells, (0, 0, 8, 4), (8, 4), "patches", 1)
    assert heat.map(0)[0].tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]
    assert heat.map(0)[:, 0].tolist() == [0, 2, 6, 8]
    assert heat.peak(0) == (6, 3)


# Occlusion.


class Reads:
    """Sees the mean colour of one region (left, top, right, bottom, in shares) and nothing else; texts are colours."""

    name = fingerprint = "reads"
    logit_scale = 100.0
    texts = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0)}  # noqa: RUF012

    def __init__(self, region: tuple[float, float, float, float]) -> None:
        self.region = region
        self.passes = 0

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([self.texts[text] for text in texts])

    def encode_images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        self.passes += len(pictures)
        rows = []
        for picture in pictures:
            left, top, right, bottom = (s * side for s, side in zip(self.region, picture.size * 2, strict=True))
            pixels = np.asarray(picture, dtype=np.float64)[round(top) : round(bottom), round(left) : round(right)]
            rows.append(unit(pixels.mean(axis=(0, 1)) + 1e-3))
        return torch.tensor(np.array(rows), dtype=torch.float32)


def half_red() -> Image.Image:
    picture = Image.new("RGB", (120, 60), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 60, 60))
    return picture


@pytest.mark.parametrize("fill", ["mean", "blur"])
@pytest.mark.parametrize("region", [(0.1, 0.1, 0.2, 0.3), (0.3, 0.6, 0.4, 0.9), (0.45, 0.0, 0.5, 0.15)])
def test_the_peak_lies_in_the_one_region_that_an_encoder_reads(
    region: tuple[float, float, float, float], fill: Any
) -> None:
    picture = half_red()
    if fill == "blur":  # of one colour everywhere, nothing would change
        picture.paste((250, 10, 10), tuple(round(s * side) for s, side in zip(region, (120, 60) * 2, strict=True)))
        picture.paste((0, 90, 255), (0, 0, 6, 60))
    heat = heatmap(picture, ["red"], Reads(region), Occlusion(10, 2, fill))
    x, y = heat.peak(0)
    left, top, right, bottom = (s * side for s, side in zip(region, (120, 60) * 2, strict=True))
    assert left - 12 <= x < right + 12 and top - 6 <= y < bottom + 6  # within a cell of it


def test_cells_are_the_mean_loss_over_the_windows_that_cover_them() -> None:
    picture, encoder, grid, window = half_red(), Reads((0.2, 0.2, 0.7, 0.8)), 5, 2
    heat = heatmap(picture, ["red", "green"], encoder, Occlusion(grid, window))
    assert encoder.passes == heat.passes == (grid - window + 1) ** 2 + 1
    pixels = np.asarray(picture)
    mean = np.rint(pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    texts = encoder.encode_texts(["red", "green"]).numpy()
    whole = encoder.encode_images([picture]).numpy()[0]
    for t in range(2):
        for y in range(grid):
            for x in range(grid):
                losses = []
                for top in range(grid - window + 1):
                    for left in range(grid - window + 1):
                        if top <= y < top + window and left <= x < left + window:
                            covered = pixels.copy()
                            covered[top * 12 : (top + window) * 12, left * 24 : (left + window) * 24] = mean
                            row = encoder.encode_images([Image.fromarray(covered)]).numpy()[0]
                            losses.append(float(texts[t] @ whole - texts[t] @ row))
                assert heat.cells[t, y, x] == pytest.approx(np.mean(losses), abs=1e-6)


def test_any_number_of_texts_takes_the_same_passes_and_progress_is_told() -> None:
    from descbench.progress import shown

    told = []
    encoder = Reads((0, 0, 1, 1))
    with shown(lambda *report: told.append(report)):
        heatmap(half_red(), ["red", "green"] * 10, encoder)
    assert encoder.passes == Occlusion().passes == 122
    assert told[-1] == ("covering parts of the picture", 121, 121)


@pytest.mark.parametrize(
    ("texts", "method", "message"),
    [
        ([], "auto", "needs at least one text"),
        ("red", "auto", "a list of texts"),
        (["red", " "], "auto", "not blank"),
        (["red"], "gradient", "no heatmap method 'gradient'; there are: auto"),
        (["red"], "patches", "has no patches"),
    ],
)
def test_what_no_heatmap_can_be_made_of_is_said(texts: Any, method: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(half_red(), texts, Reads((0, 0, 1, 1)), method)


@pytest.mark.parametrize("options", [{"grid": 2, "window": 3}, {"window": 0}, {"fill": "noise"}])
def test_windows_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not possible"):
        Occlusion(**options)


# Drawing.


def lightness(colour: Sequence[float]) -> float:
    """CIE L* of an sRGB colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
    y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_the_colours_grow_lighter_evenly() -> None:
    levels = np.array([lightness(colours(np.array(share))) for share in np.linspace(0, 1, 51)])
    steps = np.diff(levels)
    assert (steps > 0).all()
    assert steps.max() / steps.mean() < 1.6 and steps.min() / steps.mean() > 0.5
    assert levels[0] < 12 and levels[-1] > 85
    assert np.allclose(colours(np.linspace(0, 1, len(ANCHORS))), ANCHORS)


def pictures_of_odd_kinds() -> dict[str, Image.Image]:
    half = half_red()
    rgba = half.convert("RGBA")
    rgba.putalpha(128)
    return {
        "one pixel": Image.new("RGB", (1, 1), "red"),
        "wide": half.resize((2000, 30)),
        "tall": half.resize((9, 700)),
        "grey": half.convert("L"),
        "transparent": rgba,
        "16 bit": Image.fromarray(np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)),
    }


@pytest.mark.parametrize("kind", pictures_of_odd_kinds())
def test_any_picture_becomes_a_sheet(kind: str, tmp_path: Path) -> None:
    picture = pictures_of_odd_kinds()[kind]
    encoder = Reads((0, 0, 1, 1))
    heat = heatmap(picture, ["red"], encoder, Occlusion(3, 1))
    assert heat.maps.shape == (1, *picture.size[::-1])
    assert not np.isnan(heat.maps).any()
    assert heat.overlay(picture).width >= 250
    written = save_heatmaps(tmp_path / "new" / "sheet.png", picture, ["red", "green"], encoder, method=Occlusion(3, 1))
    with Image.open(written) as made:
        assert made.width >= 560 and made.height > 200
    assert [file.name for file in written.parent.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("text", ["a red belly", "word " * 60, "unbreakable" * 20, "ünïcödé – “quoted” " * 9])
@pytest.mark.parametrize("size", [(120, 60), (9, 700)])
def test_no_text_is_clipped(text: str, size: tuple[int, int]) -> None:
    lines = _wrapped(text, 250)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(_font(14).getlength(line) <= 250 for line in lines)
    heat = Heatmap((text,), np.eye(3, dtype=np.float32)[None], (0, 0, *size), size, "patches", 1)
    drawn = np.asarray(heat.overlay(half_red().resize(size)))
    words = drawn[-19 * len(lines) - 4 :]
    assert (words < 128).any(), "the text is there"
    assert (drawn[-1] == 255).all(), "and ends above the last row"


def test_the_brightest_place_of_an_overlay_is_the_maps_peak() -> None:
    cells = np.zeros((1, 4, 4), np.float32)
    cells[0, 1, 2] = 1
    grey = Image.new("RGB", (80, 80), (120, 120, 120))
    drawn = Heatmap(("a",), cells, (0, 0, 80, 80), (80, 80), "patches", 1).overlay(grey, alpha=1.0)
    pixels = np.asarray(drawn, dtype=int)[:300, :300].sum(axis=2)
    y, x = np.divmod(pixels.argmax(), 300)
    assert 150 <= x < 225 and 75 <= y < 150


def test_an_overlay_refuses_another_picture_and_a_strange_alpha() -> None:
    heat = heatmap(half_red(), ["red"], Reads((0, 0, 1, 1)), Occlusion(2, 1))
    with pytest.raises(InputError, match="give its own"):
        heat.overlay(Image.new("RGB", (5, 5)))
    with pytest.raises(InputError, match="alpha=2"):
        heat.overlay(half_red(), alpha=2)
    with pytest.raises(InputError, match=r"sheet\.pdf.*\.png"):
        save_heatmaps("sheet.pdf", half_red(), ["red"], Reads((0, 0, 1, 1)))


class ReadsNames(Reads):
    """Knows some texts with names, too, in which only the colour means anything."""

    texts = {f"{name} {colour}": said for name in ("hen", "cock", "object") for colour, said in Reads.texts.items()} | {
        "a hen": (1.0, 0.0, 0.0),
        "a cock": (0.0, 1.0, 0.0),
    }


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Heatmap]:
    """The heatmaps that sheets are made of."""
    from descbench.heatmaps import drawing

    found: list[Heatmap] = []

    def seen(*given: Any, **named: Any) -> Heatmap:
        found.append(heatmap(*given, **named))
        return found[-1]

    monkeypatch.setattr(drawing, "heatmap", seen)
    return found


def test_a_sheet_of_an_explanation_takes_the_texts_that_speak_for_it_without_names_less_those_of_both_classes(
    tmp_path: Path, made: list[Heatmap]
) -> None:
    reasons = (Reason("hen green", 0.1, 0.05, 0.5), Reason("Hen red", 0.9, 0.45, 0.5))
    told = Explanation("hen", "cock", "dclip", 0.5, 0.1, reasons, (Reason("cock green", 0.1, 0.1, 1.0),), "mean_score")
    encoder = ReadsNames((0, 0, 1, 1))
    save_heatmaps(tmp_path / "sheet.png", half_red(), told, encoder, method=Occlusion(2, 1))
    assert (made[0].texts, set(made[0].against)) == (("object red",), {"object red", "object green"})
    maps = heatmap(half_red(), ["object red", "object green"], encoder, Occlusion(2, 1)).cells
    assert np.allclose(made[0].cells[0], (maps[0] - maps[1]) / 2, atol=1e-6)


def test_where_names_alone_tell_two_classes_apart_they_are_looked_for(tmp_path: Path, made: list[Heatmap]) -> None:
    told = Explanation(
        *("hen", "cock", "template", 0.5, 0.1),
        *((Reason("a hen", 0.5, 0.5, 1.0),), (Reason("a cock", 0.1, 0.1, 1.0),), "mean_score"),
    )
    save_heatmaps(tmp_path / "sheet.png", half_red(), told, ReadsNames((0, 0, 1, 1)), method=Occlusion(2, 1))
    assert (made[0].texts, made[0].against) == (("a hen",), ("a hen", "a cock"))


def drawn_levels(heat: Heatmap, row: int) -> tuple[float, float]:
    """The share of the colours at the darkest and at the brightest place of an overlay."""
    drawn = np.asarray(heat.overlay(Image.new("RGB", heat.size), row, alpha=1.0), dtype=float)[:300, :300]
    table = colours(np.linspace(0, 1, 201))
    shares = [np.abs(table - drawn[y, x]).sum(axis=1).argmin() / 200 for y in (75, 225) for x in (75, 225)]
    return min(shares), max(shares)


def test_a_map_is_dark_where_a_place_is_nothing_to_its_text_and_everywhere_if_it_is_hardly_seen() -> None:
    cells = np.array([[[1, 0.5], [0, -3]], [[0.02, 0.02], [0.02, 0.01]], [[-1, -2], [-1, -2]]], np.float32)
    about = (("a", "b", "c"), cells, (0, 0, 80, 80), (80, 80))
    for heat in (Heatmap(*about, "occlusion", 5), Heatmap(*about, "patches", 1, ("a", "b"))):
        assert drawn_levels(heat, 0) == pytest.approx((0, 1), abs=0.03)
        assert drawn_levels(heat, 1) == pytest.approx((0.1, 0.2), abs=0.03)  # of a tenth of the strongest map
        assert drawn_levels(heat, 2) == pytest.approx((0, 0), abs=0.03)
    cosines = Heatmap(*about, "patches", 1)  # where 0 means nothing
    for row in range(3):
        assert drawn_levels(cosines, row) == pytest.approx((0, 1), abs=0.03)


# The aviary, where the truth is known.


def test_a_changed_trait_changes_the_picture_at_its_part_only() -> None:
    """The masks against the pictures themselves: two birds of one seed differ in nothing but their traits."""
    for trait, names in game.PARTS.items():
        bird = species()[7].bird
        for seed in (1, 2):
            one, other = (Bird(tuple(v if t == trait else bird[t] for t in TRAITS)) for v in TRAITS[trait][1:3])
            pictures = [np.asarray(render(b, seed), dtype=int) for b in (one, other)]
            differs = np.abs(pictures[0] - pictures[1]).max(axis=2) > 60
            where = np.zeros_like(differs)
            # The tail has the body's colour and the crest the head's, each a shade darker.
            for name in (*names, *{"body": ("tail",), "head": ("crest",)}.get(trait, ())):
                for b in (one, other):
                    drawn = parts(b, seed).get(name)
                    where |= False if drawn is None else np.asarray(drawn) > 0
            assert differs.sum() > 10
            assert (differs & ~game._grown(where, 2)).sum() == 0, trait


def test_parts_do_not_overlap_and_a_bare_crown_has_no_crest() -> None:
    for page in species()[::7]:
        drawn = parts(page.bird, 3, 64)
        total = sum((np.asarray(mask) > 0).astype(int) for mask in drawn.values())
        assert total.max() == 1
        assert ("crest" in drawn) == (page.bird["crest"] != "bare")
        assert {mask.size for mask in drawn.values()} == {(64, 64)}


def test_a_grown_part_is_what_lies_within_reach() -> None:
    mask = np.zeros((12, 9), dtype=bool)
    mask[3, 4] = mask[11, 8] = True
    found = game._grown(mask, 3)
    for y in range(12):
        for x in range(9):
            assert found[y, x] == (min((y - 3) ** 2 + (x - 4) ** 2, (y - 11) ** 2 + (x - 8) ** 2) <= 9)


def test_the_pointing_game_counts_hits_as_a_loop_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """An oracle that draws the part of each true text as its map always hits, and never another part."""
    from descbench.demo.reasons import trait_of

    drawn = game.shown

    def knows(image: Image.Image, texts: Sequence[str], *_: Any) -> Heatmap:
        bird, seed = next((p.bird, s) for s, p in ((game.FIRST_SEED + i, species()[i]) for i in range(3))
                          if render(p.bird, s).tobytes() == image.tobytes())  # fmt: skip
        masks = drawn(bird, seed)
        cells = []
        for text in texts:
            trait, value = trait_of(text)  # type: ignore[misc]
            cells.append(masks.get(trait, np.zeros((128, 128))) * (bird[trait] == value))
        return Heatmap(tuple(texts), np.array(cells, np.float32), (0, 0, 128, 128), (128, 128), "occlusion", 1)

    monkeypatch.setattr(game, "heatmap", knows)
    found = {kind: game.total(points) for kind, points in game.pointing(db.encoder("demo"), 3).items()}
    masks = [mask for i in range(3) for mask in drawn(species()[i].bird, game.FIRST_SEED + i).values()]
    for kind in ("each trait", "less the other values", "its map alone"):
        assert (found[kind].pairs, found[kind].on, found[kind].near) == (len(masks),) * 3
        assert found[kind].chance == pytest.approx(sum(mask.mean() for mask in masks))
    assert (found["shuffled"].pairs, found["shuffled"].on) == (len(masks), 0)
    assert 3 <= found["drawn"].pairs <= 3 * TOP and found["drawn"].on == found["drawn"].pairs


@pytest.fixture(scope="module")
def demo() -> Callable[[], Any]:
    return lambda: db.encoder("demo")


def test_the_demo_points_at_bellies_and_heads_and_not_by_chance(demo: Callable[[], Any]) -> None:
    found = game.pointing(demo(), 4, method=Occlusion(8, 2))["each trait"]
    easy = found["belly"] + found["head"] + found["wings"]
    assert easy.near >= 0.75 * easy.pairs > easy.chance_near * 4


@pytest.mark.slow
def test_heatmaps_of_the_demo_point_at_the_part_that_the_text_names(demo: Callable[[], Any]) -> None:
    """The figures of docs/heatmaps.md, on half as many pictures."""
    found = {kind: game.total(points) for kind, points in game.pointing(demo(), 40).items()}
    for kind in ("drawn", "each trait"):
        assert found[kind].near >= 0.6 * found[kind].pairs
    assert found["each trait"].pairs > 300
    assert found["shuffled"].near < 0.25 * found["shuffled"].pairs
