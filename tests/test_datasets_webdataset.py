"""Tar shards in the layout of webdataset, local and behind a URL: the same samples, read where they lie."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import descbench as db
from descbench.datasets.images import bytes_id, load_image
from descbench.datasets.webdataset import _expanded
from descbench.errors import DescbenchWarning, InputError, SpecError
from descbench.testing import check_dataset


def picture(colour: str, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (7, 5), colour).save(file, kind)
    return file.getvalue()


def shard(path: Path, files: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of two samples, with a file of names beside them."""
    shard(
        tmp_path / "birds" / "test-000.tar",
        {
            "0001.jpg": picture("red", "JPEG"),
            "0001.cls": "1",
            "0001.caption": "a hen",
            "0002.cls": "0\n",
            "0002.PNG": picture("blue"),
        },
    )
    shard(
        tmp_path / "birds" / "test-001.tar",
        {"a/0001.v2.webp": picture("green", "WEBP"), "a/0001.cls": "2", "b/0001.png": picture("white")},
    )
    (tmp_path / "birds" / "classnames.txt").write_text("owl\nhen\nwren\n")
    return tmp_path / "birds"


@pytest.fixture
def storage() -> Iterator[Any]:
    """A storage that fsspec reads, empty at first: one in memory."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


EXPECTED = [("0001", "hen"), ("0002", "owl"), ("a/0001", "wren"), ("b/0001", None)]


def told(data: Any) -> list[tuple[str, str | None]]:
    return [
        (sample.id.partition(":")[0], None if sample.label is None else data.names[sample.label])
        for sample in data.samples()
    ]


@pytest.mark.parametrize("pattern", ["test-{000..001}.tar", "test-*.tar", "test-00{0,1}.tar"])
def test_files_of_one_name_are_a_picture_and_its_label(shards: Path, pattern: str) -> None:
    data = db.dataset(f"wds:{shards}/{pattern}")
    check_dataset(data)
    assert (data.names, len(data)) == (("owl", "hen", "wren"), 4)
    assert told(data) == EXPECTED
    assert repr(data) == f"wds:{shards}/{pattern}"
    assert data.name.startswith("test")
    first, second, *_ = data.samples()
    assert second.id == "0002:" + bytes_id(picture("blue"))
    assert first.load().tobytes() == load_image(picture("red", "JPEG")).tobytes()
    assert first.source == f"{shards}/test-000.tar, 0001"


def test_a_pattern_is_expanded_from_left_to_right() -> None:
    assert _expanded("a{08..10}-{x,y}.tar") == [f"a{n}-{c}.tar" for n in ("08", "09", "10") for c in "xy"]
    assert _expanded("a{8..10}.tar") == ["a8.tar", "a9.tar", "a10.tar"]
    assert _expanded("plain.tar") == ["plain.tar"]
    with pytest.raises(InputError, match="counts from 3 to 1; what would do: upwards"):
        _expanded("{3..1}.tar")


def test_labels_come_from_json_or_texts_where_there_is_no_number(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for number, fields in enumerate(
        [{"label": 7, "class": "crane"}, {"Label": 3, "Class": "crane"}, {"label": [7, 3], "class": ["crane", "crane"]}]
    ):
        files |= {f"{number}.png": picture("red"), f"{number}.json": json.dumps(fields)}
    data = db.dataset(f"wds:{shard(tmp_path / 'json.tar', files)}")
    check_dataset(data)
    assert data.names == ("crane", "crane")  # 3, then 7
    assert [(sample.label, sample.accepted) for sample in data.samples()] == [(1, ()), (0, ()), (1, (1, 0))]
    texts = {"0.png": picture("red"), "0.txt": "owl\n", "1.png": picture("blue"), "1.txt": "hen"}
    assert told(db.dataset(f"wds:{shard(tmp_path / 'txt.tar', texts)}")) == [("0", "owl"), ("1", "hen")]
    classes = {"0.png": picture("red"), "0.json": '{"class": "owl"}', "1.png": picture("blue")}
    assert told(db.dataset(f"wds:{shard(tmp_path / 'class.tar', classes)}")) == [("0", "owl"), ("1", None)]


def test_numbers_without_names_are_their_own_names(tmp_path: Path) -> None:
    files = {f"{n}.{end}": what for n in (10, 9) for end, what in (("png", picture("red")), ("cls", str(n)))}
    data = db.dataset(f"wds:{shard(tmp_path / 'a.tar', files)}")
    assert (data.names, told(data)) == (("9", "10"), [("10", "10"), ("9", "9")])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no sample"),
        ({"notes": "a"}, "holds no sample"),
        ({"0.png": b"x", "0.jpg": b"x"}, "'0' has several pictures"),
        ({"0.png": b"x", "0.json": "[1]"}, "0.json cannot be read: it is no object"),
        ({"0.png": b"x", "0.json": '{"label": true}'}, "0.json cannot be read: True can be no label"),
        ({"0.png": b"x", "0.cls": b"\xff\xfe"}, "0.cls cannot be read"),
    ],
)
def test_a_shard_of_another_layout_says_what_is_wrong(
    tmp_path: Path, files: dict[str, bytes | str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        list(db.dataset(f"wds:{shard(tmp_path / 'a.tar', files)}").samples())


def test_a_label_that_the_names_do_not_have_is_an_error(shards: Path) -> None:
    (shards / "classnames.txt").write_text("owl\nhen\n")
    with pytest.raises(InputError, match=r"classnames.txt has 2 names, and no place for the labels '2'. .* 0 to 1"):
        len(db.dataset(f"wds:{shards}/test-*.tar"))


def test_a_sample_without_a_picture_and_a_damaged_one_fail_when_they_are_loaded(tmp_path: Path) -> None:
    files = {"0.cls": "0", "1.jpg": picture("red", "JPEG")[:200], "1.cls": "0", "2.png": b"", "2.cls": "0"}
    samples = list(db.dataset(f"wds:{shard(tmp_path / 'a.tar', files)}").samples())
    for sample, key, reason in zip(samples, "012", ("no file of this name", "", "the file is empty"), strict=True):
        with pytest.raises(InputError, match=rf"^cannot read image '.*a.tar, {key}': .*{reason}"):
            sample.load()


def test_shards_that_are_missing_cut_off_or_compressed_are_found_out(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no shard '.*test-002.tar'"):
        db.dataset(f"wds:{shards}/test-{{000..002}}.tar")
    with pytest.raises(InputError, match=r"there is no shard '.*x\*.tar'"):
        db.dataset(f"wds:{shards}/x*.tar")
    with pytest.raises(SpecError, match="dataset 'wds': it has no option 'split'"):
        db.dataset(f"wds:{shards}/test-000.tar", split="test")
    content = (shards / "test-000.tar").read_bytes()
    for name, part in (("half", content[:700]), ("text", b"this is no tar file" * 60), ("nothing", b"")):
        (tmp_path / f"{name}.tar").write_bytes(part)
        with pytest.raises(InputError, match=rf"{name}.tar is no whole tar file"):
            len(db.dataset(f"wds:{tmp_path}/{name}.tar"))
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(shards / "classnames.txt", "0.txt")
    with pytest.raises(InputError, match=r"packed\.tar is no whole tar file without compression"):
        len(db.dataset(f"wds:{tmp_path}/packed.tar"))
    (tmp_path / "cut.tar").write_bytes(content[:2560])  # a picture and its label, and no end
    with pytest.warns(DescbenchWarning, match="cut.tar ends without the mark of an end"):
        len(db.dataset(f"wds:{tmp_path}/cut.tar"))


# Shards of the web, from a server of this test.


def serve(httpserver: HTTPServer, folder: Path, ranges: bool = True) -> None:
    """The files of a folder; parts of them, where that is asked for, as servers of static files give them."""

    def answer(request: Request) -> Response:
        path = folder / request.path.lstrip("/")
        if not path.is_file():
            return Response(status=404)
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if asked is None or not ranges:
            return Response(content)
        start, end = int(asked[1]), int(asked[2] or len(content) - 1)
        headers = {"Content-Range": f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"}
        return Response(content[start : end + 1], status=206, headers=headers)

    httpserver.expect_request(re.compile("/.*")).respond_with_handler(answer)


def test_behind_a_url_are_the_same_samples_and_pictures_are_fetched_alone(shards: Path, httpserver: HTTPServer) -> None:
    serve(httpserver, shards)
    data = db.dataset(f"wds:{httpserver.url_for('/test-')}{{000..001}}.tar")
    local = db.dataset(f"wds:{shards}/test-{{000..001}}.tar")
    assert told(data) == EXPECTED
    assert data.fingerprint == local.fingerprint
    assert [request.path for request, _ in httpserver.log] == ["/test-000.tar", "/test-001.tar", "/classnames.txt"]
    for mine, other in zip(local.samples(), data.samples(), strict=True):
        assert (mine.id, mine.load().tobytes()) == (other.id, other.load().tobytes())
    parts = [request.headers["Range"] for request, _ in httpserver.log[3:]]
    assert len(parts) == 4 and "bytes=0-" not in parts
    check_dataset(data)


def test_without_names_beside_them_a_url_does_as_well(shards: Path, httpserver: HTTPServer) -> None:
    (shards / "classnames.txt").unlink()
    serve(httpserver, shards)
    data = db.dataset(f"wds:{httpserver.url_for('/test-000.tar')}")
    assert told(data) == [("0001", "1"), ("0002", "0")]


@pytest.mark.parametrize("pattern", ["test-{000..001}.tar", "test-*.tar"])
def test_a_storage_that_fsspec_reads_holds_the_same_samples(shards: Path, storage: Any, pattern: str) -> None:
    for path in shards.iterdir():
        storage.pipe_file(f"/birds/{path.name}", path.read_bytes())
    data, local = db.dataset(f"wds:memory://birds/{pattern}"), db.dataset(f"wds:{shards}/{pattern}")
    assert told(data) == EXPECTED
    assert data.fingerprint == local.fingerprint
    for mine, other in zip(local.samples(), data.samples(), strict=True):
        assert (mine.id, mine.load().tobytes()) == (other.id, other.load().tobytes())
    check_dataset(data)


def test_what_a_storage_does_not_give_is_one_line_with_its_address(storage: Any, shards: Path) -> None:
    with pytest.raises(InputError, match=r"wds:memory://birds/x\*\.tar: there is no such shard"):
        db.dataset("wds:memory://birds/x*.tar")
    with pytest.raises(InputError, match=r"cannot read 'memory://birds/test-009\.tar': .*test-009"):
        len(db.dataset("wds:memory://birds/test-009.tar"))
    with pytest.raises(InputError, match=r"cannot read 'nowhere://birds/1\.tar': Protocol not known"):
        len(db.dataset("wds:nowhere://birds/1.tar"))
    storage.pipe_file("/birds/half.tar", (shards / "test-000.tar").read_bytes()[:700])
    with pytest.raises(InputError, match=r"half\.tar is no whole tar file"):
        len(db.dataset("wds:memory://birds/half.tar"))
    storage.pipe_file("/birds/test-000.tar", (shards / "test-000.tar").read_bytes())  # and no names beside it
    data = db.dataset("wds:memory://birds/test-000.tar")
    assert told(data) == [("0001", "1"), ("0002", "0")]
    storage.rm("/birds/test-000.tar")
    with pytest.raises(InputError, match=r"cannot read 'memory://birds/test-000\.tar'"):
        next(data.samples()).load()


def test_a_server_that_gives_no_parts_is_found_out_before_anything_is_read(
    shards: Path, httpserver: HTTPServer
) -> None:
    serve(httpserver, shards, ranges=False)
    with pytest.raises(InputError, match=r"test-000.tar': its server gives no parts of files; download it"):
        len(db.dataset(f"wds:{httpserver.url_for('/test-000.tar')}"))
    with pytest.raises(InputError, match=r"test-009.tar': the server says 404"):
        len(db.dataset(f"wds:{httpserver.url_for('/test-009.tar')}"))
