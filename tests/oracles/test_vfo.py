"""The VfO oracles equal values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from . import awr, bc, parts, vfo
from .problems import (
    SCALES,
    chain_batch,
    chain_nets,
    column,
    make_config,
    net_close,
    observed,
    random_batches,
    random_nets,
    table,
    transitions,
)

CHAIN = [50.0, 100.0, 0.0]  # v(s0), v(s1), v(s2) of chain_batch


def test_chain_values_are_a_fixed_point_with_weight_exp_minus_50() -> None:
    nets = chain_nets(CHAIN)
    batch = {**chain_batch(), "background": transitions([(0, 2)])}
    after, history = vfo.run_bin(nets, [chain_batch()], make_config())
    # A zero gradient of 1e-14 moves a weight by at most 3e-4 * 1e-14 / 1e-8.
    assert net_close(after["value"], nets["value"], tolerance=1e-9)
    # Residuals: +-50 in s0 (half of each mean's rows), 0 elsewhere.
    assert history[0]["value_loss"] == pytest.approx(0.5 * 1250 + 0.5 * 1250, rel=1e-12)
    _, history = vfo.run_bin(nets, [batch], make_config())
    assert history[0]["advantage_mean"] == pytest.approx(-50, abs=1e-12)
    assert history[0]["weight_mean"] == pytest.approx(math.exp(-50), rel=1e-10)
    assert history[0]["value_mean_background"] == pytest.approx(50, abs=1e-12)


def test_chain_with_a_background_path_to_the_expert_has_the_given_values() -> None:
    v1 = 1 / 1.3 / 0.01
    v0 = 0.5 * (1 + 0.99 * v1) + 0.5 * 0.3 * 0.99 * v1
    assert [v0, v1] == pytest.approx([50.0, 76.923], abs=5e-4)
    nets = chain_nets([v0, v1, 0.0])
    batch = {
        "expert": observed(transitions([(0, 1)] * 10 + [(1, 1)] * 10)),
        "background": transitions([(0, 1)] * 3 + [(0, 2)] * 7 + [(1, 1)] * 3 + [(2, 2)] * 7),
    }
    after, _ = vfo.run_bin(nets, [batch], make_config())
    assert net_close(after["value"], nets["value"], tolerance=1e-8)
    gains = []
    for pair in ((0, 1), (0, 2)):
        one = {"expert": batch["expert"], "background": transitions([pair])}
        gains.append(vfo.run_bin(nets, [one], make_config())[1][0]["advantage_mean"])
    assert gains == pytest.approx([26.154, -50.0], abs=1e-3)
    assert gains[0] - gains[1] == pytest.approx(76.15, abs=5e-3)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_self_loop_is_worth_its_expert_share_over_one_minus_gamma(alpha: float) -> None:
    nets = chain_nets([(1 - alpha) * 100, 0.0, 0.0])
    loop = transitions([(0, 0)])
    batch = {"expert": observed(loop), "background": loop}
    after, _ = vfo.run_bin(nets, [batch], make_config(alpha=alpha))
    assert net_close(after["value"], nets["value"], tolerance=1e-8)


def test_chain_is_learned_from_zero_within_its_bounds() -> None:
    config = make_config(gamma=0.5, learning_rate=0.1, target_period=5)
    after, history = vfo.run_bin(chain_nets([0.0, 0.0, 0.0]), [chain_batch()] * 100, config)
    weight, bias = after["value"][0]
    # v(s1) = 1 / (1 - 0.5) and v(s0) = 0.5 (1 + 0.5 * 2).
    assert (weight[:, 0] + bias).tolist() == pytest.approx([1.0, 2.0, 0.0], abs=1e-3)
    assert all(-0.1 <= step["value_mean_background"] <= 2.0 for step in history)


def test_alpha_one_forgets_the_expert() -> None:
    config = make_config(gamma=0.5, learning_rate=0.1, target_period=5, alpha=1.0)
    after, history = vfo.run_bin(chain_nets([1.0, 2.0, 1.0]), [chain_batch()] * 100, config)
    weight, bias = after["value"][0]
    assert (weight[:, 0] + bias)[[0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    assert history[-1]["weight_mean"] == pytest.approx(1.0, abs=1e-3)


def test_two_state_chain_with_terminals_learns_50() -> None:
    batch = {
        "expert": observed(transitions([(0, 1)], terminal=1.0)),
        "background": transitions([(0, 2)], terminal=1.0),
    }
    # v(s') would show if it entered: it is 7 at both ends.
    nets = chain_nets([45.0, 7.0, 7.0])
    after, history = vfo.run_bin(nets, [batch] * 150, make_config(learning_rate=0.1))
    weight, bias = after["value"][0]
    assert (weight[0, 0] + bias).item() == pytest.approx(50, abs=1e-2)
    assert history[0]["advantage_mean"] == -45.0
    assert history[-1]["advantage_mean"] == pytest.approx(-50, abs=1e-2)


@pytest.mark.parametrize(("absorbing", "expected"), [(True, 100.0), (False, 1.0)])
def test_expert_terminal_is_worth_100_only_if_absorbing(absorbing: bool, expected: float) -> None:
    batch = {
        "expert": observed(transitions([(0, 1)], terminal=1.0)),
        "background": transitions([(2, 2)]),
    }
    config = make_config(absorbing=absorbing)
    _, history = vfo.run_bin(chain_nets([0.0, 5.0, 0.0]), [batch], config)
    assert history[0]["value_loss"] == pytest.approx(0.5 * expected**2, rel=1e-12)


def constant_discriminator(d: float) -> list[tuple[Tensor, Tensor]]:
    return [(torch.zeros(3, 1, dtype=torch.float64), column([math.log(d / (1 - d))]))]


def test_terminal_under_disc_is_worth_100_d() -> None:
    rows = transitions([(0, 1)], terminal=1.0)
    nets = chain_nets([30.0, 5.0, 0.0]) | {"discriminator": constant_discriminator(0.3)}
    batch = {"expert": observed(rows), "background": rows}
    _, history = vfo.run_disc(nets, [batch], make_config())
    assert history[0]["value_loss"] == pytest.approx(0.0, abs=1e-20)
    assert history[0]["advantage_mean"] == pytest.approx(0.0, abs=1e-12)


def test_constant_discriminator_is_cloning() -> None:
    nets = chain_nets([40.0, 40.0, 40.0]) | {"discriminator": constant_discriminator(0.4)}
    after, history = vfo.run_disc(nets, [chain_batch()], make_config())
    assert net_close(after["value"], nets["value"], tolerance=1e-8)
    assert history[0]["weight_mean"] == pytest.approx(1.0, abs=1e-12)
    assert net_close(after["policy"], bc.run(nets, [chain_batch()], make_config())[0]["policy"])


@pytest.mark.parametrize(("reward_at", "reward"), [("next", 0.8), ("current", 0.1)])
def test_disc_reward_is_read_at_the_configured_state_for_expert_and_background(
    reward_at: str, reward: float
) -> None:
    logit = [[math.log(d / (1 - d))] for d in (0.1, 0.8, 0.5)]
    nets = chain_nets([0.0, 0.0, 0.0]) | {"discriminator": table(logit)}
    rows = transitions([(0, 1)])
    batch = {"expert": observed(rows), "background": rows}
    after, history = vfo.run_disc(nets, [batch], make_config(disc_reward_at=reward_at))
    assert history[0]["value_loss"] == pytest.approx(reward**2, rel=1e-12)
    assert history[0]["advantage_mean"] == pytest.approx(reward, rel=1e-12)
    assert net_close(after["discriminator"], nets["discriminator"], tolerance=0.0)


def test_infinite_temperature_is_cloning() -> None:
    config = make_config(temperature=1e15, encoder_scales=SCALES, num_bins=101, kernel_width=0.04)
    nets, batches = random_nets(config), random_batches(5)
    cloned, losses = bc.run(nets, batches, config)
    after, history = vfo.run_bin(nets, batches, config)
    # Adam divides by a root of the gradient, which magnifies rounding.
    assert net_close(after["policy"], cloned["policy"], tolerance=1e-9)
    assert [h["policy_loss"] for h in history] == pytest.approx(
        [h["policy_loss"] for h in losses], rel=1e-10
    )


def test_weight_is_capped_above_and_free_below() -> None:
    # A = -50, -50 + 60 = 10, and 0 + 0 - 0: exponents -500, 100 and 0 at temperature 0.1.
    nets = chain_nets([50.0, 60.0 / 0.99, 0.0])
    background = transitions([(0, 2), (0, 1), (2, 2)])
    batch = {"expert": chain_batch()["expert"], "background": background}
    config = make_config(temperature=0.1, max_weight=100.0)
    _, history = vfo.run_bin(nets, [batch], config)
    assert history[0]["weight_mean"] == pytest.approx((0 + 100 + 1) / 3, rel=1e-10)
    assert history[0]["clip_fraction"] == pytest.approx(1 / 3)
    _, history = vfo.run_bin(nets, [batch], config | {"max_weight": math.inf})
    assert history[0]["weight_mean"] == pytest.approx(math.exp(100) / 3, rel=1e-8)
    assert history[0]["clip_fraction"] == 0.0


def test_policy_and_value_do_not_share_gradients() -> None:
    config = make_config()
    nets, batches = random_nets(config), random_batches(3)
    other = nets | {"policy": random_nets(config, seed=9)["policy"]}
    value = vfo.run_bin(nets, batches, config)[0]["value"]
    assert net_close(vfo.run_bin(other, batches, config)[0]["value"], value, tolerance=0.0)
    # One update reads the value only through the weights: at lambda = inf, not at all.
    cold = config | {"temperature": 1e300}
    swapped = nets | {"value": random_nets(config, seed=9)["value"]}
    policy = vfo.run_bin(nets, batches, cold)[0]["policy"]
    assert net_close(vfo.run_bin(swapped, batches, cold)[0]["policy"], policy, tolerance=0.0)


def test_value_loss_has_no_gradient_through_the_next_state() -> None:
    rows = transitions([(0, 1)])
    nets = chain_nets([0.0, 3.0, 0.0])
    after, _ = vfo.run_bin(nets, [{"expert": observed(rows), "background": rows}], make_config())
    weight = after["value"][0][0][:, 0]
    assert weight[1:].tolist() == [3.0, 0.0]
    assert weight[0].item() != 0.0


@pytest.mark.parametrize("method", ["bin", "awr"])
def test_target_changes_exactly_after_multiples_of_its_period(method: str) -> None:
    config = make_config(target_period=2, learning_rate=0.01, gamma=0.9)
    nets, batches = random_nets(config), random_batches(6)
    run = {"bin": vfo.run_bin, "awr": awr.run}[method]
    _, history = run(nets, batches, config)
    snapshots = [parts.MLP(run(nets, batches[:n], config)[0]["value"], config) for n in range(6)]
    for number in range(6):
        rows = batches[number]["background"]
        online, target = snapshots[number], snapshots[number // 2 * 2]
        reward = rows["reward"] if method == "awr" else torch.zeros(8, dtype=torch.float64)
        y = parts.bellman_target(reward, rows["terminal"], target.scalar(rows["next_obs"]), config)
        expected = (y - online.scalar(rows["obs"])).mean().item()
        assert history[number]["advantage_mean"] == pytest.approx(expected, abs=1e-13)


def test_online_bootstrap_reads_both_ends_from_the_online_net() -> None:
    config = make_config(advantage_bootstrap="online", learning_rate=0.01)
    nets, batches = random_nets(config), random_batches(3)
    _, history = vfo.run_bin(nets, batches, config)
    online = parts.MLP(vfo.run_bin(nets, batches[:2], config)[0]["value"], config)
    rows = batches[2]["background"]
    zero = torch.zeros(8, dtype=torch.float64)
    y = parts.bellman_target(zero, rows["terminal"], online.scalar(rows["next_obs"]), config)
    expected = (y - online.scalar(rows["obs"])).mean().item()
    assert history[2]["advantage_mean"] == pytest.approx(expected, abs=1e-13)
    _, lagging = vfo.run_bin(nets, batches, config | {"advantage_bootstrap": "target"})
    assert lagging[2]["value_loss"] == history[2]["value_loss"]
    assert lagging[2]["advantage_mean"] != history[2]["advantage_mean"]


def test_bernoulli_batch_with_a_quarter_background_equals_halves_at_alpha_a_quarter() -> None:
    config = make_config(batch_mode="bernoulli", encoder_scales=SCALES)
    nets, batches, halves = random_nets(config), random_batches(4), []
    for batch in batches:
        batch["is_background"] = column([0, 1, 0, 0, 0, 1, 0, 0])
        is_background = batch["is_background"] == 1
        expert = {name: rows[~is_background] for name, rows in batch["expert"].items()}
        background = {name: rows[is_background] for name, rows in batch["background"].items()}
        halves.append({"expert": expert, "background": background})
    after, history = vfo.run_bin(nets, batches, config)
    same, expected = vfo.run_bin(nets, halves, config | {"batch_mode": "halves", "alpha": 0.25})
    assert net_close(after["value"], same["value"], tolerance=1e-9)
    assert net_close(after["policy"], same["policy"], tolerance=1e-9)
    for actual, reference in zip(history, expected, strict=True):
        assert actual == pytest.approx(reference, rel=1e-10)


def test_bernoulli_batch_without_background_does_not_change_the_policy() -> None:
    config = make_config(batch_mode="bernoulli")
    nets, batches = random_nets(config), random_batches(1)
    batches[0]["is_background"] = torch.zeros(8, dtype=torch.float64)
    after, history = vfo.run_bin(nets, batches, config)
    assert net_close(after["policy"], nets["policy"], tolerance=0.0)
    assert history[0]["policy_loss"] == 0.0
    assert history[0]["value_loss"] > 0.0
