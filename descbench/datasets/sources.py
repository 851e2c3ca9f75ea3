"""A sample from wherever its picture lies: a file, bytes, a URL; and the sample of a picture that is not there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from PIL import Image

from descbench.datasets.base import Sample
from descbench.datasets.images import LOADER, bytes_id, content_id, load_image, readable, unreadable
from descbench.datasets.web import fetch
from descbench.errors import InputError


def labelled(name: str, load: Callable[[], Image.Image], labels: Sequence[int], source: str, given: str = "") -> Sample:
    """A sample with any number of right labels. A `given` id stands before `name`, which tells the picture."""
    accepted = tuple(dict.fromkeys(labels))
    return Sample(
        f"{given}:{name}" if given else name,
        load,
        accepted[0] if accepted else None,
        source,
        accepted if len(accepted) > 1 else (),
    )


def of_file(path: Path, labels: Sequence[int], *, at: str = "", given: str = "", source: str = "") -> Sample:
    """The picture in a file; `at` names it where it cannot be read (default: its path), which says so when loaded."""
    try:
        name = content_id(path)
    except InputError:
        name = f"unreadable:{readable(at or path)}"
    return labelled(name, partial(load_image, path), labels, readable(source or path), given)


def of_bytes(content: bytes, labels: Sequence[int], source: str, given: str = "") -> Sample:
    """The picture that bytes in memory hold."""
    return labelled(bytes_id(content), partial(load_image, content, source), labels, source, given)


def of_url(url: str, labels: Sequence[int], given: str = "") -> Sample:
    """The picture behind a URL, fetched when it is loaded; it is named by the URL, as nothing else is known of it."""
    name = "url:" + hashlib.sha256(f"{LOADER} {url}".encode()).hexdigest()[:32]
    return labelled(name, partial(_fetched, url), labels, url, given)


def of_nothing(source: str, reason: str, labels: Sequence[int], given: str = "") -> Sample:
    """A picture that is named and not there: loading it says why."""
    return labelled(f"unreadable:{source}", partial(_refuse, source, reason), labels, source, given)


def _fetched(url: str) -> Image.Image:
    return load_image(fetch(url), url)


def _refuse(source: str, reason: str) -> NoReturn:
    raise unreadable(source, reason)
