"""One bench per op file; `python -m bench.ops` runs all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

COMPILES = True  # whether torch.compile takes part


def compiled(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The function under torch.compile as one more variant, or none."""
    return {"torch.compile": torch.compile(function)} if COMPILES else {}


def populations(device: torch.device) -> tuple[int, ...]:
    """Members to bench: one is what a CPU trains at a time, a GPU many."""
    return (1,) if device.type == "cpu" else (1, 64)
