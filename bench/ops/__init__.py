"""Benchmarks of the compiled ops: one file per op file. `python -m bench.ops` runs all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

COMPILES = True  # whether the variants under torch.compile are timed


def compiled(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The variant "torch.compile" of a function, or nothing if it is not to be timed."""
    return {"torch.compile": torch.compile(function)} if COMPILES else {}


def populations(device: torch.device) -> tuple[int, ...]:
    """Numbers of members to time: a CPU trains one member at a time, a GPU many together."""
    return (1,) if device.type == "cpu" else (1, 64)
