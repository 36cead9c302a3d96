import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from algos.parity import (
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    nets_of,
    oracle_batches,
    oracle_config,
    pair,
    prepared,
    standardise,
)
from engine.runs import assert_equal_bits, train
from fastifo.algos.discriminator import PairDiscriminator
from fastifo.algos.lobsdice import log_ratio
from fastifo.algos.presets import preset_fields
from helpers import SMALL, RawSampler, make_learner, make_sampler, random_dataset, run_updates
from oracles import lobsdice as oracle

ORIG = preset_fields("lobsdice", "orig") | SMALL
UNIFORM = {"init": "fan_in_uniform"}


def ready(**overrides: Any) -> tuple[Any, Any, RawSampler]:
    """A learner, its untrained discriminator (its own with `joint`), and the learner's sampler."""
    learner = make_learner("lobsdice", **overrides)
    standardise(learner)
    if learner.cfg.joint:
        return learner, learner, make_sampler(learner, random_dataset())
    dataset, discriminator, _ = prepared(learner)
    return learner, discriminator, make_sampler(learner, dataset)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"kl_weight": 3.0, "absorbing": True, "weight_decay": 0.1},
        {"max_weight": 1.2, "logit_clamp": 0.05, "gamma": 0.9},
        {"bootstraps_terminals": True, "learning_rate": 1e-2},
        ORIG | UNIFORM,
        ORIG | {"learning_rate": 1e-2, "disc_learning_rate": 3e-3, "gamma": 0.9},
        ORIG | UNIFORM | {"joint_gradient_penalty": 10.0, "value_gradient_penalty": 1.0},
        ORIG | UNIFORM | {"weight_decay": 0.3, "encoder_scales": (0.1, 1.0)},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, discriminator, sampler = ready(**overrides)
    start = nets_of(learner) | nets_of(discriminator)
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(discriminator.logit), after["discriminator"])
    value, expected = layers(learner.value), after["value"]
    # The last bias has no gradient except rounding errors, which Adam steps by.
    value[-1] = value[-1][0], expected[-1][1]
    assert_layers_equal(value, expected, tolerance=1e-8)
    names = ["value_loss", "policy_loss", "weight_mean"]
    names += ["value_penalty", "discriminator_loss"] if learner.cfg.joint else []
    assert_metrics_equal(metrics, history, names)


@pytest.mark.parametrize("overrides", [{}, {"disc_learning_rate": 1e-2, "encoder_scales": ()}])
def test_20_updates_of_the_discriminator_equal_the_oracle(overrides: dict[str, Any]) -> None:
    _, discriminator, dataset = prepared(make_learner("lobsdice", **overrides))
    sampler = make_sampler(discriminator, dataset)
    start, batches = nets_of(discriminator), oracle_batches(sampler, 20, 0, 0.5)
    run_updates(discriminator, sampler, 20)
    after = oracle.train_discriminator(start, batches, oracle_config(discriminator))
    assert_layers_equal(layers(discriminator.logit), after["discriminator"])


def test_the_reward_is_the_logit_of_the_transitions_two_observations() -> None:
    learner = make_learner("lobsdice", seeds=(0, 1))
    dataset, discriminator, _ = prepared(learner)
    assert isinstance(discriminator, PairDiscriminator)
    episodes = dataset.background
    encoded = learner.encoder(episodes.obs.double())
    rows = episodes.rows()
    x = torch.cat([encoded[rows], encoded[rows + 1]], 1)
    expected = discriminator.logit(x.expand(2, -1, -1))
    assert episodes.reward is not None
    torch.testing.assert_close(episodes.reward, expected.detach())
    assert dataset.expert is not None
    assert dataset.expert.reward is None


def test_an_infinite_weight_of_the_background_is_cloning() -> None:
    learner, _, sampler = ready(kl_weight=1e12)
    cloning, cloning_sampler = pair("bc")
    run_updates(learner, sampler, 5)
    run_updates(cloning, cloning_sampler, 5)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-8)


def weights(learner: Any, sampler: RawSampler) -> Tensor:
    """The policy weights of the first batch, [P, B]."""
    found: list[Tensor] = []
    inner = learner.policy.loss

    def recording(outputs: Tensor, action: Tensor, weight: Tensor) -> Any:
        found.append(weight)
        return inner(outputs, action, weight)

    learner.policy.loss = recording
    learner.update(sampler.draw(torch.tensor([0])))
    learner.policy.loss = inner
    return found[0]


@pytest.mark.parametrize("overrides", [{"max_weight": math.inf}, ORIG])
def test_weights_have_mean_1_and_approach_1_as_the_background_counts_more(
    overrides: dict[str, Any],
) -> None:
    spread = []
    for kl_weight in (0.0, 1.0, 10.0):
        learner, _, sampler = ready(**overrides, kl_weight=kl_weight)
        weight = weights(learner, sampler)
        assert float(weight.mean()) == pytest.approx(1.0, rel=1e-12)
        spread.append(float(weight.std()))
    assert spread[0] > 1.9 * spread[1] > 9 * spread[2] > 0


def test_without_terminals_loss_and_weights_are_invariant_to_a_constant_in_the_value() -> None:
    results = []
    for shift in (0.0, 3.7):
        learner, _, sampler = ready(bootstraps_terminals=True)
        with torch.no_grad():
            learner.value.layers[-1].bias.add_(shift)
        weight = weights(learner, sampler)
        loss = learner.update(sampler.draw(torch.tensor([0])))["value_loss"]
        results.append((weight, loss))
    # The second update starts from nets that Adam moved along rounding errors of the last bias.
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-6, atol=1e-6)


def test_at_kl_weight_0_a_state_discriminator_would_make_it_smodice() -> None:
    learner, _, sampler = ready(kl_weight=0.0)
    smodice, _ = pair("smodice")
    with torch.no_grad():
        for target, source in zip(smodice.parameters(), learner.parameters(), strict=True):
            target.copy_(source)
    run_updates(learner, sampler, 10)
    run_updates(smodice, sampler, 10)  # the same rewards
    for ours, theirs in zip(learner.parameters(), smodice.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_smoothed_ratio_is_the_logit_within_its_limits() -> None:
    logit = torch.linspace(-40.0, 40.0, 33, dtype=torch.float64)
    ratio = log_ratio(logit)
    near = logit.abs() <= 2.5
    torch.testing.assert_close(ratio[near], logit[near], rtol=0, atol=0.02)
    assert float(ratio[0]) == pytest.approx(-math.log(1 / 0.001 - 0.999), rel=1e-12)
    assert float(ratio[-1]) == pytest.approx(-math.log(1 / 1.001 - 0.999), rel=1e-9)
    # In single precision nothing cancels.
    torch.testing.assert_close(log_ratio(logit.float()).double(), ratio, rtol=1e-5, atol=1e-5)


def test_the_joint_discriminator_learns_to_tell_the_expert() -> None:
    learner, _, sampler = ready(**ORIG | {"disc_learning_rate": 1e-2, "batch_size": 64})
    metrics = run_updates(learner, sampler, 200)
    assert float(metrics[0]["prob_expert"] - metrics[0]["prob_background"]) < 0.2
    assert float(metrics[-1]["prob_expert"] - metrics[-1]["prob_background"]) > 0.5
    assert all(bool(value.isfinite().all()) for value in metrics[-1].values())


def test_a_resumed_run_of_the_authors_settings_has_the_bits_of_one_that_never_stopped(
    tmp_path: Any,
) -> None:
    run = train("lobsdice", random_dataset(), 5, preset="orig", out=tmp_path / "run")
    assert run.engine == "torch"
    resumed = train(
        "lobsdice", random_dataset(), 12, preset="orig", out=tmp_path / "run", resume=True
    )
    assert_equal_bits(resumed, train("lobsdice", random_dataset(), 12, preset="orig"))


def test_bootstrapping_terminals_excludes_the_absorbing_rule() -> None:
    with pytest.raises(ValueError, match="bootstraps_terminals: expected False with absorbing"):
        make_learner("lobsdice", bootstraps_terminals=True, absorbing=True)
    with pytest.raises(ValueError, match="kl_weight: expected at least 0, found -1"):
        fastifo.train("lobsdice", random_dataset(), num_updates=1, kl_weight=-1.0)
