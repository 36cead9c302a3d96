"""Checks that the columns of a pack fit together."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor


def check_part(path: Path, source: str, columns: dict[str, Tensor]) -> None:
    """Raises ValueError if a column is missing, or if offsets and lengths do not fit together."""
    if source == "expert" and not columns:
        return
    missing = {"obs", "start", "terminal", "timeout"} - set(columns)
    if missing:
        raise ValueError(f"{path}: {source} lacks {', '.join(sorted(missing))}")
    start, steps = columns["start"], columns["terminal"].shape[-1]
    if (
        start.ndim != 1 or len(start) < 2 or int(start[0]) != 0 or int(start[-1]) != steps
        or bool((start.diff() < 1).any()) or len(columns["obs"]) != steps + len(start) - 1
    ):  # fmt: skip
        raise ValueError(f"{path}: {source}: episodes and columns do not fit together")
    if "success" in columns and columns["success"].shape != (len(start) - 1,):
        raise ValueError(f"{path}: {source}.success: expected one value per episode")
    for name in ("action", "reward", "timeout"):
        axis = -1 if name == "reward" else 0
        if name in columns and columns[name].shape[axis] != steps:
            raise ValueError(f"{path}: {source}.{name}: expected {steps} rows")


def check_bounds(path: Path, columns: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless both action bounds are there, one number per action, or none."""
    bounds = [columns[name] for name in ("action_low", "action_high") if name in columns]
    action = columns.get("background.action")
    widths = {tuple(bound.shape) for bound in bounds}
    if bounds and (len(bounds) < 2 or action is None or widths != {(action.shape[-1],)}):
        raise ValueError(f"{path}: action_low, action_high: expected one number per action each")
