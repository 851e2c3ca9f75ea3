"""`descbench doctor`: what is installed here, and whether it works, tried and not guessed."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from descbench.cli.common import CacheDir, Device, Encoder, Json, Llm, cache_dir, print_json
from descbench.errors import DescbenchError, listed

PACKAGES = ("torch", "torchvision", "open_clip_torch", "transformers", "openai", "datasets", "pillow", "safetensors")
EXTRAS = {
    "ray": "`embed --engine ray`",
    "xgrammar": "JSON by a schema from local models",
    "scipy": "the labels of Flowers102 and StanfordCars",
    "s3fs": "pictures and shards in s3://",
    "gcsfs": "pictures and shards in gs://",
}
LEAST = 5e9  # bytes of a disk, below which that is worth a word
KINDS = ("methods", "llms", "encoders", "datasets")


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it works ("ok"), is only worth knowing ("note") or does not ("wrong"), and more."""

    what: str
    state: str
    told: str


def command(
    encoder: Encoder = None, llm: Llm = None, device: Device = "auto", cache: CacheDir = None, json: Json = False
) -> None:
    """Say what is installed, on which device it computes, what the cache holds, and whether all that works. --encoder
    loads one and encodes a picture, --llm asks one question. Exit code 3 where something does not work.

    Example: descbench doctor --llm http://localhost:8000/v1#Qwen/Qwen3-8B
    """
    found: list[Finding] = []
    for finding in _findings(encoder, llm, device, cache_dir(cache)):
        found.append(finding)
        if not json:
            typer.echo(f"{finding.state:<6}{finding.what:<13} {finding.told}")
    if json:
        print_json([asdict(finding) for finding in found])
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(3)


def _findings(encoder: str | None, llm: str | None, device: str, cache: Path) -> Iterator[Finding]:
    from descbench.plugins import version_of

    yield Finding("descbench", "ok", f"{version_of('descbench')}, Python {platform.python_version()}")
    missing = [package for package in PACKAGES if not version_of(package)]
    told = listed((f"{package} {version_of(package)}" for package in PACKAGES if package not in missing), 20)
    yield Finding(
        "packages", "wrong" if missing else "ok", f"{told}{'; missing: ' if missing else ''}{listed(missing)}"
    )
    extras = [name for name in EXTRAS if version_of(name)]
    yield Finding("extras", "ok", listed(f"{name} {version_of(name)}" for name in extras) or "none")
    if absent := [f"{name} ({use})" for name, use in EXTRAS.items() if name not in extras]:
        yield Finding("extras", "note", f"not here, and needed only for: {listed(absent)}")
    yield from _plugins()
    yield _tried("device", lambda: _device(device))
    yield _tried("demo", lambda: _demo(device))
    yield from _caches(cache)
    yield from _access()
    if encoder:
        yield _tried("encoder", lambda: f"{encoder}: {_encoder(encoder, device)}")
    if llm:
        yield _tried("llm", lambda: f"{llm}: {_asked(llm)}")


def _tried(what: str, run: Any) -> Finding:
    try:
        return Finding(what, "ok", run())
    except (DescbenchError, ImportError, OSError, RuntimeError) as error:
        return Finding(what, "wrong", " ".join(str(error).split()) or type(error).__name__)


def _plugins() -> Iterator[Finding]:
    """Other packages' methods, models and data sets: each imported, since a broken one is found out too late else."""
    from descbench.plugins import offered

    for kind in KINDS:
        for name, plugin in offered(kind).items():
            finding = _tried(name, lambda plugin=plugin: plugin.load() and f"of the package {plugin.packages}")
            yield Finding(f"{kind[:-1]} {name}", finding.state, finding.told)


def _device(given: str) -> str:
    import torch

    from descbench.decoding import cores
    from descbench.devices import pick_device

    device = pick_device(given)
    used = f"{device}, {cores()} cores, {torch.get_num_threads()} threads"
    if device.startswith("cuda"):
        about = torch.cuda.get_device_properties(device)
        used += f"; {about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    return used


def _demo(device: str) -> str:
    """A bird that is drawn and recognised by its entry in the field guide."""
    from descbench import spec
    from descbench.classifier import Classifier
    from descbench.demo.guide import species
    from descbench.demo.renderer import render
    from descbench.demo.tour import whole_guide
    from descbench.vocabulary import Vocabulary

    birds = species()
    names = [page.name for page in birds]
    start = time.perf_counter()
    model = spec.encoder("demo", device=device)
    classifier = Classifier(Vocabulary(names), spec.method("dclip"), model, descriptions=whole_guide())
    answer = classifier.predict([render(birds[7].bird, 7)], top_k=1).names()[0][0]
    if answer != names[7]:
        raise RuntimeError(f"a picture of {names[7]} is taken for {answer}: this machine computes something else")
    return f"its CLIP knows {answer} by its traits, {time.perf_counter() - start:.1f} s"


def _caches(cache: Path) -> Iterator[Finding]:
    from descbench.store import ReplyStore
    from descbench.store.features import kept_encoders

    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    room = f"{free / 1e9:,.0f} GB free"
    if cache.exists() and not os.access(cache, os.W_OK):
        yield Finding("cache", "note", f"{cache} may only be read: what it holds is used, and nothing new is kept")
    else:
        state = "note" if free < LEAST else "ok"
        yield Finding("cache", state, f"{cache}, {room}{'' if cache.exists() else '; it is made when it is needed'}")
    replies = cache / "replies.sqlite"
    if replies.is_file():
        yield _tried("replies", lambda: f"{len(ReplyStore(replies, to_read=True)):,} in {replies}")
    if (cache / "features").is_dir():
        yield _tried("features", lambda: listed(map(_told_of, kept_encoders(cache / "features"))) or "none")


def _told_of(kept: Any) -> str:
    return f"{kept.images:,} images and {kept.texts:,} texts of {kept.spelling}"


def _access() -> Iterator[Finding]:
    """What the environment says of servers. Keys are not shown."""
    from huggingface_hub import constants

    key, url = os.environ.get("OPENAI_API_KEY"), os.environ.get("OPENAI_BASE_URL")
    where = f" for {url}" if url else ""
    told = f"OPENAI_API_KEY is {'set' if key else 'not set: openai:MODEL needs it, your own server does not'}{where}"
    yield Finding("openai", "ok" if key else "note", told)
    if constants.HF_HUB_OFFLINE:
        yield Finding(
            "hub", "note", "HF_HUB_OFFLINE is set: only models and data sets that are here already can be used"
        )
    else:
        yield Finding("hub", "ok", "models and data sets of the hub are fetched when they are named")


def _encoder(spelling: str, device: str) -> str:
    import numpy as np
    from PIL import Image

    from descbench import spec

    model = spec.encoder(spelling, device=device)
    start = time.perf_counter()
    rows = np.concatenate([np.asarray(model.encode_images([Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 50)])),
                           np.asarray(model.encode_texts(["a photo"]))])  # fmt: skip
    if not np.isfinite(rows).all():
        raise RuntimeError("its features are not finite numbers; try precision fp32")
    return (
        f"{rows.shape[1]} dimensions, scale {model.logit_scale:.1f}, {time.perf_counter() - start:.1f} s with loading"
    )


def _asked(spelling: str) -> str:
    from descbench import spec
    from descbench.prompts import Question

    model = spec.llm(spelling)
    start = time.perf_counter()
    (reply,) = model.complete([Question("Name one colour. Answer with one word.", 0, "doctor")])
    said = " ".join(reply.text.split())
    if not said:
        raise RuntimeError(f"it answered nothing (finish_reason {reply.finish_reason!r})")
    return f"answered {said[:60]!r} in {time.perf_counter() - start:.1f} s; not kept"
