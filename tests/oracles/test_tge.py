"""TGE's rewards and the reward scaling equal values worked out by hand."""

import math
from typing import Any

import pytest
import torch

from . import tge
from .problems import column


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        ([0.0, 2.0], [-0.5493, -0.6931, -0.4055]),
        ([0.5, 1.5], [-0.6609, -0.6931, -0.6286]),
        ([1.0, 1.0], [-0.6931, -0.6931, -0.6931]),
        ([2.0, 2.0], [-1.0986, -1.0986, -1.0986]),
        ([0.0], [0.0, 0.0, 0.0]),
    ],
)
def test_rewards_of_all_readings_by_hand(distance: list[float], expected: list[float]) -> None:
    row = column(distance)[None]
    rewards = [tge.rewards(row, 1.0, reading).item() for reading in ("R1", "R2", "R3")]
    assert rewards == pytest.approx(expected, abs=5e-5)
    scaled = [tge.rewards(2.5 * row, 2.5, reading).item() for reading in ("R1", "R2", "R3")]
    assert scaled == pytest.approx(rewards)


def test_gaussian_rewards() -> None:
    row = column([0.0, 2.0])[None]
    assert tge.rewards(row, 1.0, "gaussian").item() == pytest.approx((1 + math.exp(-2)) / 2)
    assert tge.rewards(row, 2.0, "gaussian").item() == pytest.approx((1 + math.exp(-0.5)) / 2)


def test_rewards_are_ordered_and_fall_in_each_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    distance = 2 * torch.rand(50, 5, dtype=torch.float64, generator=generator)
    r1, r2, r3 = (tge.rewards(distance, 1.0, reading) for reading in ("R1", "R2", "R3"))
    assert bool(((r2 <= r1) & (r1 <= r3)).all())
    for j in range(5):
        farther = distance.clone()
        farther[:, j] += 0.1
        for reading in ("R1", "R2", "R3", "gaussian"):
            fallen = tge.rewards(farther, 1.0, reading) < tge.rewards(distance, 1.0, reading)
            assert bool(fallen.all())


def test_nearest_distances_by_hand() -> None:
    reference = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    query = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    distances = tge.nearest_distances(query, reference, 2)
    expected = torch.tensor([[0.0, 1.0], [3.0, math.sqrt(10.0)]], dtype=torch.float64)
    assert torch.allclose(distances, expected)


def test_reward_scaling_by_hand() -> None:
    reward = column([-1.0, 3.0, 1.0, 0.0, 0.0])
    assert tge.min_max_scaled(reward).tolist() == pytest.approx([0, 1, 0.5, 0.25, 0.25])
    start = torch.tensor([0, 2, 3, 5])  # returns 2, 1 and 0
    scaled = tge.return_range_scaled(reward, start)
    assert scaled.tolist() == pytest.approx([-500, 1500, 500, 0, 0])
    returns = tge.episode_returns(scaled, start)
    assert (returns.max() - returns.min()).item() == pytest.approx(1000)


@pytest.mark.parametrize(
    "scale", [tge.min_max_scaled, lambda r: tge.return_range_scaled(r, torch.arange(3))]
)
def test_rewards_without_a_range_are_refused(scale: Any) -> None:
    with pytest.raises(ValueError, match="no range"):
        scale(torch.zeros(2))
