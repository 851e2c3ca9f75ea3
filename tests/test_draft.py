"""Drafts: large JPEGs decoded at a fraction of their size give nearly the same features, which are never mixed up."""

from __future__ import annotations

import io
import json
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

import descbench as db
from descbench.datasets.images import load_draft, load_image
from descbench.demo import renderer
from descbench.demo.guide import species
from descbench.embedding import Embedded, embed, keep
from descbench.errors import InputError, SpecError
from descbench.store import CachedEncoder


def encoder(draft: bool, **options: object) -> object:
    return db.encoder("demo", device="cpu", draft=draft, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 birds as cameras keep them, grainy: JPEGs of 2048 x 1536, one grey, one on its side, one progressive.

    An eighth of that is 192 pixels high, three times what the model sees: as small as drafts become.
    """
    root = tmp_path_factory.mktemp("large")
    grain = np.random.default_rng(0).integers(-12, 13, (1536, 2048, 3), dtype=np.int16)
    for number in range(12):
        page = species()[5 * number % 40]
        drawn = renderer.render(page.bird, 1_000_000 + number, 512).resize((2048, 2048)).crop((0, 256, 2048, 1792))
        grainy = np.asarray(drawn, dtype=np.int16) + np.roll(grain, 17 * number, axis=1)
        picture = Image.fromarray(grainy.clip(0, 255).astype(np.uint8))
        exif = Image.Exif()
        if number == 1:
            picture = picture.convert("L")
        if number == 2:
            picture = picture.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        path = root / page.name / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        picture.save(path, quality=(75, 92)[number % 2], exif=exif, progressive=number == 3)
    return root


@pytest.fixture(scope="module")
def both(photos: Path) -> tuple[Embedded, Embedded]:
    """The features of whole pictures, and of drafts."""
    whole, draft = (embed(db.dataset(f"folder:{photos}"), encoder(flag)) for flag in (False, True))
    return whole, draft


def test_features_of_drafts_are_close_and_the_answers_the_same(both: tuple[Embedded, Embedded]) -> None:
    whole, draft = both
    assert whole.ids == draft.ids
    cosines = [float(a @ b) for a, b in zip(whole.features, draft.features, strict=True)]
    assert 0.9998 < min(cosines) < max(cosines) < 1 - 1e-6  # and they are drafts
    birds = db.Vocabulary([page.name for page in species()], domain="birds")
    described = db.generate(birds, db.method("dclip"), db.llm("demo"))
    clf = db.Classifier(birds, db.method("dclip"), encoder(False), descriptions=described)
    one, two = clf.predict_features(whole.features, top_k=2), clf.predict_features(draft.features, top_k=2)
    clear = one.scores[:, 0] - one.scores[:, 1] > 0.001  # of the grey picture no colour is known: two birds are as near
    assert clear.sum() == 11
    assert one.ids[clear, 0].tolist() == two.ids[clear, 0].tolist()
    assert np.abs(one.scores - two.scores)[one.ids == two.ids].max() < 0.005


def jpeg(size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    stored = io.BytesIO()
    Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 50).convert(mode).save(stored, **({"format": "JPEG"} | options))
    return stored.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_reduced_as_far_as_the_side_allows_and_nothing_else_is(mode: str) -> None:
    def size(content: bytes, side: int) -> tuple[int, int]:
        drawn = load_draft(partial(load_image, content), side)
        assert drawn.mode == "RGB"
        return drawn.size

    content = jpeg((1600, 1200), mode)
    for side, expected in ((100, (200, 150)), (150, (200, 150)), (151, (400, 300)), (301, (800, 600)), (601, None)):
        assert size(content, side) == (expected or (1600, 1200)), side
    assert size(jpeg((1201, 1599), mode), 150) == (151, 200)  # what is left over counts as one more
    exif = Image.Exif()
    exif[0x0112] = 6
    assert size(jpeg((1600, 1200), mode, exif=exif), 150) == (150, 200)
    assert load_image(content).size == (1600, 1200)  # afterwards all is as before
    if mode == "RGB":
        both = [Image.new("RGB", (1600, 1200), colour) for colour in ("red", "blue")]
        stored = io.BytesIO()
        both[0].save(stored, "MPO", save_all=True, append_images=both[1:])
        assert size(stored.getvalue(), 150) == (200, 150)
        for format_ in ("PNG", "WEBP"):
            assert size(jpeg((1600, 1200), format=format_), 150) == (1600, 1200)


def test_a_reduced_jpeg_is_the_picture_in_small() -> None:
    content = jpeg((1600, 1200))
    small = load_draft(partial(load_image, content), 300)
    by_hand = np.asarray(load_image(content), dtype=float).reshape(300, 4, 400, 4, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(small, dtype=float) - by_hand).mean() < 2


def test_a_damaged_jpeg_is_no_better_as_a_draft(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(jpeg((1600, 1200))[:-20_000])
    with pytest.raises(InputError, match="truncated"):
        load_draft(partial(load_image, tmp_path / "cut.jpg"), 100)
    assert load_image(jpeg((40, 30))).size == (40, 30)


@pytest.mark.parametrize("kind", ["processes", "strict", "manifest", "wds", "memory"])
def test_drafts_are_made_wherever_the_pictures_lie(
    photos: Path, both: tuple[Embedded, Embedded], tmp_path: Path, kind: str
) -> None:
    files = sorted(photos.rglob("*.jpg"), key=lambda path: path.relative_to(photos).as_posix())[:3]
    spelled, options = f"folder:{photos}", {"strict": kind == "strict"}
    if kind == "manifest":
        (tmp_path / "x.csv").write_text("\n".join(["path", *map(str, files)]))
        spelled = f"manifest:{tmp_path / 'x.csv'}"
    elif kind == "wds":
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for number, path in enumerate(files):
                tar.add(path, f"{number}.jpg")
        spelled = f"wds:{tmp_path / 'x.tar'}"
    elif kind == "memory":
        with Image.open(files[0]) as held:  # a picture that somebody holds is theirs, and stays whole
            birds = db.Vocabulary(["a", "b"])
            answers = [
                db.Classifier(birds, db.method("classname"), encoder(flag)).predict([held]).scores for flag in (0, 1)
            ]
            assert held.size == (2048, 1536)
        assert np.allclose(*answers, atol=1e-6)
        return
    found = embed(db.dataset(spelled, **options), encoder(True), workers=2 if kind == "processes" else 0)
    assert np.allclose(found.features, both[1].features[: len(found)], atol=1e-5)
    assert not np.allclose(found.features, both[0].features[: len(found)], atol=1e-5)


def test_pictures_that_are_small_already_have_the_same_features(tmp_path: Path) -> None:
    for number in range(3):  # the model sees 64 pixels; a half of these would be 191, and not three times as many
        path = tmp_path / "photos" / "hen" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg((383 + 40 * number, 382)))
    one, two = (embed(db.dataset(f"folder:{tmp_path / 'photos'}"), encoder(flag)).features for flag in (False, True))
    assert np.allclose(one, two, atol=1e-6)


def test_what_is_kept_of_drafts_serves_drafts_alone_and_runs_are_compared_all_the_same(
    photos: Path, both: tuple[Embedded, Embedded], tmp_path: Path
) -> None:
    data = db.dataset(f"folder:{photos}")
    whole, draft = (CachedEncoder(encoder(flag), tmp_path) for flag in (False, True))
    assert whole.fingerprint != draft.fingerprint
    assert (whole.compute.used.get("draft"), draft.compute.used["draft"]) == (None, True)
    for cached, expected in ((whole, both[0]), (draft, both[1])):
        assert keep(data, cached).encoded == 12
        assert keep(data, cached).encoded == 0
        assert np.allclose(embed(data, cached).features, expected.features, atol=1e-5)
    birds = db.Vocabulary(data.names)
    runs = [db.evaluate(db.Classifier(birds, db.method("classname"), cached), data) for cached in (whole, draft)]
    assert [run.compute.get("draft") for run in runs] == [None, True]
    assert len({run.ids for run in runs}) == 1
    assert "classname" in str(db.compare(runs))


def test_drafts_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a draft has too few pixels"):
        encoder(True, views="crops(8)")
    np.savez(tmp_path / "x.npz", texts=np.array(["a"]), text_features=np.eye(1, 4, dtype=np.float32))
    with pytest.raises(SpecError, match="no option 'draft'"):
        db.encoder(f"features:{tmp_path / 'x.npz'}", draft=True)


@pytest.mark.slow
def test_the_commands_say_that_they_worked_on_drafts(run: Run, photos: Path, tmp_path: Path) -> None:
    done = run("evaluate", f"folder:{photos}", "--encoder", "demo", "--device", "cpu", "--draft", "-o", "runs")
    assert done.code == 0, done.err
    assert "large JPEGs are decoded as drafts" in done.err
    kept = json.loads(next((tmp_path / "runs").rglob("run.json")).read_text())
    assert kept["compute"]["draft"] is True
    options = ["--encoder", "demo", "--device", "cpu", "--draft"]
    again = run("embed", f"folder:{photos}", *options, "--json")
    assert json.loads(again.out)["encoded"] == 0
    assert json.loads(run("embed", f"folder:{photos}", *options[:-1], "--json").out)["encoded"] == 12
    for command in (["score", f"folder:{photos}", "-o", "p.parquet"], ["classify", next(photos.rglob("*.jpg"))]):
        done = run(*command, "--classes", "hen,owl", *options)
        assert (done.code, "decoded as drafts" in done.err) == (0, True), done.err
