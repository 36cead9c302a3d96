"""Finds the bad argument of an op after the op has raised an error."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


def explain(
    name: str, function: Callable[..., Any], args: Any, kwargs: Any, error: Exception
) -> None:
    """Raises a TypeError that names the op and an argument without numbers in memory, if any.

    Otherwise puts the op's name in front of the message of a TypeError or ValueError.
    """
    try:
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:  # the error already names a missing argument
        return
    for label, value in _tensors(function, arguments):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name}: {label}: expected a tensor, found {type(value).__name__}"
            ) from None
        if not has_numbers(value):
            raise TypeError(
                f"{name}: {label}: expected a dense tensor with numbers in memory, found a "
                f"{type(value).__name__} without them ({value.layout}, {value.device})"
            ) from None
    if isinstance(error, TypeError | ValueError) and not str(error).startswith(f"{name}: "):
        error.args = (f"{name}: {error}",)


def has_numbers(tensor: Tensor) -> bool:
    """Whether a kernel can read the tensor's memory."""
    try:
        if tensor.layout is not torch.strided or tensor.is_nested:
            return False
        if tensor.is_neg() or tensor.is_conj():
            return False
        if type(tensor).__name__ == "FakeTensor":
            return False
        return tensor.numel() == 0 or tensor.data_ptr() != 0
    except Exception:  # of functional, nested and traced tensors, and of users' subclasses
        return False


def _tensors(function: Callable[..., Any], arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments that should be tensors, by name; entries of a list as name[index]."""
    for name, value in arguments.items():
        hint = str(function.__annotations__.get(name))
        if "Tensor" not in hint or (value is None and "None" in hint):
            continue
        if hint.startswith("list") and isinstance(value, list | tuple):
            yield from ((f"{name}[{index}]", entry) for index, entry in enumerate(value))
        else:
            yield name, value
