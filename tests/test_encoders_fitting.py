"""A batch that does not fit into memory is halved, said once, and gives the same features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_encoders_open_clip import CONFIG, save_model

from descbench.datasets.pictures import PicturesDataset
from descbench.embedding import embed
from descbench.encoders import OpenCLIPEncoder
from descbench.errors import DescbenchWarning, InputError

TEXTS = [f"a hen with {number} red combs" for number in range(11)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small"
    save_model(path, CONFIG)
    return path


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(11)]


def limited(folder: Path, most: int) -> tuple[OpenCLIPEncoder, list[int]]:
    """An encoder whose towers have room for so many at once, and the sizes that they were given."""
    encoder = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", batch_size=8)
    towers, sizes = encoder._towers, list[int]()

    def bounded(tower: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def run(*pixels: torch.Tensor, **tokens: torch.Tensor) -> torch.Tensor:
            (size,) = {len(rows) for rows in (*pixels, *tokens.values())}
            sizes.append(size)
            if size > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return tower(*pixels, **tokens)

        return run

    towers = replace(towers, encode_images=bounded(towers.encode_images), encode_texts=bounded(towers.encode_texts))
    encoder.__dict__["_towers"] = towers
    return encoder, sizes


@pytest.mark.parametrize("kind", ["image", "text"])
def test_it_is_halved_until_it_fits_and_stays_so(kind: str, folder: Path) -> None:
    whole = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu", batch_size=8)
    encoder, sizes = limited(folder, 3)
    with pytest.warns(DescbenchWarning) as told:
        found = encoder.encode_images(pictures()) if kind == "image" else encoder.encode_texts(TEXTS)
    expected = whole.encode_images(pictures()) if kind == "image" else whole.encode_texts(TEXTS)
    assert torch.allclose(found, expected, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 1]  # 11 in batches of 8 and 3
    (one,) = told
    assert str(one.message) == (
        f"8 {kind}s at once do not fit into the memory of cpu with {encoder!r}; it goes on with 2 at once."
    )


def test_what_fits_is_one_batch_and_nothing_is_said(folder: Path) -> None:
    encoder, sizes = limited(folder, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_images(pictures())
    assert sizes == [8, 3]


def test_a_size_that_does_not_fit_any_more_is_halved_again(folder: Path) -> None:
    encoder, sizes = limited(folder, 4)
    with pytest.warns(DescbenchWarning, match="8 images at once .* with 4 at once"):
        encoder.encode_images(pictures())
    tighter, _ = limited(folder, 1)
    encoder.__dict__["_towers"] = tighter._towers  # another program took some of the memory
    sizes.clear()
    with pytest.warns(DescbenchWarning, match="4 images at once .* with 1 at once"):
        encoder.encode_images(pictures())


@pytest.mark.parametrize("kind", ["image", "text"])
def test_one_alone_that_does_not_fit_is_one_clear_line(kind: str, folder: Path) -> None:
    encoder, sizes = limited(folder, 0)
    encode = encoder.encode_images if kind == "image" else encoder.encode_texts
    with pytest.raises(InputError) as refused:
        encode(pictures() if kind == "image" else TEXTS)  # type: ignore[operator]
    assert sizes == [8, 4, 2, 1]
    assert str(refused.value).startswith(f"one {kind} alone does not fit into the memory of cpu with {encoder!r}: CUDA")
    assert "bf16" in str(refused.value)


def test_a_data_set_is_encoded_all_the_same(folder: Path) -> None:
    encoder, _ = limited(folder, 2)
    with pytest.warns(DescbenchWarning, match="8 images at once"):
        found = embed(PicturesDataset(pictures()), encoder, batch_size=8)
    whole = OpenCLIPEncoder(f"local-dir:{folder}", device="cpu").encode_images(pictures())
    assert np.allclose(found.features, whole.numpy(), atol=1e-6)


def test_another_error_of_torch_is_not_taken_for_it(folder: Path) -> None:
    encoder, _ = limited(folder, 8)

    def broken(pixels: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    encoder.__dict__["_towers"] = replace(encoder._towers, encode_images=broken)
    with pytest.raises(RuntimeError, match="mat1"):
        encoder.encode_images(pictures())
