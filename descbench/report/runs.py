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
    """The runs of a report: `main` ones, the `controls` of each by their names, and the one that is shown in detail."""

    main: tuple[Run, ...]
    names: tuple[str, ...]
    controls: Mapping[int, Mapping[str, tuple[Run, ...]]]  # by the place in `main`
    focus: int
    base: int

    @classmethod
    def of(cls, runs: Sequence[Run], focus: str = "") -> Runs:
        """Tell methods from the controls of others. `focus` is the title of the run that is shown in detail; else it
        is the one with the highest accuracy."""
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
        place = max(range(len(main)), key=lambda i: (float(main[i].result.hits.mean()), -i))
        if focus:
            if focus not in names:
                meant = nearest(focus, names) or "."
                raise InputError(f"no run is called {focus!r}{meant} There are: {listed(names, 20)}")
            place = names.index(focus)
        controls = {i: found[id(run)] for i, run in enumerate(main) if id(run) in found}
        return cls(main, names, controls, place, base_of(main, place))

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
