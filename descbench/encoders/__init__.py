"""Encoders by name: an explicit table. Third parties add theirs through the entry points `descbench.encoders`."""

from __future__ import annotations

from typing import Any

from descbench.encoders.base import Encoder
from descbench.encoders.demo import DemoEncoder
from descbench.encoders.features import FeaturesEncoder
from descbench.encoders.open_clip import OpenCLIPEncoder

ENCODERS: dict[str, type[Any]] = {"demo": DemoEncoder, "features": FeaturesEncoder, "open_clip": OpenCLIPEncoder}

__all__ = ["ENCODERS", "DemoEncoder", "Encoder", "FeaturesEncoder", "OpenCLIPEncoder"]
