"""Language models over HTTP: OpenAI's, and any server that speaks its Chat Completions, with one retry layer, ours."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from descbench.errors import AccessError, DescbenchError, DescbenchWarning, InputError, PartialError, SpecError
from descbench.llms.flow import in_flight
from descbench.llms.responses import Fault, hiding, judge, one_line, read
from descbench.parsing import SCHEMAS
from descbench.prompts import Question, Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_OPENAI = "https://api.openai.com/v1"
_LADDER = ("json_schema", "json_object", "text")  # how a reply in JSON is asked for, the strictest first
_REFUSABLE = ("temperature", "top_p", "seed")  # may be left out where a server refuses them; a limit may not
_FIRST_WAIT = 0.5  # seconds: the most before the first retry; doubled for each one after it
_LONGEST_WAIT = 60.0
_CONNECT = 10.0  # seconds for a connection
_POOL = 16  # connections of one client: with each request it looks through all that it has


class OpenAILLM:
    """A model at OpenAI (`openai:MODEL`) or at any server that speaks Chat Completions (`http://HOST:8000/v1#MODEL`).

    Parameters are sent only where they are given; one that the server refuses is left out for the rest of the run, with
    a note. A question with a schema is asked in the strictest form that works here, which its first reply decides:
    json_schema, else json_object, else text; or in the one form that `structured` names. `timeout` is for a whole
    request. With `seed`, sample s of a question is sent seed + s. What fails in passing is asked again, `retries`
    times; a question that gets no answer then is `Reply.unanswered`, and the others go on.

    The key of openai: is OPENAI_API_KEY. Of another server it is DESCBENCH_API_KEY; OPENAI_API_KEY goes nowhere but to
    OpenAI, to this machine, and to the server that OPENAI_BASE_URL names.

    Raises `AccessError` where the key, the account or the model will not do or nobody answers, `InputError` where the
    server rejects what is sent, `PartialError` where many questions in a row got no answer.
    """

    spelling: ClassVar[str] = "openai:MODEL, or http://HOST[:PORT]/v1#MODEL"

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",  # another server than OpenAI's
        concurrency: int = 16,
        rpm: float | None = None,  # requests a minute, retries among them
        timeout: float = 120.0,
        retries: int = 6,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        structured: str = "auto",
    ) -> None:
        if not model.strip():
            raise SpecError("which model? Write openai:MODEL, or http://HOST:PORT/v1#MODEL.")
        if structured not in ("auto", *_LADDER):
            raise InputError(f"structured={structured!r} is not possible; it is one of: auto, {', '.join(_LADDER)}")
        self.model = model.strip()
        self.served = bool(base_url)
        self.base_url = _server(base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI)
        self.concurrency = int(_checked("concurrency", concurrency, low=1))
        self.rpm = None if rpm is None else _checked("rpm", rpm, above=0)
        self.timeout = _checked("timeout", timeout, above=0)
        self.retries = int(_checked("retries", retries, low=0))
        self.temperature = None if temperature is None else _checked("temperature", temperature, low=0)
        self.max_tokens = None if max_tokens is None else int(_checked("max_tokens", max_tokens, low=1))
        self.top_p = None if top_p is None else _checked("top_p", top_p, above=0, high=1)
        self.seed = None if seed is None else int(seed)
        self.structured = structured
        self._forms = _LADDER if structured == "auto" else (structured,)
        self._learned = _Learned(self._forms[0], settled=structured != "auto")
        self._pace = _Pace(60 / self.rpm if self.rpm else 0.0)

    @classmethod
    def from_spec(cls, argument: str = "", **options: Any) -> OpenAILLM:
        """The model of `openai:ARGUMENT`, or of a URL with the model after `#`."""
        if not re.match(r"https?:|\w+://", argument):
            return cls(argument, **options)
        url, _, model = argument.partition("#")
        if not model.strip():
            raise SpecError(f"{_server(url)!r} names no model. Write {_server(url)}#MODEL.")
        return cls(model, base_url=url, **options)

    def __repr__(self) -> str:
        return f"{self.base_url}#{self.model}" if self.served else f"openai:{self.model}"

    @property
    def name(self) -> str:
        return self.model

    @property
    def fingerprint(self) -> str:
        """The server, the model and the sampling parameters that are given, as canonical JSON."""
        given = {"provider": "openai", "base_url": self.base_url, "model": self.model, **self._sampling(0)}
        return json.dumps(given, sort_keys=True, separators=(",", ":"))

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        """One reply a question, in the order of the questions; one that stands there twice is asked once."""
        distinct = list(dict.fromkeys(questions))
        replies = {distinct[position]: reply for position, reply in self.stream(distinct)}
        return [replies[question] for question in questions]

    def stream(self, questions: Sequence[Question]) -> Iterator[tuple[int, Reply]]:
        """Each (position, reply) as it arrives; works inside a running event loop as well."""
        if not len(questions):
            return
        run = _Run(self)
        unanswered = 0
        with closing(in_flight(questions, run.ask, run.close, self.concurrency)) as replies:
            for position, reply in replies:
                while run.notes:
                    warnings.warn(run.notes.popleft(), DescbenchWarning, stacklevel=2)
                yield position, reply
                unanswered = 0 if reply.answered else unanswered + 1
                if unanswered >= max(8, self.concurrency):
                    raise PartialError(
                        f"{self!r} left {unanswered} questions in a row unanswered; the last one: "
                        f"{reply.details['error']} What was answered is kept: see to the server, then run this again."
                    )

    def requests(self, question: Question) -> list[dict[str, Any]]:
        """What is sent for this question now; then the same in the other forms, and with parameters left out."""
        now = self._learned
        forms = dict.fromkeys((now.form, *self._forms)) if question.schema else ("text",)
        given = [name for name in _REFUSABLE if name in self._sampling(0)]
        subsets = [frozenset(some) for size in range(len(given) + 1) for some in combinations(given, size)]
        return [
            self._request(question, form, refused)
            for refused in dict.fromkeys((now.refused, *subsets))
            for form in forms
        ]

    def _request(self, question: Question, form: str, refused: frozenset[str]) -> dict[str, Any]:
        """One request for the record, and all that it is made of."""
        sampling = self._sampling(question.sample)
        record = {
            "provider": "openai",
            "base_url": self.base_url,
            "model": self.model,
            "messages": [{"role": "user", "content": question.text.encode("utf-8", "replace").decode()}],
            "schema": question.schema,
            "mode": form,
            "sample": question.sample,
            **{name: value for name, value in sampling.items() if name not in refused},
            "refused": {name: value for name, value in sampling.items() if name in refused},
        }
        return {name: value for name, value in record.items() if value not in ("", {})}

    def _sampling(self, sample: int) -> dict[str, float]:
        """The parameters of a sample that were given."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": None if self.seed is None else self.seed + sample,
        }
        return {name: value for name, value in given.items() if value is not None}

    def error(self, fault: Fault) -> DescbenchError:
        """What ends the run, in a line with what to do."""
        key, variable = self.credentials()
        said = f"({fault.status}): {fault.said.rstrip('.')}."
        match fault.kind:
            case "key":
                whom = f"the key in {variable}" if key else "to answer without a key"
                return AccessError(f"{self.base_url} refuses {whom} {said} Put a valid key into {variable}.")
            case "forbidden":
                return AccessError(
                    f"{self.base_url} does not allow this {said} See what the key in {variable} may do, and whether it "
                    f"may use the model {self.model!r}."
                )
            case "quota":
                return AccessError(
                    f"{self.base_url}: the quota of the account of {variable} is used up {said} "
                    "Add credit or raise its limit; then the same command goes on, what was answered is kept."
                )
            case "model":
                return AccessError(f"no model {self.model!r} at {self.base_url} {said} Check its name.")
            case "form":
                return InputError(f"{self!r} takes no structured={self.structured!r} {said} Use structured='auto'.")
        elsewhere = fault.status in (301, 302, 307, 308, 404, 405)
        hint = " Does the URL end as it should, mostly in /v1?" if elsewhere else ""
        return InputError(f"{self!r} rejects the request {said}{hint}")

    def unreachable(self, said: str) -> AccessError:
        """Nobody was reached, in a line with what to do."""
        return AccessError(f"no server answers at {self.base_url}: {said}. Is it running?")

    def wire(self, question: Question) -> tuple[dict[str, Any], dict[str, Any]]:
        """The request for a question as it stands in the record, and the body of it: for a batch."""
        request = self._request(question, self._learned.form if question.schema else "text", self._learned.refused)
        return request, _body(request, self._learned.limit)

    def credentials(self) -> tuple[str, str]:
        """The key, and the variable that it comes from; "" where a server gets none."""
        names = ["OPENAI_API_KEY"]
        if self.served:
            ours = _loopback(self.base_url) or self.base_url == os.environ.get("OPENAI_BASE_URL", "").rstrip("/")
            names = ["DESCBENCH_API_KEY", *(names if ours else [])]
        for name in names:
            if key := os.environ.get(name, "").strip():
                if not (key.isascii() and key.isprintable()):
                    raise AccessError(f"{name} holds characters that no key has. Set it again, as it was given to you.")
                return key, name
        if not self.served:
            raise AccessError(f"{self!r} needs a key: put it into the environment variable OPENAI_API_KEY.")
        return "", names[0]


@dataclass(frozen=True)
class _Learned:
    """What a server has shown so far: the form of reply it gives (`settled`: for sure), the parameters it refuses, the
    name under which it takes the limit of tokens, and whether it was ever heard of."""

    form: str
    settled: bool = False
    refused: frozenset[str] = frozenset()
    limit: str = "max_completion_tokens"
    heard: bool = False


class _Pace:
    """When the next request may go: `gap` seconds after the one before, and none while all have been told to wait.

    By the monotonic clock: the time of day may jump.
    """

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._free = self._paused = 0.0

    def pause(self, seconds: float) -> None:
        self._paused = max(self._paused, time.monotonic() + seconds)

    async def turn(self) -> None:
        while True:
            now = time.monotonic()
            start = max(now, self._free)
            self._free = start + self._gap
            if start > now:
                await asyncio.sleep(start - now)
            if (rest := self._paused - time.monotonic()) <= 0:
                return
            await asyncio.sleep(rest)


@dataclass
class _Run:
    """One stream of questions: a client of the SDK, and what its replies and refusals lead to."""

    llm: OpenAILLM
    notes: deque[str] = field(default_factory=deque)

    def __post_init__(self) -> None:
        key, _ = self.llm.credentials()
        self._hide = hiding(key)
        # A seat for each request that may be on its way: the client that it goes through.
        self._seats = [client for client in _clients(self.llm, key) for _ in range(_POOL)]
        self._chance = random.Random()
        self._probing = asyncio.Lock()

    async def close(self) -> None:
        for client in dict.fromkeys(self._seats):
            await client.close()

    async def ask(self, question: Question) -> Reply:
        """The reply to a question. The first one with a schema goes alone: it shows which form the server gives."""
        if question.schema and not self.llm._learned.settled:
            if question.schema not in SCHEMAS:
                raise InputError(f"no schema {question.schema!r}; there are: {', '.join(SCHEMAS)}.")
            async with self._probing:
                if not self.llm._learned.settled:
                    return await self._probe(question)
        return await self._reply(question)

    async def _probe(self, question: Question) -> Reply:
        """Down the ladder until a reply has the form that was asked for; a reply that was withheld shows nothing."""
        while True:
            reply = await self._reply(question)
            if not reply.answered or reply.finish_reason in ("refusal", "content_filter"):
                return reply
            form = reply.details["mode"]
            if form == "text" or reply.details["valid"]:
                self._learn(form=form, settled=True)
                if form != _LADDER[0]:
                    self.notes.append(f"{self.llm!r} gives no replies by a JSON schema; they are asked for as {form}.")
                return reply
            self._lower(form)

    async def _reply(self, question: Question) -> Reply:
        """The reply to a question, after as many attempts as it needs, and as it may have."""
        failures = 0
        while True:
            learned = self.llm._learned
            form = learned.form if question.schema else "text"
            request = self.llm._request(question, form, learned.refused)
            found = await self._send(request, learned.limit)
            if isinstance(found, Reply):
                return found
            if found.kind in ("retry", "connection"):
                failures += 1
                if failures > self.llm.retries:
                    return self._given_up(found, failures, request)
                await self._wait(found, failures)
            elif found.kind == "filtered":
                return Reply("", "content_filter", details={"request": request, "mode": form, "error": found.said})
            elif found.kind == "question":
                return Reply.unanswered(f"the server says of this question: {found.said}", request=request)
            elif found.kind == "parameter":
                self._without(found)
            elif found.kind == "form" and form != self.llm._forms[-1]:
                self._lower(form)
            else:
                raise self.llm.error(found)

    async def _send(self, request: Mapping[str, Any], limit: str) -> Reply | Fault:
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        await self.llm._pace.turn()
        body = _body(request, limit)
        client = self._seats.pop()
        try:
            async with asyncio.timeout(self.llm.timeout):
                response = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except APIStatusError as error:
            self._learn(heard=True)
            named = [name for name in (*_REFUSABLE, limit) if name in body]
            answer = error.response
            return judge(answer.status_code, answer.headers, answer.content, named, self._hide)
        except (APITimeoutError, TimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                return Fault("connection", f"no connection within {min(_CONNECT, self.llm.timeout):g} s")
            return Fault("retry", f"no whole answer within {self.llm.timeout:g} s")
        except APIConnectionError as error:
            cause = error.__cause__ or error
            return Fault("connection", one_line(self._hide(str(cause) or type(cause).__name__)))
        finally:
            self._seats.append(client)
        self._learn(heard=True)
        return read(response.content, response.headers, request, self._hide)

    async def _wait(self, fault: Fault, failures: int) -> None:
        """Before a retry: as long as the server says, else any time up to a bound that doubles, so that not all come
        back at once. A server that is asked too much is left alone by everybody."""
        bound = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 20))
        seconds = self._chance.uniform(0, bound) if fault.wait is None else min(_LONGEST_WAIT, fault.wait)
        if fault.status == 429:
            self.llm._pace.pause(seconds)
        else:
            await asyncio.sleep(seconds)

    def _given_up(self, fault: Fault, attempts: int, request: Mapping[str, Any]) -> Reply:
        if fault.kind == "connection" and not self.llm._learned.heard:
            raise self.llm.unreachable(fault.said)
        status = f" (status {fault.status})" if fault.status else ""
        return Reply.unanswered(f"no answer after {attempts} attempts{status}: {fault.said}", request=request)

    def _learn(self, **news: Any) -> None:
        if any(getattr(self.llm._learned, name) != value for name, value in news.items()):
            self.llm._learned = replace(self.llm._learned, **news)

    def _lower(self, form: str) -> None:
        """One rung down from `form`, unless another question was there first."""
        if self.llm._learned.form == form:
            forms = self.llm._forms
            self._learn(form=forms[min(forms.index(form) + 1, len(forms) - 1)])

    def _without(self, fault: Fault) -> None:
        """The next request leaves out a parameter, or calls the limit of tokens by its older name."""
        name, learned = fault.parameter, self.llm._learned
        if name == "max_completion_tokens":
            self._learn(limit="max_tokens")
        elif name == "max_tokens":
            raise self.llm.error(fault)
        elif name not in learned.refused:
            self._learn(refused=learned.refused | {name})
            self.notes.append(f"{self.llm!r} refuses {name}, so it is left out from now on: {fault.said}")


def _clients(llm: OpenAILLM, key: str) -> list[AsyncOpenAI]:
    """As many of the SDK's clients as it takes, without its retries and without redirects, which lose the question."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    timeout = httpx2.Timeout(llm.timeout, connect=min(_CONNECT, llm.timeout), pool=None)
    limits = httpx2.Limits(max_connections=_POOL, max_keepalive_connections=_POOL)
    trusted = httpx2.create_ssl_context()  # takes longer than all the rest
    key = key or "none"  # the SDK wants one, and so do some servers
    headers = {"Authorization": f"Bearer {key}"}  # else one in OPENAI_CUSTOM_HEADERS would go to any server
    return [
        AsyncOpenAI(
            api_key=key,
            base_url=llm.base_url,
            max_retries=0,
            timeout=timeout,
            default_headers=headers,
            http_client=DefaultAsyncHttpxClient(limits=limits, timeout=timeout, follow_redirects=False, verify=trusted),
        )
        for _ in range(-(-llm.concurrency // _POOL))
    ]


def _body(request: Mapping[str, Any], limit: str) -> dict[str, Any]:
    """What goes over the wire for a request of the record."""
    body = {"model": request["model"], "messages": request["messages"]}
    body |= {name: request[name] for name in _REFUSABLE if name in request}
    if "max_tokens" in request:
        body[limit] = request["max_tokens"]
    if request["mode"] == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif request["mode"] == "json_schema":
        schema = {"name": request["schema"], "strict": True, "schema": SCHEMAS[request["schema"]]}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def recorded(body: Mapping[str, Any], sample: int = 0, base_url: str = _OPENAI) -> dict[str, Any] | None:
    """The record of a request that somebody else has sent, from its body; None where it is no chat with a text."""
    messages, form = body.get("messages"), body.get("response_format") or {"type": "text"}
    chat = isinstance(messages, list) and messages and isinstance(form, dict) and isinstance(body.get("model"), str)
    if not chat or not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in messages or ()):
        return None
    record = {"provider": "openai", "base_url": base_url, "model": body["model"], "messages": messages}
    schema = form.get("json_schema")
    record |= {"mode": form.get("type", "text"), "sample": sample}
    record |= {"schema": schema.get("name", "")} if isinstance(schema, dict) else {}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    given = {name: body.get(name) for name in _REFUSABLE} | {"max_tokens": limit}
    for name, value in given.items():
        if isinstance(value, int | float):
            record[name] = float(value) if name in ("temperature", "top_p") else value
    return record


def _server(url: str) -> str:
    """The URL of a server in its one spelling. What is refused is not quoted: it may hold a key."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise SpecError(f"this is no URL of a server: {error}. Write http://HOST:PORT/v1#MODEL.") from None
    if parts.username is not None or parts.password is not None or parts.query or "@" in url:
        raise SpecError(
            "the URL of a server may hold no user, password or query. Put the key into the environment variable "
            "DESCBENCH_API_KEY, and write http://HOST:PORT/v1#MODEL."
        )
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", host) or parts.fragment:
        raise SpecError(f"{url!r:.200} is no URL of a server. Write http://HOST:PORT/v1#MODEL.")
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{port}' if port is not None else ''}{parts.path.rstrip('/')}"


def _loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _checked(
    name: str, given: float, *, low: float | None = None, above: float | None = None, high: float | None = None
) -> float:
    """A number within its bounds, as a float: 1 and 1.0 are one parameter."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not (low is None or given >= low) or not (above is None or given > above):
        bound = f"at least {low:g}" if low is not None else f"above {above:g}"
        raise InputError(f"{name} must be {bound}, not {given!r}.")
    if high is not None and given > high:
        raise InputError(f"{name} must be at most {high:g}, not {given!r}.")
    return float(given)
