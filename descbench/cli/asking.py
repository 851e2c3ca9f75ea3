"""The language model of a run of `generate`: through the cache, within its limits, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from descbench.cli.common import note, print_json
from descbench.errors import InputError

if TYPE_CHECKING:
    from descbench.llms.limited import Prices
    from descbench.llms.replay import Offline
    from descbench.store import CachedLLM, ReplyStore


class Asking:
    """The language model of a run, through the cache and within its limits."""

    def __init__(
        self,
        llm: str,
        folder: Path,
        options: dict[str, Any],
        max_requests: int | None,
        max_cost: float | None,
        prices: Path | None,
        silent: bool,
        keep: bool,
    ) -> None:
        from descbench import spec
        from descbench.llms.limited import Limited, price_of, read_prices
        from descbench.llms.replay import Offline, ReplayLLM
        from descbench.store import CachedLLM, ReplyStore

        replay = llm.partition(":")[0] == "replay"
        model = spec.llm(llm, **options, **({"cache": folder} if replay else {}))
        self.model: Any = model
        self.spelled = repr(model)
        self.store: ReplyStore = ReplyStore(folder / "replies.sqlite")
        listed_prices: Prices | None = read_prices(prices) if prices else None
        if max_cost is not None and listed_prices is None:
            raise InputError("--max-cost needs --prices FILE, since prices change: what does a million tokens cost?")
        self.price = price_of(listed_prices, model) if listed_prices is not None else None
        self.offline: Offline | None = Offline(model, keep=keep) if silent and not replay else None
        inner: Any = self.offline or model
        if self.offline is None and (max_requests is not None or max_cost is not None):
            inner = Limited(model, max_requests=max_requests, max_cost=max_cost, prices=listed_prices)
        self._inner = inner
        # Replayed replies are in the cache already, under the name of who gave them.
        self.llm: Any = inner if isinstance(model, ReplayLLM) else CachedLLM(inner, self.store)
        self._runs: list[CachedLLM] = [self.llm] if isinstance(self.llm, CachedLLM) else []

    def refreshing(self) -> CachedLLM:
        """The same, asking anew what is kept."""
        from descbench.store import CachedLLM

        if not self._runs:
            raise InputError(
                "--refresh asks anew, which the cache alone cannot; leave out --offline, --dry-run or replay"
            )
        self._runs.append(CachedLLM(self._inner, self.store, refresh=True))
        return self._runs[-1]

    def hand_in(self) -> None:
        """What was missing, as batch jobs."""
        from descbench.llms.batch import Batches
        from descbench.llms.openai import OpenAILLM

        assert self.offline is not None
        if not isinstance(self.model, OpenAILLM):
            raise InputError(f"--batch is for openai:MODEL, whose server takes jobs; {self.model!r} has none")
        jobs = Batches(self.store).submit(self.model, self.offline.questions)
        sent = sum(job.requests for job in jobs)
        waiting = len(self.offline.questions) - sent
        many = f" in {len(jobs)} jobs" if len(jobs) > 1 else ""
        early = f", {waiting:,} are waiting in an earlier job" if waiting else ""
        note(f"{sent:,} requests handed in{many}; {self.hits:,} from the cache{early}")
        if sent or waiting:
            note("`descbench batch collect` brings the replies; then the same command without --batch goes on")

    @property
    def hits(self) -> int:
        return sum(run.hits for run in self._runs)

    @property
    def asked(self) -> int:
        return sum(run.asked for run in self._runs)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> str:
        """In words, or nothing where no price is known."""
        if self.price is None:
            return ""
        from descbench.llms.limited import dollars

        return f" ({dollars(self.price, prompt_tokens, completion_tokens):.4f} USD)"

    def tell_usage(self) -> None:
        """Tokens of this run, and of all that the cache has of this language model."""
        if not self.asked:
            return
        both = [sum(run.usage[name] for run in self._runs) for name in ("prompt_tokens", "completion_tokens")]
        total = self.store.usage(self.spelled)
        ever = total["prompt_tokens"], total["completion_tokens"]
        note(
            f"{self.asked:,} asked: {both[0]:,} + {both[1]:,} tokens{self.cost(*both)}; in all from {self.spelled}: "
            f"{total['replies']:,} replies, {ever[0]:,} + {ever[1]:,} tokens{self.cost(*ever)}"
        )


def tell_plan(asking: Asking, attempts: int, max_tokens: int | None, json: bool) -> None:
    """What a run would send: nothing was sent for this."""
    from descbench.llms.limited import ROLES, dollars

    offline = asking.offline
    assert offline is not None
    misses = offline.missed.total()
    tokens = offline.missed_bytes + ROLES * misses  # a token is a byte at least
    plan: dict[str, Any] = {
        "llm": asking.spelled,
        "hits": asking.hits,
        "misses": misses,
        "requests": {"least": misses, "most": misses * attempts},
        "prompt_tokens": {"about": round(tokens / 4), "most": tokens * attempts},
        "completion_tokens": {"about": _usual(asking, offline), "most": max_tokens and misses * attempts * max_tokens},
        "cost": "unknown",
        "prompts": [question.text for question in offline.questions],
    }
    if asking.price is not None:
        sums = {}
        for bound in ("about", "most"):
            said = plan["completion_tokens"][bound]
            sums[bound] = None if said is None else dollars(asking.price, plan["prompt_tokens"][bound], said)
        plan["cost"] = sums | {"currency": "USD"}
    if json:
        print_json(plan)
        return
    for prompt, question in offline.examples.items():
        more = offline.missed[prompt] - 1
        like = f" and {more:,} more like it; --json has them all" if more else ""
        typer.echo(f"{question.text}\n---{like}")
    requests = f"{misses:,}" + (f" to {misses * attempts:,}" if misses and attempts > 1 else "")
    typer.echo(f"{asking.hits:,} replies in the cache, {misses:,} missing: {requests} requests")
    typer.echo(f"prompt tokens: about {plan['prompt_tokens']['about']:,}, at most {plan['prompt_tokens']['most']:,}")
    typer.echo(f"completion tokens: {_bounds(plan['completion_tokens'], '{:,}')}")
    cost = plan["cost"]
    unknown = "unknown: give --prices FILE with a price of this model"
    typer.echo(f"cost: {unknown if cost == 'unknown' else _bounds(cost, '{:.4f} USD')}")
    note("nothing was sent")


def _usual(asking: Asking, offline: Offline) -> int | None:
    """The completion tokens to expect, from the replies to the same prompts that the cache has of this model."""
    total = 0.0
    for prompt, count in offline.missed.items():
        query = "SELECT avg(completion_tokens) FROM replies WHERE llm = ? AND prompt = ? AND completion_tokens > 0"
        ((mean,),) = asking.store.rows(query, [asking.spelled, prompt])
        if mean is None:
            return None
        total += mean * count
    return round(total)


def _bounds(bounds: dict[str, Any], form: str) -> str:
    about = "unknown" if bounds["about"] is None else f"about {form.format(bounds['about'])}"
    return about + (", at most " + form.format(bounds["most"]) if bounds["most"] is not None else ", no limit is set")
