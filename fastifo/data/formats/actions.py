"""Actions of files: what is refused, and how they are mapped to [-1, 1]."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.formats.source import Source

ROUNDING = 1e-5  # beyond [-1, 1], which is not counted as clipping
LARGEST_CLIPPED_SHARE = 1e-3  # of the transitions; where more would be clipped a file is refused
LARGEST_BOUND = 1e5  # of actions
DISCRETE = "actions are whole numbers of a Discrete space; only continuous actions are supported"
BOUND_NAMES = (
    ("action_low", "action_high"), ("action_space_low", "action_space_high"),
    ("actions_low", "actions_high"), ("action_min", "action_max"), ("min_action", "max_action"),
)  # fmt: skip
DISCRETE_SPACES = ("Discrete", "MultiDiscrete", "MultiBinary")

Bounds = tuple[Tensor, Tensor]
Notes = dict[str, int]


def check_continuous(
    source: Source, name: str, kinds: Collection[str], action: NDArray[Any]
) -> None:
    """Raises ValueError for actions of an integer type, unless they are -1, 0 and 1, and for
    different whole numbers of at least 0 in a column of any type, unless their bounds are known.

    kinds: NumPy's letters for the kinds of the numbers in the file; with f, all count as floating.
    """
    if action.size == 0:
        return
    low, high = action.min(), action.max()
    kind = "f" if "f" in kinds else min(kinds)
    if kind in "iub":
        discrete = kind != "i" or action.ndim != 2 or low != -1 or high > 1
    else:
        discrete = bool(0 <= low < high and (action == np.round(action)).all())
        discrete = discrete and not has_bounds(source)
    if discrete:
        values = np.unique(action)[:6]
        remedy = "" if kind in "iub" else ". If not, pass action_low and action_high"
        found = ", ".join(f"{value:g}" for value in values)
        raise source.error(f"{name}: {DISCRETE}; found {found}{remedy}")


def as_bounds(
    path: Path, low: Any, high: Any, width: int, names: str = "action_low and action_high"
) -> Bounds | None:
    """Bounds of the actions, [A] each; None where they are -1 and 1.

    low, high: one number or `width` numbers each; None where unknown.
    Raises ValueError naming the file if they do not fit.
    """
    if low is None and high is None:
        return None
    if low is None or high is None:
        raise ValueError(f"{path}: {names}: expected both or neither, found one")
    try:
        bounds = [np.asarray(value, np.float64).ravel() for value in (low, high)]
    except (TypeError, ValueError):
        bounds = []
    if not bounds or any(len(bound) not in (1, width) for bound in bounds):
        raise ValueError(
            f"{path}: {names}: expected one number or {width}, the width of the actions, found "
            f"{low!r} and {high!r}"
        )
    lower, upper = (np.broadcast_to(bound, (width,)) for bound in bounds)
    if not ((lower < upper).all() and np.isfinite([lower, upper]).all()):
        raise ValueError(f"{path}: {names}: expected finite low < high, found {low!r} and {high!r}")
    if max(abs(lower).max(), abs(upper).max()) > LARGEST_BOUND:
        raise ValueError(
            f"{path}: {names}: expected bounds of at most {LARGEST_BOUND:g}, found {low!r} and "
            f"{high!r}, too large for float32 actions"
        )
    if (lower == -1).all() and (upper == 1).all():
        return None
    single = (bound.astype(np.float32) for bound in (lower, upper))
    low_tensor, high_tensor = (torch.from_numpy(bound) for bound in single)
    return low_tensor, high_tensor


def has_bounds(source: Source) -> bool:
    """Whether the user or the file states bounds of the actions."""
    options = source.options
    bounds = (options.action_low, options.action_high, *source.bounds)
    return any(bound is not None for bound in bounds)


def choose_bounds(source: Source, width: int) -> Bounds | None:
    """The user's bounds, or those that the file states.  width: of the actions."""
    options = source.options
    if options.action_low is not None or options.action_high is not None:
        return as_bounds(source.path, options.action_low, options.action_high, width)
    return as_bounds(source.path, *source.bounds, width, names="the action space of the file")


def to_unit(action: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Actions [N, A] mapped from [low, high] to [-1, 1]; unchanged where these are the bounds."""
    span = high.double() - low.double()
    mapped = (2.0 * (action.double() - low.double()) / span - 1.0).float()
    return torch.where((low == -1) & (high == 1), action, mapped)


def from_unit(action: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The inverse of `to_unit`, up to rounding."""
    span = high.double() - low.double()
    mapped = (low.double() + 0.5 * (action.double() + 1.0) * span).float()
    return torch.where((low == -1) & (high == 1), action, mapped)


def clip_actions(source: Source, action: Tensor, bounds: Bounds | None, notes: Notes) -> None:
    """Clips actions [N, A] to [-1, 1] in place, and counts the rows that change.

    bounds: that they were mapped from; None if there are none, or they are -1 and 1.
    Raises ValueError if more than LARGEST_CLIPPED_SHARE of the rows would change and the user does
    not accept that.
    """
    outside = (action.abs() > 1.0 + ROUNDING).any(1)
    count = int(outside.sum())
    if count and not source.options.clip and count > LARGEST_CLIPPED_SHARE * len(action):
        low, high = action.min(0).values, action.max(0).values
        space = "[-1, 1]" if bounds is None else "the action space, which is mapped to [-1, 1]"
        known = any(bound is not None for bound in (source.options.action_low, *source.bounds))
        raise source.error(
            f"actions: {count} of {len(action)} are outside {space}"
            + ("" if known else ", and the file does not state their bounds")
            + f": they range over {_range(low, high)}; the first is in row "
            f"{int(torch.nonzero(outside)[0])}. Pass their bounds, action_low and action_high (in "
            "a spec: ,action_low=-2,action_high=2), or clip_actions=True (,clip=true) to clip them"
            + (". All are whole numbers; Discrete spaces are not supported"
               if bool((action == action.round()).all()) else "")
        )  # fmt: skip
    if count:
        notes["actions clipped to [-1, 1]"] = count
    action.clamp_(-1.0, 1.0)


def _range(low: Tensor, high: Tensor) -> str:
    pairs = [f"[{a:.4g}, {b:.4g}]" for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    return ", ".join(pairs[:4]) + (", ..." if len(pairs) > 4 else "")


def stated_bounds(attributes: Mapping[str, Any]) -> tuple[Any, Any]:
    """Bounds from attributes or arrays with names in BOUND_NAMES; None where missing."""
    for low, high in BOUND_NAMES:
        if low in attributes or high in attributes:
            return attributes.get(low), attributes.get(high)
    return None, None


def minari_bounds(path: Path, space: Any) -> tuple[Any, Any]:
    """Bounds from a Minari dataset's serialised action space; None where it is unbounded.

    space: the decoded entry of the metadata; None: there is none.
    Raises ValueError for a space that is not a Box.
    """
    if space is None:
        return None, None
    if not isinstance(space, dict) or not isinstance(space.get("type"), str):
        raise ValueError(
            f"{path}: action_space: expected a serialised Box, found {str(space)[:60]!r}; pass "
            "action_low and action_high"
        )
    if space["type"] in DISCRETE_SPACES:
        raise ValueError(f"{path}: action_space: {DISCRETE}; found {space['type']}")
    if space["type"] != "Box":
        raise ValueError(f"{path}: action_space: expected a Box, found {space['type']}")
    low, high = _flat(space.get("low")), _flat(space.get("high"))
    if low is None or high is None:
        raise ValueError(
            f"{path}: action_space: expected numbers as low and high, found "
            f"{str(space.get('low'))[:30]!r} and {str(space.get('high'))[:30]!r}; pass action_low "
            "and action_high"
        )
    bounded = all(np.isfinite(bound).all() for bound in (low, high))
    return (low, high) if bounded else (None, None)


def _flat(value: Any) -> Sequence[float] | float | None:
    """A bound as one number or a flat list of them; None if it is missing or not numeric."""
    if value is None:
        return None
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return float(numbers) if numbers.ndim == 0 else [float(x) for x in numbers.ravel()]
