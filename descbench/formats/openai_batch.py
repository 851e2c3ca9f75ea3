"""OpenAI's batch files: a reply a line, joined to its request by custom_id, and no line unaccounted for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descbench.descriptions import Descriptions
from descbench.errors import InputError, listed
from descbench.files import checked_name, is_encodable, parse_json, read_text
from descbench.formats.comparative import of_comparisons
from descbench.formats.source import Source
from descbench.parsing import parse_features, reason
from descbench.prompts import Reply

REPLIES, ERRORS, REQUESTS = "_replies.jsonl", "_errors.jsonl", "_requests.jsonl"
_ENDS = {"stop", "length", "content_filter", "refusal"}


@dataclass(frozen=True)
class Entry:
    """What became of one request: its reply, or why there is none. `request` is the body that was sent, where known.

    A reply of several choices is as many entries, told apart by `sample`.
    """

    custom_id: str
    request: Mapping[str, Any] | None
    reply: Reply | None
    error: str = ""
    sample: int = 0


@dataclass(frozen=True)
class Batch:
    """All lines of a batch: `entries` in their order, then the requests that nothing answered.

    `unreadable` says of the other lines where they stand and why; `repeated` are custom_ids that came again: the first
    answer of each stays. `asked` says whether a file of requests was there to join with.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    asked: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How many entries are answered, failed, without a request or without a reply; and lines that are no entry."""
        silent = [entry for entry in self.entries if entry.error == NO_REPLY]
        return {
            "answered": sum(entry.reply is not None for entry in self.entries),
            "failed": sum(entry.reply is None for entry in self.entries) - len(silent),
            "without request": sum(entry.request is None for entry in self.entries) if self.asked else 0,
            "without reply": len(silent),
            "unreadable": len(self.unreadable),
            "repeated": len(self.repeated),
        }


NO_REPLY = "no reply"


@dataclass
class Described:
    """What the replies of a batch say: descriptions, why which replies say nothing, and what the parser mended."""

    descriptions: Descriptions
    unusable: dict[str, str] = field(default_factory=dict)  # custom_id -> why
    repairs: Counter[str] = field(default_factory=Counter)


def detect(source: Source) -> bool:
    """JSON lines with a custom_id."""
    return source.kind == "lines"


def read(source: Source) -> Descriptions:
    """The features that the replies list; requests and the file of errors are looked for beside the replies."""
    batch = read_batch(source.path)
    found = describe(batch, str(source))
    source.notes += told(batch, found)
    return found.descriptions


def read_batch(replies: str | Path | Sequence[str | Path], requests: str | Path | None = None) -> Batch:
    """One or more files of replies, output and error files alike, joined to the requests by custom_id.

    Beside `X_replies.jsonl`, `X_errors.jsonl` and `X_requests.jsonl` are read too, unless they are given.
    Raises `InputError` where a file is missing, or has no reply at all.
    """
    files = [Path(replies)] if isinstance(replies, str | Path) else [Path(path) for path in replies]
    if not files:
        raise InputError("no file of replies; give at least one")
    errors = [beside for path in files if (beside := _beside(path, ERRORS)) is not None]
    files += [path for path in errors if path not in files]
    asked = [beside for path in files if (beside := _beside(path, REQUESTS)) is not None]
    sent, unreadable, repeated = _requests([Path(requests)] if requests is not None else asked)
    found: dict[str, list[Entry]] = {}
    for where, line in (pair for path in files for pair in _lines(path, unreadable)):
        id_ = line["custom_id"]
        if "response" not in line and "error" not in line:
            unreadable.append(f"{where}: a request, and no reply" if "body" in line else f"{where}: no reply")
            continue
        if id_ in found:
            repeated.append(id_)
        entries = _entries(line, sent.get(id_))
        if id_ not in found or (found[id_][0].reply is None and entries[0].reply is not None):
            found[id_] = entries
    if not found:
        why = f"; {unreadable[-1]}" if unreadable else ""
        raise InputError(f"{listed(files)} has no reply of a batch{why}. Give the output file of the batch")
    entries = [entry for same in found.values() for entry in same]
    entries += [Entry(id_, body, None, NO_REPLY) for id_, body in sent.items() if id_ not in found]
    return Batch(tuple(entries), tuple(unreadable), tuple(repeated), bool(sent))


def subject(custom_id: str) -> tuple[str, ...]:
    """(class) or (class, rival) of `dataset~class` or `dataset~class~rival`; else the whole id is the class."""
    parts = custom_id.split("~")
    if len(parts) not in (2, 3) or not all(part.strip() for part in parts[1:]):
        return (custom_id,)
    return tuple(parts[1:])


def describe(batch: Batch, where: str = "the batch") -> Described:
    """Features by class, or by pair where the custom_id has a rival; classes in the order of their first mention.

    A class whose replies say nothing stays among the names, and its replies are among the unusable ones.
    """
    unusable: dict[str, str] = {}
    repairs: Counter[str] = Counter()
    classes: dict[str, list[str]] = defaultdict(list)
    compared: list[tuple[str, str, list[str]]] = []
    for entry in batch.entries:
        about = subject(entry.custom_id)
        parsed = parse_features(entry.reply) if entry.reply is not None else None
        texts = parsed.items if parsed else []
        repairs.update(parsed.repairs if parsed else {})
        if len(set(about)) < len(about):
            unusable[entry.custom_id] = "a class against itself"
            about, texts = about[:1], []
        elif not texts:
            unusable[entry.custom_id] = entry.error or (reason(entry.reply) if entry.reply else NO_REPLY)
        if len(about) == 1:
            classes[about[0]] += texts
        else:
            compared.append((about[0], about[1], texts))
    pairs = of_comparisons(classes, compared, where)
    ids = {name: id_ for id_, name in pairs.names.items()}
    described = {ids[name]: texts for name, texts in classes.items() if texts}
    models = sorted({entry.reply.model for entry in batch.entries if entry.reply is not None and entry.reply.model})
    provenance = {"llm": ", ".join(models)} if models else {}
    return Described(Descriptions(described, pairs.pairs, pairs.names, provenance=provenance), unusable, repairs)


def told(batch: Batch, described: Described) -> list[str]:
    """Notes on everything that is not simply a reply with features: what failed, is missing, or was mended."""
    notes = []
    if described.unusable:
        each = [f"{id_} ({why})" for id_, why in described.unusable.items()]
        notes.append(f"{len(each)} of {len(batch.entries)} without usable features: {listed(each)}")
    if lacking := batch.counts["without request"]:
        strangers = [entry.custom_id for entry in batch.entries if entry.request is None]
        notes.append(f"{lacking} replies without a request: {listed(strangers)}")
    if batch.unreadable:
        notes.append(f"{len(batch.unreadable)} lines cannot be read: {listed(batch.unreadable, 3)}")
    if batch.repeated:
        notes.append(
            f"{len(batch.repeated)} lines repeat a custom_id, the first answer stays: {listed(batch.repeated)}"
        )
    if described.repairs:
        mended = ", ".join(f"{kind} {count}" for kind, count in described.repairs.most_common())
        notes.append(f"mended in replies: {mended}")
    return notes


def _beside(path: Path, end: str) -> Path | None:
    """The file of another kind that belongs to `X_replies.jsonl`, where it is there."""
    other = path.with_name(path.name.removesuffix(REPLIES) + end)
    return other if path.name.endswith(REPLIES) and other.is_file() else None


def _lines(path: Path, unreadable: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, object) of each line that has a custom_id; the others are added to `unreadable`."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            found = parse_json(line, where)
        except InputError as error:
            unreadable.append(str(error).removesuffix(" Was it edited? A comma may be missing."))
            continue
        try:
            checked_name(found.get("custom_id") if isinstance(found, dict) else None, "custom_id")
        except InputError as error:
            unreadable.append(f"{where}: {error}")
        else:
            yield where, found


def _requests(paths: Sequence[Path]) -> tuple[dict[str, Mapping[str, Any]], list[str], list[str]]:
    """The bodies that were sent by custom_id, lines that are none, and custom_ids that came again."""
    sent: dict[str, Mapping[str, Any]] = {}
    unreadable: list[str] = []
    repeated: list[str] = []
    for where, line in (pair for path in paths for pair in _lines(path, unreadable)):
        if not isinstance(line.get("body"), dict) or not is_encodable(line):
            unreadable.append(f"{where}: no request with a body")
        elif line["custom_id"] in sent:
            repeated.append(line["custom_id"])
        else:
            sent[line["custom_id"]] = line["body"]
    if paths and not sent:
        raise InputError(f"{listed(paths)} has no request of a batch; give the file that was sent, or none")
    return sent, unreadable, repeated


def _entries(line: dict[str, Any], request: Mapping[str, Any] | None) -> list[Entry]:
    """One entry a choice; one with an error where there is none."""
    if not is_encodable(line):
        return [Entry(line["custom_id"], request, None, "half of a character in the reply")]
    response = _object(line, "response")
    body = _object(response, "body")
    choices = body.get("choices")
    error = _error(line.get("error")) or _error(body.get("error"))
    status = response.get("status_code", 200)
    if error or status != 200 or not isinstance(choices, list) or not choices:
        why = error or (f"status {status!r:.20}" if status != 200 else "a response without choices")
        return [Entry(line["custom_id"], request, None, why)]
    details = {"request_id": response.get("request_id"), "system_fingerprint": body.get("system_fingerprint")}
    details = {key: value for key, value in details.items() if isinstance(value, str)}
    tokens = _object(body, "usage")
    usage = {key: tokens[key] for key in ("prompt_tokens", "completion_tokens") if isinstance(tokens.get(key), int)}
    entries = []
    for sample, choice in enumerate(choices):
        text, end, why = _said(choice)
        reply = Reply(text, end, str(body.get("model") or ""), {} if sample else usage, details)
        entries.append(Entry(line["custom_id"], request, None if why else reply, why, sample))
    return entries


def _said(choice: Any) -> tuple[str, str, str]:
    """(text, finish_reason, why there is no reply) of a choice; a refusal is a reply, of its own kind."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "", "stop", "a choice without a message"
    text, refusal = message.get("content"), message.get("refusal")
    end = choice.get("finish_reason")
    if isinstance(refusal, str) and not text:
        text, end = refusal, "refusal"
    if text is not None and not isinstance(text, str):
        return "", "stop", f"a message that is no text: {text!r:.60}"
    return text or "", end if isinstance(end, str) and end in _ENDS else "stop", ""


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The JSON object under a key; an empty one where there is none."""
    found = holder.get(key)
    return found if isinstance(found, dict) else {}


def _error(given: Any) -> str:
    """What an error object says, on one line."""
    if not given:
        return ""
    said = given.get("message") or given.get("code") if isinstance(given, dict) else given
    return " ".join(str(said).split())[:200]
