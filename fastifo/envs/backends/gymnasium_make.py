"""Making Gymnasium's environments: by a registered id, "module:function", or a function."""

import contextlib
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastifo.envs.backends.quiet import quiet
from fastifo.envs.render import OWN, Render
from fastifo.envs.spec import EnvSpec
from fastifo.utils.imports import check_function, find_named
from fastifo.utils.text import did_you_mean

PREFIX = "gymnasium/"
PLUGINS = ("gymnasium_robotics",)  # packages whose environments are registered by importing them
NOT_FROM_FILES = ("render_mode", "xml_file", "model_path", "width", "height")  # settings of data
INSTALL = "pip install 'fastifo[gymnasium]'"


def make_env(spec: EnvSpec) -> tuple[Any, list[str]]:
    """The environment, and the settings of the data that it does not know.

    Raises ValueError for an unknown id or setting; TypeError if a function makes something else;
    ImportError for a package that is missing.
    """
    render, spec = spec.render, spec.without_cameras()
    settings = {k: v for k, v in spec.settings.items() if k not in NOT_FROM_FILES}
    unused = [name for name in spec.settings if name in NOT_FROM_FILES]
    make = spec.make or _maker_of(spec)
    if make is not None:
        kwargs = {k: v for k, v in spec.kwargs.items() if k != "max_episode_steps"}
        unused += [name for name in settings if name != "max_episode_steps"]
        with quiet():
            env = _call(spec.id, make, kwargs)
        return _checked_env(spec.id, env), unused
    return _make_registered(spec, settings, unused, render)


def _maker_of(spec: EnvSpec) -> Callable[..., Any] | None:
    """The function that "module:function" names; None if the id has no colon.

    Gymnasium's own "module:Id" imports the module and is then a registered id.
    """
    text = spec.id.removeprefix(PREFIX)
    if ":" not in text:
        return None
    if not spec.is_trusted:
        raise ValueError(
            f"{spec.id}: a file names this code, and fastifo does not run code named by files; "
            f"pass env={spec.id!r} (--env-id {spec.id}) if you trust it"
        )
    module, name, function = find_named(text)
    if function is None and name in registry():
        return functools.partial(_gymnasium().make, name, disable_env_checker=True)
    return check_function(text, module, name, function)


@contextlib.contextmanager
def noted(name: str, where: str) -> Iterator[None]:
    """Lets errors of an environment's own code say which environment raised them, and where."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by {name} in {where}")
        raise


def _call(name: str, make: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Calls a user's function.  Raises TypeError naming an argument that it does not take."""
    try:
        inspect.signature(make).bind(**kwargs)
    except ValueError:  # a built-in function has no signature
        pass
    except TypeError as error:
        raise TypeError(f"{name}: env_kwargs: {error}") from None
    with noted(name, "the function that makes it"):
        return make(**kwargs)


def _checked_env(name: str, env: Any) -> Any:
    """Raises TypeError unless this is one environment."""
    wanted = ("reset", "step", "observation_space", "action_space")
    missing = [attribute for attribute in wanted if not hasattr(env, attribute)]
    if isinstance(env, type) or missing or hasattr(env, "num_envs"):
        found = f"the class {env.__name__}" if isinstance(env, type) else type(env).__name__
        if hasattr(env, "num_envs") and not isinstance(env, type):
            found += ", a vector of environments"
        elif missing:
            found += f" without {', '.join(missing)}"
        raise TypeError(
            f"{name}: expected a function that makes one gymnasium.Env, found one that returns "
            f"{found}"
        )
    return env


def _make_registered(
    spec: EnvSpec, settings: dict[str, Any], unused: list[str], render: Render | None
) -> tuple[Any, list[str]]:
    """An environment by its id; settings of the data that its class does not take are not used."""
    gymnasium, name = _gymnasium(), spec.id.removeprefix(PREFIX)
    registered = registry()
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
    if render is not None and OWN in render.cameras:
        settings["render_mode"] = "rgb_array"
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


def registry() -> Mapping[str, Any]:
    """Registered environments by id; empty if Gymnasium is not installed."""
    try:
        gymnasium = _gymnasium()
        _register_plugins()
    except ImportError:
        return {}
    return gymnasium.registry  # type: ignore[no-any-return]
