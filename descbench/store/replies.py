"""Replies in one SQLite file: kept one by one as they arrive, so that no question is ever paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from descbench.errors import DescbenchError, DescbenchWarning, InputError
from descbench.plugins import version_of
from descbench.progress import report
from descbench.prompts import Question, Reply

if TYPE_CHECKING:
    from descbench.llms.base import LLM

KEY_VERSION = 1  # raised when the same request is to be asked again
_SCHEMA = 1
_APPLICATION = 0x64736362  # "dscb": tells our file from another program's
_WAIT = 60.0  # seconds that one process waits while another writes
_CHUNK = 16  # questions at once where a language model does not hand over replies as they arrive

_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY,
  request TEXT NOT NULL,        -- JSON: what the key was made of
  text TEXT NOT NULL,           -- the reply, raw
  finish_reason TEXT NOT NULL,
  model TEXT NOT NULL,
  usage TEXT NOT NULL,          -- JSON
  prompt TEXT NOT NULL,         -- the name of the prompt file
  time TEXT NOT NULL,           -- when it arrived, UTC
  versions TEXT NOT NULL        -- JSON: library -> version
)
"""


def request_of(fingerprint: str, question: Question) -> str:
    """What makes a request the same request, as canonical JSON: who is asked, what exactly, and which sample."""
    request = {"version": KEY_VERSION, "llm": fingerprint, "text": question.text, "sample": question.sample}
    return json.dumps(request, sort_keys=True, separators=(",", ":"))


def key_of(request: str) -> str:
    return hashlib.sha256(request.encode()).hexdigest()


class ReplyStore:
    """A file that several processes may use at once. Every reply is committed before `keep` comes back.

    Raises `InputError` for a file that cannot be written, is damaged, is not ours, or is newer than this version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False, cached_statements=16
            )
            self._prepare()

    def __len__(self) -> int:
        with self._explained():
            return int(self._connection.execute("SELECT count(*) FROM replies").fetchone()[0])

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"

    def close(self) -> None:
        self._connection.close()

    def find(self, fingerprint: str, questions: Iterable[Question]) -> dict[Question, Reply]:
        """The replies that are kept. One whose stored request is another than the key says is reported and left out."""
        found = {}
        for question in questions:
            request = request_of(fingerprint, question)
            with self._explained():
                row = self._connection.execute(
                    "SELECT request, text, finish_reason, model, usage FROM replies WHERE key = ?", (key_of(request),)
                ).fetchone()
            if row is None:
                continue
            if row[0] != request:
                warnings.warn(
                    f"reply cache {str(self.path)!r}: the entry {key_of(request)[:12]} holds another request than its "
                    "key says, so it was changed or damaged; it is asked again.",
                    DescbenchWarning,
                    stacklevel=2,
                )
                continue
            found[question] = Reply(row[1], row[2], row[3], json.loads(row[4]))
        return found

    def keep(self, fingerprint: str, question: Question, reply: Reply) -> Reply:
        """Commits a reply; where another process was first with this request, its reply stays and comes back."""
        request = request_of(fingerprint, question)
        values = (
            key_of(request), request, _whole(reply.text), reply.finish_reason, reply.model,
            json.dumps(dict(reply.usage)), question.prompt, datetime.now(UTC).isoformat(timespec="seconds"),
            json.dumps(_versions()),
        )  # fmt: skip
        with self._explained():
            self._connection.execute(
                "INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "request = excluded.request, text = excluded.text, finish_reason = excluded.finish_reason, "
                "model = excluded.model, usage = excluded.usage, prompt = excluded.prompt, time = excluded.time, "
                "versions = excluded.versions WHERE replies.request <> excluded.request",
                values,
            )
        return self.find(fingerprint, [question])[question]

    def _prepare(self) -> None:
        run = self._connection.execute
        application = run("PRAGMA application_id").fetchone()[0]
        schema = run("PRAGMA user_version").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise InputError(f"{str(self.path)!r} is another program's SQLite file. Give another cache folder.")
        if schema > _SCHEMA:
            raise InputError(
                f"reply cache {str(self.path)!r} has schema {schema}, and this version of descbench knows {_SCHEMA}. "
                "Use a newer descbench, or another cache folder."
            )
        self._set_journal()
        run("BEGIN IMMEDIATE")  # fails here and not after the first reply where the file cannot be written
        run(_TABLE)
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {_SCHEMA}")
        run("COMMIT")

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


class CachedLLM:
    """A language model that looks its replies up first. `hits`, `asked` and `usage` count this run's.

    Questions with the same text and sample are one request. Every reply is kept as it arrives, whatever comes after.
    """

    def __init__(self, llm: LLM, store: ReplyStore) -> None:
        self._llm = llm
        self._store = store
        self.hits = 0
        self.asked = 0
        self.usage: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self._llm.name

    @property
    def fingerprint(self) -> str:
        return self._llm.fingerprint

    def __repr__(self) -> str:
        return repr(self._llm)

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        replies = dict(self.stream(questions))
        return [replies[index] for index in range(len(questions))]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Kept replies first, then new ones as they arrive.

        Raises `DescbenchError` when the language model ends without an answer to every question.
        """
        where: dict[Question, list[int]] = {}  # one request -> its positions
        for index, question in enumerate(questions):
            where.setdefault(Question(question.text, question.sample), []).append(index)
        kept = self._store.find(self.fingerprint, where)
        self.hits += len(kept)
        for request, reply in kept.items():
            for index in where[request]:
                yield index, reply
        missing = [questions[indices[0]] for request, indices in where.items() if request not in kept]
        answered = 0
        for at, fresh in self._ask(missing):
            reply = self._store.keep(self.fingerprint, missing[at], fresh)
            answered += 1
            self.asked += 1
            self.usage.update(fresh.usage)
            report("asking the language model", answered, len(missing))
            for index in where[Question(missing[at].text, missing[at].sample)]:
                yield index, reply
        if answered != len(missing):
            raise DescbenchError(
                f"{self!r} answered {answered} of {len(missing)} questions and gave no error. "
                "What was answered is kept; the same command asks the others again."
            )

    def _ask(self, questions: list[Question]) -> Iterator[tuple[int, Reply]]:
        if not questions:
            return
        stream = getattr(self._llm, "stream", None)
        if stream is not None:
            yield from stream(questions)
            return
        for start in range(0, len(questions), _CHUNK):
            replies = self._llm.complete(questions[start : start + _CHUNK])
            yield from enumerate(replies, start)


def _whole(text: str) -> str:
    """Text as SQLite takes it: half of a surrogate pair, where a reply was cut in an emoji, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _versions() -> dict[str, str]:
    """The versions of the libraries that are in use now and may have had a part in a reply."""
    used = [library for library in ("descbench", "openai", "transformers", "torch") if library in sys.modules]
    found = {library: version_of(library) for library in used}
    return {"python": sys.version.split()[0]} | {library: version for library, version in found.items() if version}
