"""HTML from any text: it is shown, and neither runs nor moves anything; also in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup
from support import drawn
from test_report import HOSTILE, NAMES, Elements, made

import descbench as db
from descbench import markup
from descbench.testing import FakeEncoder, FakeLLM


@pytest.mark.parametrize("text", [*HOSTILE, "a\x00b\ud800c\x1b", "", "  two  words\n"])
def test_any_text_comes_back_as_it_was_shown(text: str) -> None:
    class Texts(HTMLParser):
        found = ""

        def handle_data(self, data: str) -> None:
            self.found += data

    page = Texts()
    page.feed(markup.name(text, 20_000))
    page.close()
    assert page.found == " ".join(markup.clean(text).split())
    page.found.encode()


def test_a_long_name_is_shortened_with_the_whole_in_its_title() -> None:
    one, other = ("x" * 500 + end for end in ("a", "b"))
    assert len(markup.shortened(one)) <= 120 and markup.shortened(one) != markup.shortened(other)
    assert f'title="{one}"' in markup.name(one)
    assert "title" not in markup.name("hen")


def test_attributes_are_escaped_and_absent_ones_left_out() -> None:
    found = markup.element("p", "<", Markup("<b>"), title='"', class_="a", data_x="&", hidden=True, id=None, lang=False)
    assert found == '<p title="&#34;" class="a" data-x="&amp;" hidden>&lt;<b></p>'


def test_a_table_names_its_columns_and_rows() -> None:
    found = markup.table(["class", "n"], [["hen", 3]], "birds", numbers=[1])
    assert '<th scope="col">class</th><th scope="col" class="number">n</th>' in found
    assert '<tr><th scope="row">hen</th><td class="number">3</td></tr>' in found


def test_a_table_of_parts_has_a_body_with_a_heading_for_each() -> None:
    found = markup.table(["class", "n"], {"": [["hen", 3]], "<b>": [["owl", 4]]})
    assert found.count("<tbody>") == 2
    assert '<tbody><tr class="part"><th scope="rowgroup" colspan="2"><bdi>&lt;b&gt;</bdi></th></tr><tr>' in found
    assert "<tbody><tr><th" in found  # what has no heading


@pytest.mark.parametrize("names", [NAMES, HOSTILE])
def test_notebooks_show_numbers_and_run_nothing(names: tuple[str, ...]) -> None:
    runs = [made(title, right, names=names, seed=i) for i, (title, right) in enumerate([("a", 0.3), (names[0], 0.7)])]
    told = db.Descriptions({i: [f"{name} {i}", "a beak"] for i, name in enumerate(names)}, names=dict(enumerate(names)))
    vocabulary = runs[0].predictions.vocabulary
    classifier = db.Classifier(vocabulary, db.method("dclip"), FakeEncoder(64), FakeLLM(), told)
    features = drawn(0, 12, 64)
    why = classifier.explain_features(features[0])
    shown = [runs[1], db.compare(runs), classifier.predict_features(features), why]
    pages = [Elements(one._repr_html_()) for one in shown]
    tags = {tag for page in pages for tag, _ in page.elements}
    assert tags == {"div", "style", "table", "caption", "span", "thead", "tbody", "tr", "th", "td", "bdi", "p"}
    assert {name for page in pages for _, name, _ in page.attributes} <= {"class", "scope", "title"}
    right = sum(int(a) == int(b) for a, b in zip(runs[1].predictions.ids[:, 0], runs[1].labels, strict=True))
    assert pages[0].texts[f"{100 * right / 140:.1f}"] >= 1
    assert sum(pages[3].texts[f"{one.contribution:+.4f}"] for one in why.contributions) >= len(why.contributions)
    assert pages[2].texts[f"{np.sort(classifier.predict_features(features).scores[0])[-1]:.4f}"] >= 1
