"""Datasets: flat columns with episode offsets, their file format, readers, and batch sampling."""

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes

__all__ = ["Dataset", "Episodes"]
