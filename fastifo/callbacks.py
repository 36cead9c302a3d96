"""Callbacks for `fastifo.train`, and the protocol for writing your own."""

from fastifo.engine.callbacks import Callback, EvaluateEvery
from fastifo.engine.log import Log

__all__ = ["Callback", "EvaluateEvery", "Log"]
