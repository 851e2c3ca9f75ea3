"""The folder of a run: tables beside a `run.json` that is written last, so that a folder with one is whole."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench.errors import InputError, listed
from descbench.files import locked

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 2
PREDICTIONS, UNKNOWN, PER_CLASS, RUN = "predictions.parquet", "unknown.parquet", "per_class.csv", "run.json"
TAXONOMY = "taxonomy.csv"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes from keeping runs in it for the time of a block; one that stays empty is
    taken away again. The system ends the lock with the process, however that ends; where it cannot lock a folder
    (Windows, some network disks), nothing is locked.

    Raises `InputError` where another process keeps runs in it now, where it cannot be written, and where its disk is
    full before the end of the block.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(_not_kept(folder, error)) from None
    if not os.access(folder, os.W_OK):
        raise InputError(_not_kept(folder, "it cannot be written"))
    try:
        with locked(folder) as ours:
            if ours is False:
                raise InputError(
                    f"another process keeps runs in {folder} at this moment; wait for its end, or choose another folder"
                )
            yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(_not_kept(folder, error)) from None
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()


def _not_kept(folder: Path, why: object) -> str:
    return f"the run cannot be kept in {folder}: {why}; choose another folder with -o"


def write_run(
    folder: str | Path, run: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str]
) -> None:
    """Write a run into a folder: `tables` are parquet files by their columns, `texts` other files.

    All is written beside what is there, and takes its place at the end; then an earlier run of the folder is gone. What
    was killed leaves the earlier run, or a folder that holds no whole one. Raises `InputError` where a file cannot be
    written, as on a full disk, and where another process writes a run into the folder now.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(folder)
    parts = [folder / f"{name}.part" for name in (*tables, *texts, RUN)]
    whole = json.dumps({"schema": SCHEMA, **run}, indent=1, ensure_ascii=False) + "\n"
    with alone(folder):
        try:
            for name, columns in tables.items():
                filled = {column: _column(values) for column, values in columns.items() if values is not None}
                pq.write_table(pa.table(filled), folder / f"{name}.part")
            for name, text in (*texts.items(), (RUN, whole)):
                (folder / f"{name}.part").write_text(text, encoding="utf-8", newline="")
            (folder / RUN).unlink(missing_ok=True)
            for name in (PREDICTIONS, UNKNOWN, PER_CLASS, TAXONOMY):
                if name not in tables and name not in texts:
                    (folder / name).unlink(missing_ok=True)
            for part in parts:  # run.json is the last
                part.replace(part.with_suffix(""))
        except OSError as error:
            for part in parts:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
            raise InputError(_not_kept(folder, error)) from None


def read_run(folder: str | Path) -> dict[str, Any]:
    """What `run.json` of a folder says.

    Raises `InputError` where the folder holds no run, half of one, or one of a newer version.
    """
    folder = Path(folder)
    missing = [name for name in (RUN, PREDICTIONS) if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} holds no whole run: {listed(missing)} missing; evaluate again with -o {folder}")
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{folder}: run.json is damaged ({error}); evaluate again") from None
    if not isinstance(run, dict) or not isinstance(run.get("schema"), int):
        raise InputError(f"{folder}: run.json is not of descbench; evaluate again with -o {folder}")
    if run["schema"] > SCHEMA:
        raise InputError(f"{folder} was written by a newer descbench (schema {run['schema']}); update descbench")
    return run


class Table:
    """A parquet file of a run, by its columns. Raises `InputError` where it is damaged, or has not `rows` rows."""

    def __init__(self, path: Path, rows: int | None = None) -> None:
        import pyarrow.parquet as pq

        self._path = path
        try:
            self._table = pq.read_table(path)
        except (ValueError, OSError) as error:  # of Arrow
            raise InputError(f"{path} is damaged ({error}); evaluate again") from None
        if rows is not None and len(self._table) != rows:
            raise InputError(f"{path} has {len(self._table)} rows, and run.json {rows}: not of one run; evaluate again")

    def __contains__(self, name: str) -> bool:
        return name in self._table.column_names

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of numbers, (N,), or of lists of one length, (N, K)."""
        column = self._column(name)
        values = column.flatten() if hasattr(column, "flatten") and _is_list(column) else column
        found = np.asarray(values.to_numpy(zero_copy_only=False))
        if not _is_list(column):
            return found
        if len(column) and len(found) % len(column):
            raise InputError(f"{self._path}: the lists of the column {name!r} are not of one length; evaluate again")
        return found.reshape(len(column), -1)

    def maybe(self, name: str) -> np.ndarray | None:
        """The same; None where there is no such column."""
        absent = name not in self
        return None if absent else self[name]

    def texts(self, name: str) -> tuple[str, ...]:
        """A column of texts."""
        return tuple(self._column(name).to_pylist())

    def _column(self, name: str) -> pa.Array:
        import pyarrow as pa

        if name not in self:
            raise InputError(f"{self._path} has no column {name!r}; its columns: {listed(self._table.column_names)}")
        column = self._table.column(name).combine_chunks()
        return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows, at least one, as the text of a csv file; None is an empty cell."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _column(values: Any) -> Any:
    """A column of a table: of an array (N, K) lists of K, which are read back as one block."""
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
    return pa.array(values)


def _is_list(column: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    )
