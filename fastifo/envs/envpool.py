"""Properties of EnvPool's environments, and checks against them."""

import ctypes
import importlib.metadata
from pathlib import Path
from typing import Any

import torch

from fastifo.envs.act import Actor
from fastifo.utils.text import did_you_mean


def check_env(env_id: str) -> None:
    """Raises ValueError with the nearest name where EnvPool has no such environment."""
    import envpool

    known = envpool.list_all_envs()
    if env_id not in known:
        raise ValueError(f"EnvPool has no environment {env_id!r}; {did_you_mean(env_id, known)}")


def check_widths(env_id: str, obs_dim: int, action_dim: int) -> None:
    """Raises ValueError unless the environment exists and has these widths."""
    import envpool

    check_env(env_id)
    spec = envpool.make_spec(env_id)
    check_spaces(env_id, spec)
    for name, width in (("observation", obs_dim), ("action", action_dim)):
        actual = int(getattr(spec, f"{name}_space").shape[0])
        if actual != width:
            raise ValueError(
                f"{env_id}: its {name}s are {actual} wide, those of the data {width}; name the "
                "environment that the data come from"
            )


def episode_limit(env_id: str) -> int:
    """Steps after which the environment's time limit ends an episode."""
    import envpool

    return int(envpool.make_spec(env_id).config.max_episode_steps)


def action_dim(env_id: str) -> int:
    """Width of the environment's action vector."""
    import envpool

    return int(envpool.make_spec(env_id).action_space.shape[0])


def check_spaces(env_id: str, spec: Any) -> None:
    """Raises ValueError unless observations and actions are vectors of real numbers.

    spec: of `envpool.make_spec(env_id)`.
    """
    for name in ("observation", "action"):
        space = getattr(spec, f"{name}_space")
        if len(space.shape or ()) != 1 or not hasattr(space, "low") or space.dtype.kind != "f":
            raise ValueError(
                f"{env_id}: expected an environment whose {name} is a vector of real numbers, "
                f"found {space}"
            )


def check_fits(policy: Actor, env_id: str, obs_dim: int, action_dim: int) -> None:
    """Raises ValueError where the policy was trained for other observation or action sizes."""
    try:
        width = policy.act_rows(torch.zeros(1, obs_dim), None).shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"{env_id}: its observations are {obs_dim} wide, which the policy does not take "
            f"({error}); name the environment that the policy was trained for"
        ) from None
    if width != action_dim:
        raise ValueError(
            f"{env_id}: expected actions {action_dim} wide, found a policy with {width}; name the "
            "environment that the policy was trained for"
        )


def versions() -> dict[str, str]:
    """Versions of EnvPool and of the MuJoCo inside it, which is not the installed `mujoco`."""
    import envpool.mujoco

    library = Path(envpool.mujoco.__file__).parent / "mujoco_gym_envpool.so"
    physics = "unknown"
    if library.exists():
        version = getattr(ctypes.CDLL(str(library)), "mj_versionString", None)
        if version is not None:
            version.restype = ctypes.c_char_p
            physics = version().decode()
    return {"envpool": importlib.metadata.version("envpool"), "mujoco_in_envpool": physics}
