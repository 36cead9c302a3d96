"""Checks parsed JSON against a description of what it must contain.

A schema is one of

    int, float, str, bool, dict, list   a value of this type; float also takes integers
    None                                null
    Count(low)                          an integer of at least `low`
    (a, b)                              a value that fits one of several schemas
    [a]                                 a list of values that fit `a`
    {"name": a}                         an object with at least these entries
    Map(a)                              an object with any names, whose values fit `a`
    Optional(a)                         in an object: an entry that may be missing
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_SHOWN = 60  # characters of a value in an error message
NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    None: "null",
}


@dataclass(frozen=True)
class Count:
    """An integer of at least `low`."""

    low: int = 0


@dataclass(frozen=True)
class Map:
    """An object with any names, whose values fit `values`."""

    values: Any


@dataclass(frozen=True)
class Optional:
    """An entry of an object that may be missing."""

    schema: Any


def check_schema(value: Any, schema: Any, path: Path, remedy: str, field: str = "") -> None:
    """Raises ValueError naming file, field, what was expected and what was found.

    remedy: what the user can do, the end of the message.  field: where in the file `value` is.
    """
    if isinstance(schema, Optional):
        schema = schema.schema
    if isinstance(schema, list) and isinstance(value, list):
        for index, entry in enumerate(value):
            check_schema(entry, schema[0], path, remedy, f"{field}[{index}]")
    elif isinstance(schema, Map) and isinstance(value, dict):
        for name, entry in value.items():
            check_schema(entry, schema.values, path, remedy, _join(field, name))
    elif isinstance(schema, Mapping) and isinstance(value, dict):
        for name, wanted in schema.items():
            if name in value:
                check_schema(value[name], wanted, path, remedy, _join(field, name))
            elif not isinstance(wanted, Optional):
                raise ValueError(
                    f"{path}: {_join(field, name)}: expected {_describe(wanted)}, found nothing; "
                    f"{remedy}"
                )
    elif isinstance(schema, tuple):
        _check_alternatives(value, schema, path, remedy, field)
    elif not _fits(value, schema):
        raise ValueError(
            f"{path}: {field or 'content'}: expected {_describe(schema)}, found {_show(value)}; "
            f"{remedy}"
        )


def _check_alternatives(
    value: Any, schemas: tuple[Any, ...], path: Path, remedy: str, field: str
) -> None:
    """`check_schema` for a value that may fit any of several schemas."""
    for schema in schemas:
        try:
            check_schema(value, schema, path, remedy, field)
        except ValueError:
            continue
        return
    expected = " or ".join(map(_describe, schemas))
    raise ValueError(
        f"{path}: {field or 'content'}: expected {expected}, found {_show(value)}; {remedy}"
    )


def _fits(value: Any, schema: Any) -> bool:
    """Whether a value fits a schema without parts."""
    if schema is None:
        return value is None
    if isinstance(schema, Count):
        return isinstance(value, int) and not isinstance(value, bool) and value >= schema.low
    if schema is bool or schema in (str, dict, list):
        return isinstance(value, schema)
    if schema in (int, float):
        kinds = int if schema is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return False  # a list or an object was expected


def _describe(schema: Any) -> str:
    """A schema in words."""
    if isinstance(schema, Optional):
        schema = schema.schema
    if isinstance(schema, Count):
        return f"an integer of at least {schema.low}"
    if isinstance(schema, tuple):
        return " or ".join(map(_describe, schema))
    if isinstance(schema, list):
        return "a list"
    if isinstance(schema, Map | Mapping):
        return "an object"
    return NAMES[schema]


def _show(value: Any) -> str:
    """A value, cut to a readable length."""
    kinds: dict[Any, str] = {dict: "an object", list: "a list"}
    if type(value) in kinds:
        return f"{kinds[type(value)]} with {len(value)} entries"
    try:
        text = repr(value)
    except ValueError:  # an integer with too many digits
        text = "a very long number"
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _join(field: str, name: str) -> str:
    name = name if len(name) <= MAX_SHOWN else name[:MAX_SHOWN] + "..."
    return f"{field}.{name}" if field else name
