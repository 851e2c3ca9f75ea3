"""A spelling and its object are one thing, both ways; a wrong spelling is one clear line, and nothing is ever run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import descbench as db
from descbench.errors import DescbenchError, InputError, SpecError
from descbench.methods import (
    DCLIP,
    METHODS,
    Cascade,
    ClassName,
    Differential,
    FuDD,
    Method,
    Nameless,
    Shuffled,
    Template,
    Templates,
)
from descbench.methods.base import POOLS

SPELLINGS = [
    ("classname", ClassName()),
    ("classname()", ClassName()),
    ("template", Template("a photo of a {}.")),
    ("template('a {}')", Template("a {}")),
    ('template("the {}\'s \\"photo\\"")', Template("the {}'s \"photo\"")),
    ("templates", Templates()),
    ("templates(list=['a {}', 'the {}'])", Templates(("a {}", "the {}"))),
    ("dclip", DCLIP()),
    ("  dclip ( prompt = 'birds' ) ", DCLIP(prompt="birds")),
    ("dclip('birds')", DCLIP("birds")),
    ("dclip(phrasing='authors', pool='max_score')", DCLIP(phrasing="authors", pool="max_score")),
    ("differential(fallback='a {}')", Differential(fallback="a {}")),
    ("fudd", FuDD()),
    ("fudd(k=5, phrasing='authors')", FuDD(5, "authors")),
    ("cascade(dclip, differential, k=5)", Cascade(DCLIP(), Differential(), k=5)),
    ("cascade(templates, nameless(differential), template('a {}'))",
     Cascade(Templates(), Nameless(Differential()), Template("a {}"))),
    ("shuffled(dclip)", Shuffled(DCLIP())),
    ("shuffled(nameless(dclip(pool='max_score')), seed=3)", Shuffled(Nameless(DCLIP(pool="max_score")), 3)),
    ("nameless(method=dclip)", Nameless(DCLIP())),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "method"), SPELLINGS)
def test_a_spelling_is_its_method_and_the_repr_spells_it_again(spelling: str, method: object) -> None:
    assert db.method(spelling) == method
    assert db.method(repr(method)) == method
    assert hash(db.method(repr(method))) == hash(method)


@pytest.mark.parametrize(
    ("method", "shortest"),
    [
        (ClassName(), "classname"),
        (Template(), "template('a photo of a {}.')"),
        (DCLIP(), "dclip"),
        (DCLIP(phrasing="authors"), "dclip(phrasing='authors')"),
        (FuDD(), "fudd"),
        (FuDD(5), "fudd(k=5)"),
        (Cascade(DCLIP(), Differential()), "cascade(dclip, differential, k=10)"),
        (Shuffled(DCLIP()), "shuffled(dclip)"),
    ],
)
def test_a_repr_names_what_differs_from_the_default(method: object, shortest: str) -> None:
    assert repr(method) == shortest


PLAIN = st.one_of(
    st.just(ClassName()),
    st.builds(Template, st.text().map(lambda text: text + "{}")),
    st.builds(Templates, st.lists(st.text().map(lambda text: "{}" + text), max_size=3)),
    st.builds(DCLIP, st.text(), st.sampled_from(["ours", "authors"]), st.sampled_from(POOLS)),
    st.builds(Differential, st.text(), st.text().map(lambda text: "{}" + text), st.sampled_from(["ours", "authors"])),
)
WRAPPED = st.recursive(
    PLAIN, lambda inner: st.one_of(st.builds(Nameless, inner), st.builds(Shuffled, inner, st.integers(0, 9)))
)
ANY = st.one_of(
    WRAPPED,
    st.builds(lambda stages, k: Cascade(*stages, k=k), st.lists(WRAPPED, min_size=1, max_size=3), st.integers(1, 99)),
    st.builds(FuDD, st.integers(1, 99), st.sampled_from(["ours", "authors"])),
)


@given(ANY)
@settings(deadline=None, max_examples=60)
def test_every_method_that_can_be_built_is_spelled_by_its_repr(method: Method) -> None:
    again = db.method(repr(method))
    assert again == method and type(again) is type(method) and repr(again) == repr(method)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("dcilp", r"no method 'dcilp'; did you mean 'dclip'\? There are: adaptclipzs, awt, cascade, classname, "),
        ("shuffled(dcilp)", "no method 'dcilp'; did you mean 'dclip'"),
        ("cascade(dclip, diferential)", "did you mean 'differential'"),
        ("dclip(promt='x')", "dclip: got an unexpected keyword argument 'promt'"),
        ("fudd(1, 'ours', 3)", "fudd: .*positional arguments"),
        ("shuffled", "shuffled: missing 1 required positional argument: 'method'"),
        ("dclip(phrasing='theirs')", "phrasing='theirs' is not possible; it is one of: 'ours', 'authors'"),
        ("dclip(pool='mean')", "pool='mean' is not possible; it is one of: 'mean_score', 'mean_feature'"),
        ("template('a photo')", r"template 'a photo' has no \{\}"),
        ("templates(list=['a {}', 'b'])", r"template 'b' has no \{\}"),
        ("fudd(k=0)", "k=0 is not possible; it is a whole number from 1 on"),
        ("fudd(k=2.5)", "k=2.5 is not possible"),
        ("fudd(k=True)", "k=True is not possible"),
        ("shuffled(dclip, seed=-1)", "seed=-1 is not possible"),
        ("cascade", "a cascade needs a stage"),
        ("cascade(fudd, dclip)", "fudd cannot be a stage of a cascade; list its stages instead"),
        ("cascade(dclip, 'x')", "'x' cannot be a stage of a cascade: it is not a method"),
        ("shuffled('dclip')", r"shuffled changes one method, as in shuffled\(dclip\); 'dclip' is none"),
        ("nameless(fudd)", "nameless changes one method"),
        ("dclip(prompt=5)", "prompt=5 is not possible; it is a text in quotes"),
        ("dclip(prompt=dclip)", "prompt=dclip is not possible"),
        ("dclip(prompt='a', prompt='b')", "a parameter is given twice"),
        ("dclip(*['a'])", r"no \* or \*\* here"),
        ("dclip(**{'prompt': 'a'})", r"no \* or \*\* here"),
        ("dclip(prompt=birds", "cannot read the method"),
        ("fudd(k=2**3)", r"cannot read '2\*\*3' in the method"),
        ("'dclip'", "is not a method; write a name"),
        ("5", "'5' is not a method"),
        ("", "cannot read the method ''"),
    ],
)
def test_a_wrong_spelling_is_one_clear_line(spelling: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        db.method(spelling)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spelling",
    [
        "__import__('os')",
        "dclip(prompt=__import__('os').system('true'))",
        "().__class__.__bases__[0].__subclasses__()",
        "dclip.__init__",
        "[dclip for _ in 'x']",
        "(lambda: dclip)()",
        "f'{1}'",
        "dclip if 1 else fudd",
        "dclip; fudd",
        "dclip\nfudd",
        "dclip\0",
        "dclip('\ud800')",
        "eval('dclip')",
        "dclip()()",
        "x := dclip",
        "é" * 9_999,
        "x" * 20_000,
        "(" * 5_000,
        "-" * 9_000 + "1",
        "dclip(prompt=" + "-" * 900 + "1)",
        "a." * 4_000 + "b",
        "1" + "+1" * 900,
        "nameless(" * 150 + "dcilp" + ")" * 150,
        "cascade(" * 90 + "dclip" + ")" * 90,
        "[" * 150 + "]" * 150,
        "dclip" + "()" * 900,
    ],
)
def test_nasty_input_is_refused_and_never_run(spelling: str) -> None:
    with pytest.raises(InputError) as caught:
        db.method(spelling)
    assert len(str(caught.value)) < 20_000


@given(st.one_of(st.text(), st.text("dclip()'[]{},=k.-+*:#\\\"\n 15")))
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_method_or_an_error_of_ours(text: str) -> None:
    try:
        found = db.method(text)
    except DescbenchError:
        return
    assert db.method(repr(found)) == found


@pytest.mark.parametrize("given_as", [None, 5, DCLIP(), b"dclip", ["dclip"]])
def test_what_is_no_text_spells_nothing(given_as: object) -> None:
    for read in (db.method, db.encoder, db.llm, db.dataset):
        with pytest.raises(SpecError, match="spelled"):
            read(given_as)


@pytest.mark.parametrize(
    ("read", "spelling", "message"),
    [
        (db.encoder, "open_clp:ViT-B-32", "no encoder 'open_clp'; did you mean 'open_clip'"),
        (db.llm, "transformer:x", "no llm 'transformer'; did you mean 'transformers'"),
        (db.dataset, "foldr:./x", "no dataset 'foldr'; did you mean 'folder'"),
        (db.dataset, "demo:n=x", "data set 'demo' has no option 'n=x'"),
        (db.dataset, " ", "is spelled NAME or NAME:ARGUMENT"),
        (db.dataset, "", "is spelled NAME or NAME:ARGUMENT"),
    ],
)
def test_a_wrong_adapter_is_named_with_the_nearest(read: object, spelling: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(spelling)  # type: ignore[operator]


def test_an_option_that_an_adapter_does_not_have_is_named() -> None:
    with pytest.raises(SpecError, match=r"dataset 'demo': .*colour"):
        db.dataset("demo", colour="red")


def test_the_demo_data_set_is_spelled_by_its_repr() -> None:
    for spelling in ("demo", "demo:n=80", "demo:n=80,seed=2"):
        assert repr(db.dataset(spelling)) == spelling


def test_every_method_of_the_table_is_called_what_the_table_calls_it() -> None:
    assert all(kind.spelled == name for name, kind in METHODS.items())
