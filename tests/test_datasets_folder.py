"""Class folders of images, and the one loader: each kind of picture becomes the RGB that a person would see."""

from __future__ import annotations

import io
import os
import shutil
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from descbench.datasets import DATASETS, Dataset
from descbench.datasets.folder import images_below
from descbench.datasets.images import content_id, load_image
from descbench.errors import DescbenchWarning, InputError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "images" / "imagenet"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters() -> Image.Image:
    """40 x 20: red, green over blue, white; so every turn and mirroring can be told from every other."""
    image = Image.new("RGB", (40, 20))
    for box, colour in (((0, 0), RED), ((20, 0), GREEN), ((0, 10), BLUE), ((20, 10), WHITE)):
        image.paste(colour, (*box, box[0] + 20, box[1] + 10))
    return image


def corners(image: Image.Image) -> list[str]:
    """The nearest pure colours a quarter of the way in from each corner: upper row, then lower."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    w, h = image.size
    seen = [image.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]
    return [min(names, key=lambda n: sum(abs(a - b) for a, b in zip(names[n], pixel, strict=True))) for pixel in seen]


# What EXIF says about the first row and column of what is stored, by what must be done to see it upright.
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / f"x.{suffix}", exif=exif)
    expected = Image.fromarray(np.ascontiguousarray(TURNS[orientation](np.asarray(quarters()))))
    loaded = load_image(tmp_path / f"x.{suffix}")
    assert (loaded.size, corners(loaded)) == (expected.size, corners(expected))


def test_a_damaged_exif_block_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    quarters().save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\x00\x01")
    assert corners(load_image(tmp_path / "x.jpg")) == ["red", "green", "blue", "white"]


def test_cmyk_palette_grey_and_two_colours_become_rgb(tmp_path: Path) -> None:
    for name, mode in (("c.jpg", "CMYK"), ("c.tif", "CMYK"), ("p.png", "P"), ("p.gif", "P"), ("y.jpg", "YCbCr")):
        quarters().convert(mode).save(tmp_path / name)
        loaded = load_image(tmp_path / name)
        assert loaded.mode == "RGB"
        assert corners(loaded) == ["red", "green", "blue", "white"], name
    for name, mode in (("l.png", "L"), ("1.png", "1"), ("l.jpg", "L")):
        Image.new(mode, (4, 4), 255).save(tmp_path / name)
        assert load_image(tmp_path / name).getpixel((1, 1)) == WHITE


def test_16_bit_grey_keeps_its_full_range(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    for name in ("x.png", "x.tif"):
        Image.fromarray(grey).save(tmp_path / name)
        assert np.asarray(load_image(tmp_path / name)).tolist() == [[[0] * 3, [1] * 3, [128] * 3, [255] * 3]]


def test_floating_and_32_bit_grey_is_stretched_and_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    for kind in (np.float32, np.int32):
        Image.fromarray(np.array([[-100, 0, 100]], dtype=kind)).save(tmp_path / "x.tif")
        assert np.asarray(load_image(tmp_path / "x.tif"))[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.full((2, 2), 7, dtype=np.float32)).save(tmp_path / "flat.tif")
    assert np.asarray(load_image(tmp_path / "flat.tif")).max() == 0
    Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match="no numbers"):
        load_image(tmp_path / "nan.tif")


def test_transparency_of_any_kind_lies_on_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    half.save(tmp_path / "half.png")
    assert load_image(tmp_path / "half.png").getpixel((0, 0)) == (255, 127, 127)
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "bytes.png", transparency=b"\x00\xff")
    palette.save(tmp_path / "p.gif", transparency=0)
    Image.new("RGB", (4, 4), RED).save(tmp_path / "rgb.png", transparency=RED)
    for name in ("la.png", "p.png", "bytes.png", "p.gif", "rgb.png"):
        assert load_image(tmp_path / name).getpixel((2, 2)) == WHITE, name


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_of_an_animation_counts(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    loaded = load_image(tmp_path / f"x.{suffix}").getpixel((4, 4))
    assert loaded[0] > 240 and loaded[2] < 20


def test_an_image_in_memory_is_left_as_it_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    quarters().save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        loaded = load_image(image)
        assert (image.size, loaded.size) == ((40, 20), (20, 40))
    rgb = quarters()
    assert load_image(rgb) is not rgb
    assert load_image(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0)) == WHITE


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "x.png")
    assert load_image(str(tmp_path / "x.png")).getpixel((0, 0)) == RED


def bomb() -> bytes:
    """A few bytes that say they are a PNG of 20,000 x 20,000 pixels."""
    chunks = [
        b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(100)),
        b"IEND",
    ]
    packed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def truncated(kind: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"this is no picture\n", "not a picture in a format"),
        ("half.jpg", truncated("JPEG"), "truncated"),
        ("half.png", truncated("PNG"), "truncated"),
        ("half.gif", truncated("GIF"), "truncated"),
        ("half.tif", truncated("TIFF"), ""),
        ("half.webp", truncated("WEBP"), ""),
        ("half.bmp", truncated("BMP"), "truncated"),
        ("bomb.png", bomb(), "more than 178,956,970 pixels"),
    ],
)
def test_a_picture_that_cannot_be_read_is_an_error_with_path_and_reason(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^cannot read image '{tmp_path}/{name}': [^\n]*{reason}[^\n]*$"):
        load_image(tmp_path / name)


def test_what_is_no_file_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="cannot read image"):
        load_image(tmp_path)
    with pytest.raises(InputError, match="cannot read image"):
        content_id(tmp_path / "none.jpg")


def test_pillows_warnings_stay_inside_and_other_filters_stay_as_they_were(tmp_path: Path) -> None:
    big = Image.new("1", (10_000, 9_000))  # above the size where Pillow warns, below that where it refuses
    big.save(tmp_path / "big.png")
    before = list(warnings.filters)
    threads = [threading.Thread(target=load_image, args=(tmp_path / "big.png",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()  # an exception in a thread is a warning of pytest, and so an error here
    assert warnings.filters == before


# The data set.


def write(path: Path, colour: tuple[int, int, int] = RED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def folder(path: Path):
    return DATASETS["folder"].from_spec(str(path))


def test_classes_and_images_come_in_the_order_of_their_code_points(tmp_path: Path) -> None:
    for name in ("b_hen/2.PNG", "b_hen/10.png", "a/deep/er/x.jpeg", "Z/1.gif", "é/1.bmp", "b_hen/.hidden.png"):
        write(tmp_path / name)
    write(tmp_path / ".hidden" / "1.png")
    write(tmp_path / "a" / ".thumbnails" / "1.png")
    data = folder(tmp_path)
    assert isinstance(data, Dataset)
    assert data.names == ("Z", "a", "b hen", "é")
    seen = [(Path(sample.source).relative_to(tmp_path).as_posix(), sample.label) for sample in data.samples()]
    assert seen == [("Z/1.gif", 0), ("a/deep/er/x.jpeg", 1), ("b_hen/10.png", 2), ("b_hen/2.PNG", 2), ("é/1.bmp", 3)]
    assert (len(data), repr(data)) == (5, f"folder:{tmp_path}")


def test_a_name_keeps_its_underscore_where_a_blank_would_make_two_equal(tmp_path: Path) -> None:
    for name in ("sea lion", "sea_lion", "sea_horse"):
        write(tmp_path / name / "1.png")
    assert folder(tmp_path).names == ("sea lion", "sea horse", "sea_lion")


def test_ids_and_fingerprint_are_of_the_contents(tmp_path: Path) -> None:
    write(tmp_path / "one" / "a" / "1.png")
    write(tmp_path / "one" / "b" / "1.png", BLUE)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    assert [s.id for s in one.samples()] == [s.id for s in two.samples()]
    assert len({s.id for s in one.samples()}) == 2
    assert one.fingerprint == two.fingerprint
    write(tmp_path / "two" / "b" / "1.png", GREEN)
    assert folder(tmp_path / "two").fingerprint != one.fingerprint


def test_a_file_that_cannot_be_read_is_a_sample_that_fails_when_loaded(tmp_path: Path) -> None:
    write(tmp_path / "hen" / "1.png")
    (tmp_path / "hen" / "2.jpg").write_bytes(b"")
    (tmp_path / "hen" / "3.jpg").symlink_to(tmp_path / "gone")
    good, empty, gone = folder(tmp_path).samples()
    assert good.load().size == (8, 8)
    assert len({good.id, empty.id, gone.id}) == 3
    for sample in (empty, gone):
        with pytest.raises(InputError, match="cannot read image"):
            sample.load()


def test_what_is_left_out_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "hen" / "1.png")
    (tmp_path / "empty").mkdir()
    with pytest.warns(DescbenchWarning, match=r"1 of 2 class folders .* hold no image: empty"):
        assert folder(tmp_path).names == ("empty", "hen")
    write(tmp_path / "empty" / "1.png")
    write(tmp_path / "loose.png")
    with pytest.warns(DescbenchWarning, match=r"1 images lie beside the class folders .* left out: loose.png"):
        assert len(folder(tmp_path)) == 2


def test_files_that_are_no_pictures_by_their_names_are_counted_by_their_endings(tmp_path: Path) -> None:
    write(tmp_path / "hen" / "1.png")
    for name in ("a.mp4", "b/c.MP4", "Thumbs.db", "README", ".hidden.txt"):
        (tmp_path / "hen" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "hen" / name).write_text("?")
    message = r"no picture by its name is left out of .*: files with \.mp4 \(2\), \.db \(1\), no suffix \(1\)\."
    with pytest.warns(DescbenchWarning, match=message):
        assert len(folder(tmp_path)) == 1


def test_jpegs_by_other_names_and_pictures_of_phones_count_as_pictures(tmp_path: Path) -> None:
    write(tmp_path / "hen" / "1.jpg")
    shutil.copy(tmp_path / "hen" / "1.jpg", tmp_path / "hen" / "2.JFIF")
    (tmp_path / "hen" / "3.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    jpeg, jfif, heic = folder(tmp_path).samples()
    assert jpeg.load() == jfif.load()
    with pytest.raises(InputError, match=r"3\.heic': it is not a picture .* Pillow reads; make a JPEG of it"):
        heic.load()


def test_links_to_folders_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "deep" / "1.png")
    write(tmp_path / "photos" / "hen" / "2.png", BLUE)
    (tmp_path / "photos" / "hen" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "hen" / "self").symlink_to(tmp_path / "photos" / "hen")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    seen = [Path(sample.source).relative_to(tmp_path).as_posix() for sample in folder(tmp_path / "photos").samples()]
    assert seen == ["photos/hen/2.png", "photos/hen/more/deep/1.png"]


def test_a_folder_that_cannot_be_looked_into_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot look into folder '.*gone': No such file or directory\. Change who"):
        images_below(tmp_path / "gone")


def test_names_that_are_no_utf_8_can_be_shown_kept_and_written(tmp_path: Path) -> None:
    at = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        Path(os.fsdecode(at)).mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    write(Path(os.fsdecode(at + b"/1\xff.png")))
    Path(os.fsdecode(at + b"/2\xff.png")).write_bytes(b"")
    data = folder(tmp_path)
    assert data.names == (r"caf\xe9",)
    good, empty = data.samples()
    assert good.load().size == (8, 8)
    with pytest.raises(InputError) as caught:
        empty.load()
    for text in (good.source, good.id, empty.source, empty.id, data.fingerprint, str(caught.value)):
        text.encode("utf-8")
    assert empty.source.endswith(r"/caf\xe9/2\xff.png")


def test_a_folder_that_is_no_data_set_says_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        folder(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no class folders .* no images either"):
        folder(tmp_path)
    write(tmp_path / "1.png")
    with pytest.raises(InputError, match="is a file"):
        folder(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"has no class folders .* 1 images .* `descbench classify`"):
        folder(tmp_path)
    (tmp_path / "1.png").unlink()
    (tmp_path / "hen").mkdir()
    with pytest.raises(InputError, match=r"class folders of .* \(hen\) hold no image\. .*\.jpeg, \.jpg"):
        folder(tmp_path)


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
def test_photographs_are_read_upright(tmp_path: Path) -> None:
    rotated: list[str] = []
    for path in sorted(SHARED.glob("*.JPEG")):
        target = tmp_path / path.stem.partition("_")[2] / path.name
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    data = folder(tmp_path)
    assert len(data) == len(data.names) == len(list(SHARED.glob("*.JPEG"))) >= 28
    assert "ping-pong ball" in data.names and "Airedale" in data.names
    for sample in data.samples():
        loaded = sample.load()
        assert loaded.mode == "RGB"
        with Image.open(sample.source) as stored:
            orientation = stored.getexif().get(0x0112, 1)
            expected = TURNS[orientation or 1](np.asarray(stored.convert("RGB")))  # two say 0, which says nothing
        if orientation > 1:
            rotated.append(Path(sample.source).name)
        assert np.array_equal(np.asarray(loaded), expected), sample.source
    assert rotated == ["n02951585_can_opener.JPEG"]
