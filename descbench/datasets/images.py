"""The one loader: whatever picture a file or bytes hold becomes upright 8-bit RGB, or one clear error."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageOps

from descbench.errors import InputError
from descbench.store.files import known_files

LOADER = "images/1"  # raised when a file starts to give other pixels; part of every content id

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif",
                      ".heic", ".heif", ".jp2", ".ppm", ".pgm"})  # fmt: skip
"""How the names of pictures end. Pillow reads no HEIC: such a picture is named as one that cannot be read."""

NEXT_STEP = ". Replace or remove it."
"""How an error about a picture ends."""

_draft_side: ContextVar[int] = ContextVar("draft_side", default=0)  # what `load_draft` asks of the loader inside

# What Pillow raises for files that are damaged, each by its format's own way of failing.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError,
            AttributeError, NotImplementedError, MemoryError, Image.DecompressionBombError)  # fmt: skip


def load_image(source: str | Path | bytes | Image.Image, name: str = "") -> Image.Image:
    """A picture as RGB: turned as its EXIF orientation says, the first frame of an animation, transparency on white.

    The source is a path, the bytes of a file, or a PIL image; `name` is what a message calls it (default: its path).
    16-bit grey keeps its full range, 32-bit and floating grey is stretched from its darkest to its brightest pixel.
    A colour profile is not applied: encoders were trained on pictures read without, and their published figures, too.
    An image in memory is left as it is; a new one comes back.
    Raises `InputError` with path and reason when there is no picture, or only a part of one.
    """
    try:
        with _quiet:
            if isinstance(source, Image.Image):
                return _rgb(source.copy())
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source).expanduser()) as image:
                if side := _draft_side.get():
                    image.draft(None, (side, side))
                return _rgb(image)
    except _DAMAGED as error:
        raise unreadable(name or _called(source), _reason(source, error)) from error


def load_draft(load: Callable[[], Image.Image], side: int) -> Image.Image:
    """What `load` gives, with JPEGs decoded at a half, a quarter or an eighth of their size, as long as the shorter
    side keeps `side` pixels; other formats as ever."""
    token = _draft_side.set(side)
    try:
        return load()
    finally:
        _draft_side.reset(token)


def unreadable(name: str, reason: str) -> InputError:
    """The error for a picture that cannot be had."""
    return InputError(f"cannot read image {name!r}: {reason}{NEXT_STEP}")


def readable(path: str | Path) -> str:
    """A path as it can be shown and written down: bytes that are no UTF-8 as "\\xe9"."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _called(source: str | Path | bytes | Image.Image) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return getattr(source, "filename", "") or "in memory"


def bytes_id(content: bytes) -> str:
    """What `content_id` says of a file with these bytes."""
    return hashlib.sha256(content + LOADER.encode()).hexdigest()[:32]


def content_id(path: Path) -> str:
    """A name for what `load_image` makes of a file: a hash of its bytes and of the loader's version.

    A file that is known and has not changed is not opened (see `store.files.remembered`).
    Raises `InputError` when the file cannot be read.
    """
    files = known_files()
    if files is not None and (known := files.find(path, LOADER)):
        return known
    begun = time.time_ns()
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
            seen = os.fstat(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        raise unreadable(str(path), reason) from error
    found.update(LOADER.encode())
    name = found.hexdigest()[:32]
    if files is not None:
        files.note(path, LOADER, name, seen, begun)
    return name


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    image = _upright(image)
    if image.mode.startswith("I;16"):
        return _from_grey(np.asarray(image, dtype=np.float64) / 65535)
    if image.mode in ("I", "F"):
        grey = np.asarray(image, dtype=np.float64)
        if not np.isfinite(grey).all():
            raise ValueError("it holds pixels that are no numbers")
        low, high = grey.min(), grey.max()
        return _from_grey((grey - low) / ((high - low) or 1))
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, "white")
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:  # the pixels are whole: a picture whose EXIF block is damaged is taken as it lies
        return image


def _from_grey(grey: np.ndarray[Any, Any]) -> Image.Image:
    """(H, W) from 0 to 1 -> RGB."""
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")


def _reason(source: str | Path | bytes | Image.Image, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    if source == b"" or (isinstance(source, str | Path) and _is_empty(Path(source).expanduser())):
        return "the file is empty"
    if isinstance(error, PIL.UnidentifiedImageError):
        heic = isinstance(source, str | Path) and Path(source).suffix.lower() in (".heic", ".heif")
        return "it is not a picture in a format that Pillow reads" + ("; make a JPEG of it" if heic else "")
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return text.splitlines()[0].rstrip(".")


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


class _Quiet:
    """Pillow's warnings are off while any thread decodes: what matters in them is an error here, the rest is noise.

    `warnings.catch_warnings` is not made for threads, so the first one in enters it and the last one out leaves it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\b")
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._caught:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()
