"""robosuite's own demonstrations: simulator states, converted to observations.

Layout of `demo.hdf5`: `data/demo_<k>/states`, [T, S], the flattened MuJoCo state before each
action, and `actions`, [T, A]; attributes of `data`: `env` or `env_info` (JSON), and
`repository_version`. Needs robosuite, which sets each state without simulating a step.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.dataset import Dataset
from fastifo.data.formats.assemble import from_whole_episodes
from fastifo.data.formats.hdf5 import HDF5
from fastifo.data.formats.options import ReadOptions, parse_options, split_spec
from fastifo.data.formats.robosuite import LOW_DIM, OLD, PREFIX
from fastifo.data.formats.source import Source
from fastifo.envs.backends.robosuite_env import RobosuiteEnv
from fastifo.envs.spec import as_spec
from fastifo.utils.progress import ProgressBar

OPTIONS = ("episodes", "keys", "object_layout", "dones")
SAME_CONTROLLER = (1, 4)  # first version of robosuite whose actions mean what they mean here
DROPPED_ACTIONS = "actions dropped because an older robosuite's controller reads them differently"


def load_states(text: str, *, progress: bool = True) -> Dataset:
    """The demonstrations of a spec `robosuite:<file>[,<option>=<value>]` as a background.

    Options: `episodes`, `keys`, `object_layout` and `dones`, as for robomimic's files.
    An episode ends at the first state of success, which is terminal unless `dones=timeout`, or at
    its last state. The reward is 1 at success. Actions recorded before robosuite 1.4 are dropped
    because its controller was different.
    Raises FileNotFoundError; ImportError without robosuite; ValueError for an unknown option or
    task, another layout, or states of another model.
    """
    name, given = split_spec(text.partition(":")[2])
    for option in given:
        if option.partition("=")[0] not in OPTIONS:
            raise ValueError(f"{text!r}: unknown option {option!r}; known: {', '.join(OPTIONS)}")
    options = parse_options(text, "robomimic", given)
    file = HDF5(Path(name).expanduser())
    names = _demos(file, options)
    settings: dict[str, Any] = {}
    if options.object_layout == OLD:
        settings["object_layout"] = OLD
    if options.dones == "timeout":
        settings["success_terminal"] = False
    attributes = file.attributes("data")
    env_id = PREFIX + _task(file, attributes)
    with_actions = _version(attributes) >= SAME_CONTROLLER
    env = RobosuiteEnv(as_spec(env_id, kwargs=settings, obs_keys=options.keys))
    episodes = []
    with ProgressBar(f"replay {env_id}", len(names), "episodes", enabled=progress) as bar:
        for index, group in enumerate(names):
            episodes.append(_replay(file, group, env, with_actions))
            bar.update(index + 1, "")
    env.close()
    actions = [episode["action"] for episode in episodes if "action" in episode]
    result = from_whole_episodes(
        Source(file.path, dataclasses.replace(options, episodes=0)),
        [episode["obs"] for episode in episodes],
        [bool(episode["reward"][-1]) and options.dones != "timeout" for episode in episodes],
        actions if len(actions) == len(episodes) else None,
        [episode["reward"] for episode in episodes],
        {} if with_actions else {DROPPED_ACTIONS: len(names)},
    )
    info: dict[str, Any] = {"spec": text} | ({"notes": result.notes} if result.notes else {})
    keys = () if options.keys == LOW_DIM else options.keys
    return Dataset(result.episodes, env_id=env_id, env_kwargs=settings, obs_keys=keys, info=info)


def _demos(file: HDF5, options: ReadOptions) -> list[str]:
    """Groups with states, by number; the first `episodes` of them."""
    groups = [f"data/{name}" for name in file.children("data") if file.has(f"data/{name}/states")]
    if not groups:
        raise file.error("expected groups data/demo_1, ... with states, found none")
    groups.sort(key=lambda group: [int(n) for n in re.findall(r"\d{1,15}", group)] or [0])
    if options.episodes > len(groups):
        raise file.error(f"episodes: expected at most {len(groups)}, found {options.episodes}")
    return groups[: options.episodes or None]


def _task(file: HDF5, attributes: dict[str, Any]) -> str:
    try:
        info = json.loads(str(attributes.get("env_info", "{}")))
    except (json.JSONDecodeError, RecursionError):
        info = {}
    task = info.get("env_name") if isinstance(info, dict) else None
    task = task or attributes.get("env")
    if not isinstance(task, str) or not task:
        raise file.error("data: expected an attribute env or env_info that names the task")
    robots = info.get("robots", "Panda") if isinstance(info, dict) else "Panda"
    if robots not in ("Panda", ["Panda"]):
        raise file.error(f"data: env_info: robots: expected Panda, found {robots!r}")
    return task


def _version(attributes: dict[str, Any]) -> tuple[int, ...]:
    match = re.match(r"(\d{1,9})\.(\d{1,9})", str(attributes.get("repository_version", "")))
    return tuple(int(part) for part in match.groups()) if match else (0,)


def _replay(
    file: HDF5, group: str, env: RobosuiteEnv, with_actions: bool
) -> dict[str, NDArray[Any]]:
    """Observations, rewards and actions of one demonstration, up to its success."""
    (states,) = file.numbers([f"{group}/states"], np.float64)
    if states.ndim != 2 or len(states) < 2 or not np.isfinite(states).all():
        raise file.error(f"{group}/states: expected two or more finite rows, found {states.shape}")
    rows = []
    success = False
    for state in states:
        try:
            obs, success = env.set_state(state)
        except ValueError as error:
            raise file.error(f"{group}: {error}") from None
        rows.append(obs)
        if success and len(rows) > 1:
            break
    count = len(rows) - 1
    reward = np.zeros(count, np.float32)
    reward[-1] = success
    episode: dict[str, NDArray[Any]] = {"obs": np.stack(rows), "reward": reward}
    if with_actions and file.has(f"{group}/actions"):
        (actions,) = file.numbers([f"{group}/actions"])
        if actions.shape != (len(states), env.info.action_dim):
            raise file.error(
                f"{group}/actions: expected ({len(states)}, {env.info.action_dim}), found "
                f"{actions.shape}"
            )
        episode["action"] = actions[:count].clip(-1.0, 1.0)
    return episode
