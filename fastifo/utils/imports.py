"""Functions that a user names as "module:function"."""

import importlib
from collections.abc import Callable
from typing import Any

from fastifo.utils.text import did_you_mean


def find_named(text: str) -> tuple[Any, str, Any]:
    """The module of "module:name", the name, and what it stands for; None if there is nothing.

    Imports the module.  Raises ValueError if it cannot be imported.
    """
    module_name, _, name = text.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{text}: expected a module and a function, found no module {module_name!r} "
            f"({error}); is its folder on PYTHONPATH?"
        ) from None
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return module, name, value


def check_function(text: str, module: Any, name: str, value: Any) -> Callable[..., Any]:
    """`value`, the result of `find_named`.  Raises ValueError if it is no function."""
    if not callable(value):
        known = [n for n, entry in vars(module).items() if callable(entry) and n[0] != "_"]
        raise ValueError(
            f"{text}: {module.__name__} has no function {name!r}; {did_you_mean(name, known)}"
        )
    return value  # type: ignore[no-any-return]


def name_of_function(function: Callable[..., Any]) -> str:
    """module:name of a function or class; of a partial the function's."""
    function = getattr(function, "func", function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}:{name}"
