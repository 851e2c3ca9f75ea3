"""Another package's methods, encoders, language models and data sets are found by name; a broken one breaks nothing.

The packages are written, built and installed for real, and used by another process. The one with methods is made of the
blocks of `docs/adding-a-method.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_docs import TOP, blocks

import descbench as db
from descbench.testing import FakeEncoder, FakeLLM, check_dataset, check_encoder, check_llm, check_method

GUIDE = TOP / "docs" / "adding-a-method.md"
MARK = "# my_methods.py\n"

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
[tool.hatch.build.targets.wheel]
include = ["*.py"]
"""

ADAPTERS = '''
"""An encoder, a language model and a data set; and a method whose name another package has as well."""
from descbench.methods import DCLIP
from descbench.testing import FakeEncoder, FakeLLM


class Vectors(FakeEncoder):
    """A vector drawn for each text and picture. It sees nothing."""

    @classmethod
    def from_spec(cls, argument, device="auto"):
        return cls(int(argument or 8))


class Parrot(FakeLLM):
    """Features that are drawn."""

    @classmethod
    def from_spec(cls, argument, **options):
        return cls(int(argument or 0), **options)


class Colours:
    """Plain pictures: red and blue."""

    name = fingerprint = "colours"
    names = ("red", "blue")

    @classmethod
    def from_spec(cls, argument, **options):
        return cls()

    def __repr__(self):
        return "colours"

    def __len__(self):
        return 6

    def samples(self):
        from PIL import Image
        from descbench.datasets import Sample

        for i in range(6):
            red = (250 - i, 0, 0) if i % 2 == 0 else (0, 0, 250 - i)
            yield Sample(f"{i}", lambda red=red: Image.new("RGB", (8, 8), red), i % 2, f"picture {i}")
'''

ENTRIES: dict[str, dict[str, str]] = {
    "their-adapters": {
        "encoders": 'vectors = "their_adapters:Vectors"',
        "llms": 'parrot = "their_adapters:Parrot"',
        "datasets": 'colours = "their_adapters:Colours"',
        "methods": 'twice = "their_adapters:DCLIP"',
    },
    "half-broken": {
        "methods": 'absent = "no_such_module:Method"\ntypo = "half_broken:Metod"\nraising = "raising:Method"\n'
        'object = "half_broken:OBJECT"\nmisnamed = "half_broken:Misnamed"\ndclip = "half_broken:Misnamed"\n'
        'twice = "half_broken:Misnamed"\nbadly = "not a module"',
        "encoders": 'blind = "half_broken:Misnamed"',
    },
}
MODULES = {
    "their-adapters": {"their_adapters.py": ADAPTERS},
    "half-broken": {
        "half_broken.py": "from descbench.methods import DCLIP as Misnamed\nOBJECT = {}\n",
        "raising.py": "import descbench as db\nMETHOD = db.method('template(5)')\n",
    },
}


def methods_of_the_guide() -> str:
    return "".join(text.lstrip("\n") for _, text in blocks(GUIDE, "python") if text.lstrip("\n").startswith(MARK))


def install(name: str, files: Mapping[str, str], folder: Path, target: Path) -> None:
    """Build a wheel from the files and install it: one of pure Python is installed by unpacking it."""
    source = folder / name
    source.mkdir()
    for file, text in files.items():
        (source / file).write_text(text, encoding="utf-8")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    ran = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = (folder / "dist").glob(f"{name.replace('-', '_')}-*.whl")
    zipfile.ZipFile(wheel).extractall(target)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three installed packages: that of the guide, one with adapters, and one with what is broken."""
    folder = tmp_path_factory.mktemp("packages")
    target = folder / "installed"
    ((_, project),) = blocks(GUIDE, "toml")
    install("my-methods", {"pyproject.toml": project, "my_methods.py": methods_of_the_guide()}, folder, target)
    for name, entries in ENTRIES.items():
        points = "".join(f'[project.entry-points."descbench.{kind}"]\n{lines}\n' for kind, lines in entries.items())
        files = {"pyproject.toml": PROJECT.format(name=name) + points, **MODULES[name]}
        install(name, files, folder, target)
    return target


def run(target: Path, folder: Path, command: str, code: int = 0) -> tuple[str, str]:
    """What a shell command prints, to stdout and stderr, where the packages are installed."""
    env = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(target),
        "DESCBENCH_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    ran = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert ran.returncode == code, f"{command}\n{ran.stdout}{ran.stderr}"
    return ran.stdout, ran.stderr


def listing(target: Path, folder: Path, kind: str) -> tuple[dict[str, dict[str, str]], str]:
    """What `descbench ls` says of each, by name, and its notes."""
    out, err = run(target, folder, f"descbench ls {kind} --json")
    return {entry["name"]: entry for entry in json.loads(out)}, err


def test_ls_shows_other_packages_methods_with_their_parameters_and_what_is_wrong_with_broken_ones(
    target: Path, tmp_path: Path
) -> None:
    listed, notes = listing(target, tmp_path, "methods")
    assert listed["sentence"]["spelling"] == "sentence(most=6)"
    assert listed["first"]["spelling"] == "first(method, n=1)"
    assert listed["sentence"]["about"].startswith('The similarity to one text, "a photo of a {name} with')
    assert listed["sentence"]["about"].endswith("From the package 'my-methods'.")
    for name, wrong in (
        ("absent", "of the package 'half-broken' (no_such_module:Method) cannot be imported: ModuleNotFoundError"),
        ("typo", "cannot be imported: AttributeError: module 'half_broken' has no attribute 'Metod'"),
        ("raising", "cannot be imported: InputError: template 5 has no {}"),
        ("badly", "of the package 'half-broken' (not a module) cannot be imported"),
        ("object", "cannot be used: it is a dict, and no class of methods"),
        ("misnamed", "cannot be used: its `spelled` is 'dclip', and has to be 'misnamed'"),
        ("twice", "is offered by several installed packages: 'half-broken', 'their-adapters'. Uninstall all but one."),
    ):
        about = listed[name]["about"]
        assert about.startswith(f"The method {name!r} ") and wrong in about
    assert listed["dclip"]["spelling"].startswith("dclip(prompt='dclip'")
    assert notes == "note: the method 'dclip' of the package 'half-broken' is not used: descbench has its own\n"


def test_other_packages_adapters_are_listed_too(target: Path, tmp_path: Path) -> None:
    encoders, _ = listing(target, tmp_path, "encoders")
    assert encoders["vectors"]["about"] == (
        "A vector drawn for each text and picture. From the package 'their-adapters'."
    )
    assert "it has no from_spec(argument, **options)" in encoders["blind"]["about"]
    assert {"demo", "open_clip", "features"} < set(encoders)


SCRIPT = """
import json
import descbench as db
from descbench.testing import check_dataset, check_encoder, check_llm, check_method
from descbench.errors import SpecError

method = db.method("cascade(first(sentence(most=4), n=2), shuffled(captions), k=2)")
assert db.method(repr(method)) == method
checks = [check_method(method), check_method(db.method("first(captions, n=3)"))]
checks += [check_encoder(db.encoder("vectors:12")), check_llm(db.llm("parrot")), check_dataset(db.dataset("colours"))]
assert all("spelling: its repr spells it" in checked.claims for checked in checks[:2])
wrong = {}
for read, name in ((db.method, "shuffled(absent)"), (db.method, "misnamed"), (db.encoder, "blind"), (db.llm, "parot")):
    try:
        read(name)
    except SpecError as error:
        wrong[name] = str(error)
with open("wrong.json", "w") as file:
    json.dump(wrong, file)
"""


def test_they_are_used_by_name_and_checked_as_ours_are(target: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    out, _ = run(target, tmp_path, "python script.py")
    assert out.count("keeps the contract:") == 5
    wrong = json.loads((tmp_path / "wrong.json").read_text(encoding="utf-8"))
    assert wrong["shuffled(absent)"] == (
        "the method 'absent' of the package 'half-broken' (no_such_module:Method) cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'. Mend that package, or uninstall it."
    )
    assert "its `spelled` is 'dclip', and has to be 'misnamed'" in wrong["misnamed"]
    assert "the encoder 'blind' of the package 'half-broken'" in wrong["blind"]
    assert wrong["parot"].startswith("no llm 'parot'; did you mean 'parrot'? There are: demo, http")


def test_the_commands_take_them_all(target: Path, tmp_path: Path) -> None:
    run(target, tmp_path, "descbench generate colours --method sentence --llm parrot:3 -o said.json")
    known = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert known["provenance"]["method"] == "sentence"
    scored = "descbench evaluate colours -d said.json --encoder vectors:16 --json --method "
    out, _ = run(target, tmp_path, f"{scored} 'sentence(most=2)'")
    assert "sentence(most=2)" in [result["method"] for result in json.loads(out)["runs"]]
    _, err = run(target, tmp_path, f"{scored} absent", code=2)
    assert err.startswith("error: the method 'absent' of the package 'half-broken'") and err.count("\n") == 1


@pytest.mark.slow
def test_the_commands_of_the_guide_run(target: Path, tmp_path: Path) -> None:
    ((_, text),) = blocks(GUIDE, "console")
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert commands[0] == "pip install ."  # as `install` does
    for command in commands[1:]:
        out, _ = run(target, tmp_path, command)
    assert "shuffled(first(sentence, n=3))" in out


def test_a_check_prints_a_line_a_claim_and_returns_them(capsys: pytest.CaptureFixture[str]) -> None:
    checked = check_method(db.method("dclip"))
    printed = capsys.readouterr().out
    assert printed == f"{checked}\n"
    head, *claims = printed.splitlines()
    assert head == "dclip keeps the contract:"
    assert [line.strip() for line in claims] == list(checked.claims)
    # 5 + 13 + 1 + 2 classes in four vocabularies, each in four other orders; nine odd replies a class
    assert "texts: none changes with the order of the classes (16 orders)" in checked.claims
    assert "texts: every class has one, none is blank, and weights fit (21 classes)" in checked.claims
    assert "replies: an odd one gives no blank text and says nothing of another class (189 replies)" in checked.claims


def test_a_quiet_check_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for check, thing in (
        (check_method, db.method("template('{} {}')")),
        (check_encoder, FakeEncoder(dim=4)),
        (check_llm, FakeLLM()),
        (check_dataset, db.dataset("demo:n=2")),
    ):
        checked = check(thing, quiet=True)  # type: ignore[operator]
        assert checked.thing == repr(thing) and checked.claims
    assert capsys.readouterr().out == ""


def test_a_check_says_what_it_could_not_try() -> None:
    class Moody(FakeLLM):
        """Other replies in each call, as a model that samples gives them."""

        def complete(self, questions):  # type: ignore[no-untyped-def]
            self.seed += 1
            return super().complete(questions)

    claims = check_llm(Moody(), quiet=True).claims
    assert "replies: their order was not tried, since it answered differently the second time" in claims
