from typing import Any

import pytest

from algos.parity import (
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    nets_of,
    oracle_batches,
    oracle_config,
    pair,
    prepared,
)
from helpers import make_learner, make_sampler, run_updates
from oracles import oril as oracle


@pytest.mark.parametrize("overrides", [{}, {"target_period": 3, "temperature": 0.2}])
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("oril", **overrides)
    dataset, discriminator, _ = prepared(learner)
    sampler = make_sampler(learner, dataset)
    start = nets_of(learner) | nets_of(discriminator)
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    assert_metrics_equal(metrics, history, ["value_loss", "policy_loss", "weight_mean"])


def test_oril_is_vfo_disc_whose_value_learns_from_the_background_only() -> None:
    learner = make_learner("oril")
    sampler = make_sampler(learner, prepared(learner)[0])
    other = make_learner("vfo_disc", alpha=1.0, disc_reward_at="current")
    other_sampler = make_sampler(other, prepared(other)[0])
    run_updates(learner, sampler, 20)
    run_updates(other, other_sampler, 20)
    assert_layers_equal(layers(learner.policy), layers(other.policy))


def test_rewards_are_probabilities() -> None:
    learner, _ = pair("oril")
    reward = prepared(learner)[0].background.reward
    assert reward is not None
    assert reward.shape == (1, reward.shape[1])
    assert bool(((reward > 0.0) & (reward < 1.0)).all())
