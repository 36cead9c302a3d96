"""Search spaces: distributions of config fields, and the settings that are drawn from them."""

import ast
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

import numpy as np

from fastifo.algos.config import Config, expand
from fastifo.utils.arguments import plain

DIGITS = 6  # significant digits of a number that is drawn


@dataclass(frozen=True)
class Uniform:
    """Numbers between two bounds, all equally likely."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value below which this share of the distribution lies.  share: in [0, 1)."""
        return _rounded(self.low + share * (self.high - self.low))

    def ends(self) -> tuple[Any, ...]:
        """Values that are valid where all of the distribution's are."""
        return self.low, self.high


@dataclass(frozen=True)
class LogUniform:
    """Positive numbers between two bounds, whose logarithms are equally likely."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """See `Uniform.at`."""
        value = math.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return min(max(_rounded(value), self.low), self.high)

    def ends(self) -> tuple[Any, ...]:
        """See `Uniform.ends`."""
        return self.low, self.high


@dataclass(frozen=True)
class Integers:
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def at(self, share: float) -> int:
        """See `Uniform.at`."""
        return self.low + int(share * (self.high - self.low + 1))

    def ends(self) -> tuple[Any, ...]:
        """See `Uniform.ends`."""
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """One of several values, all equally likely."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """See `Uniform.at`."""
        return self.values[int(share * len(self.values))]

    def ends(self) -> tuple[Any, ...]:
        """See `Uniform.ends`."""
        return self.values


Distribution = Uniform | LogUniform | Integers | Choice
Space = dict[str, Distribution]  # by field
Setting = dict[str, Any]  # a value for each field of a space


def uniform(low: float, high: float) -> Uniform:
    """Numbers between `low` and `high`.  Raises ValueError unless low < high."""
    return Uniform(*_bounds("uniform", low, high))


def loguniform(low: float, high: float) -> LogUniform:
    """Numbers whose logarithm is uniform.  Raises ValueError unless 0 < low < high."""
    low, high = _bounds("loguniform", low, high)
    if low <= 0:
        raise ValueError(f"loguniform: expected bounds above 0, found {low:g}")
    return LogUniform(low, high)


def integers(low: int, high: int) -> Integers:
    """Whole numbers, both bounds included.  Raises ValueError unless low < high."""
    if int(low) != low or int(high) != high:
        raise ValueError(f"integers: expected whole numbers, found {low} and {high}")
    _bounds("integers", low, high)
    return Integers(int(low), int(high))


def choice(*values: Any) -> Choice:
    """One of several values; a list of values as a field means the same.

    Raises ValueError for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"choice: expected two or more values, found {len(values)}")
    return Choice(tuple(values))


MAKERS = {"uniform": uniform, "loguniform": loguniform, "integers": integers, "choice": choice}


def parse_distribution(text: str) -> Distribution | None:
    """The distribution that a text such as "loguniform(0.05, 5)" names; None for other texts.

    Raises ValueError for one of these names with wrong arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(call, ast.Call) or getattr(call.func, "id", None) not in MAKERS:
        return None
    name = str(getattr(call.func, "id", ""))
    try:
        values = [ast.literal_eval(argument) for argument in call.args]
        if call.keywords:
            raise TypeError("expected values without names")
        distribution: Distribution = MAKERS[name](*values)  # type: ignore[operator]
    except (TypeError, SyntaxError) as error:
        raise ValueError(f"{text}: expected {name} of two numbers or more ({error})") from None
    return distribution


def split_space(config: type[Config], overrides: Mapping[str, Any]) -> tuple[Space, Setting]:
    """The fields to search over, and those with one value.

    overrides: field -> a distribution, its text, a list of values, or a value. A list for a field
    that is a list itself is one value, unless it is a list of lists.
    Raises TypeError for an unknown field, TypeError or ValueError for a value that is not valid.
    """
    hints = get_type_hints(config)
    space: Space = {}
    fixed: Setting = {}
    for name, given in overrides.items():
        value = plain(given)
        if isinstance(value, str):
            value = parse_distribution(value) or value
        is_tuple_field = hints.get(name) not in (float, int, bool, str)
        if isinstance(value, list):
            nested = any(isinstance(entry, list | tuple) for entry in value)
            if nested or not is_tuple_field:
                value = Choice(tuple(value)) if len(value) != 1 else value[0]
        if not isinstance(value, Uniform | LogUniform | Integers | Choice):
            expand(config, {name: value})
            fixed[name] = value
            continue
        if isinstance(value, Choice) and len(set(map(repr, value.values))) < len(value.values):
            raise ValueError(f"{name}: expected different values, found {list(value.values)}")
        ends = [getattr(c, name) for c in expand(config, {name: list(value.ends())})]
        space[name] = Choice(tuple(ends)) if isinstance(value, Choice) else value
    return space, fixed


def random_settings(space: Space, indices: Sequence[int], seed: int) -> list[Setting]:
    """Independent draws; number `i` depends on the seed and on `i` alone."""
    return [
        {
            name: distribution.at(float(np.random.default_rng([seed, index, place]).random()))
            for place, (name, distribution) in enumerate(space.items())
        }
        for index in indices
    ]


def grid_settings(space: Space) -> list[Setting]:
    """Every combination of values; the last field varies fastest.

    Raises ValueError for a distribution without a list of values.
    """
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*_lists(space))]


def _lists(space: Space) -> Iterator[Sequence[Any]]:
    for name, distribution in space.items():
        if isinstance(distribution, Choice):
            yield distribution.values
        elif isinstance(distribution, Integers):
            yield range(distribution.low, distribution.high + 1)
        else:
            raise ValueError(
                f"{name}: expected a list of values for proposer='grid', found "
                f"{describe(distribution)}"
            )


def perturbed(space: Space, setting: Setting, draws: Sequence[float]) -> Setting:
    """A setting nearby: numbers times 0.8 or 1.25 within their bounds, or the next in a list.

    draws: uniform numbers in [0, 1), one for each field.  Fields other than float stay, because
    they change the nets' shapes.  Source: Jaderberg et al. 2017, arXiv:1711.09846 (`perturb`).
    """
    changed = dict(setting)
    for (name, distribution), draw in zip(space.items(), draws, strict=True):
        value, up = setting[name], draw >= 0.5
        if not isinstance(value, float):
            continue
        if isinstance(distribution, Choice):
            ordered = sorted(v for v in distribution.values if isinstance(v, float))
            place = ordered.index(value) + (1 if up else -1)
            changed[name] = ordered[min(max(place, 0), len(ordered) - 1)]
        elif isinstance(distribution, Uniform | LogUniform):
            scaled = _rounded(value * (1.25 if up else 0.8))
            changed[name] = min(max(scaled, distribution.low), distribution.high)
    return changed


def describe(distribution: Distribution) -> str:
    """A distribution as users write it: loguniform(0.05, 5)."""
    if isinstance(distribution, Choice):
        return str([list(v) if isinstance(v, tuple) else v for v in distribution.values])
    name = type(distribution).__name__.lower()
    return f"{name}({distribution.low:g}, {distribution.high:g})"


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _bounds(name: str, low: Any, high: Any) -> tuple[float, float]:
    try:
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected two numbers, found {low!r} and {high!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name}: expected low < high, found {low:g} and {high:g}")
    return low, high
