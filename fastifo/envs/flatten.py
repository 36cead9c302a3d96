"""Flattens observations into one vector, and checks observation and action spaces."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.utils.text import leaves_of


class Flattener:
    """Joins the parts of an observation into one float32 vector.

    A Dict observation becomes the values of `keys`, in this order; without keys those of all its
    entries, sorted by key. An entry of a nested Dict is named by its path, as in "a/b". A dataset
    reads the same keys in the same order (`keys=` in its spec).
    """

    def __init__(self, name: str, space: Any, keys: Sequence[str] = ()) -> None:
        """name: of the environment, for errors.  space: of one observation.

        Raises ValueError unless all parts are vectors of real numbers, or for an unknown key.
        """
        self.is_dict = _entries(space) is not None
        leaves = dict(_leaves(space)) if self.is_dict else {"": space}
        if self.is_dict:
            self.names = _choose(name, leaves, keys)
        else:
            self.names = [""]
        for leaf in self.names:
            if not self.is_dict:
                check_vector(name, "observation", space)
                continue
            try:
                check_vector(f"{name}: {leaf}", "observation", leaves[leaf], scalars=True)
            except ValueError as error:
                raise ValueError(f"{error}; obs_keys names the entries to use") from None
        self.env = name
        self.widths = [int(np.prod(leaves[leaf].shape)) for leaf in self.names]

    @property
    def obs_dim(self) -> int:
        """D, the width of the vector."""
        return sum(self.widths)

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Keys and widths of a Dict observation, in order; empty for a vector."""
        return tuple(zip(self.names, self.widths, strict=True)) if self.is_dict else ()

    def one(self, obs: Any) -> NDArray[np.float32]:
        """One observation, [D].  Raises ValueError for one that is not as the space says."""
        if not self.is_dict:
            return self._part("", obs, self.widths[0])
        parts = []
        for name, width in zip(self.names, self.widths, strict=True):
            try:
                value = _entry(obs, name)
            except (KeyError, TypeError, IndexError):
                raise ValueError(
                    f"{self.env}: expected an observation with the entry {name!r}, as its "
                    f"observation_space says, found {_kind_of(obs)}"
                ) from None
            parts.append(self._part(name, value, width))
        return np.concatenate(parts)

    def _part(self, name: str, value: Any, width: int) -> NDArray[np.float32]:
        """The numbers of one entry, [width].  Raises ValueError for anything else."""
        try:
            array = np.asarray(value)
        except ValueError:  # rows of different lengths
            array = np.array(None)
        is_real = array.dtype.kind in "fiub"
        if is_real and array.ndim <= 1 and array.size == width:
            return array.reshape(-1).astype(np.float32)
        raise ValueError(
            f"{self.env}: {name}{': ' * bool(name)}expected observations of shape ({width},), as "
            f"its observation_space says, found {array.shape if is_real else _kind_of(value)}"
        )

    def rows(self, obs: Any) -> NDArray[np.float32]:
        """A batch of observations, [R, D]."""
        if not self.is_dict:
            return np.asarray(obs, np.float32)
        values = [np.asarray(_entry(obs, name), np.float32) for name in self.names]
        return np.concatenate([value.reshape(len(value), -1) for value in values], 1)


def _choose(name: str, leaves: dict[str, Any], keys: Sequence[str]) -> list[str]:
    """The leaves that `keys` name, a nested Dict standing for all its entries."""
    if not keys:
        return sorted(leaves)
    chosen: list[str] = []
    for key in keys:
        inner = leaves_of(key, leaves)
        if not inner:
            raise ValueError(
                f"{name}: obs_keys: expected some of {', '.join(sorted(leaves))}, the observations "
                f"of the environment, found {key!r}"
            )
        chosen += inner
    return chosen


def _entries(space: Any) -> dict[str, Any] | None:
    """The entries of a Dict space; None for another one."""
    entries: Any = getattr(space, "spaces", None)
    if hasattr(entries, "items"):
        return {str(key): value for key, value in entries.items()}
    return None


def _leaves(space: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in (_entries(space) or {}).items():
        if _entries(value) is None:
            yield prefix + key, value
        else:
            yield from _leaves(value, f"{prefix}{key}/")


def _entry(obs: Any, path: str) -> Any:
    if path in obs:
        return obs[path]
    for key in path.split("/"):
        obs = obs[key]
    return obs


def _kind_of(value: Any) -> str:
    """What a value is, for errors."""
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(str, value))}" if value else "an empty dict"
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ + (f" of {dtype}" if dtype is not None else "")


def check_vector(name: str, kind: str, space: Any, *, scalars: bool = False) -> None:
    """Raises ValueError unless a space holds vectors of real numbers.

    kind: observation or action.  scalars: accept single numbers too.
    """
    shape = getattr(space, "shape", None)
    is_box = hasattr(space, "low") and getattr(space, "dtype", np.dtype(object)).kind == "f"
    if shape is None or len(shape) > 1 or (len(shape) == 0 and not scalars) or not is_box:
        raise ValueError(
            f"{name}: expected an environment whose {kind} is a vector of real numbers, "
            f"found {space}"
        )
    if shape == (0,):
        raise ValueError(f"{name}: expected an environment whose {kind} has entries, found {space}")


def action_bounds(name: str, space: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high of an action space, [A] each.  Raises ValueError for one of another kind."""
    check_vector(name, "action", space)
    low, high = (
        np.asarray(end, np.float64).reshape(space.shape) for end in (space.low, space.high)
    )
    if not (low < high).all():
        raise ValueError(f"{name}: expected action bounds with low < high, found {space}")
    return low, high
