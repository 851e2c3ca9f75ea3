"""Data sets by name: an explicit table. Third parties add theirs through the entry points `descbench.datasets`."""

from __future__ import annotations

from typing import Any

from descbench.datasets.base import Dataset, Sample
from descbench.datasets.demo import DemoDataset
from descbench.datasets.features import FeaturesDataset
from descbench.datasets.folder import FolderDataset

DATASETS: dict[str, type[Any]] = {"demo": DemoDataset, "features": FeaturesDataset, "folder": FolderDataset}

__all__ = ["DATASETS", "Dataset", "DemoDataset", "FeaturesDataset", "FolderDataset", "Sample"]
