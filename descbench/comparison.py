"""What one run is worth beside another: paired differences, and controls that say what carries a gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from descbench.errors import InputError, listed
from descbench.evaluation import Evaluation
from descbench.methods import (
    Cascade,
    Method,
    Nameless,
    RandomDescriptions,
    Scrambled,
    Selected,
    Shared,
    Shuffled,
    Waffle,
)
from descbench.methods.cascade import stages_of
from descbench.power import LEVEL, detectable, holm, images_needed
from descbench.statistics import Difference, PairedDifference, mean_difference, p_value, paired_difference


@dataclass(frozen=True)
class Compared(PairedDifference):
    """A paired difference among several: `p_holm` is the p corrected for all `tests` comparisons with the same run."""

    p_holm: float
    tests: int = 1

    @property
    def shown(self) -> bool:
        """Whether the data show a difference: p_holm is below 0.05."""
        return self.p_holm < LEVEL

    @property
    def detectable(self) -> float | None:
        """The difference that would have been shown with 80 % power, at the rate at which these two differ and at the
        level that is left to each of the tests; None where there is none. A share."""
        return detectable(self.n, (self.gained + self.lost) / self.n, level=LEVEL / self.tests)

    @property
    def images_needed(self) -> int | None:
        """How many images would show the difference that is seen with 80 % power; None where none is seen."""
        if not self.value:
            return None
        return images_needed(self.value, (self.gained + self.lost) / self.n, level=LEVEL / self.tests)

    def conclusion(self, name: str, base: str) -> str:
        """What can be concluded of a run `name` beside the run `base`, what cannot, and how many images would show the
        difference: a sentence or two."""
        by = f"{100 * abs(self.value):.1f} points"
        p = p_value(self.p_holm, "p") + (f", corrected for {self.tests} comparisons" if self.tests > 1 else "")
        needed = "" if self.images_needed is None else f"{round_up(self.images_needed):,} images"
        differ = self.gained + self.lost
        if self.shown:
            kind = "better" if self.value > 0 else "worse"
            return (
                f"{name} is {kind} than {base} by {by}, and chance alone does not explain it ({p}). "
                f"A difference of this size takes about {needed} to be seen (80 % power)."
            )
        if not differ:
            return f"{name} and {base} are right in the same images: nothing tells them apart."
        nothing = f"The data do not show a difference between {name} and {base} ({p}), nor that there is none"
        if self.detectable is None:
            seen = f"{nothing}: they differ in {differ} of {self.n:,} images, too few to show any"
            return seen + (f"; one of {by}, as here, needs about {needed} (80 % power)." if needed else ".")
        seen = (
            f"{nothing}: one of {100 * self.detectable:.1f} points or more would probably have been seen (80 % power)"
        )
        return seen + (f"; one of {by}, as here, needs about {needed}." if needed else ".")


@dataclass(frozen=True)
class Comparison:
    """Each further run against the first, on the same images."""

    base: str
    differences: Mapping[str, Compared]
    ties: Mapping[str, int] = field(default_factory=dict)  # of what was gained or lost, by rounding perhaps

    def _repr_html_(self) -> str:
        """What a notebook shows: the differences with their intervals, and what can be concluded."""
        from descbench import markup

        rows = [
            [markup.name(name), f"{100 * d.value:+.1f}", f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", d.gained, d.lost,
             p_value(d.p_holm)]
            for name, d in self.differences.items()
        ]  # fmt: skip
        head = ["method", "points", "95 %", "gained", "lost", "p, by Holm"]
        told = markup.table(head, rows, f"against {markup.shortened(self.base)}", numbers=range(1, 6))
        return str(markup.snippet(told, *(markup.element("p", sentence) for sentence in self.conclusions)))

    @property
    def conclusions(self) -> list[str]:
        """What can be concluded of each run, and what cannot."""
        return [d.conclusion(name, self.base) for name, d in self.differences.items()]

    def __str__(self) -> str:
        lines = [f"against {self.base}:"]
        for name, d in self.differences.items():
            corrected = f", {p_value(d.p_holm)} by Holm for {d.tests} comparisons" if d.tests > 1 else ""
            lines.append(
                f"  {name}: {100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], "
                f"{p_value(d.p, 'McNemar p')}{corrected} ({d.gained} gained, {d.lost} lost of {d.n})"
                + (f"; {ties} of these by a tie, where rounding may decide" if (ties := self.ties.get(name)) else "")
            )
        return "\n".join([*lines, *self.conclusions])


def compare(results: Sequence[Evaluation], names: Sequence[str] = ()) -> Comparison:
    """Paired differences in top-1 of each further run to the first, with intervals, McNemar's exact test, and Holm's
    correction for all of them. `names` are those of the runs; their titles otherwise, with the encoder where they
    differ in it.

    Raises `InputError` where there are fewer than two runs, or they are not over the same images with the same labels.
    """
    if len(results) < 2:
        raise InputError(f"a comparison needs at least two runs, given: {len(results)}")
    called = _distinct(names or names_of(results))
    base = results[0]
    found: dict[str, PairedDifference] = {}
    ties: dict[str, int] = {}
    for name, other in zip(called[1:], results[1:], strict=True):
        rows = _rows(base, other, called[0], name)
        found[name] = paired_difference(base.hits[rows], other.hits)
        ties[name] = int(((base.hits[rows] != other.hits) & (base.tied[rows] | other.tied)).sum())
    corrected = holm([d.p for d in found.values()])
    differences = {
        name: Compared(**vars(d), p_holm=p, tests=len(found))
        for (name, d), p in zip(found.items(), corrected, strict=True)
    }
    return Comparison(called[0], differences, ties)


def names_of(results: Sequence[Evaluation]) -> list[str]:
    """What runs are called beside each other: their titles, with the encoder where they differ in it."""
    if len({result.encoder for result in results}) == 1:
        return [result.title for result in results]
    return [f"{result.title} with {result.encoder}" for result in results]


def _distinct(names: Sequence[str]) -> list[str]:
    """The first name as it is; of the others those that occur again get a number."""
    found = [names[0]]
    for number, name in enumerate(names[1:], 1):
        found.append(name if name not in found[1:] else f"{name} ({number})")
    return found


def _rows(base: Evaluation, other: Evaluation, called: str, name: str) -> np.ndarray:
    """The row of `base` for each row of `other`, (N,). Raises `InputError` where images or labels differ."""
    if (rows := _rows_at_once(base, other)) is not None:
        return rows
    ours, theirs = Counter(base.ids), Counter(other.ids)
    if ours != theirs:
        absent, added = ours - theirs, theirs - ours
        told = [f"{count:,} only in {of} (as {next(iter(ids))!r})" for ids, count, of in
                ((absent, absent.total(), called), (added, added.total(), name)) if count]  # fmt: skip
        raise InputError(
            f"{name} was run over {len(other.ids):,} images and {called} over {len(base.ids):,}, and not the same: "
            f"{' and '.join(told)}; a paired comparison needs the same images: evaluate both on one data set"
        )
    order = {key: row for row, key in enumerate(_keys(base))}
    keys = _keys(other)
    if wrong := [key for key in keys if key not in order]:
        raise InputError(
            f"{name} and {called} were scored against different labels in {len(wrong):,} images, as {wrong[0][0]!r}; "
            "evaluate both with the same labels and classes"
        )
    return np.array([order[key] for key in keys])


def _rows_at_once(base: Evaluation, other: Evaluation) -> np.ndarray | None:
    """The same where both have one vocabulary, equal images in one order or each image once, and equal labels, as is
    usual: a million rows are joined in a second or two. None for all else, equal or not."""
    ours, theirs = base.predictions.vocabulary, other.predictions.vocabulary
    if ours.names != theirs.names or not np.array_equal(ours.ids, theirs.ids) or len(base.ids) != len(other.ids):
        return None
    if base.ids == other.ids:
        rows = np.arange(len(base.ids))
    else:
        place = {id_: row for row, id_ in enumerate(base.ids)}
        rows = np.array([place.get(id_, -1) for id_ in other.ids])
        if len(place) < len(base.ids) or len(np.unique(rows)) < len(rows) or rows.min() < 0:
            return None
    return rows if np.array_equal(base.labels[rows], other.labels) else None


def _keys(result: Evaluation) -> list[tuple[str, str, int]]:
    """What names each row: image id, label and number, since one picture may lie in a data set more than once."""
    vocabulary = result.predictions.vocabulary
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for id_, position in zip(result.ids, vocabulary.positions(result.labels).tolist(), strict=True):
        row = (id_, vocabulary.names[position])
        keys.append((*row, seen[row]))
        seen[row] += 1
    return keys


def round_up(number: int) -> int:
    """To two digits, upwards: what a formula says of future images is no more exact than that."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def seeds_of(method: Method | Cascade, number: int) -> list[Method | Cascade]:
    """The method with the seeds 0 to `number` - 1 where it draws at random and its seed is left at its default, in all
    its stages and what they wrap; else the method alone."""
    found = [_seeded(method, seed) for seed in range(number)]
    return found if len(set(map(repr, found))) > 1 else [method]


def _seeded(method: Any, seed: int) -> Any:
    if isinstance(method, Cascade):
        return method.with_stages(*(_seeded(stage, seed) for stage in method.stages))
    if not is_dataclass(method) or isinstance(method, type):
        return method
    own = {f.name: getattr(method, f.name) for f in fields(method)}
    new = {name: _seeded(value, seed) for name, value in own.items() if isinstance(value, Method)}
    if "seed" in own and own["seed"] == 0:
        new["seed"] = seed
    return replace(method, **new) if new else method


def spread(shares: Sequence[float]) -> tuple[float, float | None]:
    """The mean of the runs of several seeds, and their standard deviation: None of one run."""
    return float(np.mean(shares)), float(np.std(shares, ddof=1)) if len(shares) > 1 else None


DECIDING = ("shuffled", "random_descriptions", "shared", "waffle")
"""The controls that keep the number and form of texts and take what they say about a class: these decide."""

SELECTING = ("own", "waffle")
"""Those that decide where labelled images choose each class's texts out of all: whose list a text is from is nothing
then, so to shuffle, draw or share lists changes little. `own` leaves each class its own list."""

RULE = (
    "rule: the meaning of the descriptions carries a method's gain where its top-1 is above the best baseline and "
    f"above each of {', '.join(DECIDING[:-1])} and {DECIDING[-1]} (disclip and selected: {' and '.join(SELECTING)}). "
    "Above: the 95 % interval of the paired difference lies above 0 (bootstrap over images; a control counts for each "
    "image with the mean over its seeds)."
)


def controls_of(method: Method | Cascade) -> dict[str, list[Method | Cascade]]:
    """The controls of a method by name, one entry a seed: around each stage that is described, and `waffle` as it is.

    Empty for a method without descriptions, and for one that is a control already.
    """
    described = [stage for stage in stages_of(method) if stage.asks_about != "nothing"]
    kinds = (Shuffled, RandomDescriptions, Shared, Scrambled, Nameless)
    if not described or any(isinstance(stage, kinds) for stage in described):
        return {}

    def around(change: Callable[[Method], Method]) -> Method | Cascade:
        stages = [change(stage) if stage in described else stage for stage in stages_of(method)]
        return method.with_stages(*stages) if isinstance(method, Cascade) else stages[0]

    common: dict[str, list[Method | Cascade]] = {
        "scrambled": [around(partial(Scrambled, seed=seed)) for seed in range(3)],
        "nameless": [around(Nameless)],
        "waffle": [Waffle(seed) for seed in range(7)],  # as many as in the paper
    }
    if chosen := [stage for stage in described if isinstance(stage, Selected) and stage.needs_support]:
        free = not any(stage.named for stage in chosen)  # lists of one's own go with bare descriptors only
        return ({"own": [around(_by_own_lists)]} if free else {}) | common
    return {
        "shuffled": [around(partial(Shuffled, seed=seed)) for seed in range(3)],
        "random_descriptions": [around(partial(RandomDescriptions, seed=seed)) for seed in range(3)],
        "shared": [around(partial(Shared, most=100))],  # all texts for each of 1,000 classes would be millions
    } | common


def _by_own_lists(stage: Method) -> Method:
    """A stage that selects, without selecting."""
    return replace(stage, own=True) if isinstance(stage, Selected) else stage


@dataclass(frozen=True)
class Controlled:
    """One control of a method: its runs, one a seed, their top-1 as mean and standard deviation (None of one run), and
    how much better the method is."""

    control: str
    runs: tuple[str, ...]
    mean: float
    deviation: float | None
    difference: Difference

    @property
    def beaten(self) -> bool:
        """Whether the method is above it, by the rule."""
        return self.difference.low > 0


def against(result: Evaluation, control: str, runs: Sequence[Evaluation]) -> Controlled:
    """A method against the runs of one control, image by image. Raises `InputError` where the images differ."""
    right = np.zeros(len(result.ids), dtype=np.int64)  # (N,) how many runs are right
    for run in runs:
        right[_rows(result, run, result.title, run.title)] += run.hits
    return Controlled(
        control,
        tuple(run.title for run in runs),
        *spread([float(run.hits.mean()) for run in runs]),
        mean_difference(len(runs) * result.hits.astype(np.int64) - right, len(runs)),
    )


def verdict(result: Evaluation, baselines: Sequence[Evaluation], controls: Sequence[Controlled], name: str = "") -> str:
    """Whether the meaning of a method's descriptions carries its gain over the baselines: one sentence, by `RULE`."""
    name = name or result.title
    wanted = SELECTING if any(row.control == "own" for row in controls) else DECIDING
    deciding = [row for row in controls if row.control in wanted]
    absent = [control for control in wanted if control not in {row.control for row in deciding}]
    if absent or not baselines:
        return f"{name}: nothing can be said of its gain without {listed(absent) if absent else 'the baselines'}."
    best = max(baselines, key=lambda run: float(run.hits.mean()))
    gain = against(result, best.title, [best])
    over = f"{gain.difference} points over the best baseline, {best.title}"
    if not gain.beaten:
        return f"{name}: no gain is shown that its descriptions could carry: {over}."
    above = listed([row.control for row in deciding if row.beaten])
    level = listed([row.control for row in deciding if not row.beaten])
    if not level:
        return f"{name}: the meaning of its descriptions carries its gain of {over}: it is above {above}."
    if not above:
        return f"{name}: the number or form of its descriptions explains its gain of {over}: it is not above {level}."
    return f"{name}: that meaning carries its gain of {over} is not shown: it is above {above}, but not above {level}."
