import math
from typing import Any

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
    prepared,
    standardise,
)
from fastifo.algos.presets import preset_fields
from fastifo.algos.smodice import with_absorbing_states
from helpers import SMALL, RawSampler, make_learner, make_sampler, random_dataset, run_updates
from oracles import smodice as oracle

ORIG = preset_fields("smodice", "orig") | SMALL


def ready(**overrides: Any) -> tuple[Any, Any, RawSampler, RawSampler]:
    """A learner and its untrained discriminator, and a sampler for each."""
    learner = make_learner("smodice", **overrides)
    standardise(learner)
    dataset, discriminator, discriminator_data = prepared(learner)
    discriminator.encoder.load_state_dict(learner.encoder.state_dict())
    learner_sampler = make_sampler(learner, dataset)
    if learner.encoder.standardizes:  # recompute rewards with the statistics set
        rewards = [discriminator.logits(0, dataset.background.obs)[dataset.background.rows()]]
        object.__setattr__(dataset.background, "reward", torch.stack(rewards))
        learner_sampler = make_sampler(learner, dataset)
    return learner, discriminator, learner_sampler, make_sampler(discriminator, discriminator_data)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"divergence": "chi2", "absorbing": True, "weight_decay": 0.1},
        {"normalizes": False, "max_weight": 1.2, "logit_clamp": 0.05, "gamma": 0.9},
        {"value_weight_decay": 0.3, "decoupled_weight_decay": False, "learning_rate": 1e-2},
        ORIG,
        ORIG | {"divergence": "chi2", "learning_rate": 1e-2},
        ORIG | {"weight_decay": 0.3, "learning_rate": 1e-2},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, discriminator, sampler, _ = ready(**overrides)
    start = nets_of(learner) | nets_of(discriminator)
    batches = oracle_batches(sampler, 20, 0, 0.5)
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    # The two sides sum the entropy coefficient's gradient in their own order.
    assert_layers_equal(layers(learner.policy), after["policy"])
    value, expected = layers(learner.value), after["value"]
    if learner.cfg.divergence == "kl":
        # The last bias has no gradient except rounding errors, which Adam steps by.
        value[-1] = value[-1][0], expected[-1][1]
    assert_layers_equal(value, expected, tolerance=1e-8)
    # The oracle's policy loss includes the entropy term.
    names = ["value_loss", "weight_mean"]
    names += [] if learner.cfg.entropy_constraint else ["policy_loss"]
    assert_metrics_equal(metrics, history, names)


@pytest.mark.parametrize("overrides", [{}, {"disc_learning_rate": 1e-2}, ORIG])
def test_20_updates_of_the_discriminator_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner, discriminator, _, sampler = ready(**overrides)
    start = nets_of(discriminator)
    batches = oracle_batches(sampler, 20, 0, 0.5)
    run_updates(discriminator, sampler, 20)
    after, _ = oracle.train_discriminator(start, batches, oracle_config(learner))
    assert_layers_equal(layers(discriminator.logit), after["discriminator"])


def test_without_terminals_the_kl_loss_is_invariant_to_a_constant_in_the_value() -> None:
    learner, _, sampler, _ = ready(max_weight=math.inf)
    batch = sampler.draw(torch.tensor([0]))
    batch.background.terminal.zero_()
    losses = []
    for shift in (0.0, 3.7):
        with torch.no_grad():
            learner.value.layers[-1].bias.add_(shift)
        kept = {k: v.clone() for k, v in learner.state_dict().items()}
        losses.append(float(learner.update(batch)["value_loss"][0]))
        learner.load_state_dict(kept)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_reward_0_and_a_constant_value_are_cloning() -> None:
    # Not normalised: normalised weights are 1 for every constant value.
    learner, _, sampler, _ = ready(logit_clamp=1e-30, normalizes=False)
    cloning, _ = pair("bc")
    with torch.no_grad():
        for parameter in learner.value.parameters():
            parameter.zero_()
    batch = sampler.draw(torch.tensor([0]))
    metrics = learner.update(batch)
    cloning.update(batch)
    assert float(metrics["weight_mean"][0]) == pytest.approx(1.0)
    assert float(metrics["residual_std"][0]) == pytest.approx(0.0, abs=1e-12)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-7)


def test_terminals_lead_to_an_absorbing_state_and_stay_there() -> None:
    dataset = random_dataset()
    extended = with_absorbing_states(dataset, standardizes=False)
    for before, after in (
        (dataset.background, extended.background), (dataset.expert, extended.expert),
    ):  # fmt: skip
        assert before is not None
        assert after is not None
        ends = int(before.terminal.sum())
        assert after.num_transitions == before.num_transitions + ends
        assert int(after.terminal.sum()) == ends
        for episode in range(before.num_episodes):
            old, new = before.take([episode]), after.take([episode])
            absorbing = torch.tensor([0.0, 0.0, 0.0, 1.0])
            if not bool(old.terminal[-1]):
                assert torch.equal(new.obs[:, :3], old.obs)
                assert not bool(new.obs[:, 3].any())
                assert not bool(new.terminal.any())
                continue
            assert torch.equal(new.obs[:-2, :3], old.obs[:-1])
            assert torch.equal(new.obs[-2:], absorbing.expand(2, -1))
            assert new.terminal.tolist() == [False] * len(old.terminal) + [True]
            assert new.timeout.tolist() == [False] * len(new.terminal)


def test_the_absorbing_state_is_zero_in_standardised_observations() -> None:
    learner, _, sampler, _ = ready(**ORIG)
    rows = learner.encoder(sampler.raw.background.gather("rows", torch.arange(40)[None]).next_obs)
    absorbing = rows[rows[..., 3] == 1.0]
    assert len(absorbing) > 0
    torch.testing.assert_close(
        absorbing[:, :3], torch.zeros(len(absorbing), 3).double(), rtol=0, atol=1e-6
    )


def test_an_entropy_constraint_requires_a_gaussian_policy() -> None:
    with pytest.raises(ValueError, match="entropy_constraint: expected policy_head='gaussian'"):
        make_learner("smodice", entropy_constraint=True)
