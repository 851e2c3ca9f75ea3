"""Images that somebody holds or names, without labels: what `predict` and `descbench classify` are given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from descbench.datasets.base import Sample
from descbench.datasets.images import LOADER, load_image
from descbench.datasets.sources import of_file
from descbench.errors import InputError


class PicturesDataset:
    """Paths and PIL images, in the order given; one that cannot be read is a sample that fails when loaded."""

    name = "pictures"
    names: tuple[str, ...] = ()

    def __init__(self, images: Sequence[str | Path | Image.Image]) -> None:
        for image in images:
            if not isinstance(image, str | Path | Image.Image):
                raise InputError(f"an image is a path or a PIL image, given: {type(image).__name__}")
        self._images = tuple(images)

    def __repr__(self) -> str:
        return f"{len(self)} pictures"

    def __len__(self) -> int:
        return len(self._images)

    @cached_property
    def fingerprint(self) -> str:
        """Of the contents, in order."""
        ids = "\n".join(sample.id for sample in self.samples())
        return f"pictures:{hashlib.sha256(ids.encode()).hexdigest()}"

    def samples(self) -> Iterator[Sample]:
        for number, image in enumerate(self._images):
            if isinstance(image, Image.Image):
                yield Sample(_pixels_id(image), partial(load_image, image), None, f"image {number}")
                continue
            yield of_file(Path(image).expanduser(), [], source=str(image))


def _pixels_id(image: Image.Image) -> str:
    """A name for what `load_image` makes of an image in memory: its pixels, palette and orientation decide that."""
    content = hashlib.sha256(f"{LOADER} {image.mode} {image.size} {sorted(image.getexif().items())}".encode())
    content.update(repr((image.getpalette(), image.info.get("transparency"))).encode())
    content.update(image.tobytes())
    return "memory:" + content.hexdigest()[:32]
