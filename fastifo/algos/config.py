"""Algorithm configs: frozen dataclasses, sweeps over their fields, and conversion to and from JSON.

The members of one population may differ in `float` fields only; a sweep over any other field trains
one population per value. A field's default is the published or chosen value, and the comment after
it is its help text on the command line.
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

import numpy as np

from fastifo.utils.text import did_you_mean

LIMITS = ("max_weight", "logit_clamp", "noise_clip")  # fields that may be inf, which is no limit
INITS = (  # of nets, see `fastifo.nn.mlp.Init`
    "fan_in_uniform", "orthogonal", "xavier_uniform", "he_normal",
)  # fmt: skip
FOLDERS = ("embeddings",)  # fields that name a folder; results do not depend on them


@dataclass(frozen=True)
class Config:
    """Fields of every method. Source of the defaults: arXiv 2507.06701, hyperparameter table."""

    batch_size: int = 256  # transitions drawn from each source in one update
    hidden_sizes: tuple[int, ...] = (512, 512)  # hidden widths of every net; () is linear
    activation: str = "relu"  # relu | elu | silu | tanh; not in the paper
    init: str = "fan_in_uniform"  # fan_in_uniform | orthogonal | xavier_uniform | he_normal
    learning_rate: float = 3e-4  # learning rate of Adam
    weight_decay: float = 0.0  # weight decay of every net; 0.1 on Robomimic
    decoupled_weight_decay: bool = True  # AdamW; False adds the decay to the gradient
    encoder_scales: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)  # inputs tanh(scale * obs)
    standardize_obs: bool = False  # standardise observations by the background's statistics
    image_encoder: str = "drqv2"  # drqv2 | spatial_softmax: net that encodes frames, if any
    image_features: int = 50  # features of each camera's frame
    image_shift: int = 4  # training frames are moved at random by up to this many pixels; 0: off
    policy_head: str = "binned"  # binned | deterministic | gaussian (squashed) | normal (IQL's)
    num_bins: int = 101  # bins per action dimension; their centres are evenly spaced over [-1, 1]
    kernel_width: float = 0.04  # deviation of the kernel over bins, in action units; a bin is 0.02
    kernel_reading: str = "logits"  # logits | targets | probs | none: what the kernel smooths
    action_jitter: bool = False  # spread sampled actions uniformly over their bin

    def __post_init__(self) -> None:
        require(self, "batch_size", self.batch_size >= 1, "at least 1")
        for field in dataclasses.fields(self):  # of every net that has its own
            value = getattr(self, field.name)
            if field.name.endswith("hidden_sizes"):
                require(self, field.name, all(s >= 1 for s in value), "widths of at least 1")
            if field.name.endswith("activation") and value != field.default:
                require_choice(self, field.name, ("relu", "elu", "silu", "tanh"))
        require_choice(self, "init", INITS)
        require(self, "learning_rate", self.learning_rate > 0, "above 0")
        require(self, "weight_decay", self.weight_decay >= 0, "at least 0")
        require(self, "encoder_scales", all(s > 0 for s in self.encoder_scales), "all above 0")
        require_choice(self, "image_encoder", ("drqv2", "spatial_softmax"))
        require(self, "image_features", self.image_features >= 1, "at least 1")
        require(self, "image_shift", self.image_shift >= 0, "at least 0")
        require_choice(self, "policy_head", ("binned", "deterministic", "gaussian", "normal"))
        require(self, "num_bins", self.num_bins >= 2, "at least 2")
        require(
            self, "kernel_width", self.kernel_width > 0, "above 0 (kernel_reading='none' is off)"
        )
        require_choice(self, "kernel_reading", ("logits", "targets", "probs", "none"))


def require(config: Config, name: str, is_valid: bool, expected: str) -> None:
    """Raises ValueError naming the field unless `is_valid`.  expected: what values are valid."""
    if not is_valid:
        raise ValueError(f"{name}: expected {expected}, found {getattr(config, name)!r}")


def require_choice(config: Config, name: str, choices: Sequence[str]) -> None:
    """Raises ValueError naming the field unless its value is one of `choices`."""
    require(config, name, getattr(config, name) in choices, "one of " + ", ".join(choices))


def float_fields(config: type[Config]) -> list[str]:
    """Names of the fields that may differ between the members of one population."""
    hints = get_type_hints(config)
    return [field.name for field in dataclasses.fields(config) if hints[field.name] is float]


def field_help(config: type[Config]) -> dict[str, str]:
    """Help text of each field: the comment after it in the source, "" without one."""
    texts: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if base is not object:
            pattern = r"^    (\w+): [^#\n]*#\s*(.+)$"
            texts.update(re.findall(pattern, inspect.getsource(base), re.MULTILINE))
    return {field.name: texts.get(field.name, "") for field in dataclasses.fields(config)}


def _checked(name: str, hint: Any, value: Any) -> Any:
    """`value` converted to the type of its field.

    Raises TypeError if it cannot be, ValueError for nan, and for inf in a field that is no limit.
    """
    numeric = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if hint is float and numeric:
        if math.isnan(value):
            raise ValueError(f"{name}: expected a number, found nan")
        if math.isinf(value) and name not in LIMITS:
            raise ValueError(f"{name}: expected a finite number, found {value}")
        return float(value)
    if hint is int and numeric and float(value).is_integer():
        return int(value)
    if hint is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if hint is str and isinstance(value, str):
        return str(value)
    if hint not in (float, int, bool, str) and isinstance(value, list | tuple):
        return tuple(_checked(name, hint.__args__[0], entry) for entry in value)
    expected = hint.__name__ if hint in (float, int, bool, str) else str(hint)
    if isinstance(value, Iterable) and not isinstance(value, str):
        expected += ", or a list of them for a sweep"
    raise TypeError(f"{name}: expected {expected}, found {value!r} ({type(value).__name__})")


def _values(name: str, hint: Any, value: Any) -> list[Any]:
    """The values of one field in a sweep: the entries of a list, or the one value."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    is_tuple_field = hint not in (float, int, bool, str)
    nested = isinstance(value, list) and any(isinstance(entry, list | tuple) for entry in value)
    sweeps = isinstance(value, list) and (nested or not is_tuple_field)
    if sweeps and not value:
        raise ValueError(f"{name}: expected one or more values, found an empty list")
    return [_checked(name, hint, entry) for entry in (value if sweeps else [value])]


def check_names(
    config: type[Config],
    names: Iterable[str],
    owner: str | None = None,
    arguments: Iterable[str] = (),
) -> None:
    """Raises TypeError for a name that is no field of the config, with the nearest name.

    owner: as in `expand`.  arguments: further names that the user may have meant.
    """
    known = [field.name for field in dataclasses.fields(config)]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, [*known, *arguments])
            raise TypeError(f"{owner or config.__name__} has no field {name!r}; {hint}")


def expand(
    config: type[Config], overrides: Mapping[str, Any], owner: str | None = None
) -> list[Config]:
    """Configs for every combination of the overridden values; the last field varies fastest.

    overrides: field -> a value, or a list of values.  owner: name in error messages; None is the
    config's class name.
    Raises TypeError for an unknown field (with the nearest name) or a value of the wrong type,
    and ValueError for a value out of range.
    """
    check_names(config, overrides, owner)
    hints = get_type_hints(config)
    choices = [_values(name, hints[name], value) for name, value in overrides.items()]
    product = itertools.product(*choices)
    return [config(**dict(zip(overrides, values, strict=True))) for values in product]


def shape_key(config: Config) -> tuple[Any, ...]:
    """The values of all fields that are not floats; the members of one population share them."""
    floats = set(float_fields(type(config)))
    return tuple(value for name, value in vars(config).items() if name not in floats)


def to_json(config: Config) -> dict[str, Any]:
    """Field values as JSON types; infinity becomes the string "inf".

    `FOLDERS` are left out: a run is the same after such a folder has moved.
    """
    values = {k: v for k, v in vars(config).items() if k not in FOLDERS}
    return {k: "inf" if v == math.inf else v for k, v in values.items()}


def from_json(config: type[Config], values: Mapping[str, Any]) -> Config:
    """The config of values from `to_json`; fields that are absent take their defaults.

    Raises ValueError for an unknown field, and as `expand` for a wrong value.
    """
    hints = get_type_hints(config)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise ValueError(f"{config.__name__} has no field {unknown[0]!r}; update fastifo")
    plain = {k: math.inf if v == "inf" else v for k, v in values.items()}
    return config(**{k: _checked(k, hints[k], v) for k, v in plain.items()})
