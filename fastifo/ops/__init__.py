"""Compiled ops, each defined next to its plain-torch reference. OPS lists them by name."""

from types import SimpleNamespace

from fastifo.ops.adam import adam
from fastifo.ops.advantage import advantage
from fastifo.ops.binned_nll import binned_mode, binned_nll, binned_sample
from fastifo.ops.draw import draw, draw_windows
from fastifo.ops.dual import dilo, smodice
from fastifo.ops.gather import gather
from fastifo.ops.registry import OPS
from fastifo.ops.returns import returns


def choose(fused: bool) -> SimpleNamespace:
    """All ops as attributes of one object: compiled if `fused`, otherwise their references."""
    return SimpleNamespace(**{n: op.call if fused else op.reference for n, op in OPS.items()})


__all__ = [
    "OPS",
    "adam",
    "advantage",
    "binned_mode",
    "binned_nll",
    "binned_sample",
    "choose",
    "dilo",
    "draw",
    "draw_windows",
    "gather",
    "returns",
    "smodice",
]
