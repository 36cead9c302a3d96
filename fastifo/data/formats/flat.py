"""Files of flat columns with a row per step: which columns mean what, by their names.

The names in OBS (or the columns named by `keys`), and optionally those in ACTION (or the one named
by `action_key`), REWARD and NEXT_OBS. Where episodes end must be said by a column whose name is in
`end_names`, or by an option.
"""

import contextlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.actions import BOUND_NAMES, check_continuous, stated_bounds
from fastifo.data.formats.assemble import check_rows, concatenate_columns, from_rows
from fastifo.data.formats.end_names import in_order, role_of
from fastifo.data.formats.ends import find_ends, named_columns
from fastifo.data.formats.options import ReadOptions
from fastifo.data.formats.source import Floats, ReadResult, Source

OBS = ("observations", "obs")
ACTION = ("actions", "action", "acts")
REWARD = ("rewards", "reward", "rews")
NEXT_OBS = (
    "next_observations", "next_obs", "new_obs", "obs_next", "next_observation", "next_states",
)  # fmt: skip


class Columns(Protocol):
    """The columns of a file, each read on demand."""

    path: Path
    names: list[str]
    kinds: dict[str, str]  # NumPy's letter for the kind of each column that was read

    def error(self, reason: str) -> ValueError:
        """An error that names the file, to be raised."""

    def numbers(self, name: str, dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """One column as `dtype`, in its shape.  Raises ValueError naming the file."""


def read_columns(file: Columns, options: ReadOptions) -> ReadResult:
    """The episodes of a flat file; `find_ends` and `from_rows` say what is dropped.

    options: `keys` are columns to concatenate as the observation, in this order.
    Raises ValueError naming the file and what is wrong with it.
    """
    keys = options.keys or (next((n for n in OBS if n in file.names), OBS[0]),)
    if not set(keys) <= set(file.names):
        raise file.error(
            f"expected columns {', '.join(keys)}, found {', '.join(file.names)}; name the columns "
            "of the observation with ,keys=a+b"
        )
    obs = concatenate_columns(file.path, "observations", [file.numbers(key) for key in keys])
    count = check_rows(file.path, obs)
    action_name = _action_name(file, options)
    action = None if action_name is None else file.numbers(action_name)
    reward, next_obs = (_first(file, names) for names in (REWARD, NEXT_OBS))
    arrays = [name for pair in BOUND_NAMES for name in pair if name in file.names]
    source = Source(
        file.path,
        options,
        env_kwargs=options.env_kwargs,
        bounds=stated_bounds({name: file.numbers(name) for name in arrays}),
    )
    if action is not None and action_name is not None:
        action = action[:, None] if action.shape == (count,) and options.action_key else action
        check_continuous(source, action_name, file.kinds[action_name], action)
    if reward is not None and reward.shape == (count, 1):
        reward = reward[:, 0]
    ends = find_ends(
        file.path, _end_columns(file, options, count), count, options,
        has_next_obs=next_obs is not None,
    )  # fmt: skip
    return from_rows(source, obs, ends, next_obs=next_obs, action=action, reward=reward)


def _action_name(file: Columns, options: ReadOptions) -> str | None:
    """The column of the actions.  Raises ValueError if the user names one that is not there."""
    if options.action_key and options.action_key not in file.names:
        raise file.error(
            f"action_key: expected one of {', '.join(file.names)}, found {options.action_key}"
        )
    names = (options.action_key,) if options.action_key else ACTION
    return next((name for name in names if name in file.names), None)


def _first(file: Columns, names: tuple[str, ...]) -> Floats | None:
    """The first of these columns that the file has, as float32; None if it has none."""
    name = next((name for name in names if name in file.names), None)
    return None if name is None else file.numbers(name)


def _end_columns(file: Columns, options: ReadOptions, count: int) -> dict[str, NDArray[Any]]:
    """The columns that say, or may say, where episodes end, and those that the user names.

    count: rows of the file.  Raises ValueError for one that the file lacks.
    """
    columns = {}
    for name in in_order(file.names):
        if role_of(name):
            columns[name] = file.numbers(name, np.float64)
        else:  # by its name it could be anything
            with contextlib.suppress(ValueError):
                values = file.numbers(name, np.float64)
                if values.shape in ((count,), (count, 1)):
                    columns[name] = values
    for name in named_columns(options, file.names, file.error):
        columns.setdefault(name, file.numbers(name, np.float64))
    return columns
