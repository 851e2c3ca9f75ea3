"""Which texts stand for a class, or tell classes apart: one readable file that a person can edit."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from descbench.errors import DescbenchWarning, InputError, MatchError, listed, nearest
from descbench.files import checked_texts, encodable, is_encodable, is_id, read_json, write_whole
from descbench.vocabulary import Vocabulary

FORMAT = "descbench descriptions, version 1"

Pair = tuple[int, int]

Side = tuple[int, ...]
"""Whom a list of texts describes: a class `(id,)`, a class against a rival `(id, rival)`, or a class against all others
of a set `(id, *rivals)`."""


@dataclass(frozen=True)
class Descriptions:
    """`classes` {id: [text]}, `pairs` {(a, b): ([texts of a], [texts of b])} and `sets` {(a, b, ...): {id: [text]}} of
    classes that were told apart together; `names` {id: name}; provenance; `synonyms` {id: further names}.

    A pair is kept once, smaller id first, and a set by its ascending ids; `pair` and `set` find them in any order.
    Texts are what the language model or a person wrote, not yet what is encoded: a method builds that from them.
    """

    classes: Mapping[int, list[str]] = field(default_factory=dict)
    pairs: Mapping[Pair, tuple[list[str], list[str]]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    domain: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sets: Mapping[tuple[int, ...], Mapping[int, list[str]]] = field(default_factory=dict)
    synonyms: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = {}
        for (a, b), (first, second) in self.pairs.items():
            if a == b:
                raise InputError(f"a pair needs two classes, given: class {a} twice")
            ordered[min(a, b), max(a, b)] = (first, second) if a < b else (second, first)
        object.__setattr__(self, "pairs", ordered)
        object.__setattr__(self, "sets", dict(_checked_set(ids, texts) for ids, texts in self.sets.items()))

    def pair(self, a: int, b: int) -> tuple[list[str], list[str]] | None:
        """(texts of a, texts of b) that tell these two apart; None where nobody has asked."""
        if a < b:
            return self.pairs.get((a, b))
        found = self.pairs.get((b, a))
        return found and (found[1], found[0])

    def set(self, ids: Iterable[int]) -> Mapping[int, list[str]] | None:
        """The texts of each of these classes that tell it from the others; None where nobody has asked.

        Classes of one name are asked about as one, the first of them: the others have its texts.
        """
        key = tuple(sorted(ids))
        if (found := self.sets.get(key)) is not None:
            return found
        first: dict[str | int, int] = {}
        stands_for = {id_: first.setdefault(self.names.get(id_, id_), id_) for id_ in key}
        found = self.sets.get(tuple(first.values())) if len(first) < len(key) else None
        return found and {id_: found[one] for id_, one in stands_for.items()}

    def sides(self) -> Iterator[tuple[Side, list[str]]]:
        """Every list of texts, with whom it describes: of classes, then of pairs, then of sets."""
        for id_, texts in self.classes.items():
            yield (id_,), texts
        for (a, b), (first, second) in self.pairs.items():
            yield (a, b), first
            yield (b, a), second
        for ids, said in self.sets.items():
            for id_, texts in said.items():
                yield side_of(id_, ids), texts

    def merged(self, other: Descriptions) -> Descriptions:
        """Both together; where both speak of a class, a pair or a set, `other` wins."""
        return replace(
            self,
            classes={**self.classes, **other.classes},
            pairs={**self.pairs, **other.pairs},
            names={**self.names, **other.names},
            provenance={**self.provenance, **other.provenance},
            sets={**self.sets, **other.sets},
            synonyms={**self.synonyms, **other.synonyms},
        )

    def matched(self, vocabulary: Vocabulary, allow_missing: bool = False) -> Descriptions:
        """The same texts under the ids of `vocabulary`, joined by name (by id where this has no names).

        A name that several classes share gives its texts to each of them. Classes of this that the vocabulary lacks are
        left out, with their pairs and sets, if every class of the vocabulary is named here; with `allow_missing` they
        always are, and a `DescbenchWarning` lists what was left out on both sides. Names are joined by the synonyms of
        `vocabulary` too, which stay with these; where it has none, those that this has stay.
        Raises `MatchError` when classes on both sides stay without a partner: then the names do not fit.
        """
        own = sorted(self.mentioned)
        domain = vocabulary.domain or self.domain
        same = not self.names or all(self.names.get(i) == name for i, name in vocabulary)
        if same and set(own) <= set(vocabulary.ids.tolist()):
            return replace(self, names=dict(vocabulary), domain=domain, synonyms=vocabulary.synonyms or self.synonyms)
        targets = self._targets(own, vocabulary)
        alone, bare = self._alone(targets), self._bare(vocabulary)
        if alone and bare and not allow_missing:
            raise MatchError(f"the descriptions are for other classes: {self._mismatch(alone, bare, vocabulary)}")
        targets = self._exact_first(targets, vocabulary)
        if allow_missing:
            if own and not any(targets.values()):
                raise MatchError(f"no class fits: {self._mismatch(alone, bare, vocabulary)}")
            broken = sum(not all(targets[i] for i in ids) for ids in self.sets)
            _warn_left_out(self._alone(targets), bare, broken)
        pairs: dict[Pair, tuple[list[str], list[str]]] = {
            (a, b): texts
            for (i, j), texts in self.pairs.items()
            for a in targets.get(i, ())
            for b in targets.get(j, ())
            if a != b
        }
        sets = {
            new: {j: said[i] for i, j in zip(ids, new, strict=True)}
            for ids, said in self.sets.items()
            for new in product(*(targets[i] for i in ids))
        }
        classes = {id_: self.classes[i] for i in own if i in self.classes for id_ in targets[i]}
        further = {ids[0]: self.synonyms[i] for i, ids in targets.items() if len(ids) == 1 and i in self.synonyms}
        return Descriptions(
            classes, pairs, dict(vocabulary), domain, self.provenance, sets, vocabulary.synonyms or further
        )

    @property
    def mentioned(self) -> frozenset[int]:
        """The ids that have a text, or stand in a pair or a set."""
        return frozenset(self.classes).union(*self.pairs, *self.sets)

    @property
    def texts(self) -> list[str]:
        """Every text, of classes, then of pairs and of sets, as often as it is there."""
        return [text for _, texts in self.sides() for text in texts]

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
        ids = sorted({*self.names, *self.mentioned})
        if not ids or any(i not in self.names for i in ids):
            raise InputError("these descriptions do not name their classes; give the classes as well")
        further = {i: self.synonyms[i] for i in ids if i in self.synonyms}
        return Vocabulary([self.names[i] for i in ids], self.domain, ids, further)

    def to_json(self) -> dict[str, Any]:
        """What `save` writes."""
        ids = sorted({*self.names, *self.classes})
        return {
            "format": FORMAT,
            "domain": self.domain,
            "classes": [
                {"id": i, "name": self.names.get(i)}
                | ({"synonyms": list(self.synonyms[i])} if i in self.synonyms else {})
                | {"texts": self.classes.get(i, [])}
                for i in ids
            ],
            "pairs": [
                {
                    "ids": [a, b],
                    "names": [self.names.get(a), self.names.get(b)],
                    "first": first,
                    "second": second,
                }
                for (a, b), (first, second) in sorted(self.pairs.items())
            ],
            **({"sets": self._sets_to_json()} if self.sets else {}),
            "provenance": dict(self.provenance),
        }

    def _sets_to_json(self) -> list[dict[str, Any]]:
        """The texts of each class stand at its place among the ids."""
        return [
            {"ids": [*ids], "names": [self.names.get(i) for i in ids], "texts": [said[i] for i in ids]}
            for ids, said in sorted(self.sets.items())
        ]

    def save(self, path: str | Path) -> None:
        """Write one readable JSON file, whole or not at all: a text a line, so that a person can edit one."""
        write_whole(path, readable(self.to_json()))

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
        for key in ("classes", "pairs", "sets"):
            if not isinstance(data.get(key, []), list):
                raise InputError(f"{path}: {key!r} must be a list, given: {data[key]!r:.80}")
        names: dict[int, str] = {}
        classes = _read_classes(data.get("classes", []), names, path)
        pairs = _read_pairs(data.get("pairs", []), names, path)
        sets = _read_sets(data.get("sets", []), names, path)
        named = {i: name for i, name in names.items() if name}
        provenance = data.get("provenance") or {}
        if not isinstance(provenance, dict):
            raise InputError(f"{path}: 'provenance' must be an object, given: {provenance!r:.80}")
        if not is_encodable(provenance):
            raise InputError(f"{path}: half of a character in 'provenance': {provenance!r:.80}; write it again")
        domain = encodable(str(data.get("domain") or ""), f"{path}, domain")
        synonyms = {
            int(entry["id"]): tuple(checked_texts(entry["synonyms"], f"{path}, synonyms of class {entry['id']}"))
            for entry in data.get("classes", [])
            if entry.get("synonyms")
        }
        return cls(classes, pairs, named, domain, provenance, sets, synonyms)


def _read_classes(entries: Sequence[Any], names: dict[int, str], path: Path) -> dict[int, list[str]]:
    """The texts of each class that has some; all classes go into `names`."""
    classes: dict[int, list[str]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, class entry {number}"
        if not isinstance(entry, dict) or not is_id(entry.get("id")):
            raise InputError(f"{where}: 'id' must be a whole number, given: {entry!r:.80}")
        id_ = int(entry["id"])
        if id_ in names:
            raise InputError(f"{where}: id {id_} occurs twice; each class needs an id of its own")
        names[id_] = encodable(str(entry.get("name") or ""), where)
        texts = checked_texts(entry.get("texts"), where)
        if texts:
            classes[id_] = texts
    return classes


def _read_pairs(entries: Sequence[Any], names: dict[int, str], path: Path) -> dict[Pair, tuple[list[str], list[str]]]:
    pairs: dict[Pair, tuple[list[str], list[str]]] = {}
    for number, entry in enumerate(entries):
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
        _name(ids, entry.get("names"), names, where)
    return pairs


def _read_sets(
    entries: Sequence[Any], names: dict[int, str], path: Path
) -> dict[tuple[int, ...], dict[int, list[str]]]:
    sets: dict[tuple[int, ...], dict[int, list[str]]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}, set entry {number}"
        ids = entry.get("ids") if isinstance(entry, dict) else None
        if not isinstance(ids, list) or len(ids) < 2 or not all(is_id(i) for i in ids):
            raise InputError(f"{where}: 'ids' must be two class ids or more")
        if twice := [i for i in ids if ids.count(i) > 1]:
            raise InputError(f"{where}: a set needs different classes, given: class {twice[0]} twice")
        key = tuple(sorted(ids))
        if key in sets:
            raise InputError(f"{where}: the classes {listed(key)} occur twice as a set; keep one entry")
        lists = entry.get("texts")
        if not isinstance(lists, list) or len(lists) != len(ids):
            raise InputError(f"{where}: 'texts' must be {len(ids)} lists of texts, one for each of 'ids'")
        sets[key] = {id_: checked_texts(texts, where) for id_, texts in zip(ids, lists, strict=True)}
        _name(ids, entry.get("names"), names, where)
    return sets


def _name(ids: Sequence[int], called: Any, names: dict[int, str], where: str) -> None:
    """Take in what an entry calls its classes, where nothing else has named them."""
    for i, name in zip(ids, called if isinstance(called, list) else [], strict=False):
        names.setdefault(i, encodable(str(name or ""), where))


def readable(data: dict[str, Any]) -> str:
    """What json.dumps(data, indent=1) gives, for descriptions: with indentation that encodes in Python, text by text,
    and takes ten times as long where there are many pairs."""
    parts = []
    for name, value in data.items():
        if name in ("classes", "pairs", "sets") and value:
            said = "[\n" + ",\n".join(map(_entry, value)) + "\n ]"
        else:
            said = json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")
        parts.append(f" {_quoted(name)}: {said}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _entry(entry: Mapping[str, Any]) -> str:
    """A class, a pair or a set: texts, numbers, and lists of these."""
    fields = [f"   {_quoted(name)}: {_lines(value, '   ')}" for name, value in entry.items()]
    return "  {\n" + ",\n".join(fields) + "\n  }"


def _lines(value: Any, indent: str) -> str:
    """A list with an item a line, and lists in it alike; anything else on one line."""
    if not isinstance(value, list) or not value:
        return _quoted(value)
    inner = f"\n{indent} "
    items = map(_quoted, value) if not isinstance(value[0], list) else (_lines(item, indent + " ") for item in value)
    return f"[{inner}{f',{inner}'.join(items)}\n{indent}]"


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


def side_of(id: int, ids: Iterable[int]) -> Side:
    """A class, then the others of its set, in the order given."""
    return (id, *(other for other in ids if other != id))


def _checked_set(ids: tuple[int, ...], texts: Mapping[int, list[str]]) -> tuple[tuple[int, ...], dict[int, list[str]]]:
    """A set by its ascending ids, with a list for each; raises `InputError` where it is none."""
    if len(ids) < 2 or len({*ids}) < len(ids):
        raise InputError(f"a set needs two different classes or more, given: {listed(ids) or 'none'}")
    if strangers := sorted({*texts} - {*ids}):
        raise InputError(f"a set of the classes {listed(ids)} has texts of others: {listed(strangers)}")
    ordered = tuple(sorted(ids))
    return ordered, {id_: texts.get(id_, []) for id_ in ordered}


def _warn_left_out(alone: Sequence[str], bare: Sequence[str], broken: int) -> None:
    """One warning on what `allow_missing` went on without."""
    told = (
        [f"{len(alone)} described classes left out, which the vocabulary lacks: {listed(alone, 20)}"] if alone else []
    )
    told += [f"{broken} sets left out, of which a class is lacking"] if broken else []
    told += [f"{len(bare)} classes of the vocabulary without a description: {listed(bare, 20)}"] if bare else []
    if told:
        warnings.warn("; ".join(told), DescbenchWarning, stacklevel=3)
