"""Runs a learner beside its oracle on the same batches, from the same weights."""

import dataclasses
from collections.abc import Sequence
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
    """(weight [in, out], bias [out]) of every layer of one member, copied."""
    body: Any = getattr(net, "body", net)
    return [
        (layer.weight[member].detach().clone(), layer.bias[member, 0].detach().clone())
        for layer in body.layers
    ]


def nets_of(learner: Learner, member: int = 0) -> dict[str, Layers]:
    names = {"policy": "policy", "value": "value", "twin": "value2", "logit": "discriminator"}
    return {
        name: layers(getattr(learner, attribute), member)
        for attribute, name in names.items()
        if hasattr(learner, attribute)
    }


def oracle_config(learner: Learner, member: int = 0) -> dict[str, Any]:
    """The member's config under the oracle's names."""
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
    """The sampler's batches as the oracle wants them."""
    return [
        _oracle_batch(sampler.raw.draw(torch.tensor([update])), member, alpha)
        for update in range(count)
    ]


def _oracle_batch(batch: Batch, member: int, alpha: float) -> dict[str, Any]:
    def rows(source: Transitions) -> dict[str, Tensor]:
        columns = {k: v for k, v in vars(source).items() if v is not None}
        return {name: value[member] for name, value in columns.items()}

    found: dict[str, Any] = {"background": rows(batch.background)}
    if batch.expert is not None:
        found["expert"] = rows(batch.expert)
    if batch.uniform is not None:
        found["is_background"] = (batch.uniform[member] < alpha).double()
        found["mix"] = batch.uniform[member]
    if batch.policy is not None:
        found["policy"] = rows(batch.policy)
    for name, values in (("initial", batch.initial), ("policy_noise", batch.noise)):
        if values is not None:
            found[name] = values[member]
    return found


def assert_layers_equal(found: Layers, expected: Layers, tolerance: float = 1e-9) -> None:
    """Adam divides by the root of squared gradients, which magnifies rounding to about 1e-11."""
    for (weight, bias), (oracle_weight, oracle_bias) in zip(found, expected, strict=True):
        torch.testing.assert_close(weight, oracle_weight, rtol=0, atol=tolerance)
        torch.testing.assert_close(bias, oracle_bias, rtol=0, atol=tolerance)


def assert_metrics_equal(
    metrics: list[dict[str, Tensor]], history: list[dict[str, float]], names: list[str]
) -> None:
    for found, expected in zip(metrics, history, strict=True):
        for name in names:
            torch.testing.assert_close(
                float(found[name][0].detach()), expected[name], rtol=1e-8, atol=1e-9
            )


def pair(name: str, **overrides: Any) -> tuple[Any, RawSampler]:
    """A learner and its sampler on the random dataset."""
    learner = make_learner(name, **overrides)
    standardise(learner)
    return learner, make_sampler(learner, random_dataset())


def standardise(learner: Learner) -> None:
    """Gives a learner that wants them the statistics of the random dataset."""
    if learner.encoder.standardizes:
        obs = random_dataset().background.obs.double()
        learner.encoder.set_statistics(obs.mean(0), obs.std(0, correction=0))


def prepared(learner: Learner, dataset: Dataset | None = None) -> tuple[Dataset, Any, Dataset]:
    """What `prepare` gives with an untrained first stage, that stage, and what it would learn."""
    seen: list[Any] = []

    class BuildOnly:
        folder: Path | None = None
        seeds, progress = learner.seeds, False
        device, precision = torch.device("cpu"), "fp64"

        def __init__(self) -> None:
            self.failed: set[int] = set()

        def broken(self, place: int) -> bool:
            return place in self.failed

        def fail(self, place: int) -> None:
            self.failed.add(place)

        def note(self, name: str, value: Any) -> None: ...

        def train(
            self,
            helper: type[Learner],
            configs: Sequence[Any],
            num_updates: int,
            dataset: Dataset,
            spec: InputSpec | None = None,
            monitor: StageMonitor | None = None,
            places: Sequence[int] | None = None,
        ) -> Learner:
            seeds = learner.seeds if places is None else [learner.seeds[p] for p in places]
            made = helper(configs, seeds, spec or learner.spec, "fp64")
            seen.extend((made, dataset))
            return made

    given = random_dataset() if dataset is None else dataset
    found = type(learner).prepare(given, learner.configs, BuildOnly())
    return found, *seen


def rewards(name: str, dataset: Dataset, **overrides: Any) -> Tensor:
    """What a method makes of the background, before any scaling, [N]."""
    learner = make_learner(name, reward_scaling="none", **overrides)
    found = prepared(learner, dataset)[0].background.reward
    assert found is not None
    return found[0]


def background_like_the_expert(dataset: Dataset) -> Dataset:
    """The first expert episode as the one demonstration, and in the background before another."""
    assert dataset.expert is not None
    one = dataset.expert.take([0])
    mixed = Episodes.joined(
        [
            dataclasses.replace(one, action=torch.zeros(one.num_transitions, 2)),
            dataclasses.replace(dataset.background.take([2]), reward=None),
        ]
    )
    return dataclasses.replace(dataset, background=mixed, expert=one)


def make_discriminator(learner: Learner) -> Discriminator:
    """The first stage of a learner's configs, as `prepare` builds it."""
    stage = prepared(learner)[1]
    assert isinstance(stage, Discriminator)
    return stage
