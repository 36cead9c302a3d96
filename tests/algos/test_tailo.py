import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastifo
from algos.parity import (
    FakeTrainer,
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    nets_of,
    oracle_batches,
    oracle_config,
    pair,
    standardise,
)
from engine.runs import assert_equal_bits, train
from fastifo.algos.presets import preset_fields
from fastifo.algos.tailo import TAILO, episode_weights, negative_episodes
from fastifo.data.dataset import Dataset
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates
from oracles import tailo as oracle

ORIG = preset_fields("tailo", "orig") | SMALL


def prepared(learner: Any, dataset: Dataset) -> tuple[Dataset, list[tuple[Any, Dataset]]]:
    """Runs `prepare` with untrained discriminators that standardise as the learner does.

    Returns its dataset, and each discriminator with the data that it would train on.
    """

    def fit(helper: Any, num_updates: int, data: Dataset) -> Any:
        helper.encoder.load_state_dict(learner.encoder.state_dict())
        return helper

    trainer = FakeTrainer(learner, fit)
    return TAILO.prepare(dataset, learner.configs, trainer), trainer.trained


def ready(**overrides: Any) -> Any:
    learner = make_learner("tailo", **overrides)
    standardise(learner)
    return learner


def episodes_of(dataset: Dataset) -> list[Tensor]:
    """Observations at the start of each episode's transitions."""
    return [episode.obs[:-1] for episode in dataset.background]


CASES: list[dict[str, Any]] = [
    {},
    {"gamma": 0.9, "ratio_exponent": 3.0, "weight_decay": 0.1, "policy_weight_decay": 0.2},
    {"disc_loss": "pu", "gradient_penalty": 0, "negative_share": 0.4},
    ORIG,
]


@pytest.mark.parametrize("overrides", CASES)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = ready(**overrides)
    sampler = make_sampler(learner, prepared(learner, random_dataset())[0])
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_metrics_equal(metrics, history, ["policy_loss", "weight_mean"])


@pytest.mark.parametrize("overrides", CASES)
def test_20_updates_of_both_discriminators_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = ready(**overrides)
    for stage, (helper, data) in enumerate(prepared(learner, random_dataset())[1]):
        sampler = make_sampler(helper, data)
        start, batches = nets_of(helper), oracle_batches(sampler, 20, 0, 0.5)
        run_updates(helper, sampler, 20)
        after = oracle.train_discriminator(start, batches, oracle_config(learner), stage == 0)
        assert_layers_equal(layers(helper.logit), after["discriminator"])


@pytest.mark.parametrize("overrides", CASES)
def test_negatives_and_weights_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, dataset = ready(**overrides), random_dataset()
    weighted, [(first, _), (second, data)] = prepared(learner, dataset)
    config = oracle_config(learner)
    scores = oracle.logits(nets_of(first), episodes_of(dataset), config)
    negatives = oracle.negatives(scores, config)
    assert 0 < len(negatives) < dataset.background.num_episodes
    expected = dataset.background.without_rewards().take(negatives)
    assert dataclasses.replace(data.background, ranges=None) == expected
    assert data.background.ranges is not None
    assert data.background.ranges.tolist() == [[0, expected.num_transitions]]
    scores = oracle.logits(nets_of(second), episodes_of(dataset), config)
    weights = [w for each in oracle.weights(scores, config) for w in each]
    reward = weighted.background.reward
    assert reward is not None
    torch.testing.assert_close(reward[0], torch.tensor(weights).double(), rtol=1e-6, atol=0)


def test_each_member_has_its_own_negatives() -> None:
    learner = ready(negative_share=[0.3, 0.9, 0.6], gamma=0.9)
    [(first, _), (_, data)] = prepared(learner, random_dataset())[1]
    assert data.background.ranges is not None
    for member, (begin, count) in enumerate(data.background.ranges.tolist()):
        single = negative_episodes(
            first.member(member), random_dataset().background, [learner.configs[member]]
        )
        part = data.background.terminal[begin : begin + count]
        assert torch.equal(part, single.terminal)
        assert count == single.num_transitions
    assert data.background.ranges[:, 1].unique().numel() == 3


def test_one_background_episode_is_a_negative_whatever_its_score() -> None:
    learner, dataset = ready(), random_dataset()
    one = dataclasses.replace(dataset, background=dataset.background.take([2]))
    [_, (_, data)] = prepared(learner, one)[1]
    assert data.background.num_transitions == one.background.num_transitions


def weights_of(logits: list[float], lengths: list[int], **overrides: Any) -> Tensor:
    learner = make_learner("tailo", **overrides)
    start = torch.tensor([0, *lengths]).cumsum(0)
    return episode_weights(
        torch.tensor(logits).double(), start, learner.configs[0], learner.ops.returns
    )


def test_a_ratio_exponent_of_0_is_cloning() -> None:
    assert bool((weights_of([3.0, -2.0, 5.0], [2, 1], ratio_exponent=0.0) == 1.0).all())
    learner = make_learner("tailo", ratio_exponent=0.0)
    sampler = make_sampler(learner, prepared(learner, random_dataset())[0])
    cloning, cloning_sampler = pair("bc")
    run_updates(learner, sampler, 20)
    run_updates(cloning, cloning_sampler, 20)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy))


def test_a_constant_added_to_the_logits_changes_no_weight() -> None:
    logits = [0.5, -1.0, 2.0, 0.0]
    weights = weights_of(logits, [3, 1])
    assert float(weights.max()) == 1.0
    for shift in (-900.0, 900.0):  # whose exponentials are 0 and infinity
        shifted = weights_of([c + shift for c in logits], [3, 1])
        torch.testing.assert_close(shifted, weights, rtol=1e-12, atol=0)


def test_without_discount_only_the_own_ratio_counts() -> None:
    weights = weights_of([1.0, 0.0, -1.0], [3], gamma=0.0)
    expected = torch.tensor([0.0, -1.25, -2.5]).double().exp()
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0)


def test_earlier_steps_of_an_episode_share_its_later_ratios() -> None:
    # Both episodes start with the same logits; the second one ends like the expert.
    weights = weights_of([-3.0, -3.0, -3.0, -3.0, -3.0, 3.0], [3, 3], gamma=0.9)
    assert bool((weights[3:] > 100 * weights[:3]).all())


@pytest.mark.parametrize("preset", ["vfo", "orig"])
def test_three_members_equal_three_single_runs(preset: str) -> None:
    fields: dict[str, Any] = {
        "preset": preset, "num_updates": 10, "first_disc_updates": 5, "disc_updates": 5,
        "precision": "fp64", "progress": False, **SMALL,
    }  # fmt: skip
    shares = [0.3, 0.6, 0.9]
    together = fastifo.train("tailo", random_dataset(), negative_share=shares, **fields)
    for index, share in enumerate(shares):
        single = fastifo.train("tailo", random_dataset(), negative_share=share, **fields)
        pairs = zip(together.learners[0].parameters(), single.learners[0].parameters(), strict=True)
        for actual, expected in pairs:
            torch.testing.assert_close(actual[index], expected[0], rtol=0, atol=1e-9)


def test_a_resumed_run_of_the_authors_settings_has_the_bits_of_one_that_never_stopped(
    tmp_path: Path,
) -> None:
    train("tailo", random_dataset(), 5, preset="orig", out=tmp_path / "run")
    resumed = train("tailo", random_dataset(), 12, preset="orig", out=tmp_path / "run")
    assert_equal_bits(resumed, train("tailo", random_dataset(), 12, preset="orig"))


def test_only_a_share_above_0_and_at_most_1_is_accepted() -> None:
    with pytest.raises(ValueError, match=r"negative_share: expected in \(0, 1\], found 0.0"):
        make_learner("tailo", negative_share=0.0)
    with pytest.raises(ValueError, match="ratio_exponent: expected at least 0"):
        make_learner("tailo", ratio_exponent=-1.0)
