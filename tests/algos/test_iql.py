import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import fastifo
from algos.parity import (
    assert_layers_equal,
    assert_metrics_equal,
    layers,
    oracle_batches,
    oracle_config,
    prepared,
)
from engine.runs import assert_equal_bits, train
from fastifo.algos.learner import InputSpec
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from fastifo.nn.mlp import Init
from helpers import SMALL, make_learner, make_sampler, random_dataset, run_updates
from oracles import iql as oracle
from oracles import tge as scaling

JAX = preset_fields("iql", "jax") | SMALL
NETS = ("policy", "value", "critic", "twin", "critic_target", "twin_target")
PARTS = ["value_loss", "critic_loss", "policy_loss", "weight_mean", "clip_fraction"]


def batches_of(sampler: Any, count: int) -> list[dict[str, Any]]:
    """The first batches, with the noise under the name that IQL's oracle takes."""
    batches = oracle_batches(sampler, count, 0, 0.5)
    for batch in batches:
        if "policy_noise" in batch:
            batch["noise"] = batch.pop("policy_noise")
    return batches


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"expectile": 0.9, "inverse_temperature": 10.0, "max_weight": 1.5, "gamma": 0.5},
        {"policy_dropout": 0.3, "learning_rate": 1e-2, "policy_decay_updates": 15},
        {"polyak": 1.0, "standardize_obs": False, "policy_decay_updates": 0},
        {"absorbing": True, "gamma": 0.9},
        {"policy_head": "deterministic", "polyak": 0.001, "learning_rate": 1e-2},
        {"policy_head": "deterministic", "policy_dropout": 0.3, "inverse_temperature": 10.0},
        JAX,
        JAX | {"learning_rate": 1e-2, "absorbing": True, "policy_dropout": 0.3, "gamma": 0.9},
        {"value_first": True, "inverse_temperature": 10.0, "learning_rate": 1e-2},
        {"sums_critic_errors": True},
        preset_fields("seabo", "orig") | SMALL,
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("iql", **overrides)
    learner.encoder.set_statistics(torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 2.0, 1.0]))
    sampler = make_sampler(learner, random_dataset())
    start = {name: layers(getattr(learner, name)) for name in NETS}
    batches = batches_of(sampler, 20)
    metrics = run_updates(learner, sampler, 20)
    after, log_std, history = oracle.run(start, batches, oracle_config(learner))
    for name in NETS:
        assert_layers_equal(layers(getattr(learner, name)), after[name])
    if learner.cfg.policy_head == "normal":
        torch.testing.assert_close(learner.policy.log_std[0, 0], log_std, rtol=0, atol=1e-9)
    assert_metrics_equal(metrics, history, PARTS)


def test_at_expectile_one_half_the_value_regresses_to_the_smaller_critic() -> None:
    learner = make_learner("iql", expectile=0.5)
    sampler = make_sampler(learner, random_dataset())
    b = sampler.draw(learner.counter).background
    assert b.action is not None
    pair = torch.cat([b.obs, b.action], -1)
    q = torch.minimum(learner.critic_target(pair), learner.twin_target(pair)).detach()
    expected = 0.5 * (q - learner.value(b.obs)).square().mean(1)
    metrics = learner.update(sampler.draw(learner.counter))
    torch.testing.assert_close(metrics["value_loss"], expected.detach())


def test_the_07_expectile_of_0_and_1_is_07() -> None:
    learner = make_learner("iql", expectile=0.7)
    q = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    zeros, one = torch.zeros_like(q), torch.ones(1, 1, dtype=torch.float64)
    v = torch.full_like(q, 0.7)
    gradient = learner.ops.advantage(
        v=v, next_v=zeros, policy_next_v=None, reward=q, terminal=zeros, share=one,
        gamma=0.0 * one, temperature=one, max_weight=one, expectile=0.7 * one,
        absorbing=False, policy_absorbing=False, policy_rows=0,
    )[1]  # fmt: skip
    assert abs(float(gradient.sum())) < 1e-15


def test_inverse_temperature_0_is_cloning() -> None:
    learner = make_learner("iql", inverse_temperature=0.0)
    cloning = make_learner(
        "bc", policy_head="normal", encoder_scales=(), standardize_obs=True, learning_rate=3e-4
    )
    dataset = random_dataset()
    run_updates(learner, make_sampler(learner, dataset), 20)
    run_updates(cloning, make_sampler(cloning, dataset), 20)
    assert_layers_equal(layers(learner.policy), layers(cloning.policy), tolerance=1e-6)


def test_the_weight_is_capped_from_an_advantage_of_ln_100_over_beta() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    edge = math.log(100.0) / 3.0
    assert abs(edge - 1.535) < 1e-3
    q = torch.tensor([[edge - 1e-6, edge + 1e-6, 9.0]], dtype=torch.float64)
    zeros = torch.zeros_like(q)
    learner = make_learner("iql")
    _, _, weight, statistics = learner.ops.advantage(
        v=zeros, next_v=zeros, policy_next_v=None, reward=q, terminal=zeros, share=one,
        gamma=0.0 * one, temperature=one / 3.0, max_weight=100.0 * one, expectile=0.7 * one,
        absorbing=False, policy_absorbing=False, policy_rows=3,
    )  # fmt: skip
    assert float(weight[0, 0]) < 100.0
    torch.testing.assert_close(weight[0, 1:], torch.full((2,), 100.0, dtype=torch.float64))
    torch.testing.assert_close(float(statistics[0, 3]), 2.0 / 3.0)


def test_value_first_uses_the_value_after_its_step() -> None:
    learner = make_learner("iql", value_first=True, learning_rate=1e-2, gamma=0.9)
    sampler = make_sampler(learner, random_dataset())
    b = sampler.draw(learner.counter).background
    assert b.action is not None
    assert b.reward is not None
    pair = torch.cat([b.obs, b.action], -1)
    q = torch.minimum(learner.critic_target(pair), learner.twin_target(pair)).detach()
    before = [critic(pair).detach() for critic in (learner.critic, learner.twin)]
    metrics = learner.update(sampler.draw(learner.counter))
    # The value takes no other step than the first one.
    advantage = (q - learner.value(b.obs)).mean(1)
    torch.testing.assert_close(metrics["advantage_mean"], advantage.detach(), rtol=1e-10, atol=0)
    y = b.reward + 0.9 * (1.0 - b.terminal) * learner.value(b.next_obs)
    errors = [(y - q_i).square().mean(1) for q_i in before]
    expected = 0.5 * (errors[0] + errors[1])
    torch.testing.assert_close(metrics["critic_loss"], expected.detach(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("narrow", "limit"), [(False, -20.0), (True, -5.0)])
def test_the_log_deviation_has_its_lower_limit(narrow: bool, limit: float) -> None:
    learner = make_learner("iql", narrow_log_std=narrow)
    policy = learner.policy
    with torch.no_grad():
        policy.log_std.fill_(-30.0)
    obs = torch.zeros(1, 1, 3, dtype=torch.float64)
    mean = policy.mode(obs)
    quarter, zero = torch.full_like(mean, 0.25), torch.zeros_like(mean)
    sample = policy.sample(obs, quarter, zero)  # the cosine in Box-Muller is 1
    deviation = math.exp(limit) * math.sqrt(-2.0 * math.log(0.75))
    torch.testing.assert_close(sample - mean, torch.full_like(mean, deviation), rtol=1e-4, atol=0)
    gradient = policy.loss(policy.outputs(obs), mean.detach())[1]
    assert not bool(gradient[..., 2:].any())  # nothing pulls it back within the limits


def test_the_authors_nets_start_from_orthogonal_weights() -> None:
    learner = make_learner("iql", **JAX)
    for name in NETS:
        for weight, bias in layers(getattr(learner, name)):
            rows = weight if weight.shape[0] <= weight.shape[1] else weight.T
            square = rows @ rows.T
            torch.testing.assert_close(
                square, 2.0 * torch.eye(len(square)).double(), rtol=0, atol=1e-5
            )
            assert not bool(bias.any())
    assert not learner.encoder.standardizes


def test_orthogonal_weights_do_not_depend_on_the_number_of_threads() -> None:
    threads, weights = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        weights.append(Init([0], "policy", "orthogonal", torch.float32).linear(128, 128)[0])
    torch.set_num_threads(threads)
    assert torch.equal(*weights)


@pytest.mark.parametrize("preset", ["vfo", "jax"])
def test_both_variants_train_in_the_native_engine(preset: str) -> None:
    assert train("iql", random_dataset(), 5, preset=preset).engine == "native"


def test_a_resumed_run_of_the_authors_variant_has_the_bits_of_one_that_never_stopped(
    tmp_path: Path,
) -> None:
    train("iql", random_dataset(), 5, preset="jax", out=tmp_path / "run")
    resumed = train("iql", random_dataset(), 12, preset="jax", out=tmp_path / "run")
    assert_equal_bits(resumed, train("iql", random_dataset(), 12, preset="jax"))


def test_rewards_are_scaled_by_the_range_of_returns() -> None:
    dataset = random_dataset()
    learner = make_learner("iql", seeds=(0, 1), reward_scaling="return_range")
    scaled = prepared(learner, dataset)[0].background.reward
    background = dataset.background
    assert background.reward is not None
    assert scaled is not None
    expected = scaling.return_range_scaled(background.reward.double(), background.start)
    for member_reward in scaled:
        torch.testing.assert_close(member_reward, expected, rtol=1e-6, atol=0)


def test_rewards_are_not_scaled_by_default() -> None:
    dataset = random_dataset()
    assert prepared(make_learner("iql"), dataset)[0] is dataset


def test_rewards_are_multiplied_then_shifted_after_scaling() -> None:
    dataset = random_dataset()
    rewards = dataset.background.reward
    assert rewards is not None
    by_range = scaling.return_range_scaled(rewards.double(), dataset.background.start)
    for scale, expected in (("none", rewards.double()), ("return_range", by_range)):
        learner = make_learner(
            "iql", reward_scaling=scale, reward_multiplier=[1.0, 100.0], reward_shift=[0.0, -1.0]
        )
        scaled = prepared(learner, dataset)[0].background.reward
        assert scaled is not None
        torch.testing.assert_close(scaled[0], expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(scaled[3], 100.0 * expected - 1.0, rtol=1e-6, atol=1e-9)


def test_scaling_by_the_range_of_equal_returns_is_refused() -> None:
    episode = {"obs": torch.randn(6, 3), "action": torch.zeros(5, 2), "reward": torch.ones(5)}
    dataset = Dataset.from_episodes([episode, episode])
    with pytest.raises(ValueError, match=r"reward_scaling: return_range divides .* every episode"):
        prepared(make_learner("iql", reward_scaling="return_range"), dataset)


def test_one_background_episode_is_refused_before_training() -> None:
    dataset = random_dataset()
    one = dataclasses.replace(dataset, background=dataset.background.take([0]))
    with pytest.raises(ValueError, match=r"reward_scaling: .* but the background has one episode"):
        fastifo.train("tge", one, horizon=4, progress=False)


def test_nearly_constant_observations_are_not_amplified() -> None:
    learner = make_learner("iql")
    assert learner.deviation_epsilon == 1e-3
    made = type(learner)(
        learner.configs, learner.seeds,
        InputSpec(3, 2, torch.zeros(3), torch.tensor([0.0, 1e-5, 2.0])), "fp64",
    )  # fmt: skip
    torch.testing.assert_close(
        made.encoder.deviation, torch.tensor([1e-3, 1.01e-3, 2.001]).double(), rtol=1e-4, atol=0
    )
