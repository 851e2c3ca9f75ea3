"""Data sets by name: an explicit table. Third parties add theirs through the entry points `descbench.datasets`."""

from __future__ import annotations

from typing import Any

from descbench.datasets.base import Dataset, Sample
from descbench.datasets.demo import DemoDataset
from descbench.datasets.features import FeaturesDataset
from descbench.datasets.folder import FolderDataset
from descbench.datasets.huggingface import HuggingFaceDataset
from descbench.datasets.manifest import ManifestDataset
from descbench.datasets.parts import Limited, Strict
from descbench.datasets.torchvision import TorchvisionDataset
from descbench.datasets.webdataset import WebDataset

DATASETS: dict[str, type[Any]] = {
    "demo": DemoDataset,
    "features": FeaturesDataset,
    "folder": FolderDataset,
    "hf": HuggingFaceDataset,
    "manifest": ManifestDataset,
    "torchvision": TorchvisionDataset,
    "wds": WebDataset,
}

__all__ = [
    "DATASETS",
    "Dataset",
    "DemoDataset",
    "FeaturesDataset",
    "FolderDataset",
    "HuggingFaceDataset",
    "Limited",
    "ManifestDataset",
    "Sample",
    "Strict",
    "TorchvisionDataset",
    "WebDataset",
]
