"""Crops as one feature by the weights of the definition, or kept apart; the same for a picture wherever it stands."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from descbench.encoders.views import Crops, Cuts, Resized, Views, cuts
from descbench.errors import InputError, SpecError
from descbench.testing import FakeEncoder, check_encoder

KINDS = (Crops(5), Crops(6), Crops(5, seed=1), Crops(5, apart=True), Resized(5), Resized(5, seed=1))


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


@pytest.mark.parametrize("views", [Crops(5), Crops(3, apart=True), Resized(4)])
def test_the_contract_of_an_encoder_holds(views: Cuts) -> None:
    check_encoder(Views(FakeEncoder(), views))


@pytest.mark.parametrize("views", [Crops(5, apart=True), Resized(5)])
def test_views_that_are_kept_apart_are_the_whole_picture_and_then_each_crop(views: Cuts) -> None:
    inner, images = FakeEncoder(dim=16), [picture(1), picture(2, 30, 70)]
    found = Views(inner, views).encode_images(images)
    assert found.shape == (2, 6, 16)
    for row, image in zip(found, images, strict=True):
        assert torch.equal(row, inner.encode_images([image, *views.of(image)]))


def test_without_pictures_there_are_no_views() -> None:
    encoder = FakeEncoder(dim=16)
    assert Views(encoder, Resized(5)).encode_images([]).shape == (0, 6, 16)
    assert Views(encoder, Crops(5)).encode_images([]).shape == (0, 16)


def test_only_views_that_every_method_sees_make_a_protocol() -> None:
    kinds = (Crops(5), Crops(5, apart=True), Resized(5))
    assert [Views(FakeEncoder(), views).protocol for views in kinds] == ["multi-view", "", ""]


def test_crops_are_squares_inside_the_picture_of_half_to_nine_tenths_of_its_shorter_side() -> None:
    for width, height in ((64, 48), (30, 200), (1, 1), (1, 9)):
        for crop in Crops(40).of(picture(2, width, height)):
            assert crop.size[0] == crop.size[1]
            assert max(1, round(0.5 * min(width, height)) - 1) <= crop.size[0] <= max(1, 0.9 * min(width, height) + 1)


@pytest.mark.parametrize("kind", [Crops, Resized])
def test_crops_follow_from_the_pixels_and_the_seed_alone(kind: type[Crops] | type[Resized]) -> None:
    def bytes_of(crops: list[Image.Image]) -> list[bytes]:
        return [crop.tobytes() for crop in crops]

    one = bytes_of(kind(9).of(picture(3)))
    assert bytes_of(kind(9).of(picture(3))) == one
    assert bytes_of(kind(9, seed=1).of(picture(3))) != one
    assert len({*one}) > 1


def test_resized_crops_have_the_areas_and_aspects_of_torchvision() -> None:
    boxes = np.array(Resized(4000).boxes((200, 160), np.random.default_rng(0)))
    theirs = torchvision_boxes(4000, 200, 160)
    for left, top, wide, high in (boxes.T, theirs.T):
        assert (left >= 0).all() and (top >= 0).all()
        assert (left + wide <= 200).all() and (top + high <= 160).all()
    for ours, other in zip(boxes.T, theirs.T, strict=True):  # two samples of one distribution: Kolmogorov-Smirnov
        assert ks_2samp(ours, other).pvalue > 0.001
    areas, aspects = boxes[:, 2] * boxes[:, 3] / 32_000, boxes[:, 2] / boxes[:, 3]
    assert 0.075 < areas.min() < 0.1 and areas.max() > 0.9
    assert 0.72 < aspects.min() < 0.76 and 1.31 < aspects.max() < 1.38


def torchvision_boxes(count: int, width: int, height: int) -> np.ndarray:
    image = Image.new("RGB", (width, height))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    return np.array([(left, top, wide, high) for top, left, high, wide in found])


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (3, 400)])
def test_where_no_draw_fits_the_crop_is_the_middle_as_torchvision_has_it(size: tuple[int, int]) -> None:
    assert set(Resized(20).boxes(size, np.random.default_rng(0))) == {tuple(torchvision_boxes(1, *size)[0].tolist())}


def test_a_resized_crop_is_a_square_and_half_of_them_are_seen_in_a_mirror() -> None:
    ramp = Image.fromarray(np.broadcast_to(np.arange(0, 250, dtype=np.uint8)[None, :, None], (200, 250, 3)).copy())
    crops = Resized(400).of(ramp)
    rows = [np.asarray(crop)[0, :, 0].astype(int) for crop in crops]
    assert all(crop.size[0] == crop.size[1] for crop in crops)
    rising = sum(row[-1] > row[0] for row in rows)
    assert 160 < rising < 240 and sum(row[-1] < row[0] for row in rows) == 400 - rising
    for width, height in ((1, 1), (1, 9), (2, 3)):
        assert len(Resized(30).of(picture(1, width, height))) == 30


def test_views_are_another_encoder_to_a_cache_and_leave_texts_alone() -> None:
    inner = FakeEncoder()
    names = {Views(inner, views).fingerprint for views in KINDS} | {inner.fingerprint}
    assert len(names) == len(KINDS) + 1
    assert torch.equal(Views(inner, Crops()).encode_texts(["hen"]), inner.encode_texts(["hen"]))


@pytest.mark.parametrize("views", KINDS)
def test_a_spelling_is_the_repr(views: Cuts) -> None:
    assert cuts(repr(views)) == views


def test_the_numbers_of_the_papers_are_the_defaults() -> None:
    assert (cuts("crops"), cuts("resized")) == (Crops(60), Resized(50))


WRONG = ["", "crop(60)", "crops(sixty)", "crops(60, sed=1)", "crops(60)(2)", "(" * 5000, "60", "resized(5, apart=True)"]


@pytest.mark.parametrize("spec", WRONG)
def test_a_wrong_spelling_is_one_clear_line(spec: str) -> None:
    with pytest.raises(SpecError, match=r"no views .*; write crops\(60\)"):
        cuts(spec)


def test_a_number_that_cannot_be_is_named() -> None:
    for spec, message in (
        ("crops(0)", "count=0 of crops is not possible; it is a whole number from 1 on"),
        ("resized(2.5)", "count=2.5 of resized is not possible"),
        ("resized(5, seed=-1)", "seed=-1 of resized is not possible; it is a whole number from 0 on"),
        ("crops(5, apart=1)", "apart=1 of crops is not possible; it is True or False"),
    ):
        with pytest.raises(InputError, match=message):
            cuts(spec)
