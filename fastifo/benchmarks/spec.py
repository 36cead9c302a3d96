"""Dataset specs as dataclasses: `name:<env>/<option>=<value>,...`.

An environment's id may contain slashes. Options `env.<name>=<value>` are its settings.
"""

import dataclasses
from typing import Any

from fastifo.utils.text import did_you_mean, parse_value


def parse_spec(spec_class: Any, text: str, required: str, example: str) -> Any:
    """The `spec_class` that a text describes.

    spec_class: a dataclass whose first field is `env_id`; the other fields are the options, but
        for `env_kwargs`, which holds the settings of the environment.
    required: an option without a default, or empty.  example: a correct spec, for error messages.
    Raises ValueError naming the part that is wrong.
    """
    head, equals, tail = text.partition(":")[2].partition("=")
    env_id, slash, first = head.rpartition("/")
    options = f"{first}{equals}{tail}"
    if not slash or not env_id:
        raise ValueError(f"expected a spec such as {example!r}, found {text!r}")
    fields = {f.name: f.type for f in dataclasses.fields(spec_class)}
    types = {name: kind for name, kind in fields.items() if name not in ("env_id", "env_kwargs")}
    values: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for option in options.split(","):
        name, equals, value = option.partition("=")
        setting = name.removeprefix("env.")
        if equals and setting and setting != name:
            settings[setting] = parse_value(value)
            continue
        if not equals or name not in types:
            suggestion = did_you_mean(name, types)
            raise ValueError(
                f"{text!r}: unknown option {option!r}; {suggestion}; as in {example!r}"
            )
        convert: Any = float if types[name] == (float | None) else types[name]
        try:
            values[name] = convert(value)
        except ValueError:
            expected = "an integer" if convert is int else "a number"
            raise ValueError(f"{text!r}: {name} must be {expected}, found {value!r}") from None
    if required and required not in values:
        raise ValueError(f"{text!r}: {required} is missing; as in {example!r}")
    return spec_class(env_id, **values, **({"env_kwargs": settings} if settings else {}))
