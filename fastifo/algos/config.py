"""Algorithm configs: frozen dataclasses; floats vary inside a population, the rest splits it.

A field's default is the published or chosen value; the comment behind it is its help text.
"""

import dataclasses
import inspect
import itertools
import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastifo.utils.text import did_you_mean

LIMITS = ("max_weight", "logit_clamp", "noise_clip")  # fields that may be infinite: no limit
FOLDERS = ("embeddings",)  # fields that say where something is kept


@dataclass(frozen=True)
class Config:
    """What every method of the VfO study shares (arXiv 2507.06701, hyperparameter table)."""

    batch_size: int = 256  # transitions drawn from each source in one update
    hidden_sizes: tuple[int, ...] = (512, 512)  # of every net; 1024 on Robomimic; () is linear
    activation: str = "relu"  # relu | elu | silu | tanh; the paper gives none
    init: str = "fan_in_uniform"  # fan_in_uniform (torch's own) | orthogonal; the paper is silent
    learning_rate: float = 3e-4  # Adam
    weight_decay: float = 0.0  # 0.1 on Robomimic
    decoupled_weight_decay: bool = True  # AdamW; False adds the decay to the gradient
    encoder_scales: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)  # tanh(scale * obs)
    standardize_obs: bool = False  # background mean and deviation before the encoder
    policy_head: str = "binned"  # binned | deterministic | gaussian (squashed) | normal (IQL's)
    num_bins: int = 101  # per action dimension, centres evenly spaced over [-1, 1]
    kernel_width: float = 0.04  # deviation of the Gaussian kernel in action units; one bin is 0.02
    kernel_reading: str = "logits"  # logits | targets | probs | none: what the kernel smooths
    action_jitter: bool = False  # sampled actions spread evenly over their bin

    def __post_init__(self) -> None:
        require(self, "batch_size", self.batch_size >= 1, "at least 1")
        require(
            self, "hidden_sizes", all(s >= 1 for s in self.hidden_sizes), "widths of at least 1"
        )
        require_choice(self, "activation", ("relu", "elu", "silu", "tanh"))
        require_choice(self, "init", ("fan_in_uniform", "orthogonal"))
        require(self, "learning_rate", self.learning_rate > 0, "above 0")
        require(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        require(self, "encoder_scales", all(s > 0 for s in self.encoder_scales), "all above 0")
        require_choice(self, "policy_head", ("binned", "deterministic", "gaussian", "normal"))
        require(self, "num_bins", self.num_bins >= 2, "at least 2")
        require(
            self, "kernel_width", self.kernel_width > 0, "above 0 (kernel_reading='none' is off)"
        )
        require_choice(self, "kernel_reading", ("logits", "targets", "probs", "none"))


def require(config: Config, name: str, good: bool, expected: str) -> None:
    if not good:
        found = getattr(config, name)
        raise ValueError(f"{name}: expected {expected}, found {found!r}")


def require_choice(config: Config, name: str, choices: Sequence[str]) -> None:
    require(config, name, getattr(config, name) in choices, "one of " + ", ".join(choices))


def float_fields(config: type[Config]) -> list[str]:
    """Fields that may differ between the members of one population."""
    hints = get_type_hints(config)
    return [field.name for field in dataclasses.fields(config) if hints[field.name] is float]


def field_help(config: type[Config]) -> dict[str, str]:
    """Each field's comment in the source, which is its help on the command line."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if base is not object:
            pattern = r"^    (\w+): [^#\n]*#\s*(.+)$"
            found.update(re.findall(pattern, inspect.getsource(base), re.MULTILINE))
    return {field.name: found.get(field.name, "") for field in dataclasses.fields(config)}


def _checked(name: str, hint: Any, value: Any) -> Any:
    """`value` as the field's type.  Raises TypeError naming field, expected and found."""
    numeric = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is float and numeric:
        if math.isnan(value):
            raise ValueError(f"{name}: expected a number, found nan")
        if math.isinf(value) and name not in LIMITS:
            raise ValueError(f"{name}: expected a finite number, found {value}")
        return float(value)
    if hint is int and numeric and float(value).is_integer():
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint not in (float, int, bool, str) and isinstance(value, list | tuple):
        return tuple(_checked(name, hint.__args__[0], entry) for entry in value)
    expected = hint.__name__ if hint in (float, int, bool, str) else str(hint)
    if isinstance(value, Iterable) and not isinstance(value, str):
        expected += ", or a list of them for a sweep"
    raise TypeError(f"{name}: expected {expected}, found {value!r} ({type(value).__name__})")


def _values(name: str, hint: Any, value: Any) -> list[Any]:
    """The values a sweep takes for one field: a list gives one member per entry."""
    is_tuple_field = hint not in (float, int, bool, str)
    nested = isinstance(value, list) and any(isinstance(entry, list | tuple) for entry in value)
    sweeps = isinstance(value, list) and (nested or not is_tuple_field)
    if sweeps and not value:
        raise ValueError(f"{name}: expected one or more values, found an empty list")
    return [_checked(name, hint, entry) for entry in (value if sweeps else [value])]


def expand(
    config: type[Config], overrides: Mapping[str, Any], owner: str | None = None
) -> list[Config]:
    """The product of all overridden values, in the order given; the last one varies fastest.

    Raises TypeError for an unknown field (with the nearest name) or a value of the wrong type,
    ValueError for one out of range.
    """
    hints = get_type_hints(config)
    known = [field.name for field in dataclasses.fields(config)]
    for name in overrides:
        if name not in known:
            raise TypeError(
                f"{owner or config.__name__} has no field {name!r}; {did_you_mean(name, known)}"
            )
    choices = [_values(name, hints[name], value) for name, value in overrides.items()]
    product = itertools.product(*choices)
    return [config(**dict(zip(overrides, values, strict=True))) for values in product]


def shape_key(config: Config) -> tuple[Any, ...]:
    """What members of one population must share: every field that is not a float."""
    varying = set(float_fields(type(config)))
    return tuple(value for name, value in vars(config).items() if name not in varying)


def to_json(config: Config) -> dict[str, Any]:
    """Field values as JSON can hold them; infinity becomes the text "inf".

    Less `FOLDERS`: a run is the same when they have moved.
    """
    values = {k: v for k, v in vars(config).items() if k not in FOLDERS}
    return {k: "inf" if v == math.inf else v for k, v in values.items()}


def from_json(config: type[Config], values: Mapping[str, Any]) -> Config:
    """The config that `to_json` gave.  Raises ValueError for a field this version does not know."""
    hints = get_type_hints(config)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise ValueError(f"{config.__name__} has no field {unknown[0]!r}; update fastifo")
    plain = {k: math.inf if v == "inf" else v for k, v in values.items()}
    return config(**{k: _checked(k, hints[k], v) for k, v in plain.items()})
