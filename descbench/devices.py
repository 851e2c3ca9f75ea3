"""The one choice of where and how exactly to compute: what was asked for, held against what there is here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from descbench.errors import InputError, SpecError, listed, nearest

if TYPE_CHECKING:
    import torch

PRECISIONS = ("fp32", "bf16", "fp16", "amp")

# How torch says that it has no such kernel, or that a model mixes its own types with those it is given.
_MISSING = ("not implemented for", "not supported", "Unsupported dtype", "have the same dtype")


def pick_device(device: str, *, float64: bool = False) -> str:
    """ "auto" is a CUDA or Apple GPU where torch sees one, else the CPU; anything else must be one that torch can use.

    With `float64`, "auto" is no Apple GPU, since these have none. Raises `SpecError` for what is no device, and
    `InputError` for one that is not here.
    """
    import torch

    if device == "auto":
        mps = torch.backends.mps.is_available() and not float64
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        if torch.device(device).type == "meta":  # it computes shapes and no numbers
            raise RuntimeError
    except (RuntimeError, TypeError):
        raise SpecError(f"no device {device!r}. There are: auto, cpu, cuda, cuda:0, mps.") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError):
        seen = torch.cuda.device_count()
        there = listed(f"cuda:{i}" for i in range(seen)) if seen else "no GPU"
        raise InputError(f"device {device!r} cannot be used here; torch sees {there}. Use auto or cpu.") from None
    return device


@dataclass(frozen=True)
class Compute:
    """The device, the precision, and whether the model is compiled; and whether its pictures are drafts.

    `fp32`; `bf16` and `fp16`: weights and products in half precision; `amp`: weights in float32, products in bfloat16
    (torch.autocast), on every device. With `draft` a JPEG is decoded at a half, a quarter or an eighth of its size, as
    long as it stays thrice as large as the model sees it. Raises `SpecError` for another precision; imports no torch.
    """

    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    draft: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            close = nearest(str(self.precision), PRECISIONS) or "."
            raise SpecError(f"no precision {self.precision!r}{close} There are: {', '.join(PRECISIONS)}.")

    @property
    def key(self) -> str:
        """What of this changes features, for fingerprints. A device changes them by rounding only."""
        return self.precision + ("+compile" if self.compile else "") + ("+draft" if self.draft else "")

    @cached_property
    def where(self) -> torch.device:
        """The device that is used; see `pick_device` for what it raises."""
        import torch

        return torch.device(pick_device(self.device))

    @property
    def dtype(self) -> torch.dtype:
        """That of weights and inputs."""
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    @property
    def used(self) -> dict[str, str | bool]:
        """For results."""
        found: dict[str, str | bool] = {"device": str(self.where), "precision": self.precision, "compile": self.compile}
        return found | ({"draft": True} if self.draft else {})

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` as torch.compile makes it, where that was asked for. Where it cannot be made, which its first call
        finds out, that call raises `InputError`."""
        if not self.compile:
            return function
        import torch

        # What torch could not compile runs as it is, and it says so at length; TORCH_LOGS still shows it.
        torch._logging.set_logs(all=logging.ERROR)  # type: ignore[attr-defined]
        made = torch.compile(function)

        def run(*args: Any, **named: Any) -> Any:
            try:
                return made(*args, **named)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
                raise InputError(
                    f"the model cannot be compiled on {self.where}: {reason}. Leave --compile (in Python: "
                    "compile=True) out: the features are the same, up to rounding. A CPU needs a C++ compiler, as g++."
                ) from error

        return run

    def moved(self, rows: torch.Tensor) -> torch.Tensor:
        """A batch on the device. To a GPU, rows in pinned memory are copied while it still computes on those before."""
        import torch

        if self.where.type != "cuda" or rows.is_cuda:
            return rows.to(self.where)
        with torch.cuda.stream(self._copying):
            there = rows.to(self.where, non_blocking=True)
        using = torch.cuda.current_stream(self.where)
        using.wait_stream(self._copying)
        there.record_stream(using)  # else its memory is free for the next copy while it is still being read
        return there

    @cached_property
    def _copying(self) -> torch.cuda.Stream:
        import torch

        return torch.cuda.Stream(self.where)  # type: ignore[no-untyped-call]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Without gradients, and with autocast for `amp`. Raises `InputError` where torch has no such kernel, and where
        a model cannot be had in half precision."""
        import torch

        amp = torch.autocast(self.where.type, torch.bfloat16) if self.precision == "amp" else nullcontext()
        try:
            with torch.no_grad(), amp:
                yield
        except RuntimeError as error:
            if self.precision == "fp32" or not any(words in str(error) for words in _MISSING):
                raise
            raise InputError(
                f"precision {self.precision} cannot be computed on {self.where}: {str(error).splitlines()[0]}. "
                "Use precision fp32, or another device."
            ) from error
