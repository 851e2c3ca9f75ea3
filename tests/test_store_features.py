"""The feature cache: what was encoded once is read back the same, whatever happened in between."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from descbench.errors import DescbenchWarning, InputError
from descbench.store import CachedEncoder
from descbench.store import features as module
from descbench.store import shards as shards_module
from descbench.store.shards import Shards


class Hashing:
    """Unit rows that depend on the text alone; counts what it is asked and refuses to be loaded where told so."""

    name = "hashing"

    def __init__(self, fingerprint: str = "hashing/1", loadable: bool = True, fails_after: int = 10**9) -> None:
        self.fingerprint = fingerprint
        self.loadable = loadable
        self.fails_after = fails_after
        self.seen: list[str] = []

    def __repr__(self) -> str:
        return "hashing"

    @property
    def logit_scale(self) -> float:
        assert self.loadable, "the model was loaded"
        return 42.5

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        assert self.loadable, "the model was loaded"
        if len(self.seen) >= self.fails_after:
            raise RuntimeError("killed")
        self.seen += texts
        return torch.from_numpy(rows_of(texts))

    def encode_images(self, images: Sequence[object]) -> torch.Tensor:
        return torch.zeros(len(images), 4)


def rows_of(texts: Sequence[str]) -> np.ndarray:
    rows = np.array([[len(t) + 1, sum(map(ord, t)) % 97, hash_of(t) % 89, 1] for t in texts], dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def hash_of(text: str) -> int:
    return sum((i + 1) * ord(c) for i, c in enumerate(text))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def rows_in(shard: Path) -> int:
    """How many rows a shard says it has, as any reader of safetensors sees it."""
    with safe_open(shard, framework="numpy") as file:
        return int(file.get_slice("features").get_shape()[0])


TEXTS = ["a hen", "", "naïve 🐦\n{x}", "a hen", "half \ud83d", "y" * 5000]


def test_a_text_is_encoded_once_and_comes_back_the_same(tmp_path: Path) -> None:
    inner = Hashing()
    cached = CachedEncoder(inner, tmp_path)
    assert np.array_equal(cached.encode_texts(TEXTS).numpy(), rows_of(TEXTS))
    assert sorted(inner.seen) == sorted(set(TEXTS))
    assert np.array_equal(cached.encode_texts(["new", *TEXTS]).numpy(), rows_of(["new", *TEXTS]))
    assert len(inner.seen) == len(set(TEXTS)) + 1
    assert (cached.name, cached.fingerprint, repr(cached)) == ("hashing", "hashing/1", "hashing")


def test_a_warm_run_does_not_load_the_model_not_even_for_its_scale(tmp_path: Path) -> None:
    CachedEncoder(Hashing(), tmp_path).encode_texts(TEXTS)
    warm = CachedEncoder(Hashing(loadable=False), tmp_path)
    found = warm.encode_texts(list(reversed(TEXTS)))
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), rows_of(list(reversed(TEXTS))))
    assert warm.logit_scale == 42.5


def test_encoders_of_different_fingerprints_never_meet(tmp_path: Path) -> None:
    CachedEncoder(Hashing("one"), tmp_path).encode_texts(["a"])
    other = Hashing("two")
    CachedEncoder(other, tmp_path).encode_texts(["a"])
    assert other.seen == ["a"]
    assert len(list(tmp_path.iterdir())) == 2


def test_images_are_kept_by_id_and_plain_images_pass_through(tmp_path: Path) -> None:
    features = rows_of(["x", "y"])
    CachedEncoder(Hashing(), tmp_path).keep_images(["id/x", "id/y"], torch.from_numpy(features))
    cached = CachedEncoder(Hashing(loadable=False), tmp_path)
    known, found = cached.recall_images(["id/y", "id/z", "id/x", "id/y"])
    assert known.tolist() == cached.knows_images(["id/y", "id/z", "id/x", "id/y"]).tolist() == [True, False, True, True]
    assert np.array_equal(found, features[[1, 0, 1]])
    assert cached.encode_images([object(), object()]).shape == (2, 4)
    cached.keep_images([], np.zeros((0, 4)))


def test_an_interrupted_run_loses_at_most_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    texts = [f"text {i}" for i in range(100)]
    with pytest.raises(RuntimeError, match="killed"):
        CachedEncoder(Hashing(fails_after=70), tmp_path).encode_texts(texts)
    inner = Hashing()
    assert np.array_equal(CachedEncoder(inner, tmp_path).encode_texts(texts).numpy(), rows_of(texts))
    assert len(inner.seen) == 30


def test_many_small_shards_become_one_with_the_same_rows(tmp_path: Path) -> None:
    cached, watching = CachedEncoder(Hashing(), tmp_path), CachedEncoder(Hashing(loadable=False), tmp_path)
    texts = [f"text {i}" for i in range(100)]
    early, _ = watching.recall_images(["none"])
    for text in texts:
        cached.encode_texts([text])
        if text == "text 20":
            assert np.array_equal(watching.encode_texts(texts[:21]).numpy(), rows_of(texts[:21]))
    assert not early.any()
    assert len(shards(tmp_path)) <= 33
    for warm in (cached, watching, CachedEncoder(Hashing(loadable=False), tmp_path)):
        assert np.array_equal(warm.encode_texts(texts).numpy(), rows_of(texts))


def _truncate(content: bytearray) -> bytearray:
    return content[: len(content) // 2]


def _flip(name: str) -> Callable[[bytearray], bytearray]:
    """One bit of one tensor."""

    def flip(content: bytearray) -> bytearray:
        start = 8 + int.from_bytes(content[:8], "little")
        content[start + json.loads(content[8:start])[name]["data_offsets"][0] + 2] ^= 8
        return content

    return flip


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        lambda content: bytearray(),
        lambda content: bytearray(b"\xff" * 50),
        lambda content: content[:-1],
        *map(_flip, ("hashes", "rows", "checksums")),
    ],
    ids=["half", "empty", "foreign", "a byte short", "hashes", "rows", "checksums"],
)
def test_a_damaged_shard_is_reported_left_out_and_computed_again(tmp_path: Path, spoil) -> None:
    CachedEncoder(Hashing(), tmp_path).encode_texts(["a", "b"])
    CachedEncoder(Hashing(), tmp_path).encode_texts(["c"])
    damaged = next(path for path in shards(tmp_path) if b'["a", "b"]' in path.read_bytes())
    damaged.write_bytes(spoil(bytearray(damaged.read_bytes())))
    inner = Hashing()
    cached = CachedEncoder(inner, tmp_path)
    with pytest.warns(DescbenchWarning, match=rf"{damaged.name}' is damaged") as caught:
        assert np.array_equal(cached.encode_texts(["a", "b", "c"]).numpy(), rows_of(["a", "b", "c"]))
        cached.encode_texts(["a", "d"])
    assert len(caught) == 1
    assert inner.seen == ["a", "b", "d"]


def test_one_damaged_row_is_computed_again_and_the_others_are_not(tmp_path: Path) -> None:
    CachedEncoder(Hashing(), tmp_path).encode_texts(["a", "b", "c"])
    (shard,) = shards(tmp_path)
    shard.write_bytes(_flip("features")(bytearray(shard.read_bytes())))
    inner = Hashing()
    cached = CachedEncoder(inner, tmp_path)
    with pytest.warns(DescbenchWarning, match="damaged .1 rows do not match their checksums") as caught:
        for _ in range(2):
            assert np.array_equal(cached.encode_texts(["a", "b", "c"]).numpy(), rows_of(["a", "b", "c"]))
        cached.tidy()
    assert len(caught) == 1
    assert inner.seen == ["a"]
    assert len(shards(tmp_path)) == 1  # merged, without the damaged row
    assert np.array_equal(
        CachedEncoder(Hashing(loadable=False), tmp_path).encode_texts(["c", "a"]).numpy(), rows_of(["c", "a"])
    )


def test_a_shard_whose_keys_are_damaged_still_serves_and_is_never_merged(tmp_path: Path) -> None:
    cached = CachedEncoder(Hashing(), tmp_path)
    cached.encode_texts(["a"])
    (shard,) = shards(tmp_path)
    shard.write_bytes(_flip("keys")(bytearray(shard.read_bytes())))
    cached = CachedEncoder(Hashing(loadable=True), tmp_path)
    cached.encode_texts(["b"])
    with pytest.warns(DescbenchWarning, match="its keys do not match|damaged"):
        cached.tidy()
    assert shard.exists()
    warm = CachedEncoder(Hashing(loadable=False), tmp_path)
    assert np.array_equal(warm.encode_texts(["a", "b"]).numpy(), rows_of(["a", "b"]))


def test_features_of_two_encoders_in_one_folder_are_refused(tmp_path: Path) -> None:
    one, two = CachedEncoder(Hashing("one"), tmp_path), CachedEncoder(Hashing("two"), tmp_path)
    one.encode_texts(["a"])
    two.encode_texts(["b"])
    (stray,) = one.folder.glob("*.safetensors")
    (two.folder / stray.name).write_bytes(stray.read_bytes())
    with pytest.raises(InputError, match=rf"{stray.name}' holds features of another encoder \(one\).*\(two\)"):
        CachedEncoder(Hashing("two"), tmp_path).encode_texts(["a"])
    with pytest.raises(InputError, match=r"holds rows of shape \(4,\), and this encoder now gives \(5,\)"):
        one.keep_images(["i"], np.ones((1, 4)))
        one.keep_images(["j"], np.ones((1, 5)))


def test_rows_may_have_any_shape(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)  # five pictures in three views
    CachedEncoder(Hashing(), tmp_path).keep_images(list("abcde"), rows)
    known, found = CachedEncoder(Hashing(), tmp_path).recall_images(list("edxa"))
    assert known.tolist() == [True, True, False, True]
    assert np.array_equal(found, rows[[4, 3, 0]])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(1, 7))
def test_shards_are_a_dictionary_whatever_is_added_merged_and_asked(batches: list[list[int]], most: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "ROWS", 7)
        patch.setattr(shards_module, "_SMALL", 4)
        kept: dict[str, list[float]] = {}
        writer = Shards(Path(folder), "images", "someone")
        for batch in batches:
            rows = np.array([[i, -i, 1] for i in batch], dtype=np.float32)
            writer.add([f"k{i}" for i in batch], rows)
            kept |= {f"k{i}": [i, -i, 1] for i in batch}
            writer.tidy(most)
            for reader in (writer, Shards(Path(folder), "images", "someone")):
                asked = [f"k{i}" for i in (3, *range(40, -1, -1), 3)]
                known, found = reader.recall(asked)
                assert found.tolist() == [kept[key] for key in asked if key in kept]
                assert known.tolist() == reader.known(asked).tolist() == [key in kept for key in asked]
        assert set(writer.keys()) == set(kept)
        assert max(map(rows_in, Path(folder).iterdir())) <= 7


def test_a_damaged_meta_file_is_reported_and_the_model_asked(tmp_path: Path) -> None:
    cached = CachedEncoder(Hashing(), tmp_path)
    cached.encode_texts(["a"])
    (cached.folder / "meta.json").write_text("{")
    with pytest.warns(DescbenchWarning, match="meta.json' is damaged"):
        assert cached.logit_scale == 42.5


def test_what_is_not_finite_or_of_another_shape_is_never_kept(tmp_path: Path) -> None:
    class Broken(Hashing):
        def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
            rows = rows_of(texts)
            rows[texts.index("bad"), 2] = np.nan
            return torch.from_numpy(rows)

    with pytest.raises(InputError, match=r"encoder hashing: row \d \('bad'\) holds NaN"):
        CachedEncoder(Broken(), tmp_path).encode_texts(["good", "bad", "other"])
    with pytest.raises(InputError, match=r"shape \(2, D\)"):
        CachedEncoder(Hashing(), tmp_path).keep_images(["a", "b"], rows_of(["a"]))
    assert not shards(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"feature cache .* cannot be written: .* give another cache folder"):
        CachedEncoder(Hashing(), tmp_path / "file").encode_texts(["a"])


CHILD = """
import sys
import numpy as np
from descbench.store import CachedEncoder

class Encoder:
    name = fingerprint = "child"
    logit_scale = 1.0

first, root = int(sys.argv[1]), sys.argv[2]
for i in range(first, first + 100):
    cached = CachedEncoder(Encoder(), root)
    ids = [str(j) for j in range(i, i + 3)]
    known, rows = cached.recall_images(ids)
    there = [key for key, is_known in zip(ids, known) if is_known]
    assert rows.tolist() == [[float(key) + 1, 1.0] for key in there]
    new = [key for key in ids if key not in there]
    cached.keep_images(new, np.array([[float(key) + 1, 1.0] for key in new]))
    assert cached.knows_images(ids).all()
"""


def test_several_processes_share_one_folder(tmp_path: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(first), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for first in (0, 10, 50)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    found, rows = CachedEncoder(Hashing("child", loadable=False), tmp_path).recall_images([str(j) for j in range(152)])
    assert found.all() and np.array_equal(rows[:, 0], np.arange(152) + 1)
    assert not list(tmp_path.rglob(".*"))


def test_meta_says_whose_features_they_are(tmp_path: Path) -> None:
    cached = CachedEncoder(Hashing(), tmp_path)
    cached.encode_texts(["a"])
    meta = json.loads((cached.folder / "meta.json").read_text())
    assert meta == {"name": "hashing", "spelling": "hashing", "fingerprint": "hashing/1", "logit_scale": 42.5}
    assert len(cached.folder.name) == 16
