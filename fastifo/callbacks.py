"""Callbacks that `fastifo.train` takes."""

from fastifo.engine.callbacks import EvaluateEvery

__all__ = ["EvaluateEvery"]
