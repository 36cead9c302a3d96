"""The PW-DICE oracle equals values worked out by hand, and LobsDICE's dual where the two agree."""

import math
from typing import Any

import pytest
import torch

from . import lobsdice, parts, pw_dice
from .problems import column, make_config, observed, table, transitions


def pw_dice_config(**changed: Any) -> dict[str, Any]:
    config = make_config() | {
        "coupling_temperature": 0.5,
        "temperature": 0.5,
        "distance_scale": 5.0,
        "ratio_scale": 1.0,
        "logit_clamp": math.inf,
        "policy_learning_rate": 3e-4,
        "embedding_learning_rate": 1e-3,
        "embedding_gradient_clip": 1.0,
    }
    return config | changed


# Rows are states: lambda, u1, u2.
DUALS = [[1.0, 0.5, 2.0], [-1.0, 0.2, 0.3], [0.4, -0.6, 0.1]]


def test_the_loss_of_two_pairs() -> None:
    config = pw_dice_config(coupling_temperature=0.5, temperature=2.0, gamma=0.5)
    duals = parts.MLP(table(DUALS), config)
    embedding = parts.MLP(table([[3.0, 0.0], [0.0, 0.1], [-2.0, 0.0]]), config)
    rows = transitions([(0, 1), (1, 2)])
    delta = pw_dice.residual(duals, rows, config)
    assert delta.tolist() == pytest.approx([1.0 + 0.5 - 0.5, -1.0 - 0.2 - 0.2])
    other = transitions([(0, 0), (2, 2)]) | {"reward": column([1.5, -0.5])}
    batch: dict[str, Any] = {
        "background": other,
        "policy": rows,
        "expert": observed(transitions([(1, 1), (0, 0)])),
    }
    batch["initial"] = rows["obs"][:1]
    # Orthogonal embeddings are sqrt(2) apart, opposite ones 2.
    distance = pw_dice.distance(embedding, batch, config)
    assert distance.tolist() == pytest.approx([5 * 2 - 1.5, 5 * 4 + 0.5])
    gain = [(0.5 + 0.3 - 8.5) / 0.5, (-0.6 + 2.0 - 20.5) / 0.5]
    coupling = 0.5 * math.log((math.exp(gain[0]) + math.exp(gain[1])) / 2)
    flow = 2.0 * math.log((math.exp(0.5) + math.exp(-0.7)) / 2)
    loss = pw_dice.dual_loss(duals, embedding, delta, batch, config)
    assert loss.item() == pytest.approx(coupling + flow - 0.5 * 1.0 - (0.3 + 2.0) / 2)


def test_for_u1_of_minus_the_reward_its_flow_is_the_dual_of_lobsdice() -> None:
    config = pw_dice_config(temperature=1.7, gamma=0.9) | {
        "kl_weight": 0.7, "joint": False, "bootstraps_terminals": False, "absorbing": False,
    }  # fmt: skip
    duals = parts.MLP(table(DUALS), config)
    value = parts.MLP(table([[-lam] for lam, *_ in DUALS]), config)
    rows = transitions([(0, 1), (1, 2), (2, 2)])
    rows["terminal"] = column([0.0, 1.0, 0.0])
    delta = pw_dice.residual(duals, rows, config)
    expected = lobsdice.residual(rows, -duals(rows["obs"])[:, 1], value, config)
    assert delta.tolist() == pytest.approx(expected.tolist())
    initial = value.scalar(rows["obs"])
    dual = lobsdice.dual_loss(initial, expected, config) - 0.1 * initial.mean()
    flow = 1.7 * torch.log(torch.exp(delta / 1.7).mean())
    assert flow.item() == pytest.approx(dual.item())


def test_a_perfect_encoder_of_far_states_has_a_small_loss() -> None:
    config = pw_dice_config()
    states = torch.eye(3, dtype=torch.float64)
    net = parts.MLP(table([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), config)
    w = 10.0 * torch.eye(3, dtype=torch.float64) - 10.0
    loss = pw_dice.contrastive_loss(net, w, states, states)
    similarity = torch.nn.functional.softplus(w) @ torch.nn.functional.softplus(w).T
    expected = torch.logsumexp(similarity, 1) - similarity.diagonal()
    assert loss.item() == pytest.approx(expected.mean().item())
    # A vector's length does not matter.
    longer = parts.MLP(table([[7.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]]), config)
    assert pw_dice.contrastive_loss(longer, w, states, states).item() == pytest.approx(loss.item())


def test_the_encoders_gradient_is_clipped() -> None:
    config = pw_dice_config(embedding_gradient_clip=1e-12)
    rows = transitions([(0, 1), (1, 2)])
    layers = table([[1.0, 0.3], [-0.2, 1.0], [0.5, 0.5]])
    factor = torch.tensor([[0.3, 0.1], [0.9, 0.4]], dtype=torch.float64)
    after, after_factor, losses = pw_dice.train_embedding(
        layers, factor, [{"background": rows}] * 2, config
    )
    # Adam's epsilon is 1e-8, so gradients of 1e-12 move the weights by 1e-3 * 1e-4 at most.
    assert float((after_factor - factor).abs().max()) < 3e-7
    assert float((after[0][0] - layers[0][0]).abs().max()) < 3e-7
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
