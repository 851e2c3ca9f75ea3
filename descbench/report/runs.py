"""The runs of a report: what lies beside each, which of them are controls of others, and which is shown in detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from descbench.comparison import controls_of, names_of
from descbench.errors import DescbenchError, InputError, listed, nearest
from descbench.evaluation import Evaluation
from descbench.report import gallery, uses
from descbench.spec import method as spelled
from descbench.worth import Use


@dataclass(frozen=True, eq=False)
class Run:
    """A run and what lies beside it: its folder (None of one in memory) and some images with reasons."""

    result: Evaluation
    folder: Path | None = None
    shown: tuple[gallery.Shown, ...] = ()
    uses: tuple[Use, ...] = ()
    without_uses: str = ""  # why there are none

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read a run folder; raises `InputError` as `Evaluation.load`, `gallery.load` and `uses.load` do."""
        result = Evaluation.load(folder)
        return cls(result, folder, gallery.load(folder, result), *uses.load(folder, result))

    @cached_property
    def images(self) -> str:
        """Equal for runs over the same images with the same labels, in the same order."""
        result = self.result
        content = sha256("\n".join(result.ids).encode("utf-8", "surrogatepass"))
        content.update(result.labels.tobytes())
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a report: `main` ones, the `controls` of each by their names, and the one that is shown in detail.

    `names` tell a run from all others; `titles` from those with the same encoder, where a table is parted by encoders.
    """

    main: tuple[Run, ...]
    names: tuple[str, ...]
    titles: tuple[str, ...]
    controls: Mapping[int, Mapping[str, tuple[Run, ...]]]  # by the place in `main`
    focus: int
    base: int

    @classmethod
    def of(cls, runs: Sequence[Run], focus: str = "") -> Runs:
        """Tell methods from the controls of others. `focus` is the name or title of the run that is shown in detail, of
        several the one with the highest accuracy; without it that of all of them."""
        places: dict[tuple[str, str, str], list[Run]] = {}
        for run in runs:
            places.setdefault((run.images, run.result.encoder, run.result.method), []).append(run)
        found: dict[int, dict[str, tuple[Run, ...]]] = {}
        used: set[int] = set()
        for run in runs:
            of: dict[str, tuple[Run, ...]] = {}
            for control, methods in _controls_of(run.result.method).items():
                key = [(run.images, run.result.encoder, repr(method)) for method in methods]
                if there := tuple(one for k in key for one in places.get(k, ())[:1]):
                    of[control] = there
            if of.keys() - {"waffle"}:  # waffle alone is a method that somebody compares
                found[id(run)] = of
                used |= {id(one) for kind in of.values() for one in kind}
        main = tuple(run for run in runs if id(run) not in used)
        names = tuple(_distinct(names_of([run.result for run in main])))
        titles = list(names)
        if len(encoders := {run.result.encoder for run in main}) > 1:
            for encoder in encoders:
                same = [i for i, run in enumerate(main) if run.result.encoder == encoder]
                for i, title in zip(same, _distinct([main[i].result.title for i in same]), strict=True):
                    titles[i] = title
        asked = list(range(len(main)))
        if focus:
            asked = [i for i in asked if names[i] == focus] or [i for i in asked if titles[i] == focus]
            if not asked:
                called = list(dict.fromkeys([*titles, *names]))
                meant = nearest(focus, called) or "."
                raise InputError(f"no run is called {focus!r}{meant} There are: {listed(called, 20)}")
        place = max(asked, key=lambda i: (float(main[i].result.hits.mean()), -i))
        controls = {i: found[id(run)] for i, run in enumerate(main) if id(run) in found}
        return cls(main, names, tuple(titles), controls, place, base_of(main, place))

    @cached_property
    def parts(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Places in `main` by encoders, with what each is called; "" where all runs have the same."""
        encoders = dict.fromkeys(run.result.encoder for run in self.main)
        if len(encoders) == 1:
            return (("", tuple(range(len(self.main)))),)
        return tuple(
            (f"with {encoder}", tuple(i for i, run in enumerate(self.main) if run.result.encoder == encoder))
            for encoder in encoders
        )

    @property
    def shown(self) -> Run:
        return self.main[self.focus]


def _controls_of(method: str) -> dict[str, list[Any]]:
    """The controls of a method by its spelling; none of one that is not known here."""
    try:
        return controls_of(spelled(method))
    except DescbenchError:
        return {}


def _distinct(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for one in names:
        seen[one] = seen.get(one, 0) + 1
        found.append(one if seen[one] == 1 else f"{one} ({seen[one]})")
    return found


def is_baseline(run: Run) -> bool:
    """Whether it is the name, a template or templates: what needs no description."""
    return run.result.method.partition("(")[0] in ("classname", "template", "templates")


def base_of(main: Sequence[Run], focus: int) -> int:
    """The first baseline over the images of the run in focus, by the same encoder; else the first run of these."""
    same = [i for i, run in enumerate(main) if alike(run, main[focus])]
    return next((i for i in same if is_baseline(main[i])), same[0])


def alike(one: Run, other: Run) -> bool:
    return one.images == other.images and one.result.encoder == other.result.encoder
