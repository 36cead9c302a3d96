import math

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
from helpers import make_learner, random_dataset, run_updates
from oracles import awr as oracle

METRICS = ["value_loss", "policy_loss", "weight_mean", "clip_fraction", "advantage_mean"]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"absorbing": False, "temperature": 0.3, "max_weight": math.inf, "gamma": 0.9},
        {"advantage_bootstrap": "online", "target_period": 3, "learning_rate": 1e-2},
        {"temperature": 0.05, "max_weight": 5.0, "weight_decay": 0.1},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, object]) -> None:
    learner, sampler = pair("awr", **overrides)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    assert_metrics_equal(metrics, history, METRICS)


def test_a_dataset_without_rewards_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="awr needs the background's rewards"):
        type(make_learner("awr")).check(random_dataset(reward=False))


def test_rewards_reach_the_targets() -> None:
    low, sampler = pair("awr")
    batch = sampler.draw(torch.tensor([0]))
    assert batch.background.reward is not None
    first = run_updates(low, sampler, 1)[0]["value_loss"]
    assert float(first[0].detach()) > 0.0
