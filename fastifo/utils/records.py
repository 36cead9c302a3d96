"""Base class of dataclasses that hold arrays: compares contents, prints one line."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

ARRAYS = (torch.Tensor, np.ndarray)
LONGEST_TEXT = 60  # characters of a text that are shown
MOST_ENTRIES = 6  # of a list or a mapping that are shown


class Record:
    """A dataclass whose `==` compares arrays by content, and whose `repr` shows only their sizes.

    Use it with `@dataclass(eq=False, repr=False)`. Fields with `compare=False` or `repr=False` are
    left out as usual; `repr` also leaves out what is None and mappings without entries.
    """

    def __eq__(self, other: object) -> bool:
        """Whether all fields are the same; a NaN equals a NaN."""
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in _fields(self) if field.compare]
        return self is other or all(same(getattr(self, n), getattr(other, n)) for n in names)

    def __hash__(self) -> int:
        values = [getattr(self, field.name) for field in _fields(self) if field.compare]
        return hash((type(self).__name__, *(_size(value) for value in values)))

    def __repr__(self) -> str:
        shown = [(f.name, getattr(self, f.name)) for f in _fields(self) if f.repr]
        cells = [f"{name}={brief(value)}" for name, value in shown if not _is_absent(value)]
        return f"{type(self).__name__}({', '.join(cells)})"


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and not value)


def _size(value: Any) -> Any:
    """Something hashable that equal values share."""
    if isinstance(value, ARRAYS):
        return tuple(value.shape)
    return value if isinstance(value, str) else None


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; arrays by type, shape and content, where NaN equals NaN."""
    if a is b:
        return True
    if isinstance(a, ARRAYS) or isinstance(b, ARRAYS):
        return _same_array(a, b)
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


def _same_array(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor):
        return False
    if isinstance(a, torch.Tensor):
        if (a.dtype, a.shape, a.device) != (b.dtype, b.shape, b.device):
            return False
        return torch.equal(a, b) or (
            (a.is_floating_point() or a.is_complex())
            and torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
        )
    if type(a) is not type(b) or a.dtype != b.dtype:
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def brief(value: Any) -> str:
    """A value in a few words: arrays as float32[4, 3], long texts and lists cut short.

    Of other dataclasses it shows the fields that differ from their defaults.
    """
    if isinstance(value, ARRAYS):
        kind = str(value.dtype).removeprefix("torch.")
        place = getattr(value, "device", "cpu")
        on = "" if str(place) == "cpu" else f" on {place}"
        return f"{kind}{list(value.shape)}{on}"
    if isinstance(value, str):
        cut = value if len(value) <= LONGEST_TEXT else value[: LONGEST_TEXT - 3] + "..."
        return repr(cut)
    if isinstance(value, Mapping):
        cells = [f"{key!r}: {brief(value[key])}" for key in list(value)[:MOST_ENTRIES]]
        return "{" + ", ".join(_cut(cells, len(value))) + "}"
    if isinstance(value, list | tuple):
        cells = _cut([brief(entry) for entry in value[:MOST_ENTRIES]], len(value))
        return f"[{', '.join(cells)}]" if isinstance(value, list) else f"({', '.join(cells)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, Record | type):
        shown = {f.name: getattr(value, f.name) for f in _fields(value) if f.repr}
        defaults = {f.name: f.default for f in _fields(value)}
        cells = [f"{k}={brief(v)}" for k, v in shown.items() if not same(v, defaults[k])]
        return f"{type(value).__name__}({', '.join(cells)})"
    return repr(value)


def _cut(cells: list[str], count: int) -> list[str]:
    """The cells of a list, and how many entries it has where some are not shown."""
    return cells if count <= MOST_ENTRIES else [*cells, f"... {count} in all"]
