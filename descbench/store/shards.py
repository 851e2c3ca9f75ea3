"""Rows of numbers under texts, in files that are only added and merged: found by hash, mapped, each row checked."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import time
import uuid
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows
from descbench.errors import DescbenchWarning, InputError
from descbench.files import locked

ROWS = 2**16  # the most in a shard
_SMALL = ROWS // 2  # shards below this are merged
_MANY = 32  # small shards that may lie around before they are
_FORGOTTEN = 86_400  # seconds after which an unfinished file has nobody who writes it

Mask = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]  # (2, N)


class Shards:
    """The rows of one kind ("images", "texts") that one encoder, the `owner`, has made, in one folder.

    A row is float32 of any shape, the same for all. Several processes may use the folder at once: shards are added
    under new names, whole or not at all, and small ones are replaced by one that holds the same rows.
    """

    def __init__(self, folder: Path, kind: str, owner: str) -> None:
        self._folder = folder
        self._kind = kind
        self._owner = owner
        self._shards: dict[Path, _Shard] = {}
        self._damaged: set[Path] = set()  # cannot be read, or not be merged
        self._told: set[Path] = set()

    def __len__(self) -> int:
        """How many keys have a row, though two processes that made it at the same time have kept it twice."""
        self._look()
        hashes = [shard.hashes for shard in self._shards.values()]
        return len(np.unique(np.concatenate(hashes))) if len(hashes) > 1 else sum(map(len, hashes))

    def known(self, keys: Sequence[str]) -> Mask:
        """(N,): which keys have a row. The rows are not looked at."""
        self._look()
        hashes = _hashes(keys)
        known = np.zeros(len(keys), dtype=bool)
        for shard in self._shards.values():
            open_ = np.flatnonzero(~known)
            known[open_] = shard.places(hashes[:, open_]) >= 0
        return known

    def recall(self, keys: Sequence[str]) -> tuple[Mask, Rows]:
        """Which keys have a row (N,), and the rows of these, in order: (M, ...). Damaged rows count as missing."""
        self._look()
        hashes = _hashes(keys)
        found = np.zeros(len(keys), dtype=bool)
        rows: Rows = np.empty((len(keys), 0), dtype=np.float32)
        for shard in self._shards.values():
            open_ = np.flatnonzero(~found)
            places = shard.places(hashes[:, open_])
            open_, places = open_[places >= 0], places[places >= 0]
            if not len(places):
                continue
            values, good = shard.read(places)
            if not good.all():
                self._report(shard.path, f"{int((~good).sum())} rows do not match their checksums")
                values, open_ = values[good], open_[good]
            if not found.any():
                rows = np.empty((len(keys), *shard.shape), dtype=np.float32)
            rows[open_] = values
            found[open_] = True
        return found, rows if found.all() else rows[found]

    def keys(self) -> Iterator[str]:
        """All keys, shard by shard."""
        self._look()
        for shard in self._shards.values():
            yield from shard.keys()

    def add(self, keys: Sequence[str], rows: Rows) -> None:
        """Keeps rows (N, ...). Raises `InputError` where those that are kept have another shape."""
        self._look()
        kept = next((shard for shard in self._shards.values() if shard.shape != rows.shape[1:]), None)
        if kept is not None:
            raise InputError(
                f"feature cache {str(kept.path)!r} holds rows of shape {kept.shape}, and this encoder now gives "
                f"{rows.shape[1:]}. Give an encoder that changed another fingerprint, or delete the folder."
            )
        for start in range(0, len(keys), ROWS):
            path = self._folder / f"{self._kind}-{uuid.uuid4().hex}.safetensors"
            part = slice(start, start + ROWS)
            with written_whole(path) as unfinished:
                _write(unfinished, keys[part], rows[part], self._owner)
            self._take_in(path)

    def tidy(self, most: int = _MANY) -> None:
        """Where there are more than `most` small shards, they become one. One process does it, the others go on.

        Where the folder cannot be written, or the disk has no room for the new one, they stay: no row is lost by that.
        """
        if len(self._small()) <= most:
            return
        with suppress(OSError), locked(self._folder) as alone:
            if alone:
                self._look()  # another process may just have done it
                if len(self._small()) > most:
                    self._merge(self._small())
                self._sweep()

    def _small(self) -> list[_Shard]:
        return [s for s in self._shards.values() if len(s) < _SMALL and s.path not in self._damaged]

    def _merge(self, small: list[_Shard]) -> None:
        """The old ones go only when the new ones are there, so nobody misses a row. Holds one new shard in memory."""
        merged: set[str] = set()
        keys: list[str] = []
        rows: Rows = np.empty((min(ROWS, sum(map(len, small))), *small[0].shape), dtype=np.float32)
        for shard in small:
            try:
                own = shard.keys()
            except ValueError as error:
                self._damaged.add(shard.path)
                self._report(shard.path, str(error))
                continue
            values, good = shard.read(np.arange(len(shard)))
            good &= np.array([key not in merged for key in own], dtype=bool)
            own = [key for key, is_good in zip(own, good, strict=True) if is_good]
            if len(keys) + len(own) > len(rows):
                self.add(keys, rows[: len(keys)])
                keys = []
            rows[len(keys) : len(keys) + len(own)] = values[good]
            merged.update(own)
            keys += own
        if keys:
            self.add(keys, rows[: len(keys)])
        for shard in small:
            if shard.path not in self._damaged:
                shard.path.unlink(missing_ok=True)
                self._shards.pop(shard.path, None)

    def _sweep(self) -> None:
        sweep(self._folder, f".{self._kind}-*")

    def _look(self) -> None:
        """Takes in shards that are new and forgets those that are gone; again where one went in this very moment."""
        while True:
            present = set(self._folder.glob(f"{self._kind}-*.safetensors"))
            new = sorted(present - self._shards.keys() - self._damaged)
            here = [self._take_in(path) for path in new]
            for path in self._shards.keys() - present:
                del self._shards[path]
            if all(here):
                return

    def _take_in(self, path: Path) -> bool:
        """False where the shard is gone; one that is damaged is reported, once, and left out."""
        try:
            shard = _Shard(path)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._damaged.add(path)
            self._report(path, str(error) or type(error).__name__)
            return True
        if shard.owner != self._owner:
            raise InputError(
                f"feature cache {str(path)!r} holds features of another encoder ({shard.owner}) than its folder "
                f"({self._owner}). Move the file back to where it came from, or delete it."
            )
        self._shards[path] = shard
        return True

    def _report(self, path: Path, reason: str) -> None:
        if path not in self._told:
            self._told.add(path)
            report_damage(path, reason)


class _Shard:
    """One file, mapped: what is not looked at is not read, and what was read does not stay in memory.

    It can still be read when another process has deleted it. Raises `ValueError`, `KeyError` or `TypeError` for a file
    that is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(self._map[:8], "little")
        header = json.loads(self._map[8:start])

        def tensor(name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
            (first, last), shape = header[name]["data_offsets"], header[name]["shape"]
            return np.frombuffer(self._map[start + first : start + last], kind).reshape(shape)

        self._hashes, self._rows = tensor("hashes", np.uint64), tensor("rows", np.int32)  # (2, N) sorted, (N,)
        self._checksums = tensor("checksums", np.uint32)  # (N,)
        self._keys = slice(*(start + offset for offset in header["keys"]["data_offsets"]))
        about = header.pop("__metadata__")
        if start + max(entry["data_offsets"][1] for entry in header.values()) != len(self._map):
            raise ValueError("it is shorter or longer than it says")
        self.owner = str(about["encoder"])
        self.shape = tuple(header["features"]["shape"][1:])
        first, last = header["features"]["data_offsets"]
        self._features = (start + first, (len(self), *self.shape))
        if int(about["index"]) != _checksum(self._hashes, self._rows, self._checksums):
            raise ValueError("its index does not match its checksum")
        if last - first != 4 * len(self) * int(np.prod(self.shape)):
            raise ValueError("its rows do not have the shape that it says")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """(N,): half of the hash of each key, enough to count them."""
        half: npt.NDArray[np.uint64] = self._hashes[0]
        return half

    def places(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        """(N,): the row of each hash (2, N), -1 where there is none."""
        if not len(self):
            return np.full(hashes.shape[1], -1)
        at = np.searchsorted(self._hashes[0], hashes[0])
        at[at == len(self)] = 0
        places = np.full(hashes.shape[1], -1)
        hit = np.flatnonzero(self._hashes[0][at] == hashes[0])
        hit = hit[self._hashes[1][at[hit]] == hashes[1][hit]]
        places[hit] = self._rows[at[hit]]
        return places

    def read(self, places: npt.NDArray[np.int64]) -> tuple[Rows, Mask]:
        """A copy of rows (N, ...), and which of them are whole."""
        offset, shape = self._features
        features = np.frombuffer(self._map, np.float32, int(np.prod(shape)), offset).reshape(shape)
        rows: Rows = features[places]
        del features
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)  # else what was read once would count as ours for good
        return rows, _checksums(rows) == self._checksums[places]

    def keys(self) -> list[str]:
        """Raises `ValueError` where they are damaged."""
        keys: list[str] = json.loads(self._map[self._keys])
        hashes = _hashes(keys)
        if hashes.shape[1] != len(self) or not np.array_equal(hashes[:, self._rows], self._hashes):
            raise ValueError("its keys do not match their hashes")
        return keys


def _hashes(keys: Sequence[str]) -> Hashes:
    """(2, N): 128 bits of each key, which no two keys share."""
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys)
    return np.ascontiguousarray(np.frombuffer(digests, np.uint64).reshape(-1, 2).T)


def _checksums(rows: Rows) -> npt.NDArray[np.uint32]:
    """(N,): the CRC-32 of each row."""
    content, size = np.ascontiguousarray(rows).data.cast("B"), 4 * int(np.prod(rows.shape[1:]))
    return np.array([zlib.crc32(content[i * size : (i + 1) * size]) for i in range(len(rows))], dtype=np.uint32)


def _checksum(*arrays: npt.NDArray[Any]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(array.tobytes(), found)
    return found


def _write(path: Path, keys: Sequence[str], rows: Rows, owner: str) -> None:
    """A safetensors file: rows in the order they came; hashes sorted beside them, so that a reader searches without
    sorting. The keys are JSON in a tensor of bytes: the header has a limit, and texts may be long.

    The library's `save_file` would leave a hidden file where it is killed, and let nobody but its user read the others.
    """
    from safetensors.numpy import save

    hashes = _hashes(keys)
    order = np.argsort(hashes[0], kind="stable")
    index: dict[str, npt.NDArray[Any]] = {
        "hashes": np.ascontiguousarray(hashes[:, order]),  # (2, N)
        "rows": order.astype(np.int32),  # (N,)
        "checksums": _checksums(rows),  # (N,)
    }
    tensors: dict[str, npt.NDArray[Any]] = index | {
        "features": np.ascontiguousarray(rows, dtype=np.float32),  # (N, ...)
        "keys": np.frombuffer(json.dumps(list(keys)).encode(), dtype=np.uint8),
    }
    about = {"encoder": owner, "index": str(_checksum(*index.values()))}
    path.write_bytes(save(tensors, metadata=about))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to; the file is at `path` when the block ends, whole or not at all, whoever else writes."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        yield unfinished
        os.replace(unfinished, path)  # noqa: PTH105 (its name says what matters)
    finally:
        unfinished.unlink(missing_ok=True)


def sweep(folder: Path, pattern: str) -> None:
    """What killed processes have left unfinished goes."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _FORGOTTEN:
                path.unlink()


def report_damage(path: Path, reason: str) -> None:
    """Says, as a `DescbenchWarning`, that a file or some of its rows are left out."""
    warnings.warn(
        f"feature cache: {str(path)!r} is damaged ({reason.strip().splitlines()[0].rstrip('.')}); what cannot be read "
        "is left out and computed again. The file can be deleted.",
        DescbenchWarning,
        stacklevel=4,
    )
