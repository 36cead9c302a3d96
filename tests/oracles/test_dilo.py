"""The DILO oracle equals values worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from . import bc, dilo, parts
from .problems import (
    column,
    make_config,
    net_close,
    random_batches,
    random_layers,
)


def dilo_config(**changed: Any) -> dict[str, Any]:
    config = make_config(gamma=0.9) | {
        "orthogonal": False,
        "beta": 0.5,
        "residual_share": 0.8,
        "inverse_temperature": 0.1,
        "policy_learning_rate": 3e-4,
        "policy_decay_updates": 0,
        "polyak": 0.005,
        "backward_share": 0.5,
    }
    return config | changed


def dilo_problem(count: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    generator = torch.Generator().manual_seed(7)
    nets: dict[str, Any] = {"policy": random_layers([3, 8, 6], generator)}
    nets |= {name: random_layers([6, 5, 1], generator) for name in ("value", "value2")}
    batches = random_batches(count)
    for batch, other in zip(batches, random_batches(count, seed=8), strict=True):
        for part in ("background", "expert"):
            batch[part]["after_obs"] = other[part]["obs"]
    return nets, batches


def test_conjugate_values_and_slopes() -> None:
    y = column([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]).requires_grad_()
    values = dilo.conjugate(y)
    assert values.tolist() == [-1.0, -1.0, -0.75, 0.0, 1.25, 3.0]
    torch.autograd.backward(values.sum())
    assert y.grad is not None
    assert y.grad.tolist() == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]


def test_constant_value_has_a_constant_residual() -> None:
    config = dilo_config(beta=0.3)
    nets, batches = dilo_problem()
    zero = torch.zeros(6, 1, dtype=torch.float64)
    constant = nets | {"value": [(zero, column([7.0]))]}
    _, history = dilo.run(constant, batches, config)
    y = -0.7
    residual = y + y * y / 4 - 0.7 * y
    assert history[0]["value_loss"] == pytest.approx(0.8 * residual + 0.2 * 7, rel=1e-12)
    assert history[0]["weight_mean"] == pytest.approx(math.exp(0.7), rel=1e-12)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_zero_inverse_temperature_is_cloning(orthogonal: bool) -> None:
    config = dilo_config(inverse_temperature=0.0, orthogonal=orthogonal, learning_rate=0.01)
    nets, batches = dilo_problem(3)
    after, history = dilo.run(nets, batches, config | {"policy_learning_rate": 0.002})
    cloned, losses = bc.run(nets, batches, config | {"learning_rate": 0.002})
    assert net_close(after["policy"], cloned["policy"], tolerance=1e-10)
    assert [h["policy_loss"] for h in history] == pytest.approx([h["policy_loss"] for h in losses])


def gradient_by_differences(loss: Any, net: parts.MLP) -> list[Tensor]:
    gradients = []
    for parameter in net.parameters():
        gradient = torch.zeros_like(parameter)
        for i in range(parameter.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter.view(-1)[i] += step
                    ends.append(loss().item())
                    parameter.view(-1)[i] -= step
            gradient.view(-1)[i] = (ends[0] - ends[1]) / 2e-6
        gradients.append(gradient)
    return gradients


def test_true_gradient_detaches_nothing() -> None:
    config = dilo_config(beta=0.3)
    nets, batches = dilo_problem()
    value = parts.MLP(nets["value"], config)
    torch.autograd.backward(dilo.true_loss(value, batches[0], config))
    expected = gradient_by_differences(lambda: dilo.true_loss(value, batches[0], config), value)
    for parameter, gradient in zip(value.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, rtol=1e-6, atol=1e-8)


def orthogonal_parts(config: dict[str, Any]) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The applied gradients, and the forward, backward and linear ones by finite differences.

    Values that a loss holds constant come from copies of the heads.
    """
    nets, batches = dilo_problem()
    heads, targets = ([parts.MLP(nets[n], config) for n in ("value", "value2")] for _ in range(2))
    targets = [parts.frozen_copy(t) for t in targets]
    dilo.orthogonal_backward(heads, targets, batches[0], config)
    applied = [p.grad for head in heads for p in head.parameters()]
    low = dilo.smallest(targets)
    gradients: list[list[Tensor]] = [[], [], []]
    for head in heads:
        losses = [
            lambda v=head.pair_scalar: dilo.residual_loss(batches[0], v, low, config) / 2,
            lambda v=head.pair_scalar: dilo.residual_loss(batches[0], low, v, config) / 2,
            lambda v=head.pair_scalar: dilo.linear_loss(batches[0], v, config) / 2,
        ]
        for store, loss in zip(gradients, losses, strict=True):
            store.extend(gradient_by_differences(loss, head))
    return [a for a in applied if a is not None], gradients


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def test_projection_leaves_the_backward_gradient_orthogonal() -> None:
    applied, gradients = orthogonal_parts(dilo_config(backward_share=0.5))
    forward, backward, linear = (flat(g) for g in gradients)
    projected = flat(applied) - linear - forward  # eta g_b - kappa g_f
    assert (projected @ forward).item() == pytest.approx(0.0, abs=1e-7)
    kappa = 0.5 * (backward @ forward) / (forward @ forward)
    assert kappa.abs() > 1e-3
    assert torch.allclose(projected, 0.5 * backward - kappa * forward, rtol=1e-6, atol=1e-7)


def test_without_backward_share_it_is_the_semi_gradient() -> None:
    applied, (forward, _, linear) = orthogonal_parts(dilo_config(backward_share=0.0))
    assert torch.allclose(flat(applied), flat(forward) + flat(linear), rtol=1e-6, atol=1e-8)


def test_overlap_of_a_vanishing_forward_gradient_is_finite() -> None:
    kappa = dilo.overlap([column([1e-8, 0.0])], [column([1.0, 5.0])])
    assert kappa.item() == pytest.approx(1e-8 / 1e-10, rel=1e-12)


def test_targets_follow_by_polyak_and_heads_share_the_loss() -> None:
    config = dilo_config(orthogonal=True, polyak=0.25, learning_rate=0.05)
    nets, batches = dilo_problem(2)
    once, _ = dilo.run(nets, batches[:1], config)
    _, history = dilo.run(nets, batches, config)
    heads = [parts.MLP(once[n], config) for n in ("value", "value2")]
    targets = []
    for name in ("value", "value2"):
        pairs = zip(nets[name], once[name], strict=True)
        mixed = [tuple(0.75 * a + 0.25 * b for a, b in zip(*p, strict=True)) for p in pairs]
        targets.append(parts.MLP([(m[0], m[1]) for m in mixed], config))
    batch, expected = batches[1], 0.0
    for head in heads:
        y = {}
        for part in ("background", "expert"):
            rows = batch[part]
            later = [t.pair_scalar(rows["next_obs"], rows["after_obs"]) for t in targets]
            now = head.pair_scalar(rows["obs"], rows["next_obs"])
            y[part] = 0.9 * torch.minimum(later[0], later[1]) - now
        f = {part: torch.where(x >= -2, x + x**2 / 4, -1.0).mean() for part, x in y.items()}
        residual = 0.5 * f["expert"] + 0.5 * f["background"] - 0.5 * y["background"].mean()
        rows = batch["background"]
        linear = head.pair_scalar(rows["obs"], rows["next_obs"]).mean()
        expected += 0.5 * (0.8 * residual + 0.2 * linear).item()
    assert history[1]["value_loss"] == pytest.approx(expected, rel=1e-10)


def test_weight_is_of_the_smaller_head_and_capped() -> None:
    config = dilo_config(
        orthogonal=True, max_weight=2.0, inverse_temperature=0.5, learning_rate=1e-14
    )
    nets, batches = dilo_problem()
    zero = torch.zeros(6, 1, dtype=torch.float64)
    for other, weight in ((1.0, math.exp(0.5)), (9.0, 2.0)):
        heads = {"value": [(zero, column([3.0]))], "value2": [(zero, column([other]))]}
        _, history = dilo.run(nets | heads, batches, config)
        assert history[0]["weight_mean"] == pytest.approx(weight, rel=1e-12)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_only_the_authors_weight_is_of_the_value_after_its_step(orthogonal: bool) -> None:
    config = dilo_config(orthogonal=orthogonal, learning_rate=0.1, inverse_temperature=1.0)
    nets, (batch,) = dilo_problem()
    after, history = dilo.run(nets, [batch], config)
    names = ("value", "value2") if orthogonal else ("value",)
    used = after if orthogonal else nets
    values = [parts.MLP(used[name], config) for name in names]
    expected = dilo.policy_weight(values, batch["background"], config).mean().item()
    assert history[0]["weight_mean"] == pytest.approx(expected, rel=1e-12)


def test_policy_rate_falls_on_half_a_cosine() -> None:
    config = dilo_config(policy_learning_rate=0.4, policy_decay_updates=4)
    rates = [dilo.policy_rate(t, config) for t in (0, 1, 2, 4, 9)]
    expected = [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.0, 0.0]
    assert rates == pytest.approx(expected, abs=1e-15)
    nets, batches = dilo_problem(3)
    short = config | {"policy_decay_updates": 1}
    after, _ = dilo.run(nets, batches, short)
    once, _ = dilo.run(nets, batches[:1], short)
    assert net_close(after["policy"], once["policy"], tolerance=0.0)
    assert not net_close(once["policy"], nets["policy"])
