"""The documentation runs, names all that there is, and links to what exists.

The convention: in a README or in `docs/`, ```python blocks (in one namespace) and ```sh blocks (each line that begins
with "$ ") run from top to bottom. ```console blocks are shown only, since they need a network or a user's own files.
```toml blocks are files of a user's package; `test_adding.py` builds it.
All of a document runs in one temporary folder, offline, with its own cache. Commands of ours run in this process, since
each of their own would load torch; but `descbench ls`, which does not, is run as a user runs it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import ROWS

from descbench.cli import main
from descbench.methods import METHODS

TOP = Path(__file__).parents[1]
DEMO = TOP / "descbench" / "demo"
DOCUMENTS = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
PAGES = [
    path
    for path in sorted(TOP.rglob("*.md"))
    if not re.search(r"(^|/)(\.|node_modules|build)", path.relative_to(TOP).as_posix())
]
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def blocks(document: Path, *languages: str) -> list[tuple[str, str]]:
    """The blocks of some languages, each after as many blank lines as make line numbers those of the document."""
    text = document.read_text(encoding="utf-8")
    return [
        (found["language"], "\n" * text.count("\n", 0, found.start("body")) + found["body"])
        for found in BLOCK.finditer(text)
        if found["language"] in languages
    ]


def name(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder to work in, offline, with its own cache, and the installed command first in the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DESCBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def needs_demo_models(texts: list[str]) -> None:
    missing = [folder for folder in ("clip", "lm") if not (DEMO / folder).is_dir()]
    if missing and re.search(r"\bdemo\b", "".join(texts)):
        pytest.skip("the models of the demo are not trained yet: make demo-models")


@pytest.mark.filterwarnings("ignore::descbench.errors.DescbenchWarning")  # a language model may miss a class
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d, "python", "sh")], ids=name)
def test_blocks_run_from_top_to_bottom(document: Path, own_folder: Path) -> None:
    found = blocks(document, "python", "sh")
    needs_demo_models([text for _, text in found])
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, text in found:
        if language == "python":
            exec(compile(text, str(document), "exec", dont_inherit=True), namespace)
        else:
            run_commands(text)


def run_commands(text: str) -> None:
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        expected = re.search(r" \|\| test \$\? -eq (\d+)$", command)  # how a page allows another exit code
        words = shlex.split(command[: expected.start()] if expected else command)
        if words[:2] != ["descbench", "ls"] and words[0] == "descbench":
            with pytest.raises(SystemExit) as ended:
                main(words[1:])
            assert (ended.value.code or 0) in (0, int(expected[1]) if expected else 0), command
            continue
        ran = subprocess.run(command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        assert ran.returncode == 0, f"{command}\n{ran.stderr}"


def test_only_known_languages_mark_a_block() -> None:
    marks = {(name(d), found["language"]) for d in DOCUMENTS for found in BLOCK.finditer(d.read_text(encoding="utf-8"))}
    assert {language for _, language in marks} <= {"python", "sh", "console", "toml"}, marks


def test_every_method_has_a_paragraph_and_stands_in_the_readme() -> None:
    headings = re.findall(r"^## `(\w+)`$", (TOP / "docs" / "methods.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(METHODS)
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert [method for method in METHODS if f"`{method}`" not in readme] == []


def test_every_method_stands_in_the_table_of_all_methods() -> None:
    page = (TOP / "docs" / "methods-table.md").read_text(encoding="utf-8")
    assert [method for method in METHODS if not re.search(rf"\b{method}\b", page)] == []


def test_every_prompt_file_stands_in_its_table() -> None:
    folder = TOP / "prompts"
    table = (folder / "README.md").read_text(encoding="utf-8")
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert [file for file in files if file != "README.md" and f"| `{file}` |" not in table] == []
    assert [file for file in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) if file not in files] == []


def test_every_command_stands_in_the_readme() -> None:
    from typer.main import get_command

    from descbench.cli import app

    commands = sorted(get_command(app).commands)  # type: ignore[attr-defined]
    rows = re.findall(r"^\| `descbench ([\w-]+)` \|", (TOP / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == commands


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    from descbench import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")]
    codes = {0, 130, *(kind.exit_code for kind in kinds)}
    rows = re.findall(r"^\| (\d+) \|", (TOP / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(map(int, rows)) == sorted(codes)


def test_the_layers_of_the_design_are_those_that_are_tested() -> None:
    rows = re.findall(r"^\| \d+ \| ([\w, ]+) \|", (TOP / "DESIGN.md").read_text(encoding="utf-8"), re.MULTILINE)
    there = {path.name.removesuffix(".py") for path in (TOP / "descbench").iterdir()}
    tested = [{room for room in rooms.split() if room in there} for rooms in ROWS]
    assert [set(row.split(", ")) for row in rows] == [row for row in tested if row]


def test_every_public_name_stands_in_the_reference() -> None:
    import descbench

    entries = re.findall(r"^::: ([\w.]+)$", (TOP / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    homes = {name: getattr(descbench, name).__module__ for name in descbench.__all__}
    assert [name for name, home in homes.items() if not {home, f"{home}.{name}"} & {*entries}] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(own_folder: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed, so the site was not built: make docs")
    build = (sys.executable, "-m", "mkdocs", "build", "--config-file", TOP / "mkdocs.yml")
    made = subprocess.run(
        [*build, "--site-dir", own_folder / "site"],
        capture_output=True, text=True, timeout=300, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    pages = [path.relative_to(own_folder / "site").as_posix() for path in (own_folder / "site").rglob("index.html")]
    assert {f"{path.stem}/index.html" for path in (TOP / "docs").glob("*.md")} <= {*pages}
    tour = (own_folder / "site" / "tour" / "index.html").read_text(encoding="utf-8")
    assert "adds to the lead" in tour and "Warning" not in tour  # it ran, and said nothing on the side


def test_every_picture_says_what_it_shows_and_is_small() -> None:
    pictures = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
    found = [(page, one) for page in PAGES for one in pictures.finditer(page.read_text(encoding="utf-8"))]
    assert [name(page) for page, one in found if len(one["text"].split()) < 5] == []
    files = {(page.parent / one["target"]).resolve() for page, one in found}
    assert {path for path in (TOP / "docs").iterdir() if path.suffix in (".png", ".svg")} == files
    assert sum(path.stat().st_size for path in files) < 500_000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_exist(page: Path) -> None:
    targets = [found["target"] for found in LINK.finditer(BLOCK.sub("", page.read_text(encoding="utf-8")))]
    relative = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []
