"""Tables of pictures: csv, jsonl and parquet name the same samples; what cannot be told is asked for."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pytest_httpserver import HTTPServer

import descbench as db
from descbench.datasets import web
from descbench.datasets.images import content_id, load_image
from descbench.datasets.labels import in_order, said
from descbench.errors import InputError, SpecError
from descbench.testing import check_dataset

COLOURS = {"hen": "red", "owl": "blue", "wren": "green"}


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 6), colour).save(file, "PNG")
    return file.getvalue()


def as_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def as_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "csv": as_csv,
    "jsonl": as_jsonl,
    "parquet": as_parquet,
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures beside the tables: images/hen.png, images/owl.png, images/wren.png."""
    (tmp_path / "images").mkdir()
    for name, colour in COLOURS.items():
        (tmp_path / "images" / f"{name}.png").write_bytes(png(colour))
    return tmp_path


def told(data: Any) -> list[tuple[str | None, tuple[str, ...]]]:
    """The first label of each sample, and all of several, as names."""
    return [
        (
            None if sample.label is None else data.names[sample.label],
            tuple(data.names[label] for label in sample.accepted),
        )
        for sample in data.samples()
    ]


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_form_names_the_same_samples(photos: Path, suffix: str) -> None:
    rows = [{"Path": f"images/{name}.png", "LABEL": name, "ID": f"no {n}"} for n, name in enumerate(COLOURS)]
    WRITERS[suffix](photos / f"birds.{suffix}", rows[::-1])
    data = db.dataset(f"manifest:{photos}/birds.{suffix}")
    check_dataset(data)
    assert (data.names, len(data)) == (("hen", "owl", "wren"), 3)
    assert [name for name, _ in told(data)] == ["wren", "owl", "hen"]  # in the order of the rows
    for sample, name, number in zip(data.samples(), ("wren", "owl", "hen"), (2, 1, 0), strict=True):
        path = photos / "images" / f"{name}.png"
        assert sample.id == f"no {number}:{content_id(path)}"  # a given id alone would be that of any other table too
        assert sample.load().tobytes() == load_image(path).tobytes()
        assert Path(sample.source) == path


def test_without_ids_a_picture_is_named_by_its_content_as_in_a_folder(photos: Path) -> None:
    as_csv(photos / "birds.csv", [{"file": "images/hen.png", "class": "hen"}])
    (sample,) = db.dataset(f"manifest:{photos}/birds.csv").samples()
    assert sample.id == content_id(photos / "images" / "hen.png")


def test_bytes_in_parquet_are_pictures_bare_or_as_libraries_keep_them(photos: Path) -> None:
    rows = [
        {"image": {"bytes": png("red"), "path": None}, "label": "hen"},
        {"image": {"bytes": None, "path": "images/owl.png"}, "label": "owl"},
    ]
    as_parquet(photos / "kept.parquet", rows)
    as_parquet(photos / "bare.parquet", [{"image": png("red"), "label": "hen"}])
    for name, colours in (("kept", ["red", "blue"]), ("bare", ["red"])):
        data = db.dataset(f"manifest:{photos}/{name}.parquet")
        check_dataset(data)
        expected = [load_image(photos / "images" / f"{'hen' if c == 'red' else 'owl'}.png").tobytes() for c in colours]
        assert [sample.load().tobytes() for sample in data.samples()] == expected


def test_a_number_tells_classes_apart_and_a_class_column_names_them(photos: Path) -> None:
    rows = [{"path": "images/hen.png", "label": label, "class": "crane"} for label in (134, 517)]
    rows.append({"path": "images/owl.png", "label": 24, "class": "owl"})
    as_csv(photos / "birds.csv", rows)
    data = db.dataset(f"manifest:{photos}/birds.csv")
    assert data.names == ("owl", "crane", "crane")  # in the order of the numbers, and not of their digits
    assert [sample.label for sample in data.samples()] == [1, 2, 0]
    assert db.Vocabulary(data.names).match(data.names).tolist() == [0, 1, 2]
    rows.append({"path": "images/owl.png", "label": 24, "class": "eagle owl"})
    as_csv(photos / "birds.csv", rows)
    with pytest.raises(InputError, match="the label '24' is called both 'owl' and 'eagle owl'"):
        db.dataset(f"manifest:{photos}/birds.csv")


@pytest.mark.parametrize(("suffix", "several"), [("csv", "owl | hen"), ("jsonl", ["owl", "hen"])])
def test_several_labels_are_all_right_and_none_is_unlabelled(photos: Path, suffix: str, several: Any) -> None:
    rows = [{"path": "images/hen.png", "label": label} for label in (several, "wren", "", None, -1)]
    WRITERS[suffix](photos / f"birds.{suffix}", rows)
    data = db.dataset(f"manifest:{photos}/birds.{suffix}")
    check_dataset(data)
    assert data.names == ("hen", "owl", "wren")
    assert told(data) == [("owl", ("owl", "hen")), ("wren", ()), (None, ()), (None, ()), (None, ())]


def test_what_a_cell_says() -> None:
    assert said("a|b| a ") == ("a", "b", "a")
    assert said(["a|b", 3]) == ("a|b", "3")
    assert [said(value) for value in (3.0, float("nan"), "-1", 0)] == [("3",), (), (), ("0",)]
    assert in_order(["10", "9", "1"]) == ["1", "9", "10"]
    assert in_order(["10", "9", "b", "B"]) == ["10", "9", "B", "b"]
    for wrong in (True, 2.5, {"a": 1}, b"a"):
        with pytest.raises(InputError, match="can be no label"):
            said(wrong)


def test_a_split_is_named_where_there_are_several(photos: Path) -> None:
    rows = [{"path": f"images/{name}.png", "label": name, "split": split} for name, split in
            (("hen", "train"), ("owl", "test"), ("wren", "val"))]  # fmt: skip
    as_csv(photos / "birds.csv", rows)
    spelled = f"manifest:{photos}/birds.csv"
    with pytest.raises(InputError, match=r"several splits: train \(1\), test \(1\), val \(1\). Say which"):
        db.dataset(spelled)
    assert told(db.dataset(spelled, split="test")) == [("owl", ())]
    assert told(db.dataset(f"{spelled},split=train+val")) == [("hen", ()), ("wren", ())]
    assert repr(db.dataset(f"{spelled},split=val")) == f"{spelled},split=val"
    with pytest.raises(InputError, match="has no split 'dev'; it has: train"):
        db.dataset(spelled, split="dev")
    with pytest.raises(SpecError, match=r"split is 'val' .* and 'test' beside it"):
        db.dataset(f"{spelled},split=val", split="test")
    as_csv(photos / "plain.csv", [{"path": "images/hen.png", "label": "hen"}])
    with pytest.raises(InputError, match="has no column 'split'"):
        db.dataset(f"manifest:{photos}/plain.csv", split="test")


def test_a_column_of_another_name_is_said_and_two_that_fit_are_asked_about(photos: Path) -> None:
    as_csv(photos / "birds.csv", [{"photo": "images/hen.png", "breed": "hen", "genus": "gallus"}])
    spelled = f"manifest:{photos}/birds.csv"
    with pytest.raises(InputError, match=r"no column for the pictures; its columns: photo, breed, genus"):
        db.dataset(spelled)
    data = db.dataset(f"{spelled},image=photo,label=breed")
    assert told(data) == [("hen", ())]
    assert repr(data) == f"{spelled},image=photo,label=breed"
    assert data.fingerprint == db.dataset(spelled, image="photo", label="breed").fingerprint
    with pytest.raises(InputError, match="no column 'bread'; its columns: photo, breed, genus"):
        db.dataset(f"{spelled},image=photo,label=bread")
    with pytest.raises(SpecError, match="'manifest' has no option 'lable'; did you mean 'label'"):
        db.dataset(f"{spelled},lable=breed")
    as_csv(photos / "both.csv", [{"path": "images/hen.png", "url": "http://localhost/hen.png", "label": "hen"}])
    with pytest.raises(InputError, match=r"columns path, url, which could all be the image; .*both.csv,image=path"):
        db.dataset(f"manifest:{photos}/both.csv")


def test_a_path_with_a_comma_is_no_option(photos: Path) -> None:
    as_csv(photos / "birds,label=x.csv", [{"path": "images/hen.png", "label": "hen"}])
    assert db.dataset(f"manifest:{photos}/birds,label=x.csv").names == ("hen",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "path,label\n", "has no rows"),
        ("a.csv", "path,label\na.png,tench, Tinca tinca\n", "line 2: 3 cells, and there are 2 columns"),
        ("a.csv", 'path,label\n"a.png\n', "unexpected end of data"),
        ("a.jsonl", '{"path": "a.png"}\n[1]\n', r"line 2: an object is expected, given: \[1\]"),
        ("a.jsonl", "path\n", "line 1 is no JSON"),
        ("a.jsonl", '{"path": "a.png", "label": true}', "row 1, column 'label': True can be no label"),
        ("a.parquet", "PAR1", "is no parquet file"),
        ("a.txt", "a.png", r"ends in '.txt'; what would do: .csv, .jsonl, .parquet"),
    ],
)
def test_a_file_that_is_no_manifest_says_where_it_goes_wrong(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        db.dataset(f"manifest:{tmp_path / name}")
    assert "\n" not in str(error.value)


def test_there_is_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        db.dataset(f"manifest:{tmp_path}/none.csv")


def test_a_row_whose_picture_is_not_there_fails_when_it_is_loaded(photos: Path) -> None:
    as_csv(photos / "birds.csv", [{"path": name, "label": "hen"} for name in ("images/hen.png", "images/gone.png", "")])
    good, gone, blank = db.dataset(f"manifest:{photos}/birds.csv").samples()
    assert good.load().size == (6, 6)
    with pytest.raises(InputError, match=r"gone.png': there is no such file"):
        gone.load()
    with pytest.raises(InputError, match=r"'birds.csv, row 3': the row names no picture"):
        blank.load()


# Pictures of the web, from a server of this test.


def test_a_picture_of_a_storage_is_fetched_when_it_is_loaded(photos: Path) -> None:
    stored = (photos / "images").as_uri()  # file:///..., as s3://... would be
    WRITERS["csv"](photos / "t.csv", [{"url": f"{stored}/{name}.png", "label": "x"} for name in ("hen", "gone")])
    hen, gone = db.dataset(f"manifest:{photos / 't.csv'}").samples()
    assert hen.load().getpixel((3, 3)) == load_image(photos / "images" / "hen.png").getpixel((3, 3))
    assert (hen.source, hen.id[:4], hen.id != gone.id) == (f"{stored}/hen.png", "url:", True)
    with pytest.raises(InputError, match=r"cannot read 'file:///.*gone\.png': No such file"):
        gone.load()


@pytest.mark.parametrize("between", [";", "\t"])
def test_cells_that_stand_between_other_signs_are_named(photos: Path, between: str) -> None:
    (photos / "t.csv").write_text(between.join(("path", "label")) + "\n" + between.join(("images/hen.png", "hen")))
    with pytest.raises(InputError, match=r"has no column for the pictures.* between commas, not '(;|\\t)': save it so"):
        db.dataset(f"manifest:{photos / 't.csv'}")


def test_a_url_is_fetched_when_the_picture_is_loaded(tmp_path: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/hen.png").respond_with_data(png("red"), content_type="image/png")
    as_csv(tmp_path / "birds.csv", [{"url": httpserver.url_for("/hen.png"), "label": "hen"}])
    data = db.dataset(f"manifest:{tmp_path}/birds.csv")
    (sample,) = data.samples()
    assert (len(data), data.fingerprint[:9], len(httpserver.log)) == (1, "manifest:", 0)
    assert sample.load().getpixel((1, 1)) == (255, 0, 0)
    assert len(httpserver.log) == 1
    check_dataset(data)
    assert sample.id.startswith("url:")


def test_a_picture_that_the_web_does_not_give_is_an_error_with_url_and_reason(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/gone").respond_with_data("", status=404)
    httpserver.expect_request("/down").respond_with_data("", status=503)
    httpserver.expect_request("/empty").respond_with_data("")
    httpserver.expect_request("/large").respond_with_data(b"x" * 2000)
    monkeypatch.setattr(web, "LARGEST", 1000)
    for path, reason in {
        "/gone": "the server says 404",
        "/down": "the server says 503",
        "/large": "more than 1,000 bytes",
    }.items():
        with pytest.raises(InputError, match=f"^cannot read '{httpserver.url_for(path)}': .*{reason}"):
            web.fetch(httpserver.url_for(path))
    assert web.fetch(httpserver.url_for("/empty")) == b""
    with pytest.raises(InputError, match=r"cannot read 'http://localhost:1/x': Connection refused"):
        web.fetch("http://localhost:1/x")
    with pytest.raises(InputError, match="cannot read 'http://'"):
        web.fetch("http://")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed connection without response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + bytes(20), "it ends after 20 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nabc", "the connection ended early"),
        (b"what?\r\n\r\n", "what?"),
    ],
)
def test_an_answer_that_breaks_off_is_no_picture(answer: bytes, reason: str) -> None:
    with socket.create_server(("localhost", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(10_000)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(InputError, match=re.escape(reason)):
            web.fetch(f"http://localhost:{server.getsockname()[1]}/x")
        thread.join()


def test_a_server_that_falls_silent_is_left_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT", 0.2)
    with socket.create_server(("localhost", 0)) as silent, pytest.raises(InputError, match="no answer within"):
        web.fetch(f"http://localhost:{silent.getsockname()[1]}/x")
