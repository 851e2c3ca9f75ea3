"""What each method encodes, written out by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import descbench as db
from descbench import Descriptions, TextBank, Vocabulary
from descbench.errors import InputError
from descbench.methods.cupl import with_article
from descbench.methods.dclip import authors_phrase, phrase
from descbench.methods.names import shipped_templates
from descbench.prompts import Question, Reply

BIRDS = Vocabulary(["Red_hen", "rooster", "goose"], domain="farm birds", ids=[7, 3, 11])
CLASSES = Descriptions({7: ["a small comb", "antennae", "often brown"], 3: ["a tall comb"]}, names=dict(BIRDS))
PAIRS = Descriptions(
    pairs={
        (3, 7): (["a photo of a rooster with spurs", "a tall comb"], ["a photo of a Red hen", "a low comb"]),
        (7, 11): (["a low comb", "a thin neck"], ["a long neck", "a thick bill"]),
    },
    names=dict(BIRDS),
)


NOTHING = Descriptions()


def texts(spelling: str, descriptions: Descriptions = NOTHING, vocabulary: Vocabulary = BIRDS) -> list[tuple[str, ...]]:
    bank: TextBank = db.method(spelling).texts(vocabulary, descriptions)
    return [bank.texts_of(i) for i in range(len(vocabulary))]


def test_classname_is_the_bare_name() -> None:
    assert texts("classname") == [("Red hen",), ("rooster",), ("goose",)]


def test_template_fills_every_place_and_a_brace_in_a_name_is_a_brace() -> None:
    assert texts("template('a {}, the {}')")[0] == ("a Red hen, the Red hen",)
    odd = Vocabulary(["{}", "{x}$y", "a\\1"])
    assert texts("template('a {}')", vocabulary=odd) == [("a {}",), ("a {x}$y",), ("a a\\1",)]


def test_templates_are_a_list_or_the_shipped_ones() -> None:
    assert texts("templates(list=['a {}', 'the {}'])")[1] == ("a rooster", "the rooster")
    shipped = texts("templates")[1]
    assert len(shipped) == len(set(shipped)) == len(shipped_templates()) >= 20
    assert all("rooster" in text and "{}" not in text for text in shipped)


@pytest.mark.parametrize(
    ("descriptor", "ours", "authors"),
    # The cases of methods.md, section 2: the authors' rule goes by the first letters, and misfires.
    [
        ("a long bill", "which is a long bill", "which is a long bill"),
        ("antennae", "which has antennae", "which is antennae"),
        ("candles", "which has candles", "which candles"),
        ("can fly", "which can fly", "which can fly"),
        ("often brown", "which often brown", "which often brown"),
        ("typically small", "which typically small", "which typically small"),
        ("may be red", "which may be red", "which may be red"),
        ("has spots", "which has spots", "which has spots"),
        ("hash marks", "which has hash marks", "which hash marks"),
        ("used as a toy", "which is used as a toy", "which is used as a toy"),
        ("two legs", "which has two legs", "which has two legs"),
        ("A crest", "which is A crest", "which has A crest"),
        ("", "which has ", "which has "),
    ],
)
def test_a_descriptor_becomes_a_relative_clause(descriptor: str, ours: str, authors: str) -> None:
    assert phrase(descriptor) == ours
    assert authors_phrase(descriptor) == authors


def test_dclip_joins_name_and_clause_and_falls_back_to_the_bare_name() -> None:
    hen = ("Red hen, which is a small comb", "Red hen, which has antennae", "Red hen, which often brown")
    assert texts("dclip", CLASSES) == [hen, ("rooster, which is a tall comb",), ("goose",)]
    assert db.method("dclip").texts(BIRDS, CLASSES).undescribed.tolist() == [False, False, True]


def test_the_authors_phrasing_of_an_empty_list_is_theirs_and_is_counted() -> None:
    found = texts("dclip(phrasing='authors')", CLASSES)
    assert found[0][1] == "Red hen, which is antennae" and found[2] == ("goose, which has ",)
    assert db.method("dclip(phrasing='authors')").texts(BIRDS, CLASSES).undescribed.tolist() == [False, False, True]


def test_a_descriptor_that_occurs_twice_stays_twice() -> None:
    assert texts("dclip", Descriptions({7: ["a comb", "a comb"]}))[0] == ("Red hen, which is a comb",) * 2


def test_differential_takes_the_distinct_captions_against_all_others_and_the_template_for_a_silent_pair() -> None:
    assert texts("differential", PAIRS) == [
        ("a low comb", "a photo of a Red hen", "a thin neck"),
        ("a photo of a rooster with spurs", "a photo of a rooster.", "a tall comb"),
        ("a long neck", "a photo of a goose.", "a thick bill"),
    ]


def test_differential_among_candidates_uses_only_their_pairs() -> None:
    two = BIRDS.subset([11, 7])
    assert texts("differential", PAIRS, two) == [("a long neck", "a thick bill"), ("a low comb", "a thin neck")]
    assert texts("differential", PAIRS, BIRDS.subset([3])) == [("rooster",)]


def test_the_authors_capitalise_after_removing_duplicates() -> None:
    d = Descriptions(pairs={(3, 7): (["a Tall comb", "a tall comb"], ["a low comb"])})
    assert texts("differential(phrasing='authors')", d, BIRDS.subset([3, 7])) == [
        ("A tall comb", "A tall comb"),
        ("A low comb",),
    ]
    assert texts("differential", d, BIRDS.subset([3, 7]))[0] == ("a Tall comb", "a tall comb")


def test_fudd_is_a_cascade_of_a_template_and_differential() -> None:
    ours, authors = db.method("fudd"), db.method("fudd(k=5, phrasing='authors')")
    assert (ours.k, authors.k) == (10, 5)
    assert [repr(stage) for stage in ours.stages] == ["template('a photo of a {}.')", "differential"]
    assert authors.stages[0].texts(BIRDS, Descriptions()).texts[0] == "A photo of a Red hen."
    assert repr(authors.stages[1]) == "differential(fallback='A photo of a {}.', phrasing='authors')"


def test_shuffled_gives_every_class_the_list_of_another() -> None:
    many = Vocabulary([f"bird {i}" for i in range(12)])
    d = Descriptions({i: [f"mark {i}"] for i in range(12)}, names=dict(many))
    found = [text[0].split("mark ")[1] for text in texts("shuffled(dclip)", d, many)]
    assert sorted(map(int, found)) == list(range(12))
    assert all(int(given) != own for own, given in enumerate(found))
    assert texts("shuffled(dclip)", d, many) == texts("shuffled(dclip)", d, many)
    assert texts("shuffled(dclip, seed=1)", d, many) != texts("shuffled(dclip)", d, many)


def test_shuffled_keeps_the_names_and_the_number_of_undescribed_classes() -> None:
    found = texts("shuffled(dclip)", CLASSES)
    assert [text[0].split(",")[0] for text in found] == ["Red hen", "rooster", "goose"]
    assert db.method("shuffled(dclip)").texts(BIRDS, CLASSES).undescribed.sum() == 1


def test_shuffled_moves_pairs_by_the_same_cycle() -> None:
    ids = list(range(6))
    many = Vocabulary([f"bird {i}" for i in ids])
    d = Descriptions(
        {i: [f"mark {i}"] for i in ids},
        {(a, b): ([f"{a} not {b}"], [f"{b} not {a}"]) for a in ids for b in ids if a < b},
    )
    giver = {i: int(text[0].split("mark ")[1]) for i, text in enumerate(texts("shuffled(dclip)", d, many))}
    for a, found in enumerate(texts("shuffled(differential)", d, many)):
        assert found == tuple(sorted(f"{giver[a]} not {giver[b]}" for b in ids if b != a))


def test_nameless_says_the_domain_in_place_of_every_name() -> None:
    d = Descriptions(
        {7: ["the comb of a Red hen", "red hens", "a RED HEN's tail"], 3: ["no rooster, a hen"]}, names=dict(BIRDS)
    )
    assert texts("nameless(template('a {}'))") == [("a farm birds",)] * 3
    assert texts("nameless(dclip)", d) == [
        (
            "farm birds, which has the comb of a farm birds",
            "farm birds, which has red hens",
            "farm birds, which is a farm birds's tail",
        ),
        ("farm birds, which has no farm birds, a hen",),
        ("farm birds",),
    ]
    assert texts("nameless(classname)", vocabulary=Vocabulary(["hen"])) == [("object",)]


@pytest.mark.parametrize("name", ["C++ (language)", "a.b", "$x", "\\1", "crème brûlée", "🦜"])
def test_nameless_takes_a_name_literally(name: str) -> None:
    d = Descriptions({0: [f"one {name} here"]})
    assert texts("nameless(dclip)", d, Vocabulary([name], "things")) == [("things, which has one things here",)]


SENTENCES = Descriptions({7: ["A hen is small.", "It clucks."], 3: ["A rooster struts."]}, names=dict(BIRDS))


def test_cupl_takes_the_sentences_as_they_are_and_the_bare_name_where_there_is_none() -> None:
    assert texts("cupl", SENTENCES) == [("A hen is small.", "It clucks."), ("A rooster struts.",), ("goose",)]
    assert db.method("cupl").pool == "mean_feature"


def test_cupl_with_templates_adds_their_texts_and_still_counts_a_class_without_sentences() -> None:
    method = db.method("cupl(with_templates=True, templates=['a {}', 'the {}'])")
    bank = method.texts(BIRDS, SENTENCES)
    assert bank.texts_of(0) == ("a Red hen", "the Red hen", "A hen is small.", "It clucks.")
    assert bank.texts_of(2) == ("a goose", "the goose")
    assert bank.undescribed.tolist() == [False, False, True]
    assert texts("cupl(with_templates=True)", SENTENCES)[1][:-1] == texts("templates")[1]
    with pytest.raises(InputError, match="only with_templates=True"):
        db.method("cupl(templates=['a {}'])")


def test_cupl_asks_each_form_several_times_and_further_samples_when_it_asks_again() -> None:
    method = db.method("cupl(samples=2)")
    first, again = (method.questions(BIRDS, (7,), attempt) for attempt in (0, 1))
    forms = list(dict.fromkeys(question.text for question in first))
    assert len(forms) == 5 and all("a Red hen" in form and "---" not in form for form in forms)
    assert [(q.text, q.sample) for q in first] == [(form, sample) for form in forms for sample in (0, 1)]
    assert [(q.text, q.sample) for q in again] == [(form, sample) for form in forms for sample in (2, 3)]
    said = method.parse((7,), [Reply("A hen is red. It clucks."), Reply("I'm sorry, I cannot."), Reply("1. A comb.")])
    assert said.classes == {7: ["A hen is red.", "It clucks.", "A comb."]}
    assert said.provenance == {"repairs": {"numbered": 1}}


def test_a_prompt_of_ones_own_for_cupl_is_one_form_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Say what\n\n$a_name of all $domain is.\n", encoding="utf-8")
    (question,) = db.method(f"cupl(prompt={str(path)!r}, samples=1)").questions(BIRDS, (11,))
    assert question == Question("Say what\n\na goose of all farm birds is.", 0, str(path))


@pytest.mark.parametrize(
    ("name", "article"),
    [
        *(("hen", "a"), ("auk", "an"), ("Abyssinian", "an"), ("Egyptian Mau", "an"), ("urn", "an"), ("umbrella", "an")),
        *(("European robin", "a"), ("unicycle", "a"), ("uniform", "a"), ("ukulele", "a"), ("ewe", "a")),
        *(("hourglass", "an"), ("honeycomb", "a"), ("heirloom", "an"), ("house", "a"), ("unimproved road", "an")),
        *(("one-armed bandit", "a"), ("onion", "an"), ("éclair", "an"), ("usher", "an"), ("🦜", "a")),
        *(("used car", "a"), ("utility pole", "a")),
    ],
)  # fmt: skip
def test_an_article_goes_by_the_sound(name: str, article: str) -> None:
    assert with_article(name) == f"{article} {name}"


def test_comparative_takes_the_distinct_features_against_all_others() -> None:
    assert texts("comparative", PAIRS) == [
        ("Red hen, which is a low comb", "Red hen, which is a photo of a Red hen", "Red hen, which is a thin neck"),
        ("rooster, which is a photo of a rooster with spurs", "rooster, which is a tall comb"),
        ("goose, which is a long neck", "goose, which is a thick bill"),
    ]
    assert texts("comparative", PAIRS, BIRDS.subset([3, 11])) == [("rooster",), ("goose",)]
    assert db.method("comparative").pool == "mean_score"


def test_comparative_asks_about_each_of_a_pair_against_the_other_and_needs_both_replies() -> None:
    method = db.method("comparative")
    assert sorted(method.subjects(BIRDS)) == [(7, 3), (7, 11), (11, 3)]
    one, other = method.questions(BIRDS, (11, 3))
    assert one.text.endswith('Now the list for "goose", not "rooster":')
    assert other.text.endswith('Now the list for "rooster", not "goose":')
    said = method.parse(
        (11, 3), [Reply("- a long neck"), Reply("- spurs\n- **wattles**\n\nIn contrast, geese have:\n- feet")]
    )
    assert said.pair(11, 3) == (["a long neck"], ["spurs", "wattles"])
    assert said.provenance == {"repairs": {"bold": 1, "heading": 1, "other class": 1}}
    assert method.parse((11, 3), [Reply("- a long neck"), Reply("")]).pairs == {}


def test_a_structured_method_asks_for_json_of_a_schema_and_reads_it(tmp_path: Path) -> None:
    (question,) = db.method("dclip(structured=True)").questions(BIRDS, (7,))
    assert (question.prompt, question.schema) == ("dclip_json", "features") and "JSON" in question.text
    said = db.method("dclip(structured=True)").parse((7,), [Reply('{"features": ["a comb",]}')])
    assert (said.classes, said.provenance) == ({7: ["a comb"]}, {"repairs": {"trailing comma": 1}})
    (question,) = db.method("differential(structured=True)").questions(BIRDS, (11, 3))
    assert (question.prompt, question.schema) == ("differential_json", "pairs") and "JSON" in question.text
    text = '{"pairs": [{"attribute": "neck", "first": "a long neck", "second": "a short neck"}]}'
    said = db.method("differential(structured=True)").parse((11, 3), [Reply(text)])
    assert said.pair(11, 3) == (["a long neck"], ["a short neck"])
    path = tmp_path / "mine.txt"
    path.write_text("JSON about $name", encoding="utf-8")
    own = db.method(f"dclip(prompt={str(path)!r}, structured=True)").questions(BIRDS, (7,))
    assert own == [Question("JSON about Red hen", 0, str(path), "features")]


def test_a_control_asks_what_its_method_asks() -> None:
    plain, control = db.method("differential"), db.method("shuffled(nameless(differential))")
    assert control.subjects(BIRDS) == plain.subjects(BIRDS)
    assert control.questions(BIRDS, (3, 7)) == plain.questions(BIRDS, (3, 7))
    assert control.pool == plain.pool and control.asks_about == "pair"


def test_dclip_asks_one_question_a_class_with_its_name_and_domain() -> None:
    method = db.method("dclip")
    assert method.subjects(BIRDS) == [(7,), (3,), (11,)]
    (question,) = method.questions(BIRDS, (7,))
    assert isinstance(question, Question) and (question.sample, question.prompt) == (0, "dclip")
    assert '"Red hen"' in question.text and "farm birds" in question.text
    assert method.questions(BIRDS, (7,), 2) == [Question(question.text, 2, "dclip")]
    assert method.parse((7,), [Reply("- a comb\n- two legs")]).classes == {7: ["a comb", "two legs"]}
    assert method.parse((7,), [Reply("no list")]).classes == {}


def test_differential_asks_once_a_pair_in_the_order_of_the_names() -> None:
    method = db.method("differential")
    assert sorted(method.subjects(BIRDS)) == [(7, 3), (7, 11), (11, 3)]
    (question,) = method.questions(BIRDS, (11, 3))
    assert question.text.index('"goose"') < question.text.index('"rooster"')
    said = method.parse((11, 3), [Reply("- neck: a long neck | a short neck")])
    assert said.pair(11, 3) == (["a long neck"], ["a short neck"])
    assert method.parse((11, 3), [Reply("- a long neck")]).pairs == {}


def test_only_pairs_within_a_candidate_set_are_asked_about() -> None:
    import numpy as np

    many = Vocabulary([f"bird {i}" for i in range(6)])
    sets = np.array([[0, 2, 4], [2, 4, 5], [4, 2, 0]])
    expected = {
        frozenset(pair) for row in sets.tolist() for pair in ((row[0], row[1]), (row[0], row[2]), (row[1], row[2]))
    }
    found = db.method("differential").subjects(many, sets)
    assert {frozenset(pair) for pair in found} == expected and len(found) == len(expected)
    assert sorted(db.method("dclip").subjects(many, sets)) == [(0,), (2,), (4,), (5,)]


def test_two_classes_of_one_name_are_no_pair() -> None:
    missiles = Vocabulary(["missile", "tank", "missile"])
    assert sorted(map(sorted, db.method("differential").subjects(missiles))) == [[0, 1], [1, 2]]


def test_one_class_competes_with_nobody() -> None:
    assert db.method("differential").subjects(Vocabulary(["hen"])) == []


def test_the_follow_up_asks_about_the_same_pairs_whatever_the_order() -> None:
    orders = [BIRDS, BIRDS.subset([11, 7, 3]), BIRDS.subset([3, 11, 7])]
    asked = [
        {q.text for s in db.method("differential").subjects(v) for q in db.method("differential").questions(v, s)}
        for v in orders
    ]
    assert all(one == other for one, other in pairwise(asked)) and len(asked[0]) == 3
