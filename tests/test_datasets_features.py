"""Image features from a file, with labels: every row is whole, and every label means something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from descbench.datasets import DATASETS, Dataset
from descbench.errors import InputError

FEATURES = np.array([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])
LABELS = np.array([1, -1, 0])


def dataset(path: Path):
    return DATASETS["features"].from_spec(str(path))


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_features_labels_names_and_ids_come_from_npz(tmp_path: Path) -> None:
    path = save(
        tmp_path / "x.npz",
        image_features=FEATURES.astype(np.float16),
        labels=LABELS,
        names=np.array(["cat", "dog"]),
        ids=np.array(["a.jpg", "b.jpg", "c.jpg"]),
    )
    data = dataset(path)
    assert isinstance(data, Dataset)
    assert data.features.dtype == np.float32
    assert np.allclose(data.features, [[0.6, 0.8], [0, 1], [-1, 0]], atol=1e-3)
    assert (data.ids, data.labels.tolist(), data.names) == (("a.jpg", "b.jpg", "c.jpg"), [1, -1, 0], ("cat", "dog"))
    assert [(s.id, s.label) for s in data.samples()] == [("a.jpg", 1), ("b.jpg", None), ("c.jpg", 0)]
    assert (len(data), repr(data)) == (3, f"features:{path}")
    with pytest.raises(InputError, match="image features, not images"):
        next(data.samples()).load()


def test_the_same_comes_from_safetensors_with_texts_in_its_metadata(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    metadata = {"class_names": json.dumps(["cat", "dog"]), "files": json.dumps(["a", "b", "c"])}
    save_file({"features": FEATURES, "labels": LABELS}, path, metadata=metadata)
    data = dataset(path)
    assert (data.ids, data.labels.tolist(), data.names) == (("a", "b", "c"), [1, -1, 0], ("cat", "dog"))
    assert np.allclose(np.linalg.norm(data.features, axis=1), 1)


def test_without_labels_names_and_ids_rows_are_unlabelled_and_numbered_by_content(tmp_path: Path) -> None:
    first, second = (
        dataset(save(tmp_path / "a.npz", features=FEATURES)),
        dataset(save(tmp_path / "b.npz", features=FEATURES)),
    )
    other = dataset(save(tmp_path / "c.npz", features=FEATURES * 2))
    assert (first.labels.tolist(), first.names) == ([-1, -1, -1], ())
    assert len(set(first.ids)) == 3
    assert (first.ids, first.fingerprint) == (second.ids, second.fingerprint)
    assert not set(first.ids) & set(other.ids)


@pytest.mark.parametrize(
    ("bad", "message"), [(np.nan, "NaN or infinity"), (-np.inf, "NaN or infinity"), (0, "all zero")]
)
def test_a_bad_row_is_named_with_its_id(tmp_path: Path, bad: float, message: str) -> None:
    features = FEATURES.copy()
    features[2, :] = bad
    path = save(tmp_path / "x.npz", image_features=features, ids=np.array(["a", "b", "c.jpg"]))
    with pytest.raises(InputError, match=rf"row 2 \('c\.jpg'\) (holds|is) {message}"):
        dataset(path)


def test_a_number_too_large_for_float32_is_not_taken_for_a_feature(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 0"):
        dataset(save(tmp_path / "x.npz", features=FEATURES * 1e300))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.array([0, 1, 2])}, r"label of row 2 .* is 2, and there are 2 names.*0 to 1, or -1"),
        ({"labels": np.array([0, -2, 1])}, r"label of row 1 .* is -2"),
        ({"labels": np.array([0, 1])}, r"labels are int64 of shape \(2,\)"),
        ({"labels": np.array([0.0, 1.0, 0.5])}, r"labels are float64"),
        ({"ids": np.array(["a", "b"])}, r"shape \(3, 2\); what would do: floats of shape \(2, D\)"),
        ({"features": np.array(3.0)}, r"of shape \(\)"),
        ({"features": np.array([[1, 2]])}, r"the features are int64"),
    ],
)
def test_what_does_not_fit_together_is_an_error(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(save(tmp_path / "x.npz", **({"features": FEATURES, "names": np.array(["cat", "dog"])} | arrays)))


def test_no_file_is_ever_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, features=FEATURES, names=np.array(["cat", {"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot be read as named arrays"):
        dataset(path)


def test_published_features_of_the_pets_are_read() -> None:
    path = Path(__file__).parents[2] / "shared" / "data" / "features" / "pets_vitb32_images.npz"
    if not path.exists():
        pytest.skip("no shared data here")
    data = dataset(path)
    assert (len(data), data.features.shape, len(data.names)) == (3669, (3669, 512), 37)
