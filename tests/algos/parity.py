"""Helpers that compare a learner with its oracle on the same batches and initial weights."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastifo.algos.discriminator import Discriminator
from fastifo.algos.learner import InputSpec, Learner, StageMonitor
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.sampler import Batch, Transitions
from helpers import RawSampler, make_learner, make_sampler, random_dataset

Layers = list[tuple[Tensor, Tensor]]


def layers(net: nn.Module, member: int = 0) -> Layers:
    """Copies of (weight [in, out], bias [out]) of every layer of one member."""
    body: Any = getattr(net, "body", net)
    return [
        (layer.weight[member].detach().clone(), layer.bias[member, 0].detach().clone())
        for layer in body.layers
    ]


def nets_of(learner: Learner, member: int = 0) -> dict[str, Layers]:
    """Layers of every net that the learner has, under the oracle's names."""
    names = {"policy": "policy", "value": "value", "twin": "value2", "logit": "discriminator"}
    return {
        name: layers(getattr(learner, attribute), member)
        for attribute, name in names.items()
        if hasattr(learner, attribute)
    }


def oracle_config(learner: Learner, member: int = 0) -> dict[str, Any]:
    """The member's config, with the field names and values that oracles take."""
    config = dict(vars(learner.configs[member]))
    if config["kernel_reading"] == "none":
        config |= {"kernel_reading": "logits", "kernel_width": 0.0}
    if config.get("residual_share") == -1.0:
        config["residual_share"] = 1.0 / (1.0 + config["beta"] * (1.0 - config["gamma"]))
    if config.get("disc_activation") == "":
        del config["disc_activation"]
    if learner.encoder.standardizes:
        config |= {"obs_mean": learner.encoder.mean, "obs_std": learner.encoder.deviation}
    return config


def oracle_batches(
    sampler: RawSampler, count: int, member: int, alpha: float
) -> list[dict[str, Any]]:
    """One member's first `count` batches, in the format that oracles take."""
    return [
        _oracle_batch(sampler.raw.draw(torch.tensor([update])), member, alpha)
        for update in range(count)
    ]


def _oracle_batch(batch: Batch, member: int, alpha: float) -> dict[str, Any]:
    def rows(source: Transitions) -> dict[str, Tensor]:
        columns = {k: v for k, v in vars(source).items() if v is not None}
        return {name: value[member] for name, value in columns.items()}

    result: dict[str, Any] = {"background": rows(batch.background)}
    if batch.expert is not None:
        result["expert"] = rows(batch.expert)
    if batch.uniform is not None:
        result["is_background"] = (batch.uniform[member] < alpha).double()
        result["mix"] = batch.uniform[member]
    if batch.policy is not None:
        result["policy"] = rows(batch.policy)
    for name, values in (("initial", batch.initial), ("policy_noise", batch.noise)):
        if values is not None:
            result[name] = values[member]
    return result


def assert_layers_equal(actual: Layers, expected: Layers, tolerance: float = 1e-9) -> None:
    """Asserts equal weights and biases of every layer.

    tolerance: absolute. Adam divides by the root of the squared gradient, which amplifies rounding
    errors to about 1e-11.
    """
    for (weight, bias), (expected_weight, expected_bias) in zip(actual, expected, strict=True):
        torch.testing.assert_close(weight, expected_weight, rtol=0, atol=tolerance)
        torch.testing.assert_close(bias, expected_bias, rtol=0, atol=tolerance)


def assert_metrics_equal(
    metrics: list[dict[str, Tensor]], history: list[dict[str, float]], names: list[str]
) -> None:
    """Asserts that the first member's metrics are those of the oracle in every update."""
    for actual, expected in zip(metrics, history, strict=True):
        for name in names:
            torch.testing.assert_close(
                float(actual[name][0].detach()), expected[name], rtol=1e-8, atol=1e-9
            )


def pair(name: str, **overrides: Any) -> tuple[Any, RawSampler]:
    """A learner, and its sampler on the random dataset."""
    learner = make_learner(name, **overrides)
    standardise(learner)
    return learner, make_sampler(learner, random_dataset())


def standardise(learner: Learner) -> None:
    """Sets the statistics of the random dataset in a learner that standardises observations."""
    if learner.encoder.standardizes:
        learner.encoder.set_statistics(*random_dataset().background.obs_statistics())


class FakeTrainer:
    """A `StageTrainer` without an engine: it builds helpers and remembers them."""

    folder: Path | None = None
    progress: bool = False
    device: torch.device = torch.device("cpu")

    def __init__(
        self, learner: Learner, fit: Callable[[Any, int, Dataset], Any] | None = None
    ) -> None:
        """fit: takes a built helper, its number of updates and its dataset, and returns the trained
        helper; None leaves helpers untrained.
        """
        self.seeds, self.precision = learner.seeds, learner.precision
        self.spec, self.fit = learner.spec, fit
        self.diverged: set[int] = set()
        self.trained: list[tuple[Any, Dataset]] = []  # helpers, and what they were trained on

    def has_diverged(self, member: int) -> bool:
        return member in self.diverged

    def mark_diverged(self, member: int) -> None:
        self.diverged.add(member)

    def note(self, name: str, value: Any) -> None: ...

    def train(
        self,
        helper: type[Learner],
        configs: Sequence[Any],
        num_updates: int,
        dataset: Dataset,
        spec: InputSpec | None = None,
        monitor: StageMonitor | None = None,
        members: Sequence[int] | None = None,
    ) -> Learner:
        seeds = self.seeds if members is None else [self.seeds[member] for member in members]
        built = helper(configs, seeds, spec or self.spec, self.precision)
        trained: Learner = built if self.fit is None else self.fit(built, num_updates, dataset)
        self.trained.append((trained, dataset))
        return trained


def prepared(learner: Learner, dataset: Dataset | None = None) -> tuple[Dataset, Any, Dataset]:
    """Runs `prepare` with an untrained helper.

    Returns its dataset, then the helper of the first stage and the dataset that it would train on.
    A method without a helper returns the dataset only.
    """
    trainer = FakeTrainer(learner)
    given = random_dataset() if dataset is None else dataset
    result = type(learner).prepare(given, learner.configs, trainer)
    return result, *(part for stage in trainer.trained for part in stage)  # type: ignore[return-value]


def rewards(name: str, dataset: Dataset, **overrides: Any) -> Tensor:
    """The rewards that a method gives the background, before any scaling, [N]."""
    learner = make_learner(name, reward_scaling="none", **overrides)
    reward = prepared(learner, dataset)[0].background.reward
    assert reward is not None
    return reward[0]


def background_like_the_expert(dataset: Dataset) -> Dataset:
    """One demonstration, which is also the first of two background episodes."""
    assert dataset.expert is not None
    demonstration = dataset.expert.take([0])
    mixed = Episodes.joined(
        [
            dataclasses.replace(
                demonstration, action=torch.zeros(demonstration.num_transitions, 2)
            ),
            dataclasses.replace(dataset.background.take([2]), reward=None),
        ]
    )
    return dataclasses.replace(dataset, background=mixed, expert=demonstration)


def make_discriminator(learner: Learner) -> Discriminator:
    """The untrained discriminator of a learner, as `prepare` builds it."""
    discriminator = prepared(learner)[1]
    assert isinstance(discriminator, Discriminator)
    return discriminator
