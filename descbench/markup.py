"""HTML from any text: whatever a name holds, it is shown, and neither runs nor moves anything.

What is shown as markup is `Markup`; every other text is escaped where it enters. jinja2 knows the type and leaves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

LONGEST = 120  # characters of a name that are shown at once
# What no HTML document may hold (controls, halves of characters), beside tabs and line breaks.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: object) -> str:
    """The text, with the mark of an unknown character for each that HTML cannot hold: null bytes, half characters."""
    return _UNFIT.sub("�", str(text))


def shortened(text: object, longest: int = LONGEST) -> str:
    """The text cleaned and on one line; of a longer one its begin and its end, so that two still differ."""
    whole = " ".join(clean(text).split())
    return whole if len(whole) <= longest else f"{whole[: longest - 30]} … {whole[-24:]}"


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """`<tag attributes>children</tag>`, all of it escaped but `Markup`. `class_` is `class`, `x_y` is `x-y`; an
    attribute that is None or False is left out."""
    found = [Markup("<"), Markup(tag)]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        found.append(Markup(f" {name}") if value is True else Markup(f' {name}="') + clean(value) + Markup('"'))
    found.append(Markup(">"))
    found += [child if isinstance(child, Markup) else escape(clean(child)) for child in children]
    found.append(Markup("</") + Markup(tag) + Markup(">"))
    return Markup("").join(found)


def name(text: object, longest: int = LONGEST) -> Markup:
    """A name that is not ours, apart from the text around it (`<bdi>`), shortened with the whole in its title."""
    shown = shortened(text, longest)
    whole = clean(text)
    return element("bdi", shown, title=None if shown == whole else whole[:2000])


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]] | Mapping[str, Iterable[Sequence[object]]],
    caption: object = "",
    *,
    numbers: Iterable[int] = (),
) -> Markup:
    """A table whose first column names its rows; the columns in `numbers` are right-aligned. Cells are escaped.

    A mapping of rows has a part for each key, with that as its heading ("": none).
    """
    right = set(numbers)

    def kind(i: int) -> str | None:
        return "number" if i in right else None

    top = element("tr", *(element("th", cell, scope="col", class_=kind(i)) for i, cell in enumerate(head)))
    bodies = []
    for title, part in (rows if isinstance(rows, Mapping) else {"": rows}).items():
        lines = [
            element(
                "tr",
                element("th", row[0], scope="row"),
                *(element("td", cell, class_=kind(i)) for i, cell in enumerate(row[1:], 1)),
            )
            for row in part
        ]
        heading = element("tr", element("th", name(title), scope="rowgroup", colspan=len(head)), class_="part")
        bodies.append(element("tbody", *([heading] if title else []), *lines))
    called = element("caption", element("span", caption)) if caption else ""
    # With a class, since themes of notebooks and sites dress tables that have none.
    return element("table", called, element("thead", top), *bodies, class_="data")


def facts(pairs: Mapping[str, object]) -> Markup:
    """Terms and what they are, as a list of definitions; an empty one is left out."""
    found = [element("dt", term) + element("dd", value) for term, value in pairs.items() if str(value)]
    return element("dl", *found)


def snippet(*parts: object) -> Markup:
    """What a notebook shows of an object, with a few rules of its own, since a notebook has no style sheet of ours; a
    part that has an HTML of its own is shown by it."""
    rules = (
        ".descbench{overflow-x:auto}"
        ".descbench table{border-collapse:collapse;font-size:.92em;font-variant-numeric:tabular-nums}"
        ".descbench caption{text-align:left;font-weight:600;padding:0 0 .3em;color:inherit}"
        ".descbench td,.descbench th{padding:.2em 1.2em .2em 0;text-align:left;vertical-align:top;font-weight:400}"
        ".descbench thead th{border-bottom:1px solid currentColor;vertical-align:bottom;opacity:.75}"
        ".descbench tbody th{max-width:32em;overflow-wrap:anywhere}"
        ".descbench .number{text-align:right;white-space:nowrap}"
        ".descbench p{max-width:46em;margin:.5em 0}"
    )
    shown = [Markup(part._repr_html_()) if hasattr(part, "_repr_html_") else part for part in parts]
    return element("div", Markup(f"<style>{rules}</style>"), *shown, class_="descbench")
