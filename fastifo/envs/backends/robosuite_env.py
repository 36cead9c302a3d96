"""One robosuite environment with robomimic's low-dimensional observations, as a `SingleEnv`."""

import copy
import functools
import importlib.metadata
import importlib.util
import inspect
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.data.formats.robosuite import (
    DEFAULTS,
    LOW_DIM,
    MACHINERY,
    NEW,
    OLD,
    PREFIX,
    controller_config,
    other_layout,
    task_of,
)
from fastifo.envs.backends.cameras import Frames, ImageStack, mujoco_stack
from fastifo.envs.backends.offscreen import model_cameras
from fastifo.envs.backends.quiet import quiet
from fastifo.envs.render import SETTING, Render
from fastifo.envs.spec import EnvInfo, EnvSpec
from fastifo.utils.text import did_you_mean

# robosuite's own dependencies ask for numpy < 2, which it does not need.
INSTALL = "pip install 'fastifo[robosuite]' && pip install --no-deps robosuite==1.5.2"
NEEDED = ("robosuite", "mujoco", "numba", "scipy", "cv2", "PIL", "termcolor", "tqdm")
# Versions that work together, from the first to before the second: later MuJoCos lack what
# robosuite 1.5 calls, and earlier robosuites observe and control in another way.
VERSIONS = {"robosuite": ((1, 5), (1, 6)), "mujoco": ((3, 3), (3, 10))}
OWN: dict[str, tuple[Any, ...]] = {  # settings that robosuite does not have, and their values
    "object_layout": (NEW, OLD),  # order and signs of the observation `object`
    "success_terminal": (True, False),  # success ends the task; or only cuts the episode
}
EVERYWHERE = ("max_episode_steps", SETTING)  # settings of every backend
LIMITS = {"TwoArmTransport": 700, "ToolHang": 700}  # robomimic's time limits, in steps
DEFAULT_LIMIT = 400


class RobosuiteEnv:
    """A robosuite environment.  Success ends an episode, as in robomimic's evaluations."""

    def __init__(self, spec: EnvSpec) -> None:
        """Builds the environment.

        Raises ImportError without robosuite or a library for its cameras; ValueError for an unknown
        task, key, setting or camera.
        """
        check_installed(spec.id)
        self.task, self.name = task_of(spec.id), spec.id
        self.keys = spec.obs_keys or LOW_DIM
        own, arguments, unused = split_settings(spec)
        self.layout, self.success_terminal = own["object_layout"], own["success_terminal"]
        self.limit = time_limit(spec)
        with quiet():
            self.env = self._make(arguments)
        render = spec.render
        self.stack = None if render is None else self.open_cameras(render)
        self.hides_state = render is not None and not render.state
        obs = self.reset(0)
        low, high = (np.asarray(end, np.float64) for end in self.env.action_spec)
        self.info = EnvInfo(
            self.name, len(obs), low, high, self.limit, versions(), self._parts(), unused,
            images=() if render is None else render.images,
        )  # fmt: skip

    def _make(self, given: dict[str, Any]) -> Any:
        arguments = copy.deepcopy(DEFAULTS) | given
        arguments["controller_configs"] = controller_config(arguments["controller_configs"])
        robosuite = import_robosuite()
        try:
            return robosuite.make(
                self.task,
                **arguments,
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                use_object_obs=True,
                ignore_done=True,
                # The model is built once; Lift draws the size of its cube then, with this seed.
                hard_reset=False,
                seed=0,
            )
        except (ImportError, OSError, MemoryError):
            raise
        except Exception as error:  # of many kinds, some of them robosuite's own
            raise ValueError(
                f"{self.name}: env_kwargs: robosuite rejects these settings: {given} ({error!r})"
            ) from error

    def cameras(self) -> list[str]:
        """Names of the cameras that `open_cameras` can open."""
        return model_cameras(self.env.sim.model._model)

    def open_cameras(self, render: Render) -> ImageStack:
        """Views of this environment.  Raises as `MujocoCameras`."""
        sim = self.env.sim  # the model is built once, and so are its cameras
        return mujoco_stack(
            self.name, sim.model._model, lambda: sim.data._data, render, collisions=False
        )

    @property
    def steps_per_s(self) -> float:
        """Steps in a second of simulated time."""
        return float(self.env.control_freq)

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts the episode of a seed; returns its first observation, [D]."""
        # The placement samplers hold this very generator, so that its state is set in place.
        self.env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self.env.reset()
        self.steps = 0
        if self.stack is not None:
            self.stack.reset()
        # The observations that `reset` returns have zeros for the object's pose in the gripper.
        return self._vector(self.env._get_observations(force_update=True))

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, float]:
        """One step at the control frequency.  action: [A] in [-1, 1]."""
        obs, reward, _, _ = self.env.step(action)
        self.steps += 1
        if self.stack is not None:
            self.stack.step()
        succeeded = bool(self.env._check_success())
        terminated = succeeded and self.success_terminal
        truncated = not terminated and (succeeded or self.steps >= self.limit)
        return self._vector(obs), float(reward), terminated, truncated, float(succeeded)

    def set_state(self, state: NDArray[np.float64]) -> tuple[NDArray[np.float32], bool]:
        """The observation [D], and success, in a flattened MuJoCo state.

        The images are those of this state too, as if an episode had begun with it.
        Raises ValueError for a state of another length.
        """
        size = len(self.env.sim.get_state().flatten())
        if state.shape != (size,):
            raise ValueError(
                f"{self.name}: expected a state of shape ({size},), found {state.shape}"
            )
        self.env.sim.set_state_from_flattened(state)
        self.env.sim.forward()
        if self.stack is not None:
            self.stack.reset()
        # The object's pose in the gripper is computed from the pose of the update before.
        self.env._get_observations(force_update=True)
        obs = self.env._get_observations(force_update=True)
        return self._vector(obs), bool(self.env._check_success())

    def images(self) -> Frames:
        """The images of the current state."""
        return {} if self.stack is None else self.stack.images()

    def close(self) -> None:
        """Frees the environment."""
        if self.stack is not None:
            self.stack.close()
        self.env.close()

    def _vector(self, obs: Mapping[str, Any]) -> NDArray[np.float32]:
        if self.hides_state:
            return np.zeros(1, np.float32)
        return np.concatenate([self._part(obs, key) for key in self.keys]).astype(np.float32)

    def _part(self, obs: Mapping[str, Any], key: str) -> NDArray[np.float64]:
        name = "object-state" if key == "object" else key
        if name not in obs:
            known = ["object", *(k for k in obs if not k.endswith("-state"))]
            raise ValueError(
                f"{self.name}: obs_keys: no observation {key!r}; {did_you_mean(key, known)}"
            )
        part = np.asarray(obs[name], np.float64).ravel()
        return other_layout(self.task, part) if key == "object" and self.layout == OLD else part

    def _parts(self) -> tuple[tuple[str, int], ...]:
        if self.hides_state:
            return ()
        obs = self.env._get_observations()
        return tuple((key, len(self._part(obs, key))) for key in self.keys)


def split_settings(spec: EnvSpec) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """Settings of OWN, arguments of robosuite's environment, and names that are neither.

    Raises ValueError for an unknown task, an unknown setting of the user, or a wrong value of OWN.
    """
    own, known = own_settings(spec), arguments_of(task_of(spec.id))
    merged = {**spec.settings, **spec.kwargs}
    others = {k: v for k, v in merged.items() if k not in (*OWN, *EVERYWHERE)}
    unknown = sorted(set(others) - known)
    for name in unknown:
        if name in spec.kwargs:
            hint = did_you_mean(name, [*OWN, *EVERYWHERE, *sorted(known)])
            raise ValueError(f"{spec.id}: env_kwargs: no setting {name!r}; {hint}")
    return own, {k: v for k, v in others.items() if k in known}, tuple(unknown)


def own_settings(spec: EnvSpec) -> dict[str, Any]:
    """Settings of OWN, those that are not given with their defaults.

    Raises ValueError for an unknown value.
    """
    merged = {**spec.settings, **spec.kwargs}
    own = {name: merged.get(name, values[0]) for name, values in OWN.items()}
    own["object_layout"] = str(own["object_layout"])  # 1.4 may come as a number
    for name, value in own.items():
        if type(value) is not type(OWN[name][0]) or value not in OWN[name]:
            expected = " or ".join(map(repr, OWN[name]))
            raise ValueError(f"{spec.id}: {name}: expected {expected}, found {value!r}")
    return own


def arguments_of(task: str) -> set[str]:
    """Arguments of a task's class that say what it is.  Raises ValueError for an unknown task."""
    import_robosuite()
    from robosuite.environments.base import REGISTERED_ENVS

    if task not in REGISTERED_ENVS:
        known = [PREFIX + name for name in sorted(REGISTERED_ENVS)]
        raise ValueError(
            f"robosuite has no environment {task!r}; {did_you_mean(PREFIX + task, known)}"
        )
    names: set[str] = set()
    for kind in inspect.getmro(REGISTERED_ENVS[task]):
        if "__init__" in vars(kind) and kind is not object:
            names |= set(inspect.signature(vars(kind)["__init__"]).parameters)
    return names - MACHINERY - {"self", "args", "kwargs"}


def time_limit(spec: EnvSpec) -> int:
    """Steps after which an episode ends without success."""
    return spec.max_episode_steps or LIMITS.get(task_of(spec.id), DEFAULT_LIMIT)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of robosuite and of MuJoCo."""
    return {name: importlib.metadata.version(name) for name in ("robosuite", "mujoco")}


def import_robosuite() -> Any:
    """The package, imported without its notices."""
    with quiet():
        import robosuite
    return robosuite


def is_installed() -> bool:
    """Whether robosuite and what it needs can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def check_installed(env_id: str) -> None:
    """Raises ImportError with the remedy if a package is missing or of an unsuitable version."""
    if not is_installed():
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        raise ImportError(f"{env_id}: no package {', '.join(missing)}; {INSTALL}")
    for name, (first, end) in VERSIONS.items():
        version = tuple(int(n) for n in re.findall(r"\d{1,9}", versions()[name])[:2])
        if not first <= version < end:
            low, high = (".".join(map(str, bound)) for bound in (first, end))
            raise ImportError(
                f"{env_id}: expected {name} from {low} to before {high}, found "
                f"{versions()[name]}; {INSTALL}"
            )
