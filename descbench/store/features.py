"""Features in safetensors shards: what an encoder has made once is read back, and then it need not even be loaded."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows, check_rows
from descbench.errors import DescbenchWarning, InputError
from descbench.progress import report

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from descbench.encoders.base import Encoder

_CHUNK = 1024  # texts that a kill may lose
_MANY = 32  # small shards; when there are more, they become one
_SMALL = 2**15  # rows


class CachedEncoder:
    """An encoder that keeps text features by exact text and image features by sample id, below `folder`.

    The files of one fingerprint lie in one folder, `meta.json` beside the shards. Several processes may use it at once:
    shards are only added (under new names, whole or not at all) and replaced by one that holds the same rows.
    """

    def __init__(self, encoder: Encoder, folder: str | Path) -> None:
        self._encoder = encoder
        self._root = Path(folder).expanduser()
        self._shelves: dict[str, _Shelf] = {}

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    @property
    def protocol(self) -> str:
        return getattr(self._encoder, "protocol", "")

    def __repr__(self) -> str:
        return repr(self._encoder)

    @property
    def folder(self) -> Path:
        """Where the features of this encoder lie."""
        return self._root / hashlib.sha256(self.fingerprint.encode()).hexdigest()[:16]

    @property
    def logit_scale(self) -> float:
        meta = self.folder / "meta.json"
        try:
            return float(json.loads(meta.read_text(encoding="utf-8"))["logit_scale"])
        except FileNotFoundError:
            return self._encoder.logit_scale
        except (OSError, ValueError, KeyError, TypeError) as error:
            _report(meta, error)
            return self._encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Only texts that are not kept go to the encoder, each once; they are kept chunk by chunk."""
        import torch

        shelf = self._shelf("texts")
        distinct = list(dict.fromkeys(texts))
        rows = shelf.recall(distinct)
        missing = sorted((text for text in distinct if text not in rows), key=lambda text: (len(text), text))
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            made = check_rows(self._encoder.encode_texts(chunk), chunk, f"encoder {self!r}")
            self._keep(shelf, chunk, made)
            rows.update(zip(chunk, made, strict=True))
            report("encoding texts", start + len(chunk), len(missing))
        if not texts:
            return self._encoder.encode_texts(texts)
        return torch.from_numpy(np.stack([rows[text] for text in texts]))  # (T, D)

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """Images have no ids here, so this only passes through: see `recall_images` and `keep_images`."""
        return self._encoder.encode_images(images)

    def recall_images(self, ids: Sequence[str]) -> dict[str, Rows]:
        """The kept features, each (D,), by sample id; ids that are not kept are not in it."""
        return self._shelf("images").recall(list(dict.fromkeys(ids)))

    def keep_images(self, ids: Sequence[str], features: npt.ArrayLike) -> None:
        """Keeps the features (N, D) of samples. Raises `InputError` where a row is not finite or the cache cannot be
        written."""
        if ids:
            self._keep(self._shelf("images"), ids, check_rows(features, ids, f"encoder {self!r}"))

    def _shelf(self, kind: str) -> _Shelf:
        return self._shelves.setdefault(kind, _Shelf(self.folder, kind))

    def _keep(self, shelf: _Shelf, keys: Sequence[str], features: Rows) -> None:
        meta = self.folder / "meta.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not meta.exists():
                about = {"name": self.name, "fingerprint": self.fingerprint, "logit_scale": self._encoder.logit_scale}
                _write(meta, json.dumps(about, indent=2).encode())
            shelf.add(keys, features)
            shelf.tidy()
        except OSError as error:
            raise InputError(
                f"feature cache {str(self.folder)!r} cannot be written: {error.strerror or error}. "
                "Make it writable and see that the disk has room, or give another cache folder."
            ) from error


class _Shelf:
    """The shards of one kind ("texts", "images") in one folder, mapped into memory: key -> row."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self._rows: dict[str, tuple[Path, Rows]] = {}  # key -> its shard, its row (D,)
        self._sizes: dict[Path, int] = {}  # the shards that were read, by their number of rows
        self._damaged: set[Path] = set()

    def recall(self, keys: Iterable[str]) -> dict[str, Rows]:
        while not self._look():
            pass
        return {key: self._rows[key][1] for key in keys if key in self._rows}

    def add(self, keys: Sequence[str], features: Rows) -> Path:
        path = self._folder / f"{self._kind}-{uuid.uuid4().hex}.safetensors"
        _write(path, _pack(keys, features))
        self._take_in(path)
        return path

    def tidy(self) -> None:
        """Many small shards become one. They go only when it is there, so another process misses nothing."""
        small = {path for path, size in self._sizes.items() if size < _SMALL}
        rows = {key: row for key, (path, row) in self._rows.items() if path in small}
        if len(small) <= _MANY or not rows:
            return
        self.add(list(rows), np.stack(list(rows.values())))
        for path in small:
            path.unlink(missing_ok=True)
        self._forget(small)

    def _look(self) -> bool:
        """Takes in shards that are new, forgets those that are gone; False where one went in this very moment."""
        present = set(self._folder.glob(f"{self._kind}-*.safetensors"))
        new = sorted(present - self._sizes.keys() - self._damaged)
        gone = [path for path in new if not self._take_in(path)]
        self._forget(self._sizes.keys() - present)
        return not gone

    def _take_in(self, path: Path) -> bool:
        """False where the shard is gone; one that is damaged is reported, once, and left out."""
        try:
            keys, features = _unpack(path)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._damaged.add(path)
            _report(path, error)
            return True
        self._sizes[path] = len(keys)
        self._rows.update((key, (path, row)) for key, row in zip(keys, features, strict=True))
        return True

    def _forget(self, paths: Iterable[Path]) -> None:
        if gone := set(paths):
            self._sizes = {path: size for path, size in self._sizes.items() if path not in gone}
            self._rows = {key: place for key, place in self._rows.items() if place[0] not in gone}


def _pack(keys: Sequence[str], features: Rows) -> bytes:
    """The keys are JSON in a tensor of bytes: the header of a safetensors file has a limit, and texts may be long."""
    from safetensors.numpy import save

    packed = json.dumps(list(keys)).encode()
    features = np.ascontiguousarray(features, dtype=np.float32)  # (rows, D)
    tensors: dict[str, npt.NDArray[Any]] = {
        "features": features,
        "keys": np.frombuffer(packed, dtype=np.uint8),
        "crc32": np.array([_checksum(packed, features)], dtype=np.int64),
    }
    return bytes(save(tensors))


def _unpack(path: Path) -> tuple[list[str], Rows]:
    """The keys and the features (rows, D) of a shard. The rows stay in the file until they are looked at, and can be
    looked at when the file has been deleted. Raises `ValueError`, `KeyError` or `TypeError` for a damaged one."""
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    header = json.loads(mapped[8:start].tobytes())

    def tensor(name: str, kind: type[np.generic]) -> npt.NDArray[Any]:
        first, last = header[name]["data_offsets"]
        return np.asarray(mapped[start + first : start + last]).view(kind).reshape(header[name]["shape"])

    features, packed = tensor("features", np.float32), tensor("keys", np.uint8)
    if _checksum(packed.tobytes(), features) != int(tensor("crc32", np.int64)[0]):
        raise ValueError("its content does not match its checksum")
    return json.loads(packed.tobytes()), features


def _checksum(packed: bytes, features: Rows) -> int:
    return zlib.crc32(features.data.cast("B"), zlib.crc32(packed))


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)  # noqa: PTH105 (its name says what matters)
    finally:
        unfinished.unlink(missing_ok=True)


def _report(path: Path, error: BaseException) -> None:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    warnings.warn(
        f"feature cache: {str(path)!r} is damaged ({reason}); it is left out and what it held is computed again. "
        "It can be deleted.",
        DescbenchWarning,
        stacklevel=4,
    )
