"""The classes: names that may repeat, ids that never do, synonyms; and how names of other sources join them."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from descbench.errors import InputError, MatchError, listed, nearest


def normalise(name: str) -> str:
    """A name for joining: without case, accents, article, and with "_" and "-" as blanks.

    >>> normalise("The_Crème-brûlée")
    'creme brulee'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    words = re.sub(r"[\s_\-‐-―]+", " ", plain.casefold()).split()
    if len(words) > 1 and words[0] in {"a", "an", "the"}:
        words = words[1:]
    return " ".join(words) or name


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Vocabulary:
    """Classes with names, ids and a domain ("birds": what they all are, shown to the language model).

    `ids` default to 0..C-1 and stay with their class in `subset`: they, not positions, are what every result speaks of.
    `synonyms`, {id: [name, ...]}, are further names of a class: labels join by them too, and the texts of a class are
    those of all its names. Its name in `names` is what it is asked about and shown as.
    Raises `InputError` where there is no class, a name is blank or has control characters, an id occurs twice, or a
    synonym is also a name or synonym of another class.
    """

    names: tuple[str, ...]
    ids: np.ndarray  # (C,) int64
    domain: str
    _further: Mapping[int, tuple[str, ...]]  # only of the classes that have some

    def __init__(
        self,
        names: Sequence[str],
        domain: str = "",
        ids: Sequence[int] | np.ndarray | None = None,
        synonyms: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        if isinstance(names, str):
            raise InputError(f"a vocabulary takes a list of names, not one text: Vocabulary([{names!r}])")
        names = tuple(names)
        if not names:
            raise InputError("the vocabulary is empty; give at least one class name")
        for position, name in enumerate(names):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"class {position} has no name (given: {name!r}); every class needs a name in words")
            _no_control(name, f"the name of class {position}")
        # An own, read-only copy: whoever holds the array that was given cannot change this vocabulary.
        array = np.arange(len(names)) if ids is None else np.array(ids)  # (C,)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise InputError(f"ids must be whole numbers, given: {listed(array.ravel().tolist())}")
        array = array.astype(np.int64)
        if array.shape != (len(names),):
            raise InputError(f"{len(names)} names need as many ids, given: {array.size}")
        values, counts = np.unique(array, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"ids occur twice: {listed(values[counts > 1])}; each class needs an id of its own")
        array.flags.writeable = False
        by_id = dict(zip(array.tolist(), names, strict=True))
        self._set(names, array, domain, _checked_synonyms(synonyms or {}, by_id))

    def _set(
        self, names: tuple[str, ...], ids: np.ndarray, domain: str, further: Mapping[int, tuple[str, ...]]
    ) -> None:
        for name, value in (("names", names), ("ids", ids), ("domain", domain), ("_further", further)):
            object.__setattr__(self, name, value)

    def _with(self, names: tuple[str, ...], ids: np.ndarray, further: Mapping[int, tuple[str, ...]]) -> Vocabulary:
        """One of the same domain. What was checked once is not checked again: a follow-up makes one for each candidate
        set."""
        found = object.__new__(Vocabulary)
        found._set(names, ids, self.domain, further)
        return found

    def __repr__(self) -> str:
        further = f", synonyms={self.synonyms!r}" if self._further else ""
        return f"Vocabulary(names={self.names!r}, domain={self.domain!r}{further})"

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Pairs (id, name), in order."""
        return zip(self.ids.tolist(), self.names, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        ours, theirs = ((v.names, v.domain, v._further) for v in (self, other))
        return ours == theirs and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((self.names, self.domain, self.ids.tobytes(), frozenset(self._further.items())))

    @property
    def synonyms(self) -> dict[int, tuple[str, ...]]:
        """The further names by the id of their class, of the classes that have some."""
        return dict(self._further)

    def names_of(self, id: int) -> tuple[str, ...]:
        """All names of the class with this id, that of `names` first."""
        return (self.name(id), *self._further.get(int(id), ()))

    def led_by(self, number: int) -> Vocabulary:
        """The same classes, each by its name number `number` (0 is that of `names`), with its others as synonyms; a
        class that has not so many stays as it is."""
        names, further = [], dict(self._further)
        for id_, name in self:
            every = (name, *self._further.get(id_, ()))
            if 0 < number < len(every):
                every = every[number:] + every[:number]
                further[id_] = every[1:]
            names.append(every[0])
        return self._with(tuple(names), self.ids, further)

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {id_: position for position, id_ in enumerate(self.ids.tolist())}

    def position(self, id: int) -> int:
        """The position of a class in this vocabulary; raises `InputError` for an id that it does not have."""
        try:
            return self._positions[int(id)]
        except KeyError:
            raise InputError(f"no class with id {id} in this vocabulary of {len(self)} classes") from None

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """The positions of many ids at once, in the shape given."""
        order = np.argsort(self.ids)
        found = np.searchsorted(self.ids, ids, sorter=order).clip(max=len(self) - 1)
        if not np.array_equal(self.ids[order[found]], ids):
            unknown = np.setdiff1d(ids, self.ids)
            raise InputError(f"no class with id {listed(unknown)} in this vocabulary of {len(self)} classes")
        return np.asarray(order[found])

    def name(self, id: int) -> str:
        """The name of the class with this id."""
        return self.names[self.position(id)]

    def id(self, name: str) -> int:
        """The id of the class of this name (as `match` joins names); raises `MatchError` where there is none."""
        return int(self.match([name], "class")[0])

    @cached_property
    def _called(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        exact, loose = defaultdict(list), defaultdict(list)
        for id_, name in sorted(self):
            every = (name, *self._further.get(id_, ()))
            for called in every:
                exact[called].append(id_)
            for called in dict.fromkeys(map(normalise, every)):
                loose[called].append(id_)
        return dict(exact), dict(loose)

    def called(self, name: str) -> list[int]:
        """The ids of all classes of this name or synonym: by the exact one, else by the normalised one; ascending."""
        exact, loose = self._called
        return exact.get(name) or loose.get(normalise(name), [])

    def subset(self, ids: Iterable[int]) -> Vocabulary:
        """The classes with these ids, in this order; ids, synonyms and domain stay."""
        chosen = [int(i) for i in ids]
        if not chosen or len(set(chosen)) != len(chosen):
            raise InputError(f"a subset takes at least one id and none twice, given: {listed(chosen)}")
        array = np.array(chosen, dtype=np.int64)
        array.flags.writeable = False
        further = {i: self._further[i] for i in chosen if i in self._further}
        return self._with(tuple(self.names[self.position(i)] for i in chosen), array, further)

    def renamed(self, names: Sequence[str]) -> Vocabulary:
        """The same classes under other names, and these only: without their synonyms."""
        return Vocabulary(names, self.domain, self.ids)

    def find(self, names: Sequence[str]) -> list[int | None]:
        """The id for each name, None where there is no class for it: by exact name or synonym, else by the normalised.

        A name that stands for several classes (ImageNet has two "missile") is joined in the order of the ids where
        `names` repeats it as often, and is an error otherwise: raises `MatchError`.
        """
        asked = defaultdict(list)
        for position, name in enumerate(names):
            asked[name].append(position)
        found: list[int | None] = [None] * len(names)
        for name, positions in asked.items():
            ids = self.called(name)
            if len(ids) > 1 and len(ids) != len(positions):
                same = [self.name(i) for i in ids]
                raise MatchError(
                    f"{name!r} fits {len(ids)} classes ({listed(same)}; ids {listed(ids)}), so it cannot be joined. "
                    "Give these classes names that differ."
                )
            for position, id_ in zip(positions, ids if len(ids) > 1 else ids * len(positions), strict=False):
                found[position] = id_
        return found

    def match(self, names: Sequence[str], what: str = "name") -> np.ndarray:
        """The id for each name, (len(names),) int64; raises `MatchError` that lists both sides where one has none."""
        found = self.find(names)
        missing = [name for name, id_ in zip(names, found, strict=True) if id_ is None]
        if missing:
            raise MatchError(self.mismatch(missing, what))
        return np.array(found, dtype=np.int64)

    def mismatch(self, missing: Sequence[str], what: str) -> str:
        """The message for names without a class: what was given, the nearest class, and the classes that there are."""
        every = [*self.names, *(synonym for several in self._further.values() for synonym in several)]
        near = [f"{name!r}{nearest(name, every)}" for name in missing[:5]]
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        plural = "es" if what.endswith("s") else "s"
        return (
            f"{len(missing)} {what}{plural if len(missing) > 1 else ''} without a class: {'; '.join(near)}{more}. "
            f"The vocabulary has {len(self)} classes: {listed(self.names)}."
        )

    @classmethod
    def load(cls, path: str | Path, domain: str = "") -> Vocabulary:
        """Classes from a txt file (a name a line), a csv file (column `name`, `class` or `label`; if any, `id`, and
        `synonyms` with "|" between them), a json file (a list of names; {"names": ..., "domain": ...}; or an object
        whose keys are the names), or a folder with one folder a class (sorted; "_" is read as a blank).

        In a list of json, a class with several names is a list of them; `synonyms` beside `names` does as well, a list
        for each class.

        Raises `InputError` when it cannot be read as any of these.
        """
        path = Path(path)
        if path.is_dir():
            folders = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
            if not folders:
                raise InputError(f"{path} has no class folders; a vocabulary is read from one folder a class")
            return cls(folder_names(folders), domain)
        if not path.is_file():
            raise InputError(f"no file or folder {path}; give a txt, csv or json file with class names, or a folder")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
        if not text.strip():
            raise InputError(f"{path} is empty; write one class name a line")
        if path.suffix == ".json":
            return cls._from_json(path, text, domain)
        if path.suffix == ".csv":
            return cls._from_csv(path, text, domain)
        return cls([line.strip() for line in text.splitlines() if line.strip()], domain)

    @classmethod
    def _from_json(cls, path: Path, text: str, domain: str) -> Vocabulary:
        try:
            data: Any = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{path} is not valid JSON: {error}") from None
        if isinstance(data, dict) and isinstance(data.get("classes"), list):  # a file of descriptions
            for number, entry in enumerate(data["classes"]):
                if not isinstance(entry, dict):
                    raise InputError(f"{path}, class entry {number}: an object with 'id' and 'name', given: {entry!r}")
            columns = (("ids", "id"), ("names", "name"), ("synonyms", "synonyms"))
            data = {"domain": data.get("domain")} | {
                plural: [entry.get(one) for entry in data["classes"]] for plural, one in columns
            }
        elif isinstance(data, dict) and not isinstance(data.get("names"), list):
            data = list(data)
        if not isinstance(data, list | dict):
            raise InputError(f"{path} holds neither a list of names nor an object with names; see Vocabulary.load")
        return cls.from_json(data if isinstance(data, dict) else {"names": data}, domain)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], domain: str = "") -> Vocabulary:
        """A vocabulary from what `to_json` gave; `domain` takes the place of that in it."""
        names, further = list(data["names"]), data.get("synonyms") or [()] * len(data["names"])
        if not isinstance(further, list) or len(further) != len(names):
            raise InputError(
                f"'synonyms' must be {len(names)} lists of names, one for each class, given: {further!r:.80}"
            )
        # A class may also be given as the list of its names.
        more = [name[1:] if isinstance(name, list) else [] for name in names]
        names = [name[0] if isinstance(name, list) and name else name for name in names]
        return cls._in_order(names, domain or str(data.get("domain") or ""), data.get("ids"), further, more)

    @classmethod
    def _in_order(cls, names: Sequence[str], domain: str, ids: Any, *further: Sequence[Any]) -> Vocabulary:
        """With lists of synonyms in the order of the names: each of `further` has one for each class, or None."""
        plain = cls(names, domain, ids)
        synonyms: dict[int, list[str]] = {}
        for lists in further:
            for id_, several in zip(plain.ids.tolist(), lists, strict=True):
                if several:
                    synonyms.setdefault(id_, []).extend(_list_of_names(several, plain.name(id_)))
        return cls(names, domain, plain.ids, synonyms) if synonyms else plain

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, and `load` from a file."""
        plain = {"domain": self.domain, "ids": self.ids.tolist(), "names": list(self.names)}
        return plain | ({"synonyms": [[*self.names_of(id_)[1:]] for id_, _ in self]} if self._further else {})

    @classmethod
    def _from_csv(cls, path: Path, text: str, domain: str) -> Vocabulary:
        rows = list(csv.DictReader(text.splitlines()))
        columns = list(rows[0]) if rows else text.splitlines()[0].split(",")
        column = next((c for c in ("name", "class", "label") if c in columns), None)
        if column is None:
            raise InputError(f"{path} has no column 'name', 'class' or 'label'; its columns: {listed(columns)}")
        try:
            ids = [int(row["id"]) for row in rows] if "id" in columns else None
        except (TypeError, ValueError):
            raise InputError(f"{path}: the column 'id' must hold whole numbers") from None
        names = [row[column] for row in rows]
        further = [[part.strip() for part in (row.get("synonyms") or "").split("|") if part.strip()] for row in rows]
        if not ids:  # rows of one name are one class
            together: dict[str, list[str]] = {}
            for name, several in zip(names, further, strict=True):
                together.setdefault(name, []).extend(several)
            names, further = list(together), list(together.values())
        return cls._in_order(names, domain, ids, further)


def _no_control(name: str, what: str) -> None:
    if any(unicodedata.category(c) == "Cc" for c in name):
        raise InputError(f"{what} has control characters: {name!r}; remove them")


def _list_of_names(given: Any, name: str) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"the synonyms of {name!r} are a list of names, given: {given!r:.80}")
    return list(given)


def _checked_synonyms(given: Mapping[int, Sequence[str]], names: Mapping[int, str]) -> dict[int, tuple[str, ...]]:
    """The synonyms of each class, each once and without its name; of two classes none may have the same one."""
    if not isinstance(given, Mapping):
        raise InputError(f"synonyms go by the id of their class, as in {{0: ['female chicken']}}, given: {given!r:.80}")
    if strange := [id_ for id_ in given if id_ not in names]:
        raise InputError(f"synonyms for the ids {listed(strange)}, which no class of the {len(names)} has")
    further: dict[int, tuple[str, ...]] = {}
    for id_, several in given.items():
        every = _list_of_names(several, names[id_])
        for name in every:
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"a synonym of {names[id_]!r} is blank (given: {name!r}); write a name in words")
            _no_control(name, f"a synonym of {names[id_]!r}")
        if kept := tuple(name for name in dict.fromkeys(every) if name != names[id_]):
            further[int(id_)] = kept
    if not further:
        return {}
    owners: defaultdict[str, dict[int, None]] = defaultdict(dict)
    for id_, name in names.items():
        for called in (name, *further.get(id_, ())):
            owners[normalise(called)][id_] = None
    shared = {s: owners[normalise(s)] for several in further.values() for s in several if len(owners[normalise(s)]) > 1}
    if shared:
        told = [f"{name!r} ({' and '.join(repr(names[id_]) for id_ in ids)})" for name, ids in shared.items()]
        raise InputError(
            f"a synonym belongs to one class, and these are names of several: {listed(told)}. Leave each out of all "
            "classes but one"
        )
    return further


def folder_names(folders: Sequence[str]) -> list[str]:
    """Class names for folder names: "_" read as a blank, unless two folders would then have the same name."""
    plain = [folder.replace("_", " ").strip() or folder for folder in folders]
    return plain if len(set(plain)) == len(plain) else list(folders)


def read_labels(path: str | Path) -> Mapping[str, str]:
    """A user's map from data set labels to classes: a csv file with the columns `label` and `class`.

    Raises `InputError` when it cannot be read or names a label twice with different classes.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}; --labels takes a csv file with the columns 'label' and 'class'")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"label", "class"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path} needs the columns 'label' and 'class'; it has: {listed(reader.fieldnames or ())}")
        mapped: dict[str, str] = {}
        for row in reader:
            if mapped.setdefault(row["label"], row["class"]) != row["class"]:
                raise InputError(f"{path} maps {row['label']!r} to both {mapped[row['label']]!r} and {row['class']!r}")
    if not mapped:
        raise InputError(f"{path} has no rows; write one line a label: label,class")
    return mapped
