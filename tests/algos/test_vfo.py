import math
from typing import Any

import pytest
import torch

import fastifo
from algos.parity import (
    FakeTrainer,
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    make_discriminator,
    nets_of,
    oracle_batches,
    oracle_config,
    pair,
)
from fastifo.algos.vfo import VfODisc
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates
from oracles import vfo as oracle

METRICS = ["value_loss", "policy_loss"]
ROW_METRICS = ["weight_mean", "clip_fraction", "advantage_mean", "value_mean_background"]

VARIANTS = [
    {},
    {"alpha": 0.9, "temperature": 0.1, "gamma": 0.9},
    {"alpha": 0.1, "max_weight": math.inf, "absorbing": False, "temperature": 3.0},
    {"advantage_bootstrap": "online", "target_period": 3, "learning_rate": 1e-2},
    {"weight_decay": 0.1, "kernel_reading": "probs"},
    {"batch_mode": "bernoulli", "alpha": 0.3},
    {"policy_batch": "separate", "gamma": 0.9},
]


@pytest.mark.parametrize("overrides", VARIANTS)
def test_20_updates_of_vfo_bin_equal_the_oracle(overrides: dict[str, object]) -> None:
    learner, sampler = pair("vfo_bin", **overrides)
    alpha = learner.configs[0].alpha
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, alpha)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run_bin(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    # The oracle's other statistics are over the rows that a Bernoulli batch draws, and its mean
    # value is over the policy's rows.
    extra = [] if "batch_mode" in overrides else ROW_METRICS
    extra = extra[:-1] if "policy_batch" in overrides else extra
    assert_metrics_equal(metrics, history, METRICS + extra)


@pytest.mark.parametrize(
    "overrides",
    [
        {"disc_reward_at": "next"},
        {"disc_reward_at": "current"},
        {"alpha": 0.9, "temperature": 0.1, "gamma": 0.9, "target_period": 3},
        {"alpha": 0.1, "max_weight": math.inf, "absorbing": False, "temperature": 3.0},
        {"advantage_bootstrap": "online", "learning_rate": 1e-2, "weight_decay": 0.1},
    ],
)
def test_20_updates_of_vfo_disc_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("vfo_disc", **overrides)
    discriminator = make_discriminator(learner)
    trainer = FakeTrainer(learner, fit=lambda *_: discriminator)
    prepared = VfODisc.prepare(random_dataset(), learner.configs, trainer)
    sampler = make_sampler(learner, prepared)
    start = nets_of(learner) | nets_of(discriminator)
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run_disc(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    assert_metrics_equal(metrics, history, METRICS + ROW_METRICS)


@pytest.mark.parametrize("overrides", [{}, {"disc_loss": "pu", "pu_prior": 0.3}])
def test_20_updates_of_the_discriminator_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("vfo_disc", disc_learning_rate=1e-3, **overrides)
    discriminator = make_discriminator(learner)
    sampler = make_sampler(discriminator, random_dataset())
    start, batches = nets_of(discriminator), oracle_batches(sampler, 20, 0, 0.5)
    run_updates(discriminator, sampler, 20)
    after, _ = oracle.train_discriminator(start, batches, oracle_config(learner))
    assert_layers_equal(layers(discriminator.logit), after["discriminator"])


def test_no_gradient_reaches_the_target_copy() -> None:
    learner, sampler = pair("vfo_bin")
    before = layers(learner.value_target)
    run_updates(learner, sampler, 1)
    assert_layers_equal(layers(learner.value_target), before, tolerance=0.0)
    assert all(not p.requires_grad for p in learner.value_target.parameters())


def test_target_parameters_change_exactly_at_multiples_of_the_period() -> None:
    learner, sampler = pair("vfo_bin", target_period=4)
    changed = []
    for update in range(1, 13):
        before = layers(learner.value_target)[0][0]
        run_updates(learner, sampler, 1)
        if not torch.equal(before, layers(learner.value_target)[0][0]):
            changed.append(update)
    assert changed == [4, 8, 12]


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.slow
def test_the_target_is_copied_every_200_updates_of_a_training_run(engine: str) -> None:
    def trained(num_updates: int) -> Any:
        fields: dict[str, Any] = {"num_updates": num_updates, "engine": engine, "progress": False}
        return fastifo.train("vfo_bin", random_dataset(), **fields, **SMALL).learners[0]

    first, at_200, at_399, at_401 = (trained(n) for n in (199, 200, 399, 401))
    start = [
        (weight.float(), bias.float()) for weight, bias in layers(make_learner("vfo_bin").value)
    ]
    assert_layers_equal(layers(first.value_target), start, tolerance=1e-6)
    assert_layers_equal(layers(at_200.value_target), layers(at_200.value), tolerance=0.0)
    assert_layers_equal(layers(at_399.value_target), layers(at_200.value), tolerance=0.0)
    assert not torch.equal(layers(at_399.value)[0][0], layers(at_200.value)[0][0])
    assert_layers_equal(layers(at_401.value_target), layers(trained(400).value), tolerance=0.0)


def test_the_policy_loss_does_not_reach_the_value() -> None:
    full, sampler = pair("vfo_bin")
    other, _ = pair("vfo_bin")
    with torch.no_grad():
        for parameter in other.policy.parameters():
            parameter.zero_()
    batch = sampler.draw(torch.tensor([0]))
    full.update(batch)
    other.update(batch)
    assert_layers_equal(layers(full.value), layers(other.value), tolerance=0.0)


def test_the_value_reaches_the_policy_only_through_the_weights() -> None:
    # At infinite temperature every weight is 1, so the value must not matter.
    full, sampler = pair("vfo_bin", temperature=1e30)
    other, _ = pair("vfo_bin", temperature=1e30)
    with torch.no_grad():
        for parameter in other.value.parameters():
            parameter.add_(0.5)
    batch = sampler.draw(torch.tensor([0]))
    full.update(batch)
    other.update(batch)
    assert_layers_equal(layers(full.policy), layers(other.policy), tolerance=0.0)


def test_infinite_temperature_is_cloning() -> None:
    learner, sampler = pair("vfo_bin", temperature=1e12)
    cloning, cloning_sampler = pair("bc")
    run_updates(learner, sampler, 20)
    run_updates(cloning, cloning_sampler, 20)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-7)


def test_a_constant_discriminator_is_cloning_at_the_fixed_point() -> None:
    # v = kappa / (1 - gamma), here exactly 1, has no gradient, and every advantage is 0.
    learner = make_learner("vfo_disc", gamma=0.5)
    with torch.no_grad():
        for net in (learner.value, learner.value_target):
            for parameter in net.parameters():
                parameter.zero_()
            net.layers[-1].bias.fill_(1.0)
    before = layers(learner.value)

    def constant(discriminator: Any, *_: Any) -> Any:
        with torch.no_grad():
            for parameter in discriminator.parameters():
                parameter.zero_()
        return discriminator  # its probability is 1/2 everywhere

    trainer = FakeTrainer(learner, fit=constant)
    sampler = make_sampler(learner, VfODisc.prepare(random_dataset(), learner.configs, trainer))
    cloning, cloning_sampler = pair("bc")
    for metrics in run_updates(learner, sampler, 20):
        assert float(metrics["value_loss"][0]) == 0.0
        assert float(metrics["advantage_mean"][0]) == 0.0
        assert float(metrics["weight_mean"][0]) == 1.0
    run_updates(cloning, cloning_sampler, 20)
    assert_layers_equal(layers(learner.value), before, tolerance=0.0)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-12)


def test_separate_policy_batches_differ_from_the_value_batch() -> None:
    learner, sampler = pair("vfo_bin", policy_batch="separate")
    batch = sampler.draw(torch.tensor([0]))
    assert batch.policy is not None
    assert not torch.equal(batch.policy.obs, batch.background.obs)
    # The value's update is the same as with shared batches; only the policy's rows differ.
    shared, shared_sampler = pair("vfo_bin")
    run_updates(learner, sampler, 1)
    run_updates(shared, shared_sampler, 1)
    assert_layers_equal(layers(learner.value), layers(shared.value), tolerance=1e-12)
    assert not torch.equal(layers(learner.policy)[0][0], layers(shared.policy)[0][0])


def test_all_separate_policy_rows_count_whatever_a_bernoulli_batch_draws() -> None:
    fields = {"policy_batch": "separate", "batch_mode": "bernoulli", "temperature": 1e12}
    losses = []
    for alpha in (0.1, 0.9):
        learner, sampler = pair("vfo_bin", alpha=alpha, **fields)
        losses.append(learner.update(sampler.draw(torch.tensor([0])))["policy_loss"].detach())
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
