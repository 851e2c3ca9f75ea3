"""What is installed: an adapter by its name, ours or a package's entry point; the version of a package."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from descbench.errors import DescbenchError, SpecError, listed, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# What another package's module may raise while it is imported.
_BROKEN = (
    *(ImportError, SyntaxError, NameError, AttributeError, LookupError, TypeError, ValueError),
    *(ArithmeticError, OSError, RuntimeError, AssertionError, DescbenchError),
)


@dataclass(frozen=True)
class Plugin:
    """What other packages offer under one name, one entry point each: imported when it is used, and not before."""

    kind: str
    points: tuple[EntryPoint, ...]

    @property
    def name(self) -> str:
        return self.points[0].name

    @property
    def packages(self) -> str:
        """For messages: the package, in quotes, or all of them."""
        return listed(repr(point.dist.name if point.dist else "?") for point in self.points)

    def load(self) -> Any:
        """The class or function behind the name.

        Raises `SpecError` that names the package, where it cannot be imported or is of another kind, and where several
        packages offer the name.
        """
        what = f"the {self.kind[:-1]} {self.name!r}"
        if len(self.points) > 1:
            raise SpecError(f"{what} is offered by several installed packages: {self.packages}. Uninstall all but one.")
        where = f"{what} of the package {self.packages} ({self.points[0].value})"
        try:
            found = self.points[0].load()
        except _BROKEN as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise SpecError(f"{where} cannot be imported: {why}. Mend that package, or uninstall it.") from error
        if wrong := _misfit(self.kind, self.name, found):
            raise SpecError(f"{where} cannot be used: {wrong}. Mend that package, or uninstall it.")
        return found


def _misfit(kind: str, name: str, found: Any) -> str:
    """Why what an entry point leads to is none of its kind; "" where it is."""
    if kind != "methods":
        return "" if callable(getattr(found, "from_spec", None)) else "it has no from_spec(argument, **options)"
    if not callable(found):
        return f"it is a {type(found).__name__}, and no class of methods"
    # A function may stand for a method of another name; a class is what it says that it is.
    if isinstance(found, type) and (spelled := getattr(found, "spelled", None)) != name:
        return f"its `spelled` is {spelled!r}, and has to be {name!r}"
    return ""


def offered(kind: str) -> dict[str, Plugin]:
    """What other packages offer of one kind, by name."""
    from importlib.metadata import entry_points

    points: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=f"descbench.{kind}"):
        points[point.name].append(point)
    return {
        name: Plugin(kind, tuple(sorted(several, key=lambda point: point.dist.name if point.dist else "")))
        for name, several in sorted(points.items())
    }


def available(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Every adapter of one kind ("methods", "llms", "encoders", "datasets") by name: ours, and a `Plugin` for each of
    the others. Ours win over third parties'."""
    return dict(table) | {name: plugin for name, plugin in offered(kind).items() if name not in table}


@cache
def version_of(package: str) -> str:
    """The version of an installed package, "" where it is not; read once, since the search takes milliseconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def resolve(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The class (or function) that is called `name`; another package's is imported now.

    Raises `SpecError` for a name that is neither in the table nor an entry point, and for one that cannot be used.
    """
    if name in table:
        return table[name]
    known = available(kind, table)
    if name not in known:
        raise SpecError(f"no {kind[:-1]} {name!r}{nearest(name, known) or '.'} There are: {listed(sorted(known), 40)}.")
    plugin: Plugin = known[name]
    return plugin.load()
