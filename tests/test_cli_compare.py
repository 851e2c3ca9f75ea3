"""`evaluate` as a grid, kept and repeated, and `compare`: tables in every form, and what happens when a part fails."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Done, Run
from support import unit

import descbench as db
from descbench import Descriptions, Evaluation, Vocabulary
from descbench.cli.results import KNOWN
from descbench.cli.tables import Cell, Table
from descbench.methods.waffle import Waffle
from descbench.published import dataset_of, figures, published
from descbench.runs import alone
from descbench.statistics import wilson

BIRDS = Vocabulary(["hen", "owl", "emu"])
TOLD = Descriptions({0: ["a comb"], 1: ["a disc", "soft wings"], 2: ["long legs"]}, names=dict(BIRDS))
N = 60


@pytest.fixture
def files(run: Run) -> None:
    """Two encoders that know all texts, one that knows those of the baselines only, and three splits of images."""
    draws = np.random.default_rng(0)
    methods = [db.method(m) for m in ("classname", "template('a photo of a {}.')", "templates")]
    usual = [text for method in methods for text in method.texts(BIRDS, TOLD).texts]
    others = [
        db.method("dclip"),
        *(Waffle(seed) for seed in range(3)),
        *(db.method(f"shuffled(dclip, seed={s})") for s in range(3)),
    ]
    every = list(dict.fromkeys([*usual, *(text for method in others for text in method.texts(BIRDS, TOLD).texts)]))
    centre = {name: draws.normal(size=8) for name in BIRDS.names}
    for encoder, known in (("one", every), ("two", every), ("poor", list(dict.fromkeys(usual)))):
        rows = [sum(centre[n] for n in BIRDS.names if n in text) + draws.normal(size=8) for text in known]
        np.savez(f"{encoder}.npz", texts=np.array(known), text_features=unit(np.array(rows)).astype(np.float32))
    for split in ("test", "val", "other"):
        labels = draws.integers(3, size=N)
        rows = unit(np.stack([centre[BIRDS.names[i]] for i in labels]) + 1.5 * draws.normal(size=(N, 8)))
        ids = np.array([f"{split} {i}" for i in range(N)])
        names = np.array(["cat", "dog", "cow"] if split == "other" else BIRDS.names)
        np.savez(f"{split}.npz", image_features=rows.astype(np.float32), labels=labels, names=names, ids=ids)
    TOLD.save("birds.json")


EVALUATE = ("evaluate", "features:test.npz", "-d", "birds.json")
ONE, TWO, POOR = (("-e", f"features:{name}.npz") for name in ("one", "two", "poor"))

pytestmark = pytest.mark.usefixtures("files")


def runs(folder: str = "runs") -> dict[str, Evaluation]:
    return {path.name: Evaluation.load(path) for path in sorted(Path(folder).iterdir())}


def test_a_grid_runs_every_method_with_every_encoder(run: Run) -> None:
    done = run(*EVALUATE, *ONE, *TWO, "-m", "dclip", "--json", "-o", "runs")
    assert done.code == 0, done.err
    found = json.loads(done.out)["runs"]
    spelled = ["classname", "template('a photo of a {}.')", "templates", "dclip"]
    assert [(one["encoder"], one["method"]) for one in found] == [
        (f"features:{name}.npz", method) for name in ("one", "two") for method in spelled
    ]
    for one, kept in zip(found, runs().values(), strict=True):
        alone = db.Classifier(BIRDS, db.method(one["method"]), db.encoder(one["encoder"]), descriptions=TOLD)
        result = db.evaluate(alone, db.dataset("features:test.npz"))
        assert np.array_equal(result.predictions.scores, kept.predictions.scores)
        assert one["right"] == result.hits.sum()
    text = run(*EVALUATE, *ONE, *TWO, "-m", "dclip").out
    assert text.index("with features:one.npz") < text.index("with features:two.npz")
    assert max(map(len, text.splitlines())) <= 100


def test_an_encoder_that_fails_costs_its_own_rows_only(run: Run) -> None:
    done = run(*EVALUATE, *POOR, "-e", "features:none.npz", *TWO, "-m", "dclip", "--csv", "-o", "runs")
    assert done.code == 3
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["encoder"] for row in rows].count("features:two.npz") == 4
    assert {row["method"] for row in rows if row["encoder"] == "features:poor.npz"} == {
        "classname", "template('a photo of a {}.')", "templates"
    }  # fmt: skip
    assert "left out: all but classname, template('a photo of a {}.'), templates of features:poor.npz." in done.err
    assert "left out: features:none.npz." in done.err
    assert len(runs()) == 7


def test_where_no_encoder_can_be_used_the_error_is_that_of_the_first(run: Run) -> None:
    done = run(*EVALUATE, "-e", "features:none.npz", "-e", "fodler:x", "-m", "dclip")
    assert (done.code, done.out) == (2, "") and "none.npz" in done.err


def test_seeds_show_the_mean_and_deviation_over_runs(run: Run) -> None:
    command = (*EVALUATE, *ONE, "-m", "waffle", "-m", "dclip", "--seeds", 3)
    done = run(*command, "--json")
    assert done.code == 0, done.err
    values = []
    for seed in range(3):
        alone = db.Classifier(BIRDS, Waffle(seed), db.encoder("features:one.npz"))
        values.append(db.evaluate(alone, db.dataset("features:test.npz")).metrics["top1"].value)
    (found,) = json.loads(done.out)["seeds"]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert found["runs"] == ["waffle", "waffle(seed=1)", "waffle(seed=2)"]
    assert found["metrics"]["top1"] == {"mean": pytest.approx(mean), "deviation": pytest.approx(deviation)}
    line = next(line for line in run(*command).out.splitlines() if line.startswith("waffle"))
    assert line.startswith("waffle, 3 seeds") and f"{100 * mean:.1f} ± {100 * deviation:.1f}" in line
    none = run(*EVALUATE, *ONE, "-m", "dclip", "--seeds", 3)
    assert none.code == 2 and "--seeds is for methods that draw at random" in none.err


def test_metrics_chooses_the_columns(run: Run) -> None:
    command = (*EVALUATE, *ONE, "-m", "dclip")
    head = run(*command, "--metrics", "ece,top1").out.splitlines()[1]
    assert head.split()[:4] == ["method", "ece", "[95", "%]"] and "per class" not in head
    for name in json.loads(run(*command, "--json").out)["runs"][0]["metrics"]:
        assert name.replace("top1", "top-1").replace("per_class", "per class") in run(*command, "--metrics", "all").out
    wrong = run(*command, "--metrics", "eec")
    assert wrong.code == 2 and "no metric 'eec'; did you mean 'ece'? There are: all, top1" in wrong.err


def test_one_draw_of_a_method_that_draws_is_said_to_be_one(run: Run) -> None:
    done = run(*EVALUATE, *ONE, "-m", "waffle", "-m", "dclip")
    assert "note: one draw each of waffle; --seeds 7 shows the mean and deviation of several" in done.err
    for more in (("-m", "waffle", "--seeds", 2), ("-m", "waffle(seed=2)"), ("-m", "dclip")):
        assert "one draw" not in run(*EVALUATE, *ONE, *more).err


def test_classes_with_parents_are_scored_at_each_level(run: Run) -> None:
    Path("classes.csv").write_text("name,parent\nhen,ground\nemu,ground\nowl,air\n")
    done = run(*EVALUATE, *ONE, "-c", "classes.csv", "-m", "dclip", "-o", "runs")
    assert done.code == 0, done.err
    kept = runs()["04-dclip"]
    names = np.array(kept.predictions.vocabulary.names)
    answers, labels = (
        names[kept.predictions.vocabulary.positions(ids)] for ids in (kept.predictions.ids[:, 0], kept.labels)
    )
    upper, lower = kept.levels()
    assert (upper.nodes, lower.nodes) == (2, 3) and lower.accuracy == kept.metrics["top1"]
    assert upper.accuracy.value == np.mean((answers == "owl") == (labels == "owl")) > lower.accuracy.value
    assert "by level of the taxonomy" in done.out and str(upper.accuracy) in done.out
    Path("classes.csv").write_text("name,parent\nhen,ground\nemu,ground\nowl,owl\n")
    odd = run(*EVALUATE, *ONE, "-c", "classes.csv", "-m", "dclip")
    assert odd.code == 0 and "by level" not in odd.out
    assert "note: nothing is counted by the parents in classes.csv: the taxonomy goes in a circle: owl < owl" in odd.err


def test_coverage_shows_how_often_the_surer_answers_are_right(run: Run, kept: Done) -> None:
    text = run(*EVALUATE, *ONE, "-m", "dclip", "-m", "cascade(classname, dclip, k=2)", "--coverage").out
    line = next(line for line in text[text.index("surest") :].splitlines() if line.startswith("dclip"))
    dclip = runs()["04-dclip"]
    confidence = dclip.softmax.of(dclip.predictions.scores[:, 0])  # type: ignore[union-attr]
    given, shown = [], []
    for share in (1, 0.9, 0.75, 0.5, 0.25, 0.1):
        answered = confidence >= max(t for t in confidence if np.mean(confidence >= t) >= share)
        given.append(dclip.hits[answered])
        tied = f" (at {100 * answered.mean():.0f} %)" if answered.mean() > share + 0.02 else ""
        shown.append(f"{100 * given[-1].mean():.1f}{tied}")
    assert re.split("  +", line) == ["dclip", "probability", *shown]
    assert shown[-1].endswith("%)")  # in some the answer is sure to the last bit
    assert "cascade(classname, dclip, k=2)       margin" in text
    (told,) = json.loads(run(*EVALUATE, *ONE, "-m", "dclip", "--no-baselines", "--json").out)["runs"]
    assert [one["accuracy"] for one in told["abstention"]["at"]] == [
        asdict(wilson(int(part.sum()), len(part))) for part in given
    ]
    assert told["abstention"]["area"] == dclip.abstention("probability").area


def test_two_evaluations_do_not_keep_runs_in_one_folder_at_once(run: Run) -> None:
    with alone(Path("runs")):
        done = run(*EVALUATE, *ONE, "-m", "dclip", "-o", "runs")
        assert (done.code, done.out) == (2, "")
        assert "another process keeps runs in runs at this moment; wait for its end, or choose another" in done.err
    assert not Path("runs").exists()  # it stayed empty
    assert run(*EVALUATE, *ONE, "-m", "dclip", "-o", "runs").code == 0
    with alone(Path("runs")):
        assert run("evaluate", "--config", "runs/04-dclip", "-o", "runs").code == 2
        assert run("evaluate", "--config", "runs/04-dclip").code == 0  # nothing is written


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_computed(run: Run) -> None:
    Path("file").touch()
    done = run(*EVALUATE, *ONE, "-m", "dclip", "-o", "file")
    assert (done.code, done.out) == (2, "") and "the run cannot be kept in file: " in done.err
    assert "choose another folder with -o" in done.err


def test_a_calibration_split_and_unknown_images_are_measured_and_named(run: Run) -> None:
    options = ("--calibrate", "features:val.npz", "--unknown", "features:other.npz")
    done = run(*EVALUATE, *ONE, "-m", "dclip", *options, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)["runs"][-1]
    clf = db.Classifier(BIRDS, db.method("dclip"), db.encoder("features:one.npz"), descriptions=TOLD)
    fitted = clf.calibrated(db.labelled(db.dataset("features:val.npz"), BIRDS, clf.encoder))
    result = db.evaluate(fitted, db.dataset("features:test.npz"), unknown=db.dataset("features:other.npz"))
    assert {"nll_fitted", "auroc_score"} <= set(told["metrics"]) <= set(KNOWN)
    assert {name: one["value"] for name, one in told["metrics"].items()} == {
        name: metric.value for name, metric in result.metrics.items()
    }
    assert told["chosen"]["temperature"]["split"] == "features:val.npz"
    refused = run(*EVALUATE, *ONE, "-m", "dclip", "--calibrate", "features:test.npz")
    assert refused.code == 2 and "60 of the 60 images" in refused.err


def test_a_kept_run_is_repeated_to_the_last_bit(run: Run) -> None:
    Path("labels.csv").write_text("label,class\nhen,hen\nowl,owl\nemu,owl\n")
    options = ("--labels", "labels.csv", "--calibrate", "features:val.npz", "--limit", 50)
    assert run(*EVALUATE, *ONE, "-m", "shuffled(dclip)", "--seeds", 2, *options, "-o", "runs").code == 0
    for gone in ("labels.csv", "birds.json"):
        Path(gone).unlink()  # the run has what it needs
    for name, before in runs().items():
        done = run("evaluate", "--config", f"runs/{name}/run.json", "-o", "again")
        assert done.code == 0, done.err
        assert f"runs/{name} is repeated: all 50 rows of answers and scores are equal" in done.err
        (after,) = runs("again").values()
        assert np.array_equal(after.predictions.ids, before.predictions.ids)
        assert after.predictions.scores.tobytes() == before.predictions.scores.tobytes()
        assert (after.ids, after.method, after.chosen) == (before.ids, before.method, before.chosen)
        assert {k: v for k, v in after.specification.items() if k != "dataset"} == {
            k: v for k, v in before.specification.items() if k != "dataset"
        }
        shutil.rmtree("again")


def test_what_was_chosen_by_a_split_is_chosen_again(run: Run) -> None:
    texts = np.load("one.npz")
    bare = [text for own in TOLD.classes.values() for text in own] + [f"A photo of a {name}." for name in BIRDS.names]
    rows = unit(np.random.default_rng(1).normal(size=(len(bare), 8))).astype(np.float32)
    np.savez(
        "one.npz",
        texts=np.concatenate([texts["texts"], bare]),
        text_features=np.concatenate([texts["text_features"], rows]),
    )
    with np.load("val.npz") as val:
        np.savez("train.npz", **{**val, "ids": np.array([f"train {i}" for i in range(N)])})
    chosen = ("--support", "features:train.npz", "--validation", "features:val.npz", "--no-baselines")
    done = run(*EVALUATE, *ONE, "-m", "disclip(k=2)", *chosen, "-o", "runs")
    assert done.code == 0, done.err
    (folder,) = Path("runs").iterdir()
    again = run("evaluate", "--config", folder, "--json")
    assert "are equal" in again.err
    assert json.loads(again.out)["runs"][0]["chosen"] == json.loads(json.dumps(dict(Evaluation.load(folder).chosen)))


def test_a_repeat_refuses_other_descriptions_and_says_what_differs(run: Run) -> None:
    run(*EVALUATE, *ONE, "-m", "dclip", "-o", "runs")
    folder = next(Path("runs").glob("*-dclip"))
    copy = folder / "descriptions.json"
    text = copy.read_text()
    copy.write_text(text.replace("a comb", "a crown"))
    done = run("evaluate", "--config", folder)
    assert (done.code, done.out) == (2, "")
    assert f"{copy} was changed since the run: its sha256 is" in done.err and f"evaluate with -d {copy}" in done.err
    copy.unlink()
    assert f"no file {copy}, the descriptions that this run used" in run("evaluate", "--config", folder).err
    copy.write_text(text)
    beside = run("evaluate", "features:test.npz", "--config", folder, "-m", "dclip")
    assert beside.code == 2 and "leave out DATA, --method" in beside.err
    with np.load("one.npz") as known:
        np.savez("one.npz", **{**known, "text_features": known["text_features"][::-1]})
    changed = run("evaluate", "--config", folder)
    assert changed.code == 0 and "is repeated, but not to the last bit: " in changed.err
    with np.load("test.npz") as data:
        np.savez("test.npz", **{**data, "ids": np.array([f"new {i}" for i in range(N)])})
    other = run("evaluate", "--config", folder)
    assert other.code == 0 and "was run over other images: 60 of its 60 are gone, and 60 are new" in other.err
    assert run("evaluate", "--config", "nothing").code == 2
    assert run("evaluate").code == 2


def test_a_run_of_python_does_not_say_what_a_command_was_given(run: Run) -> None:
    clf = db.Classifier(BIRDS, db.method("classname"), db.encoder("features:one.npz"))
    db.evaluate(clf, db.dataset("features:test.npz")).save("mine")
    done = run("evaluate", "--config", "mine/run.json")
    assert done.code == 2 and "run.json does not say what the run was given (data missing)" in done.err


@pytest.fixture
def kept(run: Run) -> Done:
    return run(*EVALUATE, *ONE, "-m", "dclip", "-o", "runs")


def test_compare_prints_what_python_computes(run: Run, kept: Done) -> None:
    done = run("compare", "runs", "--json")
    assert done.code == 0, done.err
    table = db.compare(list(runs().values()))
    found = json.loads(done.out)
    assert found["base"] == table.base == "classname" and found["images"] == N
    for name, d in table.differences.items():
        told = found["differences"][name]
        assert (told["value"], told["low"], told["high"], told["p"], told["p_holm"]) == (
            *(d.value, d.low, d.high, d.p, d.p_holm),
        )
    text = run("compare", "runs").out
    assert all(sentence in text for sentence in table.conclusions)
    two = run("compare", "runs/01-classname", "runs/04-dclip").out
    assert "Holm" not in two and "Holm" in text


def test_tables_come_in_four_forms_with_the_same_figures(run: Run, kept: Done) -> None:
    plain = run("compare", "runs").out.splitlines()
    rows = list(csv.DictReader(io.StringIO(run("compare", "runs", "--csv").out)))
    assert [row["run"] for row in rows] == ["classname", "template('a photo of a {}.')", "templates", "dclip"]
    for row, line in zip(rows[1:], plain[3:], strict=False):
        assert f"{100 * float(row['difference']):+.1f} [{100 * float(row['difference_low']):+.1f}" in line
    markdown = run("compare", "runs", "--markdown").out.splitlines()
    assert markdown[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |" and len(markdown) == 6
    latex = run("compare", "runs", "--latex").out
    assert latex.startswith("\\begin{tabular}{lrrrrrr}") and "template('a photo of a \\{\\}.')" in latex
    both = run("compare", "runs", "--csv", "--latex")
    assert both.code == 2 and "--csv and --latex are two forms of the same" in both.err


def test_markdown_and_latex_escape_what_means_something_there() -> None:
    odd = "a|b_c*d [e] 50 % & $x$ #1 {f} ~g ^h \\i <j>\nk ± l"
    table = Table(
        {"name": "n_1", "x": "x"}, [[Cell.of("[first]"), Cell("1", {"": 1, "_low": 0})], [Cell.of(odd), Cell("")]]
    )
    assert table.rendered("markdown").splitlines() == [
        "| n\\_1 | x |",
        "| --- | ---: |",
        "| \\[first\\] | 1 |",
        "| a\\|b\\_c\\*d \\[e\\] 50 % & $x$ \\#1 {f} \\~g ^h \\\\i \\<j\\> k ± l |  |",
    ]
    assert table.rendered("latex").splitlines()[2:6] == [
        "n\\_1 & x \\\\",
        "\\hline",
        "{}[first] & 1 \\\\",
        "a\\textbar{}b\\_c*d [e] 50 \\% \\& \\$x\\$ \\#1 \\{f\\} \\textasciitilde{}g \\textasciicircum{}h "
        "\\textbackslash{}i \\textless{}j\\textgreater{} k $\\pm$ l &  \\\\",
    ]
    assert list(csv.reader(io.StringIO(table.rendered("csv")))) == [
        ["name", "x", "x_low"],
        ["[first]", "1", "0"],
        [odd, "", ""],
    ]


def test_compare_refuses_what_cannot_be_compared(run: Run, kept: Done) -> None:
    run("evaluate", "features:val.npz", "-d", "birds.json", *ONE, "-m", "dclip", "-o", "elsewhere")
    done = run("compare", "runs/04-dclip", "elsewhere/04-dclip")
    assert done.code == 2
    assert "60 only in dclip (runs/04-dclip) (as 'test 0') and 60 only in dclip (elsewhere/04-dclip)" in done.err
    assert "at least two runs, given: 1" in run("compare", "runs/04-dclip").err
    assert "no folder 'none'" in run("compare", "none").err
    Path("empty").mkdir()
    assert "empty holds no run" in run("compare", "empty").err
    Path("runs/99-half").mkdir()
    half = run("compare", "runs")
    assert half.code == 0 and "left out, since there is no whole run in them: 99-half" in half.err
    Path("runs/99-half/predictions.parquet").touch()
    assert "holds no whole run" in run("compare", "runs/01-classname", "runs/99-half").err


def test_published_figures_are_of_one_data_set_and_backbone_and_never_ours(run: Run) -> None:
    found = published("ImageNet", "open_clip:ViT-B-32/openai")
    assert {method: one.top1 for method, one in found.items()} == {
        "template('a photo of a {}.')": 62.0,
        "dclip": 63.12,
        "random_descriptions(dclip)": 61.38,
        "waffle": 63.31,
        "waffle_and(dclip)": 63.44,
        "fudd": 64.19,
        "disclip(named=True)": 63.3,
    }
    assert published("ImageNet", "open_clip:ViT-B-32/laion2b_s34b_b79k") == {}
    assert all(repr(db.method(one.method)) == one.method for one in figures())
    assert [dataset_of(s) for s in ("torchvision:DTD:/data", "torchvision:DTD", "torchvision:DTD,split=train")] == [
        "DTD", "DTD", ""
    ]  # fmt: skip
    assert dataset_of("folder:./DTD") == dataset_of("torchvision:CIFAR10") == dataset_of("demo") == ""
    done = run(*EVALUATE, *ONE, "--published", "ImageNet")
    assert done.code == 2 and "the figures for ImageNet are of open_clip:ViT-B-32/openai" in done.err
    assert "did you mean 'ImageNet'" in run(*EVALUATE, *ONE, "--published", "Imagenet").err


TABLE = """
ViT-B/32           ImageNet ImageNetV2 CUB   EuroSAT Places365 Food101 OxfordIIITPet DTD
template           62.00    54.74      51.28 40.76   39.12     82.59   85.06         43.14
dclip              63.12    55.77      52.47 43.30   40.45     82.79   86.54         43.99
random             61.38    54.11      52.42 36.83   38.80     82.86   85.95         42.20
waffle             63.31    55.91      52.39 44.31   40.56     83.25   85.71         43.16
waffle_and         63.44    56.07      52.72 44.97   41.10     83.30   86.15         43.66

DisCLIP            ImageNet ImageNetV2 CUB   EuroSAT Places365 DTD   Flowers102
fudd               64.19    56.75      54.30 45.18   42.17     44.84 67.62
disclip            63.30    55.24      56.27 58.57   43.65     48.09 68.61
"""
"""What the WaffleCLIP repository has for each method, and DisCLIP's table; methods by the first words of ours."""


def test_every_published_figure_is_as_it_was_published() -> None:
    wanted = {}
    for block in TABLE.strip().split("\n\n"):
        (_, *sets), *rows = (line.split() for line in block.splitlines())
        wanted |= {(method, name): value for method, *values in rows for name, value in zip(sets, values, strict=True)}
    first = {"random_descriptions": "random"}
    found = {}
    for one in figures():
        word = one.method.split("(")[0]
        found[first.get(word, word), one.dataset] = f"{one.top1:.2f}"
        assert one.split and one.protocol == ("uses support labels" if word == "disclip" else "inductive")
    assert found == wanted and len(figures()) == len(wanted) == 54


def test_published_figures_stand_in_a_column_of_their_own_with_their_source(kept: Done) -> None:
    from descbench.cli import results as looks

    measured = {name: [replace(one)] for name, one in ((run.method, run) for run in runs().values())}
    encoder = "open_clip:ViT-B-32/openai"
    cited = {(encoder, text): one for text, one in published("ImageNet", encoder).items()}
    table = looks.table({encoder: measured}, published=cited)
    head, *rows = (line for line in table.rendered("text").splitlines())
    assert "published, top-1 %" in head
    assert [("63.12" in row, "62.00" in row) for row in rows] == [
        (False, False), (False, True), (False, False), (True, False)
    ]  # fmt: skip
    assert str(cited[encoder, "dclip"]).startswith("dclip: 63.12, WaffleCLIP repository, ImageNet (val), inductive")
