import dataclasses
from typing import Any

import pytest
import torch

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
)
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates
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
        preset_fields("bc", "orig") | SMALL,
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, object]) -> None:
    learner, sampler = pair("bc", **overrides)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_metrics_equal(metrics, history, ["policy_loss"])


def test_20_updates_on_the_expert_equal_the_oracle() -> None:
    learner = make_learner("bc", source="expert")
    dataset, *_ = prepared(learner)
    sampler = make_sampler(learner, dataset)
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_metrics_equal(metrics, history, ["policy_loss"])


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("standardize_obs", [False, True])
def test_cloning_the_expert_reads_the_expert_alone(engine: str, standardize_obs: bool) -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    fields: dict[str, Any] = {"num_updates": 20, "engine": engine, "progress": False, **SMALL}
    fields["standardize_obs"] = standardize_obs
    poisoned = dataclasses.replace(
        dataset, background=dataclasses.replace(dataset.background, action=torch.zeros(45, 2))
    )
    expert_only = dataclasses.replace(dataset, background=dataset.expert, expert=None)
    expected = fastifo.train("bc", expert_only, **fields)
    run = fastifo.train("bc", poisoned, source="expert", **fields)
    for tensor, other in zip(
        run.learners[0].parameters(), expected.learners[0].parameters(), strict=True
    ):
        assert torch.equal(tensor, other)


def test_cloning_the_expert_and_the_background_train_in_one_run() -> None:
    fields: dict[str, Any] = {"num_updates": 5, "progress": False, **SMALL}
    run = fastifo.train("bc", random_dataset(), source=["background", "expert"], **fields)
    for member, source in enumerate(("background", "expert")):
        alone = fastifo.train("bc", random_dataset(), source=source, **fields)
        obs = random_dataset().background.obs
        assert torch.equal(run.policy(member).act(obs), alone.policy(0).act(obs))


@pytest.mark.parametrize("expert", [False, True])
def test_cloning_the_expert_is_refused_without_its_actions(expert: bool) -> None:
    dataset = random_dataset(expert=expert)
    if dataset.expert is not None:
        object.__setattr__(dataset.expert, "action", None)
    with pytest.raises(ValueError, match=r"source='expert' needs the expert's actions; the data"):
        fastifo.train("bc", dataset, source="expert", progress=False)


def test_cloning_the_expert_refuses_nan_and_a_share_of_the_episodes() -> None:
    dataset = random_dataset()
    assert dataset.expert is not None
    assert dataset.expert.action is not None
    dataset.expert.action[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"learns from the expert's actions; .* 2 .*nan"):
        fastifo.train("bc", dataset, source="expert", progress=False)
    with pytest.raises(ValueError, match=r"top_share: expected 1 with source='expert'.*found 0.5"):
        fastifo.train("bc", random_dataset(), source="expert", top_share=0.5, progress=False)


def test_top_share_requires_returns() -> None:
    with pytest.raises(ValueError, match=r"top_share: .* which this background lacks"):
        fastifo.train("bc", random_dataset(reward=False), top_share=0.5, progress=False)


def test_top_share_clones_only_the_best_episodes() -> None:
    dataset = random_dataset()
    returns = dataset.background.returns()
    assert returns is not None
    best = returns.argsort(descending=True)[:2].tolist()
    best_only = dataclasses.replace(dataset, background=dataset.background.take(best))
    fields: dict[str, Any] = {"num_updates": 20, "precision": "fp64", "progress": False, **SMALL}
    for engine in ("native", "torch"):
        run = fastifo.train("bc", dataset, top_share=[0.4, 1.0], engine=engine, **fields)
        expected = fastifo.train("bc", best_only, engine=engine, **fields)
        obs = dataset.background.obs
        torch.testing.assert_close(run.policy(0).act(obs), expected.policy(0).act(obs))
        weights = [layers(r.learners[0].policy, 0)[0][0] for r in (run, expected)]
        torch.testing.assert_close(*weights, rtol=0, atol=1e-9)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_observations_are_standardised_over_the_cloned_episodes(engine: str) -> None:
    dataset = random_dataset()
    returns = dataset.background.returns()
    assert returns is not None
    best = returns.argsort(descending=True)[:2].tolist()
    kept = torch.cat([dataset.background.take([e]).obs[:-1] for e in best]).double()
    fields: dict[str, Any] = {"standardize_obs": True, "num_updates": 3, "engine": engine}
    run = fastifo.train("bc", dataset, top_share=0.4, progress=False, **SMALL | fields)
    encoder = run.learners[0].encoder
    torch.testing.assert_close(encoder.mean.double(), kept.mean(0), rtol=1e-6, atol=1e-7)
    expected = kept.std(0, correction=0) + 1e-3  # added in CORL's code
    torch.testing.assert_close(encoder.deviation.double(), expected, rtol=1e-6, atol=0)


def test_shares_with_other_statistics_are_refused() -> None:
    fields: dict[str, Any] = {"top_share": [0.4, 1.0], "progress": False, **SMALL}
    with pytest.raises(ValueError, match=r"standardize_obs: members learn from different episodes"):
        fastifo.train("bc", random_dataset(), num_updates=2, standardize_obs=True, **fields)


@pytest.mark.parametrize("narrow", [1e-2, 1e-4, 0.0])
def test_deviations_are_those_of_corl(narrow: float) -> None:
    dataset = random_dataset()
    dataset.background.obs[:, 1] *= narrow
    run = fastifo.train("bc", dataset, preset="orig", num_updates=1, progress=False, **SMALL)
    background = dataset.background
    std = background.obs[background.rows()].double().std(0, correction=0)
    expected = (std + 1e-3).float()
    torch.testing.assert_close(run.learners[0].encoder.deviation, expected, rtol=1e-6, atol=0)


def test_bc_converges_to_the_empirical_action_frequencies() -> None:
    # One state, three actions seen 3, 2 and 1 times of 6.
    actions = torch.tensor([-1.0, -1.0, -1.0, 0.0, 0.0, 1.0])[:, None].expand(6, 2)
    episode = {"obs": torch.zeros(7, 3), "action": actions}
    dataset = Dataset.from_episodes([episode])
    learner = make_learner("bc", kernel_reading="none", num_bins=3, learning_rate=0.01)
    run_updates(learner, make_sampler(learner, dataset), 1200)
    probability = learner.policy.log_probs(learner.encoder(torch.zeros(1, 1, 3).double())).exp()
    expected = torch.tensor([3 / 6, 2 / 6, 1 / 6]).double().expand(2, 3)
    # Batches of 8 leave noise of about the learning rate times the spread of a batch's mean.
    torch.testing.assert_close(probability[0, 0].detach(), expected, rtol=0, atol=0.05)


def test_bc_needs_neither_expert_nor_rewards() -> None:
    learner = make_learner("bc")
    dataset = random_dataset(expert=False, reward=False)
    type(learner).check_data(dataset, learner.cfg, torch.device("cpu"))
