"""Which texts stand for a class, or tell two classes apart: one readable file that a person can edit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from descbench.errors import InputError, MatchError, listed
from descbench.vocabulary import Vocabulary

FORMAT = "descbench descriptions, version 1"

Pair = tuple[int, int]


@dataclass(frozen=True)
class Descriptions:
    """`classes` {id: [text]} and `pairs` {(a, b): ([texts of a], [texts of b])}; `names` {id: name}; provenance.

    A pair is kept once, smaller id first; `pair` finds it from either side. Texts are what the language model or a
    person wrote, not yet what is encoded: a method builds that from them.
    """

    classes: Mapping[int, list[str]] = field(default_factory=dict)
    pairs: Mapping[Pair, tuple[list[str], list[str]]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    domain: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {}
        for (a, b), (first, second) in self.pairs.items():
            if a == b:
                raise InputError(f"a pair needs two classes, given: class {a} twice")
            ordered[min(a, b), max(a, b)] = (first, second) if a < b else (second, first)
        object.__setattr__(self, "pairs", ordered)

    def pair(self, a: int, b: int) -> tuple[list[str], list[str]] | None:
        """(texts of a, texts of b) that tell these two apart; None where nobody has asked."""
        if a < b:
            return self.pairs.get((a, b))
        found = self.pairs.get((b, a))
        return found and (found[1], found[0])

    def merged(self, other: Descriptions) -> Descriptions:
        """Both together; where both speak of a class or a pair, `other` wins."""
        return replace(
            self,
            classes={**self.classes, **other.classes},
            pairs={**self.pairs, **other.pairs},
            names={**self.names, **other.names},
            provenance={**self.provenance, **other.provenance},
        )

    def matched(self, vocabulary: Vocabulary) -> Descriptions:
        """The same texts under the ids of `vocabulary`, joined by name (by id where this has no names).

        A name that several classes share gives its texts to each of them. Classes of this that the vocabulary lacks are
        left out, if every class of the vocabulary has its texts.
        Raises `MatchError` when classes on both sides stay without a partner: then the names do not fit.
        """
        mentioned = set(self.classes) | {i for pair in self.pairs for i in pair}
        same = not self.names or all(self.names.get(i) == name for i, name in vocabulary)
        if same and mentioned <= set(vocabulary.ids.tolist()):
            return replace(self, names=dict(vocabulary), domain=vocabulary.domain or self.domain)
        if not self.names:
            raise MatchError(
                f"descriptions for the ids {listed(sorted(mentioned - set(vocabulary.ids.tolist())))}, which the "
                f"vocabulary does not have, and no names to join by. The vocabulary has {len(vocabulary)} classes."
            )
        own = sorted(mentioned)
        if nameless := [i for i in own if i not in self.names]:
            raise MatchError(
                f"the described classes with the ids {listed(nameless)} have no name to join by; name them"
            )
        targets = _targets(own, [self.names[i] for i in own], vocabulary)
        alone = [self.names[i] for i in own if not targets[i]]
        covered = {id_ for ids in targets.values() for id_ in ids}
        bare = [name for id_, name in vocabulary if id_ not in covered]
        if alone and bare:
            raise MatchError(
                f"the descriptions are for other classes: {vocabulary.mismatch(alone, 'described class')} "
                f"Without a description: {listed(bare)}. Rename them on either side, or give the classes of the file."
            )
        targets = self._exact_first(targets, vocabulary)
        pairs = {
            (a, b): texts
            for (i, j), texts in self.pairs.items()
            for a in targets.get(i, ())
            for b in targets.get(j, ())
            if a != b
        }
        classes = {id_: self.classes[i] for i in own if i in self.classes for id_ in targets[i]}
        return replace(
            self, classes=classes, pairs=pairs, names=dict(vocabulary), domain=vocabulary.domain or self.domain
        )

    def _exact_first(self, targets: Mapping[int, list[int]], vocabulary: Vocabulary) -> dict[int, list[int]]:
        """Each class of the vocabulary for one of ours: for the one of its very name, where others are only like it."""
        chosen: dict[int, int] = {}
        for i, ids in targets.items():
            for id_ in ids:
                name, other = vocabulary.name(id_), chosen.get(id_)
                if other is None or self.names[i] == name:
                    chosen[id_] = i
                elif self.names[other] != name:
                    raise MatchError(
                        f"{self.names[other]!r} and {self.names[i]!r} both fit the class {name!r}; keep one"
                    )
        return {i: [id_ for id_ in ids if chosen[id_] == i] for i, ids in targets.items()}

    def vocabulary(self) -> Vocabulary:
        """The classes of this file; raises `InputError` where it has no names."""
        ids = sorted({*self.names, *self.classes, *(i for pair in self.pairs for i in pair)})
        if not ids or any(i not in self.names for i in ids):
            raise InputError("these descriptions do not name their classes; give the classes as well")
        return Vocabulary([self.names[i] for i in ids], self.domain, ids)

    def to_json(self) -> dict[str, Any]:
        """What `save` writes."""
        ids = sorted({*self.names, *self.classes})
        return {
            "format": FORMAT,
            "domain": self.domain,
            "classes": [{"id": i, "name": self.names.get(i), "texts": self.classes.get(i, [])} for i in ids],
            "pairs": [
                {
                    "ids": [a, b],
                    "names": [self.names.get(a), self.names.get(b)],
                    "first": first,
                    "second": second,
                }
                for (a, b), (first, second) in sorted(self.pairs.items())
            ],
            "provenance": dict(self.provenance),
        }

    def save(self, path: str | Path) -> None:
        """Write one readable JSON file, whole or not at all: a text a line, so that a person can edit one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Descriptions:
        """Read a file that `save` wrote; for published files see `descbench.read_descriptions`."""
        path = Path(path)
        data = read_json(path)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"{path} is not a file of descbench; descbench.read_descriptions reads published formats")
        return cls.from_json(data, path)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], path: Path) -> Descriptions:
        """Descriptions from what `save` wrote; raises `InputError` that names the entry that a person has broken."""
        names: dict[int, str] = {}
        classes: dict[int, list[str]] = {}
        pairs: dict[Pair, tuple[list[str], list[str]]] = {}
        for key in ("classes", "pairs"):
            if not isinstance(data.get(key, []), list):
                raise InputError(f"{path}: {key!r} must be a list, given: {data[key]!r:.80}")
        for number, entry in enumerate(data.get("classes", [])):
            where = f"{path}, class entry {number}"
            id_ = _id(entry, "id", where)
            if id_ in names:
                raise InputError(f"{where}: id {id_} occurs twice; each class needs an id of its own")
            names[id_] = str(entry.get("name") or "")
            texts = checked_texts(entry.get("texts"), where)
            if texts:
                classes[id_] = texts
        for number, entry in enumerate(data.get("pairs", [])):
            where = f"{path}, pair entry {number}"
            ids = entry.get("ids") if isinstance(entry, dict) else None
            if not isinstance(ids, list) or len(ids) != 2 or not all(isinstance(i, int) for i in ids):
                raise InputError(f"{where}: 'ids' must be two class ids")
            if ids[0] == ids[1]:
                raise InputError(f"{where}: a pair needs two classes, given: class {ids[0]} twice")
            pairs[ids[0], ids[1]] = (
                checked_texts(entry.get("first"), where),
                checked_texts(entry.get("second"), where),
            )
            called = entry.get("names")
            for i, name in zip(ids, called if isinstance(called, list) else [], strict=False):
                names.setdefault(i, str(name or ""))
        named = {i: name for i, name in names.items() if name}
        return cls(classes, pairs, named, str(data.get("domain") or ""), data.get("provenance") or {})


def _targets(own: Sequence[int], names: Sequence[str], vocabulary: Vocabulary) -> dict[int, list[int]]:
    """For each own id the vocabulary's: all classes of a name where we have it once (a file has "missile" once)."""
    often = Counter(names)
    repeated = [i for i, name in zip(own, names, strict=True) if often[name] > 1]
    joined = dict(zip(repeated, vocabulary.find([n for n in names if often[n] > 1]), strict=True))
    targets = {i: [] if id_ is None else [id_] for i, id_ in joined.items()}
    for i, name in zip(own, names, strict=True):
        if often[name] == 1:
            ids = vocabulary.called(name)
            if len({vocabulary.name(id_) for id_ in ids}) > 1:
                vocabulary.find([name])  # raises: it fits classes of different names
            targets[i] = ids
    return targets


def _id(entry: Any, key: str, where: str) -> int:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), int):
        raise InputError(f"{where}: '{key}' must be a whole number, given: {entry!r:.80}")
    return int(entry[key])


def checked_texts(texts: Any, where: str) -> list[str]:
    """A list of non-blank texts, as given; raises `InputError` that says where it is not one."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: expected a list of texts in double quotes, given: {texts!r:.80}")
    return [text for text in texts if text.strip()]


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises `InputError` where there is no such file or it is broken."""
    if not path.is_file():
        raise InputError(f"no file {path}; give a file of descriptions")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}. Was it edited? A comma may be missing.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
