"""Checks of arguments that users pass; NumPy's integers and booleans count as Python's."""

import operator
from collections.abc import Iterable
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


def as_indices(name: str, values: Any, count: int) -> list[int]:
    """Indices as `as_index` takes them, in the given order; None is all of them.

    Raises TypeError if `values` is neither None nor a list of integers, IndexError if there are not
    that many.
    """
    if values is None:
        return list(range(count))
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise TypeError(f"{name}: expected a list of integers, found {values!r}")
    return [as_index(name, value, count) for value in values]


def as_flag(name: str, value: Any) -> bool:
    """An argument as a Python boolean.  Raises TypeError naming it if it is something else."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, found {value!r}")
    return bool(value)


def as_seeds(seeds: Any) -> tuple[int, ...]:
    """The argument `seeds` as integers in [0, 2**32); the number 0 is [0].

    Raises TypeError for another single number, which could be a seed or a number of seeds, and for
    values that are no integers; ValueError for no seeds, for those out of range, and for a seed
    that is given twice, whose members would be copies of each other.
    """
    is_single = not isinstance(seeds, Iterable) or getattr(seeds, "ndim", 1) == 0
    given = [seeds] if is_single else list(seeds)
    if not given:
        raise ValueError("seeds: expected one or more, found none")
    try:
        if isinstance(seeds, str) or any(isinstance(seed, bool | np.bool_) for seed in given):
            raise TypeError
        numbers = tuple(operator.index(seed) for seed in given)
    except TypeError:
        raise TypeError(f"seeds: expected one or more integers, found {seeds!r}") from None
    for number in numbers:
        if not 0 <= number < 2**32:
            raise ValueError(f"seeds: expected integers from 0 to 2**32 - 1, found {number}")
        if numbers.count(number) > 1:
            raise ValueError(f"seeds: expected each seed once, found {number} more than once")
    if is_single and numbers != (0,):
        (number,) = numbers
        raise TypeError(
            f"seeds: expected a list, found the number {number}. Pass seeds=range({number}) for "
            f"{number} seed{'s' * (number > 1)}, or seeds=[{number}] for seed {number} alone"
        )
    return numbers


def plain(value: Any) -> Any:
    """NumPy's scalars and arrays as Python's, for JSON; anything else unchanged."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value
