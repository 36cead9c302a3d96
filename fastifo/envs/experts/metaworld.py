"""Scripted experts for Meta-World, played in EnvPool.

CoffeeButton's script is here; the other 49 tasks use those of the package `metaworld`, an extra. An
action depends on the current observation alone.
"""

import functools
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastifo.envs.backends.metaworld import PREFIX
from fastifo.envs.backends.quiet import quiet
from fastifo.envs.experts.expert import normal_noise

INSTALL = "pip install 'fastifo[metaworld]' && pip install --no-deps metaworld==3.1.1"
REVISION = 1  # of the scripts here; part of the names of cached datasets
OTHER_NAMES = {"PegInsertSide": "PegInsertionSide"}  # of the package's classes
OBJECT = slice(4, 7)  # entries of an observation: position of the first object
ACTION_DIM = 4  # velocities of the gripper along x, y, z, and its closing force


class MetaworldScript:
    """A scripted expert.  Implements `Expert`; its noise is in units of the actions."""

    def __init__(self, env_id: str) -> None:
        """Raises ValueError if there is no script for the task; ImportError without the package."""
        self.env_id = env_id
        task = env_id.removeprefix(PREFIX)
        if task in SCRIPTS:
            self.act, self.source = SCRIPTS[task], f"fastifo, revision {REVISION}"
        else:
            self.act, self.source = _package_script(task)
        self.noise_scale = 0.0
        self.seed = torch.zeros(1, dtype=torch.int64, device="cpu")
        self.deviation: Tensor | None = torch.ones(ACTION_DIM, device="cpu")

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """Standard normal noise, [rows, 4], a function of stream and step; None: deterministic."""
        return normal_noise(self, stream, step, rows)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, 4] in [-1, 1] for observations [B, 39].

        noise: [B, 4] from `noise`; None gives the script's own action.
        """
        action = self.act(obs.double()).float().clamp(-1.0, 1.0)
        if noise is not None:
            action = (action + self.noise_scale * noise).clamp(-1.0, 1.0)
        return action

    def displaced(self, obs: Tensor, offset: Tensor) -> Tensor:
        """Observations [B, 39] with the first object displaced by `offset`, [B, 3], in metres."""
        obs = obs.clone()
        obs[:, OBJECT] += offset
        return obs

    def identity(self) -> bytes:
        """Name and version of the script."""
        return f"script {self.env_id} {self.source}".encode()

    def provenance(self) -> dict[str, Any]:
        """Name and version of the script."""
        return {"file": f"script {self.env_id.removeprefix(PREFIX)}", "source": self.source}


def coffee_button(obs: Tensor) -> Tensor:
    """Moves the gripper in line with the button and pushes it, [B, 39] -> [B, 4]."""
    gripper, button = obs[:, :3], obs[:, 4:7] - obs.new_tensor([0.0, 0.0, 0.07])
    offset = button - gripper
    in_line = offset[:, [0, 2]].norm(dim=1) < 0.02
    offset[:, 1] = torch.where(in_line, offset[:, 1] + 0.2, 0.0)
    force = obs.new_full((len(obs), 1), -1.0)
    return torch.cat([10.0 * offset, force], 1)


SCRIPTS: dict[str, Callable[[Tensor], Tensor]] = {"CoffeeButton": coffee_button}


def _package_script(task: str) -> tuple[Callable[[Tensor], Tensor], str]:
    """The package's script of a task, as a function of observations, and its version."""
    if importlib.util.find_spec("metaworld") is None:
        raise ImportError(f"the expert of {PREFIX}{task} is in the package metaworld: {INSTALL}")
    with quiet():
        import metaworld.policies
    name = f"Sawyer{OTHER_NAMES.get(task, task)}V3Policy"
    script = getattr(metaworld.policies, name, None)
    if script is None:
        raise ValueError(f"metaworld has no script for {PREFIX}{task}; pass a policy file")
    version = importlib.metadata.version("metaworld")
    return functools.partial(_act_in_numpy, script()), f"metaworld {version}"


def _act_in_numpy(script: Any, obs: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it asks for more than 1
        actions = [script.get_action(row) for row in obs.cpu().numpy()]
    return torch.from_numpy(np.stack(actions).astype(np.float64)).to(obs.device)
