"""Data sets of the library `datasets`, made here in its real forms; pictures come from our loader, bytes as stored."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import descbench as db
from descbench.datasets.images import content_id, load_image
from descbench.errors import AccessError, InputError, SpecError
from descbench.testing import check_dataset


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's cache is below the test's folder, and the hub is out of reach."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/SPLIT/CLASS/N.jpg, one of them to be turned as its EXIF block says."""
    for split, classes in {"train": ("hen", "sea_owl"), "test": ("hen", "sea_owl", "sea_owl")}.items():
        for number, name in enumerate(classes):
            path = tmp_path / "photos" / split / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = 6
            Image.new("RGB", (12, 6 + number), "red" if name == "hen" else "blue").save(path, exif=exif)
    return tmp_path / "photos"


def as_features(photos: Path, **columns: Any) -> datasets.Dataset:
    """The pictures of the test split as a table of the library's, with labels of its own type."""
    files = sorted((photos / "test").rglob("*.jpg"))
    rows = {"image": [{"bytes": path.read_bytes(), "path": None} for path in files]} | columns
    names = datasets.ClassLabel(names=["hen", "owl", "wren"])
    kinds = {key: datasets.List(names) if isinstance(values[0], list) else names for key, values in columns.items()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image(), **kinds}))


@pytest.mark.parametrize("streaming", ["no", "yes"])
def test_a_folder_of_class_folders_is_what_folder_makes_of_it(photos: Path, streaming: str) -> None:
    ours, theirs = db.dataset(f"folder:{photos}/test"), db.dataset(f"hf:{photos}:test,streaming={streaming}")
    check_dataset(theirs)
    assert (theirs.names, len(theirs)) == (ours.names, len(ours)) == (("hen", "sea owl"), 3)
    assert [(s.id, s.label) for s in theirs.samples()] == [(s.id, s.label) for s in ours.samples()]
    for mine, other in zip(ours.samples(), theirs.samples(), strict=True):
        assert other.load().tobytes() == mine.load().tobytes()
        assert other.load().size[1] == 12  # upright
    assert db.dataset(repr(theirs)).fingerprint == theirs.fingerprint


@pytest.mark.parametrize("streaming", ["no", "yes"])
def test_the_bytes_in_a_parquet_file_are_decoded_by_our_loader(photos: Path, tmp_path: Path, streaming: str) -> None:
    as_features(photos, label=[0, 1, -1]).to_parquet(tmp_path / "birds.parquet")
    data = db.dataset(f"hf:{tmp_path}/birds.parquet,streaming={streaming}")
    check_dataset(data)
    assert (data.names, len(data)) == (("hen", "owl", "wren"), 3)
    assert [sample.label for sample in data.samples()] == [0, 1, None]
    for sample, path in zip(data.samples(), sorted((photos / "test").rglob("*.jpg")), strict=True):
        assert sample.id == content_id(path)
        assert sample.load().tobytes() == load_image(path).tobytes()
        sent = pickle.dumps(sample.load)  # to a process that decodes: the bytes, and not the data set
        assert pickle.loads(sent)().tobytes() == sample.load().tobytes() and len(sent) < 1000 + path.stat().st_size


def test_plain_parquet_has_bytes_and_texts(photos: Path, tmp_path: Path) -> None:
    files = sorted((photos / "test").rglob("*.jpg"))
    content = [path.read_bytes() for path in files]
    pq.write_table(pa.table({"picture": content, "label": ["owl", "hen", "owl"]}), tmp_path / "a.parquet")
    for options in ("", ",streaming=yes"):
        data = db.dataset(f"hf:{tmp_path}/a.parquet{options}")
        check_dataset(data)
        assert (data.names, [sample.label for sample in data.samples()]) == (("hen", "owl"), [1, 0, 1])


def test_a_picture_inside_an_archive_is_read_where_it_lies(photos: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "test"), "zip", photos / "test")
    names = [f"zip://{name}::{archive}" for name in ("hen/0.jpg", "sea_owl/1.jpg", "sea_owl/2.jpg")]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["hen", "owl"])})
    rows = {"image": [{"path": name, "bytes": None} for name in names], "label": [0, 1, 1]}
    datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(tmp_path / "pointing")
    (photos / "test" / "sea_owl" / "2.jpg").unlink()
    shutil.make_archive(str(tmp_path / "test"), "zip", photos / "test")
    data = db.dataset(f"hf:{tmp_path}/pointing")
    check_dataset(data)
    hen, owl, gone = data.samples()
    assert [hen.id, owl.id] == [content_id(photos / "test" / name) for name in ("hen/0.jpg", "sea_owl/1.jpg")]
    assert hen.load().tobytes() == load_image(photos / "test" / "hen" / "0.jpg").tobytes()
    with pytest.raises(InputError, match=r"cannot read image 'zip://sea_owl/2.jpg::.*there is no such file"):
        gone.load()


def test_lists_of_labels_are_several_right_ones(photos: Path, tmp_path: Path) -> None:
    as_features(photos, labels=[[2, 0], [1], []]).save_to_disk(tmp_path / "one")
    data = db.dataset(f"hf:{tmp_path}/one")
    check_dataset(data)
    assert [(s.label, s.accepted) for s in data.samples()] == [(2, (2, 0)), (1, ()), (None, ())]


def test_a_saved_data_set_has_its_splits(photos: Path, tmp_path: Path) -> None:
    saved = as_features(photos, label=[0, 1, 1])
    datasets.DatasetDict({"train": saved, "dev": saved.select([0])}).save_to_disk(tmp_path / "saved")
    assert len(db.dataset(f"hf:{tmp_path}/saved:dev")) == 1
    with pytest.raises(InputError, match=r"has the splits train, dev; name one: hf:.*/saved:dev"):
        db.dataset(f"hf:{tmp_path}/saved")
    with pytest.raises(InputError, match="has no split 'test'; it has: train, dev"):
        db.dataset(f"hf:{tmp_path}/saved", split="test")


def test_a_split_has_to_be_named_where_there_are_several(photos: Path) -> None:
    with pytest.raises(InputError, match=rf"{photos} has the splits train, test; name one: hf:{photos}:test"):
        db.dataset(f"hf:{photos}")
    assert len(db.dataset(f"hf:{photos}", split="train")) == 2
    with pytest.raises(InputError, match=r"cannot be read by the library datasets: .*dev"):
        db.dataset(f"hf:{photos}:dev")
    with pytest.raises(SpecError, match=r"the split is 'test' .* and 'train' beside it"):
        db.dataset(f"hf:{photos}:test", split="train")


def test_columns_are_found_by_type_and_asked_for_where_several_fit(photos: Path, tmp_path: Path) -> None:
    as_features(photos, fine=[0, 1, 2], coarse=[0, 0, 1]).to_parquet(tmp_path / "birds.parquet")
    with pytest.raises(InputError, match=r"several columns that may be the label: fine, coarse. Say .* ,label=fine"):
        db.dataset(f"hf:{tmp_path}/birds.parquet")
    data = db.dataset(f"hf:{tmp_path}/birds.parquet,label=coarse")
    assert [sample.label for sample in data.samples()] == [0, 0, 1]
    assert repr(data).endswith("birds.parquet:train,label=coarse")
    with pytest.raises(InputError, match="no column 'medium'; its columns: image, fine, coarse"):
        db.dataset(f"hf:{tmp_path}/birds.parquet,label=medium")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "texts.parquet")
    with pytest.raises(InputError, match=r"has no column of images.* There are: text \(Value\)"):
        db.dataset(f"hf:{tmp_path}/texts.parquet")
    with pytest.raises(SpecError, match="streaming=maybe is not possible; it is yes or no"):
        db.dataset(f"hf:{tmp_path}/birds.parquet,streaming=maybe")


def test_without_a_column_of_labels_nothing_is_labelled(photos: Path, tmp_path: Path) -> None:
    as_features(photos).to_parquet(tmp_path / "birds.parquet")
    data = db.dataset(f"hf:{tmp_path}/birds.parquet")
    assert (data.names, [sample.label for sample in data.samples()]) == ((), [None, None, None])


def test_a_picture_that_is_damaged_or_missing_fails_when_it_is_loaded(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.new("RGB", (6, 6)).save(good, "PNG")
    pictures = [{"bytes": good.getvalue()[:40], "path": None}, None, {"bytes": b"", "path": None}]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["hen"])})
    datasets.Dataset.from_dict({"image": pictures, "label": [0, 0, 0]}, features=kinds).save_to_disk(tmp_path / "d")
    for sample, row, reason in zip(
        db.dataset(f"hf:{tmp_path}/d").samples(), range(3), ("", "holds no picture", "the file is empty"), strict=True
    ):
        with pytest.raises(InputError, match=rf"^cannot read image 'd:train, row {row}': .*{reason}"):
            sample.load()


def test_a_label_that_has_no_name_is_an_error(tmp_path: Path, photos: Path) -> None:
    as_features(photos, label=[0, 1, 2]).save_to_disk(tmp_path / "wrong")
    info = tmp_path / "wrong" / "dataset_info.json"
    info.write_text(info.read_text().replace('"wren"', "").replace('"owl",', '"owl"'))
    with pytest.raises(InputError, match="wrong:train, row 2: the label 2 is none of its 2 classes"):
        list(db.dataset(f"hf:{tmp_path}/wrong").samples())


def test_what_the_library_cannot_read_is_one_line(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    for options in ("", ",streaming=yes"):
        with pytest.raises(InputError, match=r"^.*broken.parquet cannot be read by the library datasets: [^\n]+$"):
            list(db.dataset(f"hf:{tmp_path}/broken.parquet{options}").samples())


def test_what_cannot_be_reached_says_what_to_do_next(tmp_path: Path) -> None:
    for spelled in ("hf:nobody/nothing:test", "hf:nobody/nothing", "hf:nobody/nothing@main:test,streaming=yes"):
        with pytest.raises(AccessError, match=r"^nobody/nothing: .*Check the name; .*name a local folder"):
            db.dataset(spelled)
    with pytest.raises(InputError, match=r"there is no folder or file './none'; hf:ORG/NAME"):
        db.dataset("hf:./none:test")
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(InputError, match=r"is a file; what would do: a folder, or a .parquet, .arrow file"):
        db.dataset(f"hf:{tmp_path}/notes.txt")


def test_their_progress_bars_stay_as_they_were(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = datasets.are_progress_bars_disabled()
    list(db.dataset(f"hf:{photos}:test").samples())
    assert datasets.are_progress_bars_disabled() == before
    assert capfd.readouterr().err == ""
