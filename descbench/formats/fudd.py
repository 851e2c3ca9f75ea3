"""FuDD's published files: pairs of class numbers -> caption pairs; the class names lie in a second file beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descbench.descriptions import Descriptions
from descbench.errors import InputError
from descbench.files import checked_name, is_id, once, read_json
from descbench.formats.source import Source

PAIRS, NAMES = "_prompt_pairs.json", "_class_names.json"


def detect(source: Source) -> bool:
    """An object with an entry that has "classes" and "prompt_pairs"."""
    return any(isinstance(v, dict) and {"classes", "prompt_pairs"} <= set(v) for v in source.object().values())


def read(source: Source) -> Descriptions:
    """Captions by pair. `X_prompt_pairs.json` numbers its classes; `X_class_names.json` beside it, where it is, names
    them. Duplicate captions stay: the method counts each once. Both directions of a pair are one pair.

    Raises `InputError` that names the entry that is not of this form.
    """
    names = _names(source.path)
    pairs: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    for key, entry in once(source.data, source).items():
        a, b, captions = _entry(entry, f"{source}, entry {key!r:.80}")
        if strangers := [i for i in (a, b) if names and i not in names]:
            raise InputError(
                f"{source} speaks of class {strangers[0]}, which {_beside(source.path).name} does not name"
            )
        first, second = pairs.setdefault((min(a, b), max(a, b)), ([], []))
        if a > b:
            first, second = second, first
        first += source.texts([one for one, _ in captions], names.get(a, str(a)))
        second += source.texts([other for _, other in captions], names.get(b, str(b)))
    return Descriptions(pairs=pairs, names=names)


def _entry(entry: Any, where: str) -> tuple[int, int, list[tuple[str, str]]]:
    """The two class numbers of an entry, and its captions in twos."""
    if not isinstance(entry, dict) or not {"classes", "prompt_pairs"} <= set(entry):
        raise InputError(f"{where}: an entry has 'classes' and 'prompt_pairs', given: {entry!r:.80}")
    classes = entry["classes"]
    if not isinstance(classes, list) or len(classes) != 2 or not all(is_id(c) for c in classes):
        raise InputError(f"{where}: 'classes' must be two class numbers, given: {classes!r:.80}")
    if classes[0] == classes[1]:
        raise InputError(f"{where}: 'classes' must be two different ones, given: class {classes[0]} twice")
    if not isinstance(entry["prompt_pairs"], list):
        raise InputError(f"{where}: 'prompt_pairs' must be a list, given: {entry['prompt_pairs']!r:.80}")
    captions = []
    for given in entry["prompt_pairs"]:
        both = given.get("prompt_pair") if isinstance(given, dict) else None
        if not isinstance(both, list) or len(both) != 2 or not all(isinstance(text, str) for text in both):
            raise InputError(f"{where}: 'prompt_pair' must be two captions, given: {given!r:.80}")
        captions.append((both[0], both[1]))
    return classes[0], classes[1], captions


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(PAIRS) + NAMES)


def _names(path: Path) -> dict[int, str]:
    beside = _beside(path)
    if not path.name.endswith(PAIRS) or not beside.is_file():
        return {}
    listed = read_json(beside)
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise InputError(f"{beside} must be a list of class names")
    return {number: checked_name(name, str(beside)) for number, name in enumerate(listed)}


def to_json(descriptions: Descriptions) -> tuple[dict[str, Any], list[str]]:
    """What the two files hold: the pairs by number, and the names in the order of the numbers.

    Raises `InputError` where a pair has more captions of one class than of the other: this form holds them in twos.
    """
    vocabulary = descriptions.vocabulary()
    pairs: dict[str, Any] = {}
    for (a, b), (first, second) in sorted(descriptions.pairs.items()):
        if len(first) != len(second):
            both = f"{vocabulary.name(a)!r} and {vocabulary.name(b)!r}"
            raise InputError(
                f"{both} have {len(first)} and {len(second)} texts as a pair; FuDD's form holds captions in twos. "
                "The format csv holds any number."
            )
        numbers = [vocabulary.position(a), vocabulary.position(b)]
        captions = [{"attr_type": "", "prompt_pair": list(both)} for both in zip(first, second, strict=True)]
        pairs[f"{numbers[0]}_{numbers[1]}"] = {"classes": numbers, "prompt_pairs": captions}
    return pairs, list(vocabulary.names)
