"""Accuracy by group: are a method's answers as good for some images as for others?"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from descbench.errors import DescbenchWarning, InputError, MatchError, listed
from descbench.statistics import Difference, Metric, p_value, wilson

DRAWS = 10_000  # of a permutation test
WORDS = ("id", "path", "source", "file")  # what the column of the images may be called


@dataclass(frozen=True)
class Group:
    """How many images of a group are right, with Wilson's 95 % interval."""

    name: str
    right: int
    accuracy: Metric


@dataclass(frozen=True)
class Groups:
    """Accuracy of each group, the worst first; `left_out` images are in none.

    `gap` is the accuracy of the best group less that of the worst, None where there is one group only. Its interval
    (Newcombe 1998, method 10) takes these two as given. But of many small groups some are best and worst by chance:
    `p` is how often a gap as large arises where the groups are dealt out anew among the same images.
    """

    rows: tuple[Group, ...]
    left_out: int
    gap: Difference | None
    p: float

    @classmethod
    def of(cls, names: Sequence[str | None], hits: np.ndarray, seed: int = 0) -> Groups:
        """Count hits (N,) bool by the names of the images' groups, N of them, None for an image in no group.

        Raises `InputError` where no image is in a group.
        """
        counts: dict[str, list[int]] = {}
        for name, hit in zip(names, hits.tolist(), strict=True):
            if name is not None:
                count = counts.setdefault(name, [0, 0])
                count[0] += hit
                count[1] += 1
        if not counts:
            raise InputError("no image is in a group; give at least one image with its group")
        rows = sorted(
            (Group(name, right, wilson(right, n)) for name, (right, n) in counts.items()),
            key=lambda row: (row.accuracy.value, -row.accuracy.n, row.name),
        )
        n = sum(row.accuracy.n for row in rows)
        if len(rows) == 1:
            return cls(tuple(rows), len(names) - n, None, 1.0)
        gap = _newcombe(rows[-1].accuracy, rows[0].accuracy)
        return cls(tuple(rows), len(names) - n, gap, _chance(rows, gap.value, seed))

    @property
    def worst(self) -> Group:
        return self.rows[0]

    @property
    def best(self) -> Group:
        return self.rows[-1]

    @property
    def n(self) -> int:
        """How many images are in a group."""
        return sum(row.accuracy.n for row in self.rows)

    @property
    def sentence(self) -> str:
        """The worst group, how far it is behind the best, and how many images are in none."""
        out = f"; {self.left_out} of {self.left_out + self.n} images in no group" if self.left_out else ""
        if self.gap is None:
            return f"only one group, {self.worst.name!r}{out}"
        if not self.gap.value:
            return f"all {len(self.rows)} groups are alike{out}"
        points = f"{100 * self.gap.value:.1f} [{100 * self.gap.low:.1f}, {100 * self.gap.high:.1f}] points"
        return f"{self.worst.name!r} is {points} behind {self.best.name!r}, {p_value(self.p, 'p', 0.001)}{out}"

    def __str__(self) -> str:
        width = max(len("group"), *(len(row.name) for row in self.rows))
        lines = [f"{'group':<{width}}  images  top-1 % [95 %]"]
        lines += [f"{row.name:<{width}}  {row.accuracy.n:>6}  {row.accuracy}" for row in self.rows]
        return "\n".join([*lines, self.sentence])


def _newcombe(one: Metric, other: Metric) -> Difference:
    """One share less another, of different images, from the Wilson intervals of both."""
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Difference(value, low, high, one.n + other.n)


def _chance(rows: Sequence[Group], gap: float, seed: int) -> float:
    """The share of permutations of the images among the groups with a gap as large, this one counted among them."""
    sizes = np.array([row.accuracy.n for row in rows])
    right = sum(row.right for row in rows)
    generator = np.random.default_rng(seed)
    # The hits of a group of a permutation are a draw without replacement from all images.
    drawn = generator.multivariate_hypergeometric(sizes, right, size=DRAWS, method="marginals") / sizes  # (draws, G)
    as_large = drawn.max(axis=1) - drawn.min(axis=1) >= gap - 1e-12
    return float((1 + as_large.sum()) / (1 + DRAWS))


def read_groups(path: str | Path) -> dict[str, str]:
    """The groups of images: a csv file with the columns `path` (or `id`, `source`, `file`) and `group`; others are not
    looked at. A line with an empty group leaves its image in none.

    Raises `InputError` where it has not these, names an image in two groups, or none in any.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no file {path}; groups are a csv file with the columns 'path' and 'group'")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            images = next((column for column in WORDS if column in columns), None)
            if images is None or "group" not in columns:
                raise InputError(f"{path} needs the columns 'path' (or 'id') and 'group'; it has: {listed(columns)}")
            found: dict[str, str] = {}
            for row in reader:
                image, group = (row[images] or "").strip(), (row["group"] or "").strip()
                if not image:
                    raise InputError(f"{path}, line {reader.line_num}: no image; write {images},group")
                if found.setdefault(image, group) != group:
                    raise InputError(f"{path} puts {image!r} into both {found[image]!r} and {group!r}; choose one")
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no csv file in UTF-8 ({error}); write it anew") from None
    found = {image: group for image, group in found.items() if group}
    if not found:
        raise InputError(f"{path} names no group; write a line an image: {images},group")
    return found


def assigned(
    groups: str | Path | Mapping[str, str], ids: Sequence[str], sources: Sequence[str] = ()
) -> tuple[str | None, ...]:
    """The group of each image, N of them, None where it has none. Images are named by their `ids`, by what stands
    before ":" there (the id of a manifest), or by their `sources`: whole, or the end of a path from a folder on, as
    "hen/1.jpg" of "photos/hen/1.jpg".

    Warns (`DescbenchWarning`) of names that are of no image here, and of images without a group. Raises `MatchError`
    where no name fits, and where the end of a path is that of several.
    """
    mapping = groups if isinstance(groups, Mapping) else read_groups(groups)
    plain = {_plain(name): group for name, group in mapping.items()}
    longest = max((name.count("/") + 1 for name in plain), default=0)
    of: dict[str, str] = {}  # by name, the path that it is the end of
    found: list[str | None] = []
    for row, id_ in enumerate(ids):
        source = _plain(sources[row]) if sources else ""
        folders = source.split("/")
        ends = ["/".join(folders[-n:]) for n in range(min(len(folders), longest), 0, -1)] if source else []
        name = next((name for name in (id_, id_.partition(":")[0], source, *ends) if name in plain), None)
        found.append(None if name is None else plain[name])
        if name is not None and of.setdefault(name, source) != source and name in ends:
            raise MatchError(f"groups: {name!r} is the end of {of[name]} and of {source}; give more of the path")
    unknown = [name for name in mapping if _plain(name) not in of]
    if not of:
        here = listed([sources[0] if sources else ids[0]] if ids else [])
        raise MatchError(
            f"groups: none of the {len(mapping)} names is of one of the {len(ids)} labelled images: "
            f"{listed(map(repr, unknown), 3)}. Name them by path or id, as {here!r}"
        )
    if unknown:
        _warn(f"{len(unknown)} of {len(mapping)} names are of no labelled image here: {listed(unknown, 3)}")
    if left_out := found.count(None):
        _warn(f"{left_out} of {len(found)} images are in no group, and in no figure by group")
    return tuple(found)


def _warn(text: str) -> None:
    warnings.warn(f"groups: {text}", DescbenchWarning, stacklevel=3)


def _plain(path: str) -> str:
    """A path as others write it: with "/", and without a "./" before it."""
    return path.replace("\\", "/").removeprefix("./")
