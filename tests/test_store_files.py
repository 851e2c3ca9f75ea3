"""Files that were read once keep their ids, without being opened again, as long as nothing says that they changed."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from faults import nobody
from PIL import Image

import descbench as db
from descbench import embedding
from descbench.bulk import score
from descbench.datasets import images
from descbench.datasets.images import LOADER, content_id
from descbench.embedding import embed, keep
from descbench.errors import DescbenchWarning
from descbench.store import CachedEncoder
from descbench.store.files import KnownFiles, remembered
from descbench.testing import FakeEncoder

_watched: list[list[str]] = []  # lists that are told of each picture that is opened
sys.addaudithook(
    lambda event, args: (
        [seen.append(str(args[0])) for seen in _watched] and None
        if event == "open" and str(args[0]).endswith((".png", ".jpg"))
        else None
    )
)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The pictures that are opened from now on."""
    _watched.append([])
    yield _watched[-1]
    _watched.pop()


def hashed(path: Path) -> str:
    """The id of a file, by its definition."""
    return hashlib.sha256(path.read_bytes() + LOADER.encode()).hexdigest()[:32]


def long_ago(path: Path, seconds: float = 3600.0) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 pictures in two class folders, and a table of them in another order."""
    for index in range(40):
        path = tmp_path / "photos" / ("hen", "rooster")[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (6 * index, 255 - 6 * index, 90)).save(path)
        long_ago(path)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(tmp_path.rglob("*.png"))]
    random.Random(0).shuffle(rows)
    (tmp_path / "birds.csv").write_text("\n".join(["path,label", *rows]))
    return tmp_path / "photos"


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_a_second_run_opens_no_picture(
    photos: Path, tmp_path: Path, opened: list[str], kind: str, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_WINDOW", 16)
    spelled = f"folder:{photos}" if kind == "folder" else f"manifest:{tmp_path / 'birds.csv'}"
    first = embed(db.dataset(spelled, limit=limit), CachedEncoder(FakeEncoder(), tmp_path / "cache"))
    assert len(opened) >= 40
    assert sorted(first.ids) == sorted(hashed(path) for path in photos.rglob("*.png") if hashed(path) in first.ids)
    opened.clear()
    for again in (embed, keep, lambda *given: list(embedding.blocks(*given, size=7))):
        again(db.dataset(spelled, limit=limit), CachedEncoder(FakeEncoder(), tmp_path / "cache"))
    assert embed(db.dataset(spelled), CachedEncoder(FakeEncoder(), tmp_path / "other")).features.shape[0] == 40
    assert len(opened) >= 80  # another cache knows nothing
    opened.clear()
    same = embed(db.dataset(spelled, limit=limit), CachedEncoder(FakeEncoder(), tmp_path / "cache"))
    assert (same.ids, same.sources, opened) == (first.ids, first.sources, [])
    clf = db.Classifier(
        db.Vocabulary(["hen", "rooster"]), db.method("classname"), CachedEncoder(FakeEncoder(), tmp_path / "cache")
    )
    score(clf, db.dataset(spelled, limit=limit), tmp_path / "p.parquet")
    assert db.evaluate(clf, db.dataset(spelled, limit=limit)).ids == first.ids
    if kind == "folder":
        assert len(clf.predict(list(first.sources)).ids) == len(first)
    assert opened == []


@pytest.mark.slow
def test_commands_that_run_again_open_no_picture(run: Run, photos: Path, opened: list[str]) -> None:
    for command in (
        ["embed", "folder:photos", "--limit", "9"],
        ["evaluate", "folder:photos", "--limit", "9"],
        ["score", "manifest:birds.csv", "-o", "p.parquet", "--limit", "20"],
        ["classify", "photos", "--classes", "hen,rooster"],
    ):
        seen = []
        for _ in range(2):
            done = run(*command, "--encoder", "demo", "--device", "cpu")
            assert done.code == 0, done.err
            seen.append(len(opened))
            opened.clear()
        assert seen[1] == 0, (command, seen)


def test_a_changed_file_is_read_again(photos: Path, tmp_path: Path, opened: list[str]) -> None:
    longer, newer, older, gone = sorted(photos.rglob("*.png"))[:4]
    with remembered(tmp_path / "files.sqlite"):
        for path in (longer, newer, older, gone):
            content_id(path)
    when = longer.stat()
    longer.write_bytes(longer.read_bytes() + b"more")
    os.utime(longer, ns=(when.st_atime_ns, when.st_mtime_ns))
    for path, by in ((newer, 1), (older, -1)):
        before = path.stat()
        path.write_bytes(path.read_bytes()[:-1] + b"!")  # of the same size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + by))
    gone.unlink()
    opened.clear()
    with remembered(tmp_path / "files.sqlite"):
        assert [content_id(path) for path in (longer, newer, older)] == [hashed(p) for p in (longer, newer, older)]
        with pytest.raises(db.DescbenchError, match="No such file"):
            content_id(gone)
    assert len(opened) >= 3


def test_what_changed_right_before_it_was_read_is_not_trusted(tmp_path: Path) -> None:
    """A clock of seconds gives two states of a file one time: the second of them must not pass for the first."""
    for age, trusted in ((0.0, False), (1.5, False), (-60.0, False), (30.0, True)):
        path = tmp_path / "x.png"
        path.write_bytes(b"first")
        long_ago(path, age)
        when = path.stat()
        with remembered(tmp_path / f"{age}.sqlite"):
            first = content_id(path)
            path.write_bytes(b"other")
            os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
            assert content_id(path) == (first if trusted else hashed(path)), age
            assert hashed(path) != first


def test_an_id_that_another_loader_gave_is_not_taken(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / "hen" / "00.png"
    with remembered(tmp_path / "files.sqlite"):
        before = content_id(path)
    monkeypatch.setattr(images, "LOADER", "images/next")
    with remembered(tmp_path / "files.sqlite"):
        assert content_id(path) == hashlib.sha256(path.read_bytes() + b"images/next").hexdigest()[:32] != before


@pytest.mark.parametrize("damage", ["text", "cut", "other tables"])
def test_a_damaged_index_is_begun_anew(photos: Path, tmp_path: Path, opened: list[str], damage: str) -> None:
    index, files = tmp_path / "cache" / "files.sqlite", sorted(photos.rglob("*.png"))

    def names() -> list[str]:
        with remembered(index):
            return [content_id(path) for path in files]

    expected = names()
    if damage == "text":
        index.write_text("this is no database " * 500)
    elif damage == "cut":
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    else:
        index.unlink()
        with closing(sqlite3.connect(index)) as other:
            other.execute("CREATE TABLE files (something)")
    with pytest.warns(DescbenchWarning, match=r"files\.sqlite' is damaged"):
        assert names() == expected
    opened.clear()
    assert names() == expected
    assert opened == []


@pytest.mark.parametrize("obstacle", ["a file", "a folder", "no permission", "no permission any more"])
def test_a_cache_that_cannot_be_written_costs_nothing_but_time(opened: list[str], obstacle: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.png") for number in range(10)]
        for path in files:
            path.write_bytes(path.name.encode())
            long_ago(path)
        cache = Path(folder, "cache")
        if obstacle == "a file":  # where the folder should be
            cache.write_text("")
        elif obstacle == "a folder":  # where the index should be
            (cache / "files.sqlite").mkdir(parents=True)
        else:
            cache.mkdir()
        if obstacle == "no permission any more":
            with remembered(cache / "files.sqlite"):
                content_id(files[3])
            (cache / "files.sqlite").chmod(0o444)
        cache.chmod(0o555)
        Path(folder).chmod(0o555)
        expected = [hashed(path) for path in files]
        for _ in range(2):
            opened.clear()
            with nobody(), remembered(cache / "files.sqlite"):
                assert [content_id(path) for path in files] == expected
            assert len(opened) == (9 if obstacle == "no permission any more" else 10)
        for path in (Path(folder), cache):
            path.chmod(0o755)


def test_an_index_of_a_newer_version_is_left_alone_and_files_are_read(
    photos: Path, tmp_path: Path, opened: list[str]
) -> None:
    index, files = tmp_path / "files.sqlite", sorted(photos.rglob("*.png"))
    with closing(sqlite3.connect(index)) as newer:
        newer.execute("CREATE TABLE files (path, something, else_)")
        newer.execute("PRAGMA user_version = 1")
    before = index.read_bytes()
    with (
        pytest.warns(DescbenchWarning, match=r"files\.sqlite' is of a newer descbench .* another cache folder") as said,
        remembered(index),
    ):
        assert [content_id(path) for path in files] == [hashed(path) for path in files]
    assert len(said) == 1 and len(opened) >= len(files)
    assert index.read_bytes() == before


CHILD = """
import sys
from pathlib import Path
from descbench.datasets.images import content_id
from descbench.store.files import remembered
with remembered(Path(sys.argv[2])):
    print(*[content_id(path) for path in sorted(Path(sys.argv[1]).rglob("*.png"))])
"""


def test_several_processes_share_an_index(photos: Path, tmp_path: Path, opened: list[str]) -> None:
    arguments = [sys.executable, "-c", CHILD, str(photos), str(tmp_path / "files.sqlite")]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    files = sorted(photos.rglob("*.png"))
    expected = [hashed(path) for path in files]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.split()) == (0, expected)
    opened.clear()
    with remembered(tmp_path / "files.sqlite"):
        assert [content_id(path) for path in files] == expected
    assert opened == []


def test_neither_the_order_of_the_files_nor_their_number_changes_what_is_found(tmp_path: Path) -> None:
    files = [tmp_path / f"{number % 7} of\xe9" / f"{number}.png" for number in range(3000)]
    for number, path in enumerate(files):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * (number % 5))
        long_ago(path)
    index, seen = KnownFiles(tmp_path / "files.sqlite"), time.time_ns()
    for number, path in enumerate(files[:2500]):
        index.note(path, "rule", str(number), path.stat(), seen)
    index.close()
    numbers = np.random.default_rng(0).permutation(3000).tolist()
    for order in (range(3000), numbers, sorted(numbers, key=lambda number: files[number])):
        index = KnownFiles(tmp_path / "files.sqlite")
        assert [index.find(files[n], "rule") for n in order] == [str(n) if n < 2500 else None for n in order]
        index.close()
