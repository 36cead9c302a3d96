import math
from typing import Any

import pytest
import torch

from algos.parity import (
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    nets_of,
    oracle_batches,
    oracle_config,
    pair,
)
from fastifo.algos.dilo import DILO
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from helpers import SMALL, run_updates
from oracles import dilo as oracle

ORIG = preset_fields("dilo", "orig") | SMALL


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"beta": 0.2, "residual_share": 0.5, "inverse_temperature": 2.0, "max_weight": 1.05},
        {"policy_learning_rate": 1e-2, "policy_decay_updates": 15, "weight_decay": 0.1},
        ORIG,
        ORIG | {"polyak": 0.3, "backward_share": 1.0, "learning_rate": 1e-2},
        ORIG | {"policy_decay_updates": 10, "max_weight": math.inf},
        ORIG | {"backward_share": 0.0, "learning_rate": 1e-2},  # the semi-gradient
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, sampler = pair("dilo", **overrides)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    if learner.cfg.orthogonal:
        assert_layers_equal(layers(learner.twin), after["value2"])
    assert_metrics_equal(metrics, history, ["value_loss", "policy_loss", "weight_mean"])


def test_inverse_temperature_0_is_cloning() -> None:
    learner, sampler = pair("dilo", inverse_temperature=0.0)
    cloning, _ = pair("bc")
    # Triples come from other rows than transitions, so cloning takes DILO's batches.
    for update in range(20):
        learner.counter.fill_(update)
        cloning.counter.fill_(update)
        batch = sampler.draw(learner.counter)
        learner.update(batch)
        cloning.update(batch)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy))


def test_the_residual_of_a_constant_value_is_gamma_minus_one_times_it() -> None:
    learner, sampler = pair("dilo")
    with torch.no_grad():
        for parameter in learner.value.parameters():
            parameter.zero_()
        learner.value.layers[-1].bias.fill_(3.0)
    metrics = learner.update(sampler.draw(torch.tensor([0])))
    assert float(metrics["residual_mean"][0]) == pytest.approx(-0.03)
    assert float(metrics["residual_std"][0]) == pytest.approx(0.0, abs=1e-12)


def bias_gradient(share: float, value: float) -> float:
    """The gradient of the loss in the last bias, where the value is `value` everywhere."""
    learner, sampler = pair("dilo", residual_share=share)
    with torch.no_grad():
        for parameter in learner.value.parameters():
            parameter.zero_()
        learner.value.layers[-1].bias.fill_(value)
    recorded: list[Any] = []
    learner.optimizer_step = lambda parameters, gradients: recorded.extend(gradients)
    learner.update(sampler.draw(torch.tensor([0])))
    return float(recorded[len(learner.value_parameters()) - 1])


def test_the_papers_share_has_its_minimum_at_0_and_that_of_the_code_far_below() -> None:
    assert bias_gradient(-1.0, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert bias_gradient(-1.0, 1.0) > 0.0 > bias_gradient(-1.0, -1.0)
    # 0.2 = 0.4 (1 - gamma) (1 + y) at y = -(1 - gamma) v
    assert bias_gradient(0.8, -4900.0) == pytest.approx(0.0, abs=1e-9)
    assert bias_gradient(0.8, -4800.0) > 0.0 > bias_gradient(0.8, -5000.0)


def test_the_projected_backward_gradient_is_orthogonal_to_the_forward_gradient() -> None:
    learner, sampler = pair("dilo", **ORIG)
    run_updates(learner, sampler, 3)
    batch = sampler.draw(torch.tensor([5]))
    recorded: dict[str, Any] = {}

    def keep(parameters: Any, gradients: Any) -> None:
        recorded.setdefault("gradients", [g.clone() for g in gradients])

    learner.optimizer_step = keep
    value_parameters = len(learner.value_parameters())
    fields = dict(learner.hp.__dict__)
    parts = {}
    for name, eta in (("both", 1.0), ("forward", 0.0)):
        learner.hp.backward_share = torch.full_like(fields["backward_share"], eta)
        recorded.clear()
        learner.update(batch)
        parts[name] = [g.flatten() for g in recorded["gradients"][:value_parameters]]
    # both = (1 - kappa) f + b + linear, forward = f + linear: their difference is b - kappa f.
    projected = torch.cat(parts["both"]) - torch.cat(parts["forward"])
    learner.hp.residual_share = torch.zeros_like(fields["residual_share"])
    recorded.clear()
    learner.update(batch)  # only the linear term, with weight one
    linear = torch.cat([g.flatten() for g in recorded["gradients"][:value_parameters]])
    forward = torch.cat(parts["forward"]) - 0.2 * linear
    cosine = (projected @ forward) / (projected.norm() * forward.norm())
    assert abs(float(cosine)) < 1e-9
    assert float(projected.norm()) > 1e-6


def test_targets_track_by_polyak_after_every_update() -> None:
    learner, sampler = pair("dilo", **ORIG | {"polyak": 0.25})
    before = layers(learner.twin_target)
    run_updates(learner, sampler, 1)
    online, after = layers(learner.twin), layers(learner.twin_target)
    expected = [
        (0.75 * w + 0.25 * ow, 0.75 * b + 0.25 * ob)
        for (w, b), (ow, ob) in zip(before, online, strict=True)
    ]
    assert_layers_equal(after, expected, tolerance=1e-15)


@pytest.mark.parametrize("fields", [{}, ORIG], ids=["study", "authors"])
def test_only_the_authors_weight_is_of_the_value_after_its_step(fields: dict[str, Any]) -> None:
    learner, sampler = pair("dilo", **fields | {"learning_rate": 0.1, "inverse_temperature": 1.0})
    batch = sampler.draw(learner.counter)
    b = batch.background
    successive = torch.cat([b.obs, b.next_obs], -1)

    def weight_mean() -> float:
        values = torch.stack([head(successive) for head in learner.heads])
        return float(values.detach().amin(0).exp().clamp(max=100.0).mean())

    before = weight_mean()
    found = float(learner.update(batch)["weight_mean"][0])
    after = weight_mean()
    assert abs(after - before) > 1e-2
    assert found == pytest.approx(after if learner.cfg.orthogonal else before, rel=1e-12)


def test_the_authors_sum_the_error_over_action_dimensions() -> None:
    learner, sampler = pair("dilo", **ORIG | {"inverse_temperature": 0.0})
    batch = sampler.draw(learner.counter)
    action = batch.background.action
    assert action is not None
    error = (learner.policy.mode(batch.background.obs) - action).square().sum(-1).mean()
    found = float(learner.update(batch)["policy_loss"][0])
    assert found == pytest.approx(float(error.detach()), rel=1e-12)


def test_triples_stay_in_one_episode() -> None:
    _, sampler = pair("dilo", batch_size=500)
    batch = sampler.raw.draw(torch.tensor([0]))
    for source in (batch.background, batch.expert):
        assert source is not None
        assert not bool(
            source.terminal.any()
        )  # an episode continues after the first transition of a triple


def test_episodes_of_one_transition_are_refused_before_training() -> None:
    long = {"obs": torch.randn(4, 3), "action": torch.zeros(3, 2)}
    short = {"obs": torch.randn(2, 3), "action": torch.zeros(1, 2)}
    dataset = Dataset.from_episodes([long], [short], min_steps=1)
    with pytest.raises(ValueError, match=r"dilo learns from three successive .* the expert has"):
        DILO.check_data(dataset, DILO.Config(), torch.device("cpu"))
