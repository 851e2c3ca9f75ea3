"""Encoders by name: an explicit table. Third parties add theirs through the entry points `descbench.encoders`."""

from __future__ import annotations

from typing import Any

from descbench.encoders.base import Encoder
from descbench.encoders.demo import DemoEncoder
from descbench.encoders.features import FeaturesEncoder
from descbench.encoders.open_clip import OpenCLIPEncoder
from descbench.encoders.views import Crops, Views

ENCODERS: dict[str, type[Any]] = {"demo": DemoEncoder, "features": FeaturesEncoder, "open_clip": OpenCLIPEncoder}

__all__ = ["ENCODERS", "Crops", "DemoEncoder", "Encoder", "FeaturesEncoder", "OpenCLIPEncoder", "Views"]
