"""Replies in one SQLite file: kept one by one as they arrive, so that no question is ever paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from descbench.errors import DescbenchWarning, InputError
from descbench.plugins import version_of
from descbench.prompts import Question, Reply

KEY_VERSION = 1  # raised when the same request is to be asked again
_SCHEMA = 2
_APPLICATION = 0x64736362  # "dscb": tells our file from another program's
_WAIT = 60.0  # seconds that one process waits while another writes
_AT_ONCE = 500  # keys in one query; SQLite takes 999 in every build

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT NOT NULL,            -- sha256 of the request
  superseded TEXT NOT NULL,     -- when a refreshed reply took its place; '' for the one that counts
  request TEXT NOT NULL,        -- canonical JSON: what the key was made of
  text TEXT NOT NULL,           -- the reply, raw
  finish_reason TEXT NOT NULL,
  model TEXT NOT NULL,          -- as the server resolved it
  usage TEXT NOT NULL,          -- JSON
  details TEXT NOT NULL,        -- JSON: request id, system fingerprint, mode
  prompt TEXT NOT NULL,         -- the name of the prompt file
  question TEXT NOT NULL,       -- sha256 of text and sample: finds a reply whoever gave it
  llm TEXT NOT NULL,            -- how the language model was spelled
  time TEXT NOT NULL,           -- when it arrived, UTC
  versions TEXT NOT NULL,       -- JSON: library -> version
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (key, superseded)
);
CREATE INDEX IF NOT EXISTS replies_question ON replies (question);
CREATE INDEX IF NOT EXISTS replies_usage ON replies (llm, prompt, superseded, prompt_tokens, completion_tokens);
CREATE TABLE IF NOT EXISTS finished (
  what TEXT PRIMARY KEY         -- sha256 of what was asked for and of the file that has all of it
);
CREATE TABLE IF NOT EXISTS batches (
  name TEXT PRIMARY KEY,        -- ours, sent along as metadata: finds a batch again that was never recorded as sent
  llm TEXT NOT NULL,
  batch TEXT NOT NULL,          -- the server's id; '' until it is known
  status TEXT NOT NULL,
  created TEXT NOT NULL,
  summary TEXT NOT NULL         -- JSON: what became of its requests, once collected
);
CREATE TABLE IF NOT EXISTS batch_requests (
  batch TEXT NOT NULL REFERENCES batches (name),
  custom_id TEXT NOT NULL,      -- the key of the request
  request TEXT NOT NULL,
  text TEXT NOT NULL,           -- of the question, as are the next three
  sample INTEGER NOT NULL,
  prompt TEXT NOT NULL,
  schema TEXT NOT NULL,
  PRIMARY KEY (batch, custom_id)
);
"""
COLUMNS = (
    "key", "superseded", "request", "text", "finish_reason", "model", "usage", "details", "prompt", "question", "llm",
    "time", "versions", "prompt_tokens", "completion_tokens",
)  # fmt: skip
_INSERT = f"INSERT INTO replies VALUES ({', '.join('?' * len(COLUMNS))})"
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def plain_request(fingerprint: str, question: Question) -> dict[str, Any]:
    """The request of a language model that does not say what exactly it sends: who is asked what, and which sample."""
    return {"llm": fingerprint, "text": question.text, "sample": question.sample}


def canonical(request: Mapping[str, Any]) -> str:
    """What makes a request the same request, as a text: JSON with sorted keys, and the version of this rule."""
    return _canonical({"version": KEY_VERSION, **request})


def key_of(request: str) -> str:
    return hashlib.sha256(request.encode()).hexdigest()


def question_key(text: str, sample: int) -> str:
    return hashlib.sha256(f"{sample}\n{text}".encode("utf-8", "replace")).hexdigest()


class ReplyStore:
    """A file that several processes may use at once. Every reply is committed before `keep` comes back.

    Raises `InputError` for a file that cannot be written, is damaged, is not ours, or is newer than this version. Who
    only reads (`to_read`) can do so where it cannot be written, as on a disk that is full or read-only.
    """

    def __init__(self, path: str | Path, *, to_read: bool = False) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        with self._explained():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = self._connected(str(self.path))
                self._prepare()
            except (sqlite3.OperationalError, OSError) as error:
                if not to_read or "locked" in str(error):
                    raise
                self._connection = self._connected_to_read()

    def __len__(self) -> int:
        """How many replies count: without those that a refreshed one has superseded."""
        return int(self.rows("SELECT count(*) FROM replies WHERE superseded = ''")[0][0])

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"

    def close(self) -> None:
        self._connection.close()

    def find(self, requests: Iterable[str]) -> dict[str, Reply]:
        """Canonical request -> its reply, for those that are kept, in no order.

        One whose stored request is another than the key says is reported and left out.
        """
        wanted = {key_of(request): request for request in requests}
        return {wanted[key]: reply for key, reply in self.find_keys(wanted).items()}

    def find_keys(self, wanted: Mapping[str, str]) -> dict[str, Reply]:
        """The same by key, for {key: canonical request}."""
        found = {}
        query = "SELECT key, request, text, finish_reason, model, usage, details FROM replies WHERE key IN ({})"
        for key, request, *reply in self.rows_in(f"{query} AND superseded = ''", list(wanted)):
            if request == wanted[key]:
                found[key] = _reply(reply)
            else:
                self._warn_changed(key)
        return found

    def recall(self, questions: Sequence[Question]) -> dict[tuple[str, int], dict[str, Reply]]:
        """(text, sample) -> {spelling of a language model: its latest reply}, whoever was asked."""
        wanted = {question_key(q.text, q.sample): (q.text, q.sample) for q in questions}
        found: dict[tuple[str, int], dict[str, Reply]] = {}
        query = "SELECT question, llm, text, finish_reason, model, usage, details FROM replies WHERE question IN ({})"
        for key, llm, *reply in self.rows_in(f"{query} AND superseded = '' ORDER BY time, key", list(wanted)):
            found.setdefault(wanted[key], {})[llm] = _reply(reply)
        return found

    def keep(self, request: str, question: Question, reply: Reply, llm: str = "", *, refresh: bool = False) -> Reply:
        """Commits a reply and returns it. Where another process was first with this request, its reply stays and comes
        back; with `refresh` the earlier one is set aside, and kept as superseded."""
        row = _row(request, question, reply, llm)
        if refresh:
            aside = "UPDATE replies SET superseded = ? WHERE key = ? AND superseded = ''"
            self.write_all([(aside, [(_now(), row[0])]), (_INSERT, [row])])
            return reply
        with self._explained():
            updated = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[2:])
            written = self._connection.execute(
                f"{_INSERT} ON CONFLICT (key, superseded) DO UPDATE SET {updated} "
                "WHERE replies.request <> excluded.request",
                row,
            ).rowcount
        if not written:
            return self.find([request])[request]
        return reply if row[3] == reply.text else replace(reply, text=row[3])

    def add(self, rows: Iterable[Sequence[Any]]) -> int:
        """Insert whole rows, in the order of `COLUMNS`, in one transaction; returns how many were new."""
        return self.write_all([(f"{_INSERT} ON CONFLICT (key, superseded) DO NOTHING", rows)])

    def write_all(self, changes: Iterable[tuple[str, Iterable[Sequence[Any]]]]) -> int:
        """Commit several changes together or not at all; returns the number of rows changed."""
        with self._explained():
            before = self._connection.total_changes
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for query, rows in changes:
                    self._connection.executemany(query, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            return self._connection.total_changes - before

    def usage(self, llm: str) -> dict[str, int]:
        """What this file holds of a language model, spelled `llm`: replies and tokens, superseded ones as well."""
        (row,) = self.rows(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM replies "
            "WHERE llm = ?",
            [llm],
        )
        return dict(zip(("replies", "prompt_tokens", "completion_tokens"), row, strict=True))

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query; for commands that show what is kept."""
        with self._explained():
            return self._connection.execute(query, values).fetchall()

    def rows_in(self, query: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query for any number of keys, which stand where it says `IN ({})`; a query for each few."""
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            yield from self.rows(query.format(", ".join("?" * len(some))), some)

    def write(self, query: str, values: Sequence[Any] = ()) -> int:
        """Commit one change; returns the number of rows changed."""
        with self._explained():
            return self._connection.execute(query, values).rowcount

    def _warn_changed(self, key: str) -> None:
        warnings.warn(
            f"reply cache {str(self.path)!r}: the entry {key[:12]} holds another request than its key says, so it was "
            "changed or damaged; it is asked again.",
            DescbenchWarning,
            stacklevel=3,
        )

    def _connected(self, name: str) -> sqlite3.Connection:
        return sqlite3.connect(
            name,
            timeout=_WAIT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
            uri=name.startswith("file:"),
        )

    def _connected_to_read(self) -> sqlite3.Connection:
        """Without the files that SQLite makes beside it: where there is no log, nobody writes, and none is needed."""
        log = self.path.with_name(f"{self.path.name}-wal")
        alone = not log.exists() or not log.stat().st_size
        connection = self._connected(f"{self.path.absolute().as_uri()}?{'immutable=1' if alone else 'mode=ro'}")
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        if schema != _SCHEMA:
            raise InputError(
                f"reply cache {str(self.path)!r} has schema {schema}, and this version of descbench reads {_SCHEMA}. "
                "An older one is brought up to date where it can be written; copy it to such a folder."
            )
        return connection

    def _prepare(self) -> None:
        run = self._connection.execute
        run("BEGIN")  # all three of one moment: another process may be making the file
        application = run("PRAGMA application_id").fetchone()[0]
        schema = run("PRAGMA user_version").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        run("COMMIT")
        if tables and application != _APPLICATION:
            raise InputError(f"{str(self.path)!r} is another program's SQLite file. Give another cache folder.")
        if schema > _SCHEMA:
            raise InputError(
                f"reply cache {str(self.path)!r} has schema {schema}, and this version of descbench knows {_SCHEMA}. "
                "Use a newer descbench, or another cache folder."
            )
        self._set_journal()
        run("BEGIN IMMEDIATE")  # fails here and not after the first reply where the file cannot be written
        if tables and run("PRAGMA user_version").fetchone()[0] == 1:  # asked again: another process may have moved it
            self._from_first_schema()
        for statement in _TABLES.split(";\n"):
            run(statement)
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {_SCHEMA}")
        run("COMMIT")

    def _from_first_schema(self) -> None:
        """Version 1 did not say who was asked, and had no superseded replies."""
        run = self._connection.execute
        run("ALTER TABLE replies RENAME TO first")
        run(_TABLES.split(";\n")[0])
        old = run("SELECT key, request, text, finish_reason, model, usage, prompt, time, versions FROM first")
        for key, request, text, finish_reason, model, usage, prompt, when, versions in old.fetchall():
            asked, tokens = json.loads(request), json.loads(usage)
            question = question_key(asked["text"], asked["sample"])
            counts = (int(tokens.get("prompt_tokens", 0)), int(tokens.get("completion_tokens", 0)))
            row = (key, "", request, text, finish_reason, model, usage, "{}", prompt, question, "", when, versions)
            run(_INSERT, row + counts)
        run("DROP TABLE first")

    def _set_journal(self) -> None:
        """WAL lets others read while one writes; file systems of the network refuse it, and DELETE works everywhere."""
        until = time.monotonic() + _WAIT
        while True:
            try:
                if self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal":
                    self._connection.execute("PRAGMA synchronous = NORMAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite does not wait for this one by itself while another process opens the file.
                if "locked" not in str(error):
                    self._connection.execute("PRAGMA journal_mode = DELETE")
                    return
                if time.monotonic() > until:
                    raise
            time.sleep(0.02)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """One use of the connection at a time, and what goes wrong in it as one line."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError) as error:
            if "locked" in str(error):
                hint = f"Another process has held it for {_WAIT:.0f} s; wait for it, or give another cache folder."
            elif isinstance(error, sqlite3.OperationalError | OSError):
                hint = "Make it writable and see that the disk has room, or give another cache folder."
            else:
                hint = "It is damaged or no SQLite file: move it away to start anew, or give another cache folder."
            raise InputError(f"reply cache {str(self.path)!r} cannot be used: {error}. {hint}") from error


def _reply(columns: Sequence[str]) -> Reply:
    text, finish_reason, model, usage, details = columns
    return Reply(text, finish_reason, model, {**_parsed(usage)}, {**_parsed(details)} if details != "{}" else {})


_parsed = lru_cache(maxsize=4096)(json.loads)  # many replies have the same counts


def _row(request: str, question: Question, reply: Reply, llm: str) -> tuple[Any, ...]:
    details = {name: value for name, value in reply.details.items() if name != "request"}  # it has a column of its own
    return (
        key_of(request), "", request, _whole(reply.text), reply.finish_reason, reply.model,
        json.dumps(dict(reply.usage)), json.dumps(details, sort_keys=True), question.prompt,
        question_key(question.text, question.sample), llm, _now(), json.dumps(_versions()),
        int(reply.usage.get("prompt_tokens", 0)), int(reply.usage.get("completion_tokens", 0)),
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _whole(text: str) -> str:
    """Text as SQLite takes it: half of a surrogate pair, where a reply was cut in an emoji, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _versions() -> dict[str, str]:
    """The versions of the libraries that are in use now and may have had a part in a reply."""
    used = [library for library in ("descbench", "openai", "transformers", "torch") if library in sys.modules]
    return {"python": sys.version.split()[0]} | {name: found for name in used if (found := _version(name))}


_version = cache(version_of)  # looking one up reads files; it does not change while we run
