"""AdaptCLIPZS's scoring: the mean probability of a class's captions among those of all classes."""

from __future__ import annotations

import numpy as np
import pytest
from support import Lookup, Scripted, drawn

import descbench as db

BIRDS = db.Vocabulary(["hen", "auk", "goose"], "birds", [4, 9, 2])
TOLD = db.Descriptions(
    {4: ["A photo of a hen with a comb.", "A bird with brown wings."], 9: ["A bird with a black back."]},
    names=dict(BIRDS),
)


def test_a_class_is_the_mean_of_the_probabilities_of_its_captions_as_they_stand() -> None:
    texts = [*TOLD.classes[4], *TOLD.classes[9], "goose"]  # undescribed: the bare name
    features = dict(zip(texts, drawn(1, 4, 8), strict=True))
    images = drawn(2, 5, 8)
    encoder = Lookup(features, logit_scale=20.0)
    clf = db.Classifier(BIRDS, db.method("adaptclipzs"), encoder, descriptions=TOLD)
    with pytest.warns(db.DescbenchWarning, match="1 of 3 classes have no description"):
        pred = clf.predict_features(images, 3)
    assert sorted(encoder.asked) == sorted(texts)
    for row, x in enumerate(images.astype(np.float64)):
        exp = np.exp([20.0 * (x @ features[text].astype(np.float64)) for text in texts])
        p = exp / exp.sum()
        expected = {4: (p[0] + p[1]) / 2, 9: p[2], 2: p[3]}
        assert pred.ids[row].tolist() == sorted(expected, key=lambda c: -expected[c])
        assert np.allclose(pred.scores[row], sorted(expected.values(), reverse=True), atol=1e-6)


def test_it_asks_for_one_sentence_captions_that_begin_with_the_name_and_reads_them() -> None:
    llm = Scripted(
        {"an auk apart": "Sure!\n- A photo of an auk with a black back.\n- A photo of an auk with a big bill.\n"}
    )
    found = db.generate(db.Vocabulary(["auk"], "birds"), db.method("adaptclipzs"), llm)
    (question,) = llm.batches[0]
    assert "What tells an auk apart from other birds in a photo?" in question.text
    assert 'begins with "A photo of an auk with"' in question.text
    assert found.classes[0] == ["A photo of an auk with a black back.", "A photo of an auk with a big bill."]


def test_a_further_attempt_asks_for_another_sample() -> None:
    method = db.method("adaptclipzs(samples=2)")
    assert [q.sample for q in method.questions(BIRDS, (9,), 1)] == [2, 3]
