"""The contracts of the extension points hold for everything that is shipped, and catch what breaks them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from PIL import Image

import descbench as db
from descbench import Descriptions, Question, Reply, TextBank, Vocabulary
from descbench.datasets import Sample
from descbench.generation import generate, undescribed
from descbench.methods import DCLIP, METHODS, Cascade, Differential, Method, Template
from descbench.testing import (
    ODD_NAMES,
    FakeEncoder,
    FakeLLM,
    check_dataset,
    check_encoder,
    check_llm,
    check_method,
)
from descbench.texts import Anchors

SPELLINGS = [
    "classname",
    "template",
    "template('{} and {}')",
    "templates",
    "templates(list=['{}'])",
    "dclip",
    "dclip(phrasing='authors')",
    "dclip(pool='max_score')",
    "dclip(phrasing='authors', pool='mean_prob')",
    "dclip(structured=True)",
    "cupl",
    "cupl(samples=1, with_templates=True)",
    "cupl(with_templates=True, templates=['a {}'])",
    "adaptclipzs",
    "adaptclipzs(samples=2, pool='mean_feature')",
    "shuffled(adaptclipzs)",
    "comparative",
    "differential",
    "differential(structured=True)",
    "differential(fallback='{}', phrasing='authors')",
    "contrast",
    "contrast(fallback='{}', structured=False)",
    "cascade(template, contrast, k=3)",
    "cascade(dclip, nameless(shuffled(contrast)), k=2)",
    "shuffled(contrast, seed=2)",
    "nameless(contrast)",
    "shared(contrast, most=3)",
    "random_descriptions(contrast)",
    "scrambled(contrast)",
    "waffle_and(contrast)",
    "fudd",
    "fudd(k=1)",
    "fudd(k=5, phrasing='authors')",
    "selected",
    "selected(m=2, w=0.5, pool='max_score', prompt='dclip')",
    "selected(named=True)",
    "disclip",
    "disclip(k=4, m=1, w=0)",
    "disclip(k=1, own=True, w=2.25)",
    "disclip(named=True, pool='max_score')",
    "select_fewshot(dclip)",
    "select_fewshot(comparative)",
    "shuffled(selected(w=0))",
    "cascade(dclip, nameless(selected(w=0)), k=2)",
    "cascade(classname, k=1)",
    "cascade(dclip, differential, k=5)",
    "cascade(templates, dclip(pool='mean_feature'), nameless(differential), k=3)",
    "shuffled(dclip)",
    "shuffled(dclip, seed=5)",
    "shuffled(template)",
    "shuffled(differential)",
    "nameless(dclip)",
    "nameless(classname)",
    "nameless(differential)",
    "nameless(cupl)",
    "shuffled(comparative)",
    "nameless(shuffled(dclip))",
    "shuffled(nameless(dclip))",
    "shuffled(shuffled(differential))",
    "cupl(pool='mean_score')",
    "waffle",
    "waffle(seed=3, pairs=2, pool='max_score')",
    "waffle_and(dclip)",
    "waffle_and(cupl, seed=2)",
    "waffle_and(differential)",
    "shared(dclip)",
    "shared(dclip, most=3, seed=1)",
    "shared(cupl)",
    "shared(differential, most=5)",
    "shared(comparative)",
    "random_descriptions(dclip)",
    "random_descriptions(cupl, seed=1)",
    "random_descriptions(differential)",
    "random_descriptions(comparative)",
    "scrambled(dclip)",
    "scrambled(cupl)",
    "scrambled(differential, seed=4)",
    "scrambled(comparative)",
    "nameless(random_descriptions(dclip))",
    "scrambled(nameless(shared(dclip)))",
    "wca(dclip)",
    "wca(differential)",
    "nameless(wca(cupl))",
    "waffle_and(wca(dclip))",
    "awt(dclip)",
    "shuffled(awt(cupl))",
    "cascade(template, awt(dclip), k=3)",
    "cascade(waffle, random_descriptions(differential), k=3)",
    "truncated(dclip)",
    "truncated(differential)",
    "nameless(truncated(contrast))",
    "cascade(truncated(dclip), shuffled(truncated(differential)), k=2)",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_method_keeps_the_contract(spelling: str) -> None:
    check_method(db.method(spelling))


def test_every_method_of_the_table_is_among_them() -> None:
    assert {spelling.split("(")[0] for spelling in SPELLINGS} == set(METHODS)


@pytest.mark.parametrize(
    "spelling",
    [
        *("dclip", "differential", "fudd", "nameless(dclip)", "shuffled(differential)", "cupl", "comparative"),
        *("dclip(structured=True)", "differential(structured=True)"),
        *("contrast", "contrast(structured=False)", "nameless(contrast)"),
    ],
)
def test_the_fake_language_model_answers_every_question_of_the_shipped_prompts(spelling: str) -> None:
    method = db.method(spelling)
    for vocabulary in (Vocabulary(ODD_NAMES), Vocabulary(["hen", "rooster"], "birds"), Vocabulary(["hen"])):
        llm = FakeLLM()
        found = generate(vocabulary, method, llm)
        assert undescribed(vocabulary, method, found) == []
        assert len(llm.batches) <= 1  # nothing was asked again


def test_the_fakes_keep_the_contracts() -> None:
    check_encoder(FakeEncoder())
    check_encoder(FakeEncoder(dim=7, seed=3))
    check_llm(FakeLLM())
    check_llm(FakeLLM(seed=1))


def test_the_fakes_go_by_content_and_seed() -> None:
    one, same, other = FakeEncoder(), FakeEncoder(), FakeEncoder(seed=1)
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    assert (one.encode_texts(["a"]) == same.encode_texts(["a"])).all()
    assert not np.allclose(one.encode_texts(["a"]), one.encode_texts(["b"]))
    assert not np.allclose(one.encode_texts(["a"]), other.encode_texts(["a"]))
    assert not np.allclose(one.encode_images([red]), one.encode_images([blue]))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    question = Question("What?")
    assert FakeLLM().complete([question]) == FakeLLM().complete([question])
    assert FakeLLM().complete([question]) != FakeLLM().complete([replace(question, sample=1)])
    assert FakeLLM().complete([question]) != FakeLLM(seed=1).complete([question])


@dataclass(frozen=True, repr=False)
class _Broken(DCLIP):
    """A third party's method that nobody has registered; each case breaks one thing."""

    spelled: ClassVar[str] = "broken"
    fault: str = "none"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> TextBank:
        bank = super().texts(vocabulary, descriptions)
        match self.fault:
            case "position":
                return replace(bank, texts=tuple(f"{i} {text}" for i, text in enumerate(bank.texts)))
            case "ids":
                lists = [[f"{id_} {name}"] for id_, name in vocabulary]
                return replace(TextBank.of(vocabulary, lists), undescribed=bank.undescribed)
            case "by name":
                by_name = {name: bank.texts_of(i) for i, name in enumerate(vocabulary.names)}
                lists = [list(by_name.values())[min(i, len(by_name) - 1)] for i in range(len(vocabulary))]
                return replace(TextBank.of(vocabulary, lists), undescribed=bank.undescribed)
            case "blank":
                return replace(bank, texts=(*bank.texts[:-1], " "))
            case "uncounted":
                return replace(bank, undescribed=np.zeros(len(vocabulary), dtype=bool))
            case "none for a class":
                offsets = bank.offsets.copy()
                offsets[1] = 0
                return replace(bank, offsets=offsets)
            case "too few":
                return replace(bank, texts=bank.texts[:-1])
            case "weights":
                return replace(bank, weights=np.full(len(bank), np.nan, dtype=np.float32))
            case "anchors":
                return replace(bank, anchors=Anchors(("a name",), 1.0))
            case "blank anchor":
                return replace(bank, anchors=Anchors(("",) * len(vocabulary), 1.0))
            case "anchors by position":
                return replace(bank, anchors=Anchors(tuple(f"{i}" for i in range(len(vocabulary))), 1.0))
            case "impure":
                return replace(bank, texts=(*bank.texts[:-1], f"{np.random.default_rng().random()}"))
            case "no bank":
                return list(bank.texts)  # type: ignore[return-value]
        return bank

    def questions(self, vocabulary: Vocabulary, subject: Any, attempt: int = 0) -> list[Question]:
        match self.fault:
            case "blank question":
                return [Question(" ", attempt)]
            case "no question":
                return []
            case "same sample":
                return super().questions(vocabulary, subject, 0)
            case "order in question":
                return [Question(f"{vocabulary.names}", attempt)]
        return super().questions(vocabulary, subject, attempt)

    def parse(self, subject: Any, replies: Any) -> Descriptions:
        match self.fault:
            case "nothing counts":
                return Descriptions({subject[0]: [reply.text for reply in replies]})
            case "other class":
                return Descriptions({subject[0] + 1: ["x"]})
        return super().parse(subject, replies)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("position", "permuting the vocabulary must permute the texts"),
        ("ids", "permuting the vocabulary must permute the texts"),
        ("by name", "permuting the vocabulary must permute the texts"),
        ("blank", "a text is blank"),
        ("uncounted", "classes have no description, but 0 are counted"),
        ("none for a class", "these classes have no text: "),
        ("too few", "the offsets do not span the"),
        ("weights", "weights are finite"),
        ("anchors", "5 classes need 5 anchors, not 1"),
        ("blank anchor", "an anchor is blank"),
        ("anchors by position", "permuting the vocabulary must permute the texts"),
        ("impure", "called twice with the same input"),
        ("no bank", "gives a list, not a TextBank"),
        ("blank question", "a blank question"),
        ("no question", "has no question about subject"),
        ("same sample", "asks for the samples of attempt 0 again"),
        ("order in question", "the order of the classes changes a question"),
        ("nothing counts", "blank text|an empty reply counts"),
        ("other class", "is read as one about"),
    ],
)
def test_a_broken_method_is_told_what_it_breaks(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_method(_Broken(fault=fault))


def test_a_method_that_nobody_has_registered_can_be_checked_and_used() -> None:
    check_method(_Broken())
    check_method(Cascade(Template(), _Broken(), k=3))


def test_a_method_whose_repr_spells_another_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Forgetful(DCLIP):
        def __repr__(self) -> str:
            return "dclip"

    with pytest.raises(AssertionError, match="not equal to the method it came from"):
        check_method(Forgetful(pool="max_score"))


@dataclass(frozen=True, repr=False)
class _Pooled(Differential):
    @property
    def pool(self) -> Any:
        return "median"


def test_an_unknown_pool_is_caught() -> None:
    with pytest.raises(AssertionError, match="'median', which is none of"):
        check_method(_Pooled())


class _Encoder(FakeEncoder):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        if fault == "scale":
            self.logit_scale = -1.0

    @property
    def fingerprint(self) -> str:
        return "" if self.fault == "fingerprint" else super().fingerprint

    def _rows(self, contents: Any) -> Any:
        rows = super()._rows(contents)
        match self.fault:
            case "long":
                return 2 * rows
            case "double":
                return rows.double()
            case "numpy":
                return rows.numpy()
            case "one too few":
                return rows[:-1] if len(rows) > 1 else rows
            case "neighbours":
                centred = rows - rows.mean(dim=0) if len(rows) > 1 else rows
                return centred / centred.norm(dim=1, keepdim=True)
            case "place":
                return rows if len(rows) == 1 else rows.roll(1, dims=0)
            case "spaces":
                narrow = rows[:, :32] if contents[0][0] == "image" else rows
                return narrow / narrow.norm(dim=1, keepdim=True)
        return rows


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("scale", "logit_scale is -1.0"),
        ("fingerprint", "has the fingerprint ''"),
        ("long", "not 1"),
        ("double", "float64, not float32"),
        ("numpy", "a ndarray, not a Tensor"),
        ("one too few", r"need an \(6, D\) tensor"),
        ("neighbours", "encoded alone and in a batch, the text features differ"),
        ("place", "in another order, the text features differ"),
        ("spaces", "64 dimensions for texts and 32 for images"),
    ],
)
def test_a_broken_encoder_is_told_what_it_breaks(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(_Encoder(fault))


class _LLM(FakeLLM):
    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def complete(self, questions: Any) -> Any:
        replies = super().complete(questions)
        match self.fault:
            case "fewer":
                return replies[:-1]
            case "texts":
                return [reply.text for reply in replies]
            case "generator":
                return (reply for reply in replies)
            case "sorted":
                return sorted(replies, key=lambda reply: reply.text)
            case "each time":
                return [Reply(f"{i} {reply.text}") for i, reply in enumerate(replies)]
        return replies


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fewer", "4 questions, but 3 replies"),
        ("texts", "not a Reply with a text"),
        ("generator", "no question needs no reply"),
        ("sorted", "the replies differ|in the order of the questions"),
        ("each time", "one question twice in a call, and the replies differ"),
    ],
)
def test_a_broken_language_model_is_told_what_it_breaks(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_llm(_LLM(fault))


class _Dataset:
    name, fingerprint = "colours", "colours:1"
    names = ("red", "blue")

    def __init__(self, fault: str) -> None:
        self.fault, self.passes = fault, 0
        if fault == "nameless label":
            self.names = ("red", " ")

    def __len__(self) -> int:
        return 5 if self.fault == "len" else 4

    def samples(self) -> Any:
        self.passes += 1
        for i in range(4):
            id_ = {"same id": "x", "new ids": f"{self.passes}-{i}", "blank id": ""}.get(self.fault, f"{i}")
            label: Any = 2 if self.fault == "label" else [0, 1, None, 0][i]
            yield Sample(id_, lambda i=i: self._load(i), label, f"picture {i}")

    def _load(self, i: int) -> Image.Image:
        if self.fault == "unreadable":
            raise db.errors.InputError("cannot be read")
        return Image.new("L" if self.fault == "grey" else "RGB", (4, 4), (40 * i))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("len", "its len is 5, and it has 4 samples"),
        ("same id", "two pictures have the id 'x'"),
        ("new ids", "a second pass gives other ids"),
        ("blank id", "a sample has the id ''"),
        ("label", "label 2 of '0', and there are 2 names"),
        ("nameless label", "it needs a name"),
        ("grey", "has the mode L, not RGB"),
        ("unreadable", "none of the first 20 images can be read"),
    ],
)
def test_a_broken_data_set_is_told_what_it_breaks(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_dataset(_Dataset(fault))


def test_the_shipped_data_sets_keep_the_contract(tmp_path: Path) -> None:
    check_dataset(_Dataset("none"))
    check_dataset(db.dataset("demo:n=12"), images=3)
    for label, colour in (("red_hen", "red"), ("auk", "black")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (9, 7), colour).save(tmp_path / "photos" / label / "one.png")
        Image.new("L", (7, 9), 99).save(tmp_path / "photos" / label / "grey.jpg")
    check_dataset(db.dataset(f"folder:{tmp_path / 'photos'}"))
    rows = FakeEncoder(dim=5).encode_texts(["a", "b", "c"]).numpy()
    np.savez(tmp_path / "f.npz", image_features=rows, labels=np.array([0, 1, -1]), names=np.array(["hen", "auk"]))
    check_dataset(db.dataset(f"features:{tmp_path / 'f.npz'}"))


def test_the_features_encoder_keeps_the_contract_for_its_texts(tmp_path: Path) -> None:
    texts = ["a", "crème", "🦜"]
    np.savez(tmp_path / "t.npz", texts=np.array(texts), text_features=FakeEncoder(dim=5).encode_texts(texts).numpy())
    check_encoder(db.encoder(f"features:{tmp_path / 't.npz'}"), texts, images=[])


_: Literal["the type checker sees that a third party's method is one"] | Method = _Broken()
