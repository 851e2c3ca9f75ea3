"""As many at once as the memory of the device takes: what does not fit is halved, and the size that did is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from descbench.errors import DescbenchWarning, InputError
from descbench.hub import line

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Fitting:
    """Runs batches of one kind ("image", "text") for an encoder, `owner` in messages, in parts that fit."""

    def __init__(self, kind: str, owner: str, where: torch.device) -> None:
        self._kind, self._owner, self._where = kind, owner, where
        self._most = 0  # that fit at once; 0 as long as everything did

    def rows(self, count: int, encode: Callable[[slice], Tensor]) -> Tensor:
        """`encode(part)` of a batch of `count`, (count, D): whole, or part by part where memory ran out.

        Warns with `DescbenchWarning` of each size that is found. Raises `InputError` where one alone does not fit.
        """
        import torch

        parts: list[Tensor] = []
        start, tried = 0, 0
        while start < count or not parts:
            size = min(self._most or count, count - start)
            made, reason = _run(encode, slice(start, start + size))
            if made is not None:
                parts.append(made)
                start += size
                if tried:
                    self._tell(tried)
                    tried = 0
            elif size <= 1:
                raise no_room(f"one {self._kind} alone", self._owner, self._where, reason)
            else:
                tried = tried or size
                self._most = size // 2
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tell(self, tried: int) -> None:
        warnings.warn(
            f"{tried} {self._kind}s at once do not fit into the memory of {self._where} with {self._owner}; it goes on "
            f"with {self._most} at once.",
            DescbenchWarning,
            stacklevel=4,
        )


def no_room(what: str, owner: str, where: torch.device, reason: str) -> InputError:
    """The error for what does not fit into the memory of a device, and cannot be made smaller here."""
    return InputError(
        f"{what} does not fit into the memory of {where} with {owner}: {reason} See what else uses that memory, take "
        "precision bf16 or a smaller model, or another device."
    )


def _run(encode: Callable[[slice], Tensor], part: slice) -> tuple[Tensor | None, str]:
    """What was made, or None and why not. The error is gone when this returns, and with it what it held in memory."""
    import torch

    try:
        return encode(part), ""
    except torch.OutOfMemoryError as error:
        reason = line(error)
    torch.cuda.empty_cache()  # of a CPU, nothing
    return None, reason
