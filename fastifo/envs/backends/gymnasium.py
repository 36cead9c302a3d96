"""Gymnasium: environments named by an id or "module:function", or made by a function.

A function may return any object with Gymnasium's attributes and methods, so your own environment
does not need the package `gymnasium`, which is an extra.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.backends.quiet import quiet
from fastifo.envs.flatten import Flattener, action_bounds
from fastifo.envs.lanes import Lanes, LaneVector, LocalLanes
from fastifo.envs.spec import DEFAULT_LIMIT, EnvInfo, EnvSpec
from fastifo.envs.vector import VectorEnv
from fastifo.envs.workers import WorkerLanes
from fastifo.utils.text import did_you_mean

PREFIX = "gymnasium/"
LANES = 64  # environments of one process: more would cost memory and save no time
PLUGINS = ("gymnasium_robotics",)  # packages whose environments are registered by importing them
NOT_FROM_FILES = ("render_mode", "xml_file", "model_path", "width", "height")  # settings of data
SUCCESS_KEYS = ("success", "is_success")  # of `info`
INSTALL = "pip install 'fastifo[gymnasium]'"


class GymnasiumBackend:
    """Environments with Gymnasium's interface; the prefix gymnasium/ may stand before an id."""

    has_async_steps = False

    def knows(self, env_id: str) -> bool:
        """Whether Gymnasium, or a package that registers with it, has the environment."""
        return env_id.removeprefix(PREFIX) in self.ids()

    def ids(self) -> list[str]:
        """All registered environments."""
        return sorted(_registry())

    def describe(self, spec: EnvSpec) -> EnvInfo:
        """Makes one environment.  Raises as `Backend.describe`."""
        env = GymnasiumEnv(spec)
        env.close()
        return env.info

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

        Raises ValueError for an unknown id or setting, or unsuitable spaces; TypeError if a
        function makes something else; ImportError for a package that is missing.
        """
        self.name = spec.id
        self.env, unused = _make(spec)
        self.flattener = Flattener(self.name, self.env.observation_space, spec.obs_keys)
        low, high = action_bounds(self.name, self.env.action_space)
        self.action_dtype = self.env.action_space.dtype
        own = getattr(getattr(self.env, "spec", None), "max_episode_steps", None)
        self.limit = spec.max_episode_steps or own or DEFAULT_LIMIT
        self.steps = 0
        self.info = EnvInfo(
            self.name, self.flattener.obs_dim, low, high, self.limit, _versions(self.env),
            self.flattener.parts, tuple(unused), spec.max_episode_steps is not None or bool(own),
        )  # fmt: skip

    def reset(self, seed: int) -> NDArray[np.float32]:
        """Starts an episode."""
        self.steps = 0
        answer = self.env.reset(seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(
                f"{self.name}: expected reset(seed=...) to return an observation and a dict, found "
                f"{_shape_of(answer)}; fastifo plays environments with Gymnasium's interface"
            )
        return self._vector(answer[0])

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float, bool, bool, float]:
        """Makes one step; the last one that the time limit allows is a timeout."""
        answer = self.env.step(action.astype(self.action_dtype))
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise TypeError(
                f"{self.name}: expected step(action) to return an observation, a reward, "
                f"terminated, truncated and a dict, found {_shape_of(answer)}; fastifo plays "
                "environments with Gymnasium's interface"
            )
        obs, reward, terminated, truncated, info = answer
        self.steps += 1
        truncated = bool(truncated) or self.steps >= self.limit
        ended = bool(terminated)
        return self._vector(obs), float(reward), ended, truncated and not ended, _success(info)

    def _vector(self, obs: Any) -> NDArray[np.float32]:
        vector = self.flattener.one(obs)
        if vector.shape != (self.info.obs_dim,):
            raise ValueError(
                f"{self.name}: expected observations of shape ({self.info.obs_dim},), as its "
                f"observation_space says, found {vector.shape}"
            )
        return vector

    def close(self) -> None:
        """Frees the environment."""
        getattr(self.env, "close", lambda: None)()


def _success(info: Any) -> float:
    """Whether a step's `info` says that the task has succeeded; nan if it says nothing."""
    if isinstance(info, Mapping):
        for key in SUCCESS_KEYS:
            if key in info:
                return 1.0 if float(np.asarray(info[key]).reshape(-1)[0]) > 0.5 else 0.0
    return np.nan


def _shape_of(answer: Any) -> str:
    if isinstance(answer, tuple):
        return f"a tuple of {len(answer)}"
    return type(answer).__name__


def _make(spec: EnvSpec) -> tuple[Any, list[str]]:
    """The environment, and the settings of the data that it does not know."""
    settings = {k: v for k, v in spec.settings.items() if k not in NOT_FROM_FILES}
    unused = [name for name in spec.settings if name in NOT_FROM_FILES]
    make = spec.make or _maker_of(spec)
    if make is not None:
        kwargs = {k: v for k, v in spec.kwargs.items() if k != "max_episode_steps"}
        unused += [name for name in settings if name != "max_episode_steps"]
        with quiet():
            env = _call(spec.id, make, kwargs)
        return _checked_env(spec.id, env), unused
    return _make_registered(spec, settings, unused)


def _maker_of(spec: EnvSpec) -> Callable[..., Any] | None:
    """The function that "module:function" names; None if the id has no colon.

    Gymnasium's own "module:Id" imports the module and is then a registered id.
    """
    module_name, colon, name = spec.id.removeprefix(PREFIX).partition(":")
    if not colon:
        return None
    if not spec.is_trusted:
        raise ValueError(
            f"{spec.id}: a file names this code, and fastifo does not run code named by files; "
            f"pass env={spec.id!r} (--env-id {spec.id}) if you trust it"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"{spec.id}: expected a module and a function, found no module {module_name!r} "
            f"({error}); is its folder on PYTHONPATH?"
        ) from None
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if function is None and name in _registry():
        return functools.partial(_gymnasium().make, name, disable_env_checker=True)
    if not callable(function):
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise ValueError(
            f"{spec.id}: {module_name} has no function {name!r}; {did_you_mean(name, known)}"
        )
    return function  # type: ignore[no-any-return]


def _call(name: str, make: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Calls a user's function.  Raises TypeError naming an argument that it does not take."""
    try:
        inspect.signature(make).bind(**kwargs)
    except ValueError:  # a built-in function has no signature
        pass
    except TypeError as error:
        raise TypeError(f"{name}: env_kwargs: {error}") from None
    return make(**kwargs)


def _checked_env(name: str, env: Any) -> Any:
    """Raises TypeError unless this is one environment."""
    wanted = ("reset", "step", "observation_space", "action_space")
    missing = [attribute for attribute in wanted if not hasattr(env, attribute)]
    if isinstance(env, type) or missing or hasattr(env, "num_envs"):
        found = f"the class {env.__name__}" if isinstance(env, type) else type(env).__name__
        if hasattr(env, "num_envs") and not isinstance(env, type):
            found += ", a vector of environments"
        raise TypeError(
            f"{name}: expected a function that makes one gymnasium.Env, found one that returns "
            f"{found}"
        )
    return env


def _make_registered(
    spec: EnvSpec, settings: dict[str, Any], unused: list[str]
) -> tuple[Any, list[str]]:
    """An environment by its id; settings of the data that its class does not take are not used."""
    gymnasium, name = _gymnasium(), spec.id.removeprefix(PREFIX)
    registered = _registry()
    if name not in registered:
        raise ValueError(f"Gymnasium has no environment {name!r}; {did_you_mean(name, registered)}")
    taken = _arguments_of(registered[name])
    kwargs = dict(spec.kwargs)
    if taken is not None:
        if unknown := sorted(set(kwargs) - taken - {"max_episode_steps"}):
            raise ValueError(
                f"{name}: env_kwargs: no setting {unknown[0]!r}; {did_you_mean(unknown[0], taken)}"
            )
        unused += [k for k in settings if k not in taken and k != "max_episode_steps"]
        settings = {k: v for k, v in settings.items() if k not in unused}
    if spec.max_episode_steps is not None:
        settings["max_episode_steps"] = spec.max_episode_steps
    try:
        with quiet():
            env = gymnasium.make(name, disable_env_checker=True, **{**settings, **kwargs})
    except gymnasium.error.DependencyNotInstalled as error:
        if "mujoco_py" in str(error):
            raise ValueError(
                f"{name}: needs mujoco_py, which is no longer maintained; use {name[:-1]}4 or "
                f"{name[:-1]}5 instead"
            ) from None
        raise ImportError(f"{name}: {error}; {INSTALL}") from None
    except (gymnasium.error.Error, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: Gymnasium could not create it: {error}") from error
    return _checked_env(name, env), unused


def _arguments_of(registered: Any) -> set[str] | None:
    """Names that an environment's constructor takes; None if it takes any."""
    entry = registered.entry_point
    try:
        with quiet():
            if isinstance(entry, str):
                module, _, name = entry.partition(":")
                entry = getattr(importlib.import_module(module), name)
        found: set[str] = set()
        for kind in inspect.getmro(entry) if isinstance(entry, type) else (entry,):
            function = kind.__dict__.get("__init__") if isinstance(kind, type) else kind
            if function is None:
                continue
            parameters = inspect.signature(function).parameters.values()
            found |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return found - {"self"}
    except (ImportError, AttributeError, ValueError, TypeError):
        return None
    return None


def _gymnasium() -> Any:
    """The package.  Raises ImportError with the remedy."""
    try:
        with quiet():
            return importlib.import_module("gymnasium")
    except ImportError as error:
        raise ImportError(f"{error}; {INSTALL}") from None


@functools.cache
def _register_plugins() -> None:
    for name in PLUGINS:
        if importlib.util.find_spec(name) is not None:
            with quiet():
                _gymnasium().register_envs(importlib.import_module(name))


def _registry() -> Mapping[str, Any]:
    """Registered environments by id; empty if Gymnasium is not installed."""
    try:
        gymnasium = _gymnasium()
        _register_plugins()
    except ImportError:
        return {}
    return gymnasium.registry  # type: ignore[no-any-return]


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
