"""A text and the object that it spells: "dclip(prompt='birds')" <-> DCLIP(prompt='birds'), "folder:./photos", ..."""

from __future__ import annotations

import ast
from typing import Any

from descbench.datasets import DATASETS, Limited, Strict
from descbench.encoders import ENCODERS, CallablesEncoder, Views
from descbench.encoders.views import cuts
from descbench.errors import SpecError
from descbench.llms import LLMS
from descbench.methods import METHODS
from descbench.plugins import resolve

LONGEST = 10_000


def method(spec: str) -> Any:
    """The method that `spec` spells: a name, or a call with literal values and methods as arguments.

    `method("cascade(dclip, differential, k=5)")`; `method(repr(m)) == m` for every method.
    Raises `SpecError` for an unknown name or parameter, and for anything that is not such a call.
    """
    if not isinstance(spec, str):
        raise SpecError(f"a method is spelled as a text, given: {spec!r}")
    if len(spec) > LONGEST:
        raise SpecError(f"a method is spelled in at most {LONGEST} characters, given: {len(spec)}")
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecError(
            f"cannot read the method {spec!r:.200}; write a name, as in dclip, or a call, as in fudd(k=5)"
        ) from None
    found = _built(tree, spec)
    if not hasattr(found, "texts") and not hasattr(found, "stages"):
        raise SpecError(f"{spec!r:.200} is not a method; write a name, as in dclip, or a call, as in fudd(k=5)")
    return found


def _built(node: ast.expr, spec: str) -> Any:
    """The object that a node of the syntax tree spells: a call or name is a method, all else a literal."""
    if isinstance(node, ast.Name):
        return _called(node.id, [], {})
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            raise SpecError(f"cannot read the method {spec!r:.200}: no * or ** here")
        given = [str(k.arg) for k in node.keywords]
        if len(set(given)) < len(given):
            raise SpecError(f"cannot read the method {spec!r:.200}: a parameter is given twice")
        args = [_built(a, spec) for a in node.args]
        return _called(node.func.id, args, {str(k.arg): _built(k.value, spec) for k in node.keywords})
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        part = ast.get_source_segment(spec.strip(), node) or spec
        raise SpecError(f"cannot read {part!r:.200} in the method {spec!r:.200}; write a literal or a method") from None


def _called(name: str, args: list[Any], keywords: dict[str, Any]) -> Any:
    kind = resolve("methods", name, METHODS)
    try:
        return kind(*args, **keywords)
    except TypeError as error:
        detail = str(error).replace(f"{kind.__name__}.__init__() ", "")
        raise SpecError(f"{name}: {detail}; see `descbench ls methods` for its parameters") from None


def _adapter(kind: str, spec: object, table: dict[str, Any], options: dict[str, Any]) -> Any:
    if not isinstance(spec, str) or not spec.strip():
        raise SpecError(f"the {kind[:-1]} is spelled NAME or NAME:ARGUMENT, given: {spec!r}")
    name, _, argument = spec.partition(":")
    adapter = resolve(kind, name, table)
    if name in ("http", "https"):
        argument = spec.strip()  # a URL is its own argument
    try:
        return adapter.from_spec(argument, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise SpecError(f"{kind[:-1]} {name!r}: it has no option {str(error).split('argument ')[-1]}") from None


def encoder(spec: str | tuple[Any, Any], *, views: str = "", **options: Any) -> Any:
    """The encoder that `spec` spells: "open_clip:ViT-B-32/laion2b_s34b_b79k", "transformers:PATH_OR_ID",
    "features:FILE", "demo"; or two functions, `encoder((encode_images, encode_texts), fingerprint="my model")`.

    With `views="crops(60)"` it sees each picture as the weighted mean of so many crops; with "resized(50)" or
    "crops(50, apart=True)" as the whole picture and so many crops, kept apart, as `awt` needs it.
    """
    pair = isinstance(spec, tuple) and len(spec) == 2
    found = CallablesEncoder(*spec, **options) if pair else _adapter("encoders", spec, ENCODERS, options)
    return Views(found, cuts(views)) if views else found


def llm(spec: str, **options: Any) -> Any:
    """The language model that `spec` spells: "openai:MODEL", "http://HOST:PORT/v1#MODEL", "transformers:PATH_OR_ID",
    "demo"; named options."""
    return _adapter("llms", spec, LLMS, options)


def dataset(spec: str, *, split: str = "", limit: int | None = None, strict: bool = False, **options: Any) -> Any:
    """The data set that `spec` spells: "folder:./photos", "hf:ORG/NAME:test", "features:FILE", "demo"; named options.

    `limit` takes so many of its samples, drawn by their ids (`Limited`); with `strict` the first picture that cannot be
    read ends the run (`Strict`). Raises `SpecError` for a `split` of a data set that has none.
    """
    found = _adapter("datasets", spec, DATASETS, options | ({"split": split} if split else {}))
    if limit is not None:
        found = Limited(found, limit)
    return Strict(found) if strict else found
