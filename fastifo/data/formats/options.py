"""Options of a spec, as in `d4rl:a.hdf5,episodes=10,max_steps=200`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FLAT = ("ends", "terminals", "dones", "max_steps")  # where episodes end in files without episodes
SHARED = ("action_low", "action_high", "clip", "skip_bad")  # options of all kinds
FILE_OPTIONS = {  # kind of file -> options in its spec
    "d4rl": ("episodes", *FLAT, "action_key", *SHARED),
    "minari": ("episodes", "keys", "cameras", "max_steps", *SHARED),
    "robomimic": (
        "episodes",
        "keys",
        "cameras",
        "filter",
        "dones",
        "object_layout",
        "action_key",
        *SHARED,
    ),
    **dict.fromkeys(("npz", "csv", "parquet"), ("episodes", "keys", *FLAT, "action_key", *SHARED)),
    "lerobot": ("episodes", "keys", "cameras", *FLAT, "action_key", *SHARED),
    "ogbench": ("episodes", "keys", "action_key", *SHARED),
    "d3rlpy": ("episodes", "dones", "max_steps", *SHARED),
    "imitation": ("episodes", "dones", "max_steps", *SHARED),
    "maniskill": ("episodes", "keys", "dones", *SHARED),
}
Bound = tuple[float, ...]


@dataclass(frozen=True)
class ReadOptions:
    """What a user says about a file that its reader cannot know, or does not need to read."""

    episodes: int = 0  # only the first ones; 0: all
    keys: tuple[str, ...] = ()  # observations to concatenate; empty: the format's default
    action_key: str = ""  # column of the actions; empty: the format's
    cameras: tuple[str, ...] = ()  # whose frames to read
    filter: str = ""  # robomimic: a mask
    object_layout: str = ""  # robomimic: of `object`, 1.4 or 1.5; empty: the file's own
    # Column that marks the last row of every episode; "file": one episode; "rows": one a row.
    ends: str = ""
    terminals: str = ""  # column that marks ends of the task
    dones: str = ""  # what an end is that the file only calls "done": terminal | timeout
    max_steps: int = 0  # steps after which the time limit ends an episode; 0: not said
    clip: bool = False  # accept that any share of the actions is clipped to the bounds
    skip_bad: bool = False  # accept that any share of the episodes is dropped as damaged
    action_low: Bound | None = None  # bounds of the environment's actions: one number or one each
    action_high: Bound | None = None

    @property
    def env_kwargs(self) -> dict[str, int]:
        """Settings of the environment that the user says."""
        return {"max_episode_steps": self.max_steps} if self.max_steps else {}


DEFAULTS = ReadOptions()


def split_spec(argument: str) -> tuple[str, list[str]]:
    """The file or name of a spec, and its options.  argument: the part after `kind:`.

    A path may contain commas: the longest part that exists is the path; if none does, every part
    up to the last slash belongs to it.
    """
    parts = argument.split(",")
    for count in range(len(parts), 0, -1):
        name = ",".join(parts[:count])
        if name and Path(name).expanduser().exists():
            return name, parts[count:]
    count = max((i + 1 for i, part in enumerate(parts) if "/" in part), default=1)
    return ",".join(parts[:count]), parts[count:]


def parse_options(text: str, kind: str, options: list[str]) -> ReadOptions:
    """text: the spec, for errors.  Raises ValueError for an unknown option or value."""
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not value or key not in FILE_OPTIONS[kind]:
            raise ValueError(
                f"{text!r}: unknown option {option!r}; known: {', '.join(FILE_OPTIONS[kind])}"
            )
        values[key] = _parse(text, key, value)
    return ReadOptions(**values)


def _parse(text: str, key: str, value: str) -> Any:
    if key in ("episodes", "max_steps"):
        if not (value.isascii() and value.isdigit() and int(value) > 0):
            raise ValueError(f"{text!r}: {key}: expected a number, found {value!r}")
        return int(value)
    if key in ("keys", "cameras"):
        names = tuple(name for name in value.split("+") if name)
        if len({*names}) < len(names) or not names:
            raise ValueError(f"{text!r}: {key}: expected names, each once, found {value!r}")
        return names
    choices = {
        "dones": ("terminal", "timeout"),
        "clip": ("true", "false"),
        "skip_bad": ("true", "false"),
        "object_layout": ("1.4", "1.5"),
    }.get(key)
    if choices is not None:
        if value not in choices:
            raise ValueError(f"{text!r}: {key}: expected {' or '.join(choices)}, found {value!r}")
        return value == "true" if key in ("clip", "skip_bad") else value
    if key in ("action_low", "action_high"):
        try:
            bound = tuple(float(number) for number in value.split("+"))
        except ValueError:
            bound = (math.nan,)
        if not all(map(math.isfinite, bound)):
            raise ValueError(
                f"{text!r}: {key}: expected a number, or one for each dimension joined by +, as in "
                f"-1+-2; found {value!r}"
            )
        return bound
    return value


def as_bound(name: str, value: Any) -> Bound | None:
    """A bound as numbers.  Raises TypeError for something else."""
    if value is None:
        return None
    try:
        return tuple(float(number) for number in np.asarray(value, np.float64).ravel())
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: expected a number or an array, found {value!r}") from None
