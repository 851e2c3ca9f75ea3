"""A change of descriptions is what an evaluation with it gives, and the images that flip are those that differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import drawn
from test_usefulness import BIRDS, ENCODER, TOLD, embedded

import descbench as db
from descbench import Classifier


@pytest.mark.parametrize("method", ["dclip", "dclip(pool='max_score')", "cascade(template, dclip, k=3)"])
def test_it_is_an_evaluation_with_the_other_descriptions(method: str) -> None:
    data = embedded(200)
    data = replace(data, labels=np.where(np.arange(200) % 9 == 0, -1, data.labels))
    other = replace(TOLD, classes={**TOLD.classes, 7: ["a small red comb"], 3: TOLD.classes[3][:2]})
    built = {
        told: Classifier(BIRDS, db.method(method), ENCODER, descriptions=described)
        for told, described in (("before", TOLD), ("after", other))
    }
    found = db.what_if(built["before"], other, data)
    runs = {told: db.evaluate(clf, data) for told, clf in built.items()}
    for told, result in (("before", found.before), ("after", found.after)):
        assert np.array_equal(result.predictions.ids, runs[told].predictions.ids)
    (difference,) = db.compare([runs["before"], runs["after"]]).differences.values()
    for part in ("value", "low", "high", "p", "gained", "lost", "n"):
        assert getattr(found.difference, part) == getattr(difference, part)
    expected = []
    seen = [i for i, label in enumerate(data.labels) if label >= 0]
    for row, place in enumerate(seen):
        answers = [runs[told].predictions.names()[row][0] for told in runs]
        label = BIRDS.names[data.labels[place]]
        if answers[0] != answers[1]:
            expected.append((data.sources[place], label, *answers, answers[0] == label, answers[1] == label))
    assert [tuple(vars(flip).values()) for flip in found.flips] == expected and len(expected) > 10
    for (before, after), counts in found.moves.items():
        rows = [row for row in expected if row[2:4] == (before, after)]
        assert counts == (len(rows), sum(r[5] and not r[4] for r in rows), sum(r[4] and not r[5] for r in rows))
    assert built["before"].descriptions.classes == TOLD.classes


def test_nothing_changes_where_nothing_is_changed() -> None:
    found = db.what_if(Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD), TOLD, embedded(50))
    assert not found.flips and not found.moves and (found.difference.gained, found.difference.lost) == (0, 0)


def test_only_new_texts_are_encoded() -> None:
    asked: list[str] = []

    class Noting(type(ENCODER)):  # type: ignore[misc]
        def encode_texts(self, texts):  # type: ignore[no-untyped-def]
            asked.extend(texts)
            return super().encode_texts(texts)

    clf = Classifier(BIRDS, db.method("dclip"), Noting(), descriptions=TOLD)
    clf.predict_features(drawn(0, 3, 16))
    asked.clear()
    db.what_if(clf, replace(TOLD, classes={**TOLD.classes, 7: [*TOLD.classes[7][1:], "a small red comb"]}), embedded(9))
    assert asked == ["hen, which is a small red comb"]


def test_from_one_right_class_to_another_nothing_is_gained_or_lost() -> None:
    data = embedded(200)
    both = np.stack([data.labels, (data.labels + 1) % 5], axis=1)  # each picture shows two birds
    other = replace(TOLD, classes={**TOLD.classes, 7: ["a small red comb"]})
    clf = Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD)
    found = db.what_if(clf, other, replace(data, accepted=both))
    assert any(flip.was_right and flip.is_right for flip in found.flips)
    counted = np.array(list(found.moves.values())).sum(axis=0)
    assert counted.tolist() == [len(found.flips), found.difference.gained, found.difference.lost]
