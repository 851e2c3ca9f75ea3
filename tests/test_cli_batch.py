"""`generate --batch` and `descbench batch`, against a server that keeps files and jobs as OpenAI's does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from fake_openai import completion
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from descbench.descriptions import Descriptions
from descbench.llms import batch as module
from descbench.store import ReplyStore


class Jobs:
    """Files and batch jobs. A job ends when `finish` is called; `says` has the lines for some custom ids."""

    def __init__(self, server: HTTPServer) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.breaks_after_create = False
        for path, handler in {
            r"/v1/files": self._upload,
            r"/v1/files/[^/]+/content": self._content,
            r"/v1/batches": self._batches,
            r"/v1/batches/[^/]+": self._batch,
        }.items():
            server.expect_request(re.compile(f"{path}$")).respond_with_handler(handler)

    def _json(self, data: Any) -> Response:
        return Response(json.dumps(data), content_type="application/json")

    def _upload(self, request: Request) -> Response:
        assert request.form["purpose"] == "batch"
        id_ = f"file-{len(self.files)}"
        self.files[id_] = request.files["file"].read()
        return self._json({"id": id_, "object": "file", "bytes": len(self.files[id_]), "created_at": 0,
                           "filename": "x.jsonl", "purpose": "batch", "status": "processed"})  # fmt: skip

    def _content(self, request: Request) -> Response:
        return Response(self.files[request.path.split("/")[-2]])

    def _batches(self, request: Request) -> Response:
        if request.method == "GET":
            return self._json({"object": "list", "data": list(self.batches.values()), "has_more": False})
        body = request.get_json()
        assert body["endpoint"] == "/v1/chat/completions" and body["completion_window"] == "24h"
        total = len(self.files[body["input_file_id"]].splitlines())
        id_ = f"batch_{len(self.batches)}"
        self.batches[id_] = {
            **body, "id": id_, "object": "batch", "status": "in_progress", "created_at": 0,
            "request_counts": {"total": total, "completed": 0, "failed": 0},
        }  # fmt: skip
        if self.breaks_after_create:
            return Response("gone", status=400)
        return self._json(self.batches[id_])

    def _batch(self, request: Request) -> Response:
        return self._json(self.batches[request.path.split("/")[-1]])

    def asked(self) -> list[list[dict[str, Any]]]:
        return [[json.loads(line) for line in content.splitlines()] for content in self.files.values()]

    def finish(self, status: str = "completed", errors: dict[str, dict[str, Any]] | None = None) -> None:
        """Answer all requests, backwards; `errors` has the line for a question that contains its key, or None."""
        for batch in [batch for batch in self.batches.values() if batch["status"] == "in_progress"]:
            output, failed = [], []
            for line in reversed(self.files[batch["input_file_id"]].splitlines()):
                entry = json.loads(line)
                text = entry["body"]["messages"][-1]["content"]
                error = next((said for part, said in (errors or {}).items() if part in text), {})
                if error is None:
                    continue
                response = {"status_code": 200, "request_id": "r", "body": completion(entry["body"])}
                answer = {"id": "x", "custom_id": entry["custom_id"], "response": response, "error": None} | error
                (failed if error else output).append(json.dumps(answer))
            for name, lines in (("output_file_id", output), ("error_file_id", failed)):
                if lines:
                    id_ = f"{batch['id']}-{name}"
                    self.files[id_] = "\n".join(lines).encode()
                    batch[name] = id_
            batch["status"] = status
            batch["request_counts"] |= {"completed": len(output), "failed": len(failed)}


@pytest.fixture
def jobs(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for("/v1"))
    yield Jobs(httpserver)
    httpserver.clear()


GENERATE = ("generate", "hen,rooster,emu,turkey", "--llm", "openai:m", "-o", "birds.json")


def test_a_batch_is_handed_in_collected_and_read_from_the_cache(run: Run, jobs: Jobs) -> None:
    done = run(*GENERATE, "--batch")
    assert done.code == 0 and "4 requests handed in" in done.err, done.err
    assert not Path("birds.json").exists()
    (lines,) = jobs.asked()
    assert [line["url"] for line in lines] == ["/v1/chat/completions"] * 4
    assert lines[0]["body"].keys() == {"model", "messages"} and lines[0]["method"] == "POST"
    assert "in_progress, 0 of 4 done" in run("batch", "status").out
    early = run("batch", "collect")
    assert early.code == 0 and "1 jobs have not ended yet" in early.err
    jobs.finish()
    done = run("batch", "collect")
    assert done.code == 0 and "completed, 4 answered" in done.out
    done = run(*GENERATE)
    assert done.code == 0 and "0 asked, 4 from the cache" in done.err
    assert len(Descriptions.load("birds.json").classes) == 4
    assert "nothing to collect" in run("batch", "collect").err
    (told,) = json.loads(run("batch", "status", "--json").out)
    assert told["status"] == "collected" and told["summary"]["answered"] == 4


def test_what_is_waiting_in_a_job_is_not_handed_in_again(run: Run, jobs: Jobs) -> None:
    run(*GENERATE[:1], "hen,rooster", *GENERATE[2:], "--batch")
    done = run(*GENERATE, "--batch")
    assert "2 requests handed in" in done.err and "2 are waiting" in done.err
    assert [len(lines) for lines in jobs.asked()] == [2, 2]
    done = run(*GENERATE, "--batch")
    assert "0 requests handed in" in done.err and len(jobs.batches) == 2


def test_a_batch_keeps_to_the_limits_of_a_file(run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 3)
    assert "in 2 jobs" in run(*GENERATE, "--batch").err
    assert [len(lines) for lines in jobs.asked()] == [3, 1]
    size = len(jobs.files["file-0"].splitlines()[0])
    monkeypatch.setattr(module, "MOST_BYTES", 2 * size + 60)
    jobs.finish()
    run("batch", "collect")
    run(*GENERATE[:1], "a1,a2,a3,a4,a5", *GENERATE[2:], "--batch")
    assert [len(content) <= 2 * size + 60 for name, content in jobs.files.items() if name.startswith("file-")][2:] == [
        True,
        True,
        True,
    ]


def test_every_request_is_accounted_for_and_what_failed_is_asked_again(run: Run, jobs: Jobs) -> None:
    run(*GENERATE, "--batch")
    busy = {"response": {"status_code": 429, "request_id": "r", "body": {"error": {"message": "too many"}}}}
    expired = {"response": None, "error": {"code": "batch_expired", "message": "This request expired."}}
    jobs.finish("expired", {'"hen"': busy, '"emu"': expired, '"turkey"': None})
    (batch,) = jobs.batches.values()
    jobs.files[batch["error_file_id"]] += b'\n{"custom_id": "not ours", "response": null, "error": null}\nno json\n'
    jobs.files[batch["output_file_id"]] += b"\n" + jobs.files[batch["output_file_id"]]
    done = run("batch", "collect", "--json")
    assert done.code == 3
    (told,) = json.loads(done.out)
    assert told["requests"] == 4
    assert told["summary"] == {
        "status": "expired",
        "answered": 1,
        "failed": {"429: too many": 1, "This request expired.": 1},
        "absent": 1,
        "unknown": 2,
        "repeated": 1,
        "errors": [],
    }
    assert "3 requests handed in" in run(*GENERATE, "--batch").err
    jobs.finish()
    assert run("batch", "collect").code == 0
    assert run(*GENERATE).code == 0


def test_a_job_without_any_file_is_accounted_for(run: Run, jobs: Jobs) -> None:
    run(*GENERATE, "--batch")
    (batch,) = jobs.batches.values()
    batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": "x", "message": "no such model"}]}}
    done = run("batch", "collect")
    assert done.code == 3 and "failed, 0 answered, 4 absent, no such model" in done.out


def test_a_job_that_was_sent_and_not_recorded_is_found_again(run: Run, jobs: Jobs, tmp_path: Path) -> None:
    jobs.breaks_after_create = True
    assert run(*GENERATE, "--batch").code != 0
    store = ReplyStore(tmp_path / "kept" / "replies.sqlite")
    assert store.rows("SELECT status, batch FROM batches") == [("preparing", "")]
    jobs.breaks_after_create = False
    done = run(*GENERATE, "--batch")
    assert "0 requests handed in" in done.err and "4 are waiting" in done.err and len(jobs.batches) == 1
    jobs.finish()
    assert run("batch", "collect").code == 0
    assert "0 asked, 4 from the cache" in run(*GENERATE).err


def test_a_job_that_was_never_sent_is_forgotten(run: Run, jobs: Jobs, tmp_path: Path) -> None:
    jobs.breaks_after_create = True
    run(*GENERATE, "--batch")
    jobs.batches.clear()
    jobs.breaks_after_create = False
    assert "4 requests handed in" in run(*GENERATE, "--batch").err
    store = ReplyStore(tmp_path / "kept" / "replies.sqlite")
    assert len(store.rows("SELECT * FROM batches")) == 1


def test_waiting_ends_when_the_jobs_have_ended(run: Run, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*GENERATE, "--batch")
    monkeypatch.setattr("time.sleep", lambda seconds: jobs.finish())
    done = run("batch", "collect", "--wait")
    assert done.code == 0 and "4 answered" in done.out


def test_only_a_server_with_jobs_takes_a_batch(run: Run, jobs: Jobs, httpserver: HTTPServer) -> None:
    done = run("generate", "hen,emu", "--llm", "demo", "--batch")
    assert done.code == 2 and "--batch is for openai:" in done.err
    assert run("batch", "status", "--cache-dir", "nowhere").code == 2
    httpserver.clear()
    httpserver.expect_request(re.compile("/.*")).respond_with_data("no such page", status=404)
    done = run(*GENERATE, "--batch")
    assert done.code in (2, 5) and "error: " in done.err
