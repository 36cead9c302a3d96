"""Callbacks for `fastifo.train`, and the protocol that your own implement."""

from fastifo.engine.callbacks import Callback, EvaluateEvery

__all__ = ["Callback", "EvaluateEvery"]
