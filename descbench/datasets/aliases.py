"""What the field calls the classes of well-known data sets, where it differs from what their files say.

The names are those of the list that Radford et al. published with CLIP (data/prompts.md of its repository), which the
papers on descriptions use as well. Only the differences stand here; everywhere "_" is read as a blank.
"""

from __future__ import annotations

from collections.abc import Mapping

ALIASES: Mapping[str, Mapping[str, str]] = {
    "EuroSAT": {
        "AnnualCrop": "annual crop land",
        "Forest": "forest",
        "HerbaceousVegetation": "brushland or shrubland",
        "Highway": "highway or road",
        "Industrial": "industrial buildings or commercial buildings",
        "Pasture": "pasture land",
        "PermanentCrop": "permanent crop land",
        "Residential": "residential buildings or homes or apartments",
        "River": "river",
        "SeaLake": "lake or sea",
    },
    "Flowers102": {
        "globe-flower": "globe flower",
        "pink-yellow dahlia?": "pink and yellow dahlia",
        "pink-yellow dahlia": "pink and yellow dahlia",
        "ball moss": "air plant",
    },
}


def field_name(dataset: str, name: str) -> str:
    """What the field calls a class of a data set of torchvision's.

    >>> field_name("EuroSAT", "SeaLake"), field_name("Food101", "apple_pie")
    ('lake or sea', 'apple pie')
    """
    return ALIASES.get(dataset, {}).get(name, name.replace("_", " "))


def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 1,000 ids of WordNet (n01440764, ...) in their order, and the names that open_clip has for them.

    Two pairs of classes share a name ("missile", "sunglasses"): it is the id that tells them apart.
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names()), tuple(IMAGENET_CLASSNAMES)
