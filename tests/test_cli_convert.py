"""`import` prints how each class was joined and loses none; `export` writes what others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

import descbench as db
from descbench import Descriptions

PETS = {"british_shorthair": ["dense fur"], "Beagle": ["long ears"] * 2, "pug": [], "boxer": ["a short muzzle"]}


@pytest.fixture
def pets(tmp_path: Path) -> str:
    (tmp_path / "pets.json").write_text(json.dumps(PETS))
    return "pets.json"


def reply(custom_id: str, content: str | None) -> str:
    body = {"model": "m", "choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}) + "\n"


def test_import_prints_the_mapping_and_writes_a_file_under_your_classes(run: Run, pets: str) -> None:
    done = run("import", pets, "--vocabulary", "Pug,British Shorthair,boxer,beagle", "-o", "o.json", "--domain", "pets")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "3 classes described in 4 texts of the format dclip",
        "4 classes: 2 by case: Beagle -> beagle, pug -> Pug; "
        "1 by normalised name: british_shorthair -> British Shorthair; 1 the same",
        "1 without a description: Pug",
    ]
    assert done.err == "written to o.json\n"
    found = Descriptions.load("o.json")
    assert found.classes == {1: ["dense fur"], 2: ["a short muzzle"], 3: ["long ears", "long ears"]}
    assert found.names == {0: "Pug", 1: "British Shorthair", 2: "boxer", 3: "beagle"} and found.domain == "pets"
    assert found.provenance == {"file": "pets.json", "format": "dclip"}


def test_import_without_a_vocabulary_keeps_the_classes_of_the_file(run: Run, pets: str) -> None:
    done = run("import", pets, "-o", "o.json")
    assert done.code == 0 and "4 classes, named as in the file" in done.out
    assert list(Descriptions.load("o.json").names.values()) == list(PETS)


def test_import_prints_json_with_the_whole_mapping(run: Run, pets: str) -> None:
    done = run("import", pets, "--vocabulary", "pug,beagle,cat", "--allow-missing", "-o", "o.json", "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "format": "dclip",
        "classes": 1,
        "pairs": 0,
        "sets": 0,
        "texts": 2,
        "without": ["pug", "cat"],
        "mapping": [
            {"given": "Beagle", "name": "beagle", "how": "case"},
            {"given": "pug", "name": "pug", "how": "same"},
        ],
        "left_out": {"file": ["british_shorthair", "boxer"], "vocabulary": ["cat"]},
    }
    assert "note: 2 described classes left out, which the vocabulary lacks: british_shorthair, boxer; 1 cl" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pets.json", "--vocabulary", "pugs,beagle"), "british_shorthair'; 'pug'; did you mean 'pugs'?; 'boxer'"),
        (("pets.json", "--format", "fudd"), "is not of the format 'fudd': it looks like 'dclip'"),
        (("pets.json", "--format", "dclp"), "no format 'dclp'; did you mean 'dclip'?"),
        (
            ("pets.json", "--requests", "pets.json"),
            "no batch of OpenAI's; give one file, and no --requests",
        ),
        (("pets.json", "pets.json"), "is no batch of OpenAI's"),
        (("none.json",), "no file none.json"),
        (("pets.json", "--vocabulary", "none.txt"), "no file 'none.txt'"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_writes_nothing(
    run: Run, pets: str, arguments: tuple[str, ...], message: str
) -> None:
    done = run("import", *arguments, "-o", "o.json")
    assert done.code == 2 and done.out == ""
    assert message in done.err and done.err.count("\n") == 1
    assert not Path("o.json").exists()


def test_numbers_without_names_need_a_vocabulary(run: Run) -> None:
    Path("d.json").write_text('{"index_to_descriptions": {"1": ["a comb"]}}')
    assert "give the vocabulary" in run("import", "d.json", "-o", "o.json").err
    Path("birds.csv").write_text("id,name\n1,hen\n")
    done = run("import", "d.json", "--vocabulary", "birds.csv", "-o", "o.json")
    assert done.code == 0 and "1 classes: 1 by id: 1 -> hen" in done.out
    assert Descriptions.load("o.json").classes == {1: ["a comb"]}


def test_a_batch_is_imported_with_its_errors_and_ends_with_3_where_a_reply_is_missing(run: Run) -> None:
    Path("b_replies.jsonl").write_text(reply("birds~hen", "- a comb") + reply("birds~emu", "- long legs\n- a beak"))
    error = {"custom_id": "birds~owl", "response": None, "error": {"code": "batch_expired", "message": "expired"}}
    Path("late.jsonl").write_text(json.dumps(error) + "\n")
    sent = [{"custom_id": f"birds~{name}", "body": {"model": "m"}} for name in ("owl", "emu", "hen", "auk")]
    Path("sent.jsonl").write_text("".join(json.dumps(line) + "\n" for line in sent))
    whole = run("import", "b_replies.jsonl", "-o", "o.json")
    assert whole.code == 0 and "2 classes described in 3 texts of the format openai-batch" in whole.out
    done = run("import", "b_replies.jsonl", "late.jsonl", "--requests", "sent.jsonl", "-o", "o.json", "--json")
    assert done.code == 3
    assert "2 of 4 without usable features: birds~owl (expired), birds~auk (no reply)" in done.err
    report: dict[str, Any] = json.loads(done.out)["batch"]
    assert (report["answered"], report["failed"], report["without reply"]) == (2, 1, 1)
    assert report["unusable"] == {"birds~owl": "expired", "birds~auk": "no reply"}
    found = Descriptions.load("o.json")
    assert found.names == {0: "hen", 1: "emu", 2: "owl", 3: "auk"} and set(found.classes) == {0, 1}


@pytest.mark.parametrize("format", ["dclip", "cupl", "csv"])
def test_what_is_exported_is_imported_again(run: Run, pets: str, format: str) -> None:
    run("import", pets, "-o", "own.json")
    done = run("export", "own.json", "--format", format, "-o", f"out.{format}")
    assert done.code == 0 and done.out == ""
    assert done.err == f"3 classes described in 4 texts written to out.{format}\n"
    assert run("import", f"out.{format}", "-o", "again.json").code == 0
    own, again = Descriptions.load("own.json"), Descriptions.load("again.json")
    assert (own.classes, own.names) == (again.classes, again.names)


def test_pairs_are_exported_as_fudds_two_files(run: Run) -> None:
    Descriptions({}, {(3, 5): (["a red comb"], ["no comb"])}, {3: "hen", 5: "emu"}).save("own.json")
    assert run("export", "own.json", "--format", "fudd", "-o", "x_prompt_pairs.json").code == 0
    assert json.loads(Path("x_class_names.json").read_text()) == ["hen", "emu"]
    refused = run("export", "own.json", "--format", "dclip", "-o", "x.json")
    assert refused.code == 2 and "fudd or csv can" in refused.err


def test_each_of_the_two_shows_an_example(run: Run) -> None:
    for command in ("import", "export"):
        assert f"Example: descbench {command}" in " ".join(run(command, "--help").out.split())


def request(custom_id: str, text: str, **more: object) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def test_the_replies_of_a_batch_go_into_the_cache_under_what_was_sent_for_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    asked = {q.text: q for q in (db.method("dclip").questions(db.Vocabulary(["hen", "emu"], "birds"), (0,)))}
    (text,) = asked
    Path("b_requests.jsonl").write_text(request("birds~hen", text, temperature=1) + request("birds~emu", "else?"))
    Path("b_replies.jsonl").write_text(reply("birds~hen", "- a comb") + reply("birds~owl", "- a face"))
    done = run("import", "b_replies.jsonl", "-o", "o.json")
    assert "1 replies in the cache, 1 of them new; 1 have no request to be kept under" in done.err
    assert "0 of them new" in run("import", "b_replies.jsonl", "-o", "o.json").err
    (row,) = json.loads(run("cache", "ls", "--json").out)["replies"]
    assert (row["llm"], row["replies"]) == ("openai:m", 1)
    asks = ("generate", "hen,emu", "--domain", "birds", "--offline")
    hit = run(*asks, "--llm", "openai:m", "--temperature", "1")
    assert hit.code == 3 and "1 classes described; 0 asked, 1 from the cache" in hit.err
    miss = run(*asks, "--llm", "openai:m")
    assert "nothing described; 0 asked, 0 from the cache" in miss.err
    assert json.loads(run(*asks[:-1], "--llm", "replay").out)["classes"][0]["texts"] == ["a comb"]


def test_real_replies_go_into_the_cache(run: Run) -> None:
    folder = Path(__file__).parents[2] / "shared" / "data" / "batch"
    if not folder.is_dir():
        pytest.skip("needs published files beside the checkout")
    for name, count in {
        "comparative_pets": 370,
        "comparative_eurosat": 90,
        "dclip_pets": 37,
        "dclip_eurosat": 10,
    }.items():
        done = run("import", folder / f"{name}_replies.jsonl", "-o", f"{name}.json")
        assert done.code == 0 and f"{count} replies in the cache, {count} of them new" in done.err, done.err
    rows = json.loads(run("cache", "ls", "--json").out)["replies"]
    assert sum(row["replies"] for row in rows) == 507
    assert {(row["llm"], row["model"]) for row in rows} == {("openai:gpt-4o", "gpt-4o-2024-05-13")}
