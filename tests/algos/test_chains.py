"""Tabular chains whose values are known in closed form.

Observations are one-hot and nets are linear, so the value net is a table. Every update uses the
entire dataset, so nothing is random.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo.algos import ALGORITHMS
from fastifo.algos.config import expand
from fastifo.algos.learner import InputSpec, Learner, Metrics
from fastifo.data.sampler import Batch, Transitions

Pairs = list[tuple[int, int]]


def rows(pairs: Pairs, terminal: Any = 0.0, reward: Any = None) -> Transitions:
    """One-hot transitions (from, to) between three states; the action encodes the arrival state."""
    state = torch.eye(3, dtype=torch.float64)
    flag = torch.as_tensor(terminal, dtype=torch.float64).expand(len(pairs))
    column = None if reward is None else torch.tensor(reward, dtype=torch.float64)
    arrival = torch.tensor([[b - 1.0] for _, b in pairs], dtype=torch.float64)
    return Transitions(
        obs=state[[a for a, _ in pairs]][None],
        next_obs=state[[b for _, b in pairs]][None],
        terminal=flag[None].contiguous(),
        action=arrival[None],
        reward=None if column is None else column.expand(len(pairs))[None].contiguous(),
    )


def tabular(name: str, values: list[float], **overrides: Any) -> Any:
    """A learner whose value net and target hold the given value of each state."""
    fields = {
        "hidden_sizes": (),
        "encoder_scales": (),
        "num_bins": 3,
        "kernel_reading": "none",
        "max_weight": math.inf,
        "target_period": 1,
    }
    learner_class = ALGORITHMS[name]
    configs = expand(learner_class.Config, fields | overrides)
    learner: Any = learner_class(configs, [0], InputSpec(3, 1), "fp64")
    with torch.no_grad():
        for net in (learner.value, learner.value_target):
            net.layers[0].weight.copy_(torch.tensor(values, dtype=torch.float64)[None, :, None])
            net.layers[0].bias.zero_()
    return learner


def learn(learner: Learner, batch: Batch, count: int) -> Iterator[Metrics]:
    """Makes `count` updates on the same batch; yields their metrics."""
    for update in range(count):
        learner.counter.fill_(update)
        yield learner.update(batch)
        learner.num_updates += 1


def value_table(learner: Any) -> Tensor:
    """The value of each state, [3]."""
    layer: Any = learner.value.layers[0]
    table: Tensor = (layer.weight + layer.bias).detach().flatten()
    return table


def encode(learner: Learner, transitions: Transitions | None) -> Transitions:
    """The transitions with encoded observations, as a sampler returns them."""
    assert transitions is not None
    pair = {name: learner.encoder(getattr(transitions, name)) for name in ("obs", "next_obs")}
    return dataclasses.replace(transitions, **pair)


def value_gradient(learner: Any, batch: Batch) -> Tensor:
    """The gradient of one update in the value table, [3]."""
    recorded: list[Tensor] = []

    def record(pairs: list[tuple[Tensor, Tensor]], *nets: Any) -> None:
        v, gradient = pairs[0]
        recorded.append(torch.autograd.grad(v, learner.value.layers[0].weight, gradient)[0])

    learner.apply_gradients = record
    learner.update(batch)
    return recorded[0].flatten()


def advantages(learner: Any, batch: Batch) -> Tensor:
    """Logarithms of the policy weights, which are the advantages at temperature 1, [B]."""
    recorded: list[Tensor] = []
    loss = learner.policy.loss

    def record(logits: Tensor, action: Tensor, weight: Tensor) -> Any:
        recorded.append(weight)
        return loss(logits, action, weight)

    learner.policy.loss = record
    learner.apply_gradients = lambda *ignored: None
    learner.update(batch)
    return recorded[0].log()[0]


EXPERT: Pairs = [(0, 1), (1, 1)]
BACKGROUND: Pairs = [(0, 2), (2, 2)]


def test_three_state_chain_has_values_50_100_0_and_background_advantage_minus_50() -> None:
    batch = Batch(background=rows(BACKGROUND), expert=rows(EXPERT))
    learner = tabular("vfo_bin", [50.0, 100.0, 0.0])
    assert float(value_gradient(learner, batch).abs().max()) < 1e-9
    advantage = advantages(tabular("vfo_bin", [50.0, 100.0, 0.0]), batch)
    torch.testing.assert_close(advantage, torch.tensor([-50.0, 0.0]).double(), rtol=0, atol=1e-9)


def test_background_actions_that_lead_to_the_expert_get_a_higher_weight() -> None:
    # p = 3/10 of ten background steps from s0 reach s1; there the background's share is p too.
    p = 0.3
    background = [(0, 1)] * 3 + [(0, 2)] * 7 + [(1, 1)] * 3 + [(2, 2)] * 7
    expert = [(0, 1)] * 10 + [(1, 1)] * 10
    at_expert = 1 / (1 + p) / 0.01
    start = 0.5 * (1 + 0.99 * at_expert) + 0.5 * p * 0.99 * at_expert
    assert abs(at_expert - 76.923) < 1e-3
    assert abs(start - 50.0) < 1e-9
    batch = Batch(background=rows(background), expert=rows(expert))
    values = [start, at_expert, 0.0]
    assert float(value_gradient(tabular("vfo_bin", values), batch).abs().max()) < 1e-9
    advantage = advantages(tabular("vfo_bin", values), batch)
    assert abs(float(advantage[0]) - 26.154) < 1e-3
    assert abs(float(advantage[3]) + 50.0) < 1e-9
    assert abs(float(advantage[0] - advantage[3]) - 76.15) < 1e-2  # log of the ratio of weights


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_the_value_of_a_self_loop_is_its_expert_share_over_one_minus_gamma(alpha: float) -> None:
    batch = Batch(background=rows([(0, 0)]), expert=rows([(0, 0)]))
    learner = tabular("vfo_bin", [(1 - alpha) * 100.0, 0.0, 0.0], alpha=alpha)
    assert float(value_gradient(learner, batch).abs().max()) < 1e-9


@pytest.mark.parametrize("start", [0.0, 5.0, 10.0])
def test_tabular_values_are_always_within_0_and_1_over_1_minus_gamma(start: float) -> None:
    batch = Batch(background=rows(BACKGROUND), expert=rows(EXPERT))
    learner = tabular("vfo_bin", [start] * 3, gamma=0.9, learning_rate=0.05)
    for _ in learn(learner, batch, 1500):
        table = value_table(learner)
        assert float(table.min()) >= -0.05  # Adam's step length
        assert float(table.max()) <= 10.05
    expected = torch.tensor([5.0, 10.0, 0.0]).double()
    torch.testing.assert_close(table, expected, rtol=0, atol=0.02)


@pytest.mark.slow
def test_values_of_a_network_are_within_0_and_1_over_1_minus_gamma_after_convergence() -> None:
    batch = Batch(background=rows(BACKGROUND), expert=rows(EXPERT))
    fields = {
        "hidden_sizes": (32, 32), "num_bins": 3, "kernel_reading": "none", "target_period": 20,
        "gamma": 0.9, "learning_rate": 3e-3,
    }  # fmt: skip
    configs = expand(ALGORITHMS["vfo_bin"].Config, fields)
    learner: Any = ALGORITHMS["vfo_bin"](configs, [0], InputSpec(3, 1), "fp64")
    encoded = Batch(
        background=encode(learner, batch.background), expert=encode(learner, batch.expert)
    )
    for _ in learn(learner, encoded, 2500):
        pass
    state = torch.eye(3, dtype=torch.float64)[None]
    values = learner.value(learner.encoder(state)).detach().flatten()
    torch.testing.assert_close(values, torch.tensor([5.0, 10.0, 0.0]).double(), rtol=0, atol=0.1)


@pytest.mark.parametrize(("source", "value"), [("background", 0.0), ("expert", 100.0)])
def test_a_terminal_has_value_0_in_the_background_and_100_for_the_expert(
    source: str, value: float
) -> None:
    terminal, other = rows([(0, 1)], terminal=1.0), rows([(2, 2)])
    batch = Batch(
        background=terminal if source == "background" else other,
        expert=terminal if source == "expert" else other,
    )
    values = [value, 7.0, 0.0 if source == "expert" else 100.0]
    assert float(value_gradient(tabular("vfo_bin", values), batch).abs().max()) < 1e-9


def test_a_terminal_with_discriminator_reward_03_has_value_30() -> None:
    terminal = rows([(0, 1)], terminal=1.0, reward=0.3)
    batch = Batch(background=terminal, expert=terminal)
    assert float(value_gradient(tabular("vfo_disc", [30.0, 5.0, 0.0]), batch).abs().max()) < 1e-6


def test_a_terminal_of_each_source_gives_value_50_and_background_advantage_minus_50() -> None:
    batch = Batch(background=rows([(0, 2)], 1.0), expert=rows([(0, 1)], 1.0))
    learner = tabular("vfo_bin", [50.0, 0.0, 0.0])
    assert float(value_gradient(learner, batch).abs().max()) < 1e-9
    advantage = advantages(tabular("vfo_bin", [50.0, 0.0, 0.0]), batch)
    assert abs(float(advantage[0]) + 50.0) < 1e-9


@pytest.mark.parametrize("absorbing", [True, False])
def test_a_reward_shift_leaves_advantages_unchanged_only_with_the_absorbing_bootstrap(
    absorbing: bool,
) -> None:
    """State 0 has a terminal and a continuing transition; rewards are shifted by c = 1."""
    pairs, terminal = [(0, 1), (0, 1), (1, 1)], [1.0, 0.0, 0.0]

    def solved(shift: float) -> tuple[Tensor, Tensor]:
        batch = Batch(background=rows(pairs, terminal, [0.5 + shift, 1.0 + shift, 0.2 + shift]))
        at_1 = (0.2 + shift) / 0.01
        end = (0.5 + shift) / (0.01 if absorbing else 1.0)
        values = [0.5 * (end + 1.0 + shift + 0.99 * at_1), at_1, 0.0]
        learner = tabular("awr", values, absorbing=absorbing, temperature=100.0)
        assert float(value_gradient(learner, batch).abs().max()) < 1e-8
        fresh = tabular("awr", values, absorbing=absorbing, temperature=100.0)
        return torch.tensor(values), advantages(fresh, batch)

    (values, advantage), (shifted_values, shifted) = solved(0.0), solved(1.0)
    assert torch.allclose(advantage, shifted, atol=1e-9) is absorbing
    difference = float(shifted_values[0] - values[0])
    assert (abs(difference - 100.0) < 1e-3) is absorbing


def test_with_a_constant_discriminator_values_are_kappa_over_1_minus_gamma_and_weights_1() -> None:
    background, expert = (rows(pairs, 0.0, 0.3) for pairs in ([(0, 2), (2, 1)], EXPERT))
    learner = tabular("vfo_disc", [0.0, 10.0, 4.0], gamma=0.9, learning_rate=0.05)
    *_, metrics = learn(learner, Batch(background=background, expert=expert), 1500)
    torch.testing.assert_close(
        value_table(learner), torch.full((3,), 3.0).double(), rtol=0, atol=0.02
    )
    assert abs(float(metrics["weight_mean"][0]) - 1.0) < 0.02


def test_alpha_1_ignores_the_expert_and_is_cloning() -> None:
    batch = Batch(background=rows(BACKGROUND), expert=rows(EXPERT))
    learner = tabular("vfo_bin", [0.0, 0.0, 0.0], alpha=1.0)
    assert float(value_gradient(learner, batch).abs().max()) < 1e-12
    advantage = advantages(tabular("vfo_bin", [0.0, 0.0, 0.0], alpha=1.0), batch)
    assert float(advantage.abs().max()) < 1e-12


def test_with_alpha_1_background_values_are_0_and_weights_1() -> None:
    batch = Batch(background=rows(BACKGROUND), expert=rows(EXPERT))
    fields = {"alpha": 1.0, "gamma": 0.9, "learning_rate": 0.02}
    learner = tabular("vfo_bin", [5.0, 7.0, 3.0], **fields)
    *_, metrics = learn(learner, batch, 1500)
    assert float(value_table(learner)[[0, 2]].abs().max()) < 1e-3
    assert abs(float(metrics["weight_mean"][0]) - 1.0) < 1e-3


@pytest.mark.parametrize(("alpha", "expert_copies", "background_copies"), [
    (0.5, 1, 1), (0.25, 3, 1), (0.75, 1, 3), (0.1, 9, 1),
])  # fmt: skip
def test_awr_with_provenance_as_reward_equals_vfo_bin_at_the_matching_alpha(
    alpha: float, expert_copies: int, background_copies: int
) -> None:
    expert, background = rows(EXPERT), rows(BACKGROUND)
    merged = rows(
        EXPERT * expert_copies + BACKGROUND * background_copies,
        reward=[1.0, 1.0] * expert_copies + [0.0, 0.0] * background_copies,
    )
    values = [20.0, 30.0, 10.0]
    bin_gradient = value_gradient(
        tabular("vfo_bin", values, alpha=alpha), Batch(background=background, expert=expert)
    )
    awr_gradient = value_gradient(tabular("awr", values), Batch(background=merged))
    torch.testing.assert_close(bin_gradient, awr_gradient, rtol=1e-12, atol=1e-12)
