"""The ReBRAC oracle equals values worked out by hand."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from . import iql, parts, rebrac
from .offline_problems import Net, constant, random_batches, random_nets, zero_rows
from .problems import column, net_close


def rebrac_config(**changed: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "gamma": 0.99,
        "policy_penalty": 0.01,
        "critic_penalty": 0.1,
        "policy_noise": 0.2,
        "noise_clip": 0.5,
        "polyak": 0.005,
        "learning_rate": 0.1,
        "normalizes_q": True,
        "critic_layer_norm": True,
    }
    assert set(changed) <= set(config)
    return config | changed


def critics_of(nets: dict[str, Net], config: dict[str, Any]) -> list[rebrac.Critic]:
    filled = iql.with_defaults(config)
    return [rebrac.Critic(nets[name], None, filled) for name in ("critic", "twin")]


def test_actor_loss_is_td3bc_over_25() -> None:
    """beta1 = 1 / (2.5 d_a): TD3+BC averages the squared error over dimensions."""
    config = rebrac_config(
        policy_penalty=1 / (2.5 * 2), critic_penalty=0.0, critic_layer_norm=False
    )
    nets, batch = random_nets(), random_batches(1, 4)[0]
    policy = parts.MLP(nets["policy"], iql.with_defaults(config))
    critics, rows = critics_of(nets, config), batch["background"]
    action = torch.tanh(policy(rows["obs"]))
    q = torch.minimum(*(iql.q_value(critic, rows["obs"], action) for critic in critics))
    td3bc = -2.5 * q.mean() / q.abs().mean() + nn.functional.mse_loss(action, rows["action"])
    loss, _ = rebrac.policy_loss(batch, policy, critics, config)
    assert loss.item() == pytest.approx(td3bc.item() / 2.5)


def test_lambda_times_mean_absolute_q_is_1() -> None:
    nets, batch = random_nets(), random_batches(1, 4)[0]
    rows = batch["background"]
    for normalizes in (True, False):
        config = rebrac_config(normalizes_q=normalizes)
        policy = parts.MLP(nets["policy"], iql.with_defaults(config))
        critics = critics_of(nets, config)
        scale = rebrac.policy_loss(batch, policy, critics, config)[1]
        q = rebrac.smallest_q(critics, rows["obs"], torch.tanh(policy(rows["obs"])))
        assert not scale.requires_grad
        expected = 1.0 if normalizes else q.abs().mean().item()
        assert (scale * q.abs().mean()).item() == pytest.approx(expected)


def test_box_muller_by_hand() -> None:
    u, w = [0.0, 1 - math.exp(-0.5), 1 - math.exp(-2.0)], [0.3, 0.5, 0.125]
    normal = rebrac.standard_normal(column(u + w)[None])
    expected = torch.tensor([[0.0, -1.0, math.sqrt(2.0)]], dtype=torch.float64)
    assert torch.allclose(normal, expected, rtol=1e-12, atol=1e-12)


def test_noise_is_clipped_and_then_the_action() -> None:
    mean = column([0.0, 0.9, 0.0, -0.8])[None]
    u = [1 - math.exp(-50.0), 1 - math.exp(-50.0), 1 - math.exp(-0.5), 1 - math.exp(-0.5)]
    noise = column([*u, 0.0, 0.0, 0.0, 0.5])[None]  # normals 10, 10, 1 and -1
    action = rebrac.noisy_action(mean, noise, rebrac_config())
    expected = column([0.5, 1.0, 0.2, -1.0])[None]
    assert torch.allclose(action, expected, rtol=1e-12)


def test_penalty_is_zero_when_the_target_policy_repeats_the_data() -> None:
    config = rebrac_config(policy_noise=0.0)
    nets, batch = random_nets(), random_batches(1, 4)[0]
    policy = parts.MLP(nets["policy"], iql.with_defaults(config))
    critics, rows = critics_of(nets, config), batch["background"]
    with torch.no_grad():
        rows["next_action"] = torch.tanh(policy(rows["next_obs"]))
    plain, penalised = (
        rebrac.critic_target(batch, policy, critics, config | {"critic_penalty": penalty})
        for penalty in (0.0, 10.0)
    )
    assert torch.equal(plain, penalised)
    rows["next_action"] = rows["next_action"] + 0.5
    lower = rebrac.critic_target(batch, policy, critics, config | {"critic_penalty": 10.0})
    drop = 0.99 * 10 * 2 * 0.25 * (1 - rows["terminal"])
    assert torch.allclose(plain - lower, drop, rtol=1e-12, atol=1e-12)


def test_target_at_a_terminal_is_the_reward() -> None:
    config = rebrac_config()
    nets, batch = random_nets(), random_batches(1, 4)[0]
    rows = batch["background"]
    rows["terminal"] = torch.ones(8, dtype=torch.float64)
    policy = parts.MLP(nets["policy"], iql.with_defaults(config))
    y = rebrac.critic_target(batch, policy, critics_of(nets, config), config)
    assert torch.equal(y, rows["reward"])


def test_layer_norm_output_is_zero_mean_unit_variance() -> None:
    config = rebrac_config()
    nets, batch = random_nets(), random_batches(1, 4)[0]
    layers = [nets["critic"][0], (torch.eye(8).double(), torch.zeros(8).double())]
    critic = rebrac.Critic(layers, None, iql.with_defaults(config))
    rows = batch["background"]
    hidden = critic.on_encoded(torch.cat([rows["obs"], rows["action"]], dim=1))
    mean, variance = hidden.mean(dim=1), hidden.var(dim=1, unbiased=False)
    assert torch.allclose(mean, torch.zeros(8).double(), atol=1e-12)
    assert torch.allclose(variance, torch.ones(8).double(), atol=1e-3)  # the eps of 1e-5
    # Activation, then norm: the smallest units of a row are its zeros, and equal.
    raw = torch.cat([rows["obs"], rows["action"]], dim=1) @ layers[0][0] + layers[0][1]
    dead = (raw <= 0) & ((raw <= 0).sum(dim=1, keepdim=True) > 0)
    assert torch.equal(dead, (hidden == hidden.min(dim=1, keepdim=True).values) & dead)


def test_actor_and_targets_move_in_even_updates_only() -> None:
    batches, config = random_batches(4, 4), rebrac_config()
    runs = [rebrac.run(random_nets(), batches[:n], config) for n in range(5)]
    delayed = ["policy", "policy_target"]
    delayed += [f"{name}_target{end}" for name in ("critic", "twin") for end in ("", "_norms")]
    for name in delayed:
        nets = [after[name] for after, _ in runs]
        assert net_close(nets[0], nets[1], 0.0)
        assert net_close(nets[2], nets[3], 0.0)
        assert not net_close(nets[1], nets[2])
        assert not net_close(nets[3], nets[4])
    for name in ("critic", "critic_norms", "twin"):
        assert all(not net_close(a[0][name], b[0][name]) for a, b in itertools.pairwise(runs))
    assert ["policy_loss" in entry for entry in runs[4][1]] == [False, True, False, True]


def test_two_rebrac_updates_by_hand() -> None:
    """Linear critics and zero inputs: biases 1 and 3 step by the rate; targets wait."""
    nets = {"policy": constant(1, [0.5])}
    nets |= {"critic": constant(2, [1.0]), "twin": constant(2, [3.0])}
    config = rebrac_config(policy_noise=0.0, critic_penalty=2.0, policy_penalty=0.1)
    noise = torch.zeros(1, 2, dtype=torch.float64)
    batch = {"background": zero_rows(reward=column([5.0])), "noise": noise}
    after, (first, second) = rebrac.run(nets, [batch, batch], config)
    y = 5 + 0.99 * (1 - 2 * math.tanh(0.5) ** 2)
    assert first == pytest.approx({"critic_loss": (y - 1) ** 2 + (y - 3) ** 2})
    loss = (y - 1.1) ** 2 + (y - 3.1) ** 2
    assert second["critic_loss"] == pytest.approx(loss, rel=1e-6)

    # The actor reads the critics after their second step, and has made no step before.
    q, twin = (after[name][0][1].item() for name in ("critic", "twin"))
    assert q == pytest.approx(1.2, abs=1e-3)
    assert second["q_scale"] == pytest.approx(1 / q)
    assert second["policy_loss"] == pytest.approx(0.1 * math.tanh(0.5) ** 2 - 1)
    assert after["policy"][0][1].item() == pytest.approx(0.4, abs=1e-6)
    targets = {"critic": 0.995 + 0.005 * q, "twin": 0.995 * 3 + 0.005 * twin}
    targets["policy"] = 0.995 * 0.5 + 0.005 * after["policy"][0][1].item()
    for name, expected in targets.items():
        assert after[f"{name}_target"][0][1].item() == pytest.approx(expected)
