"""Data sets of torchvision, made small here in the files that it lays out: our names, our loader, their labels."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as theirs
from PIL import Image
from scipy.io import savemat

import descbench as db
from descbench.datasets.aliases import ALIASES, imagenet_classes
from descbench.datasets.images import load_image
from descbench.datasets.torchvision import KINDS
from descbench.errors import AccessError, InputError, SpecError
from descbench.testing import check_dataset

SHARED = Path(__file__).parents[2] / "shared" / "data"


def photo(path: Path, shade: int) -> None:
    """A picture 8 wide and 12 high when upright, as its EXIF block says: torchvision would show it lying."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8), (shade * 20, 0, 90)).save(path, exif=exif)


def food(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"hot_dog": ["hot_dog/1"], "apple_pie": ["apple_pie/2", "apple_pie/3"]}
    (root / "food-101" / "meta").mkdir(parents=True)
    for split in ("train", "test"):
        (root / "food-101" / "meta" / f"{split}.json").write_text(str(meta).replace("'", '"'))
    for files in meta.values():
        for file in files:
            photo(root / "food-101" / "images" / f"{file}.jpg", int(file[-1]))


def pets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["Egyptian_Mau_7 2 1 2", "american_bulldog_100 3 2 1", "Abyssinian_1 1 1 1"]
    (root / "oxford-iiit-pet" / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        (root / "oxford-iiit-pet" / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    for shade, line in enumerate(lines):
        photo(root / "oxford-iiit-pet" / "images" / f"{line.split()[0]}.jpg", shade)


def dtd(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = root / "dtd" / "dtd" / "labels"
    labels.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (labels / f"{split}1.txt").write_text("banded/banded_0002.jpg\npolka-dotted/polka-dotted_0005.jpg\n")
    (labels / "test10.txt").write_text("polka-dotted/polka-dotted_0005.jpg\n")
    for shade, name in enumerate(("banded/banded_0002", "polka-dotted/polka-dotted_0005")):
        photo(root / "dtd" / "dtd" / "images" / f"{name}.jpg", shade)


def eurosat(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shade, name in enumerate(ALIASES["EuroSAT"]):
        photo(root / "eurosat" / "2750" / name / f"{name}_1.jpg", shade)


def flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flowers-102"
    for number in (1, 2, 3):
        photo(folder / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[60, 1, 102]], dtype=np.uint8)})  # from 1, as theirs
    savemat(folder / "setid.mat", {"trnid": [[2, 1]], "valid": [[2, 3]], "tstid": [[1, 2, 3]]})
    sums = {"image": ("102flowers.tgz", ""), "label": ("imagelabels.mat", None), "setid": ("setid.mat", None)}
    monkeypatch.setattr(theirs.Flowers102, "_file_dict", sums)  # checksums of these small files are others


def aircraft(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    for shade, name in enumerate(("0034309", "0034958")):
        photo(data / "images" / f"{name}.jpg", shade)
    levels = {
        "variant": ("variants", ["737-700", "F-16A/B"]),
        "family": ("families", ["Boeing 737", "F-16"]),
        "manufacturer": ("manufacturers", ["Boeing", "Lockheed Martin"]),
    }
    for level, (file, names) in levels.items():
        (data / f"{file}.txt").write_text("\n".join(names) + "\n")
        for split in ("train", "val", "trainval", "test"):
            text = f"0034958 {names[1]}\n0034309 {names[0]}\n"
            (data / f"images_{level}_{split}.txt").write_text(text)


def cars(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    names = np.array(["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    kind = [("fname", object), ("class", np.uint8)]
    rows = np.array([("00001.jpg", 2), ("00002.jpg", 1)], dtype=kind)
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": rows})
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": rows})
    for split in ("train", "test"):
        for number in (1, 2):
            photo(folder / f"cars_{split}" / f"0000{number}.jpg", number)


def cifar(kind: type[theirs.CIFAR10], key: str, names: list[str]) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = root / kind.base_folder
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
        for files in (kind.train_list, kind.test_list):
            for file, _ in files:
                (folder / file).write_bytes(pickle.dumps({"data": pixels, key: [1, 0]}))
        (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: names}))
        for files in ("train_list", "test_list"):  # checksums of these small files are others
            monkeypatch.setattr(kind, files, [[name, None] for name, _ in getattr(kind, files)])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})

    return write


def imagenet(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shade, wnid in enumerate(("n01440764", "n03773504", "n04008634", "n04355933", "n04356056")):
        for split in ("val", "train"):
            photo(root / split / wnid / f"{shade}.JPEG", shade)


SMALL: dict[str, Any] = {
    "CIFAR10": cifar(theirs.CIFAR10, "labels", ["airplane", "automobile"]),
    "CIFAR100": cifar(theirs.CIFAR100, "fine_labels", ["apple", "aquarium_fish"]),
    "DTD": dtd,
    "EuroSAT": eurosat,
    "FGVCAircraft": aircraft,
    "Flowers102": flowers,
    "Food101": food,
    "ImageNet": imagenet,
    "OxfordIIITPet": pets,
    "StanfordCars": cars,
}
SEEN = {  # the labels of the pictures of the first split, by name, in their order
    "CIFAR10": ["automobile", "airplane"],
    "CIFAR100": ["aquarium fish", "apple"],
    "DTD": ["banded", "polka-dotted"],
    "EuroSAT": ["annual crop land", "forest", "brushland or shrubland", "highway or road",
                "industrial buildings or commercial buildings", "pasture land", "permanent crop land",
                "residential buildings or homes or apartments", "river", "lake or sea"],
    "FGVCAircraft": ["F-16A/B", "737-700"],
    "Flowers102": ["pink and yellow dahlia", "pink primrose", "blackberry lily"],
    "Food101": ["hot dog", "apple pie", "apple pie"],
    "ImageNet": ["tench", "missile", "missile", "sunglasses", "sunglasses"],
    "OxfordIIITPet": ["Egyptian Mau", "american bulldog", "Abyssinian"],
    "StanfordCars": ["Ram C/V Cargo Van Minivan 2012", "AM General Hummer SUV 2000"],
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_has_the_names_of_the_field_and_pictures_by_our_loader(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    SMALL[name](tmp_path, monkeypatch)
    data = db.dataset(f"torchvision:{name}:{tmp_path}")
    check_dataset(data)
    samples = list(data.samples())
    assert [data.names[sample.label] for sample in samples] == SEEN[name]
    assert len({sample.id for sample in samples}) == len(samples)
    assert db.dataset(repr(data)).fingerprint == data.fingerprint
    for sample in samples:
        if name.startswith("CIFAR"):
            assert sample.load().size == (32, 32)
        else:
            assert sample.load().size == (8, 12)  # upright
            assert sample.load().tobytes() == load_image(sample.source).tobytes()


@pytest.mark.parametrize("name", KINDS)
def test_every_split_is_read_and_another_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL[name](tmp_path, monkeypatch)
    spelled = f"torchvision:{name}:{tmp_path}"
    for split in KINDS[name].splits:
        assert len(db.dataset(spelled, split=split)) > 0
        assert len(db.dataset(f"{spelled},split={split}")) > 0
    message = "has no splits; leave 'dev' out" if name == "EuroSAT" else r"has no split 'dev'.* There are: (test|val), "
    with pytest.raises(InputError, match=message):
        db.dataset(spelled, split="dev")


def test_cifar_s_pixels_are_those_that_torchvision_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL["CIFAR10"](tmp_path, monkeypatch)
    expected = [np.asarray(image).tolist() for image, _ in theirs.CIFAR10(tmp_path, train=False)]
    loaded = [np.asarray(sample.load()).tolist() for sample in db.dataset(f"torchvision:CIFAR10:{tmp_path}").samples()]
    assert loaded == expected


def test_dtd_has_ten_partitions_and_aircraft_three_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dtd(tmp_path, monkeypatch)
    aircraft(tmp_path, monkeypatch)
    assert len(db.dataset(f"torchvision:DTD:{tmp_path}")) == 2
    tenth = db.dataset(f"torchvision:DTD:{tmp_path},partition=10")
    assert (len(tenth), tenth.names) == (1, ("polka-dotted",))
    families = db.dataset(f"torchvision:FGVCAircraft:{tmp_path},level=family")
    assert families.names == ("Boeing 737", "F-16")
    for spelled, message in {
        "DTD:{},partition=11": r"has no partition '11'; did you mean '1'\? There are: 1, 2",
        "FGVCAircraft:{},level=familie": "has no level 'familie'; did you mean 'family'",
    }.items():
        with pytest.raises(InputError, match=message):
            db.dataset(f"torchvision:{spelled.format(tmp_path)}")
    with pytest.raises(SpecError, match="torchvision:DTD has no option level"):
        db.dataset(f"torchvision:DTD:{tmp_path},level=family")


def test_imagenet_has_its_thousand_names_and_equal_ones_are_told_apart_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagenet(tmp_path, monkeypatch)
    data = db.dataset(f"torchvision:ImageNet:{tmp_path}")
    wnids, names = imagenet_classes()
    assert (len(data.names), list(wnids)) == (1000, sorted(wnids))
    assert data.names == names
    labels = [sample.label for sample in data.samples()]
    assert labels == [0, 657, 744, 836, 837]  # the numbers that are printed everywhere
    vocabulary = db.Vocabulary(data.names)
    assert vocabulary.match(data.names).tolist() == list(range(1000))
    photo(tmp_path / "val" / "tench" / "1.JPEG", 3)
    with pytest.raises(InputError, match=r"no ids of ImageNet's 1,000 classes: tench\. .* use folder:"):
        db.dataset(f"torchvision:ImageNet:{tmp_path}")
    with pytest.raises(InputError, match=r"image folder '.*/train' does not exist"):
        db.dataset(f"torchvision:ImageNet:{tmp_path / 'none'}", split="train")


def test_what_is_not_there_is_said_and_downloaded_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DESCBENCH_DATA", raising=False)
    with pytest.raises(InputError, match=r"where does Food101 lie\? Write torchvision:Food101:ROOT, or .*BENCH_DATA"):
        db.dataset("torchvision:Food101")
    monkeypatch.setenv("DESCBENCH_DATA", str(tmp_path))
    for name in KINDS:
        with pytest.raises(InputError):
            db.dataset(f"torchvision:{name}")
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"Dataset not found\. Give the folder .*Food101:ROOT,download=yes"):
        db.dataset("torchvision:Food101")
    with pytest.raises(SpecError, match=r"no 'food101' of torchvision; did you mean 'Food101'\? There are: CIFAR10, "):
        db.dataset("torchvision:food101")
    with pytest.raises(AccessError, match=r"cannot be downloaded: The original URL is broken.* Put its files there"):
        db.dataset("torchvision:StanfordCars", download=True)
    with pytest.raises(InputError, match="cannot be downloaded without an account"):
        db.dataset("torchvision:ImageNet,download=yes")
    food(tmp_path, monkeypatch)
    assert len(db.dataset("torchvision:Food101")) == 3


@pytest.mark.parametrize("name", ["Flowers102", "StanfordCars"])
def test_without_scipy_two_of_them_say_what_to_install(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    SMALL[name](tmp_path, monkeypatch)
    for module in ("scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"needs scipy for its labels: pip install 'descbench\[torchvision\]'"):
        db.dataset(f"torchvision:{name}:{tmp_path}")


def test_a_download_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs.Food101, "_URL", "http://localhost:1/food-101.tar.gz")
    with pytest.raises(AccessError, match=r"cannot be downloaded: .*[Cc]onnection refused"):
        db.dataset(f"torchvision:Food101:{tmp_path},download=yes")


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
def test_eurosat_s_names_are_those_of_published_descriptions() -> None:
    published = db.read_descriptions(str(SHARED / "descriptions" / "dclip" / "descriptors_eurosat.json")).vocabulary()
    assert set(published.names) == set(ALIASES["EuroSAT"].values())


@pytest.mark.skipif(not SHARED.exists(), reason="no shared data here")
def test_a_photograph_s_id_of_wordnet_leads_to_its_name(tmp_path: Path) -> None:
    photos = sorted((SHARED / "images" / "imagenet").glob("n*.JPEG"))
    for path in photos:
        wnid = path.stem.partition("_")[0]
        (tmp_path / "val" / wnid).mkdir(parents=True)
        shutil.copy(path, tmp_path / "val" / wnid)
    data = db.dataset(f"torchvision:ImageNet:{tmp_path}")
    found = {Path(sample.source).stem.partition("_")[2]: data.names[sample.label] for sample in data.samples()}
    words = {stored: set(stored.lower().split("_")) & set(name.lower().split()) for stored, name in found.items()}
    assert len(found) == len(photos)
    other = {stored: found[stored] for stored, shared in words.items() if not shared}
    assert other == {"coho": "silver salmon", "file": "filing cabinet", "hoopskirt": "hoop skirt", "yawl": "sailboat"}
