"""The guide keeps its promises, and the renderer shows every trait of it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageChops

from descbench.demo.guide import TRAITS, Bird, Species, species, wordings
from descbench.demo.renderer import render

SEEDS = range(3)


def difference(one: Image.Image, other: Image.Image) -> float:
    """The share of pixels that visibly differ."""
    loudest = np.asarray(ImageChops.difference(one, other)).max(axis=2)
    return float((loudest > 40).mean())


def with_trait(bird: Bird, trait: str, value: str) -> Bird:
    return Bird(tuple(value if name == trait else bird[name] for name in TRAITS))


def test_the_same_bird_and_seed_give_the_same_pixels() -> None:
    for page in species()[:5]:
        assert render(page.bird, 7).tobytes() == render(page.bird, 7).tobytes()


def test_the_picture_does_not_depend_on_the_global_generators() -> None:
    import random

    bird = species()[0].bird
    random.seed(1)
    first = render(bird, 3).tobytes()
    random.seed(2)
    assert render(bird, 3).tobytes() == first


def test_another_seed_gives_other_pixels() -> None:
    bird = species()[0].bird
    pictures = [render(bird, seed) for seed in range(8)]
    assert all(difference(a, b) > 0.05 for a, b in combinations(pictures, 2))


@pytest.mark.parametrize("trait", TRAITS)
def test_each_value_of_a_trait_is_seen(trait: str) -> None:
    for bird in (species()[0].bird, species()[25].bird):
        for seed in SEEDS:
            pictures = [render(with_trait(bird, trait, value), seed) for value in TRAITS[trait]]
            for one, other in combinations(range(len(pictures)), 2):
                assert difference(pictures[one], pictures[other]) > 0.002, (trait, one, other, seed)


def test_a_changed_trait_changes_only_a_part_of_the_picture() -> None:
    for trait, values in TRAITS.items():
        bird = species()[3].bird
        one, other = (render(with_trait(bird, trait, value), 5) for value in values[:2])
        assert difference(one, other) < 0.25, trait


@pytest.mark.parametrize("size", [32, 64, 128, 192, 256])
def test_the_size_is_honoured(size: int) -> None:
    picture = render(species()[0].bird, 0, size)
    assert picture.size == (size, size)
    assert picture.mode == "RGB"


def test_the_size_does_not_change_the_scene() -> None:
    for seed in SEEDS:
        small, large = render(species()[9].bird, seed, 64), render(species()[9].bird, seed, 256)
        assert difference(small, large.resize((64, 64), Image.Resampling.BOX)) < 0.06


def test_every_species_renders_and_none_looks_like_another_of_its_genus() -> None:
    for pages in by_genus():
        pictures = [render(page.bird, 1) for page in pages]
        assert all(difference(one, other) > 0.01 for one, other in combinations(pictures, 2))


def test_the_guide_has_ten_genera_of_four_species() -> None:
    assert len(species()) == 40
    assert sorted(Counter(page.genus for page in species()).values()) == [4] * 10


def test_all_names_and_all_birds_are_unique() -> None:
    assert len({page.name for page in species()}) == 40
    assert len({page.epithet for page in species()}) == 40
    assert len({page.bird for page in species()}) == 40


def test_every_value_in_the_guide_is_one_of_its_trait() -> None:
    for page in species():
        assert len(page.bird.values) == len(TRAITS)
        assert all(page.bird[trait] in values for trait, values in TRAITS.items())


def by_genus() -> list[list[Species]]:
    genera: dict[str, list[Species]] = {}
    for page in species():
        genera.setdefault(page.genus, []).append(page)
    return list(genera.values())


def test_a_genus_fixes_its_four_common_traits() -> None:
    for pages in by_genus():
        common = pages[0].common
        assert len(set(common)) == 4
        for page in pages:
            assert page.common == common
            assert [page.bird[trait] for trait in common] == [pages[0].bird[trait] for trait in common]


def test_two_species_of_a_genus_differ_in_two_or_three_traits() -> None:
    for pages in by_genus():
        for one, other in combinations(pages, 2):
            assert len(one.differs(other)) in (2, 3)
            assert one.differs(other) == other.differs(one)


def test_no_phrase_names_two_things() -> None:
    phrases = [text for trait, values in TRAITS.items() for value in values for text in wordings(trait, value)]
    assert len(phrases) == len(set(phrases))


def test_the_small_clip_never_learns_from_a_species_nor_reads_a_real_epithet() -> None:
    from random import Random

    from descbench.demo.train_clip import caption, examples

    random = Random(0)
    learnt = examples(3000, random)
    assert not {page.bird for page in species()} & {example.bird for example in learnt}
    words = {word for example in learnt for word in caption(example, random).lower().replace(",", " ").split()}
    assert not {page.epithet for page in species()} & {word.rstrip(".") for word in words}
