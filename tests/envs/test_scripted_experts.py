"""Scripted experts: their geometry, and what they do in scenes set by hand."""

import math

import pytest
import torch
from torch import Tensor

from fastifo.envs.experts import load_expert
from fastifo.envs.experts.scripted import (
    heading,
    inverse,
    multiply,
    nearest,
    pointing_down,
    rotate,
    rotation_vector,
)

TASKS = {"Lift": 19, "PickPlaceCan": 23, "NutAssemblySquare": 23}
DOWN = [1.0, 0.0, 0.0, 0.0]  # orientation of a gripper that points down with heading 0


def about(axis: list[float], angle: float) -> Tensor:
    """The quaternion of a rotation about a unit axis."""
    half = torch.tensor(0.5 * angle, dtype=torch.float64)
    return torch.cat([torch.tensor(axis, dtype=torch.float64) * half.sin(), half.cos()[None]])


def scene(
    task: str,
    position: list[float],
    gripper: list[float],
    *,
    opening: float = 0.08,
    orientation: Tensor | None = None,
    layout: str = "1.5",
) -> Tensor:
    """An observation [1, D] of an object and a gripper that points down."""
    upright = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    pose = (
        torch.tensor(position, dtype=torch.float64),
        upright if orientation is None else orientation,
    )
    relative = torch.full((TASKS[task] - 16,), 9.0, dtype=torch.float64)
    absolute_first = task == "Lift" or layout == "1.4"
    parts = [*pose, relative] if absolute_first else [relative, *pose]
    hand = torch.tensor([*gripper, *DOWN, 0.5 * opening, -0.5 * opening], dtype=torch.float64)
    return torch.cat([*parts, hand])[None]


def act(task: str, obs: Tensor, layout: str = "1.5") -> list[float]:
    expert = load_expert(f"robosuite/{task}", env_kwargs={"object_layout": layout})
    return [float(value) for value in expert.act_rows(obs, None)[0]]


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, 3.0, math.pi])
@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0.6, 0, -0.8]])
def test_a_rotation_vector_is_axis_times_angle(axis: list[float], angle: float) -> None:
    quaternion = about(axis, angle)
    expected = torch.tensor(axis, dtype=torch.float64) * angle
    for sign in (1.0, -1.0):  # both quaternions are the same rotation
        vector = rotation_vector(sign * quaternion[None])[0]
        if angle == math.pi:  # either direction of the axis is right
            vector = vector * (vector @ expected).sign()
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-12)


def test_products_of_quaternions_rotate_one_after_the_other() -> None:
    quarter_z, quarter_x = about([0, 0, 1.0], 0.5 * math.pi), about([1.0, 0, 0], 0.5 * math.pi)
    product = multiply(quarter_z[None], quarter_x[None])
    # y goes to z about x, and z stays about z; x goes to y about z.
    torch.testing.assert_close(
        rotate(product, [0.0, 1.0, 0.0])[0], torch.tensor([0.0, 0, 1]).double(), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        rotate(product, [1.0, 0.0, 0.0])[0], torch.tensor([0.0, 1, 0]).double(), atol=1e-12, rtol=0
    )
    identity = multiply(product, inverse(product))[0]
    torch.testing.assert_close(identity, torch.tensor([0.0, 0, 0, 1]).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0, 3.1])
def test_a_gripper_that_points_down_keeps_its_heading(yaw: float) -> None:
    quaternion = pointing_down(torch.tensor([yaw], dtype=torch.float64))
    assert float(heading(quaternion)) == pytest.approx(yaw)
    down = rotate(quaternion, [0.0, 0.0, 1.0])[0]
    torch.testing.assert_close(down, torch.tensor([0.0, 0, -1]).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("angle", "period", "expected"),
    [
        (3.0, math.pi, 3.0 - math.pi),
        (-0.2, math.pi, -0.2),
        (1.6, 0.5 * math.pi, 1.6 - 0.5 * math.pi),
    ],
)
def test_the_nearest_equivalent_angle(angle: float, period: float, expected: float) -> None:
    assert float(nearest(torch.tensor(angle), period)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", ["1.4", "1.5"])
def test_it_moves_above_the_object_with_an_open_gripper(task: str, layout: str) -> None:
    obs = scene(task, [0.1, 0.0, 0.82], [-0.2, 0.1, 0.90], layout=layout)
    action = act(task, obs, layout)
    assert action[0] == 1.0  # forwards, as fast as it can
    assert action[1] == -1.0
    assert action[6] == -1.0


@pytest.mark.parametrize("task", TASKS)
def test_it_closes_the_gripper_at_the_object(task: str) -> None:
    grip = [0.154, 0.0, 0.826] if task == "NutAssemblySquare" else [0.1, 0.0, 0.83]
    assert act(task, scene(task, [0.1, 0.0, 0.83], grip))[6] == 1.0


def test_it_raises_a_cube_that_it_holds() -> None:
    there = [0.1, 0.0, 0.83]
    assert act("Lift", scene("Lift", there, there, opening=0.042)) == [0, 0, 1, 0, 0, 0, 1]
    assert act("Lift", scene("Lift", there, there, opening=0.06)) == [0, 0, 0, 0, 0, 0, 1]


def test_it_lets_the_can_fall_into_its_bin_and_leaves() -> None:
    over = [0.19, 0.37, 0.97]
    assert act("PickPlaceCan", scene("PickPlaceCan", over, over, opening=0.05))[2:] == [
        0, 0, 0, 0, -1,
    ]  # fmt: skip
    assert act("PickPlaceCan", scene("PickPlaceCan", over, over, opening=0.075))[2] == 0.5
    high = [0.19, 0.37, 1.05]
    lowers = act("PickPlaceCan", scene("PickPlaceCan", high, high, opening=0.05))
    assert lowers[2] < 0
    assert lowers[6] == 1.0


def test_it_turns_the_nut_in_line_with_the_peg_before_pushing_down() -> None:
    task, above = "NutAssemblySquare", [0.23, 0.10, 1.02]
    aligned, oblique = about([0, 0, 1.0], -0.5 * math.pi), about([0, 0, 1.0], -0.5 * math.pi + 0.2)
    for quaternion, turn, down in ((aligned, 0.0, -1.0), (oblique, -0.4, 0.0)):
        handle = torch.tensor(above).double() + rotate(quaternion[None], [0.054, 0, 0])[0]
        obs = scene(task, above, handle.tolist(), opening=0.02, orientation=quaternion)
        action = act(task, obs)
        assert action[5] == pytest.approx(turn)
        assert action[2] == pytest.approx(down)
        assert action[6] == 1.0


@pytest.mark.parametrize("task", TASKS)
def test_actions_of_a_row_do_not_depend_on_the_other_rows(task: str) -> None:
    obs = torch.randn(7, TASKS[task], generator=torch.Generator().manual_seed(0))
    expert = load_expert(f"robosuite/{task}")
    together = expert.act_rows(obs, None)
    assert together.dtype == torch.float32
    alone = torch.cat([expert.act_rows(row[None], None) for row in obs])
    assert torch.equal(together, alone)


def test_noise_moves_the_arm_and_not_the_gripper() -> None:
    expert = load_expert("robosuite/Lift")
    assert expert.noise(7, 0, 4) is None
    expert.noise_scale = 0.2
    noise = expert.noise(7, 0, 1000)
    assert noise is not None
    obs = scene("Lift", [0.1, 0.0, 0.83], [0.1, 0.0, 0.83], opening=0.06).repeat(1000, 1)
    action = expert.act_rows(obs, noise)
    assert bool((action[:, 6] == 1.0).all())
    # 1000 draws: the deviation's standard error is 0.0045.
    torch.testing.assert_close(action[:, :6].std(0), torch.full((6,), 0.2), rtol=0, atol=0.02)


def test_no_expert_for_another_task_of_robosuite() -> None:
    with pytest.raises(ValueError, match=r"no expert ships for 'robosuite/Door'.*robosuite/Lift"):
        load_expert("robosuite/Door")
