"""Gymnasium: environments named by an id or "module:function", or made by a function.

A function may return any object with Gymnasium's attributes and methods, so your own environment
does not need the package `gymnasium`, which is an extra.
"""

import contextlib
import functools
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastifo.envs.backends.cameras import Frames, ImageStack, gymnasium_cameras, gymnasium_stack
from fastifo.envs.backends.gymnasium_make import PREFIX, make_env, noted, registry
from fastifo.envs.flatten import Flattener, action_bounds
from fastifo.envs.lanes import Lanes, LaneVector, LocalLanes
from fastifo.envs.render import Render
from fastifo.envs.spec import DEFAULT_LIMIT, EnvInfo, EnvSpec
from fastifo.envs.vector import SUCCESS_KEYS, VectorEnv
from fastifo.envs.workers import WorkerLanes

LANES = 64  # environments of one process: more would cost memory and save no time
ARRAYS = (np.generic, np.ndarray, Tensor, list)  # what may hold a number
DEFAULT_RATE = 30.0  # steps in a second, for videos


class GymnasiumBackend:
    """Environments with Gymnasium's interface; the prefix gymnasium/ may stand before an id."""

    has_async_steps = False
    max_slots = 2048

    def knows(self, env_id: str) -> bool:
        """Whether Gymnasium, or a package that registers with it, has the environment."""
        return env_id.removeprefix(PREFIX) in self.ids()

    def ids(self) -> list[str]:
        """All registered environments."""
        return sorted(registry())

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """Makes one environment.  Raises as `Backend.describe`."""
        env = GymnasiumEnv(spec)
        env.close()
        return env.info

    def single(self, spec: EnvSpec) -> "GymnasiumEnv":
        """One environment in this process.  Raises as `GymnasiumEnv`."""
        return GymnasiumEnv(spec)

    def make(self, spec: EnvSpec, num_slots: int, *, threads: int, workers: int) -> VectorEnv:
        """Environments in this process, or `LANES` in each of `workers` processes."""
        make = functools.partial(GymnasiumEnv, spec)
        lanes: Lanes
        if workers == 0:
            lanes = LocalLanes(make, min(num_slots, LANES))
        else:
            workers = min(workers, num_slots)
            lanes = WorkerLanes(make, min(num_slots, LANES * workers), workers)
        return LaneVector(lanes)


class GymnasiumEnv:
    """One environment with Gymnasium's interface, as a `SingleEnv`."""

    def __init__(self, spec: EnvSpec) -> None:
        """Makes the environment.

        Raises ValueError for an unknown id, setting or camera, or unsuitable spaces; TypeError if
        a function makes something else; ImportError for a package or a library that is missing.
        """
        self.name = spec.id
        self.env, unused = make_env(spec)
        self.flattener = Flattener(self.name, self.env.observation_space, spec.obs_keys)
        low, high = action_bounds(self.name, self.env.action_space)
        self.action_dtype = self.env.action_space.dtype
        own = getattr(getattr(self.env, "spec", None), "max_episode_steps", None)
        self.limit = spec.max_episode_steps or own or DEFAULT_LIMIT
        self.steps = 0
        render = spec.render
        self.stack = None if render is None else self.open_cameras(render)
        self.hides_state = render is not None and not render.state
        parts = () if self.hides_state else self.flattener.parts
        self.info = EnvInfo(
            self.name, 1 if self.hides_state else self.flattener.obs_dim, low, high, self.limit,
            _versions(self.env), parts, tuple(unused),
            spec.max_episode_steps is not None or bool(own),
            () if render is None else render.images,
        )  # fmt: skip

    def cameras(self) -> list[str]:
        """Names of the cameras that `open_cameras` can open."""
        return gymnasium_cameras(self.env)

    def open_cameras(self, render: Render) -> ImageStack:
        """Further views of this environment.  Raises as `gymnasium_stack`."""
        return gymnasium_stack(self.name, self.env, render)

    @property
    def steps_per_s(self) -> float:
        """Steps in a second of simulated time; `DEFAULT_RATE` if the environment does not say."""
        metadata = getattr(self.env, "metadata", None) or {}
        return float(metadata.get("render_fps") or DEFAULT_RATE)

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts an episode."""
        self.steps = 0
        with noted(self.name, f"reset(seed={seed})"):
            answer = self.env.reset(seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(
                f"{self.name}: expected reset(seed=...) to return an observation and a dict, found "
                f"{_shape_of(answer)}; fastifo plays environments with Gymnasium's interface"
            )
        if self.stack is not None:
            self.stack.reset()
        return self._vector(answer[0])

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, float]:
        """Makes one step; the last one that the time limit allows is a timeout."""
        with noted(self.name, f"step {self.steps + 1} of an episode"):
            answer = self.env.step(action.astype(self.action_dtype))
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise TypeError(
                f"{self.name}: expected step(action) to return an observation, a reward, "
                f"terminated, truncated and a dict, found {_shape_of(answer)}; fastifo plays "
                "environments with Gymnasium's interface"
            )
        obs, reward, terminated, truncated, info = answer
        self.steps += 1
        if self.stack is not None:
            self.stack.step()
        ended = bool(self._number("terminated to be true or false", terminated))
        cut = bool(self._number("truncated to be true or false", truncated))
        cut = (cut or self.steps >= self.limit) and not ended
        value = self._number("the reward to be a number", reward)
        return self._vector(obs), value, ended, cut, self._success(info)

    def _number(self, what: str, value: Any) -> float:
        """A number that `step` returned.  Raises TypeError for anything else."""
        if isinstance(value, float | int):
            return float(value)
        array = np.zeros(2)
        if isinstance(value, ARRAYS):
            with contextlib.suppress(ValueError):  # a list of lists of different lengths
                array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiub":
            found = f"{type(value).__name__} {value!r}"
            raise TypeError(f"{self.name}: step(action): expected {what}, found {found:.200}")
        return float(array.reshape(-1)[0])

    def _success(self, info: Any) -> float:
        """Whether a step's `info` says that the task has succeeded; nan if it says nothing."""
        for key in SUCCESS_KEYS if isinstance(info, Mapping) else ():
            if info.get(key) is not None:
                value = self._number(f"info[{key!r}] to be true or false", info[key])
                return value if np.isnan(value) else float(value > 0.5)
        return np.nan

    def _vector(self, obs: Any) -> NDArray[np.float32]:
        if self.hides_state:
            return np.zeros(1, np.float32)
        return self.flattener.one(obs)

    def images(self) -> Frames:
        """The images of the current state."""
        return {} if self.stack is None else self.stack.images()

    def close(self) -> None:
        """Frees the environment."""
        if self.stack is not None:
            self.stack.close()
        getattr(self.env, "close", lambda: None)()


def _shape_of(answer: Any) -> str:
    if isinstance(answer, tuple):
        return f"a tuple of {len(answer)}"
    return type(answer).__name__


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _versions(env: Any) -> dict[str, str]:
    """Versions of the packages that define an environment: its own, Gymnasium and MuJoCo."""
    inner = getattr(env, "unwrapped", env)
    modules = {type(inner).__module__.partition(".")[0], "gymnasium"}
    if "mujoco" in sys.modules and (hasattr(inner, "model") or hasattr(inner, "data")):
        modules.add("mujoco")
    names = {name for module in modules for name in _distributions().get(module, [])}
    return {name.lower(): importlib.metadata.version(name) for name in sorted(names)}
