"""Properties of EnvPool's environments, and checks against them."""

import ctypes
import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastifo.envs.act import Actor
from fastifo.utils.interrupt import checked_interrupt
from fastifo.utils.text import did_you_mean


def check_env(env_id: str) -> None:
    """Raises ValueError with the nearest name where EnvPool has no such environment."""
    with checked_interrupt("while EnvPool was loading"):  # it drops Ctrl-C
        import envpool

        known = envpool.list_all_envs()
    if env_id not in known:
        raise ValueError(f"EnvPool has no environment {env_id!r}; {did_you_mean(env_id, known)}")


def check_widths(
    env_id: str, obs_dim: int, action_dim: int, env_kwargs: Mapping[str, Any] | None = None
) -> None:
    """Raises ValueError unless the environment exists and has these widths.

    env_kwargs: its settings, as in `Dataset`.
    """
    import envpool

    check_env(env_id)
    spec = envpool.make_spec(env_id, **split_settings(env_id, env_kwargs or {})[0])
    check_spaces(env_id, spec)
    for name, width in (("observation", obs_dim), ("action", action_dim)):
        actual = int(getattr(spec, f"{name}_space").shape[0])
        if actual != width:
            raise ValueError(
                f"{env_id}: its {name}s are {actual} wide, those of the data {width}; name the "
                "environment that the data come from"
            )


# Fields of EnvPool's config that say how environments are run, not what they are.
MACHINERY = {
    "num_envs", "batch_size", "num_threads", "max_num_players", "thread_affinity_offset",
    "base_path", "seed", "env_seed", "gym_reset_return_info", "xml_file", "frame_stack",
    "gymnasium_v5_render_camera",
}  # fmt: skip


def split_settings(
    env_id: str, env_kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that EnvPool knows, in its terms, and those that it does not.

    env_kwargs: as in `Dataset`, arguments of Gymnasium's environment. Ranges such as
    healthy_z_range become healthy_z_min and healthy_z_max. A setting that equals EnvPool's own
    counts as known; one of another type as unknown.
    """
    import envpool

    config = envpool.make_spec(env_id).config._asdict()
    known: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in env_kwargs.items():
        if name in config and config[name] == value:
            continue  # EnvPool's default
        parts = {name: value}
        if name.endswith("_range") and isinstance(value, list | tuple) and len(value) == 2:
            ends = (name.replace("_range", "_min"), name.replace("_range", "_max"))
            parts = dict(zip(ends, value, strict=True))
            if ends[1] not in config and value[1] == math.inf:
                del parts[ends[1]]
        converted = {k: _as_type_of(config.get(k), v) for k, v in parts.items()}
        if MACHINERY & parts.keys() or any(v is None for v in converted.values()):
            unknown[name] = value
        else:
            known |= converted
    return known, unknown


def unknown_settings(env_id: str, env_kwargs: Mapping[str, Any]) -> list[str]:
    """Names of the settings that EnvPool does not know, or all where it lacks the environment."""
    import envpool

    if env_id not in envpool.list_all_envs():
        return list(env_kwargs)
    return list(split_settings(env_id, env_kwargs)[1])


def _as_type_of(default: Any, value: Any) -> Any:
    """The value in the type of EnvPool's default; None where that is not possible."""
    if isinstance(default, bool) or isinstance(value, bool):
        return value if isinstance(default, bool) and isinstance(value, bool) else None
    if isinstance(default, float) and isinstance(value, int | float):
        return float(value)
    if isinstance(default, int) and isinstance(value, int):
        return value if 0 < value < 2**31 else None
    if isinstance(default, str) and isinstance(value, str):
        return value
    return None


def episode_limit(env_id: str, settings: Mapping[str, Any] | None = None) -> int:
    """Steps after which the environment's time limit ends an episode.

    settings: of the environment, in EnvPool's terms.
    """
    import envpool

    return int(envpool.make_spec(env_id, **settings or {}).config.max_episode_steps)


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
        obs = torch.zeros(1, obs_dim, dtype=torch.float32, device="cpu")
        width = policy.act_rows(obs, None).shape[1]
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
