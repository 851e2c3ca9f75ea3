"""What a description is worth, counted for all at once, is what a classifier without it gets right and wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drawn, unit

import descbench as db
from descbench import Classifier, DescbenchWarning, Descriptions, Vocabulary, worth
from descbench.edits import marked
from descbench.embedding import Embedded
from descbench.errors import InputError
from descbench.methods import DCLIP
from descbench.testing import FakeEncoder, FakeLLM
from descbench.worth import WIDTH, Use, Usefulness, usefulness

DIM = 16
BIRDS = Vocabulary(["hen", "rooster", "turkey", "goose", "duck"], "farm birds", [7, 3, 11, 0, 5])


class Remembering(FakeEncoder):
    """Makes the feature of a text once."""

    def __init__(self) -> None:
        super().__init__(dim=DIM)
        self.known: dict[str, torch.Tensor] = {}

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        for text in texts:
            if text not in self.known:
                self.known[text] = super().encode_texts([text])[0]
        return torch.stack([self.known[text] for text in texts])


class FeatureSet(tuple):  # type: ignore[type-arg]
    """The names of a data set that is embedded already."""

    fingerprint = "x"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self)


ENCODER = Remembering()
TOLD = db.generate(BIRDS, db.method("dclip"), FakeLLM())


def embedded(n: int = 300, seed: int = 0, names: tuple[str, ...] = BIRDS.names, labels: Any = None) -> Embedded:
    """Images whose features lean to the name of their label."""
    labels = np.arange(n) % len(names) if labels is None else np.asarray(labels)
    centres = ENCODER.encode_texts([f"a photo of a {name}." for name in names]).numpy()
    lean = 0.2 * centres[np.maximum(labels, 0)]
    dataset = FeatureSet(names)
    ids = tuple(f"{i}" for i in range(n))
    return Embedded(dataset, ids, unit(lean + 0.5 * drawn(seed, n, DIM)), labels, ids)  # type: ignore[arg-type]


def without(told: Descriptions, id_: int, number: int) -> Descriptions:
    texts = told.classes[id_]
    return replace(told, classes={**told.classes, id_: [*texts[: number - 1], *texts[number:]]})


def by_a_loop(spelling: Any, told: Descriptions, data: Embedded) -> dict[tuple[int, int], tuple[int, ...]]:
    """(gained, lost, right of its class, carried) of each description by its class and number: a classifier without it,
    made anew."""

    def answers(descriptions: Descriptions) -> tuple[np.ndarray, np.ndarray]:
        method = db.method(spelling) if isinstance(spelling, str) else spelling
        clf = Classifier(BIRDS, method, ENCODER, descriptions=descriptions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DescbenchWarning)  # a class that has lost its only text
            result = db.evaluate(clf, data)
            return result.hits, result.predictions.ids[:, 0]

    before, answered = answers(told)
    found = {}
    for id_, texts in told.classes.items():
        for number in range(1, len(texts) + 1):
            after, _ = answers(without(told, id_, number))
            mine = before & (answered == id_)
            counts = (after & ~before, before & ~after, mine, mine & ~after)
            found[id_, number] = tuple(int(some.sum()) for some in counts)
    return found


def counts(result: Usefulness) -> dict[tuple[int, int], tuple[int, ...]]:
    return {(use.id, use.number): (use.gained, use.lost, use.right, use.carried) for use in result.uses}


def used(spelling: Any, told: Descriptions, data: Embedded) -> Usefulness:
    method = db.method(spelling) if isinstance(spelling, str) else spelling
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        return usefulness(Classifier(BIRDS, method, ENCODER, descriptions=told), data)


UNEVEN = replace(TOLD, classes={**TOLD.classes, 7: TOLD.classes[7][:1], 5: ["a beak", "a beak", *TOLD.classes[5]]})


@dataclass(frozen=True, repr=False)
class ByLength(DCLIP):
    """Weights of its own, by the length of the text."""

    spelled = "bylength"

    def texts(self, vocabulary: Vocabulary, descriptions: Descriptions) -> db.TextBank:
        bank = super().texts(vocabulary, descriptions)
        return replace(bank, weights=np.array([1.0 + len(text) for text in bank.texts], dtype=np.float32))


@pytest.mark.parametrize(
    "spelling",
    [
        *("dclip", "dclip(pool='mean_feature')", "dclip(phrasing='authors')", "nameless(dclip)", "wca(dclip)"),
        *("cupl", "cupl(with_templates=True)", "nameless(wca(dclip))", ByLength()),
    ],
    ids=repr,
)
@pytest.mark.parametrize("told", [TOLD, UNEVEN], ids=["even", "uneven"])
def test_the_counts_are_those_of_a_classifier_made_without_the_description(spelling: Any, told: Descriptions) -> None:
    data = embedded()
    result = used(spelling, told, data)
    expected = by_a_loop(spelling, told, data)
    assert counts(result) == expected
    assert sum(gained + lost for gained, lost, _, _ in expected.values()) > 50
    assert any(0 < carried < lost for _, lost, _, carried in expected.values())


@given(st.integers(0, 10_000), st.sampled_from([1, 3, 1000, 1 << 24]), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_whatever_the_size_of_a_block(seed: int, block: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    said = {id_: [f"part {part}" for part in draw.integers(0, 6, draw.integers(0, 5))] for id_ in BIRDS.ids.tolist()}
    told = Descriptions({id_: texts for id_, texts in said.items() if texts}, names=dict(BIRDS))
    data = embedded(n, seed, labels=draw.integers(-1, 5, n).clip(-1 if n > 1 else 0) if n > 1 else [0])
    if not (data.labels >= 0).any():
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "BLOCK", block)
        patch.setattr(worth, "CACHED", block)
        result = used("dclip", told, data)
    assert counts(result) == by_a_loop("dclip", told, data)


def test_a_class_that_becomes_the_same_as_another_ties_with_it_and_the_first_wins() -> None:
    said = Descriptions(
        {7: ["a beak", "a comb"], 3: ["a beak"], 11: ["a comb"], 0: ["a tail"], 5: ["a beak", "a tail"]}
    )
    for method in ("cupl", "cupl(pool='mean_score')"):
        data = embedded(120)
        result = used(method, said, data)
        assert counts(result) == by_a_loop(method, said, data)


def test_one_of_several_right_labels_is_enough() -> None:
    data = embedded(200)
    accepted = np.stack([data.labels, (data.labels + 2) % 5], axis=1)
    data = replace(data, accepted=accepted)
    result = used("dclip", TOLD, data)
    assert counts(result) == by_a_loop("dclip", TOLD, data)


def test_similarities_are_means_over_the_images_of_the_class_and_over_all_others() -> None:
    data = embedded(47, names=BIRDS.names[:4])
    result = used("dclip", TOLD, data)
    for use in result.uses:
        near = data.features.astype(np.float64) @ ENCODER.encode_texts([use.text])[0].numpy().astype(np.float64)
        mine = data.labels == BIRDS.names.index(use.name)
        assert use.others == pytest.approx(near[~mine].mean(), abs=1e-6)
        assert use.own == pytest.approx(near[mine].mean(), abs=1e-6) if mine.any() else math.isnan(use.own)
        assert use.description in use.text and use.text.startswith(use.name)
    assert {use.name for use in result.uses if math.isnan(use.own)} == {"duck"}
    assert result.right == int(
        db.evaluate(Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD), data).hits.sum()
    )


def test_one_class_alone_is_always_right() -> None:
    one = BIRDS.subset([7])
    clf = Classifier(one, db.method("dclip"), ENCODER, descriptions=TOLD.matched(BIRDS))
    result = usefulness(
        Classifier(one, db.method("dclip"), ENCODER, descriptions=Descriptions({7: ["a", "b"]})),
        embedded(9, names=("hen",)),
    )
    assert [(use.gained, use.lost) for use in result.uses] == [(0, 0)] * 2 and result.right == 9
    assert clf.vocabulary == one


def test_what_a_person_wrote_is_marked() -> None:
    known = marked(TOLD, Descriptions())
    by_hand = replace(known, classes={**known.classes, 3: [*known.classes[3], "a red comb"]})
    assert [(use.name, use.description) for use in used("dclip", by_hand, embedded(30)).uses if use.edited] == [
        ("rooster", "a red comb")
    ]


def test_what_decides_is_at_the_ends_and_what_moves_nothing_is_idle() -> None:
    result = used("dclip", TOLD, embedded())
    worths = [use.worth for use in result.ranked]
    assert worths == sorted(worths, reverse=True) and worths[0] > 0 > worths[-1]
    assert set(result.idle) == {use for use in result.uses if (use.gained, use.lost) == (0, 0)}
    assert set(result.hurting) == {use for use in result.uses if use.gained > 0 == use.lost}


def test_a_description_decides_its_class_where_half_of_what_the_class_gets_right_hangs_on_it() -> None:
    shares = {1: (9, 9), 2: (0, 0), 3: (4, 9), 4: (5, 9), 5: (3, 3), 6: (1, 2), 7: (0, 4)}  # carried, right
    found = [
        Use(n, f"bird {n}", 1, f"mark {n}", "", 0.2, 0.1, 0, carried + 1, False, right, carried)
        for n, (carried, right) in shares.items()
    ]
    result = Usefulness("dclip", "here", 100, 40, tuple(found))
    assert [use.id for use in result.deciding] == [1, 5, 4, 6]
    lines = result.table(most=3).splitlines()
    place = lines.index("deciding: without it a class loses half or more of what it gets right")
    assert [line.split()[:3] for line in lines[place + 2 : -1]] == [
        ["9", "of", "9"],
        ["3", "of", "3"],
        ["5", "of", "9"],
    ]
    assert [line.split()[-2:] for line in lines[place + 2 : -1]] == [["mark", n] for n in "154"]
    assert lines[-1] == "1 more decide their class" and max(map(len, lines)) <= WIDTH
    assert "bird 6" in result.table(most=0).splitlines()[-1]


def uses(worths: list[int]) -> Usefulness:
    found = [
        Use(7, "hen", n, f"mark {n} " * (n % 20 + 1), "", 0.2, 0.1, max(0, -w), max(0, w), n % 2 == 0)
        for n, w in enumerate(worths, 1)
    ]
    return Usefulness("dclip", "here", 100, 40, tuple(found))


def test_as_text_the_best_and_the_worst_stand_apart_and_nothing_is_cut_off() -> None:
    text = uses([*range(-8, 9)]).table(most=3)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert [line.split()[0] for line in text.splitlines() if line[:1] == " " and line.strip()[0] in "+-"] == [
        *("+8", "+7", "+6"),
        *("-8", "-7", "-6"),
    ]
    assert "of 17 descriptions, 1 move no image when left out\n8 only hurt: without them nothing is lost\n" in text
    every = uses([*range(-8, 9)]).table(most=0)
    assert sum(line.strip()[0] in "+-" for line in every.splitlines()[2:] if line[:6].strip()) == 17
    assert " ".join(every.split()).count("mark") == sum(n % 20 + 1 for n in range(1, 18))
    assert uses([0, 0]).table().endswith("2 move no image when left out")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("cascade(dclip, differential, k=3)", "decides by a follow-up; .* of one stage, as dclip"),
        ("templates", "has no descriptions of single classes"),
        ("differential", "has no descriptions of single classes"),
        ("dclip(pool='max_score')", "by max_score, in which they do not count one by one"),
        ("adaptclipzs", "by mean_prob"),
        ("shuffled(dclip)", r"in shuffled\(dclip\) a description is not one text of its class.*seen at 'hen'"),
        ("scrambled(dclip)", "is not one text of its class"),
        ("shared(dclip)", "is not one text of its class"),
        ("random_descriptions(dclip)", "is not one text of its class"),
        ("waffle_and(dclip)", "is not one text of its class"),
    ],
)
def test_a_method_whose_descriptions_do_not_count_one_by_one_is_refused(method: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        usefulness(Classifier(BIRDS, db.method(method), ENCODER, descriptions=TOLD), embedded(20))


def test_features_of_another_model_are_refused() -> None:
    data = replace(embedded(20), features=drawn(0, 20, DIM + 1))
    with pytest.raises(InputError, match="17 dimensions"):
        usefulness(Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD), data)


def test_only_texts_that_were_not_encoded_are_encoded_and_those_at_once() -> None:
    class Counted(Remembering):
        calls = 0

        def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
            self.calls += 1
            return ENCODER.encode_texts(texts)

    encoder = Counted()
    alone = Descriptions({id_: texts[:1] for id_, texts in TOLD.classes.items()})
    usefulness(Classifier(BIRDS, db.method("dclip"), encoder, descriptions=alone), embedded(20))
    assert encoder.calls == 2  # the texts, and the names of the classes that would have none
