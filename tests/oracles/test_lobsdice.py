"""The LobsDICE oracle equals values worked out by hand, and SMODICE's where the two agree."""

import math
from typing import Any

import pytest
import torch

from . import lobsdice, parts, smodice
from .problems import (
    chain_nets,
    column,
    make_config,
    net_close,
    observed,
    random_batches,
    random_layers,
    table,
    transitions,
)


def lobsdice_config(**changed: Any) -> dict[str, Any]:
    config = make_config() | {
        "kl_weight": 0.1,
        "logit_clamp": math.inf,
        "joint": False,
        "bootstraps_terminals": False,
        "joint_gradient_penalty": 0.0,
        "value_gradient_penalty": 0.0,
    }
    return config | changed


def pair_table(rewards: list[list[float]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A discriminator with logit rewards[0][s] + rewards[1][s'] on one-hot states."""
    return table([[value] for row in rewards for value in row])


def test_without_alpha_and_with_a_reward_of_the_first_state_it_is_smodice() -> None:
    config = lobsdice_config(kl_weight=0.0, max_weight=1.3)
    nets = chain_nets([0.2, 0.7, -0.1])
    rows = transitions([(0, 1), (1, 2), (2, 2), (0, 2)])
    batch = {"background": rows, "initial": rows["obs"]}
    pairs = nets | {"discriminator": pair_table([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])}
    states = nets | {"discriminator": table([[0.5], [-1.0], [2.0]])}
    after, history = lobsdice.run(pairs, [batch] * 5, config)
    other = config | {
        "divergence": "kl", "normalizes": True, "value_weight_decay": 0.0,
        "entropy_constraint": False, "gradient_penalty": 0.0,
    }  # fmt: skip
    expected, expected_history = smodice.run(states, [batch] * 5, other)
    for name in ("policy", "value"):
        assert net_close(after[name], expected[name])
    for actual, reference in zip(history, expected_history, strict=True):
        assert actual == pytest.approx(reference, rel=1e-12)


def test_loss_and_weights_of_two_transitions() -> None:
    config = lobsdice_config(kl_weight=1.0, gamma=0.5)
    value = parts.MLP(table([[1.0], [2.0], [0.0]]), config)
    rows = transitions([(0, 1), (1, 2)])
    discriminator = parts.MLP(pair_table([[1.0, 3.0, 0.0], [0.5, 0.25, 1.0]]), config)
    reward = lobsdice.reward_of(discriminator, rows, config)
    assert reward.tolist() == [1.25, 4.0]
    delta = lobsdice.residual(rows, reward, value, config)
    assert delta.tolist() == [1.25 + 1.0 - 1.0, 4.0 - 2.0]
    loss = lobsdice.dual_loss(column([2.0, 4.0]), delta, config)
    mean = (math.exp(1.25 / 2) + math.exp(1.0)) / 2
    assert loss.item() == pytest.approx(0.5 * 3.0 + 2 * math.log(mean))
    weight = lobsdice.weights(delta, config)
    assert weight.tolist() == pytest.approx([math.exp(0.625) / mean, math.exp(1.0) / mean])


def test_a_terminal_bootstraps_only_if_asked_to() -> None:
    value = parts.MLP(table([[1.0], [2.0], [0.0]]), lobsdice_config())
    rows, reward = transitions([(0, 1)], terminal=1.0), column([0.3])
    for changed, expected in (
        ({"absorbing": False}, 0.3 - 1.0),
        ({"absorbing": True}, 30.0 - 1.0),
        ({"absorbing": False, "bootstraps_terminals": True}, 0.3 + 0.99 * 2.0 - 1.0),
    ):
        delta = lobsdice.residual(rows, reward, value, lobsdice_config(**changed))
        assert delta.item() == pytest.approx(expected)


def test_the_smoothed_ratio_at_its_limits() -> None:
    ratio = lobsdice.smoothed_ratio(column([-100.0, 0.0, 100.0]))
    expected = [
        -math.log(1000 - 1 + 1e-3),
        -math.log(1 / 0.501 - 1 + 1e-3),
        -math.log(1e-6 / 1.001),
    ]
    assert ratio.tolist() == pytest.approx(expected, rel=1e-9)


def test_penalties_of_linear_nets_are_their_slopes() -> None:
    config = lobsdice_config(joint=True)
    batch = random_batches(1)[0]
    batch["policy_noise"] = torch.rand(8, 2, generator=torch.Generator().manual_seed(0)).double()
    value = parts.MLP(table([[1.0], [2.0], [-2.0]]), config)
    assert lobsdice.value_penalty(value, batch).item() == pytest.approx(9.0)
    # A discriminator near 1/2 everywhere: the smoothed ratio is nearly its logit.
    slopes = [[1e-3 * x] for x in (1.0, 2.0, -2.0, 4.0, 0.0, 0.0)]
    discriminator = parts.MLP(table(slopes), config)
    penalty = lobsdice.discriminator_penalty(discriminator, batch).item()
    assert penalty == pytest.approx((5e-3 - 1) ** 2, rel=1e-4)


def test_the_joint_discriminator_is_trained_and_the_value_never_trains_it() -> None:
    config = lobsdice_config(joint=True, joint_gradient_penalty=0.1, value_gradient_penalty=1e-4)
    generator = torch.Generator().manual_seed(3)
    sizes = {"policy": (3, 6), "value": (3, 1), "discriminator": (6, 1)}
    nets = {name: random_layers([m, 8, n], generator) for name, (m, n) in sizes.items()}
    batches = random_batches(3)
    for batch in batches:
        batch["initial"] = batch["background"]["obs"]
        batch["policy_noise"] = torch.rand(8, 2, generator=generator).double()
        batch["expert"] = observed(batch["expert"])
    after, _ = lobsdice.run(nets, batches, config)
    assert not net_close(after["discriminator"], nets["discriminator"])
    other = nets | {"value": random_layers([3, 8, 1], generator)}
    again, _ = lobsdice.run(other, batches, config)
    assert net_close(again["discriminator"], after["discriminator"], tolerance=0.0)
