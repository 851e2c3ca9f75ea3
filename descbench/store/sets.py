"""Which rows belong to which data set: a parquet file of id, row, label and source beside the features."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descbench.errors import DescbenchWarning
from descbench.store.shards import report_damage, sweep, written_whole

_GROUP = 2**16  # samples that are held before they are written
_FOLDER = "sets"


class SetWriter:
    """Notes the samples of a data set as their features come; `finish` names the file by what the set holds.

    The file is `sets/KEY.parquet` below `folder`, where KEY is a hash of the class names and of the ids and labels of
    all samples: a fingerprint of the data set that takes no second pass over its images. It has the columns `id`, `row`
    (the place in the data set's order), `label` (null where unlabelled) and `source`, for samples that have a feature.
    One process of several (`part` is its rank and their number) writes its share, `sets/KEY-RANKofNUMBER.parquet`.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], part: tuple[int, int] = (0, 1)) -> None:
        self._folder = folder / _FOLDER
        self._about = dict(about)
        self._part = part
        self._key = hashlib.sha256(json.dumps(about.get("names", [])).encode())
        self._rows: dict[str, list[Any]] = {"id": [], "row": [], "label": [], "source": []}
        self._unfinished = self._folder / f".{os.getpid()}.{uuid.uuid4().hex[:8]}.parquet"
        self._writer: Any = None
        self._obstacle: OSError | None = None  # why the file cannot be written

    def see(self, name: str, label: int | None) -> None:
        """Every sample, in order, whoever encodes it."""
        self._key.update(f"{label}\n{name}\n".encode("utf-8", "surrogatepass"))

    def add(self, placed: Sequence[tuple[int, Any]]) -> None:
        """Samples whose features are kept, each with its place in the data set."""
        if self._obstacle:
            return
        for place, sample in placed:
            self._rows["id"].append(sample.id)
            self._rows["row"].append(place)
            self._rows["label"].append(sample.label)
            self._rows["source"].append(sample.source)
        if len(self._rows["id"]) >= _GROUP:
            self._write()

    def finish(self, encoded: int) -> Path | None:
        """The file. One that is there stays as it is where no image was `encoded` this time.

        A cache that may only be read serves all the same: where nothing was encoded, a list that cannot be written is a
        warning and None, since nothing needs it to find a feature. Raises `OSError` where something was.
        """
        rank, number = self._part
        whole = self._folder / f"{self._key.hexdigest()[:16]}.parquet"
        path = whole if number == 1 else whole.with_stem(f"{whole.stem}-{rank}of{number}")
        there = next((file for file in (whole, path) if file.exists()), None)
        if there is not None and not encoded:
            self.discard()
            return there
        try:
            self._write()
            if self._obstacle:
                raise self._obstacle
            self._writer.close()
            os.replace(self._unfinished, path)  # noqa: PTH105 (its name says what matters)
        except OSError as error:
            self.discard()
            if encoded:
                raise
            warnings.warn(
                f"feature cache: the list of the samples of {self._about['dataset']} cannot be written "
                f"({error.strerror or error}). All features are there, and are found without it.",
                DescbenchWarning,
                stacklevel=4,
            )
            return None
        sweep(self._folder, ".*.parquet")
        if path == whole:
            _drop_shares(whole)
        return path

    def discard(self) -> None:
        """What was written so far goes."""
        with suppress(OSError):  # of a disk that is full, or that may only be read
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self._unfinished.unlink()

    def _write(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"id": pa.string(), "row": pa.int64(), "label": pa.int64(), "source": pa.string()}
        schema = pa.schema(kinds.items(), metadata={"descbench": json.dumps(self._about)})
        plain = {name: [_plain(value) for value in values] for name, values in self._rows.items()}
        try:
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = pq.ParquetWriter(self._unfinished, schema)
            self._writer.write_table(pa.table(plain, schema=schema))
        except OSError as error:
            self._obstacle = error
        for values in self._rows.values():
            values.clear()


def joined(share: Path) -> Path:
    """One file of the shares of all processes, whose place it takes; as long as some are missing, `share` stays."""
    import pyarrow.parquet as pq

    key, _, part = share.stem.partition("-")
    processes = int(part.partition("of")[2] or 1)
    shares = [share.with_name(f"{key}-{rank}of{processes}.parquet") for rank in range(processes)]
    if not part or not all(path.exists() for path in shares):
        return share
    whole = share.with_name(f"{key}.parquet")
    with written_whole(whole) as unfinished, pq.ParquetWriter(unfinished, pq.read_schema(share)) as writer:
        for path in shares:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))
    _drop_shares(whole)
    return whole


def _drop_shares(whole: Path) -> None:
    for share in whole.parent.glob(f"{whole.stem}-*of*.parquet"):
        share.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A name of a file may hold bytes that are no UTF-8, and a parquet file may not."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@dataclass(frozen=True)
class KeptSet:
    """What a set's file says of itself, or the files of several processes: `shares` of `processes` are there."""

    key: str
    dataset: str  # as it was spelled
    rows: int
    shares: int = 1
    processes: int = 1


def kept_sets(folder: Path) -> Iterator[KeptSet]:
    """The data sets of an encoder's folder, as they were spelled."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, list[tuple[str, int, int]]] = {}
    for path in sorted((folder / _FOLDER).glob("*.parquet")):
        if path.name.startswith("."):
            continue
        try:
            about = pq.read_metadata(path)
            dataset = json.loads(about.metadata[b"descbench"])["dataset"]
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
            report_damage(path, str(error) or type(error).__name__)
            continue
        key, _, share = path.stem.partition("-")
        found.setdefault(key, []).append((dataset, about.num_rows, int(share.partition("of")[2] or 1)))
    for key, shares in sorted(found.items(), key=lambda entry: entry[1][0][0]):
        shares = [share for share in shares if share[2] == 1] or shares  # a whole list has what shares beside it have
        dataset, _, processes = shares[0]
        yield KeptSet(key, dataset, sum(rows for _, rows, _ in shares), len(shares), processes)
