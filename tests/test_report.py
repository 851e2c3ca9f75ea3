"""A report says what the runs say, whatever they hold: no name runs as script, and no request leaves the page."""

from __future__ import annotations

import base64
import csv
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from conftest import Run as Command
from PIL import Image

import descbench as db
from descbench import Evaluation, Predictions, Vocabulary
from descbench.calibration import Softmax
from descbench.errors import InputError
from descbench.evaluation import Unknown
from descbench.report import Run, json_data, policy, render, shapes
from descbench.report.gallery import Shown, Told, thumbnail
from descbench.worth import Use

NAMES = tuple(f"bird {i}" for i in range(7))
HOSTILE = (
    "<script>window.hit = 1</script>",
    "</script><script>window.hit = 2</script><!--",
    '" onload="window.hit = 3" onmouseover="window.hit = 4',
    "' autofocus onfocus=window.hit=5 x='",
    "</style></title></textarea></table></section><img src=x onerror=window.hit=6>",
    "right \u202eto left\u202c \u2067and more\u2069 \u200f mark\u2028line\u2029end",
    "x" * 10_000,
)
Everything = Callable[..., list[Run]]
Show = Callable[..., browser.Page]
MANY = tuple(f"{i:03d}" for i in range(90))  # classes, so that there is a search


def made(
    title: str = "dclip", right: float = 0.7, n: int = 140, names: tuple[str, ...] = NAMES, seed: int = 0, **more: Any
) -> Evaluation:
    """A run whose answers are drawn: so many right, and of the wrong ones most are the next class."""
    rng = np.random.default_rng(seed)
    C, K = len(names), min(5, len(names))
    labels = np.arange(n) % C
    steps = np.where(rng.random(n) < right, 0, np.where(rng.random(n) < 0.8, 1, 2))
    answers = (labels + steps) % C
    ids = (answers[:, None] + np.arange(K)) % C
    scores = np.sort(rng.random((n, K)), axis=1)[:, ::-1].astype(np.float32)
    found = {"title": title, "counts": {"images": n, "unlabelled": 0, "unreadable": 0}} | more
    vocabulary = Vocabulary(names)
    images = tuple(f"image {i}" for i in range(n))
    return Evaluation(Predictions(vocabulary, ids, scores), labels, images, "birds", title, "clip", **found)


def shown(result: Evaluation, most: int = 12) -> tuple[Shown, ...]:
    """Some of its images, as a gallery has them."""
    name = result.predictions.vocabulary.name
    found = []
    for row in range(most):
        label, answer = name(int(result.labels[row])), name(int(result.predictions.ids[row, 0]))
        told = (Told(f"{label} has a beak", "answer", 0.02, 0.3), Told(f"{answer} has a tail", "rival", -0.01, 0.2))
        kind = "right" if label == answer else "wrong"
        first = answer if row % 3 else name(int(result.predictions.ids[row, 1]))
        about = (result.ids[row], f"{label}.jpg", label, answer, kind, first, "dclip", label)
        found.append(Shown(*about, 0.01, (), told, "00.jpg"))
    return tuple(found)


class Elements(HTMLParser):
    """The elements of a document in order, with the names of their attributes, and what text stands in each kind."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: Counter[str] = Counter()
        self.inside: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A title says what was too long to be shown.
        self.elements.append((tag, tuple(name for name, _ in attrs if name != "title")))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._open.append(tag)
        self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts[data] += 1
        if self._open:
            self.inside[self._open[-1]][-1] += data


def rows_of(page: str, section: str) -> list[list[str]]:
    """The body of the first table of a section, as texts without markup."""
    part = page[page.index(f'<h2 id="{section}">') :]
    body = part[part.index("<tbody>") : part.index("</tbody>")]
    lines = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", line, re.DOTALL)]
        for line in lines
    ]


def test_the_table_has_every_method_with_its_accuracy_and_interval() -> None:
    runs = [made("classname", 0.3, seed=1), made("dclip", 0.7, seed=2)]
    rows = rows_of(render(runs), "results")
    for run, row in zip(runs, rows, strict=True):
        right = sum(int(a) == int(b) for a, b in zip(run.predictions.ids[:, 0], run.labels, strict=True))
        top = run.metrics["top1"]
        assert row[0] == run.title
        assert row[1] == f"{100 * right / 140:.1f}"
        assert row[3] == f"{100 * top.low:.1f} to {100 * top.high:.1f}"
        assert row[-1] == f"{right} of 140"


def test_an_interval_is_drawn_to_the_scale_of_its_axis() -> None:
    axis = shapes.Axis.around([0.15, 0.65], 0, 1)
    drawn_at = shapes.interval(axis, 0.4, 0.25, 0.55)
    (x1, x2) = map(float, re.search(r'<line x1="([\d.]+)%" x2="([\d.]+)%" y1="13"', drawn_at).groups())  # type: ignore[union-attr]
    middle = float(re.search(r'cx="([\d.]+)%"', drawn_at).group(1))  # type: ignore[union-attr]
    labels = re.findall(r'x="([\d.]+)%"[^>]*>([\d.]+)<', shapes.scale(axis))
    ticks = {float(number): float(place) for place, number in labels}
    (a, at_a), *_, (b, at_b) = sorted(ticks.items())
    per_unit = (at_b - at_a) / (b - a)
    for value, place in ((25, x1), (55, x2), (40, middle)):
        assert place == pytest.approx(at_a + per_unit * (value - a), abs=0.02)


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.981, 0.9812], [0, 1], [-0.3, 0.02], [0.5]])
def test_an_axis_holds_its_values_and_has_few_round_ticks(values: list[float]) -> None:
    axis = shapes.Axis.around(values, -1, 1)
    assert axis.low <= min(values) and max(values) <= axis.high
    assert 2 <= len(axis.ticks) <= 7


def test_differences_are_to_the_first_baseline_and_say_what_was_gained() -> None:
    runs = [made("dclip", 0.7, seed=2), made("classname", 0.3, seed=1), made("cupl", 0.72, seed=3)]
    page = render(runs)
    base = runs[1].hits
    expected = {}
    for run in (runs[0], runs[2]):
        gained = sum(bool(b) and not a for a, b in zip(base, run.hits, strict=True))
        lost = sum(bool(a) and not b for a, b in zip(base, run.hits, strict=True))
        expected[run.title] = [f"{100 * (gained - lost) / 140:+.1f}", str(gained), str(lost)]
    assert {row[0]: [row[1], row[4], row[5]] for row in rows_of(page, "differences")} == expected


def test_the_pairs_that_are_confused_are_counted() -> None:
    result = made(right=0.5)
    pairs = Counter(
        (NAMES[label], NAMES[answer])
        for label, answer in zip(result.labels, result.predictions.ids[:, 0], strict=True)
        if label != answer
    )
    rows = rows_of(render([result]), "confused")
    assert [int(row[2]) for row in rows] == sorted(pairs.values(), reverse=True)[: len(rows)]
    assert all(pairs[row[0], row[1]] == int(row[2]) for row in rows)


def test_what_a_run_does_not_hold_has_no_section() -> None:
    page = Elements(render([made(right=1.0)]))
    ids = [value for tag, name, value in page.attributes if tag == "h2" and name == "id"]
    assert ids == ["results", "classes", "confidence", "repeat"]
    linked = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert linked == ["#main", *(f"#{id_}" for id_ in ids)]


@pytest.fixture
def everything(tmp_path: Path) -> Callable[..., list[Run]]:
    """Runs that fill every section, with some names for classes, texts, files and all else that is not ours."""
    return partial(_everything, tmp_path)


def _everything(folder: Path, names: tuple[str, ...] = NAMES) -> list[Run]:
    texts = {i: [f"{name} at {i}", name] for i, name in enumerate(names)}
    db.Descriptions(texts, names=dict(enumerate(names))).save(folder / "descriptions.json")
    C = len(names)
    softmax = Softmax(10.0, np.log(C) + 10 * np.linspace(0.3, 1, 140))
    unknown = Unknown(names[0], ("u",) * 9, np.zeros(9, dtype=np.int64), np.linspace(0, 1, 9, dtype=np.float32))
    result = made("dclip", 0.6, names=names, softmax=softmax, label_score=np.full(140, 0.5, dtype=np.float32),
                  unknown=unknown, llm=names[1], warnings=(names[2],), failures=((names[3], names[4]),),
                  usage={"prompt_tokens": 7}, timings={"classify": 1.5}, protocol=names[5],
                  chosen={"support": {"split": names[2], "images": 3}},
                  fingerprints={"dataset": names[0]}, environment={"platform": names[1]})  # fmt: skip
    given = {"data": names[0], "descriptions": {"file": "descriptions.json"}}
    result = replace(result, dataset=names[3], specification=given)
    uses = tuple(Use(i, name, 1, name, name, 0.3, 0.2, i, 2 * i, bool(i % 2)) for i, name in enumerate(names))
    other = replace(made("classname", 0.3, names=names, seed=3), dataset=names[3])
    elsewhere = replace(made("dclip", 0.5, names=names, seed=4), dataset=names[3], encoder=names[4])
    shuffled = [replace(made(f"shuffled(dclip{seed})", 0.2, names=names, seed=5), dataset=names[3])
                for seed in ("", ", seed=1")]  # fmt: skip
    shuffled = [replace(one, method=repr(db.method("shuffled(dclip)"))) for one in shuffled[:1]]
    (folder / "gallery").mkdir(exist_ok=True)
    (folder / "gallery" / "00.jpg").write_bytes(thumbnail(Image.new("RGB", (9, 9), "red")))
    return [Run(other), Run(result, folder, shown(result), uses), Run(elsewhere), *map(Run, shuffled)]


@pytest.mark.parametrize("many", [False, True])
def test_names_that_attack_change_no_element(everything: Everything, many: bool) -> None:
    padding = MANY if many else ()
    plain = Elements(render(everything(NAMES + padding)))
    page = render(everything(HOSTILE + padding))
    attacked = Elements(page)
    assert attacked.elements == plain.elements
    assert "<script>window" not in page and "onload=" not in {name for _, name, _ in attacked.attributes}
    assert len(page) < 2_000_000  # 10,000 characters are not repeated wherever the name stands


def test_no_attribute_is_style_or_script(everything: Everything) -> None:
    page = Elements(render(everything(HOSTILE)))
    assert [found for found in page.attributes if found[1].startswith("on") or found[1] == "style"] == []
    urls = {value for tag, name, value in page.attributes if name in ("href", "src", "xlink:href")}
    assert all(url.startswith(("#", "data:")) for url in urls)


def test_characters_that_no_page_can_hold_are_shown_as_unknown() -> None:
    result = made()
    broken = Shown("image 0", "a\udcff\x00b.jpg", NAMES[0], NAMES[0], "right")
    page = render([Run(replace(result, warnings=("half \ud83d of it\x0b",)), None, (broken,))])
    page.encode()
    assert "a��b.jpg" in page and "half � of it�" in page


def test_directions_of_writing_stay_inside_a_name(everything: Everything) -> None:
    page = render(everything(HOSTILE))
    body = page[page.index("<main") :]
    around = re.sub(r"<bdi[^>]*>.*?</bdi>|<option.*?</option>|<[^>]*>", "", body, flags=re.DOTALL)
    assert "\u202e" not in around


def test_data_in_a_script_element_cannot_leave_it() -> None:
    data = [list(HOSTILE), "<!-- <script>", "&amp;"]
    text = json_data(data)
    assert json.loads(text) == data
    assert not set("<>&\u2028\u2029") & set(text)


def test_the_policy_allows_this_style_and_script_and_no_request() -> None:
    page = render([made()])
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    (said,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    said = said.replace("&#39;", "'").replace("&#43;", "+")
    assert said == policy(style, script)
    assert said.startswith("default-src 'none'; ") and all(f"'sha256-{found}'" in said for found in hashes)
    assert "connect-src" not in said and "unsafe" not in said


def test_a_run_can_be_asked_for_and_one_that_is_not_there_is_an_error() -> None:
    runs = [made("classname", 0.3), made("dclip", 0.7)]
    assert "<bdi>classname</bdi> is right in" in render(runs, "classname")
    with pytest.raises(InputError, match="no run is called 'dcilp'; did you mean 'dclip'"):
        render(runs, "dcilp")


def test_controls_stand_with_their_method_and_not_among_the_results() -> None:
    method, control = (repr(db.method(text)) for text in ("dclip", "shuffled(dclip)"))
    runs = [made("dclip", 0.7, seed=1), made("shuffled(dclip)", 0.2, seed=2)]
    runs = [replace(run, method=spelled) for run, spelled in zip(runs, (method, control), strict=True)]
    page = render(runs)
    assert [row[0] for row in rows_of(page, "results")] == ["dclip"]
    (row,) = rows_of(page, "controls")
    better = float(runs[0].hits.mean() - runs[1].hits.mean())
    assert row[0] == "shuffled" and row[3] == f"{100 * better:+.1f}"


def test_runs_over_other_images_stand_in_the_table_and_are_not_compared() -> None:
    other = replace(made("dclip", 0.9, 70), dataset="fish", ids=tuple(f"fish {i}" for i in range(70)))
    page = render([made("classname", 0.3), made("dclip", 0.6), other], "dclip")
    assert [row[:2] for row in rows_of(page, "results")] == [
        ["classname", "birds"],
        ["dclip", "birds"],
        ["dclip (2)", "fish"],
    ]
    assert [row[0] for row in rows_of(page, "differences")] == ["dclip"]


def test_methods_by_encoders_have_a_table_of_their_own() -> None:
    runs = [
        made(
            "dclip",
            share,
            seed=i,
        )
        for i, share in enumerate((0.4, 0.8))
    ]
    runs = [replace(run, encoder=f"clip {i}") for i, run in enumerate(runs)]
    ((title, *values),) = rows_of(render(runs), "encoders")
    assert title == "dclip" and values == [f"{100 * run.hits.mean():.1f}" for run in runs]


def test_with_several_encoders_the_results_have_a_part_for_each() -> None:
    runs = [made(title, 0.3 + 0.1 * i, seed=i) for i, title in enumerate(("classname", "dclip", "classname", "dclip"))]
    runs = [replace(run, encoder=f"clip {i // 2}") for i, run in enumerate(runs)]
    page = render(runs)
    table = page[page.index('<h2 id="results">') : page.index('<h2 id="encoders">')]
    heads = re.findall(r'scope="(rowgroup|row)"[^>]*><bdi>(.*?)</bdi>', table)
    names = ("classname", "dclip")
    parts = [[("rowgroup", f"with clip {i}"), *(("row", name) for name in names)] for i in (0, 1)]
    assert heads == parts[0] + parts[1]
    values = re.findall(r'<td class="number">([\d.]+)</td><td class="plot">', table)
    assert values == [f"{100 * run.hits.mean():.1f}" for run in runs]


def test_a_method_that_is_asked_for_is_shown_with_the_encoder_that_does_best() -> None:
    runs = [replace(made("dclip", share, seed=i), encoder=f"clip {i}") for i, share in enumerate((0.4, 0.8, 0.6))]
    runs += [replace(made("cupl", 0.9), encoder="clip 0")]
    assert "<bdi>dclip with clip 1</bdi> is right in" in render(runs, "dclip")
    assert "<bdi>dclip with clip 2</bdi> is right in" in render(runs, "dclip with clip 2")
    with pytest.raises(InputError, match="no run is called 'dclp'; did you mean 'dclip'"):
        render(runs, "dclp")


@pytest.mark.parametrize("fitted", [False, True])
def test_the_reliability_diagram_has_a_dot_for_each_bin_with_images(fitted: bool) -> None:
    result = made(right=0.6, n=200)
    best, rest = result.predictions.scores[:, 0], np.random.default_rng(1).uniform(0.02, 2.5, 200)
    softmax = Softmax(10.0, 10 * best + rest)
    result = replace(result, softmax=softmax, label_score=np.full(200, 0.5, dtype=np.float32))
    if fitted:
        other = Softmax(4.0, 4 * best + rest[::-1])
        chosen = {"temperature": {"value": 4.0, "split": "<fish>", "images": 9}}
        result = replace(result, fitted=other, chosen=chosen)
        softmax = other
    found: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for score, constant, hit in zip(result.predictions.scores[:, 0], softmax.log_normaliser, result.hits, strict=True):
        sure = float(np.exp(softmax.scale * float(score) - constant))
        found[min(int(np.ceil(sure * 15)) - 1, 14)].append((sure, bool(hit)))
    page = render([result])
    part = page[page.index('<h2 id="confidence">') :]
    figure = re.findall(r"<figure>.*?</figure>", part, re.DOTALL)[fitted]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", figure)
    cells = [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]
    expected = [
        [
            f"{len(one)}",
            f"{100 * sum(p for p, _ in one) / len(one):.1f}",
            f"{100 * sum(h for _, h in one) / len(one):.1f}",
        ]
        for one in found
        if one
    ]
    assert [row[1:] for row in cells] == expected and figure.count("<circle") == len(expected) > 3
    assert ("fitted on &lt;fish&gt;" in figure) == fitted


def follow_up(title: str = "cascade(dclip, differential, k=3)") -> Evaluation:
    return replace(made(title, 0.8), method=repr(db.method("cascade(dclip, differential, k=3)")))


def test_a_follow_up_has_the_reliability_of_its_first_stage_or_says_why_it_has_none() -> None:
    softmax = Softmax(10.0, np.log(7) + 10 * np.linspace(0.3, 1, 140))
    first = replace(made("dclip", 0.6), method=repr(db.method("dclip")), softmax=softmax)
    first = replace(first, label_score=np.full(140, 0.5, dtype=np.float32))
    told = "no probabilities after a follow-up"
    beside, alone = render([first, follow_up()]), render([follow_up()])
    assert "Reliability of dclip, the first stage" in beside and told in beside
    assert "Reliability" not in alone and told in alone
    other = render([replace(first, encoder="another"), follow_up()])  # whose probabilities are of other scores
    assert "Reliability of" not in other


def test_every_method_has_its_gap_between_groups_and_the_one_shown_has_all_groups() -> None:
    group = tuple("even" if i % 2 == 0 else "<odd>" for i in range(140))
    runs = [
        replace(made(title, share, seed=i), group=group) for i, (title, share) in enumerate((("a", 0.4), ("b", 0.8)))
    ]
    page = render(runs)
    rows = {row[0]: row for row in rows_of(page, "groups")}
    shares = {}
    for run in runs:
        for name in ("even", "<odd>"):
            hits = [bool(hit) for hit, of in zip(run.hits, group, strict=True) if of == name]
            shares[run.title, name] = 100 * sum(hits) / len(hits)
    assert rows["even"][2] == f"{shares['b', 'even']:.1f}" and rows["&lt;odd&gt;"][2] == f"{shares['b', '<odd>']:.1f}"
    gaps = page[page.index("Of each method, the worst group") :]
    gaps = gaps[: gaps.index("</table>")]
    for title in ("a", "b"):
        gap = abs(shares[title, "even"] - shares[title, "<odd>"])
        assert re.search(rf"<bdi>{title}</bdi>.*?>{gap:.1f}<", gaps)


def test_of_many_warnings_some_are_shown_and_the_others_are_folded() -> None:
    page = render([replace(made(), warnings=tuple(f"warning {i}" for i in range(40)))])
    part = page[page.index('<h2 id="left-out">') :]
    first, _, rest = part.partition("<details><summary>28 more</summary>")
    assert [first.count("<li>"), rest.partition("</details>")[0].count("<li>")] == [12, 28]


def test_fifty_thousand_images_of_a_thousand_classes_stay_below_five_megabytes(tmp_path: Path) -> None:
    names = tuple(f"class number {i} of a thousand" for i in range(1000))
    results = [
        made(title, share, 50_000, names, seed, specification={"descriptions": {"file": "descriptions.json"}})
        for seed, (title, share) in enumerate([("classname", 0.5), ("dclip", 0.6), ("cupl", 0.55)])
    ]
    (tmp_path / "gallery").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 128, 128, 3), dtype=np.uint8)  # hard to compress
    for number, pixels in enumerate(noise):
        (tmp_path / "gallery" / f"{number:02d}.jpg").write_bytes(thumbnail(Image.fromarray(pixels)))
    cards = tuple(replace(one, picture=f"{i:02d}.jpg") for i, one in enumerate(shown(results[1], 60)))
    texts = {i: [f"{name}, a text of usual length, number {j}" for j in range(10)] for i, name in enumerate(names)}
    db.Descriptions(texts, names=dict(enumerate(names))).save(tmp_path / "descriptions.json")
    started = time.perf_counter()
    page = render([Run(results[0]), Run(results[1], tmp_path, cards), Run(results[2])])
    assert time.perf_counter() - started < 30  # about 1 s; more is a loop over what it need not touch
    assert len(page.encode()) < 5e6
    (data,) = re.findall(r'id="class-data">(.*?)</script>', page)
    assert len(json.loads(data)) == 1000


# In a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    if not browser.executable():
        pytest.skip("no Chromium is installed, so no page was opened: apt install chromium")
    with browser.Browser() as found:
        yield found


@pytest.fixture
def show(chromium: browser.Browser, tmp_path: Path) -> Show:
    """Open a document from a file."""

    def opened(document: str, **options: Any) -> browser.Page:
        path = tmp_path / "report.html"
        path.write_text(document, encoding="utf-8")
        return chromium.open(path, **options)

    return opened


def test_it_opens_from_disk_without_an_error_or_a_request(everything: Everything, show: Show) -> None:
    page = show(render(everything(NAMES)))
    assert page.errors == []
    assert [Path(url).name for url in page.requests] == ["report.html"]
    assert page.run("document.querySelector('.top img').naturalWidth") == 9
    assert page.run("getComputedStyle(document.querySelector('.lead')).fontSize") == "18px"  # the style is allowed


def test_no_request_could_leave(everything: Everything, show: Show) -> None:
    page = show(render(everything(NAMES)))
    said = page.run("fetch('http://127.0.0.1:9/x').then(() => 'sent', () => 'refused')")
    assert said == "refused" and any("Content Security Policy" in error for error in page.errors)


def test_names_that_attack_do_not_run(everything: Everything, show: Show) -> None:
    page = show(render(everything(HOSTILE + MANY)))
    page.type("#class-text", "script")
    page.run("document.querySelectorAll('details').forEach((at) => { at.open = true; })")
    assert page.run("document.querySelectorAll('#class-found tbody tr').length") == 2
    assert page.run("typeof window.hit") == "undefined"
    assert (page.errors, page.dialogs) == ([], 0)
    assert [Path(url).name for url in page.requests] == ["report.html"]


def test_answers_are_filtered_by_kind_class_and_text(everything: Everything, show: Show) -> None:
    runs = everything()
    page = show(render(runs))
    cards = runs[1].shown
    seen = "[...document.querySelectorAll('#gallery > li')].filter((at) => at.offsetParent).length"
    assert page.run(seen) == len(cards)

    def choose(field: str, value: str) -> None:
        at = f"document.getElementById({json.dumps(field)})"
        page.run(f"({at}.value = {json.dumps(value)}, {at}.dispatchEvent(new Event('input', {{bubbles: true}})))")

    for kind, fits in (("wrong", lambda one: one.kind == "wrong"), ("changed", lambda one: one.changed)):
        choose("gallery-kind", kind)
        assert page.run(seen) == sum(map(fits, cards)) > 0
    choose("gallery-kind", "")
    choose("gallery-class", "bird 3")
    assert page.run(seen) == sum("bird 3" in (one.label, one.answer) for one in cards) > 0
    choose("gallery-class", "")
    page.click("#gallery-text")
    page.type("#gallery-text", "BIRD 2 has a BEAK")
    assert page.run(seen) == sum(one.label == "bird 2" for one in cards) > 0
    assert page.run("document.getElementById('gallery-count').textContent") == f"2 of {len(cards)} shown"
    assert page.errors == []


def test_the_search_finds_every_class(show: Show) -> None:
    names = tuple(f"bird {i:03d}" for i in range(100))
    result = made("dclip", 0.6, 300, names)
    page = show(render([result]))
    page.type("#class-text", "Bird 057")
    cells = page.run("[...document.querySelectorAll('#class-found tbody tr > *')].map((at) => at.textContent)")
    right = int(result.hits[result.labels == 57].sum())
    assert cells[:3] == ["bird 057", "3", str(round(100 * right / 3))]
    assert page.run("document.getElementById('class-count').textContent") == "1 class"


def test_without_script_all_is_there_but_the_filters(everything: Everything, show: Show) -> None:
    runs = everything()
    page = show(render(runs), script=False)
    box = page.call("Page.getLayoutMetrics")["cssContentSize"]
    assert box["height"] > 2000
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    said = Counter(node["role"]["value"] for node in tree if not node.get("ignored"))
    assert said["searchbox"] == 0 and said["combobox"] == 0 and said["DisclosureTriangle"] >= len(runs[1].shown)


def test_it_is_as_wide_as_the_screen(everything: Everything, show: Show) -> None:
    page = show(render(everything(HOSTILE)))
    page.run("document.querySelectorAll('details').forEach((at) => { at.open = true; })")
    for wide in (360, 768, 1280):
        page.size(wide, 800)
        assert page.run("document.documentElement.scrollWidth") <= wide


def test_a_table_is_a_stop_of_the_keyboard_only_where_it_has_to_be_scrolled(everything: Everything, show: Show) -> None:
    page = show(render(everything(NAMES)))
    page.run("document.querySelectorAll('details').forEach((at) => { at.open = true; })")
    over = "[...document.querySelectorAll('.wide')].map((at) => at.scrollWidth - at.clientWidth > 1)"
    stops = "[...document.querySelectorAll('.wide')].map((at) => at.tabIndex === 0)"
    shaded = "[...document.querySelectorAll('.wide')].map((at) => at.classList.contains('more'))"
    for wide in (1280, 360):
        page.size(wide, 800)
        page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.run(stops) == page.run(over) == page.run(shaded)
        assert any(page.run(over)) == (wide == 360)
    page.run("document.querySelectorAll('.wide').forEach((at) => { at.scrollLeft = 10_000; })")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert not any(page.run(shaded)) and page.run(stops) == page.run(over)


def test_printed_all_answers_are_open_and_no_control_is_left(everything: Everything, show: Show) -> None:
    page = show(render(everything(NAMES)))
    page.type("#gallery-text", "nothing is called so")
    page.media(medium="print")
    at = "[...document.querySelectorAll('{}')]"
    seen = at + ".filter((at) => at.checkVisibility({{contentVisibilityAuto: true}})).length"
    assert page.run(seen.format("#gallery > li")) == 12
    assert page.run(seen.format("nav, form, input, select")) == 0
    high = at.format("details .reasons") + ".map((at) => at.getBoundingClientRect().height)"
    assert len(page.run(high)) == 12 and min(page.run(high)) > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_schemes(everything: Everything, show: Show, scheme: str) -> None:
    page = show(render(everything(NAMES)), scheme=scheme)
    colours = page.run(
        "['paper', 'well', 'ink', 'soft', 'accent', 'other'].map((name) => "
        "getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())"
    )
    paper, well, *inks = map(luminance, colours)
    for ink, least in zip(inks, (7, 4.5, 4.5, 3), strict=True):  # the last one is for lines only
        for ground in (paper, well):
            high, low = max(ink, ground), min(ink, ground)
            assert (high + 0.05) / (low + 0.05) >= least
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 26)"}[scheme]
    assert page.run("getComputedStyle(document.body).backgroundColor") == ground


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as WCAG 2 has it."""
    digits = colour.removeprefix("#")
    pairs = [c * 2 for c in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
    channels = [int(pair, 16) / 255 for pair in pairs]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_keyboard_reaches_every_control_in_order(everything: Everything, show: Show) -> None:
    page = show(render(everything(NAMES)))
    stops = []
    for _ in range(16):
        page.press("Tab", 9)
        stops.append(page.run("document.activeElement.className || document.activeElement.getAttribute('href')"))
    assert stops[0] == "skip" and stops[1] == "#results"
    outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


DOCS = Path(__file__).parents[1] / "docs"
AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.slow
@pytest.mark.parametrize("wide", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("names", [NAMES, HOSTILE + MANY], ids=["plain", "hostile"])
def test_axe_finds_nothing(everything: Everything, show: Show, names: tuple[str, ...], scheme: str, wide: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there, so accessibility was not checked: npm install --no-save axe-core")
    page = show(render(everything(names)), scheme=scheme, wide=wide)
    page.run("document.querySelectorAll('details').forEach((at) => { at.open = true; })")
    if names != NAMES:
        page.type("#class-text", "script")
    page.run(AXE.read_text(encoding="utf-8") + ";0")
    told = "v.id + ' ' + v.impact + ' ' + v.nodes[0].html.slice(0, 200)"
    found = page.run(f"axe.run().then((r) => ({{passes: r.passes.length, found: r.violations.map((v) => {told})}}))")
    assert found["found"] == [] and found["passes"] > 30


@pytest.mark.slow
def test_the_pictures_of_the_documentation_can_be_made_anew(chromium: browser.Browser, tmp_path: Path) -> None:
    """All of them, from fewer birds; also that a real run has every part that they show."""
    import report_pictures

    report_pictures.take(report_pictures.report(tmp_path, 200), tmp_path)
    anew, kept = ({path.name: size(path) for path in folder.glob("report-*.png")} for folder in (tmp_path, DOCS))
    assert anew.keys() == kept.keys() and len(anew) == 7
    assert all(anew[name][0] == kept[name][0] and anew[name][1] > 200 for name in anew)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# On the command line


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    for number, (title, right) in enumerate([("classname", 0.3), ("dclip", 0.7)]):
        made(title, right, seed=number).save(tmp_path / "runs" / f"{number}-{title}")
    return tmp_path / "runs"


def test_the_command_writes_one_file_of_all_runs_below_a_folder(run: Command, kept: Path, tmp_path: Path) -> None:
    done = run("report", kept, "-o", tmp_path / "birds.html")
    assert done.code == 0 and done.out == "" and "2 runs in" in done.err
    page = (tmp_path / "birds.html").read_text(encoding="utf-8")
    assert [row[0] for row in rows_of(page, "results")] == ["classname", "dclip"]


@pytest.mark.filterwarnings("ignore::descbench.errors.DescbenchWarning")  # of texts that are too long
def test_a_hostile_corpus_goes_all_the_way_and_runs_nothing(run: Command, show: Show, tmp_path: Path) -> None:
    """Classes, descriptions, files, groups and a taxonomy of such names, from `evaluate` to the page in a browser."""
    files = (
        "<img src=x onerror=window.hit=7>",
        '" onload="window.hit=8',
        "\u202eright",
        "y" * 200,
        "\x01\x1b[31m",
        "\udcff",
    )
    groups = ("</td><script>window.hit=9</script>", "\u202e" + "z" * 3000)
    (tmp_path / "pictures").mkdir()
    rows, of = [], [("path", "group")]
    for i in range(2 * len(HOSTILE)):
        path = tmp_path / "pictures" / f"{files[i % len(files)]}{i}.png"
        Image.new("RGB", (32, 32), (i * 9, 99, 255 - i * 9)).save(path)
        rows.append(json.dumps({"path": str(path), "label": HOSTILE[i % len(HOSTILE)]}))
        if "\udcff" not in path.name:  # of which a csv file can say nothing
            of.append((str(path), groups[i % 2]))
    Path("birds.jsonl").write_text("\n".join(rows), encoding="utf-8")
    above = [("child", "parent"), *((name, f"<u onclick=window.hit={i % 2}>") for i, name in enumerate(HOSTILE))]
    for file, lines in (("groups.csv", of), ("above.csv", above)):
        with Path(file).open("w", encoding="utf-8", newline="") as opened:
            csv.writer(opened).writerows(lines)
    told = {i: [f"{name} is red", "null \x00 <b>bold</b>"] for i, name in enumerate(HOSTILE)}
    db.Descriptions(told, names=dict(enumerate(HOSTILE))).save("birds.desc.json")
    given = (
        "-d",
        "birds.desc.json",
        "--groups",
        "groups.csv",
        "--taxonomy",
        "above.csv",
        "--no-baselines",
        "-e",
        "demo",
    )
    done = run("evaluate", "manifest:birds.jsonl", "-m", "truncated(dclip)", *given, "-o", "runs")
    assert done.code == 0, done.err
    assert run("report", "runs").code == 0
    page = show(Path("report.html").read_text(encoding="utf-8"))
    page.run("document.querySelectorAll('details').forEach((at) => { at.open = true; })")
    assert page.run("typeof window.hit") == "undefined"
    assert page.run("document.querySelectorAll('u, b').length") == 0
    assert page.run("document.querySelectorAll('#gallery > li').length") == len(rows)
    assert (page.errors, page.dialogs) == ([], 0)
    assert [Path(url).name for url in page.requests] == ["report.html"]
    assert page.run("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no folder 'nowhere'"),
        (["runs", "-o", "runs"], "runs is a folder; give the name of a file: -o runs/report.html"),
        (["runs", "--detail", "cupl"], "no run is called 'cupl'"),
    ],
)
def test_what_cannot_be_reported_is_said(run: Command, kept: Path, arguments: list[str], said: str) -> None:
    done = run("report", *arguments)
    assert done.code == 2 and said in done.err and done.out == ""
