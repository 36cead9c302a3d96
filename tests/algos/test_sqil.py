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
from fastifo.algos.sqil import SQIL
from helpers import random_dataset, run_updates
from oracles import sqil as oracle


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"alpha": 0.3, "policy_alpha": 0.8, "absorbing": False, "temperature": 3.0},
        {"advantage_bootstrap": "online", "target_period": 3, "learning_rate": 1e-2},
        {"policy_head": "gaussian", "max_weight": 1.1},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, object]) -> None:
    learner, sampler = pair("sqil", **overrides)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_layers_equal(layers(learner.value), after["value"])
    assert_metrics_equal(metrics, history, ["value_loss", "policy_loss"])


def test_alpha_1_with_a_value_of_0_is_cloning() -> None:
    learner, sampler = pair("sqil", alpha=1.0)
    cloning, cloning_sampler = pair("bc")
    with torch.no_grad():
        for net in (learner.value, learner.value_target):
            for parameter in net.parameters():
                parameter.zero_()
    run_updates(learner, sampler, 20)
    run_updates(cloning, cloning_sampler, 20)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy))


def test_the_advantage_of_expert_rows_uses_a_reward_of_1() -> None:
    learner, sampler = pair("sqil", temperature=1.0, max_weight=1e9)
    with torch.no_grad():
        for net in (learner.value, learner.value_target):
            for parameter in net.parameters():
                parameter.zero_()
    batch = sampler.draw(torch.tensor([0]))
    assert batch.expert is not None
    # The value is 0: advantages are 1, at a terminal 100, and 0 for the background.
    ends = batch.expert.terminal[0]
    expected = torch.cat([1.0 + 99.0 * ends, torch.zeros_like(ends)]).mean()
    advantage = learner.update(batch)["advantage_mean"][0]
    torch.testing.assert_close(advantage, expected)


def test_without_expert_rows_in_the_policy_loss_it_is_vfo_bin() -> None:
    learner, sampler = pair("sqil", alpha=0.7, policy_alpha=1.0)
    other, other_sampler = pair("vfo_bin", alpha=0.7)
    run_updates(learner, sampler, 20)
    run_updates(other, other_sampler, 20)
    assert_layers_equal(layers(learner.policy), layers(other.policy))
    assert_layers_equal(layers(learner.value), layers(other.value))


def test_a_dataset_without_expert_actions_is_refused_before_training() -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    object.__setattr__(dataset.expert, "action", None)
    with pytest.raises(ValueError, match="sqil needs the expert's actions; the dataset has none"):
        SQIL.check_data(dataset, SQIL.Config(), torch.device("cpu"))
