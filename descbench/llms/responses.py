"""What a server's response means, a reply or a fault of some kind: a pure judgement over status, headers and body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal

from descbench.parsing import SCHEMAS
from descbench.prompts import Reply

Kind = Literal[
    "retry",  # may pass: the same request again, a little later
    "connection",  # the same, and nobody was reached at all
    "key", "forbidden", "quota", "model",  # nothing will be answered in this run
    "parameter",  # one parameter is refused: again without it
    "form",  # the form of reply is refused: again with the next one
    "question", "filtered",  # this one question gets no answer
    "input",  # anything else that is wrong with the request
]  # fmt: skip

_FINISHED = ("stop", "length", "content_filter")
_LONGEST = 200  # characters that are quoted of what a server says
_REFUSAL = re.compile(
    r"unsupported|does ?n[o']t support|not (be )?supported|unknown|unrecogni[sz]ed|unexpected|forbidden"
    r"|not permitted|not allowed|not available|not compatible|only the default|deprecated",
    re.IGNORECASE,
)
_FORM = re.compile(r"response_format|json_schema|json_object|json mode|structured output|\bjson\b", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context.?(length|size|window)|context_length|maximum context|prompt is too long|too many (input )?tokens", re.I
)
_WITHHELD = re.compile(r"content.?(filter|policy|management policy)|safety system|responsible ?ai", re.IGNORECASE)
_QUOTA = re.compile(r"insufficient_(quota|balance|funds|credit)|billing", re.IGNORECASE)
_NO_MODEL = re.compile(r"\bmodels?\b|model_not_found", re.IGNORECASE)
_OTHER_MODEL = re.compile(
    r"model_not_found|\bmodel\b.{0,80}(not found|does ?n[o']t exist|not exist)|(no such|unknown|invalid) model"
    r"|pinned to",  # transformers serve
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fault:
    """Why there is no reply, in a line that may be shown; `wait`: the seconds that the server asks for."""

    kind: Kind
    said: str
    status: int = 0
    parameter: str = ""
    wait: float | None = None


def judge(
    status: int, headers: Mapping[str, str], content: bytes, sent: Collection[str], hide: Callable[[str], str]
) -> Fault:
    """What a response that holds no reply means. `sent` are the parameters that a server may refuse."""
    error = _error(content)
    said = _quoted(error, content, hide)
    labels = f"{error.get('code', '')} {error.get('type', '')}"
    text = f"{labels} {error.get('param') or ''} {error.get('message', '')}"

    def fault(kind: Kind, parameter: str = "") -> Fault:
        return Fault(kind, said, status, parameter, _wait(headers))

    if status == 402 or (400 <= status < 500 and _QUOTA.search(labels)):
        return fault("quota")
    if status in (408, 409, 429) or status >= 500:
        return fault("retry")
    if status == 401 or re.search(r"invalid_api_key|api key not valid|incorrect api key", text, re.IGNORECASE):
        return fault("key")
    if status == 403:
        return fault("forbidden")
    if (status == 404 and _NO_MODEL.search(text)) or (status in (400, 422) and _OTHER_MODEL.search(text)):
        return fault("model")
    if status in (400, 413, 422):
        if _WITHHELD.search(text):
            return fault("filtered")
        if status == 413 or _TOO_LONG.search(text):
            return fault("question")
        if name := _refused(error, text, sent):
            return fault("parameter", name)
        if _FORM.search(text):
            return fault("form")
    return fault("input")


def read(
    content: bytes, headers: Mapping[str, str], request: Mapping[str, Any], hide: Callable[[str], str]
) -> Reply | Fault:
    """The reply in a response that says 200, which need not hold one. Of several choices the first is taken."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        said = one_line(hide(content[:1000].decode("utf-8", "replace")))
        return Fault("retry", f"what came is not JSON: {said or '(nothing)'}", 200)
    if isinstance(body, dict) and (fault := _embedded(body, hide)):
        return fault
    choices = body.get("choices") if isinstance(body, dict) else None
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        return Fault("retry", "what came holds no choices", 200)
    first, message = choices[0], choices[0].get("message")
    if not isinstance(message, dict):
        return Fault("retry", "what came holds no message", 200)
    text, refusal = _content(message.get("content")), message.get("refusal")
    finished = str(first.get("finish_reason") or "stop")
    reason = "refusal" if refusal else finished if finished in _FINISHED else "stop"
    details: dict[str, Any] = {
        "request": request,
        "mode": request["mode"],
        "request_id": headers.get("x-request-id", ""),
        "system_fingerprint": body.get("system_fingerprint") or "",
        "refused": request.get("refused", {}),
        "choices": len(choices) if len(choices) > 1 else "",
        "finish_reason": finished if finished not in _FINISHED else "",
    }
    details = {name: value for name, value in details.items() if value not in ("", {})}
    if "schema" in request:
        details["valid"] = _has_form(text, reason, SCHEMAS[request["schema"]])
    return Reply(str(refusal) if refusal else text, reason, str(body.get("model") or ""), _usage(body), details)


def _content(content: Any) -> str:
    """The text of a message: as it is, or in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _usage(body: Mapping[str, Any]) -> dict[str, int]:
    """The tokens that a reply took, as far as the server says."""
    usage = body.get("usage")
    found: dict[str, int] = {}
    for name, path in {
        "prompt_tokens": ("prompt_tokens",),
        "completion_tokens": ("completion_tokens",),
        "cached_tokens": ("prompt_tokens_details", "cached_tokens"),
        "reasoning_tokens": ("completion_tokens_details", "reasoning_tokens"),
    }.items():
        value: Any = usage
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if type(value) is int and (value or len(path) == 1):
            found[name] = value
    return found


def _has_form(text: str, reason: str, schema: Mapping[str, Any]) -> bool:
    """Whether a reply is JSON of this schema; of one that was cut off, whether it begins like an object."""
    if reason == "length":
        return text.lstrip().startswith("{")
    try:
        return fits(json.loads(text), schema)
    except (ValueError, RecursionError):
        return False


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is of a schema made of objects, arrays and strings, as ours are."""
    if schema["type"] == "object":
        known = schema["properties"]
        return isinstance(value, dict) and value.keys() == known.keys() and all(fits(value[k], known[k]) for k in known)
    if schema["type"] == "array":
        return isinstance(value, list) and all(map(partial(fits, schema=schema["items"]), value))
    return isinstance(value, str)


def _embedded(reply: Mapping[str, Any], hide: Callable[[str], str]) -> Fault | None:
    """The fault in a response that says 200 and holds an error, as gateways pass one on."""
    error = reply.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if type(code) is int and 400 <= code < 600 else 500
    return judge(status, {}, json.dumps({"error": error}).encode(), (), hide)


def one_line(text: str) -> str:
    """Text of a stranger for a message: on one line, only what can be printed, no markup, not long."""
    if re.match(r"\s*<(!doctype|html|\?xml|head|body)", text, re.IGNORECASE):
        return "(a page of HTML)"
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3].rstrip() + "..."


def hiding(key: str) -> Callable[[str], str]:
    """A function that takes a key out of a text: the whole of it, parts of it, and keys with stars in the middle."""
    parts = {key[i : i + 6] for i in range(len(key) - 5)}

    def hide(text: str) -> str:
        def word(match: re.Match[str]) -> str:
            found = match.group()
            shown = "**" in found or found.startswith("sk-") or any(part in found for part in parts)
            return "[key]" if shown else found

        text = text.replace(key, "[key]") if key else text
        return re.sub(r"[^\s\"'`,;:=()<>\[\]{}]+", word, text)

    return hide


def _error(content: bytes) -> dict[str, Any]:
    """The error object of a body: OpenAI's, or a bare message, or the `detail` of FastAPI."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return {"message": _text(error)}
    message = error.get("message") or error.get("detail") or error.get("error")
    return {**error, "message": _text(message) if message else ""}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _quoted(error: Mapping[str, Any], content: bytes, hide: Callable[[str], str]) -> str:
    """What the server said. Hidden before it is cut, so that no key is cut into what can no longer be recognised."""
    text = error.get("message") or content.decode("utf-8", "replace")
    return one_line(hide(text[:10_000])) or "(nothing)"


def _refused(error: Mapping[str, Any], text: str, sent: Collection[str]) -> str:
    """The parameter that a server does not take at all; a value that is merely out of range is an error of the user."""
    named = [name for name in sent if error.get("param") == name]
    named = named or [name for name in sent if re.search(rf"(?<![\w]){name}(?![\w])", text)]
    return named[0] if named and _REFUSAL.search(text) else ""


def _wait(headers: Mapping[str, str]) -> float | None:
    """The seconds of Retry-After. A date counts from the response's own: the clock of this machine may be wrong."""
    try:
        if "retry-after-ms" in headers:
            wait = float(headers["retry-after-ms"]) / 1000
        elif re.fullmatch(r"\s*\d+(\.\d+)?\s*", headers.get("retry-after", "")):
            wait = float(headers["retry-after"])
        else:
            wait = (_date(headers, "retry-after") - _date(headers, "date")).total_seconds()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return max(0.0, wait) if wait == wait else None


def _date(headers: Mapping[str, str], name: str) -> Any:
    return parsedate_to_datetime(headers[name])
