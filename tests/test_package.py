"""What is installed from a wheel is whole, and needs no checkout beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that sees no variable of this Python's."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    ran = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, TOP, cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone, which borrows all other packages from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    run(binaries / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A .pth file adds this environment's packages after its own, and leaves the checkout that is installed here out.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return binaries


def test_the_wheel_holds_all_that_the_demo_needs_and_no_tests(wheel: Path) -> None:
    held = zipfile.ZipFile(wheel).namelist()
    package = {name for name in held if name.startswith("descbench/")}
    for folder, prefix in (("prompts", "descbench/_prompts"), ("descbench", "descbench")):
        files = [path for path in (TOP / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        wanted = {f"{prefix}/{path.relative_to(TOP / folder).as_posix()}" for path in files}
        assert wanted <= package, f"left out of the wheel: {sorted(wanted - package)}"
    assert {name.split("/")[0] for name in held} == {"descbench", f"descbench-{version('descbench')}.dist-info"}
    assert any(name.endswith("/LICENSE") for name in held)


@pytest.mark.parametrize(
    "file",
    ["field_guide.csv", "clip/open_clip_config.json", "clip/open_clip_model.safetensors", "lm/config.json",
     "lm/model.safetensors"],
)  # fmt: skip
def test_the_field_guide_and_the_models_of_the_demo_are_in_the_wheel(wheel: Path, file: str) -> None:
    assert f"descbench/demo/{file}" in zipfile.ZipFile(wheel).namelist()


def test_it_runs_from_any_folder_with_the_prompts_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = installed / "descbench"
    assert run(command, "--version", cwd=tmp_path).strip() == f"descbench {version('descbench')}"
    assert "dclip" in run(command, "ls", "methods", cwd=tmp_path)
    ask = (
        "from descbench import prompts; from descbench.methods.names import shipped_templates; "
        "print(prompts.folder()); print(*prompts.names(), len(shipped_templates()))"
    )
    folder, names = run(installed / "python", "-c", ask, cwd=tmp_path).splitlines()
    assert Path(folder).is_relative_to(installed.parent)
    assert Path(folder).name == "_prompts"
    assert names.split()[:2] == sorted(path.stem for path in (TOP / "prompts").glob("*.txt"))[:2]
    assert int(names.split()[-1]) > 1
