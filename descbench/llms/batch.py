"""Many questions as jobs of OpenAI's Batch API: cheaper, within a day, and every reply lands in the same cache."""

from __future__ import annotations

import json
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from descbench.errors import InputError
from descbench.formats.openai_batch import Batch
from descbench.llms.openai import OpenAILLM, recorded
from descbench.llms.responses import hiding, judge, one_line, read
from descbench.prompts import Question, Reply
from descbench.store.replies import ReplyStore, canonical, key_of

if TYPE_CHECKING:
    from openai import OpenAI

MOST_REQUESTS = 50_000  # in one file, says OpenAI
MOST_BYTES = 200_000_000
ENDED = ("completed", "failed", "expired", "cancelled")
COLLECTED = "collected"
_WINDOW: Any = "24h"
_ENDPOINT: Any = "/v1/chat/completions"
_METADATA = "descbench"


@dataclass(frozen=True)
class Job:
    """One job: our `name`, the server's id, how far it is, and once collected what became of its `requests`."""

    name: str
    llm: str
    batch: str
    status: str
    created: str
    requests: int
    done: int = 0
    failed: int = 0
    summary: dict[str, Any] = field(default_factory=dict)


class Batches:
    """The jobs that a cache knows of. A job is written down before it is sent, with a name that goes along as metadata:
    one that was sent and not recorded, since we were killed in between, is found again by it.

    Raises `AccessError` and `InputError` as `OpenAILLM` does, in one line.
    """

    def __init__(self, store: ReplyStore) -> None:
        self._store = store

    def submit(self, llm: OpenAILLM, questions: Iterable[Question]) -> list[Job]:
        """Hand in what no open job has yet, in as many files as the limits ask for; returns the new jobs."""
        with self._client(llm) as client:
            self._recover(client, repr(llm))
            waiting = {row[0] for row in self._store.rows("SELECT custom_id FROM batch_requests")}
            jobs = []
            for lines in _files(llm, questions, waiting):
                name = uuid.uuid4().hex
                self._write_down(name, repr(llm), lines)
                jobs.append(self._send(client, name, [body for *_, body in lines]))
            return jobs

    def status(self) -> list[Job]:
        """All jobs, the open ones as the server sees them now."""
        now: dict[str, Job] = {}
        for spelled in sorted({job.llm for job in self._jobs() if job.status != COLLECTED}):
            with self._client(_opened(spelled)) as client:
                self._recover(client, spelled)
                for job in self._jobs():
                    if job.llm == spelled and job.status != COLLECTED:
                        batch = client.batches.retrieve(job.batch)
                        self._store.write("UPDATE batches SET status = ? WHERE name = ?", [batch.status, job.name])
                        counts = batch.request_counts
                        done, failed = (counts.completed, counts.failed) if counts else (0, 0)
                        now[job.name] = replace(job, status=batch.status, done=done, failed=failed)
        return [now.get(job.name, job) for job in self._jobs()]

    def collect(self) -> list[Job]:
        """Put the replies of every job that has ended into the cache; returns these jobs, every request accounted for:
        `summary` has the number `answered`, `failed` by reason, `absent` in both files, `unknown` and `repeated`."""
        ended = [job for job in self.status() if job.status in ENDED]
        return [self._collected(job) for job in ended]

    def _collected(self, job: Job) -> Job:
        with self._client(_opened(job.llm)) as client:
            batch = client.batches.retrieve(job.batch)
            files = [id_ for id_ in (batch.output_file_id, batch.error_file_id) if id_]
            contents = [client.files.content(id_).content for id_ in files]
        query = "SELECT custom_id, request, text, sample, prompt, schema FROM batch_requests WHERE batch = ?"
        asked = {row[0]: (row[1], Question(*row[2:])) for row in self._store.rows(query, [job.name])}
        seen: set[str] = set()
        count: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for line in (line for content in contents for line in content.splitlines() if line.strip()):
            custom_id, answer = _read(line, asked)
            if custom_id not in asked:
                count["unknown"] += 1
            elif custom_id in seen:
                count["repeated"] += 1
            elif isinstance(answer, Reply):
                seen.add(custom_id)
                request, question = asked[custom_id]
                self._store.keep(request, question, answer, job.llm)
                count["answered"] += 1
            else:
                seen.add(custom_id)
                failed[answer] += 1
        errors = batch.errors.data if batch.errors and batch.errors.data else []
        summary = {
            "status": batch.status,
            "answered": count["answered"],
            "failed": dict(sorted(failed.items())),
            "absent": len(asked) - len(seen),
            "unknown": count["unknown"],
            "repeated": count["repeated"],
            "errors": [str(error.message) for error in errors],
        }
        # Last, since collecting twice does no harm: the requests that got no answer are free to be asked again.
        self._store.write(
            "UPDATE batches SET status = ?, summary = ? WHERE name = ?", [COLLECTED, json.dumps(summary), job.name]
        )
        self._store.write("DELETE FROM batch_requests WHERE batch = ?", [job.name])
        return replace(job, status=COLLECTED, requests=len(asked), summary=summary)

    def _write_down(self, name: str, llm: str, lines: list[tuple[str, str, Question, bytes]]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [(name, key, request, q.text, q.sample, q.prompt, q.schema) for key, request, q, _ in lines]
        self._store.write_all(
            [
                ("INSERT INTO batches VALUES (?, ?, '', 'preparing', ?, '{}')", [(name, llm, now)]),
                ("INSERT INTO batch_requests VALUES (?, ?, ?, ?, ?, ?, ?)", rows),
            ]
        )

    def _send(self, client: OpenAI, name: str, bodies: list[bytes]) -> Job:
        with tempfile.TemporaryFile() as file:
            file.writelines(bodies)
            file.seek(0)
            uploaded = client.files.create(file=(f"{name}.jsonl", file), purpose="batch")
        batch = client.batches.create(
            input_file_id=uploaded.id, endpoint=_ENDPOINT, completion_window=_WINDOW, metadata={_METADATA: name}
        )
        self._store.write("UPDATE batches SET batch = ?, status = ? WHERE name = ?", [batch.id, batch.status, name])
        return next(job for job in self._jobs() if job.name == name)

    def _recover(self, client: OpenAI, spelled: str) -> None:
        """Find the jobs that were written down and perhaps sent; what the server does not know was never sent."""
        lost = {job.name for job in self._jobs() if job.llm == spelled and not job.batch}
        if not lost:
            return
        for batch in client.batches.list(limit=100):
            name = (batch.metadata or {}).get(_METADATA, "")
            if name in lost:
                lost.remove(name)
                values = [batch.id, batch.status, name]
                self._store.write("UPDATE batches SET batch = ?, status = ? WHERE name = ?", values)
        for name in sorted(lost):
            self._store.write("DELETE FROM batch_requests WHERE batch = ?", [name])
            self._store.write("DELETE FROM batches WHERE name = ?", [name])

    def _jobs(self) -> list[Job]:
        rows = self._store.rows(
            "SELECT name, llm, batches.batch, status, created, summary, count(custom_id) FROM batches "
            "LEFT JOIN batch_requests ON batch_requests.batch = name GROUP BY name ORDER BY created, name"
        )
        return [
            Job(name, llm, batch, status, created, requests, summary=json.loads(summary))
            for name, llm, batch, status, created, summary, requests in rows
        ]

    @contextmanager
    def _client(self, llm: OpenAILLM) -> Iterator[OpenAI]:
        """The SDK's client for the few calls about files and jobs: here its own retries are the one retry layer."""
        import openai

        key, _ = llm.credentials()
        try:
            with openai.OpenAI(api_key=key or "none", base_url=llm.base_url, max_retries=4, timeout=600.0) as client:
                yield client
        except openai.APIStatusError as error:
            raise llm.error(
                judge(error.status_code, error.response.headers, error.response.content, (), hiding(key))
            ) from None
        except openai.APIConnectionError as error:
            raise llm.unreachable(one_line(hiding(key)(str(error.__cause__ or error)))) from None


def take_over(batch: Batch, store: ReplyStore) -> tuple[int, int, int]:
    """Keep the replies of somebody's batch under what was sent for them: a run that asks the same of OpenAI finds them.

    Returns how many were kept, how many of these were new, and how many have no request to be kept under.
    """
    kept, bare, samples, before = 0, 0, Counter[str](), len(store)
    for entry in batch.entries:
        if entry.reply is None:
            continue
        first = recorded(entry.request) if entry.request is not None else None
        if first is None:
            bare += 1
            continue
        # The same request again is another sample of it.
        request = {**first, "sample": samples[canonical(first)]}
        samples[canonical(first)] += 1
        question = Question(first["messages"][-1]["content"], request["sample"], "openai-batch")
        store.keep(canonical(request), question, entry.reply, f"openai:{first['model']}")
        kept += 1
    return kept, len(store) - before, bare


def _opened(spelled: str) -> OpenAILLM:
    return OpenAILLM.from_spec(spelled.removeprefix("openai:"))


def _files(
    llm: OpenAILLM, questions: Iterable[Question], waiting: set[str]
) -> Iterator[list[tuple[str, str, Question, bytes]]]:
    """(custom id, canonical request, question, line) in groups that fit into one file each; none that is `waiting`."""
    lines: list[tuple[str, str, Question, bytes]] = []
    size = 0
    for question in questions:
        record, body = llm.wire(question)
        request = canonical(record)
        key = key_of(request)
        if key in waiting:
            continue
        waiting.add(key)
        entry = {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": body}
        line = json.dumps(entry).encode() + b"\n"
        if len(line) > MOST_BYTES:
            raise InputError(f"a question of {len(line):,} bytes is too long for a batch: {question.text[:60]!r}...")
        if lines and (len(lines) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield lines
            lines, size = [], 0
        lines.append((key, request, question, line))
        size += len(line)
    if lines:
        yield lines


def _read(line: bytes, asked: dict[str, tuple[str, Question]]) -> tuple[str, Reply | str]:
    """(custom id, the reply or why there is none) of a line of an output or error file."""
    try:
        entry = json.loads(line)
        custom_id = str(entry["custom_id"])
        response, error = entry.get("response") or {}, entry.get("error") or {}
        body = json.dumps(response.get("body") or {}).encode()
        status = int(response.get("status_code") or 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", "a line that is no JSON of a batch"
    if custom_id not in asked:
        return custom_id, ""
    if error or not status:
        return custom_id, str(error.get("message") or error.get("code") or "no response") if error else "no response"
    headers = {"x-request-id": str(response.get("request_id") or "")}
    if status != 200:
        return custom_id, f"{status}: {judge(status, headers, body, (), str).said}"
    found = read(body, headers, json.loads(asked[custom_id][0]), str)
    if isinstance(found, Reply):
        return custom_id, replace(found, details={**found.details, "batch": True})
    return custom_id, found.said
