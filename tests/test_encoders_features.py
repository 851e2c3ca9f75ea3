"""Text features from a file: found by the exact text, and never made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descbench.encoders import ENCODERS, Encoder
from descbench.errors import InputError

TEXTS = ["a cat", "a dog", "a crème brûlée"]
FEATURES = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]], dtype=np.float32)


def encoder(path: Path) -> Encoder:
    return ENCODERS["features"].from_spec(str(path))


@pytest.fixture(params=["npz", "safetensors"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from safetensors.numpy import save_file

    path = tmp_path / f"texts.{request.param}"
    if request.param == "npz":
        np.savez(path, texts=np.array(TEXTS), text_features=FEATURES.astype(np.float16), logit_scale=np.array(50.0))
    else:
        tensors = {"text_features": FEATURES, "logit_scale": np.array([50.0], dtype=np.float32)}
        save_file(tensors, path, metadata={"texts": json.dumps(TEXTS), "format": "pt"})
    return path


def test_features_are_found_by_the_exact_text_as_float32_unit_rows(path: Path) -> None:
    found = encoder(path).encode_texts(["a crème brûlée", "a cat", "a cat"]).numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, [[-1, 0], [0.6, 0.8], [0.6, 0.8]])
    assert encoder(path).logit_scale == 50.0
    assert repr(encoder(path)) == f"features:{path}"


def test_an_unknown_text_is_named_with_the_nearest_known_one(path: Path) -> None:
    with pytest.raises(InputError, match=r"no features of the text 'a cat\.'; did you mean 'a cat'\? It holds 3 texts"):
        encoder(path).encode_texts(["a dog", "a cat."])
    with pytest.raises(InputError, match=r"no features of the text 'xyz'\. It holds"):
        encoder(path).encode_texts(["xyz"])


def test_images_are_refused_since_it_has_text_features_only(path: Path) -> None:
    with pytest.raises(InputError, match="text features only"):
        encoder(path).encode_images([Image.new("RGB", (4, 4))])


def test_the_scale_is_100_where_the_file_has_none_and_the_fingerprint_is_its_content(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.npz", "b.npz", "c.npz"))
    np.savez(first, texts=np.array(TEXTS), text_features=FEATURES)
    second.write_bytes(first.read_bytes())
    np.savez(third, texts=np.array(TEXTS), text_features=FEATURES * np.array([[1.0, -1.0]]))
    assert encoder(first).logit_scale == 100.0
    assert encoder(first).fingerprint == encoder(second).fingerprint != encoder(third).fingerprint


@pytest.mark.parametrize(
    ("bad", "message"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (0, "all zero")]
)
def test_a_bad_row_is_named(tmp_path: Path, bad: float, message: str) -> None:
    features = FEATURES.copy()
    features[1] = bad
    np.savez(tmp_path / "t.npz", texts=np.array(TEXTS), text_features=features)
    with pytest.raises(InputError, match=rf"row 1 \('a dog'\) (holds|is) {message}"):
        encoder(tmp_path / "t.npz")


def test_a_file_that_is_missing_foreign_or_pickled_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        encoder(tmp_path / "none.npz")
    for name, content in (("a.npz", b""), ("b.npz", b"text"), ("c.safetensors", b"text"), ("d.npz", b"PK\x03\x04..")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read as named arrays[^\n]*$"):
            encoder(tmp_path / name)
    np.savez(tmp_path / "e.npz", texts=np.array(TEXTS, dtype=object), text_features=FEATURES)
    with pytest.raises(InputError, match="cannot be read as named arrays"):
        encoder(tmp_path / "e.npz")
    np.save(tmp_path / "f.npy", FEATURES)
    with pytest.raises(InputError, match="cannot be read as named arrays"):
        encoder(tmp_path / "f.npy")
    np.savez(tmp_path / "g.npz", text_features=FEATURES)
    with pytest.raises(InputError, match=r"no array 'texts'; it has: 'text_features'"):
        encoder(tmp_path / "g.npz")
    np.savez(tmp_path / "h.npz", texts=np.array(TEXTS[:2]), text_features=FEATURES)
    with pytest.raises(InputError, match=r"shape \(3, 2\); what would do: floats of shape \(2, D\)"):
        encoder(tmp_path / "h.npz")
