"""A bank owns at least one text a class; a class without one gets its bare name here, and is counted."""

from __future__ import annotations

from descbench import TextBank, Vocabulary
from descbench.texts import plain

BIRDS = Vocabulary(["hen", "red_rooster", "turkey"], ids=[7, 3, 11])


def test_a_class_owns_its_slice_of_the_texts() -> None:
    bank = TextBank.of(BIRDS, [["a", "b"], ["c"], ["d", "e", "d"]])
    assert bank.texts == ("a", "b", "c", "d", "e", "d")
    assert bank.offsets.tolist() == [0, 2, 3, 6]
    assert [bank.texts_of(i) for i in range(3)] == [("a", "b"), ("c",), ("d", "e", "d")]
    assert len(bank) == 6 and not bank.undescribed.any()


def test_a_class_without_a_text_gets_its_name_and_is_counted() -> None:
    bank = TextBank.of(BIRDS, [["a"], [], []])
    assert bank.texts == ("a", "red rooster", "turkey")
    assert bank.offsets.tolist() == [0, 1, 2, 3]
    assert bank.undescribed.tolist() == [False, True, True]


def test_an_underscore_is_a_blank_and_the_case_stays() -> None:
    assert plain("Red_Hen-house") == "Red Hen-house"
