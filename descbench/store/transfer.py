"""Replies as JSON lines, one a line and sorted by key, so that two exports diff and merge line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from descbench.store.replies import COLUMNS, ReplyStore, canonical, key_of

_OBJECTS = {"request", "usage", "details", "versions"}  # columns that hold JSON
_COUNTS = {"prompt_tokens", "completion_tokens"}  # columns that repeat what usage says
_AT_ONCE = 1000


@dataclass(frozen=True)
class Filter:
    """Which replies: of a language model, of a prompt, from before a day (ISO), or only superseded ones."""

    llm: str | None = None
    prompt: str | None = None
    before: str | None = None
    superseded: bool | None = None

    def where(self) -> tuple[str, list[str]]:
        """An SQL condition and its values."""
        conditions, values = ["1"], []
        for column, value in (("llm = ?", self.llm), ("prompt = ?", self.prompt), ("time < ?", self.before)):
            if value is not None:
                conditions.append(column)
                values.append(value)
        if self.superseded is not None:
            conditions.append("superseded <> ''" if self.superseded else "superseded = ''")
        return " AND ".join(conditions), values


@dataclass
class Imported:
    """What became of the lines of an export: `other` are kept requests for which the file had another reply."""

    new: int = 0
    known: int = 0
    other: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)  # (line, why)


def export(store: ReplyStore, which: Filter | None = None) -> Iterator[str]:
    """One JSON object a reply, without the line break; of any number of replies only a few are in memory."""
    where, values = (which or Filter()).where()
    last: tuple[str, str] = ("", "")
    query = f"SELECT * FROM replies WHERE {where} AND (key, superseded) > (?, ?) ORDER BY key, superseded LIMIT ?"
    while rows := store.rows(query, [*values, *last, _AT_ONCE]):
        for row in rows:
            yield _line(row)
        last = rows[-1][:2]


def import_(store: ReplyStore, lines: Iterable[str]) -> Imported:
    """Add the replies of an export that are not there yet. What is there stays; a broken line is refused and listed."""
    done = Imported()
    waiting: list[tuple[Any, ...]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            waiting.append(_row(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            done.refused.append((number, _why(error)))
        if len(waiting) >= _AT_ONCE:
            _add(store, waiting, done)
            waiting = []
    _add(store, waiting, done)
    return done


def _add(store: ReplyStore, rows: Sequence[tuple[Any, ...]], done: Imported) -> None:
    there = store.rows_in("SELECT key, superseded, text FROM replies WHERE key IN ({})", [row[0] for row in rows])
    kept = {(key, when): text for key, when, text in there}
    other = sum(kept.get(row[:2], row[3]) != row[3] for row in rows)
    new = store.add(rows)
    done.new += new
    done.other += other
    done.known += len(rows) - new - other


def _line(row: Sequence[Any]) -> str:
    entry = dict(zip(COLUMNS, row, strict=True))
    found = {n: json.loads(v) if n in _OBJECTS else v for n, v in entry.items() if n not in _COUNTS}
    return json.dumps(found, sort_keys=True, ensure_ascii=False)


def _row(line: str) -> tuple[Any, ...]:
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    for name in (name for name in COLUMNS if name not in _COUNTS):
        if not isinstance(entry[name], dict if name in _OBJECTS else str):
            raise ValueError(f"{name!r} is not {'an object' if name in _OBJECTS else 'a text'}")
    request = canonical(entry["request"])
    if key_of(request) != entry["key"]:
        raise ValueError("its key is not that of its request")
    values = entry | {name: int(entry["usage"].get(name, 0)) for name in _COUNTS} | {"request": request}
    return tuple(
        json.dumps(values[name], sort_keys=name == "details") if isinstance(values[name], dict) else values[name]
        for name in COLUMNS
    )


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "not valid JSON"
    return f"no {error.args[0]!r}" if isinstance(error, KeyError) else str(error)
