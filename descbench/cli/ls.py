"""`descbench ls`: what there is to choose from."""

from __future__ import annotations

import inspect
import re
import textwrap
from enum import StrEnum
from typing import Annotated, Any

import typer

from descbench.cli.common import Json, print_json


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

    from descbench.plugins import available

    table: dict[str, Any] = getattr(import_module(f"descbench.{kind}"), kind.upper())
    first = {id(found): name for name, found in reversed(available(kind, table).items())}  # one may have several names
    known = {name: found for name, found in available(kind, table).items() if first[id(found)] == name}
    return [(name, _spelling(name, kind, found), _about(found)) for name, found in known.items()]


def _spelling(name: str, kind: str, found: Any) -> str:
    """How it is written: a method with its parameters and defaults, an adapter with its argument."""
    if kind != "methods" or isinstance(found, str):
        return getattr(found, "spelling", name)
    parameters = [str(p.replace(annotation=p.empty)) for p in inspect.signature(found).parameters.values()]
    return f"{name}({', '.join(parameters)})" if parameters else name


def _about(found: Any) -> str:
    """The first sentence of the docstring; where a third party's is not imported yet, where it comes from."""
    if isinstance(found, str):
        return f"from {found}"
    text = " ".join((inspect.getdoc(found) or "").split())
    return re.split(r"(?<!et al)\. ", text)[0].rstrip(".:") + "."
