"""Callbacks for `fastifo.train`, and the protocol for writing your own."""

from fastifo.engine.callbacks import Callback, EvaluateEvery

__all__ = ["Callback", "EvaluateEvery"]
