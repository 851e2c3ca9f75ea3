"""The commands, as a person or a script runs them: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from PIL import Image

from descbench.demo.guide import species
from descbench.demo.renderer import render
from descbench.descriptions import Descriptions


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders of two pictures each, named as people name folders."""
    for number, page in enumerate(species()[:2]):
        folder = tmp_path / "photos" / page.name.replace(" ", "_").upper()
        folder.mkdir(parents=True)
        for seed in range(2):
            render(page.bird, 5_000_000 + 10 * number + seed).save(folder / f"{seed}.png")
    return tmp_path / "photos"


@pytest.fixture
def described(tmp_path: Path) -> Path:
    """A file of descriptions of the first two species, as DCLIP's authors publish theirs."""
    path = tmp_path / "two.json"
    path.write_text(json.dumps({page.name: ["a green body", "red legs"] for page in species()[:2]}))
    return path


def test_generate_writes_a_file_and_asks_nothing_the_second_time(run: Run) -> None:
    first = run("generate", "demo", "--llm", "demo", "-o", "birds.desc.json")
    assert first.code == 0, first.err
    assert "40 asked, 0 from the cache" in first.err
    written = Path("birds.desc.json").read_text()
    Path("birds.desc.json").unlink()
    again = run("generate", "demo", "--llm", "demo", "-o", "birds.desc.json")
    assert "0 asked, 40 from the cache" in again.err
    assert Path("birds.desc.json").read_text() == written


def test_generate_keeps_what_a_person_has_edited(run: Run) -> None:
    run("generate", "Ardova lema,Belquin pobu", "--domain", "birds", "--llm", "demo", "-o", "two.json")
    found = Descriptions.load("two.json")
    found.classes[0][0] = "a tiny red hat"
    found.save("two.json")
    run("generate", "Ardova lema,Belquin pobu,Corvell paril", "--domain", "birds", "--llm", "demo", "-o", "two.json")
    assert Descriptions.load("two.json").classes[0][0] == "a tiny red hat"
    assert len(Descriptions.load("two.json").classes) == 3


def test_generate_without_a_file_prints_only_json_on_stdout(run: Run) -> None:
    done = run("generate", "Ardova lema,", "--domain", "birds", "--llm", "demo")
    assert json.loads(done.out)["classes"][0]["name"] == "Ardova lema"


def test_evaluate_shows_the_baselines_and_the_method_with_intervals(run: Run, photos: Path, described: Path) -> None:
    done = run("evaluate", f"folder:{photos}", "-d", described, "--encoder", "demo")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert "4 images, 2 classes" in lines[0]
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "classname",
        "template('a photo of a {}.')",
        "templates",
        "dclip",
    ]
    assert all("[" in line and "of 4" in line for line in lines[2:])


def test_evaluate_encodes_nothing_twice(run: Run, photos: Path, described: Path) -> None:
    run("evaluate", f"folder:{photos}", "-d", described, "--encoder", "demo")
    before = {path: path.stat().st_mtime_ns for path in Path("kept/features").rglob("*.safetensors")}
    assert before
    again = run("evaluate", f"folder:{photos}", "-d", described, "--encoder", "demo", "--json")
    assert {path: path.stat().st_mtime_ns for path in Path("kept/features").rglob("*.safetensors")} == before
    assert {r["method"] for r in json.loads(again.out)["runs"]} >= {"dclip", "classname"}


def test_evaluate_keeps_runs_that_can_be_loaded(run: Run, photos: Path, described: Path) -> None:
    from descbench import Evaluation

    done = run("evaluate", f"folder:{photos}", "-d", described, "-e", "demo", "-o", "runs", "--json")
    runs = [Evaluation.load(folder) for folder in sorted(Path("runs").iterdir())]
    assert [r["metrics"]["top1"]["value"] for r in json.loads(done.out)["runs"]] == [
        r.metrics["top1"].value for r in runs
    ]


def test_a_labels_file_maps_the_labels_to_classes(run: Run, photos: Path) -> None:
    one, other = sorted(path.name.replace("_", " ") for path in photos.iterdir())
    Path("labels.csv").write_text(f"label,class\n{one},bird\n{other},bird\n")
    done = run(
        "evaluate", f"folder:{photos}", "--labels", "labels.csv", "-c", "bird,stone", "-e", "demo", "-m", "classname"
    )
    assert "4 images, 2 classes" in done.out, done.err


def test_an_unreadable_image_is_counted_named_and_gives_exit_code_3(run: Run, photos: Path, described: Path) -> None:
    broken = next(photos.iterdir()) / "broken.jpg"
    broken.write_bytes(b"no picture")
    done = run("evaluate", f"folder:{photos}", "-d", described, "-e", "demo")
    assert done.code == 3
    assert "4 images" in done.out
    assert "1 unreadable" in done.out
    assert "% if 1 unreadable are wrong" in done.out
    right, of, share = re.search(r"^dclip .* (\d) of (\d) +([\d.]+) +inductive$", done.out, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert (int(of), float(share)) == (4, 100 * int(right) / 5)
    assert "broken.jpg" in done.err


def test_classify_names_pictures_with_reasons(run: Run, photos: Path, described: Path) -> None:
    done = run("classify", photos, "-d", described, "-e", "demo", "--top-k", "1")
    assert done.code == 0, done.err
    assert done.out.count("because:") == 8
    assert all("which is a green body" in line or "which has red legs" in line for line in done.out.splitlines()[1::3])


def test_classify_json_lists_every_picture(run: Run, photos: Path, described: Path) -> None:
    pictures = sorted(photos.rglob("*.png"))
    done = run("classify", *pictures, "-d", described, "-e", "demo", "--json", "-k", 2)
    found = json.loads(done.out)["images"]
    assert [entry["image"] for entry in found] == [str(path) for path in pictures]
    assert all(len(entry["classes"]) == 2 for entry in found)


def test_classify_goes_on_after_an_unreadable_picture(run: Run, photos: Path, described: Path) -> None:
    (photos / "empty.jpg").touch()
    done = run("classify", photos, "-d", described, "-e", "demo", "--json")
    assert done.code == 3
    assert len(json.loads(done.out)["images"]) == 4
    assert "empty.jpg" in done.err


def test_a_follow_up_asks_the_language_model_for_the_pairs_that_occur(run: Run, photos: Path) -> None:
    done = run("evaluate", f"folder:{photos}", "-m", "fudd", "--llm", "demo", "-e", "demo", "--domain", "birds")
    assert done.code == 0, done.err
    assert "fudd" in done.out


def test_a_follow_up_ends_where_it_may_ask_no_more_and_goes_on_from_there(run: Run, photos: Path) -> None:
    command = ("evaluate", f"folder:{photos}", "-m", "fudd", "--llm", "demo", "-e", "demo", "--domain", "birds")
    limited = run(*command, "--max-requests", 0)
    assert (limited.code, limited.out) == (4, "")
    assert "the limit of 0 requests is reached, and 1 questions were not asked" in limited.err
    assert run(*command).code == 0
    assert run(*command, "--max-requests", 0).code == 0  # kept


@pytest.mark.parametrize("name", ["\"quoted\" 'name'", "a/b\\c", "{x}$y", "🦜 parrot", "crème brûlée", "x" * 300])
def test_odd_class_names_are_only_names(run: Run, photos: Path, tmp_path: Path, name: str) -> None:
    Path("classes.txt").write_text(f"{name}\nbird\n", encoding="utf-8")
    told = run("generate", "classes.txt", "--llm", "demo", "-o", "odd.json", "--domain", "birds", "--max-tokens", 60)
    assert told.code in (0, 3), told.err
    for method in ("dclip", "templates", "nameless(dclip)"):
        spelled = f"truncated({method})" if len(name) > 77 else method  # longer than what the encoder reads
        done = run("classify", photos, "-d", "odd.json", "-e", "demo", "-m", spelled, "--json")
        assert done.code == 0, done.err
        assert {c["name"] for entry in json.loads(done.out)["images"] for c in entry["classes"]} == {name, "bird"}


def bad(name: str, *command: str, files: dict[str, str] | None = None, says: str, code: int = 2) -> object:
    return pytest.param(command, files or {}, says, code, id=name)


@pytest.mark.parametrize(
    ("command", "files", "says", "code"),
    [
        bad("empty vocabulary", "generate", "v.txt", "--llm", "demo", files={"v.txt": "\n"}, says="v.txt is empty"),
        bad(
            "an id twice",
            "generate",
            "v.csv",
            "--llm",
            "demo",
            files={"v.csv": "id,name\n1,a\n1,b\n"},
            says="ids occur",
        ),
        bad("no classes file", "generate", "nothing.txt", "--llm", "demo", says="nothing.txt"),
        bad("no language model", "generate", "a,b", says="--llm"),
        bad(
            "unknown language model",
            "generate",
            "a,b",
            "--llm",
            "gpt",
            says="There are: demo, http, https, openai, replay, transformers",
        ),
        bad("no model folder", "generate", "a,b", "--llm", "transformers:./none", says="./none"),
        bad("a method that asks nothing", "generate", "a,b", "--llm", "demo", "-m", "classname", says="asks nothing"),
        bad("misspelled method", "evaluate", "demo", "-m", "dcilp", says="did you mean 'dclip'"),
        bad("misspelled parameter", "evaluate", "demo", "-m", "fudd(q=5)", says="fudd"),
        bad("no data set", "evaluate", "folder:./none", "-e", "demo", says="none"),
        bad("unknown kind of data set", "evaluate", "fodler:x", "-e", "demo", says="did you mean 'folder'"),
        bad("no folder of an encoder", "evaluate", "demo", "-e", "open_clip:local-dir:none", says="no folder 'none'"),
        bad("an encoder without weights", "evaluate", "demo", "-e", "open_clip:ViT-B-32", says="ViT-B-32/"),
        bad("descriptions that are no JSON", "evaluate", "demo", "-d", "d.json", files={"d.json": "{,"}, says="d.json"),
        bad("descriptions of no format", "evaluate", "demo", "-d", "d.json", files={"d.json": "[1]"}, says="format"),
        bad(
            "descriptions for other classes",
            *("evaluate", "demo", "-d", "d.json", "-c", "demo"),
            files={"d.json": '{"hen": ["a red comb"]}'},
            says="'hen'",
        ),
        bad(
            "labels without a class",
            *("evaluate", "demo", "-d", "d.json"),
            files={"d.json": '{"hen": ["a red comb"], "duck": ["a flat bill"]}'},
            says="without a class",
        ),
        bad("no descriptions", "evaluate", "demo", "-m", "dclip", says="needs descriptions"),
        bad("views that are not kept apart", "evaluate", "demo", "-m", "awt(classname)", says="--views 'resized(50)'"),
        bad("no picture", "classify", "none.jpg", "-c", "a,b", "-e", "demo", says="none.jpg"),
        bad("which classes", "classify", "none.jpg", "-e", "demo", says="--classes"),
        bad(
            "weights that cannot be had",
            *("evaluate", "demo", "-e", "open_clip:hf-hub:nobody/nothing"),
            says="local-dir",
            code=5,
        ),
    ],
)
def test_bad_input_gives_one_line_and_an_exit_code(
    run: Run, command: tuple[str, ...], files: dict[str, str], says: str, code: int
) -> None:
    for name, content in files.items():
        Path(name).write_text(content)
    done = run(*command)
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert done.out == ""


def test_a_nan_in_features_is_named(run: Run) -> None:
    rows = np.eye(3, 4, dtype=np.float32)
    rows[1, 2] = np.nan
    np.savez("f.npz", image_features=rows, labels=np.zeros(3, int), names=np.array(["a"]), ids=np.array(list("xyz")))
    np.savez("t.npz", texts=np.array(["a"]), text_features=np.eye(1, 4, dtype=np.float32))
    done = run("evaluate", "features:f.npz", "-e", "features:t.npz", "-m", "classname")
    assert done.code == 2
    assert "NaN" in done.err or "not finite" in done.err
    assert "1" in done.err


def test_features_of_two_models_are_refused(run: Run) -> None:
    np.savez("f.npz", image_features=np.eye(2, 4), labels=np.zeros(2, int), names=np.array(["a"]))
    np.savez("t.npz", texts=np.array(["a"]), text_features=np.eye(1, 5))
    done = run("evaluate", "features:f.npz", "-e", "features:t.npz", "-m", "classname")
    assert done.code == 2
    assert "4 dimensions" in done.err


def test_a_single_class_and_a_grey_picture_work(run: Run) -> None:
    Image.new("L", (30, 20), 90).save("grey.png")
    done = run("classify", "grey.png", "-c", "one thing,", "-e", "demo")
    assert done.code == 0, done.err
    assert "one thing" in done.out


def test_ls_lists_everything_that_is_in_a_table(run: Run) -> None:
    from descbench.methods import METHODS

    for kind in ("methods", "llms", "encoders", "datasets", "prompts"):
        done = run("ls", kind, "--json")
        assert done.code == 0
        names = {entry["name"] for entry in json.loads(done.out)}
        assert "demo" in names or "dclip" in names
        if kind == "methods":
            assert names == set(METHODS)


def test_help_and_ls_import_neither_torch_nor_openai() -> None:
    for arguments in (["--help"], ["ls", "methods"], ["ls", "encoders"], ["ls", "llms"], ["--version"]):
        code = (
            "import sys\nfrom descbench.cli import main\ntry:\n    main(" + repr(arguments) + ")\nexcept SystemExit:\n"
            "    pass\nheavy = {'torch', 'openai', 'transformers', 'open_clip', 'datasets'} & set(sys.modules)\n"
            "print(heavy or 'none', file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.strip() == "none", arguments


def test_every_command_has_an_example_in_its_help(run: Run) -> None:
    for command in ("generate", "evaluate", "compare", "classify", "ls", "demo"):
        done = run(command, "--help")
        assert done.code == 0
        assert f"Example: descbench {command}" in " ".join(done.out.split())


def test_ctrl_c_gives_130_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("descbench.formats.read", interrupted)
    done = run("evaluate", "demo", "-d", "x.json")
    assert done.code == 130
    assert done.err.count("\n") == 1


def test_a_fault_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("descbench.formats.read", broken)
    done = run("evaluate", "demo", "-d", "x.json")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert "DESCBENCH_DEBUG" in done.err
