"""Checks of arguments that users pass; NumPy's integers and booleans count as Python's."""

import operator
from typing import Any

import numpy as np


def as_count(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """An argument as a Python integer.  Raises ValueError naming it unless low <= value <= high."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except (TypeError, RuntimeError):  # a tensor without data raises the latter
        number = None
    if number is None or number < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, found {value!r}")
    if high is not None and number > high:
        raise ValueError(f"{name}: expected at most {high:,}, found {number}")
    return number


def as_index(name: str, value: Any, count: int) -> int:
    """An index from 0; a negative one counts from the end.

    name: what is indexed, for errors.  Raises TypeError if it is no integer, IndexError if there
    are not that many.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, found {value!r}") from None
    if not -count <= number < count:
        raise IndexError(f"{name}: expected {-count} to {count - 1}, found {number}")
    return number % count


def as_flag(name: str, value: Any) -> bool:
    """An argument as a Python boolean.  Raises TypeError naming it if it is something else."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, found {value!r}")
    return bool(value)


def plain(value: Any) -> Any:
    """NumPy's scalars and arrays as Python's, for JSON; anything else unchanged."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value
