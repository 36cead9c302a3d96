"""Experts of the benchmarks: policies in files, and scripts for manipulation tasks.

| environments | expert |
| --- | --- |
| Hopper-v4, HalfCheetah-v4, Walker2d-v4, Ant-v4 | a small policy that ships with fastifo |
| robosuite/Lift, robosuite/PickPlaceCan, robosuite/NutAssemblySquare | a script |
| metaworld/CoffeeButton | a script |
| the other 49 tasks metaworld/... | a script of the package metaworld |

Any other policy in the layout of `fastifo.envs.experts.policy_file` is named by its path.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastifo.envs.backends.metaworld import PREFIX as METAWORLD
from fastifo.envs.experts.expert import Expert
from fastifo.envs.experts.metaworld import MetaworldScript
from fastifo.envs.experts.policy_file import ExpertPolicy
from fastifo.envs.experts.robosuite import SCRIPTS, RobosuiteScript

FOLDER = Path(__file__).parent
__all__ = ["FOLDER", "Expert", "ExpertPolicy", "default_noise", "load_expert"]


def load_expert(
    env_id: str,
    path: str | Path | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
) -> Expert:
    """The expert that ships for an environment, or the one in a file.

    env_id: the environment.
    path: a policy file; None: the one that ships.
    env_kwargs: settings of the environment, as in `Dataset`; scripts read its observations.
    Raises ValueError if none ships or the file is for another task; FileNotFoundError if the file
    is missing; ImportError if the script is in a package that is not installed.
    """
    if path is not None:
        expert = ExpertPolicy(Path(path))
        if expert.task not in ("", env_id.partition("-")[0]):
            raise ValueError(f"{path}: is an expert for {expert.task}, not for {env_id}")
        return expert
    if env_id in SCRIPTS:
        return RobosuiteScript(env_id, env_kwargs or {})
    if env_id.startswith(METAWORLD):
        return MetaworldScript(env_id)
    shipped = sorted(file.stem for file in FOLDER.glob("*.npz"))
    if env_id not in shipped:
        raise ValueError(
            f"no expert ships for {env_id!r} (only for {', '.join([*shipped, *SCRIPTS])} and "
            "Meta-World's tasks); name a policy file with expert=PATH"
        )
    return ExpertPolicy(FOLDER / f"{env_id}.npz")


def default_noise(env_id: str) -> float:
    """Scale of the action noise in demonstrations of an environment.

    0.5 of a policy's own exploration noise; for scripts 0.1, in units of the actions.
    """
    is_script = env_id in SCRIPTS or env_id.startswith(METAWORLD)
    return 0.1 if is_script else 0.5
