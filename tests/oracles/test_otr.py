"""The OTR oracle equals values worked out by hand."""

import math

import pytest
import torch

from . import otr
from .problems import column


def test_otr_of_single_rows() -> None:
    def reward(expert: list[float]) -> float:
        obs = column([2.0, 0.0])[None]
        return otr.otr(obs, column(expert)[None], 5.0, 5.0, 0.01, 3).item()

    assert reward([7.0, 0.0]) == pytest.approx(5)
    assert reward([0.0, 3.0]) == pytest.approx(5 * math.exp(-5 * 1 / 2))
    assert reward([-1.0, 0.0]) == pytest.approx(5 * math.exp(-5 * 2 / 2))


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 3.0])
def test_otr_of_two_orthogonal_rows(epsilon: float) -> None:
    """C = [[0, 1], [1, 0]], so P_ij = exp(-C_ij / eps) / (2 + 2 exp(-1 / eps))."""
    episode = torch.eye(2, dtype=torch.float64)
    off_diagonal = 0.5 / (1 + math.exp(1 / epsilon))
    reward = otr.otr(episode, 4 * episode, 5.0, 5.0, epsilon, 100)
    expected = 5 * math.exp(-5 * (2 / 2) * off_diagonal)
    assert reward.tolist() == pytest.approx([expected, expected])


def test_otr_uses_the_episodes_length_and_standardises() -> None:
    """Three equal rows share the expert's two: every cost is 1, and P's rows sum to 1/3."""
    mean, deviation = column([1.0, 1.0]), column([2.0, 1.0])
    obs = column([3.0, 1.0]).expand(3, 2)  # standardised [1, 0]
    expert = column([1.0, 5.0]).expand(2, 2)  # standardised [0, 4]
    reward = otr.otr(obs, expert, 5.0, 5.0, 0.01, 100, mean, deviation)
    assert reward.tolist() == pytest.approx([5 * math.exp(-5 * (3 / 2) / 3)] * 3)


@pytest.mark.parametrize("iterations", [1, 2, 500])
def test_rows_have_their_mass_after_any_number_of_iterations(iterations: int) -> None:
    generator = torch.Generator().manual_seed(0)
    cost = 2 * torch.rand(7, 4, dtype=torch.float64, generator=generator)
    plan = otr.sinkhorn_plan(cost, 0.1, iterations)
    assert torch.allclose(plan.sum(dim=1), torch.full((7,), 1 / 7).double(), rtol=1e-12)
    columns = torch.full((4,), 1 / 4).double()
    assert torch.allclose(plan.sum(dim=0), columns, rtol=1e-8) == (iterations == 500)


def test_one_sinkhorn_iteration_by_hand() -> None:
    cost = torch.tensor([[0.0, 1.0], [2.0, 0.5], [0.3, 0.7]], dtype=torch.float64)
    kernel = torch.exp(-cost / 0.4)
    v = (1 / 2) / kernel.sum(dim=0)
    u = (1 / 3) / (kernel @ v)
    assert torch.allclose(otr.sinkhorn_plan(cost, 0.4, 1), u[:, None] * kernel * v)


def test_the_rewards_of_a_plan_that_has_not_converged() -> None:
    """Worked out with ott-jax 0.2.11."""
    cost = torch.tensor([[0.0, 0.2, 0.2], [0.2, 0.2, 0.5], [0.2, 0.5, 0.5]], dtype=torch.float64)
    plan = otr.sinkhorn_plan(cost, 0.01, 100)
    rewards = otr.rewards_of_plan(plan, cost, 11, 5.0, 5.0)
    assert rewards == pytest.approx([4.5681, 4.5655, 4.5611], abs=5e-5)


def test_otr_takes_the_best_demonstration() -> None:
    obs = torch.eye(2, dtype=torch.float64)
    experts = [-obs, obs, column([1.0, 0.0])[None]]
    reward = otr.otr_best(obs, experts, 5.0, 5.0, 0.01, 50)
    assert torch.equal(reward, otr.otr(obs, obs, 5.0, 5.0, 0.01, 50))
