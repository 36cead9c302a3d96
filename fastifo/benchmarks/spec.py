"""Dataset specs as dataclasses: `name:<env>/<option>=<value>,...`."""

import dataclasses
from typing import Any

from fastifo.utils.text import did_you_mean


def parse_spec(spec_class: Any, text: str, required: str, example: str) -> Any:
    """The `spec_class` that a text describes.

    spec_class: a dataclass whose first field is `env_id`; the other fields are the options.
    required: an option without a default.  example: a correct spec, for error messages.
    Raises ValueError naming the part that is wrong.
    """
    env_id, slash, options = text.partition(":")[2].partition("/")
    if not slash or not env_id:
        raise ValueError(f"expected a spec such as {example!r}, found {text!r}")
    types = {f.name: f.type for f in dataclasses.fields(spec_class) if f.name != "env_id"}
    values: dict[str, Any] = {}
    for option in options.split(","):
        name, equals, value = option.partition("=")
        if not equals or name not in types:
            suggestion = did_you_mean(name, types)
            raise ValueError(
                f"{text!r}: unknown option {option!r}; {suggestion}; as in {example!r}"
            )
        convert: Any = types[name]
        try:
            values[name] = convert(value)
        except ValueError:
            expected = "an integer" if convert is int else "a number"
            raise ValueError(f"{text!r}: {name} must be {expected}, found {value!r}") from None
    if required not in values:
        raise ValueError(f"{text!r}: {required} is missing; as in {example!r}")
    return spec_class(env_id, **values)
