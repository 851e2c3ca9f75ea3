"""What one run is worth beside another: paired differences, and controls that say what carries a gain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

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
from descbench.statistics import Difference, PairedDifference, mean_difference, paired_difference


@dataclass(frozen=True)
class Comparison:
    """Each further run against the first, on the same images."""

    base: str
    differences: Mapping[str, PairedDifference]
    ties: Mapping[str, int] = field(default_factory=dict)  # of what was gained or lost, by rounding perhaps

    def __str__(self) -> str:
        lines = [f"against {self.base}:"]
        for name, d in self.differences.items():
            lines.append(
                f"  {name}: {100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], "
                f"McNemar p = {d.p:.2g} ({d.gained} gained, {d.lost} lost of {d.n})"
                + (f"; {ties} of these by a tie, where rounding may decide" if (ties := self.ties.get(name)) else "")
            )
        return "\n".join(lines)


def compare(results: Sequence[Evaluation]) -> Comparison:
    """Paired differences in top-1 of each further run to the first, with intervals and McNemar's exact test.

    Raises `InputError` where there are fewer than two runs, or they are not over the same images with the same labels.
    """
    if len(results) < 2:
        raise InputError(f"a comparison needs at least two runs, given: {len(results)}")
    base, *others = results
    differences: dict[str, PairedDifference] = {}
    ties: dict[str, int] = {}
    order = {key: row for row, key in enumerate(_keys(base))}
    for other in others:
        if Counter(other.ids) != Counter(base.ids):
            raise InputError(
                f"{other.title} was run over {len(other.ids)} images and {base.title} over {len(base.ids)}, and not "
                "the same; a paired comparison needs the same images"
            )
        keys = _keys(other)
        if not order.keys() >= set(keys):
            raise InputError(f"{other.title} and {base.title} were scored against different labels")
        rows = np.array([order[key] for key in keys])
        label = other.title if other.title not in differences else f"{other.title} ({len(differences) + 1})"
        differences[label] = paired_difference(base.hits[rows], other.hits)
        ties[label] = int(((base.hits[rows] != other.hits) & (base.tied[rows] | other.tied)).sum())
    return Comparison(base.title, differences, ties)


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
    compare([result, *runs])  # the same images and labels
    rows = {key: row for row, key in enumerate(_keys(result))}
    right = np.zeros(len(rows), dtype=np.int64)  # (N,) how many runs are right
    for run in runs:
        right[[rows[key] for key in _keys(run)]] += run.hits
    shares = np.array([run.hits.mean() for run in runs])
    return Controlled(
        control,
        tuple(run.title for run in runs),
        float(shares.mean()),
        float(shares.std(ddof=1)) if len(runs) > 1 else None,
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
