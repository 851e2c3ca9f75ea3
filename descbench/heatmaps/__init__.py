"""Where in a picture a description is seen: maps of similarity, and how they are drawn."""

from __future__ import annotations

from descbench.heatmaps.drawing import save_heatmaps, sheet_path
from descbench.heatmaps.maps import Heatmap, Occlusion, heatmap

__all__ = ["Heatmap", "Occlusion", "heatmap", "save_heatmaps", "sheet_path"]
