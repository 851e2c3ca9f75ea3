"""Encoding on a cluster, by Ray Data: samples go out to a pool of encoders, features come back to the one who keeps."""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descbench import embedding
from descbench.arrays import check_rows
from descbench.decoding import Batch, batches, cores
from descbench.errors import DescbenchError, InputError, PartialError, SpecError
from descbench.store import CachedEncoder

if TYPE_CHECKING:
    from descbench.datasets.base import Dataset, Sample

_WAVE = 2**20  # samples that are on their way together: about 1 GB here, and an actor is started once for so many
_TOGETHER = 4  # batches that an actor is given at once: it decodes one while it encodes another
_RETRIES = 3  # times that a block is begun again; a picture that kills each process which decodes it must not go round


@dataclass(frozen=True)
class Pool:
    """The actors that encode: as many as there is work for, from `least` to `most`, each with `gpus` of a GPU.

    `address` is a cluster's, "auto" the one that this machine belongs to; None starts one on this machine, for the run.
    Without `most` there are as many as the cluster holds now, without `gpus` one GPU each where it has any. A batch has
    `batch_size` pictures. Raises `SpecError` for numbers that cannot be.
    """

    address: str | None = None
    least: int = 1
    most: int | None = None
    gpus: float | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.least < 1 or (self.most is not None and self.most < self.least):
            raise SpecError(f"actors from {self.least} to {self.most}: what would do: 1 or more, the smaller first")
        if self.gpus is not None and not (0 <= self.gpus < 1 or self.gpus == int(self.gpus)):
            raise SpecError(f"{self.gpus} GPUs for an actor: what would do: a part of one, as 0.5, or a whole number")


def keep(dataset: Dataset, encoder: CachedEncoder, pool: Pool) -> embedding.Kept:
    """`embedding.keep`, with the pictures read, decoded and encoded by the actors of a pool.

    Paths and models must be the same on all machines; the store need not, since features come back here and are kept
    here: a block whose actor is lost is encoded again by another, and what had come back stays.
    Raises `InputError` where Ray is not installed, no cluster can be reached, it has no room for an actor, or samples
    or encoder cannot be sent; `PartialError` where actors are lost again and again.
    """
    away = _Away(encoder.encoder)
    engine = partial(_encoded, pool=pool, away=away)
    return embedding.keep(dataset, CachedEncoder(away, encoder.folder.parent), engine=engine)


class _Away:
    """What is to be known of an encoder where it is not loaded: its scale comes back with the first features."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.logit_scale = 0.0

    def __repr__(self) -> str:
        return repr(self.encoder)

    def encode_images(self, images: Sequence[Any]) -> Any:
        raise AssertionError("the actors encode")

    encode_texts = encode_images


def _encoded(samples: Iterator[Sample], pool: Pool, away: _Away) -> Generator[Batch, None, None]:
    """An `embedding.Engine`. Where there is nothing to encode, Ray is not even imported."""
    first = next(samples, None)
    if first is None:
        return
    samples = chain([first], samples)
    with _connected(pool.address) as ray:
        try:
            encode = _mapping(ray, pool, away)
            while wave := {sample.id: sample for sample in islice(samples, _WAVE)}:
                blocks = [ray.put(block) for block in _blocks(wave.values(), pool.batch_size * _TOGETHER)]
                found = encode(ray.data.from_arrow_refs(blocks))
                for block in found.iter_batches(batch_size=None, batch_format="pyarrow"):
                    batch = _batch(wave, block["id"].to_pylist(), block["made"].to_pylist())
                    away.logit_scale = block["scale"][0].as_py()
                    yield batch
        except ray.exceptions.RayError as error:
            raise _told(error) from error


def _batch(wave: Mapping[str, Sample], ids: list[str], made: list[bytes]) -> Batch:
    """What came back, each either a row or the reason why there is none. Raises what ended a block."""
    outcomes = [(wave[id_], pickle.loads(outcome)) for id_, outcome in zip(ids, made, strict=True)]
    for _, outcome in outcomes:
        if isinstance(outcome, DescbenchError):
            raise outcome
    good = [(sample, row) for sample, row in outcomes if not isinstance(row, str)]
    failed = [(sample, reason) for sample, reason in outcomes if isinstance(reason, str)]
    return Batch([sample for sample, _ in good], np.stack([row for _, row in good]) if good else None, failed)


def _blocks(samples: Iterable[Sample], size: int) -> Iterator[Any]:
    """The samples, not their pictures, as Ray's workers are sent them: a row each `size` of them, since what they share
    is then sent once. Raises `InputError` where they cannot be sent."""
    import pyarrow as pa

    queue = iter(samples)
    while some := list(islice(queue, size)):
        yield pa.table({"samples": [_packed(some, "the samples of this data set")]})


def _packed(what: Any, called: str) -> bytes:
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(what))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"{called} cannot be sent to other processes ({error}). Run it without an engine.") from error


def _mapping(ray: Any, pool: Pool, away: _Away) -> Any:
    """The stage that encodes, as a function of a Ray data set."""
    cpus, gpus, holds = _room(ray, pool, away.encoder)
    most = max(pool.most or holds, pool.least)
    if pool.address is None and pool.least > holds:
        raise InputError(
            f"this machine has room for {holds} actors of {cpus} cores and {gpus:g} GPUs, and {pool.least} are asked "
            "for. Ask for fewer, or give the --address of a cluster"
        )
    sent = (_packed(away.encoder, repr(away)), away.fingerprint, str(Path.cwd()), pool.batch_size, cpus)

    def encode(data: Any) -> Any:
        with warnings.catch_warnings():
            # Ray's own default is to begin a block again for ever; up to 2.63 there is this way to say otherwise.
            warnings.simplefilter("ignore", DeprecationWarning)
            return data.map_batches(
                _Actor,
                fn_constructor_args=sent,
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=pool.least, max_size=most),
                num_cpus=cpus,
                num_gpus=gpus,
                ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": _RETRIES},
            )

    return encode


def _room(ray: Any, pool: Pool, encoder: Any) -> tuple[int, float, int]:
    """The cores and GPUs of an actor, and how many such actors the cluster holds now.

    Who has GPUs shares the cores of a machine among what its GPUs hold; else an actor has one core.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    graphic = [machine for machine in machines if machine.get("GPU")]
    on_cpu = getattr(getattr(encoder, "compute", None), "device", "auto") == "cpu"
    gpus = pool.gpus if pool.gpus is not None else 1.0 if graphic and not on_cpu else 0.0
    if not gpus:
        return 1, 0.0, int(sum(machine.get("CPU", 0) for machine in machines))
    shares = [machine.get("CPU", 1) / machine["GPU"] * gpus for machine in graphic]
    cpus = max(1, int(min(shares, default=1)))
    fits = [min(machine["GPU"] / gpus, machine.get("CPU", 1) / cpus) for machine in graphic]
    return cpus, gpus, sum(map(int, fits))


class _Actor:
    """One encoder, in a process of Ray's. It keeps nothing: what it gives back is kept where the run was started."""

    def __init__(self, encoder: bytes, fingerprint: str, folder: str, batch_size: int, cpus: int) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)  # so that relative paths mean the same
        os.environ["LOCAL_WORLD_SIZE"] = "1"
        os.environ["LOCAL_WORLD_SIZE"] = str(max(1, cores() // cpus))  # several actors share a machine's cores
        self._sent, self._fingerprint = encoder, fingerprint
        self._batch_size = batch_size

    @cached_property
    def _encoder(self) -> Any:
        """Raises `InputError` where it is not the model that was sent."""
        encoder = pickle.loads(self._sent)
        if encoder.fingerprint != self._fingerprint:
            raise InputError(
                f"{encoder!r} is another model on another machine of the cluster. Give all machines the same files, "
                "and the same versions of descbench and the model's library"
            )
        return encoder

    def __call__(self, block: Any) -> Any:
        import pyarrow as pa

        samples: list[Sample] = pickle.loads(block["samples"][0].as_py())
        try:
            outcomes = list(self._outcomes(samples))
            scale = float(self._encoder.logit_scale)
        except DescbenchError as error:  # goes back as what was made: Ray would hand on its text, and not its kind
            outcomes, scale = [(samples[0].id, error)], 0.0
        made = pa.array([pickle.dumps(outcome) for _, outcome in outcomes], pa.binary())
        return pa.table({"id": [id_ for id_, _ in outcomes], "made": made, "scale": [scale] * len(outcomes)})

    def _outcomes(self, samples: list[Sample]) -> Iterator[tuple[str, Any]]:
        """The id of each sample with its row, or with the reason why it has none."""
        prepare, encode = embedding.steps(self._encoder)
        for batch in batches(embedding.drafts(iter(samples), self._encoder), prepare, size=self._batch_size):
            yield from ((sample.id, reason) for sample, reason in batch.failed)
            if batch.samples:
                sources = [sample.source for sample in batch.samples]
                rows = check_rows(encode(batch.inputs), sources, f"encoder {self._encoder!r}")
                yield from zip((sample.id for sample in batch.samples), rows, strict=True)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The library, connected to a cluster, quiet; one that is connected already is used and left as it is."""
    # Before the import, which reads them: no counts of its use are sent, and what Ray tells its developers stays in
    # its log files.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"the engine ray needs the library Ray ({error}): pip install 'descbench[ray]'") from error
    if address and re.fullmatch(r"[^/]+:\d+", address):
        _check_listening(address)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    mine = not ray.is_initialized()
    try:
        if mine:
            # An empty address would mean what the environment says; "local" means a cluster of our own.
            ray.init(address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield ray
    except (ConnectionError, ValueError) as error:
        if ray.is_initialized():
            raise
        raise _unreachable(address, str(error).strip().splitlines()[0].partition(". ")[0]) from error
    finally:
        if mine and ray.is_initialized():
            ray.shutdown()


def _check_listening(address: str) -> None:
    """Raises `InputError` where nobody is there: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from error


def _unreachable(address: str | None, reason: str) -> InputError:
    return InputError(
        f"no Ray cluster at {address!r} can be reached: {reason.rstrip('.')}. Start one (ray start --head); set "
        "RAY_AUTH_MODE=token for one that asks for its token; or leave the address out to use this machine alone"
    )


def _told(error: BaseException) -> DescbenchError:
    """That actors were lost, or that one failed, and why."""
    cause, raised, _ = str(error).rpartition("\n\nThe above exception was the direct cause")
    line = next((text for text in reversed((cause or str(error)).splitlines()) if text.strip()), type(error).__name__)
    what = "an actor of the cluster failed" if raised else "the actors of the cluster were lost"
    return PartialError(
        f"{what} ({line.strip().rstrip('.')}). What was encoded is kept; the same command again encodes the rest. "
        "Where memory was short: fewer actors, or a smaller batch size"
    )
