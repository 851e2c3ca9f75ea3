"""What is installed: an adapter by its name, ours or a package's entry point; the version of a package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from descbench.errors import SpecError, listed, nearest


def available(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Every adapter of one kind ("methods", "llms", "encoders", "datasets") by name; ours win over third parties'."""
    from importlib.metadata import entry_points

    others = {point.name: f"{point.module}:{point.attr}" for point in entry_points(group=f"descbench.{kind}")}
    return others | dict(table)


@cache
def version_of(package: str) -> str:
    """The version of an installed package, "" where it is not; read once, since the search takes milliseconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def resolve(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The class (or function) that is called `name`; one that is written as "module:attribute" is imported now.

    Raises `SpecError` for a name that is neither in the table nor an entry point.
    """
    known = available(kind, table)
    if name not in known:
        raise SpecError(f"no {kind[:-1]} {name!r}{nearest(name, known) or '.'} There are: {listed(sorted(known), 40)}.")
    found = known[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    return found
