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
from fastifo.algos.awr import AWR
from helpers import random_dataset, run_updates
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
    dataset = random_dataset(reward=False)
    with pytest.raises(ValueError, match="awr needs the background's rewards"):
        AWR.check_data(dataset, AWR.Config(), torch.device("cpu"))


def test_nan_rewards_are_refused_before_training() -> None:
    dataset = random_dataset()
    assert dataset.background.reward is not None
    dataset.background.reward[3] = math.nan
    with pytest.raises(ValueError, match="awr learns from the background's rewards; some are nan"):
        AWR.check_data(dataset, AWR.Config(), torch.device("cpu"))


def test_rewards_reach_the_targets() -> None:
    learner, sampler = pair("awr", gamma=0.0)
    batch = sampler.draw(torch.tensor([0])).background
    assert batch.reward is not None
    v = learner.value(batch.obs).detach()
    loss = learner.update(sampler.draw(torch.tensor([0])))["value_loss"].detach()
    torch.testing.assert_close(loss, (batch.reward - v).square().mean(1), rtol=1e-12, atol=0)


def test_the_absorbing_bootstrap_can_be_limited_to_the_value_loss() -> None:
    default, sampler = pair("awr", batch_size=256)
    other, _ = pair("awr", batch_size=256, advantage_absorbing=False)
    batch = sampler.draw(torch.tensor([0]))
    assert bool((batch.background.terminal > 0).any())
    first, second = default.update(batch), other.update(batch)
    assert torch.equal(first["value_loss"], second["value_loss"])
    assert not torch.equal(first["advantage_mean"], second["advantage_mean"])
