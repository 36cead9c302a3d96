"""ManiSkill's trajectories (`traj_*` in HDF5), read without the package.

Layout: groups `traj_<k>` with T + 1 rows in `obs`, an array or groups of arrays, and T in
`actions`, `rewards`, `terminated`, `truncated` and `success`; `<name>.json` beside the file
describes the environment. Files that are distributed hold states of the simulator and no
observations: ManiSkill replays them (`python -m mani_skill.trajectory.replay_trajectory -o state`).
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastifo.data.formats.actions import check_continuous
from fastifo.data.formats.assemble import concatenate_columns, from_whole_episodes
from fastifo.data.formats.groups import Column, read_groups
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.options import DEFAULTS, ReadOptions
from fastifo.data.formats.source import ReadResult, Source
from fastifo.utils.files import read_json

PREFIX = "traj_"


def read(path: Path, options: ReadOptions = DEFAULTS) -> ReadResult:
    """The trajectories of a ManiSkill file.

    options: `keys` are arrays below `obs` to concatenate, such as agent/qpos, in this order;
    `dones` says what the last step of every trajectory is, whatever `terminated` says.
    The environment is kept in `info`, but not played: it needs ManiSkill.
    Raises FileNotFoundError, or ValueError naming the file and what is wrong with it.
    """
    file = HDF5(path)
    groups = sorted((n for n in file.children("") if n.startswith(PREFIX)), key=_number)
    if not groups:
        raise file.error("expected groups traj_0, traj_1, ..., found none")
    names = _obs_names(file, groups, options.keys)
    source = Source(path, options, info=_info(path))
    columns = [
        *(Column(name, extra=1, ndim=(1, 2)) for name in names),
        Column("actions", ndim=(1, 2)),
        *(Column(name, squeezed=True) for name in ("rewards", "terminated")),
    ]
    episodes = read_groups(file, source, groups, columns)
    values, notes = episodes.values, dict(episodes.notes)
    if not set(names) <= set(values):
        raise file.error("expected observations in every trajectory, found some without them")
    parts = zip(*(values[name] for name in names), strict=True)
    obs = [concatenate_columns(path, "obs", part) for part in parts]
    action = values.get("actions")
    if action is not None:
        kinds = file.kinds(f"{group}/actions" for group in groups)
        check_continuous(source, "actions", kinds, np.concatenate(action))
    ended = values.get("terminated")
    if options.dones:
        terminal = [options.dones == "terminal"] * len(obs)
    elif ended is None:
        terminal = [False] * len(obs)
        name = "ends of episodes counted as time limits, since the file has no terminated"
        notes[name] = len(obs)
    else:
        terminal = [bool(flags[-1]) for flags in ended]
        notes["successes inside a trajectory that goes on, not used"] = sum(
            int((flags[:-1] != 0).sum()) for flags in ended
        )
    return from_whole_episodes(source, obs, terminal, action, values.get("rewards"), notes)


def _obs_names(file: HDF5, groups: list[str], keys: tuple[str, ...]) -> list[str]:
    """Datasets that hold the observations, below a trajectory's group."""
    known = _arrays(file, groups[0], "obs")
    if known == ["obs"] and not keys:
        return ["obs"]
    if not known:
        found = ", ".join(sorted(file.children(groups[0]))) or "none"
        raise file.error(
            f"{groups[0]}: expected obs, found {found}; replay the trajectories with ManiSkill "
            "(python -m mani_skill.trajectory.replay_trajectory -o state)"
        )
    arrays = [n.removeprefix("obs/") for n in known if len(file.shape(f"{groups[0]}/{n}")) <= 2]
    low_dim = sorted(name for name in arrays if name != "obs")
    if not keys or not set(keys) <= set(low_dim):
        raise file.error(
            f"keys: expected some of {', '.join(low_dim) or 'none'}, the observations of the file, "
            f"joined by +, found {'+'.join(keys) or 'none'}; images are not read"
        )
    return [f"obs/{key}" for key in keys]


def _arrays(file: HDF5, group: str, name: str) -> list[str]:
    """Names of the datasets at or below `name` of a group, relative to the group."""
    if file.has(f"{group}/{name}"):
        return [name]
    children = file.children(f"{group}/{name}")
    return [array for child in children for array in _arrays(file, group, f"{name}/{child}")]


def _info(path: Path) -> dict[str, Any]:
    """What the JSON file beside the trajectories says of the environment."""
    beside = path.with_suffix(".json")
    content = read_json(beside) if beside.is_file() else None
    stated = content.get("env_info") if isinstance(content, dict) else None
    return {"maniskill": stated} if isinstance(stated, dict) else {}


def _number(name: str) -> tuple[float, str]:
    """Sorts traj_10 after traj_2."""
    digits = name.removeprefix(PREFIX)
    return (int(digits) if digits.isdecimal() and len(digits) < 12 else math.inf, name)
