"""`descbench ls`: what there is to choose from."""

from __future__ import annotations

import inspect
import re
import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli.common import Json, note, print_json
from descbench.errors import SpecError

if TYPE_CHECKING:
    from descbench.plugins import Plugin


class Kind(StrEnum):
    methods = "methods"
    llms = "llms"
    encoders = "encoders"
    datasets = "datasets"
    prompts = "prompts"


def command(kind: Annotated[Kind, typer.Argument(help="What to list.")], json: Json = False) -> None:
    """List the methods, language models, encoders, data sets or prompts, with what each is.

    Example: descbench ls methods
    """
    entries = _prompts() if kind is Kind.prompts else _adapters(kind.value)
    if json:
        print_json([{"name": name, "spelling": spelling, "about": about} for name, spelling, about in entries])
        return
    for _, spelling, about in entries:
        typer.echo(f"{spelling}\n{textwrap.fill(about, 96, initial_indent='    ', subsequent_indent='    ')}")


def _prompts() -> list[tuple[str, str, str]]:
    from descbench import prompts

    return [(name, name, f"{prompts.folder() / name}.txt") for name in prompts.names()]


def _adapters(kind: str) -> list[tuple[str, str, str]]:
    from importlib import import_module

    from descbench.plugins import offered

    table: dict[str, Any] = getattr(import_module(f"descbench.{kind}"), kind.upper())
    first = {id(found): name for name, found in reversed(table.items())}  # one may have several names
    entries = [(n, _spelling(n, kind, found), _about(found)) for n, found in table.items() if first[id(found)] == n]
    for name, plugin in offered(kind).items():
        if name in table:
            note(f"note: the {kind[:-1]} {name!r} of the package {plugin.packages} is not used: descbench has its own")
        else:
            entries.append(_offered(name, plugin))
    return entries


def _offered(name: str, plugin: Plugin) -> tuple[str, str, str]:
    """Another package's, which is imported for its parameters; one that is broken is listed with what is wrong."""
    try:
        found = plugin.load()
    except SpecError as error:
        return name, name, str(error)[0].upper() + str(error)[1:]
    return name, _spelling(name, plugin.kind, found), f"{_about(found)} From the package {plugin.packages}."


def _spelling(name: str, kind: str, found: Any) -> str:
    """How it is written: a method with its parameters and defaults, an adapter with its argument."""
    if kind != "methods":
        return getattr(found, "spelling", name)
    parameters = [str(p.replace(annotation=p.empty)) for p in inspect.signature(found).parameters.values()]
    return f"{name}({', '.join(parameters)})" if parameters else name


def _about(found: Any) -> str:
    """The first sentence of the docstring."""
    text = " ".join((inspect.getdoc(found) or "").split())
    return re.split(r"(?<!et al)\. ", text)[0].rstrip(".:") + "."
