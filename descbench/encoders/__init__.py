"""Encoders by name: an explicit table. Third parties add theirs through the entry points `descbench.encoders`."""

from __future__ import annotations

from typing import Any

from descbench.encoders.base import Encoder
from descbench.encoders.callables import CallablesEncoder
from descbench.encoders.demo import DemoEncoder
from descbench.encoders.features import FeaturesEncoder
from descbench.encoders.open_clip import OpenCLIPEncoder
from descbench.encoders.transformers import TransformersEncoder
from descbench.encoders.views import Crops, Resized, Views

ENCODERS: dict[str, type[Any]] = {
    "demo": DemoEncoder,
    "features": FeaturesEncoder,
    "open_clip": OpenCLIPEncoder,
    "transformers": TransformersEncoder,
}

__all__ = [
    "ENCODERS",
    "CallablesEncoder",
    "Crops",
    "DemoEncoder",
    "Encoder",
    "FeaturesEncoder",
    "OpenCLIPEncoder",
    "Resized",
    "TransformersEncoder",
    "Views",
]
