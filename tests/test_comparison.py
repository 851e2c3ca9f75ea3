"""Comparing runs: corrected for their number, joined by image, and in sentences that say no more than is shown."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import descbench as db
from descbench import Evaluation, Predictions, Vocabulary
from descbench.comparison import seeds_of
from descbench.errors import InputError
from descbench.power import detectable, holm, images_needed
from descbench.statistics import mcnemar, paired_difference

TWO = Vocabulary(["hen", "owl"])


def answered(hits: np.ndarray, method: str, encoder: str = "none", ids: list[str] | None = None) -> Evaluation:
    """A run of two classes that was right where `hits` says so."""
    labels = np.arange(len(hits)) % 2
    best = np.where(hits, labels, 1 - labels)
    scores = np.tile(np.array([1.0, 0.5], dtype=np.float32), (len(hits), 1))
    names = tuple(ids or [f"image {i}" for i in range(len(hits))])
    return Evaluation(
        Predictions(TWO, np.stack([best, 1 - best], axis=1), scores), labels, names, "made", method, encoder
    )


def differing(n: int, gained: int, lost: int) -> list[Evaluation]:
    """Two runs over n images of which the second gains and loses so many."""
    base = np.zeros(n, dtype=bool)
    base[: n // 2] = True
    other = base.copy()
    other[:lost] = False
    other[n // 2 : n // 2 + gained] = True
    return [answered(base, "one"), answered(other, "two")]


def test_holm_of_a_case_worked_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; never falling: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@settings(deadline=None)
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float]) -> None:
    """At any level: from the smallest on, reject while p <= level / (tests that are left); then stop."""
    corrected = holm(p)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[place] * (len(p) - step) > level:
                break
            rejected.add(place)
        assert {i for i, value in enumerate(corrected) if value <= level} == rejected


@pytest.mark.parametrize(
    ("difference", "share"), [(0.02, 0.1), (0.03, 0.3), (0.05, 0.12), (-0.04, 0.2), (0.1, 0.15), (0.01, 0.04)]
)
def test_so_many_images_show_a_difference_in_about_80_of_100_cases(difference: float, share: float) -> None:
    n = images_needed(difference, share)
    gained, lost = (share + difference) / 2, (share - difference) / 2
    drawn = np.random.default_rng(0).multinomial(n, [gained, lost, 1 - share], size=4000)[:, :2]
    p = {(a, b): mcnemar(a, b) for a, b in set(map(tuple, drawn.tolist()))}
    power = np.mean([p[a, b] < 0.05 for a, b in map(tuple, drawn.tolist())])
    assert 0.75 < power < 0.85


def test_what_so_many_images_can_show_is_what_needs_so_many() -> None:
    for n, share, level in ((200, 0.3, 0.05), (5000, 0.1, 0.05), (5000, 0.1, 0.01), (50_000, 0.02, 0.0125)):
        found = detectable(n, share, level=level)
        assert found is not None
        assert images_needed(found, share, level=level) == pytest.approx(n, abs=1)
        assert images_needed(found * 0.9, share, level=level) > n
    assert detectable(100, 0.05) is None and detectable(100, 0.0) is None
    for impossible in ((0.0, 0.1), (0.2, 0.1), (0.1, 1.1)):
        with pytest.raises(ValueError, match="not possible"):
            images_needed(*impossible)


def test_the_formula_is_that_of_connor() -> None:
    expected = (1.959964 * math.sqrt(0.2) + 0.841621 * math.sqrt(0.2 - 0.05**2)) ** 2 / 0.05**2
    assert images_needed(0.05, 0.2) == math.ceil(expected) == 626


def test_a_comparison_of_several_is_corrected_for_all_of_them() -> None:
    draws = np.random.default_rng(3)
    base = draws.random(400) < 0.5
    others = [np.where(draws.random(400) < 0.15, draws.random(400) < share, base) for share in (0.5, 0.7, 0.9)]
    table = db.compare([answered(base, "base"), *(answered(hits, f"m{i}") for i, hits in enumerate(others))])
    for (name, d), hits in zip(table.differences.items(), others, strict=True):
        plain = paired_difference(base, hits)
        assert (d.value, d.low, d.high, d.p, d.gained, d.lost, d.n) == tuple(vars(plain).values()), name
        assert d.tests == 3 and d.p <= d.p_holm <= 3 * d.p
    p = [d.p for d in table.differences.values()]
    assert min(d.p_holm for d in table.differences.values()) == pytest.approx(3 * min(p))
    assert str(table).count("by Holm for 3 comparisons") == 3
    p = r"(\d[\d.e-]*|< 0\.0001)"  # with an equals sign after what it is called only
    assert len(re.findall(rf"McNemar p (= )?{p}, {p} by Holm for 3", str(table))) == 3
    assert "Holm" not in str(db.compare([answered(base, "base"), answered(others[0], "other")]))


def sentence(n: int, gained: int, lost: int) -> str:
    (found,) = db.compare(differing(n, gained, lost)).conclusions
    return found


def test_a_conclusion_says_what_can_and_what_cannot_be_concluded() -> None:
    # (1.959964 x 0.316228 + 0.841621 x 0.310483)^2 / 0.06^2 = 215.7, shown to two digits
    assert sentence(1000, 80, 20) == (
        "two is better than one by 6.0 points, and chance alone does not explain it (p < 0.0001). "
        "A difference of this size takes about 220 images to be seen (80 % power)."
    )
    assert sentence(1000, 20, 80).startswith("two is worse than one by 6.0 points, and chance alone does not")
    assert sentence(1000, 0, 0) == "two and one are right in the same images: nothing tells them apart."
    unclear = sentence(1000, 55, 45)
    assert unclear.startswith(
        "The data do not show a difference between two and one (p = 0.37), nor that there is none"
    )
    least = detectable(1000, 0.1)
    assert least is not None
    assert f"one of {100 * least:.1f} points or more would probably have been seen (80 % power)" in unclear
    # (1.959964 x 0.316228 + 0.841621 x 0.316070)^2 / 0.01^2 = 7,846.5, shown to two digits
    assert images_needed(0.01, 0.1) == 7847
    assert "one of 1.0 points, as here, needs about 7,900 images." in unclear
    assert sentence(1000, 50, 50).endswith("(80 % power).")
    assert sentence(1000, 2, 2).endswith("they differ in 4 of 1,000 images, too few to show any.")
    assert images_needed(0.002, 0.004) == 7847  # (1.959964 x 0.0632456 + 0.841621 x 0.0632139)^2 / 0.002^2 = 7,846.5
    assert sentence(1000, 3, 1).endswith(
        "they differ in 4 of 1,000 images, too few to show any; one of 0.2 points, as here, needs about 7,900 images "
        "(80 % power)."
    )


def test_runs_over_other_images_are_refused_with_how_many_and_an_example() -> None:
    hits = np.ones(6, dtype=bool)
    base = answered(hits, "one", ids=list("abcdef"))
    with pytest.raises(InputError, match=r"2 only in one \(as 'a'\) and 1 only in two \(as 'x'\); .* same images"):
        db.compare([base, answered(hits[:5], "two", ids=list("cdefx"))])
    moved = answered(hits, "two", ids=list("bacdef"))  # the labels of a and b are exchanged
    with pytest.raises(InputError, match="scored against different labels in 2 images, as 'b'"):
        db.compare([base, moved])
    relabelled = replace(base, labels=np.array([1, 0, 0, 1, 0, 1]))
    with pytest.raises(InputError, match="scored against different labels in 2 images, as 'a'"):
        db.compare([base, relabelled])


def test_rows_in_the_same_order_and_in_another_are_joined_to_the_same() -> None:
    draws = np.random.default_rng(1)
    base, other = (answered(draws.random(50) < 0.5, name) for name in ("one", "two"))
    order = draws.permutation(50)
    turned = Evaluation(
        Predictions(TWO, other.predictions.ids[order], other.predictions.scores[order]),
        other.labels[order],
        tuple(other.ids[i] for i in order),
        *("made", "two", "none"),
    )
    assert db.compare([base, turned]) == db.compare([base, other])


def test_runs_of_several_encoders_are_named_with_them() -> None:
    hits = np.array([True, False, True])
    table = db.compare([answered(hits, "dclip", "A"), answered(hits, "dclip", "B"), answered(hits, "waffle", "B")])
    assert table.base == "dclip with A" and list(table.differences) == ["dclip with B", "waffle with B"]


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("waffle", ["waffle", "waffle(seed=1)"]),
        ("shuffled(dclip)", ["shuffled(dclip)", "shuffled(dclip, seed=1)"]),
        ("nameless(shuffled(dclip))", ["nameless(shuffled(dclip))", "nameless(shuffled(dclip, seed=1))"]),
        ("cascade(waffle, dclip, k=3)", ["cascade(waffle, dclip, k=3)", "cascade(waffle(seed=1), dclip, k=3)"]),
        ("waffle(seed=5)", ["waffle(seed=5)"]),
        ("dclip", ["dclip"]),
        ("fudd", ["fudd"]),
    ],
)
def test_seeds_are_those_that_were_left_at_their_default(spelling: str, expected: list[str]) -> None:
    assert list(map(repr, seeds_of(db.method(spelling), 2))) == expected
