"""`EnvSpec` names an environment; `EnvInfo` describes it before the first episode."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastifo.envs.render import SETTING, Render
from fastifo.utils.imports import name_of_function

DEFAULT_LIMIT = 10_000  # steps of an episode in an environment that states no time limit


@dataclass(frozen=True)
class EnvSpec:
    """Names an environment, with its settings."""

    id: str  # of a backend, such as "Hopper-v5"; "module:function"; or the name of `make`
    make: Callable[..., Any] | None = None  # makes one Gymnasium environment
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # of the user; unknown ones are refused
    settings: Mapping[str, Any] = field(  # stated by data, as in `Dataset.env_kwargs`; those that
        default_factory=dict  # the backend does not know are not used
    )
    obs_keys: tuple[str, ...] = ()  # of a Dict observation, in the order in which they are joined
    is_trusted: bool = False  # named by the user and not by a file; only then "module:" is imported

    @property
    def max_episode_steps(self) -> int | None:
        """The time limit that the user or else the data state; None: the environment's own."""
        limit = {**self.settings, **self.kwargs}.get("max_episode_steps")
        is_valid = isinstance(limit, int) and not isinstance(limit, bool) and 0 < limit < 2**31
        return limit if is_valid else None

    @property
    def render(self) -> Render | None:
        """The cameras that the user or else the data state.  Raises as `Render.parse`."""
        value = {**self.settings, **self.kwargs}.get(SETTING)
        return None if value is None else Render.parse(value)

    def without_cameras(self) -> "EnvSpec":
        """The same environment without images, which cost time."""
        return self.rendered(None)

    def rendered(self, render: Render | None) -> "EnvSpec":
        """The same environment with other cameras; None: without any."""
        others = [
            {name: value for name, value in values.items() if name != SETTING}
            for values in (self.kwargs, self.settings)
        ]
        if render is not None:
            others[0][SETTING] = render.to_json()
        return replace(self, kwargs=others[0], settings=others[1])


@dataclass(frozen=True)
class EnvInfo:
    """What is known about an environment before it is played."""

    name: str  # for messages and results
    obs_dim: int  # D
    action_low: NDArray[np.float64]  # [A], -inf where there is no bound
    action_high: NDArray[np.float64]  # [A]
    max_episode_steps: int  # an episode is cut by its time limit after so many steps
    versions: Mapping[str, str]  # of the packages that define its physics
    obs_parts: tuple[tuple[str, int], ...] = ()  # keys and widths of a Dict observation, in order
    unused: tuple[str, ...] = ()  # settings of the data that the backend does not know
    has_own_limit: bool = True  # False: the limit is fastifo's, `DEFAULT_LIMIT`
    images: tuple[tuple[str, int, int, int], ...] = ()  # camera, height, width, channels of each

    @property
    def action_dim(self) -> int:
        """A, the width of an action."""
        return len(self.action_low)

    @property
    def obs_text(self) -> str:
        """The width of the observation, and of its parts."""
        parts = " + ".join(f"{name} {width}" for name, width in self.obs_parts)
        return f"{self.obs_dim} wide" + (f" ({parts})" if parts else "")


def as_spec(
    env: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    obs_keys: Sequence[str] = (),
    is_trusted: bool = True,
) -> EnvSpec:
    """The spec of an environment that a user or a file names.

    env: an id, "module:function", a function or class that makes a `gymnasium.Env`, Gymnasium's
    `EnvSpec`, or an `EnvSpec` of this module.
    kwargs: given by the user.  settings: stated by data.  obs_keys: as in `Dataset`.
    is_trusted: the user named `env`; False: a file did.
    Raises TypeError for anything else.
    """
    kwargs = _checked_kwargs(kwargs)
    if isinstance(env, EnvSpec):
        return replace(
            env, kwargs={**env.kwargs, **kwargs}, settings={**(settings or {}), **env.settings},
            obs_keys=env.obs_keys or tuple(obs_keys),
        )  # fmt: skip
    shared: dict[str, Any] = {
        "settings": dict(settings or {}), "obs_keys": tuple(obs_keys), "is_trusted": is_trusted
    }  # fmt: skip
    if isinstance(env, str) and env:
        return EnvSpec(env, None, kwargs, **shared)
    if _is_gymnasium_spec(env):
        stated = dict(env.kwargs)
        if env.max_episode_steps is not None:
            stated["max_episode_steps"] = env.max_episode_steps
        known = getattr(sys.modules.get("gymnasium"), "registry", {})
        make = None if env.id in known else env.make
        return EnvSpec(env.id, make, {**stated, **kwargs}, **shared)
    if callable(env):
        return EnvSpec(name_of_function(env), env, kwargs, **shared)
    hint = ""
    if hasattr(env, "reset") and hasattr(env, "step"):
        hint = "; pass a function that makes one, such as its class"
    raise TypeError(
        "env: expected an environment's id, 'module:function', a function that makes a "
        f"gymnasium.Env, or Gymnasium's EnvSpec, found {type(env).__name__}{hint}"
    )


def _checked_kwargs(kwargs: Any) -> dict[str, Any]:
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise TypeError(f"env_kwargs: expected a dict of names and values, found {kwargs!r}")
    limit = kwargs.get("max_episode_steps", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < 2**31:
        raise ValueError(
            f"env_kwargs: max_episode_steps: expected an integer of at least 1, found {limit!r}"
        )
    result: dict[str, Any] = dict(kwargs)
    if SETTING in result:
        result[SETTING] = Render.parse(result[SETTING]).to_json()
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"env_kwargs: expected JSON values ({error}); bind others in a function that makes "
            "the environment, as with functools.partial"
        ) from None
    return result


def _is_gymnasium_spec(env: Any) -> bool:
    """Whether this is Gymnasium's `EnvSpec`, without importing Gymnasium."""
    names = ("entry_point", "max_episode_steps", "kwargs", "make")
    return isinstance(getattr(env, "id", None), str) and all(hasattr(env, name) for name in names)
