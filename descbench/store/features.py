"""What an encoder has made once is read back, and then it need not even be loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from descbench.arrays import Rows, check_rows
from descbench.errors import InputError
from descbench.progress import report
from descbench.store.files import remembered
from descbench.store.sets import KeptSet, SetWriter, joined, kept_sets
from descbench.store.shards import Mask, Shards, report_damage, written_whole

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from descbench.devices import Compute
    from descbench.encoders.base import Encoder

_FORMAT = 2  # raised when files are written otherwise; part of a folder's name, so that versions never mix
_CHUNK = 1024  # texts that a kill may lose


class CachedEncoder:
    """An encoder that keeps text features by exact text and image features by sample id, below `root`.

    What belongs to one fingerprint lies in one folder: `meta.json`, the shards of texts, of images and of which texts
    are too long (see `store.shards.Shards`), and a list of the samples of each data set (see `store.sets.SetWriter`).
    """

    def __init__(self, encoder: Encoder, root: str | Path) -> None:
        self.encoder = encoder
        self._root = Path(root).expanduser()
        self._shelves: dict[str, Shards] = {}

    @property
    def name(self) -> str:
        return self.encoder.name

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    @property
    def protocol(self) -> str:
        return getattr(self.encoder, "protocol", "")

    @property
    def compute(self) -> Compute | None:
        return getattr(self.encoder, "compute", None)

    def __repr__(self) -> str:
        return repr(self.encoder)

    @property
    def folder(self) -> Path:
        """Where the features of this encoder lie."""
        return self._root / _folder_name(self.fingerprint)

    def files(self) -> AbstractContextManager[None]:
        """A block in which a file that has an id is not read again for it: `files.sqlite`, for all encoders."""
        return remembered(self._root / "files.sqlite")

    @property
    def logit_scale(self) -> float:
        meta = self.folder / "meta.json"
        try:
            return float(json.loads(meta.read_text(encoding="utf-8"))["logit_scale"])
        except FileNotFoundError:
            return self.encoder.logit_scale
        except (OSError, ValueError, KeyError, TypeError) as error:
            report_damage(meta, str(error))
            return self.encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(T, D): only texts that are not kept go to the encoder, each once; they are kept chunk by chunk."""
        import torch

        if not texts:
            return self.encoder.encode_texts(texts)
        shelf = self._shelf("texts")
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        distinct = list(place)
        found, rows = shelf.recall(distinct)
        if not found.all():
            missing = sorted(_where(distinct, ~found), key=lambda text: (len(text), text))
            whole: Rows | None = None  # (distinct, D)
            for start in range(0, len(missing), _CHUNK):
                chunk = missing[start : start + _CHUNK]
                made = check_rows(self.encoder.encode_texts(chunk), chunk, f"encoder {self!r}")
                self._keep(shelf, chunk, made)
                whole = np.empty((len(distinct), *made.shape[1:]), dtype=np.float32) if whole is None else whole
                whole[[place[text] for text in chunk]] = made
                report("encoding texts", start + len(chunk), len(missing))
            assert whole is not None
            if found.any():
                whole[found] = rows
            rows = whole
        return torch.from_numpy(rows if len(distinct) == len(texts) else rows[[place[text] for text in texts]])

    def overlong(self, texts: Sequence[str]) -> dict[str, tuple[int, int]]:
        """What the encoder says of texts that are longer than it reads (see `encoders.base`); of each it is kept, so
        that it is asked once, and not loaded where all texts are known. None where the encoder does not say."""
        told = getattr(self.encoder, "overlong", None)
        if told is None or not texts:
            return {}
        shelf = self._shelf("lengths")
        distinct = list(dict.fromkeys(texts))
        found, rows = shelf.recall(distinct)  # (T,), (M, 2): tokens, and how many are read; twice 0 where all are
        kept = zip(_where(distinct, found), rows.astype(int).tolist(), strict=True)
        long = {text: (tokens, read) for text, (tokens, read) in kept if tokens}
        if new := _where(distinct, ~found):
            said = told(new)
            with self.writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                shelf.add(new, np.array([said.get(text, (0, 0)) for text in new], dtype=np.float32))
                shelf.tidy()
            long |= said
        return {text: long[text] for text in distinct if text in long}

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> Tensor:
        """Images have no ids here, so this only passes through: see `recall_images` and `keep_images`."""
        return self.encoder.encode_images(images)

    def knows_images(self, ids: Sequence[str]) -> Mask:
        """(N,): of which samples there are features. They are not read."""
        return self._shelf("images").known(ids)

    def recall_images(self, ids: Sequence[str]) -> tuple[Mask, Rows]:
        """Of which samples there are features (N,), and the features of these, in order: (M, ...)."""
        return self._shelf("images").recall(ids)

    def keep_images(self, ids: Sequence[str], features: npt.ArrayLike) -> None:
        """Keeps the features (N, ...) of samples. Raises `InputError` where a row is not finite, or of another shape
        than those that are kept, and where the cache cannot be written."""
        if ids:
            self._keep(self._shelf("images"), ids, check_rows(features, ids, f"encoder {self!r}"))

    def note_set(self, dataset: Any, part: tuple[int, int] = (0, 1)) -> SetWriter:
        """A writer for the list of a data set's samples; `part` is the rank of this process and how many there are."""
        about = {"dataset": repr(dataset), "names": list(dataset.names), "encoder": self.fingerprint}
        return SetWriter(self.folder, about, part)

    def tidy(self) -> None:
        """Merges what small shards there are, as happens by itself when there are many."""
        for shelf in self._shelves.values():
            shelf.tidy(1)

    def gather(self, listing: Path | None) -> None:
        """Makes one of what several processes wrote, each its part: of their lists, `listing` among them, and shards.

        Raises `InputError` where the folder cannot be written.
        """
        if listing is not None:
            with self.writing():
                joined(listing)
        self.tidy()

    def _shelf(self, kind: str) -> Shards:
        if kind not in self._shelves:
            self._shelves[kind] = Shards(self.folder, kind, self.fingerprint)
        return self._shelves[kind]

    def _keep(self, shelf: Shards, keys: Sequence[str], features: Rows) -> None:
        meta = self.folder / "meta.json"
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not meta.exists():
                about = {
                    "format": _FORMAT,
                    "name": self.name,
                    "spelling": repr(self),
                    "fingerprint": self.fingerprint,
                    "logit_scale": self.encoder.logit_scale,
                }
                with written_whole(meta) as unfinished:
                    unfinished.write_text(json.dumps(about, indent=2), encoding="utf-8")
            shelf.add(keys, features)
            shelf.tidy()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raises `InputError` where the folder cannot be written."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"feature cache {str(self.folder)!r} cannot be written: {error.strerror or error}. "
                "Make it writable and see that the disk has room, or give another cache folder."
            ) from error


@dataclass(frozen=True)
class KeptEncoder:
    """What is kept of one encoder."""

    folder: Path
    name: str
    spelling: str
    images: int
    texts: int
    bytes: int
    sets: tuple[KeptSet, ...]

    def matches(self, what: str) -> bool:
        """Whether it is meant: by its spelling, its name, or the start (four characters) of its folder's name."""
        return what in (self.spelling, self.name) or (len(what) >= 4 and self.folder.name.startswith(what))


def kept_encoders(root: Path) -> Iterator[KeptEncoder]:
    """Of which encoders there are features below `root`. What an earlier or newer descbench wrote is not read."""
    for meta in sorted(root.glob("*/meta.json")):
        folder = meta.parent
        try:
            about = json.loads(meta.read_text(encoding="utf-8"))
            name, fingerprint = str(about["name"]), str(about["fingerprint"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            report_damage(meta, str(error))
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if folder.name != _folder_name(fingerprint):
            written = about.get("format", 0)
            of = "a newer" if isinstance(written, int) and written > _FORMAT else "an earlier"
            yield KeptEncoder(folder, name, f"{name} (of {of} descbench: not used)", 0, 0, size, ())
            continue
        images, texts = (len(Shards(folder, kind, fingerprint)) for kind in ("images", "texts"))
        yield KeptEncoder(folder, name, str(about["spelling"]), images, texts, size, tuple(kept_sets(folder)))


def _where(texts: list[str], mask: Mask) -> list[str]:
    return [texts[i] for i in np.flatnonzero(mask).tolist()]


def _folder_name(fingerprint: str) -> str:
    return hashlib.sha256(f"{_FORMAT} {fingerprint}".encode()).hexdigest()[:16]
