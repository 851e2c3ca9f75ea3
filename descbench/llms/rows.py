"""Questions while they are answered, as rows of a batch that come and go; and what is done to the logits of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from descbench.prompts import Question


@dataclass(eq=False)
class Row:
    """A question while it is answered, as tokens, with the reply so far; `ended` is its finish_reason, or "" as yet."""

    question: Question
    positions: list[int]
    prompt: list[int]
    limit: int
    matcher: Any = None
    reply: list[int] = field(default_factory=list)
    ended: str = ""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)

    def take(self, tokens: Sequence[int], ends: frozenset[int]) -> None:
        """Add tokens up to an end token or the limit: what follows is padding."""
        for token in tokens:
            self.reply.append(token)
            if token in ends or len(self.reply) == self.limit:
                self.ended = "stop" if token in ends else "length"
                return


def joined(*parts: tuple[Sequence[Row], Any]) -> tuple[list[Row], Any]:
    """The rows that go on, and the cache of all their tokens but the last: cut or padded on the left to one width."""
    import torch
    from torch.nn.functional import pad

    rows = [row for some, _ in parts for row in some if not row.ended]
    if not rows or any(cache is None for _, cache in parts):
        return rows, None
    width = max(len(row) for row in rows) - 1
    going = [[place for place, row in enumerate(some) if not row.ended] for some, _ in parts]
    whole = parts[0][1]
    for number, layer in enumerate(whole.layers):
        for name in ("keys", "values"):
            pieces = []
            for (_, cache), places in zip(parts, going, strict=True):
                states = getattr(cache.layers[number], name)[..., -width:, :][places]  # (rows, heads, tokens, features)
                pieces.append(pad(states, (0, 0, width - states.shape[-2], 0)))
            setattr(layer, name, torch.cat(pieces))
    return rows, whole


class Leave:
    """Ends a piece of generation when so many rows have ended, by an end token or at their limits."""

    def __init__(self, rows: Sequence[Row], width: int, ends: frozenset[int], leave: int, device: Any) -> None:
        import torch

        self.limits = torch.tensor([width + row.limit - len(row.reply) for row in rows], device=device)  # (B,)
        self.ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self.leave = leave
        self.done = torch.zeros_like(self.limits, dtype=torch.bool)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        self.done = self.done | torch.isin(input_ids[:, -1], self.ends) | (input_ids.shape[1] >= self.limits)
        return self.done | (self.done.sum() >= self.leave)


class Grammar:
    """Leaves to every row with a grammar only the tokens that may come next, and no marks of the chat template."""

    def __init__(self, rows: Sequence[Row], width: int, marks: Sequence[int]) -> None:
        self.rows = rows
        self.width = width
        self.marks = marks  # to a grammar they are texts like others, fit for any string
        self.bound = [place for place, row in enumerate(rows) if row.matcher]
        self.matched = [max(len(row.reply) - 1, 0) for row in rows]  # the last token of a piece is met in the next one

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        last = input_ids[:, -1].tolist()
        bits = torch.full((len(self.bound), -(-scores.shape[1] // 32)), -1, dtype=torch.int32)  # one for each token
        for number, place in enumerate(self.bound):
            row = self.rows[place]
            length = len(row.reply) + input_ids.shape[1] - self.width
            if row.matcher.is_terminated() or length >= row.limit:
                continue
            if length > self.matched[place]:
                self.matched[place] += row.matcher.accept_token(last[place])
            if not row.matcher.is_terminated():
                row.matcher.fill_next_token_bitmask(bits, number)
        shifts = torch.arange(32, dtype=torch.int32, device=scores.device)
        allowed = (bits.to(scores.device)[:, :, None] >> shifts & 1).flatten(1)[:, : scores.shape[1]]
        allowed[:, self.marks] = 0
        scores[self.bound] = scores[self.bound].masked_fill(allowed == 0, -torch.inf)
        return scores


class Gumbel:
    """Adds to every logit its Gumbel noise: a hash of the row's key, the step and the token.

    A hash, and not a `torch.Generator` a row: it takes all rows at once, and is the same on every device.
    """

    def __init__(self, keys: Sequence[int], starts: Sequence[int], device: Any) -> None:
        import torch

        self.keys = torch.tensor(keys, device=device)[:, None]  # (B, 1)
        self.starts = torch.tensor(starts, device=device)[:, None]  # (B, 1): where each row's reply begins

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        steps = input_ids.shape[1] - self.starts
        tokens = torch.arange(scores.shape[1], device=scores.device)[None]  # (1, vocabulary)
        noise = _mix(_mix(tokens ^ (self.keys & _WORD)) ^ _mix((self.keys >> 32 & _WORD) + steps))  # (B, vocabulary)
        uniform = (noise.double() + 0.5) / 2**32
        return scores.float() - torch.log(-torch.log(uniform)).float()


_WORD = 2**32 - 1


def _mix(x: Any) -> Any:
    """Scrambles 32-bit numbers held in int64 (the finaliser `lowbias32`); the products wrap, the mask keeps 32 bits."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)


def chance_of(seed: int, question: Question) -> int:
    """The 63 bits that a question's chance comes from."""
    text = json.dumps([seed, question.text, question.sample])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
