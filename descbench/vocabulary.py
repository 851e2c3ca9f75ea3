"""The classes: names that may repeat, ids that never do; and how names of other sources are joined to them."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, init=False, eq=False)
class Vocabulary:
    """Classes with names, ids and a domain ("birds": what they all are, shown to the language model).

    `ids` default to 0..C-1 and stay with their class in `subset`: they, not positions, are what every result speaks of.
    Raises `InputError` where there is no class, a name is blank or has control characters, or an id occurs twice.
    """

    names: tuple[str, ...]
    ids: np.ndarray = field(repr=False)  # (C,) int64
    domain: str

    def __init__(self, names: Sequence[str], domain: str = "", ids: Sequence[int] | np.ndarray | None = None) -> None:
        if isinstance(names, str):
            raise InputError(f"a vocabulary takes a list of names, not one text: Vocabulary([{names!r}])")
        names = tuple(names)
        if not names:
            raise InputError("the vocabulary is empty; give at least one class name")
        for position, name in enumerate(names):
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"class {position} has no name (given: {name!r}); every class needs a name in words")
            if any(unicodedata.category(c) == "Cc" for c in name):
                raise InputError(f"the name of class {position} has control characters: {name!r}; remove them")
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
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "ids", array)
        object.__setattr__(self, "domain", domain)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Pairs (id, name), in order."""
        return zip(self.ids.tolist(), self.names, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.names, self.domain) == (other.names, other.domain) and np.array_equal(self.ids, other.ids)

    def __hash__(self) -> int:
        return hash((self.names, self.domain, self.ids.tobytes()))

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
        """The id of the class with this name (as `match` joins names); raises `MatchError` where there is none."""
        return int(self.match([name], "class")[0])

    @cached_property
    def _called(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        exact, loose = defaultdict(list), defaultdict(list)
        for id_, name in sorted(self):
            exact[name].append(id_)
            loose[normalise(name)].append(id_)
        return dict(exact), dict(loose)

    def called(self, name: str) -> list[int]:
        """The ids of all classes of this name: by the exact name, else by the normalised one; ascending."""
        exact, loose = self._called
        return exact.get(name) or loose.get(normalise(name), [])

    def subset(self, ids: Iterable[int]) -> Vocabulary:
        """The classes with these ids, in this order; ids and domain stay."""
        chosen = [int(i) for i in ids]
        if not chosen or len(set(chosen)) != len(chosen):
            raise InputError(f"a subset takes at least one id and none twice, given: {listed(chosen)}")
        # Names that were checked once are not checked again: a follow-up makes a subset for each candidate set.
        found = object.__new__(Vocabulary)
        array = np.array(chosen, dtype=np.int64)
        array.flags.writeable = False
        object.__setattr__(found, "names", tuple(self.names[self.position(i)] for i in chosen))
        object.__setattr__(found, "ids", array)
        object.__setattr__(found, "domain", self.domain)
        return found

    def renamed(self, names: Sequence[str]) -> Vocabulary:
        """The same classes under other names."""
        return Vocabulary(names, self.domain, self.ids)

    def find(self, names: Sequence[str]) -> list[int | None]:
        """The id for each name, None where there is no class for it: by exact name, else by normalised name.

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
        near = [f"{name!r}{nearest(name, self.names)}" for name in missing[:5]]
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        plural = "es" if what.endswith("s") else "s"
        return (
            f"{len(missing)} {what}{plural if len(missing) > 1 else ''} without a class: {'; '.join(near)}{more}. "
            f"The vocabulary has {len(self)} classes: {listed(self.names)}."
        )

    @classmethod
    def load(cls, path: str | Path, domain: str = "") -> Vocabulary:
        """Classes from a txt file (a name a line), a csv file (column `name`, `class` or `label`, and `id` if any), a
        json file (a list of names; {"names": ..., "domain": ...}; or an object whose keys are the names), or a folder
        with one folder a class (sorted; "_" is read as a blank).

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
        ids = None
        if isinstance(data, dict) and isinstance(data.get("classes"), list):  # a file of descriptions
            for number, entry in enumerate(data["classes"]):
                if not isinstance(entry, dict):
                    raise InputError(f"{path}, class entry {number}: an object with 'id' and 'name', given: {entry!r}")
            domain, ids = domain or str(data.get("domain", "")), [entry.get("id") for entry in data["classes"]]
            data = [entry.get("name") for entry in data["classes"]]
        elif isinstance(data, dict) and isinstance(data.get("names"), list):
            domain, ids, data = domain or str(data.get("domain", "")), data.get("ids"), data["names"]
        if not isinstance(data, list | dict):
            raise InputError(f"{path} holds neither a list of names nor an object with names; see Vocabulary.load")
        return cls(list(data), domain, ids)

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
        return cls(names if ids else list(dict.fromkeys(names)), domain, ids)


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
