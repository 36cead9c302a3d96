"""Scripted experts for robosuite's Lift, PickPlaceCan and NutAssemblySquare.

They control a Panda arm by OSC_POSE deltas at 20 Hz, as in robomimic's files. An action depends on
the current low-dimensional observation alone: the poses of object and gripper, and its opening.

Success rate of 20 episodes within 400 steps, and their mean length, in robosuite 1.5.2:

| task | noise 0 | noise 0.2 |
| --- | ---: | ---: |
| Lift | 1.00, 27 | 1.00, 48 |
| PickPlaceCan | 1.00, 108 | 0.95, 151 |
| NutAssemblySquare | 0.85, 175 | 0.55, 320 |

On 20 other episodes without noise the rates are 1.00, 1.00 and 0.95; see bench/results/experts.md.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastifo.data.formats.robosuite import NEW, task_of
from fastifo.envs.experts.expert import normal_noise
from fastifo.envs.experts.scripted import (
    heading,
    inverse,
    multiply,
    nearest,
    pointing_down,
    rotate,
    rotation_vector,
)

REVISION = 1  # of the scripts; part of the names of cached datasets
OPEN, CLOSE = -1.0, 1.0  # commands of the gripper
STEP, TURN = 0.05, 0.5  # metres and radians that a command of 1 asks for
CAN_BIN = (0.19, 0.37)  # where the can is dropped, in metres
PEG = (0.23, 0.10)  # the square peg


class Scene(NamedTuple):
    """What an observation says; lengths in metres, quaternions (x, y, z, w)."""

    position: Tensor  # of the object, [B, 3]
    orientation: Tensor  # of the object, [B, 4]
    gripper: Tensor  # position, [B, 3]
    gripper_orientation: Tensor  # [B, 4]
    opening: Tensor  # distance between the fingers, [B]


class RobosuiteScript:
    """A scripted expert.  Implements `Expert`; its noise is in units of the actions."""

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any]) -> None:
        """env_kwargs: settings of the environment; `object_layout` says how to read it."""
        self.env_id = env_id
        self.layout = str(env_kwargs.get("object_layout", NEW))
        self.noise_scale = 0.0
        self.seed = torch.zeros(1, dtype=torch.int64, device="cpu")
        # The gripper has no noise: one wrong command drops the object.
        self.deviation: Tensor | None = torch.tensor([1.0] * 6 + [0.0], device="cpu")

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """Standard normal noise, [rows, A], a function of stream and step; None: deterministic."""
        return normal_noise(self, stream, step, rows)

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, 7] in [-1, 1] for observations [B, 19] (Lift) or [B, 23].

        noise: [B, 7] from `noise`; None gives the script's own action.
        """
        action = SCRIPTS[self.env_id](self.read(obs.double())).float()
        if noise is not None and self.deviation is not None:
            action = action + self.noise_scale * self.deviation * noise
        return action.clamp(-1.0, 1.0)

    def read(self, obs: Tensor) -> Scene:
        """The parts of observations [B, D]."""
        width, first = obs.shape[1] - 9, self.first_of_object(obs)
        pose, gripper = obs[:, first : first + 7], obs[:, width:]
        return Scene(
            pose[:, :3], pose[:, 3:], gripper[:, :3], gripper[:, 3:7], gripper[:, 7] - gripper[:, 8]
        )

    def first_of_object(self, obs: Tensor) -> int:
        """Entry of observations [B, D] at which the object's pose begins."""
        return 7 if self.layout == NEW and obs.shape[1] == 23 else 0

    def displaced(self, obs: Tensor, offset: Tensor) -> Tensor:
        """Observations [B, D] with the object displaced by `offset`, [B, 3], in metres."""
        obs, first = obs.clone(), self.first_of_object(obs)
        obs[:, first : first + 3] += offset
        return obs

    def identity(self) -> bytes:
        """Name and revision of the script."""
        return f"script {self.env_id} {REVISION} {self.layout}".encode()

    def provenance(self) -> dict[str, Any]:
        """Name and revision of the script."""
        return {"file": f"script {task_of(self.env_id)}", "source": f"revision {REVISION}"}


def lift(scene: Scene) -> Tensor:
    """Grasps the cube and raises it."""
    yaw = nearest(heading(scene.orientation), 0.5 * math.pi)
    approach, there = reach(scene, scene.position, yaw)
    up = torch.zeros_like(scene.position)
    up[:, 2] = (scene.opening < 0.046).double()  # the fingers hold the cube
    return torch.where(there, command(up, torch.zeros_like(up), CLOSE), approach)


def place_can(scene: Scene) -> Tensor:
    """Carries the can over its bin, lowers it and lets go."""
    yaw = torch.zeros_like(scene.opening)
    approach, there = reach(scene, scene.position, yaw, hover=0.1)
    turn = turn_to(scene, yaw)
    still = torch.zeros_like(scene.position)
    offset = scene.position.new_tensor(CAN_BIN) - scene.position[:, :2]
    distance, height = offset.norm(dim=1), scene.position[:, 2]
    # Raise the can, move it over the bin, lower it.
    above = distance < 0.03
    up = torch.where(above, 0.97, 1.06) - height
    moves = (above | (up < 0.05))[:, None]
    carry = command(torch.cat([offset / STEP * moves, up[:, None] / STEP], 1), turn, CLOSE)
    action = torch.where((scene.opening > 0.055)[:, None], command(still, still, CLOSE), carry)
    action = torch.where(there, action, approach)
    released = ((distance < 0.06) & (height < 0.99))[:, None]
    return torch.where(released, leave(scene, 0.07, 0.5), action)


def place_nut(scene: Scene) -> Tensor:
    """Grasps the square nut by its handle, turns it in line with the peg and pushes it down."""
    angle = heading(scene.orientation)
    handle = scene.position + rotate(scene.orientation, [0.054, 0.0, 0.0])
    handle[:, 2] -= 0.004
    yaw = nearest(angle, math.pi)
    approach, there = reach(scene, handle, yaw, hover=0.08, tolerance=0.008)
    near = (handle - scene.gripper).norm(dim=1, keepdim=True) < 0.03
    there = there | ((scene.opening < 0.045)[:, None] & near)
    still, height = torch.zeros_like(scene.position), scene.position[:, 2]
    # Any right angle fits the square hole, but the arm is too short for a handle beyond the peg.
    goals = angle.new_tensor([0.5 * math.pi, -0.5 * math.pi, math.pi])
    errors = nearest(angle[:, None] - goals, 2.0 * math.pi)
    error = errors.gather(1, errors.abs().argmin(1, keepdim=True))[:, 0]
    turn = 2.0 * turn_to(scene, yaw)
    turn[:, 2] = (-error / TURN).clamp(-1.0, 1.0)
    offset = scene.position.new_tensor(PEG) - scene.position[:, :2]
    distance = offset.norm(dim=1)
    # Raise the nut, move it over the peg, push it down once it is centred and turned.
    fits = (distance < 0.006) & (error.abs() < 0.06)
    down = fits | ((distance < 0.02) & (height < 0.96))
    up = torch.where(down, -0.03, 1.02 - height)
    moves = (down | (up < 0.04))[:, None]
    carry = command(torch.cat([offset / 0.02 * moves, up[:, None] / 0.03], 1), turn, CLOSE)
    grasps = ((scene.opening > 0.034) & (height < 0.84))[:, None]
    action = torch.where(grasps, command(still, still, CLOSE), carry)
    action = torch.where(there, action, approach)
    on_peg = ((distance < 0.02) & (height < 0.90))[:, None]
    return torch.where(on_peg, leave(scene, 0.06, 0.6), action)


SCRIPTS = {
    "robosuite/Lift": lift,
    "robosuite/PickPlaceCan": place_can,
    "robosuite/NutAssemblySquare": place_nut,
}


def command(move: Tensor, turn: Tensor, gripper: float) -> Tensor:
    """Actions in [-1, 1], [B, 7].  move: [B, 3].  turn: [B, 3].  gripper: OPEN or CLOSE."""
    grip = move.new_full((len(move), 1), gripper)
    return torch.cat([move, turn, grip], 1).clamp(-1.0, 1.0)


def turn_to(scene: Scene, yaw: Tensor) -> Tensor:
    """Commands that turn the gripper to point down with a heading `yaw` [B], [B, 3]."""
    error = multiply(pointing_down(yaw), inverse(scene.gripper_orientation))
    return (rotation_vector(error) / TURN).clamp(-1.0, 1.0)


def reach(
    scene: Scene, point: Tensor, yaw: Tensor, hover: float = 0.08, tolerance: float = 0.012
) -> tuple[Tensor, Tensor]:
    """Moves the open gripper above points [B, 3] and down on them: actions [B, 7].

    yaw: heading of the gripper, [B].  hover: height above the point to turn at.
    Also returns [B, 1] bool, where the gripper is there.
    """
    offset = point - scene.gripper
    turn = turn_to(scene, yaw)
    distance, below = offset[:, :2].norm(dim=1), -offset[:, 2]
    there = (distance < tolerance) & (below.abs() < tolerance)
    wide = torch.where(below > 0.04, tolerance, 2.0 * tolerance)
    aligned = (distance < wide) & (turn.norm(dim=1) < 0.25)
    target = offset.clone()
    target[:, 2] += torch.where(aligned, 0.0, hover)
    return command(2.0 * target / STEP, turn, OPEN), there[:, None]


def leave(scene: Scene, opening: float, speed: float) -> Tensor:
    """Opens the gripper, and raises it once it is as open as `opening`, in metres: [B, 7]."""
    up = torch.zeros_like(scene.position)
    up[:, 2] = torch.where(scene.opening > opening, speed, 0.0)
    return command(up, torch.zeros_like(up), OPEN)
