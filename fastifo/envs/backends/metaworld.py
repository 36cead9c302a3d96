"""Meta-World in EnvPool: 50 manipulation tasks for a Sawyer arm.

Source: Yu et al. 2019, arXiv:1910.10897. Ids are metaworld/Reach, metaworld/PickPlace and so on:
EnvPool's MetaWorld/Reach-v3. Observations have 39 entries: position and opening of the gripper and
poses of two objects, the same one step earlier, and the goal. Settings are EnvPool's and

- `reward_shaping`: false: the reward is 1 at success and 0 before; true: Meta-World's own, up to 10
  a step;
- `success_terminal`: true: success is terminal; false: success truncates the episode, and values
  are bootstrapped from its last observation;
- `partially_observable`: false; true hides the goal, which EnvPool does by default.

An episode ends at the first success. `max_episode_steps` is 500, Meta-World's own limit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastifo.envs.backends.envpool import EnvPoolBackend, EnvPoolVector, all_ids
from fastifo.envs.spec import EnvInfo, EnvSpec
from fastifo.envs.vector import EnvStep, VectorEnv
from fastifo.utils.text import did_you_mean

PREFIX = "metaworld/"
ENVPOOL_PREFIX, VERSION = "MetaWorld/", "-v3"
OWN = {"reward_shaping": False, "success_terminal": True}


class MetaworldBackend(EnvPoolBackend):
    """Meta-World's tasks, played by EnvPool."""

    max_slots = 64  # an environment takes about 14 MB
    own_settings = OWN
    defaults: Mapping[str, Any] = {"partially_observable": False}  # the observation has the goal
    hint = ""

    def name_of(self, spec: EnvSpec) -> str:
        """EnvPool's name of the task."""
        return ENVPOOL_PREFIX + spec.id.removeprefix(PREFIX) + VERSION

    def knows(self, env_id: str) -> bool:
        """Whether this is a task of Meta-World."""
        return env_id in self.ids()

    def ids(self) -> list[str]:
        """All tasks."""
        names = (name for name in all_ids() if name.startswith(ENVPOOL_PREFIX))
        return sorted(
            PREFIX + name.removeprefix(ENVPOOL_PREFIX).removesuffix(VERSION) for name in names
        )

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """Reads EnvPool's own description.  Raises as `Backend.describe`."""
        if not self.knows(spec.id):
            raise ValueError(
                f"Meta-World has no task {spec.id!r}; {did_you_mean(spec.id, self.ids())}"
            )
        _own_settings(spec)
        return super().describe(_envpool_spec(spec))

    def make(self, spec: EnvSpec, num_slots: int, *, threads: int, workers: int) -> VectorEnv:
        """A pool with an environment for every slot."""
        own = _own_settings(spec)
        info, flattener, settings = self._plan(_envpool_spec(spec))
        pool = EnvPoolVector(self.name_of(spec), info, flattener, settings, threads)
        return MetaworldVector(pool, **own)


class MetaworldVector:
    """A pool whose episodes end at success.  Implements `VectorEnv`."""

    def __init__(self, pool: EnvPoolVector, reward_shaping: bool, success_terminal: bool) -> None:
        self.pool = pool
        self.info = pool.info
        self.reward_shaping = reward_shaping
        self.success_terminal = success_terminal
        self.start, self.send, self.close = pool.start, pool.send, pool.close

    def recv(self) -> EnvStep:
        """Waits for all slots that were sent."""
        step = self.pool.recv()
        success = step.success > 0.5
        if not self.reward_shaping:
            step.reward = success.astype(step.reward.dtype)
        if self.success_terminal:
            step.terminated = step.terminated | success
        else:
            step.truncated = step.truncated | success
        step.truncated = step.truncated & ~step.terminated
        return step


def _own_settings(spec: EnvSpec) -> dict[str, bool]:
    """Values of the settings `OWN`.  Raises ValueError for one that is not a bool."""
    given = {**spec.settings, **spec.kwargs}
    own = {name: given.get(name, default) for name, default in OWN.items()}
    for name, value in own.items():
        if not isinstance(value, bool):
            raise ValueError(f"{spec.id}: {name}: expected true or false, found {value!r}")
    return own


def _envpool_spec(spec: EnvSpec) -> EnvSpec:
    """The spec without the settings `OWN`."""

    def others(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name not in OWN}

    return dataclasses.replace(spec, kwargs=others(spec.kwargs), settings=others(spec.settings))
