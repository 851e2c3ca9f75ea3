"""The aviary's small CLIP, through the same door as any other local model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descbench.encoders.open_clip import OpenCLIPEncoder
from descbench.errors import SpecError

_FOLDER = Path(__file__).parent.parent / "demo" / "clip"


class DemoEncoder(OpenCLIPEncoder):
    """`open_clip:local-dir:` of the folder that comes with descbench. It has seen invented birds and nothing else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(f"local-dir:{_FOLDER}", **options)
        self.name = "small CLIP of the aviary"

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> DemoEncoder:
        if argument:
            raise SpecError(f"encoder 'demo' takes no argument, and {argument!r} was given. Write: demo")
        return cls(**options)

    def __repr__(self) -> str:
        return "demo"
