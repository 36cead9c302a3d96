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
from fastifo.data.dataset import Dataset
from helpers import make_learner, make_sampler, random_dataset, run_updates
from oracles import bc as oracle


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"kernel_reading": "targets"},
        {"kernel_reading": "probs", "kernel_width": 0.3},
        {"kernel_reading": "none", "activation": "silu"},
        {"encoder_scales": (), "activation": "elu", "weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": False, "num_bins": 101},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, object]) -> None:
    learner, sampler = pair("bc", **overrides)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_metrics_equal(metrics, history, ["policy_loss"])


def test_converges_to_the_empirical_action_frequencies() -> None:
    # One state, three actions seen 3, 2 and 1 times of 6.
    actions = torch.tensor([-1.0, -1.0, -1.0, 0.0, 0.0, 1.0])[:, None].expand(6, 2)
    episode = {"obs": torch.zeros(7, 3), "action": actions}
    dataset = Dataset.from_episodes([episode])
    learner = make_learner("bc", kernel_reading="none", num_bins=3, learning_rate=0.01)
    run_updates(learner, make_sampler(learner, dataset), 1200)
    found = learner.policy.log_probs(learner.encoder(torch.zeros(1, 1, 3).double())).exp()
    expected = torch.tensor([3 / 6, 2 / 6, 1 / 6]).double().expand(2, 3)
    # Batches of 8 leave noise of the order of the rate times the spread of a batch's mean.
    torch.testing.assert_close(found[0, 0].detach(), expected, rtol=0, atol=0.05)


def test_needs_no_expert() -> None:
    learner = make_learner("bc")
    type(learner).check(random_dataset(expert=False, reward=False))
