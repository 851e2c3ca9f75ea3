"""What happens to disks: one that is full, and one that may only be read."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: to who writes, that is a disk that is full."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


@contextmanager
def nobody() -> Iterator[None]:
    """Who may write everywhere becomes somebody who may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextmanager
def only_read(folder: Path) -> Iterator[None]:
    """The folder and all in it may only be read, by `nobody` as well: it must not lie below a folder of one's own."""
    inside = [folder, *folder.rglob("*")]
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with nobody():
            yield
    finally:
        for path in inside:
            path.chmod(0o755)
