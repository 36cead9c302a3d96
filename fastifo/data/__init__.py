"""Datasets: flat columns plus episode offsets, their file, and batches drawn from them."""

from fastifo.data.dataset import Dataset, Episodes

__all__ = ["Dataset", "Episodes"]
