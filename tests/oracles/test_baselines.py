"""The discriminator, optimizer, cloning and AWR oracles equal values worked out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from . import awr, bc, vfo
from .problems import (
    SCALES,
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

# Discriminator.


def test_discriminator_gradient_matches_the_formula() -> None:
    expert = column([0.5, -1.0, 30.0]).requires_grad_()
    background = column([2.0, -40.0]).requires_grad_()
    torch.autograd.backward(vfo.discriminator_loss(expert, background, make_config()))
    assert expert.grad is not None
    assert background.grad is not None
    # The two tails: d log-sigmoid is 9.4e-14 at 30 and 4.2e-18 at -40.
    assert torch.allclose(expert.grad, (torch.sigmoid(expert) - 1) / 3, rtol=1e-12, atol=1e-16)
    assert torch.allclose(background.grad, torch.sigmoid(background) / 2, rtol=1e-12)


def test_undecided_discriminator_costs_two_log_two() -> None:
    loss = vfo.discriminator_loss(column([0.0]), column([0.0, 0.0]), make_config())
    assert loss.item() == pytest.approx(1.3863, abs=5e-5)


def test_pu_loss_is_rectified() -> None:
    config = make_config(disc_loss="pu", pu_prior=0.25)
    half = vfo.discriminator_loss(column([0.0]), column([0.0]), config)
    assert half.item() == pytest.approx(math.log(2), abs=1e-14)  # 0.25 + (1 - 0.25) of log 2
    # Background at d = 0 costs nothing and the expert's correction is large: the bracket is cut.
    cut = vfo.discriminator_loss(column([8.0]), column([-50.0]), config)
    assert cut.item() == pytest.approx(0.25 * math.log1p(math.exp(-8)), abs=1e-15)


def test_discriminator_separates_separable_states() -> None:
    nets = {"discriminator": table([[0.1], [0.0], [-0.1]])}
    batch = {"expert": transitions([(0, 0)]), "background": transitions([(2, 2)])}
    after, losses = vfo.train_discriminator(nets, [batch] * 40, make_config(disc_learning_rate=0.3))
    d = torch.sigmoid(after["discriminator"][0][0][:, 0])
    assert d[0] > 0.99
    assert d[2] < 0.01
    assert losses[-1] < 0.02 < losses[0]


def test_discriminator_learns_the_density_ratio_and_reads_only_current_observations() -> None:
    # s0: 3 expert and 1 background rows of 4 each, so d* = 3/4; s1: 1 and 3, so d* = 1/4.
    expert = transitions([(0, 2), (0, 2), (0, 2), (1, 2)])
    background = transitions([(0, 2), (1, 2), (1, 2), (1, 2)])
    expert["next_obs"] = torch.full_like(expert["next_obs"], math.nan)
    batch = {"expert": observed(expert), "background": background}
    nets = {"discriminator": table([[0.0], [0.0], [0.0]]), "value": table([[1.0], [2.0], [3.0]])}
    after, losses = vfo.train_discriminator(
        nets, [batch] * 100, make_config(disc_learning_rate=0.1)
    )
    weight, bias = after["discriminator"][0]
    d = torch.sigmoid(weight[:, 0] + bias)
    assert d[:2].tolist() == pytest.approx([0.75, 0.25], abs=2e-3)  # 100 updates
    assert losses[0] == pytest.approx(2 * math.log(2), abs=1e-12)
    assert net_close(after["value"], nets["value"], tolerance=0.0)


# Optimizer.


def first_policy_step(**changed: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Policy weights of state s0 before and after one BC update, and their gradient p - onehot."""
    nets = {"policy": table([[0.3, -0.2, 0.1], [4.0, 4.0, 4.0], [0.0, 0.0, 0.0]])}
    batch = {"background": transitions([(0, 0)])}  # its action is -1, bin 0
    after, _ = bc.run(nets, [batch], make_config(learning_rate=0.01, **changed))
    gradient = torch.softmax(nets["policy"][0][0][0], dim=0) - column([1.0, 0.0, 0.0])
    return nets["policy"][0][0], after["policy"][0][0], gradient


def test_first_step_of_adam_is_the_rate_times_the_sign() -> None:
    before, after, gradient = first_policy_step()
    step = 0.01 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(after[0], before[0] - step, rtol=0, atol=1e-14)
    assert torch.equal(after[1:], before[1:])


def test_decoupled_decay_shrinks_weights_and_l2_enters_the_gradient() -> None:
    before, after, gradient = first_policy_step(weight_decay=0.1)
    step = 0.01 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(after[0], before[0] * (1 - 0.001) - step, rtol=0, atol=1e-14)
    assert torch.allclose(after[1], before[1] * (1 - 0.001), rtol=0, atol=1e-14)
    before, after, gradient = first_policy_step(weight_decay=0.1, decoupled_weight_decay=False)
    decayed = gradient + 0.1 * before[0]
    step = 0.01 * decayed / (decayed.abs() + 1e-8)
    assert torch.allclose(after[0], before[0] - step, rtol=0, atol=1e-14)
    assert torch.allclose(after[1], before[1] - 0.01, rtol=0, atol=1e-9)


# Behavioural cloning.


def test_cloning_learns_empirical_action_frequencies() -> None:
    rows = transitions([(0, 0)] * 8)
    rows["action"] = column([-1, -1, -1, -1, 0, 0, 1, -0.9])[:, None]
    nets = {"policy": table([[0.0, 0.0, 0.0]] * 3), "value": table([[1.0]] * 3)}
    batch = {"background": rows}
    after, history = bc.run(nets, [batch] * 100, make_config(learning_rate=0.1))
    weight, bias = after["policy"][0]
    p = torch.softmax(weight[0] + bias, dim=0)
    assert p.tolist() == pytest.approx([5 / 8, 2 / 8, 1 / 8], abs=2e-3)  # 100 updates
    assert history[0] == {"policy_loss": pytest.approx(math.log(3))}
    assert net_close(after["value"], nets["value"], tolerance=0.0)


def test_cloning_never_reads_the_expert() -> None:
    config = make_config()
    nets, batches = random_nets(config), random_batches(2)
    expected = bc.run(nets, batches, config)[0]["policy"]
    for batch in batches:
        batch["expert"] = {n: torch.full_like(c, math.nan) for n, c in batch["expert"].items()}
    assert net_close(bc.run(nets, batches, config)[0]["policy"], expected, tolerance=0.0)


# AWR.


def test_awr_on_merged_data_learns_the_value_of_vfo_bin() -> None:
    config = make_config(alpha=0.25, encoder_scales=SCALES)
    nets, batches, merged = random_nets(config), random_batches(4), []
    for batch in batches:
        # 6 expert and 2 background rows: a background share of alpha.
        batch["expert"] = {name: rows[:6] for name, rows in batch["expert"].items()}
        batch["background"] = {name: rows[:2] for name, rows in batch["background"].items()}
        rows = {n: torch.cat([c, batch["background"][n]]) for n, c in batch["expert"].items()}
        rows["action"] = torch.zeros(8, 2, dtype=torch.float64)
        rows["reward"] = column([1.0] * 6 + [0.0] * 2)
        merged.append({"background": rows})
    bin_nets, bin_history = vfo.run_bin(nets, batches, config)
    awr_nets, awr_history = awr.run(nets, merged, config)
    assert net_close(awr_nets["value"], bin_nets["value"], tolerance=1e-9)
    assert [h["value_loss"] for h in awr_history] == pytest.approx(
        [h["value_loss"] for h in bin_history], rel=1e-10
    )


def shifted_advantages(absorbing: bool) -> list[list[float]]:
    """AWR's advantages on terminal and continuing rows, with r and v, then r + 2 and v + 200."""
    config = make_config(absorbing=absorbing, temperature=50.0)
    nets, batches, advantages = random_nets(config), random_batches(5), []
    assert 0 < sum(float(b["background"]["terminal"].sum()) for b in batches) < 40
    for shift in (0.0, 2.0):
        weight, bias = nets["value"][-1]
        value = [*nets["value"][:-1], (weight, bias + shift / 0.01)]
        for batch in batches:
            batch["background"]["reward"] = batch["background"]["reward"] + shift
        history = awr.run(nets | {"value": value}, batches, config)[1]
        advantages.append([step["advantage_mean"] for step in history])
    return advantages


def test_reward_shift_leaves_advantages_unchanged_only_if_absorbing() -> None:
    plain, shifted = shifted_advantages(absorbing=True)
    assert shifted == pytest.approx(plain, abs=1e-8)
    plain, shifted = shifted_advantages(absorbing=False)
    assert max(abs(a - b) for a, b in zip(plain, shifted, strict=True)) > 1.0


@pytest.mark.parametrize(("absorbing", "target"), [(True, -300.0), (False, -3.0)])
def test_awr_terminal_repeats_its_reward_forever_only_if_absorbing(
    absorbing: bool, target: float
) -> None:
    batch = {"background": transitions([(0, 1)], terminal=1.0, reward=[-3.0])}
    nets = chain_nets([0.0, 5.0, 0.0])
    _, history = awr.run(nets, [batch], make_config(absorbing=absorbing))
    assert history[0]["advantage_mean"] == pytest.approx(target, rel=1e-12)
    assert history[0]["value_loss"] == pytest.approx(target**2, rel=1e-12)
