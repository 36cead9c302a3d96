import math
from typing import Any

import pytest
import torch
from torch import Tensor

from algos.parity import (
    FakeTrainer,
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    oracle_batches,
    oracle_config,
    pair,
    standardise,
)
from engine.runs import assert_equal_bits, train
from fastifo.algos.presets import preset_fields
from fastifo.algos.pw_dice import ContrastiveEncoder
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch
from helpers import SMALL, RawSampler, make_learner, make_sampler, random_dataset, run_updates
from oracles import pw_dice as oracle

ORIG = preset_fields("pw_dice", "orig") | SMALL | {"embedding_batch_size": 12}


def ready(**overrides: Any) -> tuple[Any, ContrastiveEncoder, RawSampler]:
    """A learner with its untrained encoder, the helper that trains it, and a sampler."""
    learner = make_learner("pw_dice", **{"embedding_batch_size": 12} | overrides)
    standardise(learner)
    trainer = FakeTrainer(learner)
    dataset = type(learner).prepare(random_dataset(), learner.configs, trainer)
    encoder, discriminator = (helper for helper, _ in trainer.trained)
    assert isinstance(encoder, ContrastiveEncoder)
    for helper in (encoder, discriminator):
        helper.encoder.load_state_dict(learner.encoder.state_dict())
    learner.adopt({encoder.name: encoder})
    return learner, encoder, make_sampler(learner, dataset)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"coupling_temperature": 0.1, "temperature": 2.0, "gamma": 0.9, "weight_decay": 0.1},
        {"max_weight": 1.2, "logit_clamp": 0.05, "distance_scale": 0.0, "ratio_scale": 3.0},
        {"embedding_hidden_sizes": (7,), "embedding_dim": 5, "learning_rate": 1e-2},
        ORIG,
        ORIG | {"encoder_scales": (0.1, 1.0), "policy_learning_rate": 1e-2},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, _, sampler = ready(**overrides)
    start = {name: layers(getattr(learner, name)) for name in ("policy", "duals", "embedding")}
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    assert_layers_equal(layers(learner.policy), after["policy"])
    duals, expected = layers(learner.duals), after["duals"]
    # Biases of u_1 and u_2 have no gradient except rounding errors, which Adam steps by.
    duals[-1][1][1:] = expected[-1][1][1:]
    assert_layers_equal(duals, expected, tolerance=1e-8)
    assert_layers_equal(layers(learner.embedding), start["embedding"], tolerance=0.0)
    assert_metrics_equal(metrics, history, ["value_loss", "policy_loss", "weight_mean"])


@pytest.mark.parametrize("overrides", [{}, {"embedding_gradient_clip": 0.01}, ORIG])
def test_20_updates_of_the_encoder_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, encoder, _ = ready(**overrides)
    sampler = make_sampler(encoder, random_dataset())
    start, factor = layers(encoder.embedding), encoder.factor[0].detach().clone()
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(encoder, sampler, 20)
    after, after_factor, losses = oracle.train_embedding(
        start, factor, batches, oracle_config(learner)
    )
    assert_layers_equal(layers(encoder.embedding), after)
    torch.testing.assert_close(encoder.factor[0].detach(), after_factor, rtol=0, atol=1e-9)
    assert_metrics_equal(metrics, [{"embedding_loss": x} for x in losses], ["embedding_loss"])


def weights(learner: Any, sampler: RawSampler) -> tuple[Tensor, Tensor]:
    """The policy weights [P, B] and the dual loss [P] of the first batch, without terminals."""
    batch = sampler.draw(torch.tensor([0]))
    assert batch.policy is not None
    batch.policy.terminal.zero_()
    found: list[Tensor] = []
    inner = learner.policy.loss

    def recording(outputs: Tensor, action: Tensor, weight: Tensor) -> Any:
        found.append(weight)
        return inner(outputs, action, weight)

    learner.policy.loss = recording
    loss = learner.update(batch)["value_loss"]
    return found[0], loss


def test_without_terminals_constants_in_the_three_duals_change_nothing() -> None:
    learner, _, sampler = ready()
    expected = weights(learner, sampler)
    assert float(expected[0].mean()) == pytest.approx(1.0, rel=1e-12)
    assert float(expected[0].std()) > 0.01
    for output in range(3):
        moved, _, sampler = ready()
        with torch.no_grad():
            moved.duals.layers[-1].bias[..., output] += 2.5
        for actual, reference in zip(weights(moved, sampler), expected, strict=True):
            torch.testing.assert_close(actual, reference, rtol=1e-9, atol=1e-9)


def test_an_infinite_temperature_is_cloning(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, _, sampler = ready(temperature=1e9)
    cloning, _ = pair("bc")
    run_updates(learner, sampler, 5)
    draw = sampler.draw

    def policy_rows(counter: Tensor) -> Batch:
        rows = draw(counter).policy
        assert rows is not None
        return Batch(rows)

    monkeypatch.setattr(sampler, "draw", policy_rows)
    run_updates(cloning, sampler, 5)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-7)


def test_the_distance_is_0_for_equal_observations_and_grows_to_four_times_its_scale() -> None:
    learner, _, sampler = ready(distance_scale=2.0, ratio_scale=0.0)
    batch = sampler.draw(torch.tensor([0]))
    rows = batch.background
    assert batch.expert is not None
    assert float(learner.distance(rows, rows).abs().max()) == 0.0
    apart = learner.distance(rows, batch.expert)
    assert 0.0 < float(apart.min()) <= float(apart.max()) <= 8.0
    learner, _, _ = ready(distance_scale=0.0, ratio_scale=2.0, logit_clamp=math.inf)
    assert rows.reward is not None
    same = learner.distance(rows, batch.expert)
    torch.testing.assert_close(same, -2.0 * rows.reward)


def test_the_encoder_learns_which_observation_comes_next() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = 0.2 * torch.randn(20, 31, 3, generator=generator)
    walks = [
        {"obs": walk, "action": torch.zeros(30, 2)} for walk in (steps.cumsum(1) + steps[:, :1])
    ]
    dataset = Dataset.from_episodes(walks, [{"obs": walks[0]["obs"]}])
    _, encoder, _ = ready(embedding_batch_size=64, learning_rate=1e-3)
    metrics = run_updates(encoder, make_sampler(encoder, dataset), 300)
    assert float(metrics[-1]["embedding_loss"]) < float(metrics[0]["embedding_loss"]) - 0.5
    assert float(metrics[-1]["embedding_accuracy"]) > 3 * float(metrics[0]["embedding_accuracy"])
    obs = encoder.encoder(dataset.background.obs.double())
    with torch.no_grad():
        z = encoder.embed(obs.unsqueeze(0))[0]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)).double())
    rows = dataset.background.rows()
    near = (z[rows] - z[rows + 1]).square().sum(1).mean()
    far = (z[rows] - z[rows.flip(0)]).square().sum(1).mean()
    assert float(near) < 0.3 * float(far)


@pytest.mark.parametrize("preset", ["vfo", "orig"])
def test_the_trained_encoder_is_the_learners_and_stays_constant(preset: str) -> None:
    fields: dict[str, Any] = {"preset": preset, "embedding_batch_size": 12}
    short, longer, untrained = (
        train("pw_dice", random_dataset(), count, embedding_updates=updates, **fields)
        for count, updates in ((2, 20), (20, 20), (2, 0))
    )
    learners: list[Any] = [run.learners[0] for run in (short, longer, untrained)]
    first, second, other = (layers(learner.embedding) for learner in learners)
    assert_layers_equal(first, second, tolerance=0.0)
    assert not torch.equal(first[0][0], other[0][0])
    assert short.engine == ("native" if preset == "vfo" else "torch")


def test_a_resumed_run_of_the_authors_settings_has_the_bits_of_one_that_never_stopped(
    tmp_path: Any,
) -> None:
    fields: dict[str, Any] = {"preset": "orig", "embedding_batch_size": 12}
    train("pw_dice", random_dataset(), 5, out=tmp_path / "run", **fields)
    resumed = train("pw_dice", random_dataset(), 12, out=tmp_path / "run", resume=True, **fields)
    assert_equal_bits(resumed, train("pw_dice", random_dataset(), 12, **fields))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("temperature", 0.0, "above 0"),
        ("embedding_dim", 1, "at least 2"),
        ("embedding_batch_size", 1, "at least 2"),
        ("distance_scale", -1.0, "at least 0"),
    ],
)
def test_a_bad_value_is_refused(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected {expected}, found {value}"):
        make_learner("pw_dice", **{field: value})
