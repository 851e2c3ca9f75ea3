"""Reading from URLs, http(s) or what fsspec reads: whole or a part; whatever goes wrong is one line with the URL."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from descbench.errors import InputError

TIMEOUT = 30.0  # seconds without a byte
LARGEST = 2**28  # bytes of one picture: a server must not fill the memory

_NOT_STORED = (OSError, ValueError, ImportError, NotImplementedError)  # ImportError: it says what to install
_FAILED = (OSError, ValueError, http.client.HTTPException)  # a URLError and a timeout are OSErrors


def is_url(text: str) -> bool:
    """Whether it begins as an address of the web does."""
    return text.lower().startswith(("http://", "https://"))


def is_stored(text: str) -> bool:
    """Whether it begins as an address of another storage does: s3://, gs://, file://, whatever fsspec reads."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text.lower()) is not None and not is_url(text)


def fetch(url: str, start: int = 0, size: int | None = None) -> bytes:
    """What is behind a URL, or `size` bytes of it from `start`. Raises `InputError` with the reason."""
    if size == 0:  # no range of bytes can say so
        return b""
    if is_stored(url):
        return _stored(url, start, size)
    with opened(url, "" if size is None else f"{start}-{start + size - 1}") as response:
        content = response.read(LARGEST + 1 if size is None else size)
        left = response.length or 0  # of what the server has promised
    if len(content) > LARGEST:
        raise InputError(f"cannot read {url!r}: it has more than {LARGEST:,} bytes")
    if left or (size is not None and len(content) < size):
        raise InputError(f"cannot read {url!r}: it ends after {start + len(content)} bytes")
    return content


def _stored(url: str, start: int, size: int | None) -> bytes:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(url)
        content: bytes = files.cat_file(path, start, start + (LARGEST + 1 if size is None else size))
    except _NOT_STORED as error:
        raise InputError(f"cannot read {url!r}: {_reason(error)}") from error
    if len(content) > LARGEST:
        raise InputError(f"cannot read {url!r}: it has more than {LARGEST:,} bytes")
    if size is not None and len(content) < size:
        raise InputError(f"cannot read {url!r}: it ends after {start + len(content)} bytes")
    return content


@contextmanager
def opened_stored(url: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """A file of a storage, to read from, and its size where that is known. Raises `InputError` with the reason."""
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            yield file, getattr(file, "size", None)
    except _NOT_STORED as error:
        raise InputError(f"cannot read {url!r}: {_reason(error)}") from error


def matching_stored(pattern: str) -> list[str]:
    """The URLs of a storage's files that a pattern with wildcards stands for, sorted. Raises `InputError`."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(pattern)
        return [str(files.unstrip_protocol(found)) for found in sorted(files.glob(path))]
    except _NOT_STORED as error:
        raise InputError(f"cannot look for {pattern!r}: {_reason(error)}") from error


def is_absent(error: InputError) -> bool:
    """Whether an error of `fetch` says that nothing lies there; some stores say so by refusing."""
    cause = error.__cause__
    return getattr(cause, "code", 0) in (403, 404) or isinstance(cause, FileNotFoundError | PermissionError)


@contextmanager
def opened(url: str, part: str = "") -> Iterator[http.client.HTTPResponse]:
    """The answer of the server, to read from; `part` is a range of bytes, "0-" or "10-19", and the answer is that part.

    Raises `InputError` with the reason, also where the server cannot give parts.
    """
    headers = {"User-Agent": "descbench"} | ({"Range": f"bytes={part}"} if part else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            if part and response.status != 206:
                raise InputError(f"cannot read {url!r}: its server gives no parts of files; download it, name the copy")
            yield response
    except _FAILED as error:
        raise InputError(f"cannot read {url!r}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, HTTPError):
        return f"the server says {error.code} {error.reason}"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"no answer within {TIMEOUT:.0f} seconds"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended early"
    if isinstance(error, URLError):
        error = error.reason if isinstance(error.reason, BaseException) else error
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().rstrip(".")
