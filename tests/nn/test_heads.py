"""Deterministic and Gaussian policy heads: losses, gradients, samples."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from fastifo.nn.heads import DeterministicPolicy, GaussianPolicy, NormalPolicy
from fastifo.nn.mlp import MLP, Init
from oracles.iql import log_density

DOUBLE = torch.float64
HEADS: dict[str, tuple[Callable[[MLP], DeterministicPolicy | GaussianPolicy], int]] = {
    "deterministic": (DeterministicPolicy, 1),
    "deterministic, summed": (partial(DeterministicPolicy, sums_error=True), 1),
    "gaussian": (GaussianPolicy, 2),
}


def make(kind: str, gain: float = 1.0) -> DeterministicPolicy | GaussianPolicy:
    policy, numbers = HEADS[kind]
    body = MLP(Init([0, 1], "policy", "fan_in_uniform", DOUBLE), [4, 8, 3 * numbers], "tanh")
    with torch.no_grad():
        body.layers[-1].get_parameter("weight").mul_(gain)
    return policy(body)


def batch(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, actions of which some are -1 or 1, and weights."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, rows, 4, generator=g, dtype=DOUBLE)
    action = (3 * torch.rand(2, rows, 3, generator=g, dtype=DOUBLE) - 1.5).clamp(-1, 1)
    return x, action, torch.rand(2, rows, generator=g, dtype=DOUBLE)


@pytest.mark.parametrize("log_std", [-25.0, -1.0, 1.9, 2.5])
def test_a_normal_policy_limits_its_deviation(log_std: float) -> None:
    body = MLP(Init([0], "policy", "fan_in_uniform", DOUBLE), [4, 8, 3], "tanh")
    policy = NormalPolicy(body)
    with torch.no_grad():
        policy.log_std.fill_(log_std)
    x, action, weight = (column[:1] for column in batch())
    outputs = policy.outputs(x).detach()
    loss, gradient = policy.loss(outputs, action, weight)
    raw = outputs[0].clone().requires_grad_()
    mean, free = raw.chunk(2, -1)
    density = log_density(mean.tanh(), free, action[0])
    expected = (weight[0] * -density).mean()
    torch.testing.assert_close(loss[0], expected.detach())
    torch.testing.assert_close(gradient[0], torch.autograd.grad(expected, raw)[0])
    assert bool((gradient[0, :, 3:] == 0.0).all()) is not (-20.0 <= log_std <= 2.0)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_is_that_of_the_loss(kind: str, weighted: bool) -> None:
    policy = make(kind)
    x, action, weight = batch()
    given = weight if weighted else None
    outputs = policy.outputs(x).detach()

    def loss(raw: torch.Tensor) -> torch.Tensor:
        return policy.loss(raw, action, given)[0].sum()

    _, gradient = policy.loss(outputs, action, given)
    step = 1e-6
    for index in [(0, 0, 0), (1, 5, 2), (0, 3, 1), (1, 2, outputs.shape[-1] - 1)]:
        bump = torch.zeros_like(outputs)
        bump[index] = step
        slope = (loss(outputs + bump) - loss(outputs - bump)) / (2 * step)
        assert float(gradient[index]) == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


def test_the_density_integrates_to_one() -> None:
    policy = make("gaussian")
    assert isinstance(policy, GaussianPolicy)
    outputs = policy.outputs(batch(1)[0])[:1].expand(1, 20_000, -1)[..., [0, 3]]
    pre_tanh = torch.linspace(-12, 12, 20_000, dtype=DOUBLE).view(1, -1, 1)
    density = policy.log_prob(outputs, pre_tanh)[0].exp().detach()
    total = torch.trapezoid(density, pre_tanh[0, :, 0].tanh())
    assert float(total) == pytest.approx(1.0, abs=1e-3)  # EDGE is 1e-6


def test_draws_have_the_mean_and_deviation_of_the_outputs() -> None:
    policy = make("gaussian", gain=3.0)
    assert isinstance(policy, GaussianPolicy)
    g = torch.Generator().manual_seed(3)
    uniform = torch.rand(2, 2, 40_000, 3, generator=g, dtype=DOUBLE)
    outputs = policy.outputs(batch(1)[0]).expand(2, 40_000, -1)
    drawn = policy.draw(outputs, *uniform)
    mean, log_std = outputs[:, 0].chunk(2, -1)
    torch.testing.assert_close(drawn.mean(1), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(1).log(), log_std.clamp(-5, 2), rtol=0, atol=0.02)
    assert bool(policy.draw(outputs, uniform[0] * 0, uniform[1]).isfinite().all())


@pytest.mark.parametrize("kind", HEADS)
def test_actions_lie_between_minus_one_and_one(kind: str) -> None:
    policy = make(kind, gain=1e3)
    x, *_ = batch(50)
    uniform = torch.rand(2, 2, 50, 3, dtype=DOUBLE)
    for action in (policy.mode(x), policy.sample(x, *uniform)):
        assert action.shape == (2, 50, 3)
        assert float(action.detach().abs().max()) <= 1.0


def test_the_loss_of_a_deterministic_policy_is_the_squared_error() -> None:
    policy = make("deterministic")
    x, action, weight = batch()
    loss, _ = policy.loss(policy.outputs(x), action, weight)
    squared = (policy.mode(x) - action).square()
    torch.testing.assert_close(loss, (weight * squared.mean(-1)).mean(1))
    summed, _ = make("deterministic, summed").loss(policy.outputs(x), action, weight)
    torch.testing.assert_close(summed, (weight * squared.sum(-1)).mean(1))
