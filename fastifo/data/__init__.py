"""Datasets: flat columns with episode offsets, their file format, readers, and batch sampling."""

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.formats import d4rl, minari, npz, robomimic

__all__ = ["Dataset", "Episodes", "d4rl", "minari", "npz", "robomimic"]
