"""The commands on real inputs, where they lie beside the checkout: published features, descriptions and JPEGs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from descbench.cli import main

DATA = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no real inputs beside this checkout")


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    """The JSON that a command prints; it must end well."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    found: dict[str, object] = json.loads(out)
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCBENCH_CACHE", str(tmp_path / "cache"))


def test_cats_and_dogs_by_real_features_score_3664_of_3669(capsys: pytest.CaptureFixture[str]) -> None:
    features = DATA / "features"
    found = ran(
        capsys,
        *("evaluate", f"features:{features / 'pets_vitb32_images.npz'}"),
        *("--encoder", f"features:{features / 'names_vitb32_text.npz'}"),
        *("--classes", "cat,dog", "--method", "template('a {}')", "--labels", features / "pets_to_cat_dog.csv"),
    )
    (run,) = found["runs"]  # type: ignore[misc]  # the baselines' texts are not among the features
    assert (run["right"], run["images"]) == (3664, 3669)


@pytest.mark.slow
def test_a_vit_b_32_and_a_published_file_classify_real_jpegs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = tmp_path / "vit"
    folder.mkdir()
    model = open_clip.create_model("ViT-B-32", load_weights=False)
    save_file({name: part.contiguous() for name, part in model.state_dict().items()}, folder / "open_clip_model.safetensors")  # fmt: skip  # noqa: E501
    config = {
        "model_cfg": open_clip.get_model_config("ViT-B-32"),
        "preprocess_cfg": {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    published = DATA / "descriptions" / "dclip" / "descriptors_pets.json"
    names = list(json.loads(published.read_text()))
    pictures = sorted((DATA / "images" / "imagenet").iterdir())
    for number, picture in enumerate(pictures):
        place = tmp_path / "photos" / names[number % 12].replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place)
    encoder = f"open_clip:local-dir:{folder}"
    found = ran(capsys, "evaluate", f"folder:{tmp_path / 'photos'}", "-d", published, "-e", encoder, "--no-baselines")
    assert [run["images"] for run in found["runs"]] == [len(pictures)]  # type: ignore[attr-defined]
    named = ran(capsys, "classify", *pictures[:3], "-d", published, "-e", encoder)
    answers = {entry["classes"][0]["name"] for entry in named["images"]}  # type: ignore[attr-defined]
    assert answers <= set(names)
