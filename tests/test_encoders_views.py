"""Crops as one feature: the weights of the definition, the same for a picture wherever it stands, texts untouched."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from descbench.encoders.views import Crops, Views
from descbench.errors import InputError, SpecError
from descbench.testing import FakeEncoder, check_encoder


def picture(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class Mean:
    """Sees the mean colour of a picture, as a unit vector; so a crop is like the whole where its colour is."""

    name = fingerprint = "mean"
    logit_scale = 100.0

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        rows = torch.tensor(np.array([np.asarray(image.convert("RGB")).mean((0, 1)) for image in images]))
        return (rows / rows.norm(dim=1, keepdim=True)).float()

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(3)[[len(text) % 3 for text in texts]]


def test_a_picture_is_the_mean_of_its_crops_weighted_by_their_likeness_to_the_whole() -> None:
    image = picture(1)
    inner, views = Mean(), Crops(7)
    (found,) = Views(inner, views).encode_images([image])
    whole = inner.encode_images([image])[0].double().numpy()
    crops = [inner.encode_images([crop])[0].double().numpy() for crop in views.of(image)]
    weights = [math.exp(math.e**4 * float(whole @ crop)) for crop in crops]
    expected = sum(weight * crop for weight, crop in zip(weights, crops, strict=True)) / sum(weights)
    assert np.allclose(found.numpy(), expected / np.linalg.norm(expected), atol=1e-6)


def test_the_contract_of_an_encoder_holds() -> None:
    check_encoder(Views(FakeEncoder(), Crops(5)))


def test_crops_are_squares_inside_the_picture_of_half_to_nine_tenths_of_its_shorter_side() -> None:
    for width, height in ((64, 48), (30, 200), (1, 1), (1, 9)):
        for crop in Crops(40).of(picture(2, width, height)):
            assert crop.size[0] == crop.size[1]
            assert max(1, round(0.5 * min(width, height)) - 1) <= crop.size[0] <= max(1, 0.9 * min(width, height) + 1)


def test_crops_follow_from_the_pixels_and_the_seed_alone() -> None:
    def bytes_of(crops: list[Image.Image]) -> list[bytes]:
        return [crop.tobytes() for crop in crops]

    one = bytes_of(Crops(9).of(picture(3)))
    assert bytes_of(Crops(9).of(picture(3))) == one
    assert bytes_of(Crops(9, seed=1).of(picture(3))) != one
    assert len({*one}) > 1


def test_views_are_another_encoder_to_a_cache_and_leave_texts_alone() -> None:
    inner = FakeEncoder()
    names = {Views(inner, views).fingerprint for views in (Crops(5), Crops(6), Crops(5, seed=1))} | {inner.fingerprint}
    assert len(names) == 4
    assert torch.equal(Views(inner, Crops()).encode_texts(["hen"]), inner.encode_texts(["hen"]))


@pytest.mark.parametrize("views", [Crops(), Crops(5), Crops(5, seed=2)])
def test_a_spelling_is_the_repr(views: Crops) -> None:
    assert Crops.parse(repr(views)) == views


@pytest.mark.parametrize("spec", ["", "crop(60)", "crops(sixty)", "crops(60, sed=1)", "crops(60)(2)", "(" * 5000, "60"])
def test_a_wrong_spelling_is_one_clear_line(spec: str) -> None:
    with pytest.raises(SpecError, match=r"no views .*; write crops\(60\)"):
        Crops.parse(spec)


def test_a_number_that_cannot_be_is_named() -> None:
    with pytest.raises(InputError, match="count=0 of crops is not possible; it is a whole number from 1 on"):
        Crops.parse("crops(0)")
