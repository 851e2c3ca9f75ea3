"""Which texts stand for a class, or tell two classes apart: one readable file that a person can edit."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from descbench.errors import DescbenchWarning, InputError, MatchError, listed, nearest
from descbench.files import checked_texts, encodable, is_encodable, is_id, read_json, write_whole
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

    def matched(self, vocabulary: Vocabulary, allow_missing: bool = False) -> Descriptions:
        """The same texts under the ids of `vocabulary`, joined by name (by id where this has no names).

        A name that several classes share gives its texts to each of them. Classes of this that the vocabulary lacks are
        left out, if every class of the vocabulary is named here; with `allow_missing` they always are, and a
        `DescbenchWarning` lists what was left out on both sides.
        Raises `MatchError` when classes on both sides stay without a partner: then the names do not fit.
        """
        own = sorted(self.mentioned)
        domain = vocabulary.domain or self.domain
        same = not self.names or all(self.names.get(i) == name for i, name in vocabulary)
        if same and set(own) <= set(vocabulary.ids.tolist()):
            return replace(self, names=dict(vocabulary), domain=domain)
        targets = self._targets(own, vocabulary)
        alone, bare = self._alone(targets), self._bare(vocabulary)
        if alone and bare and not allow_missing:
            raise MatchError(f"the descriptions are for other classes: {self._mismatch(alone, bare, vocabulary)}")
        targets = self._exact_first(targets, vocabulary)
        if allow_missing:
            if own and not any(targets.values()):
                raise MatchError(f"no class fits: {self._mismatch(alone, bare, vocabulary)}")
            _warn_left_out(self._alone(targets), bare)
        pairs: dict[Pair, tuple[list[str], list[str]]] = {
            (a, b): texts
            for (i, j), texts in self.pairs.items()
            for a in targets.get(i, ())
            for b in targets.get(j, ())
            if a != b
        }
        classes = {id_: self.classes[i] for i in own if i in self.classes for id_ in targets[i]}
        return replace(self, classes=classes, pairs=pairs, names=dict(vocabulary), domain=domain)

    @property
    def mentioned(self) -> set[int]:
        """The ids that have a text, or stand in a pair."""
        return set(self.classes) | {i for pair in self.pairs for i in pair}

    @property
    def texts(self) -> list[str]:
        """Every text, of classes and then of pairs, as often as it is there."""
        sides = (side for both in self.pairs.values() for side in both)
        return [text for texts in (*self.classes.values(), *sides) for text in texts]

    def targets(self, vocabulary: Vocabulary) -> dict[int, list[int]]:
        """For each class, described or only named, its ids in `vocabulary`; none where the vocabulary lacks it."""
        own = sorted(self.mentioned | set(self.names))
        return self._exact_first(self._targets(own, vocabulary), vocabulary)

    def left_out(self, vocabulary: Vocabulary) -> tuple[list[str], list[str]]:
        """The classes of this that `vocabulary` lacks, and those of `vocabulary` that are not named here."""
        return self._alone(self.targets(vocabulary)), self._bare(vocabulary)

    def check_fit(self, vocabulary: Vocabulary) -> None:
        """Raises `MatchError` where either side has a class that the other lacks: both are listed, with what is near.

        Stricter than `matched`, for a file of another's: nobody knows yet whether it was meant for these classes.
        """
        alone, bare = self.left_out(vocabulary)
        if alone or bare:
            raise MatchError(
                f"the descriptions and the vocabulary do not fit: {self._mismatch(alone, bare, vocabulary)} "
                "To go on without them: allow_missing=True, or --allow-missing."
            )

    def _targets(self, own: Sequence[int], vocabulary: Vocabulary) -> dict[int, list[int]]:
        known = set(vocabulary.ids.tolist())
        if not self.names:
            if strangers := [i for i in own if i not in known]:
                raise MatchError(
                    f"descriptions for the ids {listed(strangers)}, which the vocabulary does not have, and no names "
                    f"to join by. The vocabulary has {len(vocabulary)} classes."
                )
            return {i: [i] for i in own}
        if nameless := [i for i in own if i not in self.names]:
            raise MatchError(
                f"the described classes with the ids {listed(nameless)} have no name to join by; name them"
            )
        return _targets(own, [self.names[i] for i in own], vocabulary)

    def _alone(self, targets: Mapping[int, Sequence[int]]) -> list[str]:
        return [self.names[i] for i, ids in targets.items() if not ids]

    def _bare(self, vocabulary: Vocabulary) -> list[str]:
        """The classes of `vocabulary` that are neither described nor named here."""
        if not self.names:
            return [name for id_, name in vocabulary if id_ not in self.mentioned]
        named = {id_ for name in dict.fromkeys(self.names.values()) for id_ in vocabulary.called(name)}
        return [name for id_, name in vocabulary if id_ not in named]

    def _mismatch(self, alone: Sequence[str], bare: Sequence[str], vocabulary: Vocabulary) -> str:
        told = [vocabulary.mismatch(alone, "described class")] if alone else []
        if bare:
            near = bare if alone else [f"{name!r}{nearest(name, self.names.values())}" for name in bare[:8]]
            more = f" and {len(bare) - len(near)} more" if len(bare) > len(near) else ""
            told.append(f"Without a description: {listed(near)}{more}.")
        return " ".join([*told, "Rename them on either side, or give the classes of the file."])

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
        write_whole(path, _readable(self.to_json()))

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
            names[id_] = encodable(str(entry.get("name") or ""), where)
            texts = checked_texts(entry.get("texts"), where)
            if texts:
                classes[id_] = texts
        for number, entry in enumerate(data.get("pairs", [])):
            where = f"{path}, pair entry {number}"
            ids = entry.get("ids") if isinstance(entry, dict) else None
            if not isinstance(ids, list) or len(ids) != 2 or not all(is_id(i) for i in ids):
                raise InputError(f"{where}: 'ids' must be two class ids")
            if ids[0] == ids[1]:
                raise InputError(f"{where}: a pair needs two classes, given: class {ids[0]} twice")
            if (ids[0], ids[1]) in pairs or (ids[1], ids[0]) in pairs:
                raise InputError(f"{where}: the classes {ids[0]} and {ids[1]} occur twice as a pair; keep one entry")
            pairs[ids[0], ids[1]] = (
                checked_texts(entry.get("first"), where),
                checked_texts(entry.get("second"), where),
            )
            called = entry.get("names")
            for i, name in zip(ids, called if isinstance(called, list) else [], strict=False):
                names.setdefault(i, encodable(str(name or ""), where))
        named = {i: name for i, name in names.items() if name}
        provenance = data.get("provenance") or {}
        if not isinstance(provenance, dict):
            raise InputError(f"{path}: 'provenance' must be an object, given: {provenance!r:.80}")
        if not is_encodable(provenance):
            raise InputError(f"{path}: half of a character in 'provenance': {provenance!r:.80}; write it again")
        return cls(classes, pairs, named, encodable(str(data.get("domain") or ""), f"{path}, domain"), provenance)


def _readable(data: dict[str, Any]) -> str:
    """What json.dumps(data, indent=1) gives, for descriptions: with indentation that encodes in Python, text by text,
    and takes ten times as long where there are many pairs."""
    parts = []
    for name, value in data.items():
        if name in ("classes", "pairs") and value:
            said = "[\n" + ",\n".join(map(_entry, value)) + "\n ]"
        else:
            said = json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")
        parts.append(f" {_quoted(name)}: {said}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _entry(entry: Mapping[str, Any]) -> str:
    """A class or a pair: texts, numbers, and lists of these."""
    fields = []
    for name, value in entry.items():
        if isinstance(value, list) and value:
            said = "[\n    " + ",\n    ".join(map(_quoted, value)) + "\n   ]"
        else:
            said = _quoted(value)
        fields.append(f"   {_quoted(name)}: {said}")
    return "  {\n" + ",\n".join(fields) + "\n  }"


_quoted = json.JSONEncoder(ensure_ascii=False).encode


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


def _warn_left_out(alone: Sequence[str], bare: Sequence[str]) -> None:
    """One warning on what `allow_missing` went on without."""
    told = (
        [f"{len(alone)} described classes left out, which the vocabulary lacks: {listed(alone, 20)}"] if alone else []
    )
    told += [f"{len(bare)} classes of the vocabulary without a description: {listed(bare, 20)}"] if bare else []
    if told:
        warnings.warn("; ".join(told), DescbenchWarning, stacklevel=3)


def _id(entry: Any, key: str, where: str) -> int:
    if not isinstance(entry, dict) or not is_id(entry.get(key)):
        raise InputError(f"{where}: '{key}' must be a whole number, given: {entry!r:.80}")
    return int(entry[key])
