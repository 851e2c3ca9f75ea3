"""What encoding a folder of JPEGs costs, against the least that it could cost and against a plain loop.

    python benchmarks/embed.py [IMAGES]

The model has random weights, which are as fast as others; it is saved and loaded as any local model. The images are
drawn, of ImageNet's usual size. On a GPU in bfloat16, and ViT-L/14 too; else ViT-B/32 in float32. Sides take turns.

- decode: our loader on all cores, and nothing else; decode and prepare: with the model's own resizing, which Pillow
  does on the CPU; forward: the bare image tower with batches that are ready.
- bound: the slower of the first and the last. On a GPU both can be had at once. On a CPU they share the cores, so that
  at best the times add up; that ratio is shown too.
- loop: a DataLoader with the model's preprocessing in its workers, encode_image batch by batch, rows collected: what
  benchmarks of this field do.
- descbench: `keep` into an empty store, hashes of the files and all.

The seconds of cores are what a side cost, also where other work takes turns on the machine and the clock says little.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _shared import Drawn, Pictures
from PIL import Image

from descbench.datasets import FolderDataset
from descbench.datasets.images import load_image
from descbench.decoding import cores
from descbench.embedding import keep
from descbench.store import CachedEncoder

ROUNDS = 11
DRAWN = 128  # pictures; the others are the same with other bytes at the end, which no decoder reads


def main(images: int) -> None:
    import torch

    cuda = torch.cuda.is_available()
    images = images or (8192 if cuda else 64)
    device = torch.cuda.get_device_name() if cuda else "cpu"
    print(f"torch {torch.__version__}, {device}, {cores()} cores, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        files = draw(Path(folder, "jpegs"), images)
        size = sum(path.stat().st_size for path in files) / images / 1e3
        print(f"{images:,} JPEGs of 500 x 375, {size:.0f} kB each; medians of {ROUNDS} rounds, in turns")
        for name in ("ViT-B-32", "ViT-L-14") if cuda else ("ViT-B-32",):
            compare(name, Path(folder), files, cuda)
    memory()


def draw(folder: Path, count: int) -> list[Path]:
    """JPEGs in one class folder: soft shapes with some noise, as large as photographs of that size."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(min(count, DRAWN)):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = fine + random.integers(-20, 21, fine.shape)
        path = folder.with_suffix(".jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        pictures.append(path.read_bytes())
    (folder / "class").mkdir(parents=True)
    files = [folder / "class" / f"{index:06d}.jpg" for index in range(count)]
    for index, path in enumerate(files):
        path.write_bytes(pictures[index % len(pictures)] + index.to_bytes(4, "little"))
    return files


def save(name: str, folder: Path) -> Path:
    """A model of open_clip's with random weights, in its own format."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    path = folder / name
    path.mkdir()
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return path


def compare(name: str, folder: Path, files: list[Path], cuda: bool) -> None:
    import logging

    import open_clip
    import torch

    import descbench as db

    logging.disable(logging.WARNING)  # open_clip says that the weights are random
    path = save(name, folder)
    device, precision, batch = ("cuda", "bf16", 256) if cuda else ("cpu", "fp32", 32)
    encoder = db.encoder(f"open_clip:local-dir:{path}", device=device, precision=precision)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{path}", precision=precision, device=device)
    model.eval()
    dtype = torch.bfloat16 if cuda else torch.float32
    ready = torch.stack([preprocess(load_image(path)) for path in files[:batch]]).to(device, dtype)
    data = FolderDataset(str(files[0].parents[1]))
    stores = iter(range(1000))

    def timed(work: Callable[[], Any]) -> tuple[float, float]:
        """Seconds that passed, and seconds of all cores together, children included."""
        start, before = time.perf_counter(), sum(os.times()[:4])
        work()
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start, sum(os.times()[:4]) - before

    def decode() -> None:
        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(lambda path: load_image(path).size, files):
                pass

    def decode_and_prepare() -> None:
        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(lambda path: encoder.prepare(load_image(path)).shape, files):
                pass

    def forward() -> None:
        with torch.no_grad():
            for start in range(0, len(files), batch):
                model.encode_image(ready[: len(files) - start])

    def ours_ready() -> None:
        for start in range(0, len(files), batch):
            encoder.encode_pixels(ready[: len(files) - start])

    def loop() -> None:
        loader = torch.utils.data.DataLoader(Files(files, preprocess), batch_size=batch, num_workers=cores())
        rows = []
        with torch.no_grad():
            for pixels in loader:
                features = model.encode_image(pixels.to(device, dtype))
                rows.append(torch.nn.functional.normalize(features.float(), dim=-1).cpu())
        torch.cat(rows)

    def ours(workers: int = 0) -> None:
        cached = CachedEncoder(encoder, folder / f"store {next(stores)}")
        kept = keep(data, cached, batch_size=batch, workers=workers)
        assert kept.encoded == len(files)

    sides: dict[str, Callable[[], None]] = {
        "decode": decode,
        "decode and prepare": decode_and_prepare,
        "forward": forward,
        "descbench, tensors ready": ours_ready,
        "loop": loop,
        "descbench, threads": ours,
    }
    if cuda:
        sides[f"descbench, {cores()} processes"] = lambda: ours(cores())
    seconds: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    forward()  # once, unmeasured: kernels are chosen, memory is had
    ours_ready()
    for turn in range(ROUNDS):
        order = list(sides)
        first = turn % len(order)  # who comes after whom changes, since machines grow warm
        for side in order[first:] + order[:first]:
            seconds[side].append(timed(sides[side]))
    took, worked = (
        {side: statistics.median(pair[kind] for pair in pairs) for side, pairs in seconds.items()} for kind in (0, 1)
    )

    def share(side: str, of: Callable[[float, float], float]) -> float:
        """The median over rounds of what of decode and forward is to a side: of one round, since machines drift."""
        rounds = zip(seconds["decode"], seconds["forward"], seconds[side], strict=True)
        return statistics.median(of(decoded, ahead) / second for (decoded, _), (ahead, _), (second, _) in rounds)

    print(f"\n{name}, {precision}, batches of {batch}")
    for side, second in took.items():
        told = ""
        if side.endswith("ready"):
            told = f"{share(side, lambda _, ahead: ahead):.2f} of the bare forward"
        elif side not in ("decode", "decode and prepare", "forward"):
            told = f"{share(side, max) / share('loop', max):.2f} x the loop, "
            told += f"{share(side, max):.2f} of the bound, {share(side, lambda a, b: a + b):.2f} of the sum"
        print(f"  {side:<26}{len(files) / second:9.1f} images/s {second:8.2f} s {worked[side]:8.2f} s of cores  {told}")
    if cuda:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encode_image(ready[:1])
        rate = counter.get_total_flops() * len(files) / took["descbench, tensors ready"]
        print(f"  tensors ready: {rate / 1e12:.0f} TFLOP/s")


class Files:
    """A data set as torch has them."""

    def __init__(self, files: list[Path], preprocess: Any) -> None:
        self.files, self.preprocess = files, preprocess

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.files[index]) as image:
            return self.preprocess(image.convert("RGB"))


def memory() -> None:
    """The peak of a process that keeps N pictures, with an encoder that takes no time: it must not follow N."""
    print("\npeak memory of keeping N images (8 x 8), 512 numbers each, in a process of its own")
    for count in (70_000, 210_000):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, "memory", str(count), folder], check=True, capture_output=True, text=True
            )
        print(f"  N {count:>7,}: {done.stdout.strip()}")


def keep_many(count: int, folder: str) -> None:
    start = time.perf_counter()
    keep(Pictures(count), CachedEncoder(Drawn(), folder))  # type: ignore[arg-type]
    second = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # getrusage would count the process that started this one
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    written = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors")) / 1e6
    print(f"{peak:,.0f} MB, {count / second:,.0f} images/s, {written:,.0f} MB written")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        keep_many(int(sys.argv[2]), sys.argv[3])
    else:
        main(int((sys.argv[1:] or [os.environ.get("BENCH_IMAGES", "0")])[0]))
