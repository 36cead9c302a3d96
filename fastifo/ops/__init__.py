"""Compiled ops, each with a plain-torch reference beside it. OPS lists them by name."""

from fastifo.ops._op import OPS
from fastifo.ops.draw import draw

__all__ = ["OPS", "draw"]
