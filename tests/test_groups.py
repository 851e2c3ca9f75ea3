"""Accuracy by group, against loops over the definition and published intervals; it is kept, shown and reported."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from test_taxonomy import BIRDS, TREE, run
from test_usefulness import BIRDS as FIVE
from test_usefulness import ENCODER, embedded
from typer.testing import CliRunner

import descbench as db
from descbench import Classifier, Evaluation
from descbench.cli import app
from descbench.demo.guide import species
from descbench.errors import DescbenchWarning, InputError, MatchError
from descbench.groups import Groups, assigned, read_groups
from descbench.report import render
from descbench.statistics import wilson
from descbench.taxonomy import Taxonomy


def counted(counts: Mapping[str, tuple[int, int]]) -> Groups:
    """Groups of so many right images of so many."""
    names = [name for name, (_, n) in counts.items() for _ in range(n)]
    hits = [i < right for right, n in counts.values() for i in range(n)]
    return Groups.of(names, np.array(hits))


def answered(groups: tuple[str | None, ...]) -> Evaluation:
    """A run over six images, of which the first, the second and the fifth are right."""
    labels = np.array([7, 3, 11, 0, 5, 7])
    answers = np.array([7, 3, 0, 11, 5, 3])
    result = run(BIRDS, labels, answers)
    return result.grouped({id_: group for id_, group in zip(result.ids, groups, strict=True) if group})


def test_each_group_is_counted_by_itself_and_the_worst_comes_first() -> None:
    draw = np.random.default_rng(0)
    names = draw.choice(["lake", "shore", "wood", ""], 300).tolist()
    hits = draw.random(300) < 0.6
    found = Groups.of([name or None for name in names], hits)
    assert found.left_out == names.count("")
    for row in found.rows:
        own = [hit for name, hit in zip(names, hits.tolist(), strict=True) if name == row.name]
        assert (row.right, row.accuracy) == (sum(own), wilson(sum(own), len(own)))
    shares = [row.accuracy.value for row in found.rows]
    assert len(shares) == 3 and shares == sorted(shares)
    assert (found.worst, found.best) == (found.rows[0], found.rows[-1])


def test_the_interval_of_the_gap_is_the_published_one() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10, cases (a), (b) and (g)
    for (a, m, b, n), low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ):
        gap = counted({"one": (a, m), "other": (b, n)}).gap
        assert gap is not None
        assert gap.value == pytest.approx(a / m - b / n)
        assert (gap.low, gap.high) == pytest.approx((low, high), abs=6e-5)


def test_p_is_how_often_chance_deals_out_a_gap_as_large() -> None:
    hits = [1, 1, 1, 1, 0, 1, 0, 0, 0]
    sizes = (3, 3, 3)
    groups = dict(zip("abc", ((3, 3), (2, 3), (0, 3)), strict=True))
    wanted, as_large, every = 1.0, 0, 0
    for right in itertools.combinations(range(len(hits)), sum(hits)):  # every way to deal out the five right ones
        counts = [
            sum(start <= i < start + 3 for i in right) / size for start, size in zip((0, 3, 6), sizes, strict=True)
        ]
        as_large += max(counts) - min(counts) >= wanted - 1e-12
        every += 1
    assert counted(groups).p == pytest.approx(as_large / every, abs=0.015)


def test_many_small_groups_have_a_large_gap_that_p_tells_from_a_real_one() -> None:
    draw = np.random.default_rng(1)
    names = [f"group {i % 60}" for i in range(600)]
    chance = Groups.of(names, draw.random(600) < 0.8)
    assert chance.gap is not None and chance.gap.low > 0 and chance.p > 0.05
    real = Groups.of(names, np.array([i % 60 > 0 for i in range(600)]))
    assert real.p < 0.001 and real.worst.name == "group 0"


def test_one_group_has_no_gap() -> None:
    found = counted({"all": (3, 5)})
    assert found.gap is None and found.p == 1 and "only one group, 'all'" in str(found)


def test_images_are_named_by_id_or_path_or_the_end_of_one() -> None:
    ids = ["pixels:aa", "7:pixels:bb", "pixels:cc", "pixels:dd"]
    sources = ["photos/hen/1.jpg", "photos/hen/2.jpg", "photos/teal/1.jpg", "/data/photos/owl/1.jpg"]
    given = {"pixels:aa": "a", "7": "b", "teal/1.jpg": "c", "./photos/owl/1.jpg": "d"}
    assert assigned(given, ids, sources) == ("a", "b", "c", "d")
    assert assigned(dict.fromkeys(sources, "all"), ids, sources) == ("all",) * 4
    with pytest.raises(MatchError, match=r"'1\.jpg' is the end of photos/hen/1\.jpg and of photos/teal/1\.jpg"):
        assigned({"1.jpg": "a"}, ids, sources)


def test_names_of_no_image_and_images_in_no_group_are_said() -> None:
    with pytest.warns(DescbenchWarning) as said:
        assert assigned({"a": "x", "zz": "y"}, ["a", "b", "c"]) == ("x", None, None)
    assert [str(one.message) for one in said] == [
        "groups: 1 of 2 names are of no labelled image here: zz",
        "groups: 2 of 3 images are in no group, and in no figure by group",
    ]
    with pytest.raises(MatchError, match=r"none of the 2 names is of one of the 1 labelled images: 'q', 'r'.*as 'a'"):
        assigned({"q": "x", "r": "x"}, ["a"])


def test_images_without_a_label_are_in_no_group_and_shift_none() -> None:
    data = embedded(30)
    data = replace(data, labels=np.where(np.arange(30) % 4 == 1, -1, data.labels))
    groups = {source: "early" if i < 15 else "late" for i, source in enumerate(data.sources)}
    with pytest.warns(DescbenchWarning, match="8 of 30 names are of no labelled image here"):
        result = db.evaluate(Classifier(FIVE, db.method("classname"), ENCODER), data, groups=groups)
    assert result.group == tuple("early" if i < 15 else "late" for i in range(30) if i % 4 != 1)
    assert any("8 of 30 names" in said for said in result.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,place\na,b\n", "needs the columns 'path' \\(or 'id'\\) and 'group'; it has: path, place"),
        ("path,group\na,x\na,y\n", "puts 'a' into both 'x' and 'y'"),
        ("path,group\n,x\n", "line 2: no image"),
        ("path,group\na,\n", "names no group"),
        ("", "it has: $"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_groups(tmp_path / "groups.csv")
    with pytest.raises(InputError, match="no file"):
        read_groups(tmp_path / "nowhere.csv")


def test_a_file_of_groups_may_have_other_columns_and_empty_groups(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("\ufeffid,label,group\r\na,hen,x\r\nb,hen,\r\n", encoding="utf-8")
    assert read_groups(tmp_path / "groups.csv") == {"a": "x"}


@pytest.mark.filterwarnings("ignore:groups")
def test_a_run_keeps_its_groups_and_its_taxonomy(tmp_path: Path) -> None:
    result = answered(("lake", None, "shore", "lake", "shore", "wood, far"))
    tree = Taxonomy(TREE)
    result.save(tmp_path / "run")
    loaded = Evaluation.load(tmp_path / "run")
    assert loaded.group == result.group and loaded.groups == result.groups is not None and loaded.taxonomy is None
    with pytest.raises(InputError, match="without a taxonomy"):
        loaded.levels()
    replace(result, group=None, taxonomy=tree).save(tmp_path / "run")  # in place of the first
    again = Evaluation.load(tmp_path / "run")
    assert again.group is None and again.groups is None
    assert again.levels() == result.levels(tree)
    result.save(tmp_path / "run")
    assert not (tmp_path / "run" / "taxonomy.csv").exists()


@pytest.mark.filterwarnings("ignore:groups")
def test_a_report_has_a_section_for_groups_and_for_levels() -> None:
    result = answered(("<lake>", None, "shore", "<lake>", "shore", "shore"))
    page = render([replace(result, taxonomy=Taxonomy(TREE))])
    assert 'id="groups"' in page and "&lt;lake&gt;" in page and "<lake>" not in page
    assert "shore is 16.7 points behind &lt;lake&gt;" in page and "1 image in no group" in page
    assert 'id="levels"' in page and page.count('<td class="number">3</td>') >= 2
    bare = render([replace(result, group=None)])
    assert 'id="groups"' not in bare and 'id="levels"' not in bare


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `evaluate` was run with groups and a taxonomy, over 40 of the demo's birds."""
    folder = tmp_path_factory.mktemp("groups")
    data = db.dataset("demo:n=40")
    samples = list(data.samples())
    lines = [f"{sample.source!r},{'even' if i % 2 == 0 else 'odd'}" for i, sample in enumerate(samples[:39])]
    (folder / "groups.csv").write_text("\n".join(["source,group", *lines, "nobody,odd"]).replace("'", '"') + "\n")
    (folder / "genera.csv").write_text("".join(["child,parent\n", *(f"{p.name},{p.genus}\n" for p in species())]))
    return folder


def evaluated(folder: Path, *more: str) -> tuple[str, str]:
    options = ["--groups", str(folder / "groups.csv"), "--taxonomy", str(folder / "genera.csv"), "--encoder", "demo"]
    args = ["evaluate", "demo:n=40", *options, "--cache-dir", str(folder / "cache"), "--method", "template", *more]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        found = CliRunner().invoke(app, args, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout, found.stderr


def test_the_command_shows_and_keeps_them(shown: Path) -> None:
    text, _ = evaluated(shown, "--no-baselines", "-o", str(shown / "runs"), "--no-gallery")
    (folder,) = (shown / "runs").iterdir()
    result = Evaluation.load(folder)
    assert result.group == (*("even" if i % 2 == 0 else "odd" for i in range(39)), None)
    hits = result.hits
    assert result.groups is not None and result.groups.left_out == 1
    for row in result.groups.rows:
        own = hits[[i for i in range(39) if (i % 2 == 0) == (row.name == "even")]]
        assert row.right == own.sum() and f"{row.name:<5}" in text and str(row.accuracy) in text
    assert "1 of 40 images in no group" in text and "10 groups" in text and "40 classes" in text
    assert max(map(len, text.splitlines()[4:])) <= 100
    found, _ = evaluated(shown, "--no-baselines", "--json")
    (told,) = json.loads(found)["runs"]
    assert told["groups"]["worst"] == result.groups.worst.name and told["groups"]["left_out"] == 1
    assert told["groups"]["gap"]["value"] == pytest.approx(result.groups.gap.value)  # type: ignore[union-attr]
    assert told["levels"] == json.loads(json.dumps([asdict(level) for level in result.levels()]))
    assert math.isclose(told["levels"][-1]["accuracy"]["value"], hits.mean())


def test_a_repeated_run_has_them_too(shown: Path) -> None:
    evaluated(shown, "--no-baselines", "-o", str(shown / "first"), "--no-gallery")
    (folder,) = (shown / "first").iterdir()
    options = ["--config", str(folder / "run.json"), "-o", str(shown / "second"), "--no-gallery"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DescbenchWarning)
        args = ["evaluate", *options, "--cache-dir", str(shown / "cache")]
        assert CliRunner().invoke(app, args, catch_exceptions=False).exit_code == 0
    (again,) = (shown / "second").iterdir()
    first, second = Evaluation.load(folder), Evaluation.load(again)
    assert first.groups == second.groups is not None and first.levels() == second.levels()
