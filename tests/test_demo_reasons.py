"""The top reason of an answer names a trait that the bird has: counted where half of what is said is false."""

from __future__ import annotations

import numpy as np
import pytest

import descbench as db
from descbench.demo.guide import TRAITS, species
from descbench.demo.reasons import half_true, reason_truth, top_reason, trait_of
from descbench.demo.truth import check_descriptions
from descbench.embedding import embed


def test_a_trait_is_read_back_from_what_is_encoded() -> None:
    assert trait_of("Corvell paril, which is a yellow belly") == ("belly", "yellow")
    assert trait_of("birds, which has wings with a bright edge") == ("pattern", "edged")
    assert trait_of("a photo of a Corvell paril with black legs") == ("legs", "black")
    assert trait_of("a photo of a Corvell paril.") is None


@pytest.mark.parametrize("wrong", [0, 4, 9])
def test_as_many_traits_of_each_species_are_false_as_are_asked_for(wrong: int) -> None:
    told = half_true(wrong, seed=3)
    for id_, texts in told.classes.items():
        truth = check_descriptions({told.names[id_]: texts})
        assert (truth.stated, truth.wrong, len(set(texts))) == (len(TRAITS), wrong, len(TRAITS))
    assert half_true(wrong, seed=3) == told


def test_top_reasons_are_true_far_beyond_chance() -> None:
    data, encoder, told = db.dataset("demo:n=120"), db.encoder("demo"), half_true()
    birds = db.Vocabulary(data.names, domain="birds")
    clf = db.Classifier(birds, db.method("dclip"), encoder, descriptions=told)
    embedded = embed(data, encoder)
    found = reason_truth(clf, embedded)
    # A loop over the definition: texts of one class weigh alike, so the top reason is the nearest of its texts.
    answers = clf.predict_features(embedded.features, 1).ids[:, 0]
    true, chance = [], []
    for x, label, answer in zip(embedded.features, embedded.labels, answers, strict=True):
        texts = db.method("dclip").texts(birds.subset([int(answer)]), told).texts
        held = [bird_has(int(label), text) for text in texts]
        true.append(held[int(np.argmax(encoder.encode_texts(texts).numpy() @ x))])
        chance.append(np.mean(held))
    right = answers == embedded.labels
    for kind, some in (("right answers", right), ("wrong answers", ~right), ("all answers", np.ones(120, dtype=bool))):
        assert found[kind].true.value == pytest.approx(np.mean(np.array(true)[some]))
        assert found[kind].chance == pytest.approx(np.mean(np.array(chance)[some]))
        assert found[kind].true.n == some.sum() and found[kind].unread == 0
    assert found["right answers"].true.value >= 0.9 and found["right answers"].chance == pytest.approx(5 / 9)
    assert found["all answers"].true.value >= 0.9 and found["all answers"].chance < 0.6


def bird_has(label: int, text: str) -> bool:
    trait = trait_of(text)
    return trait is not None and species()[label].bird[trait[0]] == trait[1]


def test_the_top_reason_is_a_text_of_the_answer_even_where_one_of_the_rival_adds_more() -> None:
    data, encoder = db.dataset("demo:n=40"), db.encoder("demo")
    birds = db.Vocabulary(data.names, domain="birds")
    clf = db.Classifier(birds, db.method("dclip"), encoder, descriptions=half_true())
    features = embed(data, encoder).features
    explained = [clf.explain_features(x) for x in features]
    assert any(why.contributions[0].of == "rival" for why in explained)
    assert all(top_reason(why).startswith(f"{why.answer}, ") for why in explained)
