"""A language model in this process: its replies depend on the question and the parameters, and on nothing around it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from descbench import prompts
from descbench.demo.guide import species
from descbench.demo.truth import Truth, check_descriptions, check_pairs, stated
from descbench.errors import AccessError, DescbenchWarning, InputError, SpecError
from descbench.llms import LLMS, DemoLLM, StreamingLLM, TransformersLLM
from descbench.llms.base import RecordingLLM
from descbench.parsing import SCHEMAS, parse_features, parse_pairs
from descbench.prompts import Question, Reply

TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|reply|>{% endif %}"
)
QUESTIONS = [
    Question("one"),
    Question("a much longer question about two birds, a hen and a 🦃"),
    Question("two, or three"),
]

ENDS = [0, *range(100, 190, 9)]  # beside <|end|> ten bytes that English and JSON do not need


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))


def build(
    folder: Path,
    *,
    template: str | None = TEMPLATE,
    seed: int = 0,
    layers: int = 2,
    context: int = 96,
    ends: Sequence[int] = (0,),
    window: int = 0,
) -> Path:
    """A tiny model of random weights, saved as any real one is; with a `window`, its layers see only so many tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GenerationConfig,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        PreTrainedTokenizerFast,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|end|>", "<|user|>", "<|reply|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([question.text for question in QUESTIONS], trainer)
    end = "<|end|>" if ends else None
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, chat_template=template)
    if not ends:
        wrapped.add_special_tokens({"additional_special_tokens": specials})
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model: Any
    if window:
        model = MistralForCausalLM(MistralConfig(sliding_window=window, **shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    # What a hub's model brings with it must not leak into what is sent.
    model.generation_config = GenerationConfig(
        eos_token_id=[*ends] or None, do_sample=True, top_k=1, repetition_penalty=1.7
    )
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def llm(folder: Path) -> TransformersLLM:
    return TransformersLLM(str(folder), device="cpu", max_tokens=24)


def test_a_reply_is_the_same_alone_in_a_batch_in_another_order_and_another_batch_size(
    folder: Path, llm: TransformersLLM
) -> None:
    together = llm.complete(QUESTIONS)
    assert len({reply.text for reply in together}) == 3
    assert [llm.complete([question])[0] for question in QUESTIONS] == together
    assert llm.complete(QUESTIONS[::-1])[::-1] == together
    two = TransformersLLM(str(folder), device="cpu", max_tokens=24, batch_size=2, top_p=1.0)
    assert two.complete(QUESTIONS) == together


def test_another_sample_and_another_seed_give_another_reply_and_the_same_one_the_same(
    folder: Path, llm: TransformersLLM
) -> None:
    first, other, again = llm.complete([Question("one"), Question("one", sample=1), Question("one", prompt="dclip")])
    assert first.text != other.text
    assert first == again
    reseeded = TransformersLLM(str(folder), device="cpu", max_tokens=24, seed=1)
    assert reseeded.complete([Question("one")])[0].text != first.text


def test_a_stream_gives_each_position_once_and_a_repeated_question_its_one_reply(llm: TransformersLLM) -> None:
    questions = [*QUESTIONS, QUESTIONS[0]]
    streamed = list(llm.stream(questions))
    assert sorted(position for position, _ in streamed) == [0, 1, 2, 3]
    assert [reply for _, reply in sorted(streamed, key=lambda found: found[0])] == llm.complete(questions)
    assert isinstance(llm, StreamingLLM)
    assert llm.complete([]) == []


class Counted(Sequence[Question]):
    """So many questions that only a lazy reader comes to an end; it counts how many were looked at."""

    def __init__(self) -> None:
        self.seen = 0

    def __len__(self) -> int:
        return 10**12

    def __getitem__(self, at: Any) -> Any:
        self.seen += 1
        return Question("one", at)


def test_of_a_long_sequence_only_a_few_batches_are_read_before_the_first_reply_comes(folder: Path) -> None:
    llm = TransformersLLM(str(folder), device="cpu", max_tokens=3, batch_size=2)
    questions = Counted()
    stream = llm.stream(questions)
    next(stream)
    assert questions.seen <= 32
    for _ in range(40):
        next(stream)
    assert questions.seen <= 64


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its replies end after any number of tokens: one in about 25 is an end token."""
    return build(tmp_path_factory.mktemp("model") / "talkative", ends=ENDS, context=1024)


def computed(llm: TransformersLLM, questions: Sequence[Question]) -> tuple[list[Reply], int]:
    """The replies, and how many tokens the model computed for them."""
    shapes = []
    embed = llm._loaded.model.get_input_embeddings()
    hook = embed.register_forward_pre_hook(lambda _, given: shapes.append(given[0].numel()))
    replies = llm.complete(questions)
    hook.remove()
    return replies, sum(shapes)


def test_ended_rows_leave_the_batch_and_waiting_questions_take_their_places(
    talkative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [Question("one", sample) for sample in range(48)]
    llm = TransformersLLM(str(talkative), device="cpu", max_tokens=200, temperature=1.0, batch_size=8)
    replies, tokens = computed(llm, questions)
    lengths = [reply.usage["completion_tokens"] for reply in replies]
    read = sum(reply.usage["prompt_tokens"] - 1 for reply in replies)
    monkeypatch.setattr("descbench.llms.transformers._LEAVE", 1.0)  # all wait for the longest
    in_step, more = computed(llm, questions)
    assert in_step == replies
    assert more - read == sum(8 * max(lengths[start : start + 8]) for start in range(0, 48, 8))
    assert sum(lengths) <= tokens - read <= 0.7 * (more - read)


TWELVE = [Question(text, sample) for text in ("one", "two, or three") for sample in range(6)]


@pytest.fixture(scope="module")
def apart(talkative: Path) -> dict[Question, Reply]:
    """The replies to twelve questions, each asked alone."""
    llm = TransformersLLM(str(talkative), device="cpu", max_tokens=50, temperature=1.0)
    return {question: llm.complete([question])[0] for question in TWELVE}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(TWELVE), batch_size=st.integers(1, 13))
def test_a_reply_is_the_same_whoever_enters_and_leaves_beside_it(
    talkative: Path, apart: dict[Question, Reply], order: list[Question], batch_size: int
) -> None:
    llm = TransformersLLM(str(talkative), device="cpu", max_tokens=50, temperature=1.0, batch_size=batch_size)
    assert dict(zip(order, llm.complete(order), strict=True)) == apart


def test_a_model_whose_layers_see_a_window_keeps_its_batches_together_and_gives_the_same_replies(
    tmp_path: Path,
) -> None:
    folder = build(tmp_path / "window", window=16, ends=ENDS)
    questions = [*QUESTIONS, Question("a" * 70), *(Question("one", sample) for sample in range(1, 9))]
    llm = TransformersLLM(str(folder), device="cpu", max_tokens=40, temperature=1.0, batch_size=4)
    assert not llm._loaded.joins
    assert llm.complete(questions) == [llm.complete([question])[0] for question in questions]


def test_samples_follow_the_models_own_probabilities(folder: Path) -> None:
    import torch

    llm = TransformersLLM(str(folder), device="cpu", max_tokens=1, temperature=0.8, batch_size=1000)
    loaded = llm._loaded
    ids = loaded.tokenizer("<|user|>one<|reply|>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = torch.softmax(loaded.model(ids).logits[0, -1] / 0.8, 0)
    by_text: dict[str, float] = {}  # half a character decodes as "\ufffd", whichever half it is
    for token, probability in enumerate(expected.tolist()):
        text = loaded.tokenizer.decode([token], skip_special_tokens=True)
        by_text[text] = by_text.get(text, 0) + probability
    replies = llm.complete([Question("one", sample) for sample in range(4000)])
    for text, probability in sorted(by_text.items(), key=lambda item: -item[1])[:5]:
        share = sum(reply.text == text for reply in replies) / 4000
        assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5)


def test_temperature_nought_is_the_likeliest_token_at_every_step_for_every_sample(folder: Path) -> None:
    import torch

    llm = TransformersLLM(str(folder), device="cpu", max_tokens=5, temperature=0)
    one, other = llm.complete([Question("one"), Question("one", sample=1)])
    loaded = llm._loaded
    ids = loaded.tokenizer("<|user|>one<|reply|>", return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    with torch.no_grad():
        for _ in range(5):
            ids = torch.cat([ids, loaded.model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
    assert one == other
    assert one.text == loaded.tokenizer.decode(ids[0, start:], skip_special_tokens=True)


def test_top_p_leaves_out_the_unlikely_tail(folder: Path) -> None:
    narrow = TransformersLLM(str(folder), device="cpu", max_tokens=8, top_p=1e-6)
    greedy = TransformersLLM(str(folder), device="cpu", max_tokens=8, temperature=0)
    assert narrow.complete(QUESTIONS) == greedy.complete(QUESTIONS)


def test_a_reply_at_its_limit_says_so_and_usage_counts_tokens(folder: Path) -> None:
    llm = TransformersLLM(str(folder), device="cpu", max_tokens=3)
    reply, *_ = llm.complete([Question("one"), QUESTIONS[1]])
    assert reply.finish_reason == "length"
    assert reply.model == "tiny"
    asked = llm._loaded.tokenizer("<|user|>one<|reply|>")["input_ids"]
    assert reply.usage == {"prompt_tokens": len(asked), "completion_tokens": 3}


def test_a_reply_that_ends_by_itself_says_so_and_its_end_is_not_in_the_text(folder: Path) -> None:
    replies = TransformersLLM(str(folder), device="cpu", max_tokens=60).complete(
        [Question("one", sample) for sample in range(200)]
    )
    ended = [reply for reply in replies if reply.finish_reason == "stop"]
    assert ended
    assert all(reply.usage["completion_tokens"] <= 60 and "<|end|>" not in reply.text for reply in ended)


def test_a_question_near_the_end_of_the_context_is_answered_shorter_and_its_neighbours_are_not(folder: Path) -> None:
    llm = TransformersLLM(str(folder), device="cpu", max_tokens=40)
    long = Question("a" * 90)
    alone = llm.complete([Question("one")])[0]
    cut, beside = llm.complete([long, Question("one")])
    assert cut.usage["prompt_tokens"] + cut.usage["completion_tokens"] <= 96
    assert beside == alone
    with pytest.raises(InputError, match=r"a question of 102 tokens does not fit the 96"):
        llm.complete([Question("a" * 100)])


def test_the_fingerprint_knows_weights_template_and_sampling_and_not_batch_or_device(
    folder: Path, tmp_path: Path
) -> None:
    base = TransformersLLM(str(folder)).fingerprint
    assert TransformersLLM(str(folder), batch_size=3, device="cpu").fingerprint == base
    assert TransformersLLM(str(shutil.copytree(folder, tmp_path / "moved"))).fingerprint == base
    variants = [
        TransformersLLM(str(folder), temperature=0.9),
        TransformersLLM(str(folder), top_p=0.9),
        TransformersLLM(str(folder), max_tokens=9),
        TransformersLLM(str(folder), seed=9),
        TransformersLLM(str(build(tmp_path / "weights", seed=1))),
        TransformersLLM(str(build(tmp_path / "template", template=TEMPLATE + " "))),
    ]
    assert len({base, *(variant.fingerprint for variant in variants)}) == 7


def test_the_fingerprint_of_large_weights_reads_blocks_and_still_tells_fine_tunings_apart(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("descbench.llms.transformers._SMALL", 0)
    other = build(tmp_path / "other", seed=1)
    assert (other / "model.safetensors").stat().st_size == (folder / "model.safetensors").stat().st_size
    assert TransformersLLM(str(other)).fingerprint != TransformersLLM(str(folder)).fingerprint


def test_a_spelling_and_its_repr_are_one(folder: Path) -> None:
    assert repr(LLMS["transformers"].from_spec(str(folder))) == f"transformers:{folder}"
    assert repr(LLMS["demo"].from_spec("")) == "demo"
    with pytest.raises(SpecError, match="'demo' takes no argument"):
        LLMS["demo"].from_spec("big")
    with pytest.raises(SpecError, match="names no model"):
        LLMS["transformers"].from_spec("")


@pytest.mark.parametrize("given", ["./nowhere", "/no/such/folder", "a b", "x/y/z"])
def test_a_folder_that_is_not_there_is_an_error_at_once(given: str) -> None:
    with pytest.raises(InputError, match="no model folder"):
        TransformersLLM(given)


def test_a_folder_without_a_model_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        TransformersLLM(str(tmp_path))


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"max_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"structured": "yes"}]
)
def test_impossible_parameters_are_errors_at_once(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        TransformersLLM(str(folder), **options)


def test_a_model_that_the_hub_does_not_give_ends_the_run() -> None:
    llm = TransformersLLM("nobody/nothing")
    with pytest.raises(AccessError, match=r"no model 'nobody/nothing'.*hub"):
        llm.complete([Question("one")])
    with pytest.raises(AccessError):
        _ = llm.fingerprint


def test_a_hub_id_is_served_from_the_local_copy_and_its_commit_is_the_fingerprint(
    folder: Path, llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    copy, commits = tmp_path / "models--lab--tiny", ["1" * 40, "2" * 40]
    for commit in commits:
        shutil.copytree(folder, copy / "snapshots" / commit)
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text(commits[0])
    hub = TransformersLLM("lab/tiny", device="cpu", max_tokens=24)
    pinned = TransformersLLM(f"lab/tiny@{commits[1]}")
    assert hub.fingerprint.startswith(f"transformers:lab/tiny@{commits[0]}:")
    assert pinned.fingerprint.startswith(f"transformers:lab/tiny@{commits[1]}:")
    reply = hub.complete(QUESTIONS[:1])[0]
    assert reply.text == llm.complete(QUESTIONS[:1])[0].text
    assert reply.model == f"lab/tiny@{commits[0]}"


def test_a_model_without_a_chat_template_is_an_error(tmp_path: Path) -> None:
    llm = TransformersLLM(str(build(tmp_path / "base", template=None)), device="cpu")
    with pytest.raises(InputError, match="no chat template"):
        llm.complete([Question("one")])


def test_a_folder_without_weights_is_an_error(folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        TransformersLLM(str(bare), device="cpu").complete([Question("one")])


def test_weights_of_another_model_are_an_error_and_never_filled_with_random_numbers(
    folder: Path, tmp_path: Path
) -> None:
    foreign = shutil.copytree(folder, tmp_path / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InputError, match="9 of its tensors are missing"):
        TransformersLLM(str(foreign), device="cpu").complete([Question("one")])
    (foreign / "config.json").write_text(json.dumps(config | {"hidden_size": 64, "head_dim": 16}))
    with pytest.raises(InputError, match=r"cannot be loaded|those of another model"):
        TransformersLLM(str(foreign), device="cpu").complete([Question("one")])


def test_truncated_weights_are_an_error(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="cannot be loaded"):
        TransformersLLM(str(broken), device="cpu").complete([Question("one")])


def test_constructing_and_fingerprinting_import_neither_torch_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from descbench.llms import LLMS; "
        f"llm = LLMS['transformers'].from_spec({str(folder)!r}); print(llm, llm.name, llm.fingerprint); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'openai')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_loading_leaves_the_settings_of_transformers_as_they_were(folder: Path) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    TransformersLLM(str(folder), device="cpu", max_tokens=1).complete([Question("one")])
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# Questions that ask for JSON of a schema.

ASKED = [Question("one", sample, schema=schema) for sample in range(10) for schema in SCHEMAS]


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def objects(value: Any, *keys: str) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and sorted(item) == sorted(keys) for item in value)


def fits(schema: str, value: Any) -> bool:
    """The schemas in plain words."""
    if schema in ("features", "sentences"):
        return list(value) == [schema] and texts(value[schema])
    if schema == "pairs":
        pairs = value["pairs"]
        return objects(pairs, "attribute", "first", "second") and all(texts(list(pair.values())) for pair in pairs)
    return objects(value["classes"], "name", "captions") and all(texts(item["captions"]) for item in value["classes"])


def fitting(replies: Sequence[Reply]) -> int:
    """How many replies are JSON that fits; one that claims to be whole and is not counts for nothing."""
    found = 0
    for question, reply in zip(ASKED, replies, strict=True):
        try:
            found += fits(question.schema, json.loads(reply.text))
        except ValueError:
            assert reply.finish_reason == "length" or reply.details["mode"] == "text", reply.text
    return found


def test_with_a_grammar_every_reply_fits_its_schema_or_is_cut_off_and_without_one_none_does(talkative: Path) -> None:
    pytest.importorskip("xgrammar")
    options: dict[str, Any] = {"device": "cpu", "max_tokens": 300, "temperature": 1.0, "batch_size": 16}
    bound = TransformersLLM(str(talkative), **options).complete(ASKED)
    whole = [q.schema for q, reply in zip(ASKED, bound, strict=True) if reply.finish_reason == "stop"]
    assert fitting(bound) == len(whole) < len(bound)
    assert len(set(whole)) >= 3
    key = {"contrast": "classes"}
    assert all(r.text.startswith(f'{{"{key.get(q.schema, q.schema)}": [') for q, r in zip(ASKED, bound, strict=True))
    assert fitting(TransformersLLM(str(talkative), structured="text", **options).complete(ASKED)) == 0


def test_a_reply_within_a_grammar_depends_on_nothing_around_it_and_changes_nothing(talkative: Path) -> None:
    pytest.importorskip("xgrammar")
    options: dict[str, Any] = {"device": "cpu", "max_tokens": 60, "temperature": 1.0}
    free = [Question("one", sample) for sample in range(8)]
    mixed = [question for both in zip(free, ASKED, strict=False) for question in both]
    llm = TransformersLLM(str(talkative), batch_size=5, **options)
    replies = dict(zip(mixed, llm.complete(mixed), strict=True))
    assert [replies[question] for question in free] == llm.complete(free)
    assert [replies[question] for question in ASKED[:3]] == [llm.complete([question])[0] for question in ASKED[:3]]
    likeliest = TransformersLLM(str(talkative), structured="json_schema", **{**options, "temperature": 0})
    assert likeliest.complete(ASKED[:1])[0].text.startswith('{"features": [')


def test_no_mark_of_the_chat_template_stands_in_a_bound_reply(talkative: Path) -> None:
    pytest.importorskip("xgrammar")
    llm = TransformersLLM(str(talkative), device="cpu", max_tokens=60, temperature=1.0)
    seen: set[int] = set()
    llm._loaded.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: seen.update(given[0][:, 0].tolist()) if given[0].shape[1] == 1 else None
    )
    llm.complete([Question("one", sample, schema="features") for sample in range(60)])
    assert len(seen) > 200  # of about 280 tokens
    assert not seen & {1, 2}  # <|user|>, <|reply|>


def test_a_plain_request_is_as_ever_and_one_with_a_schema_names_it_and_its_mode(
    talkative: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xgrammar")
    llm = TransformersLLM(str(talkative), device="cpu", max_tokens=5)
    plain = {"llm": llm.fingerprint, "text": "one", "sample": 3}
    asked = Question("one", 3, "dclip", "features")
    bound, free = ({**plain, "schema": "features", "mode": mode} for mode in ("json_schema", "text"))
    assert isinstance(llm, RecordingLLM)
    assert llm.requests(Question("one", 3, "dclip")) == [plain]
    assert llm.requests(asked) == [bound, free]
    assert llm.complete([asked])[0].details == {"request": bound, "mode": "json_schema"}
    assert llm.complete([Question("one", 3)])[0].details == {}
    assert TransformersLLM(str(talkative), structured="json_schema", max_tokens=5).requests(asked) == [bound]
    text = TransformersLLM(str(talkative), structured="text", device="cpu", max_tokens=5)
    assert text.requests(asked) == [free]
    assert text.complete([asked])[0].details == {"request": free, "mode": "text"}
    monkeypatch.setitem(sys.modules, "xgrammar", None)  # as where it is not installed
    without = TransformersLLM(str(talkative), device="cpu", max_tokens=5)
    assert without.requests(asked) == [free, bound]
    assert without.complete([asked]) == text.complete([asked])
    with pytest.raises(InputError, match=r'pip install "descbench\[xgrammar\]"'):
        TransformersLLM(str(talkative), structured="json_schema")


def test_where_no_grammar_can_serve_the_model_is_asked_in_plain_text_with_a_note(tmp_path: Path) -> None:
    pytest.importorskip("xgrammar")
    endless = str(build(tmp_path / "endless", ends=()))
    with pytest.warns(DescbenchWarning, match="no schema can be enforced"):
        reply = TransformersLLM(endless, device="cpu", max_tokens=5).complete(ASKED[:1])[0]
    assert (reply.details["mode"], reply.finish_reason) == ("text", "length")
    with pytest.raises(InputError, match="no schema can be enforced"):
        TransformersLLM(endless, device="cpu", max_tokens=5, structured="json_schema").complete(ASKED[:1])


def test_an_unknown_schema_is_an_error_that_lists_the_known_ones(talkative: Path) -> None:
    pytest.importorskip("xgrammar")
    with pytest.raises(InputError, match=r"no schema 'feature'; there are: features, sentences, pairs, contrast\."):
        TransformersLLM(str(talkative), device="cpu").complete([Question("one", schema="feature")])


# The model that is shipped.


@pytest.fixture(scope="module")
def demo() -> DemoLLM:
    return DemoLLM()


def pair(first: str, second: str) -> Question:
    return Question(prompts.fill("differential", first=first, second=second, domain="birds"))


def test_the_demo_model_names_about_five_traits_of_a_bird_those_of_its_genus_first(demo: DemoLLM) -> None:
    birds = species()
    replies = demo.complete([Question(prompts.fill("dclip", name=bird.name, domain="birds")) for bird in birds])
    texts = {bird.name: parse_features(reply).items for bird, reply in zip(birds, replies, strict=True)}
    assert all(4 <= len(found) <= 6 for found in texts.values())
    first = {bird: [stated(text) for text in texts[bird.name][:3]] for bird in birds}
    of_genus = [{found[0] for found in first[bird] if found} <= set(bird.common) for bird in birds]
    assert sum(of_genus) >= 36
    truth = check_descriptions(texts)
    assert truth.error_rate <= 0.05
    assert truth.unread <= 0.02 * truth.stated  # at times it says what the guide has no words for


def test_the_demo_model_tells_species_of_a_genus_apart(demo: DemoLLM) -> None:
    birds = species()
    asked = [(one, other) for one in birds for other in birds if one.genus == other.genus and one.name < other.name]
    replies = demo.complete([pair(one.name, other.name) for one, other in asked])
    found = [parse_pairs(reply).items for reply in replies]
    truth = sum(
        (
            check_pairs({(one.name, other.name): ([a for _, a, _ in lines], [b for _, _, b in lines])})
            for (one, other), lines in zip(asked, found, strict=True)
        ),
        Truth(),
    )
    assert all(found)
    assert truth.error_rate <= 0.08
    assert truth.alike + truth.unread <= 0.05 * truth.stated


def test_the_demo_model_answers_in_form_about_birds_that_it_never_met(demo: DemoLLM) -> None:
    names = ["hen", "rooster", "turkey", "crème brûlée", "a/b", 'the "x"']
    lists = demo.complete([Question(prompts.fill("dclip", name=name, domain="farm birds")) for name in names])
    assert all(parse_features(reply).items for reply in lists)
    pairs = demo.complete([pair("hen", "rooster"), pair("cat", "dog"), pair("cat", "Elsip polor")])
    assert sum(bool(parse_pairs(reply).items) for reply in pairs) >= 2


def test_the_demo_model_is_small_and_its_figures_are_beside_it() -> None:
    lm = Path(__file__).parent.parent / "descbench" / "demo" / "lm"
    assert sum(path.stat().st_size for path in lm.iterdir()) <= 6 * 2**20
    figures = json.loads((lm / "training.json").read_text())
    assert figures["measured"]["dclip"]["error_rate"] <= 0.05
    assert figures["measured"]["differential_within_genus"]["error_rate"] <= 0.08
