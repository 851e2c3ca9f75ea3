"""Importing descbench, and spelling a method, is light: no import of ours brings in what only a model needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import descbench

HEAVY = ("torch", "open_clip", "transformers", "openai", "datasets", "PIL", "pyarrow")


@pytest.mark.parametrize(
    ("code", "may"),
    [
        ("import descbench", ()),
        ("import descbench.spec", ("PIL",)),
        ("import descbench as db; db.method('fudd')", ("PIL",)),
        ("import descbench as db; db.Vocabulary(['hen']); db.Descriptions(); db.Question('?')", ()),
        ("from descbench.methods import METHODS; from descbench.formats import FORMATS", ()),
    ],
)
def test_heavy_libraries_stay_out(code: str, may: tuple[str, ...]) -> None:
    heavy = set(HEAVY) - set(may)
    script = f"{code}\nimport sys\nprint(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there() -> None:
    for name in descbench.__all__:
        assert getattr(descbench, name) is not None
    assert set(descbench.__all__) <= set(dir(descbench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        descbench.nothing  # noqa: B018
