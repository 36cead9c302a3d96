"""The IQL oracle equals values worked out by hand."""

import math
from typing import Any

import pytest
import torch

from . import iql, parts
from .offline_problems import constant, random_batches, random_nets, zero_rows
from .problems import column, net_close


def iql_config(**changed: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "gamma": 0.99,
        "expectile": 0.7,
        "inverse_temperature": 3.0,
        "max_weight": 100.0,
        "polyak": 0.005,
        "learning_rate": 0.1,
        "policy_decay_updates": 0,
        "policy_dropout": 0.0,
    }
    assert set(changed) <= {*config, "standardize_obs", "obs_mean", "obs_std"}
    return config | changed


def test_expectile_of_0_and_1_at_07_is_07() -> None:
    v = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = iql.expectile_loss(column([0.0, 1.0]) - v, 0.7)
    (gradient,) = torch.autograd.grad(loss, v)
    assert loss.item() == pytest.approx((0.3 * 0.49 + 0.7 * 0.09) / 2)
    assert gradient.item() == pytest.approx(0, abs=1e-15)
    for other in (0.69, 0.71):
        assert iql.expectile_loss(column([0.0, 1.0]) - other, 0.7).item() > loss.item()


def test_expectile_one_half_is_half_the_squared_error() -> None:
    u = column([-2.0, 0.0, 1.0, 5.0])
    assert iql.expectile_loss(u, 0.5).item() == pytest.approx(0.5 * 30 / 4)


def test_weights_are_capped_from_u_1535() -> None:
    cap = math.log(100) / 3
    assert cap == pytest.approx(1.535, abs=1e-3)
    u = column([0.0, cap - 0.01, cap + 0.01, 400.0, -400.0])
    weight, is_capped = iql.policy_weight(u, iql_config())
    assert weight.tolist() == pytest.approx([1, 100 * math.exp(-0.03), 100, 100, 0])
    assert is_capped.tolist() == [False, False, True, True, False]


def test_density_is_the_plain_normal_around_tanh() -> None:
    mean = torch.tanh(column([0.5, -2.0]))[None]
    action = column([1.0, -1.0])[None]
    log_std = column([0.3, 40.0])
    normal = torch.distributions.Normal(mean, column([0.3, 2.0]).exp())
    expected = normal.log_prob(action).sum(dim=1)
    assert torch.allclose(iql.log_density(mean, log_std, action), expected, rtol=1e-14)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    assert iql.log_density(zero, zero[0], zero).item() == pytest.approx(-math.log(2 * math.pi))


def test_a_clamped_log_std_gets_no_gradient() -> None:
    log_std = column([-21.0, 0.0, 2.5]).requires_grad_()
    zero = torch.zeros(1, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(iql.log_density(zero, log_std, zero).sum(), log_std)
    assert gradient.tolist() == [0, -1, 0]


def test_two_iql_updates_by_hand() -> None:
    """Adam's first steps on a gradient of constant sign are the rate, up to its eps."""
    nets = {"value": constant(1, [2.0]), "policy": constant(1, [0.0])}
    nets |= {"critic": constant(2, [1.0]), "twin": constant(2, [3.0])}
    batch = {"background": zero_rows(reward=column([0.02]))}
    after, log_std, history = iql.run(nets, [batch, batch], iql_config())
    first, second = history

    # V = 2 until its step; u = 1 - 2; y = 0.02 + 0.99 * 2 = 2; the density is 1 / sqrt(2 pi).
    nll = 0.5 * math.log(2 * math.pi)
    assert first["value_loss"] == pytest.approx(0.3)
    assert first["critic_loss"] == pytest.approx((1 + 1) / 2)
    assert first["policy_loss"] == pytest.approx(math.exp(-3) * nll)
    # V = 1.9, Q = 1.1 and 2.9, min Qbar = 1 + 0.005 * 0.1, log_std = -0.1.
    u = 1.0005 - 1.9
    y = 0.02 + 0.99 * 1.9
    assert second["value_loss"] == pytest.approx(0.3 * u**2, rel=1e-6)
    assert second["critic_loss"] == pytest.approx(((y - 1.1) ** 2 + (y - 2.9) ** 2) / 2, rel=1e-6)
    assert second["policy_loss"] == pytest.approx(math.exp(3 * u) * (nll - 0.1), rel=1e-6)

    q, twin = (after[name][0][1].item() for name in ("critic", "twin"))
    assert after["critic_target"][0][1].item() == pytest.approx(0.995 * 1.0005 + 0.005 * q)
    assert after["twin_target"][0][1].item() == pytest.approx(0.995 * 2.9995 + 0.005 * twin)
    assert log_std.item() < -0.1


def test_iql_critics_stop_bootstrapping_at_a_terminal() -> None:
    nets = {"value": constant(1, [50.0]), "policy": constant(1, [0.0])}
    nets |= {"critic": constant(2, [1.0]), "twin": constant(2, [1.0])}
    rows = zero_rows(reward=column([4.0]), terminal=column([1.0]))
    history = iql.run(nets, [{"background": rows}], iql_config())[2]
    assert history[0]["critic_loss"] == pytest.approx(9)


def test_iql_with_inverse_temperature_0_is_cloning() -> None:
    batches = random_batches(3, 14)
    history = iql.run(random_nets(), batches, iql_config(inverse_temperature=0.0))[2]
    nets = random_nets()
    policy = parts.MLP(nets["policy"], iql.with_defaults(iql_config()))
    rows = batches[0]["background"]
    zero = torch.zeros(2, dtype=torch.float64)
    density = iql.log_density(iql.policy_mean(policy, rows["obs"]), zero, rows["action"])
    assert history[0]["policy_loss"] == pytest.approx(-density.mean().item())
    assert [entry["weight_mean"] for entry in history] == [1, 1, 1]


def test_dropout_keeps_and_rescales_by_the_noise_of_its_layer() -> None:
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    wide, shift = torch.ones(1, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    layers = [(wide, shift), (wide.T, zero), (0.25 * one, zero)]  # 1 -> 2 -> 1 -> 1
    policy = parts.MLP(layers, iql.with_defaults({}))
    noise = torch.tensor([[0.2, 0.19, 0.9], [0.5, 0.2, 0.2], [0.9, 0.9, 0.1]]).double()
    mean = iql.policy_mean(policy, one.expand(3, 1), noise, 0.2)
    # Layer 1 keeps one unit, then both; layer 2 keeps its unit, or not.
    expected = torch.tanh(0.25 * column([1.25**2, 2 * 1.25**2, 0.0]))
    assert torch.allclose(mean[:, 0], expected, rtol=1e-14)
    assert iql.act(policy, one).item() == pytest.approx(math.tanh(0.5))


def test_dropout_changes_only_the_policy() -> None:
    batches = random_batches(4, 14)
    plain = iql.run(random_nets(), batches, iql_config())[0]
    dropped = iql.run(random_nets(), batches, iql_config(policy_dropout=0.3))[0]
    for name in ("value", "critic", "twin", "critic_target", "twin_target"):
        assert net_close(plain[name], dropped[name])
    assert not net_close(plain["policy"], dropped["policy"])


def test_policy_rate_falls_on_half_a_cosine() -> None:
    config = iql_config(policy_decay_updates=100)
    rates = [iql.policy_rate(number, config) for number in (0, 50, 100, 300)]
    assert rates == pytest.approx([0.1, 0.05, 0, 0])
    assert iql.policy_rate(7, iql_config()) == 0.1
    batches, config = random_batches(2, 14), iql_config(policy_decay_updates=1)
    once, twice = (iql.run(random_nets(), batches[:n], config) for n in (1, 2))
    assert net_close(once[0]["policy"], twice[0]["policy"])
    assert torch.equal(once[1], twice[1])
    assert not net_close(once[0]["value"], twice[0]["value"])


def test_standardised_observations_leave_actions_unscaled() -> None:
    mean, std = column([1.0, -2.0, 0.5]), column([2.0, 0.5, 3.0])
    batches = random_batches(2, 14)
    config = iql_config(standardize_obs=True, obs_mean=mean, obs_std=std)
    after = iql.run(random_nets(), batches, config)[0]
    for batch in batches:
        rows = batch["background"]
        for name in ("obs", "next_obs"):
            rows[name] = (rows[name] - mean) / std
    expected = iql.run(random_nets(), batches, iql_config())[0]
    assert all(net_close(after[name], expected[name]) for name in expected)


def test_iql_resumes_from_given_targets_and_log_std() -> None:
    """Targets and log_std passed to the next run enter its losses."""
    first, second = random_batches(2, 14)
    history = iql.run(random_nets(), [first, second], iql_config())[2]
    nets, log_std, _ = iql.run(random_nets(), [first], iql_config())
    again = iql.run(nets, [second], iql_config(), log_std)[2]
    assert again[0] == pytest.approx(history[1], rel=1e-12)
