"""OTR against an oracle written from the paper."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from algos.parity import background_like_the_expert, prepared, rewards
from fastifo.algos.rewards import otr, resumable
from fastifo.algos.rewards.otr import sinkhorn
from helpers import make_learner, random_dataset, small
from oracles import otr as oracle


@pytest.mark.parametrize("standardizes", [True, False])
@pytest.mark.parametrize("divides", [True, False])
def test_rewards_equal_the_oracle(standardizes: bool, divides: bool) -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    reward = rewards(
        "otr", dataset, standardizes_cost=standardizes, divides_by_observations=divides,
        sinkhorn_epsilon=0.05, reward_slope=1.0,
    )  # fmt: skip
    background, expert = dataset.background, dataset.expert
    mean, std = background.obs_statistics()
    scale = {"mean": mean, "deviation": std} if standardizes else {}
    for episode in range(background.num_episodes):
        begin, end = (int(x) for x in background.start[episode : episode + 2])
        experts = [
            expert.obs[int(expert.start[e]) + e : int(expert.start[e + 1]) + e].double()
            for e in range(expert.num_episodes)
        ]
        expected = oracle.otr_best(
            background.obs[begin + episode : end + episode].double(),
            experts,
            5.0,
            1.0 if divides else 3.0,
            0.05,
            100,
            **scale,
        )
        torch.testing.assert_close(reward[begin:end], expected)


def test_the_plan_has_uniform_marginals() -> None:
    cost = torch.rand(7, 5, dtype=torch.float64)
    plan = sinkhorn(cost, 0.05, 2000)
    torch.testing.assert_close(plan.sum(0), torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.full((7,), 1 / 7, dtype=torch.float64))


COSTS = {
    "square": [[0.0, 0.2, 0.2], [0.2, 0.2, 0.5], [0.2, 0.5, 0.5]],
    "wide": [[0.0, 0.3, 0.9, 0.1], [0.4, 0.0, 0.2, 0.8]],
    "tall": [[0.1, 0.9], [0.5, 0.4], [0.0, 0.7], [1.2, 0.3], [0.6, 2.0]],
}


@pytest.mark.parametrize("iterations", [1, 3, 100])
@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_rows_have_their_mass_before_the_plan_converges(
    cost: list[list[float]], iterations: int
) -> None:
    matrix = torch.tensor(cost, dtype=torch.float64)
    plan = sinkhorn(matrix, 0.01, iterations)
    torch.testing.assert_close(
        plan.sum(1) * len(cost), torch.ones(len(cost), dtype=torch.float64), rtol=0, atol=1e-14
    )
    expected = oracle.sinkhorn_plan(matrix, 0.01, iterations)
    torch.testing.assert_close(plan, expected, rtol=0, atol=1e-13)


def test_the_rewards_of_the_reference_implementation() -> None:
    """Values of ott-jax 0.2.11 for a plan that has not converged after 100 iterations."""
    cost = torch.tensor(COSTS["square"], dtype=torch.float64)
    plan = sinkhorn(cost, 0.01, 100)
    assert float((plan.sum(0) * 3 - 1).abs().max()) > 1e-3  # not converged
    # Rows of length 1 with these products: obs @ expert.T is 1 - cost.
    obs = torch.eye(3, dtype=torch.float64)
    reward = otr.episode_rewards(obs, (1.0 - cost).t(), 11, otr.OTRConfig())
    expected = torch.tensor([4.5681, 4.5655, 4.5611], dtype=torch.float64)
    torch.testing.assert_close(reward, expected, rtol=0, atol=5e-5)


def test_large_costs_leave_the_plan_finite() -> None:
    cost = torch.tensor([[0.0, 2.0], [2.0, 2.0]], dtype=torch.float64)
    assert bool(torch.isfinite(sinkhorn(cost, 0.01, 100)).all())


def test_a_copy_of_the_experts_episode_has_the_highest_reward() -> None:
    reward = rewards("otr", background_like_the_expert(random_dataset()))
    assert float(reward[:7].mean()) > float(reward[7:].mean())


def test_an_epsilon_that_underflows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sinkhorn_epsilon: expected at least 0\.003"):
        make_learner("otr", sinkhorn_epsilon=1e-3)
    cost = torch.tensor([[2.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    assert bool(torch.isfinite(sinkhorn(cost, 0.003, 100)).all())


def test_only_the_first_expert_episodes_count() -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    one = dataclasses.replace(dataset, expert=dataset.expert.take([0]))
    torch.testing.assert_close(rewards("otr", dataset, expert_episodes=1), rewards("otr", one))


def counted_plans(monkeypatch: pytest.MonkeyPatch, allowed: float = math.inf) -> list[int]:
    """One entry per plan from now on; the plan after `allowed` ends the run like a kill."""
    plans: list[int] = []
    original = otr.sinkhorn

    def counted(*arguments: Any) -> torch.Tensor:
        if len(plans) == allowed:
            raise InterruptedError
        plans.append(1)
        return original(*arguments)

    monkeypatch.setattr(otr, "sinkhorn", counted)
    return plans


def test_a_stopped_run_continues_with_the_plans_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {k: v for k, v in small("otr").items() if k != "num_bins"}
    fields |= {"num_updates": 4, "progress": False}
    monkeypatch.setattr(resumable, "SAVE_S", -1.0)  # a record after every episode
    uninterrupted = fastifo.train("otr", random_dataset(), **fields)
    with monkeypatch.context() as patch:
        counted_plans(patch, allowed=7)  # in the fourth of six episodes, with two experts
        with pytest.raises(InterruptedError):
            fastifo.train("otr", random_dataset(), out=tmp_path / "run", **fields)
    with monkeypatch.context() as patch:
        plans = counted_plans(patch)
        resumed = fastifo.train("otr", random_dataset(), out=tmp_path / "run", **fields)
        assert len(plans) == 2 * 3
        longer = fields | {"num_updates": 6}
        fastifo.train("otr", random_dataset(), out=tmp_path / "run", **longer)
        assert len(plans) == 2 * 3
    runs = (resumed, uninterrupted)
    for a, b in zip(*(run.learners[0].parameters() for run in runs), strict=True):
        assert torch.equal(a, b)


def test_members_with_the_same_reward_settings_share_rewards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = counted_plans(monkeypatch)
    learner = make_learner("otr", inverse_temperature=[1.0, 2.0, 3.0])
    prepared(learner)
    assert len(plans) == 6 * 2
    learner = make_learner("otr", reward_slope=[1.0, 2.0])
    prepared(learner)
    assert len(plans) == 3 * 6 * 2
