"""DCLIP's published files: one JSON object, class name -> list of descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descbench.descriptions import Descriptions, checked_texts


def detect(data: Any) -> bool:
    """An object all of whose values are lists of texts."""
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(v, list) and all(isinstance(t, str) for t in v) for v in data.values())
    )


def read(data: Any, path: Path) -> Descriptions:
    """One class a key, ids in the order of the file; an empty list is a class without a description."""
    names = dict(enumerate(data))
    texts = {i: checked_texts(data[name], f"{path}, class {name!r}") for i, name in names.items()}
    return Descriptions({i: found for i, found in texts.items() if found}, names=names)
