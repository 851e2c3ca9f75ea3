"""Replies from the cache alone: whoever gave them, and nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Scripted

import descbench as db
from descbench import Vocabulary, generate
from descbench.errors import InputError
from descbench.generation import undescribed
from descbench.llms.replay import Offline, ReplayLLM
from descbench.store import CachedLLM, ReplyStore

BIRDS = Vocabulary(["hen", "rooster", "emu"], "farm birds")
DCLIP = db.method("dclip")


class Named(Scripted):
    def __init__(self, name: str, replies: dict[str, str]) -> None:
        super().__init__(replies)
        self._name = name
        self.fingerprint = name

    def __repr__(self) -> str:
        return self._name


def cached(folder: Path, name: str, classes: Vocabulary, reply: str) -> None:
    llm = Named(name, {'"': reply})
    generate(classes, DCLIP, CachedLLM(llm, ReplyStore(folder / "replies.sqlite")))


def test_a_replay_gives_what_was_said_and_leaves_the_rest_unanswered(tmp_path: Path) -> None:
    cached(tmp_path, "openai:one", BIRDS.subset([0, 1]), "- a comb")
    llm = db.llm("replay", cache=tmp_path)
    found = generate(BIRDS, DCLIP, llm)
    assert found.classes == {0: ["a comb"], 1: ["a comb"]}
    assert found.provenance["missing"] == [{"classes": ["emu"], "why": "not in the cache"}]


def test_of_several_language_models_one_has_to_be_named(tmp_path: Path) -> None:
    cached(tmp_path, "openai:one", BIRDS, "- a comb")
    cached(tmp_path, "openai:two", BIRDS.subset([0]), "- a beak")
    with pytest.raises(InputError, match=r"openai:one, openai:two\. Name one, as in --llm replay:openai:one"):
        generate(BIRDS, DCLIP, ReplayLLM(cache=tmp_path))
    found = generate(BIRDS, DCLIP, db.llm("replay:openai:two", cache=tmp_path))
    assert found.classes == {0: ["a beak"]}
    assert repr(db.llm("replay:openai:two", cache=tmp_path)) == "replay:openai:two"


def test_without_a_cache_there_is_nothing_to_replay(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no reply cache .* Name its folder: --cache-dir FOLDER"):
        ReplayLLM(cache=tmp_path)


def test_offline_uses_what_is_kept_and_counts_what_would_be_asked(tmp_path: Path) -> None:
    cached(tmp_path, "openai:one", BIRDS.subset([0, 1]), "- a comb")
    inner = Named("openai:one", {'"': "- never asked"})
    offline = Offline(inner)
    llm = CachedLLM(offline, ReplyStore(tmp_path / "replies.sqlite"))
    found = generate(BIRDS, DCLIP, llm)
    assert inner.batches == []
    assert undescribed(BIRDS, DCLIP, found) == [(2,)]
    (question,) = DCLIP.questions(BIRDS, (2,))
    assert (llm.hits, llm.asked, dict(offline.missed)) == (2, 0, {"dclip": 1})
    assert offline.missed_bytes == len(question.text.encode()) and offline.examples == {"dclip": question}
