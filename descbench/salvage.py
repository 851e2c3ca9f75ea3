"""JSON as language models write it: in a fence, among other text, with trailing commas, cut off, a quote too many."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

_OPENS = re.compile(r'^[ \t]*+(?=[\[{])|(?=[\[{]\s*+["\[{])', re.MULTILINE)
_TOKEN = re.compile(
    r'\s*+(?:(?P<text>"[^"\\]*+(?:\\.[^"\\]*+)*+")|(?P<mark>[\[\]{}:,])|(?P<plain>true|false|null|-?[\d.]++))',
    re.DOTALL,
)
_CUT = re.compile(r'\s*+(?:"|\Z)')
_TRIES = 3  # places where JSON may begin: "[1]" may stand in the text before it


def json_values(text: str, mark: re.Pattern[str]) -> Iterator[tuple[Any, Counter[str]]]:
    """The values in a text that may be the answer, each with how often what was mended in it, by kind; not those in a
    line of a list, which begins with a `mark`."""
    position = 0
    for _ in range(_TRIES):
        opening = _OPENS.search(text, position)
        if not opening:
            return
        if mark.match(text[text.rfind("\n", 0, opening.end()) + 1 : opening.end()].lstrip()):
            position = opening.end() + 1  # a bracket in a bulleted line
            continue
        repairs: Counter[str] = Counter()
        value, position = _read(text, opening.end(), repairs)
        if value:
            around = [*text[: opening.end()].splitlines(), *text[position:].splitlines()]
            repairs["fence"] += any(line.lstrip().startswith("```") for line in around)
            repairs["prose"] += sum(bool(line.strip("` \t")) and line.strip() != "```json" for line in around)
            yield value, repairs


class _BrokenError(Exception):
    """A token that cannot stand where it does."""


class _Builder:
    """JSON from its tokens, without recursion: a reply may nest as deep as it likes."""

    def __init__(self, repairs: Counter[str]) -> None:
        self.repairs = repairs
        self.root: Any = None
        self.open: list[tuple[Any, str | None]] = []  # the containers around, each with a key that waits for a value
        self.last = ""  # "value", "key" or a mark

    def mark(self, mark: str) -> None:
        if mark in "[{":
            self.value([] if mark == "[" else {})
            self.last = mark
            return
        if mark in "]}":
            self.repairs["trailing comma"] += self.last == ","
            container, _ = self.open.pop()
            self.repairs["broken JSON"] += isinstance(container, dict) != (mark == "}")
            mark = "value"
        elif mark == ":" and self.last != "key":
            raise _BrokenError
        self.last = mark

    def text(self, text: str) -> None:
        container, key = self.open[-1]
        if isinstance(container, dict) and key is None:
            self.open[-1] = (container, text)
            self.last = "key"
        else:
            self.value(text)

    def value(self, value: Any) -> None:
        if not self.open:
            self.root = value
        else:
            container, key = self.open[-1]
            if isinstance(container, list):
                container.append(value)
            elif key is not None and self.last == ":":
                container[key] = value
                self.open[-1] = (container, None)
            else:
                raise _BrokenError
        if isinstance(value, list | dict):
            self.open.append((value, None))
        self.last = "value"

    def forget(self) -> None:
        """Take back what came last, since what follows shows that it was read wrongly."""
        container, _ = self.open[-1]
        if self.last == "value" and container and isinstance(container, list):
            container.pop()
        elif self.last == "value" and container:
            container.popitem()
        self.open[-1] = (container, None)
        self.last = ","


def _read(text: str, position: int, repairs: Counter[str]) -> tuple[Any, int]:
    """The value that begins here, as far as it can be read, and where it ends. Broken lines in it are left out."""
    builder = _Builder(repairs)
    while True:
        token = _TOKEN.match(text, position)
        if not token and _CUT.match(text, position):
            repairs["cut ending"] += 1
            return builder.root, len(text)
        try:
            if not token:
                raise _BrokenError
            _take(token, text, position, builder, repairs)
        except _BrokenError:
            repairs["broken JSON"] += 1
            builder.forget()
            newline = text.find("\n", position)
            position = newline + 1 if newline >= 0 else len(text)
            continue
        position = token.end()
        if not builder.open:
            return builder.root, position


def _take(token: re.Match[str], text: str, position: int, builder: _Builder, repairs: Counter[str]) -> None:
    if token["mark"] and token["mark"] not in "[{":
        builder.mark(token["mark"])
        return
    if builder.last == "value":  # a comma is missing: between lines it was forgotten, within one a quote is too many
        if "\n" not in text[position : token.start(token.lastgroup or 0)]:
            raise _BrokenError
        repairs["missing comma"] += 1
    if token["mark"]:
        builder.mark(token["mark"])
    elif token["text"]:
        builder.text(_decoded(token["text"], repairs))
    else:
        builder.value(None)  # a number or truth is no text


def _decoded(literal: str, repairs: Counter[str]) -> str:
    try:
        return str(json.loads(literal, strict=False))
    except json.JSONDecodeError:  # an escape that JSON does not have, as \'
        repairs["broken JSON"] += 1
        return literal[1:-1]
