"""One evaluation: every number is computed from the predictions and labels that are kept, and only like is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import Lookup, drawn

import descbench as db
from descbench import DescbenchWarning, Evaluation, Predictions, Vocabulary
from descbench.errors import InputError, MatchError
from descbench.testing import FakeEncoder, FakeLLM

DIM = 16
NAMES = ("hen", "rooster", "turkey", "goose", "duck", "quail", "pigeon")
BIRDS = Vocabulary(NAMES, "farm birds", [7, 3, 11, 0, 5, 9, 2])


class Ready:
    """A data set that holds image features."""

    name, fingerprint = "ready", "ready:1"

    def __init__(self, n: int = 60, names: tuple[str, ...] = NAMES[::-1], ids: list[str] | None = None) -> None:
        self.names, self.features = names, drawn(5, n, DIM)
        self.labels = np.arange(n) % len(names)
        self.ids = ids or [f"image {i}" for i in range(n)]

    def __repr__(self) -> str:
        return "ready"

    def __len__(self) -> int:
        return len(self.ids)

    def samples(self) -> Any:
        raise AssertionError("features are there; no image is looked at")


def classifier(spelling: str = "template", vocabulary: Vocabulary = BIRDS) -> db.Classifier:
    return db.Classifier(vocabulary, db.method(spelling), FakeEncoder(DIM), llm=FakeLLM())


def test_the_metrics_are_counts_over_the_kept_predictions() -> None:
    data = Ready()
    result = db.evaluate(classifier(), data)
    texts = FakeEncoder(DIM).encode_texts([f"a photo of a {name}." for name in NAMES]).numpy()
    order = np.argsort(-(data.features @ texts.T), axis=1)
    truth = [NAMES.index(data.names[label]) for label in data.labels]
    hits = [order[i, 0] == truth[i] for i in range(60)]
    assert result.metrics["top1"].value == sum(hits) / 60 and result.metrics["top1"].n == 60
    assert result.metrics["top5"].value == sum(truth[i] in order[i, :5] for i in range(60)) / 60
    shares = [np.mean([hits[i] for i in range(60) if truth[i] == c]) for c in range(7)]
    assert result.metrics["per_class"].value == pytest.approx(np.mean(shares))
    expected = stats.binomtest(sum(hits), 60).proportion_ci(0.95, method="wilson")
    assert result.metrics["top1"].low == pytest.approx(expected.low)
    assert result.metrics["top1"].high == pytest.approx(expected.high)


def test_labels_are_joined_by_name_whatever_the_order_of_either_side() -> None:
    expected = db.evaluate(classifier(), Ready()).metrics["top1"].value
    for order in (NAMES, NAMES[3:] + NAMES[:3]):
        assert (
            db.evaluate(classifier(vocabulary=Vocabulary(order, "farm birds")), Ready()).metrics["top1"].value
            == expected
        )


def test_what_was_run_is_kept_with_the_result() -> None:
    clf = classifier("cascade(dclip, differential, k=3)")
    result = db.evaluate(clf, Ready())
    assert (result.dataset, result.method) == ("ready", "cascade(dclip, differential, k=3)")
    assert (result.encoder, result.llm) == ("FakeEncoder(dim=16, seed=0)", "FakeLLM(seed=0)")
    assert result.counts["images"] == 60 and result.counts["undescribed"] == 0 and result.counts["candidate_pairs"] > 0
    assert result.versions["descbench"] == db.__version__
    assert result.predictions.ids.shape == (60, 7)
    assert db.evaluate(clf, Ready(), name="mine").dataset == "mine"


def test_only_the_best_twenty_of_many_classes_are_kept_and_top5_needs_more_than_five() -> None:
    many = Vocabulary([f"bird {i}" for i in range(50)])
    result = db.evaluate(classifier(vocabulary=many), Ready(names=many.names))
    assert result.predictions.ids.shape == (60, 20) and "top5" in result.metrics
    few = Vocabulary(NAMES[:5])
    assert "top5" not in db.evaluate(classifier(vocabulary=few), Ready(names=NAMES[:5])).metrics


def test_unlabelled_images_are_counted_and_left_out() -> None:
    data = Ready()
    data.labels = np.where(np.arange(60) % 4 == 0, -1, data.labels)
    result = db.evaluate(classifier(), data)
    assert (result.counts["images"], result.counts["unlabelled"]) == (45, 15)
    assert result.ids == tuple(f"image {i}" for i in range(60) if i % 4)
    whole = db.evaluate(classifier(), Ready())
    kept = [i for i in range(60) if i % 4]
    assert np.array_equal(result.hits, whole.hits[kept])
    data.labels = np.full(60, -1)
    with pytest.raises(InputError, match=r"ready'? has no labelled image"):
        db.evaluate(classifier(), data)


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("hen", "rooster"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), "red" if label == "hen" else "blue").save(tmp_path / label / "1.png")
    (tmp_path / "hen" / "broken.png").write_bytes(b"no image")
    result = db.evaluate(classifier(vocabulary=BIRDS.subset([7, 3])), db.dataset(f"folder:{tmp_path}"))
    assert (result.counts["images"], result.counts["unreadable"]) == (2, 1)
    assert "broken.png" in result.failures[0][0]


def test_a_labels_file_maps_labels_to_classes(tmp_path: Path) -> None:
    texts = {"a hen": [1, 0], "a duck": [0, 1]}
    clf = db.Classifier(
        Vocabulary(["duck", "hen"]), db.method("template('a {}')"), Lookup({k: np.array(v) for k, v in texts.items()})
    )
    data = Ready(4, ("Leghorn", "mallard", "bantam"))
    data.features = np.array([[1, 0.1], [0.1, 1], [0.3, 0.2], [0.2, 0.9]], dtype=np.float32)
    data.labels = np.array([0, 1, 2, 2])
    (tmp_path / "labels.csv").write_text("label,class\nmallard,duck\nbantam,Hen\nLeghorn,hen\nemu,hen\n")
    for labels in (tmp_path / "labels.csv", {"mallard": "duck", "bantam": "hen", "Leghorn": "hen"}):
        result = db.evaluate(clf, data, labels=labels)
        assert result.hits.tolist() == [True, True, True, False]
        assert result.labels.tolist() == [1, 0, 1, 1]
    with pytest.raises(MatchError, match="'Leghorn', 'bantam' of the data set; it has 'Leghorm'"):
        db.evaluate(clf, data, labels={"mallard": "duck", "Leghorm": "hen"})
    with pytest.raises(MatchError, match="1 class of the labels file without a class: 'hne'; did you mean 'hen'"):
        db.evaluate(clf, data, labels={"mallard": "duck", "bantam": "hne", "Leghorn": "hen"})
    with pytest.raises(MatchError, match="3 labels without a class: 'Leghorn'"):
        db.evaluate(clf, data)


def test_what_is_saved_is_loaded_and_counted_anew(tmp_path: Path) -> None:
    result = db.evaluate(classifier("dclip"), Ready())
    result.save(tmp_path / "new" / "run")
    loaded = Evaluation.load(tmp_path / "new" / "run")
    assert np.array_equal(loaded.predictions.ids, result.predictions.ids)
    assert np.array_equal(loaded.predictions.scores, result.predictions.scores)
    assert loaded.predictions.scores.dtype == np.float32
    assert loaded.predictions.vocabulary == BIRDS and np.array_equal(loaded.labels, result.labels)
    for field in ("ids", "dataset", "method", "encoder", "llm", "counts", "failures", "versions", "usage", "timings"):
        assert getattr(loaded, field) == getattr(result, field)
    assert loaded.metrics == result.metrics
    assert sorted(p.name for p in (tmp_path / "new" / "run").iterdir()) == ["predictions.parquet", "run.json"]
    stored = json.loads((tmp_path / "new" / "run" / "run.json").read_text())
    assert stored["metrics"]["top1"]["value"] == result.metrics["top1"].value


def test_a_folder_without_a_whole_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no whole run: run.json, predictions.parquet missing"):
        Evaluation.load(tmp_path)
    db.evaluate(classifier(), Ready()).save(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(run | {"schema": 99}))
    with pytest.raises(InputError, match="written by a newer descbench"):
        Evaluation.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(run)[:50])
    with pytest.raises(InputError, match=r"run\.json"):
        Evaluation.load(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"predictions\.parquet"):
        Evaluation.load(tmp_path)


def test_runs_over_the_same_images_are_compared_image_by_image() -> None:
    first, second = db.evaluate(classifier(), Ready()), db.evaluate(classifier("dclip"), Ready())
    table = db.compare([first, second])
    d = table.differences["dclip"]
    assert d.value == pytest.approx(second.hits.mean() - first.hits.mean())
    assert (d.gained, d.lost) == (int((second.hits & ~first.hits).sum()), int((first.hits & ~second.hits).sum()))
    assert d.p == pytest.approx(stats.binomtest(d.gained, d.gained + d.lost, 0.5).pvalue)
    assert "dclip" in str(table) and table.base.startswith("template")


def test_a_comparison_joins_images_by_id_not_by_row() -> None:
    first = db.evaluate(classifier(), Ready())
    data, order = Ready(), np.random.default_rng(0).permutation(60)
    data.features, data.labels, data.ids = data.features[order], data.labels[order], [data.ids[i] for i in order]
    d = db.compare([first, db.evaluate(classifier("classname"), data)]).differences["classname"]
    same = db.compare([first, db.evaluate(classifier("classname"), Ready())]).differences["classname"]
    assert (d.value, d.gained, d.lost) == (same.value, same.gained, same.lost)


def test_a_picture_that_lies_in_two_class_folders_is_compared_with_itself() -> None:
    ids = [f"image {i // 2}" for i in range(60)]  # each id twice, with two labels
    one = db.evaluate(classifier(), Ready(ids=ids))
    d = db.compare([one, one]).differences[one.method]
    assert (d.gained, d.lost, d.n) == (0, 0, 60)


def test_runs_over_other_images_or_labels_are_not_compared() -> None:
    first = db.evaluate(classifier(), Ready())
    for other in (Ready(59), Ready(ids=[f"photo {i}" for i in range(60)])):
        with pytest.raises(InputError, match="a paired comparison needs the same images"):
            db.compare([first, db.evaluate(classifier(), other)])
    relabelled = Ready()
    relabelled.labels = np.roll(relabelled.labels, 1)
    with pytest.raises(InputError, match="scored against different labels"):
        db.compare([first, db.evaluate(classifier(), relabelled)])
    with pytest.raises(InputError, match="at least two runs, given: 1"):
        db.compare([first])


def test_two_runs_of_one_method_stay_apart_in_a_comparison() -> None:
    runs = [db.evaluate(classifier(), Ready()), *(db.evaluate(classifier("dclip"), Ready()) for _ in range(3))]
    assert len(db.compare(runs).differences) == 3


def test_classes_without_a_description_are_in_the_counts() -> None:
    d = db.Descriptions({7: ["a comb"]}, names=dict(BIRDS))
    clf = db.Classifier(BIRDS, db.method("dclip"), FakeEncoder(DIM), descriptions=d)
    with pytest.warns(DescbenchWarning, match="6 of 7"):
        assert db.evaluate(clf, Ready()).counts["undescribed"] == 6


def test_the_hits_are_of_the_best_class() -> None:
    found = Predictions(BIRDS, np.array([[7, 3], [3, 7], [2, 7]]), np.zeros((3, 2), dtype=np.float32))
    run = Evaluation(found, np.array([7, 7, 2]), ("a", "b", "c"), "d", "m", "e")
    assert run.hits.tolist() == [True, False, True]


def test_a_result_says_what_was_seen_besides_the_one_picture(tmp_path: Path) -> None:
    from descbench.encoders.views import Crops, Views
    from descbench.evaluation import protocol_of
    from descbench.testing import FakeEncoder

    birds, encoder = db.Vocabulary(["hen", "rooster", "emu"]), FakeEncoder()
    described = db.Descriptions({0: ["a comb"]}, {(0, 1): (["a comb"], ["a tail"])}, dict(birds))
    expected = {
        ("templates", encoder): "inductive",
        ("fudd(k=2)", Views(encoder, Crops(3))): "multi-view",
        ("fudd(k=2, budget=5)", encoder): "uses unlabelled images",
    }
    for (method, seen_by), protocol in expected.items():
        classifier = db.Classifier(birds, db.method(method), seen_by, descriptions=described)
        assert protocol_of(classifier) == protocol
    support = (np.eye(3, 64, dtype=np.float32), np.array([0, 1, 2]))
    selects = db.Classifier(birds, db.method("disclip(k=2, m=1)"), encoder, descriptions=described, support=support)
    assert protocol_of(selects) == "uses support labels"


def test_ties_are_the_images_whose_best_two_scores_are_nearer_than_1e6(tmp_path: Path) -> None:
    scores = np.array([[0.5, 0.5], [0.5, 0.4999995], [0.5, 0.4999985], [0.5, 0.1]], dtype=np.float32)
    found = Predictions(BIRDS, np.array([[7, 3]] * 4), scores)
    run = Evaluation(found, np.array([7, 3, 7, 7]), ("a", "b", "c", "d"), "d", "m", "e")
    assert (run.tied.tolist(), run.ties) == ([True, True, False, False], 2)
    run.save(tmp_path)
    assert Evaluation.load(tmp_path).ties == json.loads((tmp_path / "run.json").read_text())["ties"] == 2
    alone = Predictions(Vocabulary(["hen"]), np.zeros((4, 1), dtype=int), scores[:, :1])
    assert Evaluation(alone, np.zeros(4, dtype=int), run.ids, "d", "m", "e").ties == 0


def test_two_classes_of_the_same_texts_tie_in_every_image_and_the_first_is_the_answer() -> None:
    twins = Vocabulary(["hen", "hen"])
    for spelling in ("classname", "dclip", "dclip(pool='max_score')", "adaptclipzs", "fudd"):
        told = db.Descriptions({0: ["a comb", "spurs"], 1: ["a comb", "spurs"]}, names=dict(twins))
        clf = db.Classifier(twins, db.method(spelling), FakeEncoder(DIM), descriptions=told)
        result = db.evaluate(clf, Ready(names=("hen", "hen")))
        assert result.ties == 60, spelling
        assert (result.predictions.ids[:, 0] == 0).all()


def test_a_comparison_says_how_much_of_it_hangs_on_ties() -> None:
    def run(method: str, best: list[int], gaps: list[float]) -> Evaluation:
        ids = np.array([[b, 10 - b] for b in best])
        scores = np.stack([np.full(4, 0.5), 0.5 - np.array(gaps)], axis=1).astype(np.float32)
        return Evaluation(Predictions(BIRDS, ids, scores), np.full(4, 7), tuple("abcd"), "d", method, "e")

    base = run("one", [7, 7, 3, 3], [0.1, 0.0, 0.1, 0.0])
    other = run("two", [3, 3, 7, 3], [0.1, 0.1, 0.0, 0.1])  # a lost; b lost and c gained by ties; d tied, wrong twice
    table = db.compare([base, other])
    assert (table.differences["two"].gained, table.differences["two"].lost, table.ties["two"]) == (1, 2, 2)
    assert "(1 gained, 2 lost of 4); 2 of these by a tie, where rounding may decide" in str(table)
    assert "tie" not in str(db.compare([base, run("two", [3, 7, 3, 3], [0.1] * 4)]))
