"""D4RL's HDF5 files, read and written without the `d4rl` package.

Layout: flat columns with a row per step, `observations`, `actions`, `rewards`, `terminals`,
`timeouts`, and in Gym-MuJoCo files `next_observations`. `terminals` mark ends of the task,
`timeouts` ends by the time limit. The oldest files have no `timeouts`; the limits of D4RL's own
tasks are known from the files' names.

`write` keeps the action bounds and the environment as attributes of the file.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fastifo.data.episodes import Episodes
from fastifo.data.formats.actions import (
    BOUND_NAMES,
    check_continuous,
    from_unit,
    stated_bounds,
)
from fastifo.data.formats.assemble import check_rows, from_rows
from fastifo.data.formats.end_names import in_order, role_of
from fastifo.data.formats.ends import find_ends, named_columns
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult, Source
from fastifo.data.formats.target import Target
from fastifo.data.formats.tasks import is_name, path_of, task_of
from fastifo.utils.files import write_atomic

__all__ = ["HOST", "address", "is_name", "read", "write"]

LICENCE = "CC BY 4.0"  # of the datasets that D4RL distributes
HOST = "http://rail.eecs.berkeley.edu/datasets/offline_rl"


def read(path: Path, options: ReadOptions = DEFAULTS, name: str = "") -> ReadResult:
    """The episodes of a D4RL file; `find_ends` and `from_rows` say what is dropped.

    name: of D4RL's dataset, if the file was downloaded by name; by default the file's name.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = HDF5(path)
    action_key = options.action_key or "actions"
    required = ("observations", options.action_key)
    names = [
        name
        for name in ("observations", action_key, "rewards", "next_observations")
        if file.has(name) or name in required
    ]
    columns = dict(zip(names, file.numbers(names), strict=True))
    obs, action, reward = (columns.get(n) for n in ("observations", action_key, "rewards"))
    assert obs is not None
    count = check_rows(path, obs)
    task = task_of(name or path.stem)
    source = _source(file, options, task.env_id, task.max_steps)
    if name:
        source = dataclasses.replace(source, info={"license": LICENCE})
    if action is not None:
        check_continuous(source, action_key, file.kind(action_key), action)
    if file.has("discrete_action") and bool(file.numbers(["discrete_action"])[0].any()):
        check_continuous(source, "discrete_action", "b", np.ones(1, bool))
    if reward is not None and reward.shape == (count, 1):
        reward = reward[:, 0]
    ends = find_ends(
        path,
        end_columns(file, options, count),
        count,
        options,
        max_steps=source.env_kwargs.get("max_episode_steps", 0),
        has_next_obs="next_observations" in columns,
    )
    return from_rows(
        source, obs, ends, next_obs=columns.get("next_observations"), action=action, reward=reward
    )


def end_columns(file: HDF5, options: ReadOptions, count: int) -> dict[str, Any]:
    """The columns that say, or may say, where episodes end, and those that the user names.

    count: rows of the file.
    """
    known = sorted(name for name in file.objects if file.has(name))
    names = in_order([name for name in known if "/" not in name])
    names = [n for n in names if role_of(n) or _is_numeric_column(file, n, count)]
    names = list(dict.fromkeys(names + named_columns(options, known, file.error)))
    return dict(zip(names, file.numbers(names, np.float64), strict=True))


def _is_numeric_column(file: HDF5, name: str, count: int) -> bool:
    return file.kind(name) in "fiub" and file.shape(name) in ((count,), (count, 1))


def _source(file: HDF5, options: ReadOptions, env_id: str | None, max_steps: int) -> Source:
    """What the file's attributes and arrays of bounds state, or else its name."""
    attributes = file.attributes()
    stated = attributes.get("env_id")
    settings: Any = {}
    if isinstance(stated, str) and stated:
        env_id, max_steps = stated, 0
    try:
        settings = json.loads(attributes.get("env_kwargs", "{}"))
    except (json.JSONDecodeError, RecursionError, TypeError):
        settings = {}
    env_kwargs = dict(settings) if isinstance(settings, dict) else {}
    limit = options.max_steps or max_steps
    if limit:
        env_kwargs["max_episode_steps"] = limit
    arrays = [name for pair in BOUND_NAMES for name in pair if file.has(name)]
    columns = dict(zip(arrays, file.numbers(arrays), strict=True))
    return Source(file.path, options, env_id, env_kwargs, stated_bounds(columns | attributes))


def write(
    path: Path,
    episodes: Episodes,
    low: Tensor | None,
    high: Tensor | None,
    env_id: str | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Writes episodes in D4RL's layout, with `next_observations`, atomically.

    low, high: [A], the environment's action bounds, which actions are mapped to if both are known;
    they are kept as the attributes `action_low` and `action_high`.
    env_id, env_kwargs: as in `Dataset`, kept as attributes of these names.
    Raises ValueError without actions or without one reward per transition, OSError naming the file.
    """
    import h5py

    if episodes.action is None or episodes.reward is None or episodes.reward.ndim != 1:
        raise ValueError(f"{path}: expected a background with actions and rewards to write")
    row = episodes.rows()
    action, attributes = episodes.action, dict[str, Any]()
    if low is not None and high is not None:
        action = from_unit(action, low, high)
        attributes = {"action_low": low.numpy(), "action_high": high.numpy()}
    columns = {
        "observations": episodes.obs[row],
        "next_observations": episodes.obs[row + 1],
        "actions": action,
        "rewards": episodes.reward,
        "terminals": episodes.terminal,
        "timeouts": episodes.timeout,
    }
    if env_id is not None:
        attributes["env_id"] = env_id
    if env_kwargs:
        attributes["env_kwargs"] = json.dumps(dict(env_kwargs))

    def fill(temporary: Path) -> None:
        with open(temporary, "r+b", buffering=0) as raw:
            target = Target(raw)
            with h5py.File(target, "w") as file:
                for name, column in columns.items():
                    file.create_dataset(name, data=column.numpy(), compression="gzip")
                file.attrs.update(attributes)
            if target.error is not None:
                raise target.error

    write_atomic(path, fill)


def address(name: str) -> str:
    """URL of a dataset by name, as in hopper-medium-v2.  Raises ValueError for an unknown name."""
    path = path_of(name)
    if path is None:
        raise ValueError(
            f"d4rl:{name}: expected a file, or a name such as hopper-medium-v2 or door-human-v1"
        )
    return f"{HOST}/{path}"
