"""Datasets: flat columns plus episode offsets, their file, and batches drawn from them."""

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes

__all__ = ["Dataset", "Episodes"]
