from typing import Any

import pytest
import torch

import fastifo
from algos.parity import (
    FakeTrainer,
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    nets_of,
    oracle_batches,
    oracle_config,
    prepared,
)
from fastifo.algos.bco import InverseDynamics, split_held_out
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates
from oracles import bco as oracle

HEADS: list[dict[str, Any]] = [
    {},
    {"policy_head": "deterministic"},
    {"policy_head": "gaussian", "encoder_scales": (), "activation": "tanh"},
    preset_fields("bco", "orig") | SMALL,
]


@pytest.mark.parametrize("overrides", HEADS)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("bco", learning_rate=1e-3, **overrides)
    sampler = make_sampler(learner, prepared(learner)[0])
    start, batches = nets_of(learner), oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    assert_metrics_equal(metrics, history, ["policy_loss"])


@pytest.mark.parametrize("overrides", HEADS)
def test_20_updates_of_the_inverse_dynamics_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("bco", learning_rate=1e-3, **overrides)
    _, inverse, dataset = prepared(learner)
    sampler = make_sampler(inverse, dataset)
    start = {"inverse": layers(inverse.policy)}
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(inverse, sampler, 20)
    after, history = oracle.train_inverse(start, batches, oracle_config(learner))
    assert_layers_equal(layers(inverse.policy), after["inverse"])
    losses = [float(values["inverse_loss"][0].detach()) for values in metrics]
    assert losses == pytest.approx(history, rel=1e-8)


@pytest.mark.parametrize("overrides", HEADS)
def test_labels_equal_those_of_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("bco", **overrides)
    dataset, inverse, given = prepared(learner)
    labelled = dataset.expert if learner.cfg.clones == "both" else dataset.background
    assert given.expert is not None
    assert labelled is not None
    assert labelled.action is not None
    rows = given.expert.rows()
    pair = (given.expert.obs[rows].double(), given.expert.obs[rows + 1].double())
    expected = oracle.label({"inverse": layers(inverse.policy)}, *pair, oracle_config(learner))
    torch.testing.assert_close(labelled.action[0], expected, rtol=0, atol=1e-12)


def test_half_of_a_batch_comes_from_each_source() -> None:
    learner = make_learner("bco", batch_size=10)
    batch = make_sampler(learner, prepared(learner)[0]).draw(torch.tensor([0]))
    assert batch.expert is not None
    assert batch.expert.obs.shape[1] == batch.background.obs.shape[1] == 5


def test_clones_expert_trains_on_the_labelled_expert_only() -> None:
    learner = make_learner("bco", clones="expert", encoder_scales=())
    dataset, inverse, given = prepared(learner)
    assert given.expert is not None
    assert given.background is not dataset.background
    batch = make_sampler(learner, dataset).draw(torch.tensor([0]))
    assert batch.expert is None
    assert batch.background.obs.shape[1] == learner.cfg.batch_size
    rows = given.expert.rows()
    expert_obs = given.expert.obs[rows].double()
    labels = inverse.labels(0, given.expert, rows)
    assert batch.background.action is not None
    for obs, action in zip(batch.background.obs[0], batch.background.action[0], strict=True):
        row = int((expert_obs - obs).abs().sum(1).argmin())
        assert torch.equal(expert_obs[row], obs)
        assert torch.equal(labels[row], action)


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size: expected an even number"):
        make_learner("bco", batch_size=7)


def invertible_dynamics() -> Dataset:
    """Random actions under s' = s + 0.1 a."""
    generator = torch.Generator().manual_seed(0)
    episodes = []
    for _ in range(200):
        action = 2 * torch.rand(10, 2, generator=generator) - 1
        obs = torch.cat([torch.zeros(1, 2), 0.1 * action.cumsum(0)])
        episodes.append({"obs": obs, "action": action})
    return Dataset.from_episodes(episodes[:180], episodes[180:])


@pytest.mark.slow
def test_inverse_dynamics_recover_actions_within_one_bin() -> None:
    dataset = invertible_dynamics()
    run = fastifo.train(
        "bco", dataset, num_updates=1, inverse_updates=2500, hidden_sizes=(128, 128), num_bins=21,
        kernel_width=0.1, learning_rate=1e-3, encoder_scales=(), progress=False,
    )  # fmt: skip
    learner = run.learners[0]

    def fit(inverse: Any, num_updates: int, training_data: Dataset) -> Any:
        run_updates(inverse, make_sampler(inverse, training_data), num_updates)
        return inverse

    trainer = FakeTrainer(learner, fit)
    labelled = type(learner).prepare(dataset, learner.configs, trainer)
    assert dataset.expert is not None
    assert labelled.expert is not None
    assert labelled.expert.action is not None
    assert dataset.expert.action is not None
    actions = (labelled.expert.action[0], dataset.expert.action)
    bins = [(10.0 * (action + 1.0)).round() for action in actions]
    distance = (bins[0] - bins[1]).abs()
    assert float(distance.max()) <= 1.0
    assert float(distance.mean()) < 0.2  # nearly all labels are the true actions


def test_sampled_labels_follow_the_inverse_dynamics() -> None:
    config_class: Any = fastifo.algos.find("bco").Config
    inverse = InverseDynamics(
        [config_class(label="sample", kernel_reading="none", **SMALL)], [0],
        fastifo.algos.learner.InputSpec(3, 2), "fp64",
    )  # fmt: skip
    probability = torch.arange(1.0, 12.0).double() / 66.0  # of the 11 bins
    last: Any = inverse.policy.body.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(probability.log().repeat(2).view_as(last.bias))
    one_transition = {"obs": torch.randn(2, 3), "action": torch.zeros(1, 2)}
    episodes = fastifo.Dataset.from_episodes([one_transition], min_steps=1).background
    labels = inverse.labels(0, episodes, torch.zeros(20_000, dtype=torch.int64))
    for column in labels.T:
        counts = torch.bincount((5.0 * (column + 1.0)).round().long(), minlength=11)
        spread = (20_000 * probability * (1.0 - probability)).sqrt()
        assert float(((counts - 20_000 * probability) / spread).abs().max()) < 4.0


def test_expert_actions_are_never_read() -> None:
    learner = make_learner("bco")
    without_actions = random_dataset()
    assert without_actions.expert is not None
    object.__setattr__(without_actions.expert, "action", None)
    labels = []
    for dataset in (random_dataset(), without_actions):
        expert = prepared(learner, dataset)[0].expert
        assert expert is not None
        assert expert.action is not None
        labels.append(expert.action)
    assert torch.equal(*labels)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_the_inverse_dynamics_with_the_least_held_out_loss_make_the_labels(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[float, torch.Tensor]] = []  # held-out loss, weights
    original = InverseDynamics.keep_best

    def watched(self: Any, held_out: Episodes) -> dict[str, torch.Tensor]:
        metrics = original(self, held_out)
        loss = float(metrics["held_out_loss"][1])
        measured.append((loss, self.policy.body.layers[0].weight[1].detach().clone()))
        kept.append(self.best.body.layers[0].weight[1].detach().clone())
        assert held_out.ranges is not None
        assert held_out.ranges[:, 1].tolist() == [5, 5]  # one episode of six
        return metrics

    kept: list[torch.Tensor] = []  # weights of the best model so far
    monkeypatch.setattr(InverseDynamics, "keep_best", watched)
    fastifo.train(
        "bco", random_dataset(), seeds=[0, 1], num_updates=2, inverse_updates=60, progress=False,
        holdout_percent=20, learning_rate=3e-2, engine=engine, **SMALL,
    )  # fmt: skip
    losses = [loss for loss, _ in measured]
    assert len(losses) == 60
    least = losses.index(min(losses))
    assert least < 59  # the last model overfits
    assert torch.equal(kept[-1], measured[least][1])


def test_held_out_episodes_are_never_trained_on() -> None:
    background = random_dataset().background
    train, held_out = split_held_out(background, 2, 40)
    assert torch.equal(train.obs, held_out.obs)
    assert train.ranges is not None
    assert held_out.ranges is not None
    assert torch.equal(held_out.ranges.sum(1), train.ranges[:, 0])
    assert int(train.ranges[0].sum()) == background.num_transitions
    assert held_out.ranges[0, 1] == background.lengths[[0, 5]].sum()


def test_one_episode_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="holdout_percent: expected two episodes or more"):
        split_held_out(random_dataset().background.take([0]), 1, 10)
