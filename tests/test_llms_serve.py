"""The adapter against a real server of a real model, in another process: `transformers serve` on a tiny one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_llms_transformers import build

import descbench as db
from descbench.errors import AccessError, DescbenchWarning
from descbench.llms import OpenAILLM
from descbench.prompts import Question
from descbench.testing import check_llm

pytestmark = pytest.mark.slow
pytest.importorskip("uvicorn", reason="transformers[serving] is not installed")


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's URL and model, once it answers."""
    work = tmp_path_factory.mktemp("serve")
    folder = build(work / "tiny", context=4096)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (work / "log").open("wb") as log:
        server = subprocess.Popen([*program, "--port", str(port)], env=offline, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, work / "log")
        yield f"http://127.0.0.1:{port}/v1#{folder}"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace"))


@pytest.fixture
def llm(spelling: str) -> OpenAILLM:
    found = db.llm(spelling, max_tokens=8, concurrency=2, retries=0)
    assert isinstance(found, OpenAILLM) and repr(found) == spelling
    return found


def test_the_contract_holds_against_a_real_server(llm: OpenAILLM) -> None:
    check_llm(llm)


def test_a_reply_is_of_the_length_that_was_asked_for_and_counted(llm: OpenAILLM) -> None:
    (reply,) = llm.complete([Question("one")])
    assert reply.text and reply.finish_reason == "length"
    assert reply.usage["completion_tokens"] == 8 and reply.usage["prompt_tokens"] == 3


def test_a_schema_that_the_server_ignores_without_a_word_is_found_out(llm: OpenAILLM) -> None:
    with pytest.warns(DescbenchWarning, match="gives no replies by a JSON schema; they are asked for as text"):
        (reply,) = llm.complete([Question("one", schema="features")])
    assert reply.details["mode"] == "text"
    assert reply.details["request"] == llm.requests(Question("one", schema="features"))[0]


def test_another_model_than_the_one_that_is_served_is_one_clear_line(spelling: str) -> None:
    url = spelling.partition("#")[0]
    with pytest.raises(AccessError, match=r"no model 'another/model' .*requested 'another/model'"):
        db.llm(f"{url}#another/model", retries=0).complete([Question("one")])
