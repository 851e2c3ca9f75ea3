"""The feature cache: what was encoded once is read back the same, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from faults import only_read, room
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from descbench.datasets import DATASETS
from descbench.embedding import embed, keep
from descbench.errors import DescbenchWarning, InputError
from descbench.store import CachedEncoder
from descbench.store import features as module
from descbench.store import shards as shards_module
from descbench.store.features import kept_encoders
from descbench.store.shards import Shards
from descbench.testing import FakeEncoder


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
    about = {"name": "hashing", "spelling": "hashing", "fingerprint": "hashing/1", "logit_scale": 42.5}
    assert meta == {"format": 2, **about}
    assert len(cached.folder.name) == 16


def test_what_another_version_wrote_is_named_and_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in (1, 10):  # numbers, and no texts
        monkeypatch.setattr(module, "_FORMAT", version)
        CachedEncoder(Hashing(), tmp_path).encode_texts(["a"])
    monkeypatch.undo()
    inner = Hashing()
    CachedEncoder(inner, tmp_path).encode_texts(["a"])
    assert inner.seen == ["a"]
    kept = {one.spelling: one.texts for one in kept_encoders(tmp_path)}
    of = "hashing (of {} descbench: not used)".format
    assert kept == {"hashing": 1, of("an earlier"): 0, of("a newer"): 0}


def test_whoever_may_read_the_folder_may_read_what_is_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        cached = CachedEncoder(Hashing(), tmp_path)
        cached.encode_texts(["a"])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in cached.folder.iterdir()} == {0o640}


def test_a_row_that_two_made_at_once_counts_once(tmp_path: Path) -> None:
    one, two = (Shards(tmp_path, "images", "someone") for _ in range(2))
    one.add(["a", "b"], rows_of(["a", "b"]))
    two.add(["b", "c"], rows_of(["b", "c"]))
    assert len(one) == len(two) == 3


def test_a_disk_that_is_full_is_one_clear_line_and_what_was_kept_before_stays(tmp_path: Path) -> None:
    cached = CachedEncoder(Hashing(), tmp_path)
    few, many = [f"few {i}" for i in range(9)], [f"many {i}" for i in range(9000)]
    with room(20_000):
        cached.keep_images(few, rows_of(few))
        with pytest.raises(InputError, match=r"cannot be written: File too large\. .* see that the disk has room"):
            cached.keep_images(many, rows_of(many))
    assert len(list(cached.folder.iterdir())) == 2  # the shard of the few, and meta.json: nothing half
    known, found = CachedEncoder(Hashing(loadable=False), tmp_path).recall_images([*few, *many])
    assert known.sum() == 9 and np.array_equal(found, rows_of(few))


def test_shards_that_cannot_be_merged_for_want_of_room_stay(tmp_path: Path) -> None:
    cached = CachedEncoder(Hashing(), tmp_path)
    texts = [f"text {i}" for i in range(1000)]
    cached.encode_texts(texts[:500])
    cached.encode_texts(texts[500:])
    with room(shards(tmp_path)[0].stat().st_size + 1000):
        cached.tidy()
    assert len(shards(tmp_path)) == 2 and not list(tmp_path.rglob(".*"))
    warm = CachedEncoder(Hashing(loadable=False), tmp_path)
    assert np.array_equal(warm.encode_texts(texts).numpy(), rows_of(texts))


def test_a_cache_that_may_only_be_read_serves_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DATASETS["demo"].from_spec("n=12")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "features")
        first = embed(data, CachedEncoder(FakeEncoder(), root))
        CachedEncoder(FakeEncoder(), root).encode_texts(["a"])
        with only_read(Path(folder)):
            warm = CachedEncoder(FakeEncoder(), root)
            kept = keep(data, warm)  # merges no shards, and writes no list
            assert (kept.encoded, kept.listing) == (0, next(warm.folder.glob("sets/*.parquet")))
            assert np.array_equal(embed(data, warm).features, first.features)
            assert warm.encode_texts(["a"]).shape[0] == 1
            monkeypatch.setattr("descbench.store.sets._GROUP", 4)  # a long list is written on the way
            part = DATASETS["demo"].from_spec("n=9")
            with pytest.warns(DescbenchWarning, match=r"list of the samples of demo:n=9 cannot .* found without it"):
                assert keep(part, warm).listing is None
            for new in (lambda: warm.encode_texts(["new"]), lambda: keep(DATASETS["demo"].from_spec("n=13"), warm)):
                with pytest.raises(InputError, match=r"cannot be written: Permission denied\. Make it writable"):
                    new()


KILLED = """
import sys
from pathlib import Path
import numpy as np
from descbench.store.shards import Shards

shelf = Shards(Path(sys.argv[1]), "images", "someone")
for shard in range(1000):
    shelf.add([f"{shard}/{row}" for row in range(500)], np.full((500, 256), shard, dtype=np.float32))
    print(shard, flush=True)
"""


def test_a_killed_process_loses_at_most_the_shard_that_it_was_writing(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.03 + 0.011 * round_)
            process.send_signal(signal.SIGKILL)
            said = len(process.stdout.readlines())  # the last whole shard: the numbers begin at 0
        for path in folder.glob(".*"):
            os.utime(path, (0, 0))
        shelf = Shards(folder, "images", "someone")
        known, rows = shelf.recall([f"{shard}/{row}" for shard in range(said + 1) for row in range(500)])
        assert known.all() and np.array_equal(rows[:, 0], np.repeat(np.arange(said + 1), 500))
        assert len(shelf) in (500 * (said + 1), 500 * (said + 2))
        shelf.tidy(0)
        assert not list(folder.glob(".*"))  # what it had begun to write goes


def test_the_lists_of_several_processes_become_one(tmp_path: Path) -> None:
    data = DATASETS["demo"].from_spec("n=11")
    alone = keep(data, CachedEncoder(FakeEncoder(), tmp_path / "alone"))
    cached = CachedEncoder(FakeEncoder(), tmp_path / "shared")
    parts = [keep(data, cached, part=(rank, 3)).listing for rank in range(2)]
    cached.gather(parts[0])
    assert len(list(cached.folder.glob("sets/*"))) == 2  # one of the three is not there yet
    parts.append(keep(data, cached, part=(2, 3)).listing)
    cached.gather(parts[0])
    assert alone.listing is not None
    (listing,) = cached.folder.glob("sets/*")
    assert listing.name == alone.listing.name
    one, many = (pq.read_table(path).sort_by("row") for path in (alone.listing, listing))
    assert one.equals(many) and one.num_rows == 11
    (kept,) = kept_encoders(tmp_path / "shared")
    assert (kept.images, [(s.dataset, s.rows, s.shares, s.processes) for s in kept.sets]) == (
        11,
        [("demo:n=11", 11, 1, 1)],
    )


def test_half_precision_would_change_rankings_so_rows_are_kept_as_they_came(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    pictures, classes = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for rows in (chance.normal(size=(count, 64)) for count in (500, 1000))
    )
    ids = [str(number) for number in range(500)]
    CachedEncoder(Hashing(), tmp_path).keep_images(ids, pictures)
    _, kept = CachedEncoder(Hashing(), tmp_path).recall_images(ids)

    def best(features: np.ndarray) -> np.ndarray:
        return np.argsort(-(features.astype(np.float64) @ classes.T), axis=1, kind="stable")[:, :5]

    assert np.array_equal(best(kept), best(pictures))
    assert (best(pictures.astype(np.float16)) != best(pictures)).any()
