"""Predictions for any number of pictures: features come block by block, and what is said of them goes into a file."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descbench.embedding import Embedded, blocks, files_known, unreadable
from descbench.errors import DescbenchWarning, InputError
from descbench.evaluation import protocol_of, versions
from descbench.progress import report
from descbench.store.shards import sweep, written_whole

if TYPE_CHECKING:
    from descbench.classifier import Classifier
    from descbench.datasets.base import Dataset
    from descbench.predictions import Predictions


@dataclass(frozen=True)
class Scored:
    """What `score` wrote: a row for each of `images` but the `failures`, in the order of the data set."""

    path: Path
    images: int
    failures: tuple[tuple[str, str], ...]  # (source, reason)
    seconds: float

    @property
    def rows(self) -> int:
        return self.images - len(self.failures)


def score(
    classifier: Classifier,
    dataset: Dataset,
    path: str | Path,
    *,
    top_k: int = 5,
    block: int = 2**14,
    batch_size: int = 64,
    workers: int = 0,
) -> Scored:
    """Write the best `top_k` classes of each picture into a parquet file. Labels are not needed, and not looked at.

    Its columns are `id`, `source`, and best first `ids`, `names` and `scores` (lists of K); a row group has the `block`
    pictures that are looked at together. Features that are kept (or that the data set holds) are read, others encoded
    and kept. Memory does not grow with the number of pictures. The file is there whole or not at all.
    Raises `InputError` when no picture can be read, and where the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file to write: {path / 'predictions.parquet'}")
    began = time.perf_counter()
    images, failures = 0, list[tuple[str, str]]()
    notes = _Notes()
    classifier.check_texts()
    with files_known(classifier.encoder), _File(path, _about(classifier, dataset, top_k)) as file:
        for some in blocks(dataset, classifier.encoder, size=block, batch_size=batch_size, workers=workers):
            images += len(some) + len(some.failures)
            failures += some.failures
            if len(some):
                with notes.taken():
                    predictions = classifier.predict_features(some.features, top_k)
                file.write(some, predictions)
            report("scoring images", images, max(images, len(dataset)))
        if images == len(failures):
            raise unreadable(dataset, failures)
    notes.close()
    return Scored(path, images, tuple(failures), time.perf_counter() - began)


def _about(classifier: Classifier, dataset: Dataset, top_k: int) -> dict[str, Any]:
    return {
        "dataset": repr(dataset),
        "method": repr(classifier.method),
        "encoder": repr(classifier.encoder),
        "llm": "" if classifier.llm is None else repr(classifier.llm),
        "classes": len(classifier.vocabulary),
        "top_k": top_k,
        "protocol": protocol_of(classifier),
        "compute": compute.used if (compute := getattr(classifier.encoder, "compute", None)) else {},
        "versions": versions(),
    }


class _File:
    """A parquet file that gets its name when it is whole. Raises `InputError` where it cannot be written."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        import pyarrow as pa

        kinds = {
            "id": pa.string(),
            "source": pa.string(),
            "ids": pa.list_(pa.int64()),
            "names": pa.list_(pa.string()),
            "scores": pa.list_(pa.float32()),
        }
        self._schema = pa.schema(kinds.items(), metadata={"descbench": json.dumps(about)})
        self._path = path

    def __enter__(self) -> _File:
        import pyarrow.parquet as pq

        with self._writing(), ExitStack() as stack:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self._path.parent, f".{escape(self._path.name)}.*")
            self._writer = pq.ParquetWriter(stack.enter_context(written_whole(self._path)), self._schema)
            stack.push(self._close)
            self._end = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        with self._writing():
            self._end.__exit__(*error)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError) if kind else nullcontext():  # what has failed already says why
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise InputError(
                f"{str(self._path)!r} cannot be written: {reason}. See that its folder can be written to and the disk "
                "has room, or give another file. What was encoded is kept."
            ) from error

    def write(self, block: Embedded, predictions: Predictions) -> None:
        import pyarrow as pa

        count, k = predictions.ids.shape
        offsets = pa.array(range(0, count * k + 1, k), pa.int32())
        positions = predictions.vocabulary.positions(predictions.ids)
        columns = [
            pa.array(_plain(block.ids)),
            pa.array(_plain(block.sources)),
            pa.ListArray.from_arrays(offsets, pa.array(predictions.ids.ravel())),
            pa.ListArray.from_arrays(offsets, pa.array(predictions.vocabulary.names).take(pa.array(positions.ravel()))),
            pa.ListArray.from_arrays(offsets, pa.array(predictions.scores.ravel(), pa.float32())),
        ]
        with self._writing():
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))


def _plain(texts: Sequence[str]) -> list[str]:
    """A name of a file may hold bytes that are no UTF-8, and a parquet file may not."""
    return [text.encode("utf-8", "backslashreplace").decode() for text in texts]


class _Notes:
    """Warnings that blocks have in common but for their numbers: the first is said, the others are counted."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    @contextmanager
    def taken(self) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for one in caught:
            kind = re.sub(r"\d+", "0", str(one.message).partition(":")[0])
            self._said[kind] = self._said.get(kind, 0) + 1
            if self._said[kind] == 1:
                warnings.warn(one.message, one.category, stacklevel=4)

    def close(self) -> None:
        for kind, often in self._said.items():
            if often > 1:
                message = f"so it was in {often} blocks of images, with other numbers: {kind}"
                warnings.warn(message, DescbenchWarning, stacklevel=3)
