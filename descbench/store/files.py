"""What files hold, by path, size and time: a file that was read once need not be opened again to know its id."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from descbench.errors import DescbenchWarning
from descbench.store.shards import report_damage

_WAIT = 5.0  # seconds that one process waits while another writes
_PENDING = 4096  # ids that are held before they are written
_AHEAD = 1024  # the most that are read together: files mostly come in the order of their paths
_LOST = 5.0  # seconds of hashing that a kill may lose
_TICK = 2 * 10**9  # nanoseconds: the coarsest clock of a file system, FAT's
_VERSION = 0  # of the table, kept as SQLite's user_version: raised when older versions cannot use it any more

# Not a file of our tables, a damaged one, or one that an earlier descbench wrote otherwise.
_UNUSABLE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}

_TABLE = """
CREATE TABLE IF NOT EXISTS files (
  path BLOB PRIMARY KEY,  -- absolute, as the system spells it
  rule TEXT NOT NULL,     -- how the id was made
  size INTEGER NOT NULL,
  time INTEGER NOT NULL,  -- of the last change, in nanoseconds
  id TEXT NOT NULL
) WITHOUT ROWID
"""

_LAST = b"\xff" * 8  # after every path
_Row = tuple[bytes, str, int, int, str]


class KnownFiles:
    """The ids of files, in one SQLite file at `path` that several processes may use at once.

    A file is taken for unchanged as long as its size and the time of its last change are the same. One that changed
    within two seconds before it was read may change again at the same time by the clock of its file system: its id is
    not kept. This is only a shortcut: where the file is damaged it is begun anew, and where it cannot be read or
    written, or is of a newer descbench, files are read instead.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._useless = self._fixed = False  # cannot be read; cannot be written
        self._pending: dict[bytes, _Row] = {}
        self._written_at = time.monotonic()
        self._window: dict[bytes, _Row] = {}  # the rows that were read last: all there are
        self._from, self._to = b"", b""  # from this path on and before that one
        self._ahead = self._found = 0  # how many were asked for, and how many of them were wanted

    def find(self, file: Path, rule: str) -> str | None:
        """The id that `rule` once gave the file as it is now; None where none is known. The file is not opened."""
        key = _key(file)
        try:
            now = os.stat(key)  # noqa: PTH116 - many files, and each is a path already
        except OSError:
            return None
        with self._lock:
            entry = self._pending.get(key) or self._row(key)
        return entry[4] if entry is not None and entry[1:4] == (rule, now.st_size, now.st_mtime_ns) else None

    def note(self, file: Path, rule: str, id_: str, seen: os.stat_result, begun: int) -> None:
        """Keep the id of a file that was read from the time `begun` on, in ns, and was as `seen` after that."""
        if seen.st_mtime_ns + _TICK > begun:
            return
        with self._lock:
            key = _key(file)
            self._pending[key] = (key, rule, seen.st_size, seen.st_mtime_ns, id_)
            if len(self._pending) >= _PENDING or time.monotonic() - self._written_at > _LOST:
                self._write()

    def close(self) -> None:
        """Writes what is not written yet."""
        with self._lock:
            self._write()
            self._hang_up()

    def _row(self, key: bytes) -> _Row | None:
        if not self._from <= key < self._to and not self._useless:
            # Twice as many ahead where half of the last were wanted, as in sorted folders; else fewer, down to one.
            well = 2 * self._found >= len(self._window)
            self._ahead = min(2 * self._ahead + 1, _AHEAD) if well else self._ahead // 2
            self._found = 0
            self._from = self._to = key
            query = "SELECT * FROM files WHERE path >= ? ORDER BY path LIMIT ?"
            try:
                rows = self._connected().execute(query, [key, self._ahead + 1]).fetchall()
                self._window = {row[0]: row for row in rows}
                self._to = rows[-1][0] + b"\0" if len(rows) > self._ahead else _LAST
            except (sqlite3.Error, OSError) as error:
                self._window = {}
                self._useless = not self._begun_anew(error)
        row = self._window.get(key)
        self._found += row is not None
        return row

    def _write(self) -> None:
        rows, self._pending = list(self._pending.values()), {}
        self._written_at = time.monotonic()
        self._window, self._from, self._to = {}, b"", b""
        for _ in range(2):
            if not rows or self._fixed or self._useless:
                return
            try:
                with self._connected() as connection:
                    connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)
                return
            except (sqlite3.Error, OSError) as error:
                self._fixed = not self._begun_anew(error)

    def _connected(self) -> sqlite3.Connection:
        if self._open is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The one connection is behind the lock.
            self._open = sqlite3.connect(self.path, timeout=_WAIT, check_same_thread=False)
            if self._open.execute("PRAGMA user_version").fetchone()[0] > _VERSION:
                warnings.warn(
                    f"feature cache: {str(self.path)!r} is of a newer descbench and stays as it is: pictures are "
                    "read for their ids. Use that version, or another cache folder.",
                    DescbenchWarning,
                    stacklevel=4,
                )
                raise sqlite3.NotSupportedError("of a newer descbench")
            self._open.execute(_TABLE)
        return self._open

    def _begun_anew(self, error: sqlite3.Error | OSError) -> bool:
        """Whether what was there was no good, and is gone now."""
        self._hang_up()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNUSABLE:
            return False
        try:
            for name in (self.path.name, f"{self.path.name}-journal"):
                self.path.with_name(name).unlink(missing_ok=True)
        except OSError:
            return False
        report_damage(self.path, str(error))
        return True

    def _hang_up(self) -> None:
        if self._open is not None:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None


_in_use: ContextVar[KnownFiles | None] = ContextVar("known_files", default=None)


def known_files() -> KnownFiles | None:
    """What is known of files here and now."""
    return _in_use.get()


@contextmanager
def remembered(path: Path) -> Iterator[None]:
    """For the time of the block, and the context that it runs in, ids of files are looked up in `path` and kept."""
    before = _in_use.get()
    if before is not None and before.path == path:
        yield
        return
    files = KnownFiles(path)
    token = _in_use.set(files)
    try:
        yield
    finally:
        _in_use.reset(token)
        files.close()


def _key(file: Path) -> bytes:
    return os.fsencode(os.path.abspath(file))  # noqa: PTH100 - links stay: what they lead to is asked each time
