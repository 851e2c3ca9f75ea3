"""Two functions are an encoder like any other: checked, of unit length, and never kept under a nameless key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import descbench as db
from descbench.encoders import Encoder
from descbench.errors import InputError, SpecError
from descbench.store import CachedEncoder
from descbench.testing import check_encoder

WORDS = ["red", "green", "blue"]


def colours(images: Sequence[Image.Image]) -> torch.Tensor:
    """The mean colour, in no particular length."""
    return torch.tensor(np.array([np.asarray(image).reshape(-1, 3).mean(axis=0) + 1 for image in images]))


def words(texts: Sequence[str]) -> np.ndarray:
    return np.array([[1 + 90 * (word in text) for word in WORDS] for text in texts], dtype=np.float16)


def square(colour: str) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


def test_a_pair_of_functions_classifies() -> None:
    encoder = db.encoder((colours, words), fingerprint="mean colour", name="colours")
    classifier = db.Classifier(db.Vocabulary(WORDS), db.method("classname"), encoder)
    assert classifier.predict([square("blue"), square("red")], top_k=1).names() == [["blue"], ["red"]]
    assert isinstance(encoder, Encoder)
    assert (repr(encoder), encoder.fingerprint, encoder.logit_scale) == ("colours", "callables:mean colour", 100.0)


def test_tensors_and_arrays_of_any_length_become_unit_rows() -> None:
    encoder = db.encoder((colours, words), fingerprint="mean colour")
    check_encoder(encoder, quiet=True)
    rows = encoder.encode_texts(["a red thing"])
    assert rows.dtype == torch.float32
    assert np.allclose(rows, np.array([[91, 1, 1]]) / np.sqrt(91**2 + 2), atol=1e-6)
    assert encoder.encode_texts([]).shape == encoder.encode_images([]).shape == (0, 3)


def test_a_pair_can_be_cached_and_seen_in_views(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return words(texts)

    for _ in range(2):
        CachedEncoder(db.encoder((colours, counted), fingerprint="mean colour"), tmp_path).encode_texts(["red", "blue"])
    assert sorted(asked) == ["blue", "red"]
    views = db.encoder((colours, words), fingerprint="mean colour", views="crops(3)")
    assert views.encode_images([square("green")]).shape == (1, 3)


def test_functions_without_a_fingerprint_are_refused() -> None:
    with pytest.raises(InputError, match=r"need a fingerprint.*name the model and its weights"):
        db.encoder((colours, words))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((colours, lambda texts: words(texts)[:1]), r"shape \(1, 3\).*\(2, D\)"),
        ((colours, lambda texts: words(texts) * np.nan), "row 0 .* holds NaN"),
        ((colours, lambda texts: words(texts) * 0), "row 0 .* is all zero"),
        ((colours, lambda texts: words(texts).astype(int)), "int64"),
        ((colours, lambda texts: words(texts)[:, None]), "one vector each"),
        ((lambda images: colours(images)[:, :2], words), "of one width"),
    ],
)
def test_rows_of_another_kind_are_named(pair: tuple, message: str) -> None:
    encoder = db.encoder(pair, fingerprint="odd")
    with pytest.raises(InputError, match=message):
        (encoder.encode_texts(["red", "blue"]), encoder.encode_images([square("red")]))


@pytest.mark.parametrize(("pair", "kind"), [((colours, None), InputError), ((colours,), SpecError), (5, SpecError)])
def test_what_are_not_two_functions_is_refused(pair: object, kind: type) -> None:
    with pytest.raises(kind, match=r"encode_texts|is spelled"):
        db.encoder(pair, fingerprint="odd")  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), "100", None])
def test_a_scale_is_a_positive_number(scale: object) -> None:
    with pytest.raises(InputError, match=r"logit_scale is .* one positive number"):
        db.encoder((colours, words), fingerprint="odd", logit_scale=scale)
