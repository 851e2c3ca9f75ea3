"""What the language model states is read back and held against the field guide."""

from __future__ import annotations

from descbench.demo.guide import TRAITS, species, wordings
from descbench.demo.truth import Truth, check_descriptions, check_pairs, stated


def caption(name: str, phrase: str) -> str:
    return f"a photo of a {name} with {phrase}"


def test_every_wording_of_every_trait_is_read_back_as_a_phrase_and_in_a_caption() -> None:
    for trait, values in TRAITS.items():
        for value in values:
            for phrase in wordings(trait, value):
                assert stated(phrase) == (trait, value)
                assert stated(caption("Corvell paril", phrase)) == (trait, value)


def test_articles_and_case_do_not_matter() -> None:
    assert stated("An orange belly.") == stated("a orange belly") == ("belly", "orange")


def test_what_the_guide_has_no_words_for_is_unread() -> None:
    assert stated("a friendly look") is None
    assert stated("a photo of a Corvell paril") is None
    assert check_descriptions({"Corvell paril": ["a friendly look"]}) == Truth(unread=1)


def test_the_guide_itself_is_free_of_error() -> None:
    texts = {bird.name: [wordings(trait, bird.bird[trait])[0] for trait in TRAITS] for bird in species()}
    assert check_descriptions(texts) == Truth(stated=9 * 40)


def test_a_wrong_trait_is_counted_once() -> None:
    # The field guide: a Corvell paril has a black body and a yellow belly.
    truth = check_descriptions({"Corvell paril": ["a black body", "a red belly"], "hen": ["a red belly"]})
    assert truth == Truth(stated=2, wrong=1)
    assert truth.error_rate == 0.5
    assert str(truth) == "1 of 2 stated traits are wrong (50.0 %)"


def test_captions_of_a_pair_are_checked_each_against_its_own_bird() -> None:
    # Corvell paril: green head, plain wings. Corvell zedul: orange head, edged wings.
    first, second = "Corvell paril", "Corvell zedul"
    pair = (
        [caption(first, "a green head"), caption(first, "edged wings"), caption(second, "edged wings")],
        [caption(second, "an orange head"), caption(second, "edged wings"), caption(second, "edged wings")],
    )
    assert check_pairs({(first, second): pair}) == Truth(stated=5, wrong=1, unread=1, alike=2)
    assert check_pairs({("hen", second): pair}) == Truth()


def test_nothing_stated_is_no_error() -> None:
    assert check_descriptions({}).error_rate == 0.0
