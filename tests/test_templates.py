"""Templates from a file: read when a method is made, spelled in full, and named by their file where people read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st

import descbench as db
from descbench import Evaluation
from descbench.errors import InputError
from descbench.methods import Templates
from descbench.methods.cupl import title, with_templates
from descbench.methods.names import read_templates, shipped_templates
from descbench.prompts import folder
from descbench.testing import FakeEncoder

BIRDS = db.Vocabulary(["hen", "rooster"], "birds")
TOLD = db.Descriptions({0: ["A hen has a comb."], 1: ["A rooster has spurs."]}, names=dict(BIRDS))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


@pytest.mark.parametrize(
    "content",
    [
        '["a photo of a {}.", "{} at home"]',
        '\n[\n "a photo of a {}.",\n "{} at home"\n]\n',
        "a photo of a {}.\n{} at home\n",
        "\ufeff  a photo of a {}.  \r\n\r\n{} at home",
        "{} at home".join(["a photo of a {}.\n", ""]),
    ],
)
def test_a_file_is_a_list_in_json_or_a_template_a_line(here: Path, content: str) -> None:
    method = db.method(f"templates({written('mine.json', content)!r})")
    assert method == Templates(("a photo of a {}.", "{} at home"))
    Path("mine.json").unlink()
    assert db.method(repr(method)) == method  # the spelling needs the file no more
    assert method.texts(BIRDS, TOLD).texts_of(1) == ("a photo of a rooster.", "rooster at home")
    assert str(method.list) == "2 of mine.json"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_what_json_holds_is_read_as_it_stands(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    path = tmp_path_factory.mktemp("templates") / "any.json"
    path.write_text(json.dumps([part + "{}" for part in parts]), encoding="utf-8")
    assert read_templates(path) == tuple(part + "{}" for part in parts)


def test_the_shipped_list_is_such_a_file(here: Path) -> None:
    assert read_templates(folder() / "templates" / "photo.json") == shipped_templates()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("['a photo of a {}.', 'the {}.']", "looks like Python code, which is not run here"),
        ("imagenet_templates = [\n    'a bad photo of a {}.',\n]", "looks like Python code.*'imagenet_templates = "),
        ("'a bad photo of a {}.',\n'a {}.',", "looks like Python code.*without quotes"),
        ("[\n    lambda c: f'itap of a {c}.',\n]", "looks like Python code"),
        ('["a {}",]', "is not valid JSON"),
        ('{"imagenet": ["a {}"]}', "is no list of texts"),
        ('["a {}", 3]', "is no list of texts"),
        ("a photo of a {}.\na photo of a {c}.", r"template 'a photo of a \{c\}.' has no \{\}"),
        ('["a photo"]', r"template 'a photo' has no \{\}"),
        ('["\\ud83d {}"]', "half of a character"),
        ("\n \n", "has no template; write one a line"),
        ("[]", "has no template; write one a line"),
        (b"a {}\xff", "is not UTF-8 text"),
        ("a photo of a {}, and more\n" * 400, "its 400 templates have 10,000 characters, more than 8,000"),
    ],
)
def test_a_file_that_is_no_list_of_templates_says_why(here: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"(?s)mine.txt.*{message}"):
        db.method(f"templates({written('mine.txt', content)!r})")


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("templates('none.txt')", "no file 'none.txt' of templates"),
        ("templates('a {}')", r"templates takes a list, as in templates\(\['a \{\}'\]\); template takes one"),
        ("templates(3)", "templates=3 is not possible; it is a list of templates, or the name of a file"),
        ("cupl(templates='none.txt')", "no file 'none.txt' of templates"),
    ],
)
def test_what_is_neither_a_list_nor_a_file_is_an_error(here: Path, spelling: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        db.method(spelling)


def test_cupl_takes_a_file_too(here: Path) -> None:
    written("two.txt", "a {}\nthe {}")
    method = db.method("cupl(with_templates=True, templates='two.txt')")
    assert method.texts(BIRDS, TOLD).texts_of(0) == ("a hen", "the hen", "A hen has a comb.")
    assert db.method(repr(method)) == method
    assert title(method) == "cupl(with_templates=True): 2 of two.txt"


@pytest.mark.parametrize(
    ("spelling", "people"),
    [
        ("templates", "templates: 2 of two.txt"),
        ("cupl(with_templates=True)", "cupl(with_templates=True): 2 of two.txt"),
        ("cascade(templates, nameless(templates), k=2)", "cascade(templates, nameless(templates), k=2): 2 of two.txt"),
        ("templates(['one {}'])", None),
        ("cupl", None),
        ("fudd(k=3)", None),
    ],
)
def test_a_list_stands_in_for_the_shipped_one_only(here: Path, spelling: str, people: str | None) -> None:
    written("two.txt", "a {}\nthe {}")
    method = db.method(spelling)
    found = with_templates(method, read_templates("two.txt"))
    assert title(found) == (people or repr(method))
    assert (found == method) is (people is None)
    assert db.method(repr(found)) == found


def test_a_result_names_the_file_and_can_be_made_again(here: Path, run: Run) -> None:
    rows = FakeEncoder(8).encode_texts([f"picture {i}" for i in range(6)]).numpy()
    np.savez("f.npz", image_features=rows, labels=np.arange(6) % 2, names=np.array(BIRDS.names))
    texts = [*BIRDS.names, *(f"a photo of a {n}." for n in BIRDS.names), *(f"the {n}" for n in BIRDS.names)]
    np.savez("t.npz", texts=np.array(texts), text_features=FakeEncoder(8).encode_texts(texts).numpy())
    written("mine.txt", "a photo of a {}.\nthe {}")
    done = run("evaluate", "features:f.npz", "-e", "features:t.npz", "--templates", "mine.txt", "-o", "runs")
    assert done.code == 0, done.err
    assert any(line.startswith("templates: 2 of mine.txt ") for line in done.out.splitlines())
    (folder,) = (path for path in Path("runs").iterdir() if path.name.endswith("-templates"))
    result = Evaluation.load(folder)
    assert result.title == json.loads((folder / "run.json").read_text())["title"] == "templates: 2 of mine.txt"
    Path("mine.txt").unlink()
    again = db.evaluate(
        db.Classifier(BIRDS, db.method(result.method), db.encoder("features:t.npz")), db.dataset("features:f.npz")
    )
    assert np.array_equal(again.predictions.scores, result.predictions.scores)
    other = Evaluation.load(next(path for path in Path("runs").iterdir() if path.name.endswith("-classname")))
    assert list(db.compare([other, result]).differences) == ["templates: 2 of mine.txt"]


def test_templates_that_nothing_uses_are_an_error(here: Path, run: Run) -> None:
    written("mine.txt", "a {}")
    np.savez("f.npz", image_features=np.eye(2, 4), labels=np.arange(2), names=np.array(BIRDS.names))
    np.savez("t.npz", texts=np.array(["hen"]), text_features=np.eye(1, 4))
    for command in (
        ("evaluate", "features:f.npz", "-e", "features:t.npz", "-m", "classname", "--no-baselines"),
        ("classify", "f.npz", "-e", "features:t.npz", "-m", "classname", "-c", "hen,rooster"),
    ):
        done = run(*command, "--templates", "mine.txt")
        assert done.code == 2
        assert "--templates mine.txt: no method here uses a list of templates; templates does" in done.err
