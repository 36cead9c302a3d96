import math
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
        rewards = [discriminator.logits(0, dataset.background, dataset.background.rows())]
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
        # A last bias of 0 would have no gradient but rounding errors, even with weight decay.
        ORIG | {"weight_decay": 0.3, "learning_rate": 1e-2, "init": "fan_in_uniform"},
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


def test_terminals_lead_to_an_absorbing_state_that_only_the_discriminator_starts_from() -> None:
    dataset = random_dataset()
    marked, seen = with_absorbing_states(dataset, standardizes=False)
    absorbing = torch.tensor([0.0, 0.0, 0.0, 1.0])
    for before, after, extended in (
        (dataset.background, marked.background, seen.background),
        (dataset.expert, marked.expert, seen.expert),
    ):
        assert before is not None
        assert after is not None
        assert extended is not None
        assert torch.equal(after.start, before.start)
        assert torch.equal(after.terminal, before.terminal)  # the flag stays
        assert torch.equal(after.timeout, before.timeout)
        ends = int(before.terminal.sum())
        assert ends > 0
        assert extended.num_transitions == before.num_transitions + ends
        for episode in range(before.num_episodes):
            old, new, last = (each.take([episode]) for each in (before, after, extended))
            if not bool(old.terminal[-1]):
                assert torch.equal(new.obs[:, :3], old.obs)
                assert not bool(new.obs[:, 3].any())
                assert last == new
                continue
            assert torch.equal(new.obs[:-1, :3], old.obs[:-1])
            assert torch.equal(new.obs[-1], absorbing)
            assert torch.equal(last.obs, torch.cat([new.obs, absorbing[None]]))
            assert last.num_transitions == old.num_transitions + 1


@pytest.mark.parametrize("divergence", ["kl", "chi2"])
def test_the_residual_at_a_fall_is_the_reward_minus_the_value(divergence: str) -> None:
    learner, _, sampler, _ = ready(**ORIG | {"divergence": divergence, "batch_size": 200})
    b = sampler.draw(torch.tensor([0])).background
    assert b.reward is not None
    falls = b.terminal[0] == 1.0
    assert 0 < int(falls.sum()) < 200
    # Falls lead to the absorbing state, from which no row starts.
    assert bool((b.next_obs[0, falls, 3] == 1.0).all())
    assert not bool(b.obs[..., 3].any())
    value, next_value = learner.value(b.obs).detach(), learner.value(b.next_obs).detach()
    residual = b.reward + 0.99 * (1 - b.terminal) * next_value - value
    metrics = learner.update(sampler.draw(torch.tensor([0])))
    assert float(metrics["residual_mean"][0]) == pytest.approx(float(residual.mean()), rel=1e-9)


def test_the_authors_train_all_layers_of_the_discriminator_but_the_first() -> None:
    _, discriminator, _, sampler = ready(**ORIG)
    before = layers(discriminator.logit)
    run_updates(discriminator, sampler, 3)
    after = layers(discriminator.logit)
    same = [torch.equal(w, v) for (w, _), (v, _) in zip(before, after, strict=True)]
    assert same == [True, False, False]
    run = fastifo.train(
        "smodice", random_dataset(), preset="orig", num_updates=2, seeds=[0, 1],
        **{"disc_updates": 3, "progress": False} | SMALL,
    )  # fmt: skip
    assert run.engine == "torch"


@pytest.mark.parametrize("sizes", [{"hidden_sizes": ()}, {"disc_hidden_sizes": ()}])
def test_a_linear_discriminator_has_no_layer_to_freeze(sizes: dict[str, Any]) -> None:
    if "hidden_sizes" in sizes:
        with pytest.raises(ValueError, match="disc_frozen_layer: expected False with a linear"):
            make_learner("smodice", disc_frozen_layer=True, **sizes)
    else:  # empty means the method's own widths
        make_learner("smodice", disc_frozen_layer=True, **sizes)


@pytest.mark.parametrize("kind", ["", "orthogonal", "xavier_uniform"])
def test_the_discriminator_may_start_from_other_weights(kind: str) -> None:
    _, discriminator, *_ = ready(init="xavier_uniform", disc_init=kind)
    assert discriminator.cfg.init == (kind or "xavier_uniform")
    with pytest.raises(ValueError, match="disc_init: expected one of"):
        make_learner("smodice", disc_init="zeros")


def test_the_authors_nets_start_from_xavier_weights() -> None:
    learner, discriminator, *_ = ready(**ORIG)
    policy, value = layers(learner.policy), layers(learner.value)
    assert not any(bool(bias.any()) for _, bias in policy + value)
    # Mean and log deviation are layers of their own, with 2 outputs each.
    assert float(policy[-1][0].abs().max()) > (6 / (12 + 4)) ** 0.5
    assert float(policy[-1][0].abs().max()) <= (6 / (12 + 2)) ** 0.5
    assert bool(layers(discriminator.logit)[0][1].any())


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
