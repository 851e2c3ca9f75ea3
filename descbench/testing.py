"""For tests, ours and those of third parties: stand-ins that need no model, and the contract of each extension point.

    from descbench.testing import check_method
    def test_my_method(): check_method(MyMethod())

A check is a plain function that raises `AssertionError` with what was expected and what came; it needs no pytest. It
prints what held, a line a claim with how often it was tried, and returns it (`Checked`); `quiet=True` only returns it.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from descbench import prompts, spec
from descbench.datasets.base import Dataset
from descbench.descriptions import Descriptions
from descbench.encoders.base import Encoder
from descbench.errors import DescbenchWarning, InputError
from descbench.generation import generate
from descbench.llms.base import LLM
from descbench.methods import METHODS, Cascade, Method
from descbench.methods.base import Pool
from descbench.methods.cascade import stages_of
from descbench.plugins import available
from descbench.prompts import Question, Reply
from descbench.texts import TextBank
from descbench.vocabulary import Vocabulary

if TYPE_CHECKING:
    import PIL.Image
    import torch

LONG_NAME = ("a name of three hundred characters " * 9)[:300]
ODD_NAMES = (
    "missile",
    "crème brûlée",
    "a/b",
    "{x}$y",
    "missile",
    'the "quoted" one\'s',
    "🦜 parrot",
    "under_score",
    "$name",
    "{}",
    "ends in a dot.",
    "C++ (language)",
    LONG_NAME,
)
"""Names that a user may give: two the same, and whatever a format string, a path or a pattern could trip over."""

TEXTS = ("hen", "a photo of a hen.", "crème brûlée, which has a crust", "🦜", "{x}$y", " ".join(["long"] * 300))
QUESTIONS = (
    Question(prompts.fill("dclip", name="hen", domain="farm birds"), 0, "dclip"),
    Question(prompts.fill("dclip", name="rooster", domain="farm birds"), 0, "dclip"),
    Question(prompts.fill("differential", first="hen", second="rooster", domain="farm birds"), 0, "differential"),
)
ODD_REPLIES = (
    "",
    "   \n\n",
    "-",
    "- : |",
    "- a: | b",
    "|||",
    "I cannot help with that.",
    "- \x00 $x {y} \\1",
    "- " * 500,
)


def _generator(*content: object) -> np.random.Generator:
    """Random numbers that depend on the content and on nothing else."""
    return np.random.default_rng(list(hashlib.sha256(repr(content).encode()).digest()))


class FakeEncoder:
    """An encoder without a model: a unit vector that is drawn by the content of a text or of an image's pixels."""

    logit_scale = 100.0

    def __init__(self, dim: int = 64, seed: int = 0) -> None:
        self.dim, self.seed = dim, seed

    def __repr__(self) -> str:
        return f"FakeEncoder(dim={self.dim}, seed={self.seed})"

    @property
    def name(self) -> str:
        return repr(self)

    @property
    def fingerprint(self) -> str:
        return f"fake:dim={self.dim},seed={self.seed}"

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> torch.Tensor:
        return self._rows([("image", image.size, image.convert("RGB").tobytes()) for image in images])

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return self._rows([("text", text) for text in texts])

    def _rows(self, contents: Sequence[tuple[object, ...]]) -> torch.Tensor:
        import torch

        rows = np.empty((len(contents), self.dim))  # (N, D)
        for row, content in enumerate(contents):
            rows[row] = _generator(self.seed, *content).normal(size=self.dim)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return torch.from_numpy(unit.astype(np.float32))


class FakeLLM:
    """A language model without a model: it answers in the form that the shipped prompts ask for, with features that
    are drawn by the question's text and sample. `batches` keeps what it was asked, one tuple a call."""

    _KINDS = (
        "round",
        "long",
        "striped",
        "pale",
        "dark",
        "shiny",
        "short",
        "curved",
        "spotted",
        "narrow",
        "red",
        "thin",
    )
    _PARTS = ("head", "edge", "back", "side", "base", "top", "tail", "front")

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.batches: list[tuple[Question, ...]] = []

    def __repr__(self) -> str:
        return f"FakeLLM(seed={self.seed})"

    @property
    def name(self) -> str:
        return repr(self)

    @property
    def fingerprint(self) -> str:
        return f"fake:seed={self.seed}"

    def complete(self, questions: Sequence[Question]) -> list[Reply]:
        self.batches.append(tuple(questions))
        return [self._reply(question) for question in questions]

    def _reply(self, question: Question) -> Reply:
        draw = _generator(self.seed, question.text, question.sample)
        if question.schema == "contrast" or '"captions"' in question.text:
            return Reply(self._contrast(question.text.partition("\n\n")[0].split("\n")[1:], draw), "stop", "fake")
        lines = []
        for part in draw.choice(self._PARTS, size=4, replace=False):
            one, other = draw.choice(self._KINDS, size=2, replace=False)
            if "vertical bar" in question.text or question.schema == "pairs":
                lines.append(f"- {part}: a photo with a {one} {part} | a photo with a {other} {part}")
            else:
                lines.append(f"- a {one} {part}")
        usage = {"prompt_tokens": len(question.text.split()), "completion_tokens": sum(len(x.split()) for x in lines)}
        return Reply("\n".join(lines) + "\n", "stop", "fake", usage)

    def _contrast(self, names: Sequence[str], draw: np.random.Generator) -> str:
        """Two captions for each of the names, as JSON."""
        said = []
        for name in names:
            marks = zip(draw.choice(self._KINDS, 2, False), draw.choice(self._PARTS, 2, False), strict=True)
            captions = [f"a photo of a {name} with a {kind} {part}" for kind, part in marks]
            said.append({"name": name, "captions": captions})
        return json.dumps({"classes": said})


@dataclass(frozen=True)
class Checked:
    """What a check has found to hold of a thing; as a text, a line a claim with how often it was tried."""

    thing: str
    _tried: Counter[tuple[str, str]] = field(default_factory=Counter, repr=False)

    @property
    def claims(self) -> tuple[str, ...]:
        return tuple(f"{claim} ({n} {of})" if of else claim for (claim, of), n in self._tried.items())

    def held(self, claim: str, times: int = 1, of: str = "") -> None:
        """Note that a claim held, so many times more, of what was tried: `of` says what these are, as "replies"."""
        self._tried[claim, of] += times

    def __str__(self) -> str:
        return "\n".join([f"{self.thing} keeps the contract:", *(f"  {claim}" for claim in self.claims)])

    def told(self, quiet: bool) -> Checked:
        """Itself, printed unless `quiet`."""
        if not quiet:
            print(self)  # noqa: T201 - what a check is for; pytest shows it of a test that fails
        return self


def check_method(method: Method | Cascade, llm: LLM | None = None, *, quiet: bool = False) -> Checked:
    """Assert that a method is pure, is spelled by its repr, and depends on no order, for ordinary and odd classes.

    `llm` answers its questions: a `FakeLLM`, unless the method's prompts ask for another form of reply.
    """
    llm = llm or FakeLLM()
    checked = Checked(repr(method))
    _check_spelling(method, checked)
    ordinary = Vocabulary(["hen", "rooster", "turkey", "goose", "quail"], "farm birds", [4, 2, 9, 0, 7])
    odd = Vocabulary(ODD_NAMES, ids=[(7 * position) % 101 for position in range(len(ODD_NAMES))])
    for vocabulary in (ordinary, odd, Vocabulary(["hen"]), Vocabulary(["hen", "rooster"], "farm birds")):
        descriptions = generate(vocabulary, method, llm)
        for stage in stages_of(method):
            _check_questions(stage, vocabulary, checked)
            _check_texts(stage, vocabulary, descriptions, checked)
            _check_undescribed(stage, vocabulary, descriptions, checked)
    return checked.told(quiet)


def _check_spelling(method: Method | Cascade, checked: Checked) -> None:
    spelling = repr(method)
    assert spelling.strip() and "\n" not in spelling, f"the repr of a method is its spelling, on one line: {spelling!r}"
    hash(method)  # a method is a value
    for stage in stages_of(method):
        assert stage.pool in get_args(Pool), f"{stage!r}: its pool is {stage.pool!r}, which is none of {get_args(Pool)}"
        wrong = f"{stage!r} asks about {stage.asks_about!r}; it is 'nothing', 'class', 'pair' or 'set'"
        assert stage.asks_about in ("nothing", "class", "pair", "set"), wrong
    known = available("methods", METHODS)
    unknown = [kind for kind in _kinds(method) if kind not in known]
    if unknown:
        checked.held(f"spelling: not tried, since no package offers {unknown[0]!r} by an entry point")
        return
    again = spec.method(spelling)
    assert again == method, f"{spelling!r} spells {again!r}, which is not equal to the method it came from"
    assert repr(again) == spelling, f"{spelling!r} spells a method with another repr, {again!r}"
    checked.held("spelling: its repr spells it")


def _kinds(method: Any) -> list[str]:
    """How a method and those in it are called, for instance shuffled(dclip): ["shuffled", "dclip"]."""
    inside = method.stages if isinstance(method, Cascade) else [getattr(method, "method", None)]
    return [type(method).spelled, *(kind for part in inside if part is not None for kind in _kinds(part))]


def _check_questions(stage: Method, vocabulary: Vocabulary, checked: Checked) -> None:
    subjects = stage.subjects(vocabulary)
    assert len({frozenset(s) for s in subjects}) == len(subjects), f"{stage!r}: it asks about a subject twice"
    assert subjects or stage.asks_about != "class", f"{stage!r} asks about classes, but has no subjects"
    if stage.asks_about == "nothing":
        checked.held(f"questions: {stage!r} asks none")
        return
    for subject in subjects:
        assert set(subject) <= set(vocabulary.ids.tolist()), f"{stage!r}: subject {subject} is not of the vocabulary"
        questions = stage.questions(vocabulary, subject)
        assert questions, f"{stage!r}: it has no question about subject {subject}"
        assert all(isinstance(q, Question) and q.text.strip() for q in questions), f"{stage!r}: a blank question"
        assert questions == stage.questions(vocabulary, subject), f"{stage!r}: asked twice, its questions differ"
        again = stage.questions(vocabulary, subject, 1)
        assert not set(questions) & set(again), f"{stage!r}: attempt 1 asks for the samples of attempt 0 again"
        for text in ODD_REPLIES:
            said = stage.read(vocabulary, subject, [Reply(text)])
            about = said.mentioned
            assert about <= set(subject), f"{stage!r}: a reply about {subject} is read as one about {sorted(about)}"
            blank = [t for t in said.texts if not t.strip()]
            assert not blank, f"{stage!r}: it reads a blank text from the reply {text!r}"
        nothing = stage.read(vocabulary, subject, [Reply("")])
        assert not stage.known(subject, nothing), f"{stage!r}: an empty reply counts as a description"
    expected = {q.text for subject in subjects for q in stage.questions(vocabulary, subject)}
    for other in _permuted(vocabulary):
        asked = {q.text for subject in stage.subjects(other) for q in stage.questions(other, subject)}
        assert asked == expected, f"{stage!r}: the order of the classes changes a question: {sorted(asked ^ expected)}"
    checked.held("questions: the same when asked twice, other samples in another attempt", len(subjects), "subjects")
    checked.held("questions: none changes with the order of the classes", len(_permuted(vocabulary)), "orders")
    odd = len(subjects) * len(ODD_REPLIES)
    checked.held("replies: an odd one gives no blank text and says nothing of another class", odd, "replies")
    checked.held("replies: an empty one is no description", len(subjects), "subjects")


def _check_texts(stage: Method, vocabulary: Vocabulary, descriptions: Descriptions, checked: Checked) -> None:
    bank = stage.texts(vocabulary, descriptions)
    _check_bank(stage, bank, vocabulary)
    expected = _by_class(bank, vocabulary)
    assert _by_class(stage.texts(vocabulary, descriptions), vocabulary) == expected, (
        f"{stage!r}: called twice with the same input, it gives other texts"
    )
    checked.held("texts: every class has one, none is blank, and weights fit", len(vocabulary), "classes")
    checked.held("texts: the same when called twice", of="times")
    assert _by_class(stage.texts(vocabulary, _turned(descriptions)), vocabulary) == expected, (
        f"{stage!r}: with the keys of the descriptions in another order, it gives other texts"
    )
    checked.held("texts: none changes with the order of the keys of the descriptions", of="orders")
    for other in _permuted(vocabulary):
        moved = stage.texts(other, descriptions.matched(other))
        _check_bank(stage, moved, other)
        found = _by_class(moved, other)
        wrong = [name for name, _ in expected if found.get((name, _)) != expected[name, _]]
        assert not wrong, (
            f"{stage!r}: permuting the vocabulary must permute the texts and change none, but those of {wrong[0]!r} "
            f"are {expected[wrong[0], 0]} in one order and {found.get((wrong[0], 0))} in another"
        )
    checked.held("texts: none changes with the order of the classes", len(_permuted(vocabulary)), "orders")


_MAPPED = ("classes", "pairs", "sets", "names", "synonyms")


def _turned(descriptions: Descriptions) -> Descriptions:
    """The same descriptions with their keys in the opposite order."""
    turned: dict[str, Any] = {name: dict(reversed(list(getattr(descriptions, name).items()))) for name in _MAPPED}
    return replace(descriptions, **turned)


def _check_undescribed(stage: Method, vocabulary: Vocabulary, descriptions: Descriptions, checked: Checked) -> None:
    _check_bank(stage, stage.texts(vocabulary, Descriptions()), vocabulary)
    checked.held("undescribed: without any description every class still has a text", of="times")
    for ids, said in descriptions.sets.items():
        for left in ({**said, ids[0]: []}, {}):
            _check_bank(stage, stage.texts(vocabulary, replace(descriptions, sets={ids: left})), vocabulary)
        checked.held("undescribed: a class without a caption in its set still has a text", 2, "times")
    if stage.asks_about != "class":
        return
    kept = dict(islice(descriptions.classes.items(), 1, None))
    for classes in (dict(descriptions.classes), kept, {}):
        bank = stage.texts(vocabulary, Descriptions(classes, names=dict(vocabulary)))
        _check_bank(stage, bank, vocabulary)
        without, counted = len(vocabulary) - len(classes), int(bank.undescribed.sum())
        assert counted == without, f"{stage!r}: {without} classes have no description, but {counted} are counted"
        checked.held("undescribed: the classes without a description are counted", without, "classes")


def _check_bank(stage: Method, bank: TextBank, vocabulary: Vocabulary) -> None:
    assert isinstance(bank, TextBank), f"{stage!r}: texts() gives a {type(bank).__name__}, not a TextBank"
    C, T = len(vocabulary), len(bank.texts)
    assert bank.offsets.shape == (C + 1,), f"{stage!r}: {C} classes need {C + 1} offsets, not {bank.offsets.shape}"
    assert bank.offsets[0] == 0 and bank.offsets[-1] == T, f"{stage!r}: the offsets do not span the {T} texts"
    bare = [vocabulary.names[i] for i in np.flatnonzero(np.diff(bank.offsets) < 1)]
    assert not bare, f"{stage!r}: these classes have no text: {bare}"
    blank = [text for text in bank.texts if not (isinstance(text, str) and text.strip())]
    assert not blank, f"{stage!r}: a text is blank: {blank[0]!r}"
    assert bank.undescribed.shape == (C,) and bank.undescribed.dtype == bool, f"{stage!r}: undescribed is (C,) bool"
    if bank.anchors is not None:
        anchors = bank.anchors.texts
        assert len(anchors) == C, f"{stage!r}: {C} classes need {C} anchors, not {len(anchors)}"
        assert all(text.strip() for text in anchors), f"{stage!r}: an anchor is blank"
    if bank.weights is not None:
        assert bank.weights.shape == (T,), f"{stage!r}: {T} texts need {T} weights, not {bank.weights.shape}"
        sums = np.add.reduceat(bank.weights, bank.offsets[:-1])
        usable = np.isfinite(bank.weights).all() and (bank.weights >= 0).all() and (sums > 0).all()
        assert usable, f"{stage!r}: weights are finite, not negative, and not all zero for a class"


def _permuted(vocabulary: Vocabulary) -> list[Vocabulary]:
    """The same classes in other orders: with their ids, and as a user would write them, with new ids."""
    ids = vocabulary.ids.tolist()
    orders = [ids[::-1], random.Random(0).sample(ids, len(ids))]
    kept = [vocabulary.subset(order) for order in orders]
    return kept + [Vocabulary(other.names, other.domain) for other in kept]


def _by_class(bank: TextBank, vocabulary: Vocabulary) -> dict[tuple[str, int], object]:
    """What a bank has for each class. Classes of one name are told apart by the order of their ids, as joining does."""
    ids = defaultdict(list)
    for id_, name in sorted(vocabulary):
        ids[name].append(id_)
    found: dict[tuple[str, int], object] = {}
    for position, (id_, name) in enumerate(vocabulary):
        own = slice(*bank.offsets[position : position + 2])
        weights = None if bank.weights is None else tuple(bank.weights[own].tolist())
        anchor = None if bank.anchors is None else (bank.anchors.texts[position], bank.anchors.sharpness)
        found[name, ids[name].index(id_)] = (bank.texts[own], bool(bank.undescribed[position]), weights, anchor)
    return found


def check_encoder(
    encoder: Encoder,
    texts: Sequence[str] = TEXTS,
    images: Sequence[PIL.Image.Image] | None = None,
    *,
    quiet: bool = False,
) -> Checked:
    """Assert that an encoder gives unit float32 rows that depend on the text or image alone, not on its neighbours.

    Give other `texts` to an encoder that does not know every text, and `images=[]` to one that takes no images.
    """
    checked = Checked(repr(encoder))
    _check_named(encoder, "encoder", checked)
    scale = encoder.logit_scale
    assert np.isfinite(scale) and scale > 0, f"{encoder!r}: logit_scale is {scale}; it is a positive number"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)  # it may say that the longest text is cut
        rows = _check_rows(encoder, encoder.encode_texts, texts, "text", checked)
    if images is None:
        images = _pictures()
    if images:
        seen = _check_rows(encoder, encoder.encode_images, images, "image", checked)
        widths = f"{rows.shape[1]} dimensions for texts and {seen.shape[-1]} for images"
        assert rows.shape[1] == seen.shape[-1], f"{encoder!r}: {widths}; they are of one space"
        checked.held(f"texts and images: both have {rows.shape[1]} dimensions")
    return checked.told(quiet)


def _pictures() -> list[PIL.Image.Image]:
    from PIL import Image

    sizes = ((64, 64), (97, 33), (8, 40))
    return [
        Image.fromarray(_generator("picture", width, height).integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def _check_rows(encoder: Encoder, encode: Any, items: Sequence[Any], what: str, checked: Checked) -> np.ndarray:
    import torch

    tensor = encode(items)
    assert isinstance(tensor, torch.Tensor), f"{encoder!r}: {what} features are a {type(tensor).__name__}, not a Tensor"
    shaped = tensor.ndim == 2 or (tensor.ndim == 3 and what == "image")  # whose views may be kept apart
    assert shaped and len(tensor) == len(items), (
        f"{encoder!r}: {len(items)} {what}s need an ({len(items)}, D) tensor, not {tuple(tensor.shape)}"
    )
    assert tensor.dtype == torch.float32, f"{encoder!r}: {what} features are {tensor.dtype}, not float32"
    assert tensor.device.type == "cpu", f"{encoder!r}: {what} features are on {tensor.device}, not on the CPU"
    assert not tensor.requires_grad, f"{encoder!r}: {what} features carry a gradient"
    rows: np.ndarray = tensor.numpy()
    lengths = np.linalg.norm(rows, axis=-1)
    assert np.abs(lengths - 1).max() <= 1e-4, f"{encoder!r}: {what} rows have lengths {lengths}, not 1"
    back = encode(items[::-1]).numpy()[::-1]
    _check_same(encoder, rows, back, f"in another order, the {what} features differ")
    alone = np.concatenate([encode([item]).numpy() for item in items])
    _check_same(encoder, rows, alone, f"encoded alone and in a batch, the {what} features differ")
    checked.held(f"{what}s: unit rows of float32 on the CPU, without a gradient", len(items), f"{what}s")
    checked.held(f"{what}s: the same in another order, and alone", len(items), f"{what}s")
    return rows


def _check_same(encoder: Encoder, rows: np.ndarray, others: np.ndarray, claim: str) -> None:
    assert rows.shape == others.shape, f"{encoder!r}: {claim} in shape: {rows.shape} and {others.shape}"
    off = float(np.abs(rows - others).max())
    assert off <= 1e-4, f"{encoder!r}: {claim} by {off:.2g}"


def _check_named(thing: Any, what: str, checked: Checked) -> None:
    for member in ("name", "fingerprint"):
        value = getattr(thing, member, None)
        good = isinstance(value, str) and value.strip()
        assert good, f"the {what} {thing!r} has the {member} {value!r}; it is a text"
    assert thing.fingerprint == thing.fingerprint, f"{thing!r}: its fingerprint changes"
    checked.held("name and fingerprint: there, and the fingerprint stays")


def check_llm(llm: LLM, questions: Sequence[Question] = QUESTIONS, *, quiet: bool = False) -> Checked:
    """Assert that a language model gives one reply a question, in order. Asks each of `questions` some three times."""
    checked = Checked(repr(llm))
    _check_named(llm, "language model", checked)
    assert llm.complete([]) == [], f"{llm!r}: no question needs no reply"
    replies = llm.complete([*questions, questions[0]])
    assert isinstance(replies, list), f"{llm!r}: complete() gives a {type(replies).__name__}, not a list"
    counts = f"{len(questions) + 1} questions, but {len(replies)} replies"
    assert len(replies) == len(questions) + 1, f"{llm!r}: {counts}"
    wrong = [reply for reply in replies if not (isinstance(reply, Reply) and isinstance(reply.text, str))]
    assert not wrong, f"{llm!r}: it gives {wrong[:1]}, not a Reply with a text"
    assert replies[0].text == replies[-1].text, f"{llm!r}: one question twice in a call, and the replies differ"
    # A model that samples may answer differently now; but the same replies at the same places are in the wrong order.
    forward = [reply.text for reply in replies[:-1]]
    backward = [reply.text for reply in llm.complete(questions[::-1])]
    assert len(backward) == len(questions), f"{llm!r}: {len(questions)} questions, but {len(backward)} replies"
    checked.held("replies: one a question, and none to no question", 2 * len(questions) + 1, "questions")
    checked.held("replies: the same to a question that comes twice in a call")
    if Counter(forward) == Counter(backward):
        assert backward[::-1] == forward, f"{llm!r}: the replies do not come in the order of the questions"
        checked.held("replies: in the order of the questions", len(questions), "questions")
    else:
        checked.held("replies: their order was not tried, since it answered differently the second time")
    return checked.told(quiet)


def check_dataset(dataset: Dataset, images: int = 20, *, quiet: bool = False) -> Checked:
    """Assert that a data set is the same in every pass, with labels that mean something; looks at the first `images`.

    A picture that cannot be read may raise `InputError`, but not all may.
    """
    checked = Checked(repr(dataset))
    _check_named(dataset, "data set", checked)
    blank = [name for name in dataset.names if not (isinstance(name, str) and name.strip())]
    assert not blank, f"{dataset!r}: a label is called {blank[:1]}; it needs a name"
    first, second = list(dataset.samples()), list(dataset.samples())
    assert len(first) == len(dataset) > 0, f"{dataset!r}: its len is {len(dataset)}, and it has {len(first)} samples"
    passes = [[(sample.id, sample.label, sample.accepted) for sample in samples] for samples in (first, second)]
    assert passes[0] == passes[1], f"{dataset!r}: a second pass gives other ids or labels than the first"
    for sample in first:
        assert isinstance(sample.id, str) and sample.id.strip(), f"{dataset!r}: a sample has the id {sample.id!r}"
        known = sample.label is None or 0 <= sample.label < len(dataset.names)
        assert known, f"{dataset!r}: label {sample.label} of {sample.id!r}, and there are {len(dataset.names)} names"
        several = all(0 <= label < len(dataset.names) for label in sample.accepted)
        several &= not sample.accepted or sample.accepted[0] == sample.label
        assert several, f"{dataset!r}: {sample.id!r} has the labels {sample.accepted}; each has a name, `label` first"
    checked.held("samples: the same ids and labels in a second pass", len(first), "samples")
    checked.held("labels: each has a name, or is none", len(first), "samples")
    if getattr(dataset, "features", None) is not None:
        _check_ready(dataset, [sample.id for sample in first])
        checked.held("features: finite, a row a sample, each with an id of its own", len(first), "rows")
    else:
        _check_images(dataset, images, checked)
    return checked.told(quiet)


def _check_ready(dataset: Any, ids: Sequence[str]) -> None:
    assert list(dataset.ids) == list(ids), f"{dataset!r}: `ids` are not those of its samples"
    N, features = len(ids), np.asarray(dataset.features)
    assert features.ndim == 2 and len(features) == N, f"{dataset!r}: features of {N} samples are {features.shape}"
    assert np.isfinite(features).all(), f"{dataset!r}: a feature is not finite"
    labels = [-1 if sample.label is None else sample.label for sample in dataset.samples()]
    assert list(dataset.labels) == labels, f"{dataset!r}: `labels` are not those of its samples"
    assert len(set(ids)) == N, f"{dataset!r}: an id occurs twice"


def _check_images(dataset: Dataset, images: int, checked: Checked) -> None:
    seen: dict[str, bytes] = {}
    unreadable = []
    for sample in islice(dataset.samples(), images):
        try:
            image = sample.load()
        except InputError as error:
            unreadable.append(error)
            continue
        assert image.mode == "RGB", f"{dataset!r}: {sample.id!r} has the mode {image.mode}, not RGB"
        same = seen.setdefault(sample.id, image.tobytes()) == image.tobytes()
        assert same, f"{dataset!r}: two pictures have the id {sample.id!r}; an id names one picture"
        assert sample.load().tobytes() == image.tobytes(), f"{dataset!r}: {sample.id!r} is another picture each time"
    assert seen, f"{dataset!r}: none of the first {images} images can be read: {unreadable[:1]}"
    checked.held("images: RGB, the same each time, and no id stands for two", len(seen), "images")
    if unreadable:
        checked.held("images: one that cannot be read says so", len(unreadable), "images")
