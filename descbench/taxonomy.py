"""What is above each class: an answer that misses the species may still have the genus right."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from descbench.errors import InputError, MatchError, listed, nearest
from descbench.statistics import Metric
from descbench.vocabulary import Vocabulary, normalise


@dataclass(frozen=True)
class Level:
    """How much is right at one depth of a taxonomy, where the classes fall into `nodes` groups: of all images, and as
    the mean over the groups that have some."""

    depth: int
    nodes: int
    accuracy: Metric
    balanced: Metric


@dataclass(frozen=True)
class Taxonomy:
    """A tree, or several, by names: `parents` has the name above each name, "" above a root.

    Where no name has "" above it, the roots are the parents that nothing is above of. Names are joined to classes
    exactly, else without case, accents, article and separators. Raises `InputError` for a name above itself, and, where
    roots are named, for a parent without a line of its own.
    """

    parents: Mapping[str, str]

    def __post_init__(self) -> None:
        if not self.parents:
            raise InputError("the taxonomy is empty; give at least one name with the name above it")
        above = set(self.parents.values())
        if "" in above and (strange := sorted(above - {""} - set(self.parents))):
            near = nearest(strange[0], self.parents)
            raise InputError(
                f"{len(strange)} of the taxonomy's parents have no line of their own: {listed(strange)}{near or '.'} "
                'Roots are the lines with an empty parent; give each parent a line, and a root one with ""'
            )
        clear: set[str] = set()
        for name in self.parents:
            way: dict[str, None] = {}
            while name and name not in clear:
                if name in way:
                    circle = [*list(way)[list(way).index(name) :], name]
                    raise InputError(
                        f"the taxonomy goes in a circle: {' < '.join(circle)}; one of these lines is wrong"
                    )
                way[name] = None
                name = self.parents.get(name, "")
            clear.update(way)

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """From a csv file with the columns `child` (or `name`, `class`, `label`: the file of the classes will do) and
        `parent`. Raises `InputError` where it has not these, or gives a name two parents."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"no file {path}; a taxonomy is a csv file with the columns 'child' and 'parent'")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            child = next((column for column in ("child", "name", "class", "label") if column in columns), None)
            if child is None or "parent" not in columns:
                raise InputError(f"{path} needs the columns 'child' and 'parent'; it has: {listed(columns)}")
            parents: dict[str, str] = {}
            for row in reader:
                name, above = (row[child] or "").strip(), (row["parent"] or "").strip()
                if not name:
                    raise InputError(f"{path}, line {reader.line_num}: no name; write child,parent")
                if parents.setdefault(name, above) != above:
                    raise InputError(f"{path} puts {name!r} below both {parents[name]!r} and {above!r}; choose one")
        return cls(parents)

    @classmethod
    def of_classes(cls, path: str | Path) -> Taxonomy | None:
        """That of a csv file of classes which has parents in a column `parent`; None of anything else. Raises
        `InputError` where these are no taxonomy."""
        path = Path(path)
        if path.suffix != ".csv" or not path.is_file():
            return None
        with path.open(encoding="utf-8-sig", newline="") as file:
            told = any((row.get("parent") or "").strip() for row in csv.DictReader(file))
        return cls.load(path) if told else None

    @property
    def rows(self) -> list[dict[str, object]]:
        """The lines of the file that `load` reads."""
        return [{"child": child, "parent": parent} for child, parent in self.parents.items()]

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {normalise(name): name for name in reversed(list(self.parents))}

    def path(self, name: str, *synonyms: str) -> tuple[str, ...]:
        """The names above a name and itself, from its root on; raises `MatchError` for one that it does not have, nor
        any of its synonyms."""
        every = (name, *synonyms)
        known = [called if called in self.parents else self._plain.get(normalise(called)) for called in every]
        found = next((called for called in known if called is not None), None)
        if found is None:
            raise MatchError(f"the class {name!r} is not in the taxonomy{nearest(name, self.parents)}")
        way = [found]
        while above := self.parents.get(way[-1], ""):
            way.append(above)
        return tuple(reversed(way))

    def levels(self, vocabulary: Vocabulary) -> list[np.ndarray]:
        """The group of each class at each depth, (C,) whole numbers, from the roots to the classes themselves.

        A depth at which all are one group is left out, unless it is the last. A class that lies above a depth stands
        for itself there. Raises `MatchError` that lists the classes which are not in the taxonomy.
        """
        paths: list[tuple[object, ...]] = []
        missing: list[str] = []
        inner = set(self.parents.values())
        for id_, name in vocabulary:
            try:
                way = self.path(*vocabulary.names_of(id_))
            except MatchError:
                missing.append(name)
                continue
            # Two classes of one name stay two, unless others are below them.
            paths.append(way if way[-1] in inner else (*way[:-1], id_))
        if missing:
            near = nearest(missing[0], self.parents)
            raise MatchError(
                f"{len(missing)} of {len(vocabulary)} classes are not in the taxonomy: {listed(missing)}{near or '.'} "
                "Give each a line with its parent"
            )
        deepest = max(map(len, paths))
        groups = []
        for depth in range(deepest):
            number: dict[object, int] = {}
            nodes = [way[min(depth, len(way) - 1)] for way in paths]
            groups.append(np.array([number.setdefault(node, len(number)) for node in nodes]))
        return [group for group in groups[:-1] if group.max() > 0] + groups[-1:]
