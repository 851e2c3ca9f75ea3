"""What all tests share: examples of properties that are the same in every run, and commands run as a person does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

from descbench.cli import main

# A run says what it found in the code, and not what it happened to draw: see "A property is drawn anew on demand" in
# DESIGN.md. `--hypothesis-profile=drawn` draws other examples each time.
settings.register_profile("drawn")
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DESCBENCH_CACHE", str(tmp_path / "kept"))

    def command(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return command
