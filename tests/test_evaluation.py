"""One evaluation: every number is computed from the predictions and labels that are kept, and only like is compared."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from support import Lookup, drawn

import descbench as db
from descbench import DescbenchWarning, Evaluation, Predictions, Vocabulary
from descbench.errors import InputError, MatchError
from descbench.runs import alone
from descbench.statistics import Quantity
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
    files = sorted(p.name for p in (tmp_path / "new" / "run").iterdir())
    assert files == ["per_class.csv", "predictions.parquet", "run.json"]
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


class Strangers(Ready):
    """Images of none of the classes."""

    def __init__(self, n: int = 40, names: tuple[str, ...] = ("owl", "emu")) -> None:
        super().__init__(n, names, [f"stranger {i}" for i in range(n)])
        self.features = drawn(6, n, DIM)


def test_what_a_run_measures_is_a_metric_each_with_its_interval() -> None:
    found = db.evaluate(classifier(), Ready(), unknown=Strangers()).metrics
    shares = {"top1", "top5", "per_class", "macro_precision", "macro_f1", "ece"}
    apart = {f"{what}_{kind}" for what in ("auroc", "fpr95") for kind in ("score", "probability")}
    assert set(found) == shares | {"nll"} | apart
    for name, metric in found.items():
        assert metric.low <= metric.value <= metric.high, name
        assert metric.n == (100 if name in apart else 60)
    assert isinstance(found["nll"], Quantity) and str(found["nll"]).startswith(f"{found['nll'].value:.3f} [")
    assert {"ece", "nll"}.isdisjoint(db.evaluate(classifier("fudd(k=3)"), Ready()).metrics)


def test_known_and_unknown_images_are_told_apart_by_score_and_by_probability() -> None:
    data, strangers = Ready(), Strangers()
    result = db.evaluate(classifier(), data, unknown=strangers)
    texts = FakeEncoder(DIM).encode_texts([f"a photo of a {name}." for name in NAMES]).numpy()
    scores = np.concatenate([data.features, strangers.features]) @ texts.T
    p = np.exp(100 * scores.astype(np.float64))  # in single precision a third of these would be 1
    p /= p.sum(axis=1, keepdims=True)
    known = np.arange(100) < 60
    assert result.metrics["auroc_score"].value == pytest.approx(roc_auc_score(known, scores.max(axis=1)))
    assert result.metrics["auroc_probability"].value == pytest.approx(roc_auc_score(known, p.max(axis=1)), abs=1e-3)
    assert (result.counts["unknown"], result.specification["unknown"]) == (40, "ready")
    followed = db.evaluate(classifier("fudd(k=3)"), data, unknown=strangers)
    assert "auroc_score" in followed.metrics and "auroc_probability" not in followed.metrics
    assert any("no ece, nll and the AUROC by probability" in note for note in followed.warnings)


def test_unknown_images_are_of_none_of_the_classes_and_not_among_the_known() -> None:
    with pytest.raises(InputError, match="20 of the 40 unknown images of ready are of classes that are known: Hen;"):
        db.evaluate(classifier(), Ready(), unknown=Strangers(names=("Hen", "emu")))
    with pytest.raises(InputError, match="60 of the 60 images of the unknown images ready are in the known set"):
        db.evaluate(classifier(), Ready(), unknown=Ready(names=("owl",)))


def test_a_run_says_which_classes_are_confused_and_how_coverage_pays() -> None:
    ids = np.array([[7, 3], [3, 7], [3, 7], [11, 7], [3, 7]])
    scores = np.array([[0.5, 0.1], [0.5, 0.4], [0.5, 0.3], [0.5, 0.45], [0.9, 0.1]], dtype=np.float32)
    run = Evaluation(Predictions(BIRDS, ids, scores), np.array([7, 7, 7, 3, 3]), tuple("abcde"), "d", "m", "e")
    assert [(c.label, c.answer, c.count) for c in run.confusion()] == [("hen", "rooster", 2), ("rooster", "turkey", 1)]
    hen = run.per_class[0]
    assert (hen.name, hen.n, hen.right, hen.confused_with, hen.confused, hen.precision) == (
        "hen",
        3,
        1,
        "rooster",
        2,
        1,
    )
    curve = run.abstention()  # margins 0.4, 0.1, 0.2, 0.05, 0.8
    assert curve.threshold == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.05], abs=1e-6)
    assert curve.coverage.tolist() == [0.2, 0.4, 0.6, 0.8, 1] and curve.accuracy.tolist() == [1, 1, 2 / 3, 1 / 2, 2 / 5]
    assert curve.area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2 + 3 / 5) / 5)
    for by, message in (("probability", "has no probabilities .none were kept"), ("luck", "'margin' or 'probability'")):
        with pytest.raises(InputError, match=message):
            run.abstention(by)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 2])
def test_a_run_of_one_class_or_one_image_is_measured_too(n: int) -> None:
    data = Ready(n, ("hen",))
    result = db.evaluate(classifier(vocabulary=BIRDS.subset([7])), data, unknown=Strangers())
    found = {name: metric.value for name, metric in result.metrics.items()}
    assert found == dict.fromkeys(("top1", "per_class", "macro_precision", "macro_f1"), 1) | {
        "ece": 0,
        "nll": 0,
        "auroc_score": found["auroc_score"],
        "fpr95_score": found["fpr95_score"],
        "auroc_probability": 0.5,
        "fpr95_probability": 1,
    }
    assert result.abstention().area == 0 and result.abstention("probability").coverage.tolist() == [1]


@pytest.mark.parametrize("spelling", ["dclip", "adaptclipzs", "fudd(k=3)"])
def test_all_that_is_measured_is_measured_again_from_the_folder(spelling: str, tmp_path: Path) -> None:
    clf, split = classifier(spelling), Ready(ids=[f"other {i}" for i in range(60)])
    if spelling != "fudd(k=3)":
        answers = db.evaluate(clf, split).predictions.names()
        split.labels[20:] = [split.names.index(best) for best, *_ in answers[20:]]  # so that something is to be fitted
        clf = clf.calibrated(db.labelled(split, BIRDS, clf.encoder, name="val"))
    result = db.evaluate(clf, Ready(), unknown=Strangers())
    result.save(tmp_path)
    loaded = Evaluation.load(tmp_path)
    assert loaded.metrics == result.metrics and ("nll_fitted" in loaded.metrics) == (spelling != "fudd(k=3)")
    assert (loaded.per_class, loaded.confusion()) == (result.per_class, result.confusion())
    assert loaded.abstention().area == result.abstention().area
    for field in ("specification", "environment", "fingerprints", "warnings", "chosen", "status"):
        assert getattr(loaded, field) == getattr(result, field)
    if spelling == "fudd(k=3)":
        assert loaded.predictions.first is not None and result.predictions.first is not None
        assert np.array_equal(loaded.predictions.first, result.predictions.first)
    else:
        assert loaded.predictions.first is result.predictions.first is None


def test_the_first_stages_answer_is_kept_beside_the_last_ones() -> None:
    data = Ready()
    alone = db.evaluate(classifier("template('a photo of a {}.')"), data)
    followed = db.evaluate(classifier("fudd(k=3)"), data)
    assert followed.predictions.first is not None
    assert np.array_equal(followed.predictions.first, alone.predictions.ids[:, 0])
    assert not np.array_equal(followed.predictions.first, followed.predictions.ids[:, 0])


def test_the_table_of_classes_is_a_csv_file_in_the_folder(tmp_path: Path) -> None:
    result = db.evaluate(classifier(), Ready())
    result.save(tmp_path)
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["id"]), r["class"], int(r["n"])) for r in rows] == [(r.id, r.name, r.n) for r in result.per_class]
    assert [float(r["recall"]) for r in rows] == [r.recall.value for r in result.per_class if r.recall]
    assert [int(r["confused"]) for r in rows] == [r.confused for r in result.per_class]


def test_run_json_says_what_was_run_where_and_on_what(tmp_path: Path) -> None:
    result = db.evaluate(classifier(), Ready(), labels={name: name for name in NAMES})
    result.save(tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["schema"], run["status"], run["images"]) == (2, "complete", 60)
    assert run["specification"]["method"] == result.method and run["specification"]["labels"]["hen"] == "hen"
    assert {"platform", "device", "threads"} == set(run["environment"])
    assert run["fingerprints"]["encoder"] == "fake:dim=16,seed=0"
    assert run["fingerprints"]["llm"] == FakeLLM().fingerprint
    relabelled = Ready()
    relabelled.labels = np.roll(relabelled.labels, 1)
    other = db.evaluate(classifier(), relabelled).fingerprints
    assert run["fingerprints"]["dataset"] != other["dataset"] and run["fingerprints"]["encoder"] == other["encoder"]
    assert set(run["metrics"]["nll"]) == {"value", "low", "high", "n"}


def test_a_folder_of_the_first_schema_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    result = db.evaluate(classifier("dclip"), Ready())
    columns = {"id": list(result.ids), "label": result.labels}
    lists = {"ids": list(result.predictions.ids), "scores": list(result.predictions.scores)}
    pq.write_table(pa.table(columns | lists), tmp_path / "predictions.parquet")
    run = {name: getattr(result, name) for name in ("dataset", "method", "encoder", "llm", "counts", "versions")}
    stored = {"domain": BIRDS.domain, "ids": BIRDS.ids.tolist(), "names": list(NAMES)}
    run |= {"schema": 1, "failures": [], "usage": {}, "timings": {}, "vocabulary": stored}
    (tmp_path / "run.json").write_text(json.dumps(run))
    loaded = Evaluation.load(tmp_path)
    common = set(result.metrics) - {"ece", "nll"}
    assert set(loaded.metrics) == common and all(loaded.metrics[name] == result.metrics[name] for name in common)
    assert loaded.predictions.scores.dtype == np.float32


def test_a_second_run_in_a_folder_takes_the_place_of_the_first_as_a_whole(tmp_path: Path) -> None:
    db.evaluate(classifier(), Ready(), unknown=Strangers()).save(tmp_path)
    db.evaluate(classifier("dclip"), Ready(30)).save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["per_class.csv", "predictions.parquet", "run.json"]
    assert Evaluation.load(tmp_path).unknown is None
    longer = tmp_path / "longer"
    db.evaluate(classifier(), Ready()).save(longer)
    (longer / "predictions.parquet").replace(tmp_path / "predictions.parquet")
    with pytest.raises(InputError, match=r"predictions\.parquet has 60 rows, and run\.json 30: not of one run"):
        Evaluation.load(tmp_path)


def test_a_run_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = db.evaluate(classifier(), Ready())
    first.save(tmp_path)
    (tmp_path / "per_class.csv.part").mkdir()  # nothing can be written in its place
    with pytest.raises(InputError, match="the run cannot be kept in"):
        db.evaluate(classifier("dclip"), Ready()).save(tmp_path)
    assert Evaluation.load(tmp_path).metrics == first.metrics
    assert not (tmp_path / "predictions.parquet.part").exists()


def test_a_folder_that_another_process_keeps_runs_in_is_not_written(tmp_path: Path) -> None:
    result = db.evaluate(classifier(), Ready())
    with alone(tmp_path / "run"), pytest.raises(InputError, match=r"another process keeps runs in .* at this moment"):
        result.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()  # nothing came into it
    result.save(tmp_path / "run")
    assert Evaluation.load(tmp_path / "run").metrics == result.metrics


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_is_full_is_said_with_the_folder_whatever_was_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the run cannot be kept in .*No space left"), alone(tmp_path):
        Path("/dev/full").write_text("a picture beside the run")
    with pytest.raises(FileNotFoundError), alone(tmp_path):  # any other error stays what it is
        (tmp_path / "none").read_text()


def test_half_of_a_new_run_does_not_pass_for_a_run(tmp_path: Path) -> None:
    db.evaluate(classifier(), Ready()).save(tmp_path)
    (tmp_path / "per_class.csv").unlink()
    (tmp_path / "per_class.csv").mkdir()  # the new predictions are in place when this stops the rest
    with pytest.raises(InputError, match="the run cannot be kept in"):
        db.evaluate(classifier("dclip"), Ready()).save(tmp_path)
    with pytest.raises(InputError, match=r"holds no whole run: run\.json missing"):
        Evaluation.load(tmp_path)


def test_what_is_warned_of_is_kept_and_still_said() -> None:
    told = db.Descriptions({7: ["a comb"]}, names=dict(BIRDS))
    clf = db.Classifier(BIRDS, db.method("dclip"), FakeEncoder(DIM), descriptions=told)
    with pytest.warns(DescbenchWarning, match="6 of 7"):
        result = db.evaluate(clf, Ready())
    assert len(result.warnings) == 1 and "6 of 7 classes have no description" in result.warnings[0]


def test_the_interval_of_a_mean_agrees_with_resampling() -> None:
    from descbench.statistics import mean_value

    for n in (50, 5000):  # drawn one by one, and in runs
        draw = np.random.default_rng(n)
        values = draw.exponential(2, n)
        low, high = np.quantile([values[draw.integers(0, n, n)].mean() for _ in range(3000)], [0.025, 0.975])
        found = mean_value(values)
        width = high - low
        assert found.value == pytest.approx(values.mean()) and found.n == n
        assert found.low == pytest.approx(low, abs=0.08 * width) and found.high == pytest.approx(high, abs=0.08 * width)


def test_a_run_counts_the_tokens_that_it_took_itself() -> None:
    usage = Counter[str]()

    class Asked(FakeLLM):
        def complete(self, questions: Any) -> Any:
            replies = super().complete(questions)
            for reply in replies:
                usage.update(reply.usage)
            return replies

    llm = Asked()
    llm.usage = usage  # type: ignore[attr-defined]
    method = db.method("cascade(template, differential, k=2)")
    for _ in range(2):  # the second classifier asks again, and its run is not charged with both
        before = Counter(usage)
        found = db.evaluate(db.Classifier(BIRDS, method, FakeEncoder(16), llm=llm), Ready()).usage
        assert found == usage - before and found["completion_tokens"] > 0
    assert db.evaluate(db.Classifier(BIRDS, db.method("template"), FakeEncoder(16), llm=llm), Ready()).usage == {}
