"""`descbench embed`: encode the images of a data set once, and keep their features."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from descbench.cli.common import (
    DEFAULT_ENCODER,
    BatchSize,
    CacheDir,
    Compile,
    Data,
    Device,
    Draft,
    Encoder,
    Json,
    Limit,
    Precision,
    Split,
    Strict,
    Views,
    Workers,
    cache_dir,
    encoder_for,
    note_unreadable,
    open_encoder,
    print_json,
    progress_shown,
)
from descbench.errors import InputError, PartialError

if TYPE_CHECKING:
    from descbench.cluster import Pool


def command(
    data: Data,
    encoder: Encoder = None,
    views: Views = "",
    split: Split = "",
    limit: Limit = None,
    strict: Strict = False,
    batch_size: BatchSize = 64,
    workers: Workers = 0,
    engine: Annotated[
        Literal["ray"] | None, typer.Option("--engine", help="Encode on a cluster: ray. Default: in this process.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Of a Ray cluster: auto, HOST:PORT, ray://HOST:PORT. Default: this machine only."
        ),
    ] = None,
    actors: Annotated[
        str, typer.Option("--actors", help="Encoders on the cluster: a number, or 2:16, as many as there is work for.")
    ] = "",
    gpus: Annotated[
        float | None,
        typer.Option("--gpus-per-actor", min=0, help="As 1 or 0.25: 4 actors share a GPU. Default: 1 or 0."),
    ] = None,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    draft: Draft = False,
    cache: CacheDir = None,
    json: Json = False,
) -> None:
    """Encode the images of a data set and keep their features; what is kept already is not encoded again.

    Every other command then finds them, and loads no model for them. After an interruption the same command goes on.
    Under torchrun each process takes its share, on a GPU of its own: torchrun --nproc-per-node 8 -m descbench embed
    With --engine ray the machines of a cluster encode, and this one keeps.

    Example: descbench embed folder:./photos --encoder demo
    """
    from descbench import cluster, spec
    from descbench.embedding import keep

    rank, number = place = _place()
    pool = _pool(engine, address, actors, gpus, batch_size, workers, number)
    source = spec.dataset(data, split=split, limit=limit, strict=strict)
    chosen = encoder_for(data, encoder)
    own = _own_device(device) if number > 1 else device
    others = _joined(number)
    options = {"device": own, "precision": precision, "compile": compile, "draft": draft, "views": views}
    model = open_encoder(chosen, cache_dir(cache), **options)
    if not hasattr(model, "keep_images"):
        raise InputError(f"{chosen} encodes no images; what would do: an encoder with a model, as {DEFAULT_ENCODER}")
    with progress_shown() if rank == 0 else nullcontext():
        if pool is None:
            kept = keep(source, model, batch_size=batch_size, workers=workers, part=place)
        else:
            with redirect_stdout(sys.stderr):  # Ray prints there what it says of processes that are lost
                kept = cluster.keep(source, model, pool)
    told = {
        "images": kept.images,
        "encoded": kept.encoded,
        "failures": [list(failure) for failure in kept.failures],
        "seconds": kept.seconds,
    }
    shares = _gathered(told, number, others)
    failures = [failure for share in shares for failure in share["failures"]]
    if rank == 0:
        if number > 1:
            model.gather(kept.listing)
        total = {name: sum(share[name] for share in shares) for name in ("images", "encoded")}
        found = total | {
            "failures": failures,
            "seconds": max(share["seconds"] for share in shares),
            "encoder": repr(model),
            "folder": str(model.folder),
            "bytes": sum(path.stat().st_size for path in model.folder.rglob("*.safetensors")),
        }
        if json:
            print_json(found)
        else:
            typer.echo(_told(data, found, number))
        note_unreadable(failures)
    if failures:
        raise typer.Exit(3)


def _told(data: str, found: dict[str, Any], processes: int) -> str:
    known = found["images"] - found["encoded"] - len(found["failures"])
    parts = [f"{found['encoded']:,} encoded", f"{known:,} known already"]
    parts += [f"{len(found['failures']):,} cannot be read"] if found["failures"] else []
    head = f"{data} with {found['encoder']}: {found['images']:,} images, {', '.join(parts)}"
    if found["encoded"]:
        rate = found["encoded"] / found["seconds"]
        by = f" by {processes} processes" if processes > 1 else ""
        head += f", {rate:,.1f} images/s{by} over {found['seconds']:,.1f} s"
    return f"{head}\nkept in {found['folder']} ({found['bytes'] / 1e6:,.1f} MB of features)"


def _pool(
    engine: str | None,
    address: str | None,
    actors: str,
    gpus: float | None,
    batch_size: int,
    workers: int,
    processes: int,
) -> Pool | None:
    """The actors that --engine ray means; None without it."""
    from descbench.cluster import Pool

    if engine is None:
        if address or actors or gpus is not None:
            raise InputError("--address, --actors and --gpus-per-actor are about a cluster; add --engine ray")
        return None
    if processes > 1 or workers:
        raise InputError("--engine ray starts its own processes: leave torchrun and --workers out, and give --actors")
    least, _, most = actors.partition(":")
    if actors and not (least.isdecimal() and (most.isdecimal() or ":" not in actors)):
        raise InputError(f"--actors {actors!r}: what would do: a number, as 4, or the least and the most, as 2:16")
    if not actors:
        return Pool(address, gpus=gpus, batch_size=batch_size)
    return Pool(address, int(least), int(most or least), gpus, batch_size)


def _place() -> tuple[int, int]:
    """The rank of this process and how many there are, as torchrun says it."""
    names = ("RANK", "WORLD_SIZE")
    given = [os.environ.get(name, "") for name in names]
    if not any(given):
        return 0, 1
    if not all(text.isdecimal() for text in given) or int(given[0]) >= int(given[1]):
        raise InputError(
            f"RANK is {given[0]!r} and WORLD_SIZE is {given[1]!r}; torchrun sets both, ranks from 0. Unset them to run "
            "in one process"
        )
    return int(given[0]), int(given[1])


def _own_device(device: str) -> str:
    """The GPU of this process, where it may be any."""
    import torch

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return device


def _joined(number: int) -> Any:
    """The processes of this run, connected from the start: where one is lost later, the others hear of it."""
    if number == 1:
        return None
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    limit = timedelta(minutes=5)
    try:
        store, rank, _ = next(rendezvous("env://", timeout=limit))
        # torchrun --max-restarts starts processes anew over the same store, which still says where the lost ones were.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=number, timeout=limit)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"this is one of {number} processes and cannot reach the others: {reason}. Start them with torchrun, or "
            "unset RANK and WORLD_SIZE to run in one process"
        ) from error
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))  # one may have much more to do than another


def _gathered(told: dict[str, Any], number: int, others: Any) -> list[dict[str, Any]]:
    """What each process did, once all are done. None ends before: torchrun would end the others with it."""
    if number == 1:
        return [told]
    import torch.distributed as dist

    shares: list[Any] = [None] * number
    try:
        dist.all_gather_object(shares, told, group=others)
    except RuntimeError as error:
        raise PartialError(
            f"another process of this run was lost ({str(error).splitlines()[0]}). What was encoded is kept; the same "
            "command again encodes the rest"
        ) from error
    dist.destroy_process_group()
    return shares
