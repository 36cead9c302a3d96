"""IQL and ReBRAC oracles against values worked out by hand (section 7)."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from . import iql, parts, rebrac
from .problems import column, net_close, random_layers

Net = list[tuple[Tensor, Tensor]]


def constant(inputs: int, output: list[float]) -> Net:
    """A linear net whose output is `output` at input 0."""
    return [(torch.zeros(inputs, len(output), dtype=torch.float64), column(output))]


def zero_rows(**changed: Tensor) -> dict[str, Tensor]:
    """One transition with obs, action and next action 0: only biases can learn from it."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    names = ("obs", "next_obs", "action", "next_action")
    flat = {"reward": column([0.0]), "terminal": column([0.0])}
    return {**dict.fromkeys(names, zero), **flat, **changed}


def random_nets(policy_outputs: int = 2) -> dict[str, Net]:
    generator = torch.Generator().manual_seed(0)
    nets = {"value": random_layers([3, 8, 6, 1], generator)}
    nets |= {name: random_layers([5, 8, 6, 1], generator) for name in ("critic", "twin")}
    return nets | {"policy": random_layers([3, 8, 6, policy_outputs], generator)}


def random_batches(count: int, noise_width: int, size: int = 8) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    return [
        {
            "background": {
                "obs": 4 * uniform(size, 3) - 2,
                "next_obs": 4 * uniform(size, 3) - 2,
                "action": 2 * uniform(size, 2) - 1,
                "next_action": 2 * uniform(size, 2) - 1,
                "reward": 3 * uniform(size),
                "terminal": (uniform(size) < 0.3).to(torch.float64),
            },
            "noise": uniform(size, noise_width),
        }
        for _ in range(count)
    ]


# Section 7.1: IQL.


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
    (slope,) = torch.autograd.grad(loss, v)
    assert loss.item() == pytest.approx((0.3 * 0.49 + 0.7 * 0.09) / 2)
    assert slope.item() == pytest.approx(0, abs=1e-15)
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
    (slope,) = torch.autograd.grad(iql.log_density(zero, log_std, zero).sum(), log_std)
    assert slope.tolist() == [0, -1, 0]


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


def test_standardised_observations_leave_actions_alone() -> None:
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


def test_iql_continues_from_its_targets() -> None:
    """Targets and log_std given back enter the next losses."""
    first, second = random_batches(2, 14)
    history = iql.run(random_nets(), [first, second], iql_config())[2]
    nets, log_std, _ = iql.run(random_nets(), [first], iql_config())
    again = iql.run(nets, [second], iql_config(), log_std)[2]
    assert again[0] == pytest.approx(history[1], rel=1e-12)


# Section 7.2: ReBRAC.


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
    """beta1 = 1 / (2.5 d_a): TD3+BC averages the squared error over dimensions (section 7.2)."""
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


def test_target_is_the_reward_alone_at_a_terminal() -> None:
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
