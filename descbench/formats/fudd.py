"""FuDD's published files: pairs of class numbers -> caption pairs; the class names lie in a second file beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descbench.descriptions import Descriptions, read_json
from descbench.errors import InputError

PAIRS, NAMES = "_prompt_pairs.json", "_class_names.json"


def detect(data: Any) -> bool:
    """An object whose values have "classes" and "prompt_pairs"."""
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(v, dict) and "classes" in v and "prompt_pairs" in v for v in data.values())
    )


def read(data: Any, path: Path) -> Descriptions:
    """Captions by pair. `X_prompt_pairs.json` numbers its classes; `X_class_names.json` beside it, where it is, names
    them. Duplicate captions stay: the method counts each once.

    Raises `InputError` that names the entry that is not of this form.
    """
    pairs: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    for key, entry in data.items():
        where = f"{path}, entry {key!r}"
        classes = entry["classes"]
        if not isinstance(classes, list) or len(classes) != 2 or not all(isinstance(c, int) for c in classes):
            raise InputError(f"{where}: 'classes' must be two class numbers, given: {classes!r:.80}")
        if not isinstance(entry["prompt_pairs"], list):
            raise InputError(f"{where}: 'prompt_pairs' must be a list, given: {entry['prompt_pairs']!r:.80}")
        first: list[str] = []
        second: list[str] = []
        for captions in entry["prompt_pairs"]:
            both = captions.get("prompt_pair") if isinstance(captions, dict) else None
            if not isinstance(both, list) or len(both) != 2 or not all(isinstance(t, str) for t in both):
                raise InputError(f"{where}: 'prompt_pair' must be two captions, given: {captions!r:.80}")
            first.append(both[0])
            second.append(both[1])
        pairs[classes[0], classes[1]] = (first, second)
    beside = path.with_name(path.name.removesuffix(PAIRS) + NAMES)
    names: dict[int, str] = {}
    if path.name.endswith(PAIRS) and beside.is_file():
        listed = read_json(beside)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise InputError(f"{beside} must be a list of class names")
        names = dict(enumerate(listed))
        unnamed = {c for pair in pairs for c in pair} - set(names)
        if unnamed:
            raise InputError(f"{path} speaks of class {min(unnamed)}, which {beside.name} does not name")
    return Descriptions(pairs=pairs, names=names)
