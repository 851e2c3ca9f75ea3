"""Several names pool as their class: texts, scores, follow-ups, controls, files; against loops over the definition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from support import Scripted, drawn, unit
from test_contracts import SPELLINGS
from test_transport import by_definition
from test_usefulness import FeatureSet

import descbench as db
from descbench import Classifier, Descriptions, TextBank, Vocabulary
from descbench.cli.common import choose_classes
from descbench.embedding import Embedded
from descbench.errors import InputError
from descbench.generation import generate
from descbench.methods import Method
from descbench.methods.base import Wrapper
from descbench.methods.cascade import stages_of
from descbench.methods.waffle import Waffle, WaffleAnd
from descbench.store import ReplyStore
from descbench.taxonomy import Taxonomy
from descbench.testing import FakeEncoder, FakeLLM
from descbench.texts import of_every_name

DIM = 24
NAMES = ("hen", "rooster", "turkey", "goose", "quail")
IDS = (7, 3, 11, 0, 5)
FURTHER = {7: ("female chicken", "biddy"), 0: ("grey_goose",)}
PLAIN = Vocabulary(NAMES, "farm birds", IDS)
BIRDS = Vocabulary(NAMES, "farm birds", IDS, FURTHER)
EVERY = {id_: [name, *FURTHER.get(id_, ())] for id_, name in PLAIN}
LISTS = {
    7: ["a red comb", "brown wings", "a red comb"],
    3: ["a tall comb", "spurs"],
    11: ["a bare head"],
    0: ["a long neck", "an orange bill"],
    5: ["a small body", "streaks", "a short tail"],
}
TOLD = Descriptions(LISTS, names=dict(PLAIN))
ENCODER = FakeEncoder(dim=DIM)
X = drawn(5, 30, DIM)


@cache
def feature(text: str) -> np.ndarray:
    row: np.ndarray = ENCODER.encode_texts([text])[0].numpy().astype(np.float64)
    return row


def shown(name: str) -> str:
    return name.replace("_", " ")


def phrased(name: str, text: str) -> str:
    return f"{shown(name)}, which {'is' if text.startswith(('a ', 'an ')) else 'has'} {text}"


def dclip_texts(id_: int) -> list[str]:
    return [phrased(name, text) for name in EVERY[id_] for text in LISTS[id_]]


def scores(spelling: str, x: np.ndarray = X, **options: Any) -> np.ndarray:
    """What a classifier scores, in the order of the classes, (N, C)."""
    clf = Classifier(BIRDS, db.method(spelling), ENCODER, **{"descriptions": TOLD, **options})
    pred = clf.predict_features(x, top_k=len(BIRDS))
    return np.take_along_axis(pred.scores, np.argsort(BIRDS.positions(pred.ids), axis=1), axis=1)


def mean(rows: list[Any]) -> Any:
    return sum(rows) / len(rows)


# Each pool, by its definition over all names of a class


def test_a_name_with_synonyms_is_the_renormalised_mean_of_their_features() -> None:
    expected = [[x @ unit(mean([feature(shown(n)) for n in EVERY[c]])) for c in IDS] for x in X]
    assert scores("classname") == pytest.approx(np.array(expected), abs=1e-6)


def test_templates_are_filled_with_every_name() -> None:
    texts = {c: [t.format(shown(n)) for n in EVERY[c] for t in ("a {}", "two {}s", "{}")] for c in IDS}
    expected = [[x @ unit(mean([feature(text) for text in texts[c]])) for c in IDS] for x in X]
    assert scores("templates(['a {}', 'two {}s', '{}'])") == pytest.approx(np.array(expected), abs=1e-6)


def test_descriptors_are_phrased_with_every_name_and_their_similarities_averaged() -> None:
    expected = [[mean([x @ feature(text) for text in dclip_texts(c)]) for c in IDS] for x in X]
    assert scores("dclip") == pytest.approx(np.array(expected), abs=1e-6)


def test_with_max_score_the_best_text_of_any_name_counts() -> None:
    expected = [[max(x @ feature(text) for text in dclip_texts(c)) for c in IDS] for x in X]
    assert scores("dclip(pool='max_score')") == pytest.approx(np.array(expected), abs=1e-6)


def test_with_mean_prob_the_softmax_is_over_the_texts_of_all_names() -> None:
    expected = []
    for x in X:
        grown = {c: [np.exp(ENCODER.logit_scale * (x @ feature(text))) for text in dclip_texts(c)] for c in IDS}
        whole = sum(sum(part) for part in grown.values())
        expected.append([mean(grown[c]) / whole for c in IDS])
    assert scores("dclip(pool='mean_prob')") == pytest.approx(np.array(expected), abs=1e-5)


def test_with_transport_the_texts_of_all_names_are_carried() -> None:
    views = drawn(8, 6, 4, DIM)
    classes = [np.array([feature(text) for text in dclip_texts(c)]) for c in IDS]
    expected = [by_definition(x, classes, ENCODER.logit_scale)[0] for x in views]
    assert scores("awt(dclip)", views) == pytest.approx(np.array(expected), abs=1e-4)


def test_weighted_texts_are_weighed_by_likeness_to_the_first_name() -> None:
    expected = []
    for x in X:
        row = []
        for c in IDS:
            anchor = feature(f"a photo of a {shown(EVERY[c][0])}.")
            weights = [np.exp(np.exp(2) * (feature(text) @ anchor)) for text in dclip_texts(c)]
            row.append(x @ unit(sum(w * feature(text) for w, text in zip(weights, dclip_texts(c), strict=True))))
        expected.append(row)
    assert scores("wca(dclip)") == pytest.approx(np.array(expected), abs=1e-5)


def test_a_class_without_a_description_is_scored_by_all_its_names_and_counted() -> None:
    some = Descriptions({c: LISTS[c] for c in IDS if c != 7}, names=dict(PLAIN))
    clf = Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=some)
    with pytest.warns(db.DescbenchWarning, match="1 of 5 classes have no description"):
        bank, _, _ = clf.bank()
    assert bank.texts_of(0) == ("hen", "female chicken", "biddy")
    assert bank.undescribed.tolist() == [True, False, False, False, False]
    assert clf.counts["undescribed"] == 1


# Texts, over all methods


def naming(stage: Method) -> bool:
    """Whether a stage looks at the names of all classes together, or at all names of a class."""
    return isinstance(stage, Wrapper | Waffle)


def together(stage: Method, told: Descriptions) -> list[list[str]]:
    """The texts of each class from vocabularies that know one name of each, what was there before left out."""
    lists: list[list[str]] = []
    for position, (id_, _) in enumerate(PLAIN):
        own: list[str] = []
        for name in EVERY[id_]:
            called = PLAIN.renamed([name if i == id_ else other for i, other in PLAIN])
            new = stage.texts(called, told).texts_of(position)
            own += [text for text in new if text not in set(own)]  # a set of what earlier names gave
        lists.append(own)
    return lists


def stages_of_all() -> list[tuple[str, int]]:
    return [(spelling, n) for spelling in SPELLINGS for n in range(len(stages_of(db.method(spelling))))]


@pytest.mark.parametrize(("spelling", "number"), stages_of_all())
def test_the_texts_of_a_class_are_those_with_each_of_its_names_in_place(spelling: str, number: int) -> None:
    stage = stages_of(db.method(spelling))[number]
    told = generate(PLAIN, db.method(spelling), FakeLLM())
    before, bank = stage.texts(PLAIN, told), of_every_name(stage, BIRDS, told)
    assert isinstance(bank, TextBank)
    assert bank.undescribed.tolist() == before.undescribed.tolist() and bank.anchors == before.anchors
    assert bank.offsets[0] == 0 and bank.offsets[-1] == len(bank.texts)
    if not naming(stage):
        assert [list(bank.texts_of(c)) for c in range(5)] == together(stage, told)
    if not isinstance(stage, Waffle | WaffleAnd):  # whose random words are as long as the names
        for position, (id_, _) in enumerate(PLAIN):
            kept = len(before.texts_of(position))
            assert bank.texts_of(position)[:kept] == before.texts_of(position), "the first name's texts come first"
            if id_ not in FURTHER:
                assert bank.texts_of(position) == before.texts_of(position), "another class's synonyms change nothing"


@pytest.mark.parametrize(("spelling", "number"), stages_of_all())
def test_without_synonyms_the_texts_are_those_of_the_method(spelling: str, number: int) -> None:
    stage = stages_of(db.method(spelling))[number]
    told = generate(PLAIN, db.method(spelling), FakeLLM())
    one, other = stage.texts(PLAIN, told), of_every_name(stage, PLAIN, told)
    assert (one.texts, one.offsets.tolist(), one.undescribed.tolist()) == (
        other.texts,
        other.offsets.tolist(),
        other.undescribed.tolist(),
    )
    assert one.anchors == other.anchors and one.weights is other.weights is None


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_order_of_the_classes_reaches_the_texts_of_their_names(spelling: str) -> None:
    method = db.method(spelling)
    told = generate(BIRDS, method, FakeLLM())
    turned = BIRDS.subset(BIRDS.ids[::-1])
    for stage in stages_of(method):
        one, other = of_every_name(stage, BIRDS, told), of_every_name(stage, turned, told)
        assert [one.texts_of(c) for c in range(5)] == [other.texts_of(4 - c) for c in range(5)]


def test_texts_that_do_not_say_the_name_count_as_often_as_before() -> None:
    told = Descriptions({7: ["a red comb", "a red comb", "wings"]}, names=dict(PLAIN))
    bank = of_every_name(db.method("cupl"), BIRDS, told)  # type: ignore[arg-type]
    assert bank.texts_of(0) == ("a red comb", "a red comb", "wings")
    phrases = of_every_name(db.method("dclip"), BIRDS, told).texts_of(0)  # type: ignore[arg-type]
    assert [phrases.count(phrased(name, "a red comb")) for name in EVERY[7]] == [2, 2, 2]


def test_a_language_model_is_asked_about_the_first_name_only() -> None:
    for spelling in ("dclip", "cupl", "differential", "comparative", "contrast"):
        asked = [FakeLLM(), FakeLLM()]
        for llm, vocabulary in zip(asked, (PLAIN, BIRDS), strict=True):
            generate(vocabulary, db.method(spelling), llm)
        assert asked[0].batches == asked[1].batches


# Follow-ups


@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_follow_up_is_the_loop_over_all_names(k: int) -> None:
    whole = generate(BIRDS, db.method("fudd"), FakeLLM())
    some = Descriptions(pairs=dict(list(whole.pairs.items())[::2]), names=whole.names)
    with pytest.warns(db.DescbenchWarning, match="pairs among the candidates have no description"):
        found = Classifier(BIRDS, db.method(f"fudd(k={k})"), ENCODER, descriptions=some).predict_features(X, top_k=k)
    for row, x in enumerate(X.astype(np.float64)):
        first = {c: x @ unit(mean([feature(f"a photo of a {shown(n)}.") for n in EVERY[c]])) for c in IDS}
        candidates = sorted(IDS, key=lambda c: -first[c])[:k]
        expected = {}
        for c in candidates:
            captions: set[str] = set()
            for pair in (some.pair(c, rival) for rival in candidates if rival != c):
                captions |= set(pair[0]) if pair else {f"a photo of a {shown(n)}." for n in EVERY[c]}
            expected[c] = x @ unit(mean([feature(text) for text in captions]))
        assert found.ids[row].tolist() == sorted(candidates, key=lambda c: -expected[c])
        assert found.scores[row] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)


def test_a_follow_up_with_a_language_model_asks_about_the_pairs_that_occur() -> None:
    llm = Scripted({"": '{"pairs": []}'})
    clf = Classifier(BIRDS, db.method("cascade(dclip, differential, k=2)"), ENCODER, llm=llm, descriptions=TOLD)
    with pytest.warns(db.DescbenchWarning, match="have no description"):
        clf.predict_features(X, top_k=2)
    asked = {question.text for question in llm.batches[0]}
    assert asked and not any("biddy" in text or "grey goose" in text for text in asked)


def test_selected_weighs_the_mean_of_the_captions_of_all_names() -> None:
    expected = []
    for x in X:
        captions = [mean([x @ feature(f"A photo of a {shown(n)}.") for n in EVERY[c]]) for c in IDS]
        said = [mean([x @ feature(text) for text in dict.fromkeys(LISTS[c])]) for c in IDS]
        expected.append([2 * caption + part for caption, part in zip(captions, said, strict=True)])
    assert scores("disclip(k=5, w=2, own=True)") == pytest.approx(np.array(expected), abs=1e-6)


def test_selected_explains_by_the_caption_of_each_name() -> None:
    clf = Classifier(BIRDS, db.method("disclip(k=5, own=True)"), ENCODER, descriptions=TOLD)
    why = clf.explain_features(unit(feature("A photo of a hen.") + feature("A photo of a biddy.")))
    assert why.answer == "hen"
    captions = [reason for reason in why.reasons if reason.text.startswith("A photo")]
    assert {reason.text for reason in captions} == {f"A photo of a {name}." for name in EVERY[7]}
    assert sum(reason.share for reason in why.reasons) == pytest.approx(why.score, abs=1e-6)
    assert sum(reason.weight for reason in why.reasons) == pytest.approx(1)


def test_texts_that_are_repeated_for_one_name_are_refused_with_synonyms() -> None:
    support = (drawn(2, 10, DIM), np.array(IDS * 2))
    with pytest.raises(InputError, match=r"repeats its texts for one name .* hen = female chicken = biddy, goose = "):
        Classifier(BIRDS, db.method("disclip(named=True)"), ENCODER, descriptions=TOLD, support=support)
    Classifier(PLAIN, db.method("disclip(named=True)"), ENCODER, descriptions=TOLD, support=support)


# Controls


def test_a_nameless_text_says_none_of_the_names() -> None:
    told = Descriptions({7: ["A hen, or female chicken, has a comb.", "Any BIDDY clucks."]}, names=dict(PLAIN))
    bank = of_every_name(db.method("nameless(cupl)"), BIRDS, told)  # type: ignore[arg-type]
    assert bank.texts_of(0) == ("A farm birds, or farm birds, has a comb.", "Any farm birds clucks.")
    assert of_every_name(db.method("nameless(classname)"), BIRDS, told).texts == ("farm birds",) * 5  # type: ignore[arg-type]


@pytest.mark.parametrize("control", ["shuffled", "shared", "random_descriptions"])
def test_a_description_that_moves_says_no_name_of_the_class_it_came_from(control: str) -> None:
    said = {c: [f"mark {c}: a {shown(name)} stands." for name in EVERY[c]] for c in IDS}
    told = Descriptions(said, names=dict(PLAIN))
    bank = of_every_name(db.method(f"{control}(cupl)"), BIRDS, told)  # type: ignore[arg-type]
    moved = 0
    for position, id_ in enumerate(IDS):
        for text in bank.texts_of(position):
            giver = int(text.split(":")[0].removeprefix("mark "))
            name = text.split(": a ")[1].removesuffix(" stands.")
            assert name in map(shown, EVERY[id_])
            moved += giver != id_
    assert moved


@pytest.mark.parametrize("control", ["shuffled", "random_descriptions"])
def test_who_gets_whose_descriptions_does_not_change_with_the_name_in_front(control: str) -> None:
    method: Any = db.method(f"{control}(cupl)")
    unnamed = of_every_name(method, BIRDS, Descriptions(LISTS))
    assert unnamed.texts == of_every_name(method, BIRDS, TOLD).texts == method.texts(PLAIN, TOLD).texts


def test_a_name_of_several_words_stays_whole_when_words_are_scrambled() -> None:
    told = Descriptions({7: ["one two female chicken three four"]}, names=dict(PLAIN))
    for seed in range(5):
        bank = of_every_name(db.method(f"scrambled(cupl, seed={seed})"), BIRDS, told)  # type: ignore[arg-type]
        assert "female chicken" in bank.texts_of(0)[0] and len(bank.texts_of(0)) == 1


def test_random_words_are_the_same_for_all_names_of_all_classes() -> None:
    bank = of_every_name(db.method("waffle(pairs=3)"), BIRDS, Descriptions())  # type: ignore[arg-type]
    items = [{text.split(", ", 1)[1] for text in bank.texts_of(c)} for c in range(5)]
    assert len(items[0]) == 6 and all(some == items[0] for some in items)
    assert [len(bank.texts_of(c)) for c in range(5)] == [18, 6, 6, 12, 6]


# Files and runs


def data(names: Sequence[str], labels: list[int]) -> Embedded:
    ids = tuple(f"image {n}" for n in range(len(labels)))
    return Embedded(FeatureSet(names), ids, X[: len(labels)], np.array(labels), ids)  # type: ignore[arg-type]


def test_a_label_that_is_a_synonym_is_its_class_and_a_run_keeps_them(tmp_path: Path) -> None:
    clf = Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD)
    labels = [0, 1, 2, 3] * 5
    result = db.evaluate(clf, data(["Biddy", "hen", "grey goose", "quail"], labels))
    assert result.labels.tolist() == [[7, 7, 0, 5][label] for label in labels]
    result.save(tmp_path)
    again = db.Evaluation.load(tmp_path)
    assert again.predictions.vocabulary == BIRDS and again.predictions.vocabulary.synonyms == FURTHER
    stored = json.loads((tmp_path / "run.json").read_text())["vocabulary"]
    assert stored["names"] == list(NAMES) and stored["synonyms"][0] == ["female chicken", "biddy"]


def test_runs_with_and_without_synonyms_are_compared_image_by_image() -> None:
    found = [
        db.evaluate(Classifier(v, db.method("dclip"), ENCODER, descriptions=TOLD), data(NAMES, [0, 1, 2, 3, 4]))
        for v in (PLAIN, BIRDS)
    ]
    assert len(db.compare(found).differences) == 1


def test_a_run_without_synonyms_is_written_as_before(tmp_path: Path) -> None:
    clf = Classifier(PLAIN, db.method("classname"), ENCODER)
    db.evaluate(clf, data(NAMES, [0, 1, 2, 3, 4])).save(tmp_path)
    stored = json.loads((tmp_path / "run.json").read_text())["vocabulary"]
    assert stored == {"domain": "farm birds", "ids": list(IDS), "names": list(NAMES)}


def test_a_file_of_descriptions_keeps_the_synonyms_of_its_classes(tmp_path: Path) -> None:
    generate(BIRDS, db.method("dclip"), FakeLLM()).save(tmp_path / "birds.desc.json")
    told = Descriptions.load(tmp_path / "birds.desc.json")
    assert told.vocabulary() == BIRDS.subset(sorted(IDS)) == Vocabulary.load(tmp_path / "birds.desc.json")
    assert told.matched(PLAIN).vocabulary() == told.vocabulary()  # what is in the file stays
    fewer = Vocabulary(NAMES, "farm birds", IDS, {7: ["biddy"]})
    assert told.matched(fewer).synonyms == {7: ("biddy",)}  # but what the classes say wins
    found = Vocabulary(["goose", "chicken"], ids=[1, 2], synonyms={2: ["hen"]})
    assert Descriptions({7: ["x"]}, names={7: "hen"}).matched(found).classes == {2: ["x"]}


def test_synonyms_in_a_file_that_are_no_list_of_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "birds.desc.json"
    generate(BIRDS, db.method("dclip"), FakeLLM()).save(path)
    path.write_text(path.read_text().replace('"grey_goose"', "5"))
    with pytest.raises(InputError, match="synonyms of class 0: expected a list of texts"):
        Descriptions.load(path)


def test_usefulness_takes_out_a_text_that_is_there_once_and_refuses_one_that_each_name_repeats() -> None:
    images = data(NAMES, [0, 1, 2, 3, 4] * 4)
    uses = db.usefulness(Classifier(BIRDS, db.method("cupl"), ENCODER, descriptions=TOLD), images).uses
    assert len(uses) == sum(map(len, LISTS.values()))
    with pytest.raises(InputError, match=r"none can be left out .* of classes without synonyms"):
        db.usefulness(Classifier(BIRDS, db.method("dclip"), ENCODER, descriptions=TOLD), images)


def test_a_taxonomy_may_know_a_class_by_a_synonym() -> None:
    tree = Taxonomy({"biddy": "fowl", "rooster": "fowl", "turkey": "fowl", "goose": "water", "quail": "fowl"})
    assert tree.levels(BIRDS)[0].tolist() == [0, 0, 0, 1, 0]


def test_commands_take_synonyms_from_a_csv_file_and_keep_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "birds.csv").write_text("name,synonyms\nhen,female chicken|biddy\nrooster,\nturkey,\n")
    ReplyStore(tmp_path / "kept" / "replies.sqlite")
    command = ("generate", "birds.csv", "--llm", "replay", "-o", "birds.desc.json")
    assert run(*command).code == 3  # nothing in the cache
    told = Descriptions.load(tmp_path / "birds.desc.json")
    assert told.synonyms == {0: ("female chicken", "biddy")}
    vocabulary, _ = choose_classes(None, tmp_path / "birds.desc.json", "birds")
    assert vocabulary == Vocabulary(["hen", "rooster", "turkey"], "birds", synonyms={0: ["female chicken", "biddy"]})
    (tmp_path / "birds.csv").write_text("name,synonyms\nhen,biddy\nrooster,\nturkey,\n")
    assert run(*command).code == 3
    assert Descriptions.load(tmp_path / "birds.desc.json").synonyms == {0: ("biddy",)}
