from itertools import pairwise
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
)
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import WITH_NEXT_ACTION
from fastifo.nn.mlp import LayerNorm
from helpers import make_learner, make_sampler, random_dataset, run_updates
from oracles import rebrac as oracle

NETS = ("policy", "critic", "twin", "policy_target", "critic_target", "twin_target")
CRITICS = ("critic", "twin", "critic_target", "twin_target")


def norms(net: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    pairs = ((norm.weight[0, 0], norm.bias[0, 0]) for norm in net.norms)
    return [(weight.detach().clone(), bias.detach().clone()) for weight, bias in pairs]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"policy_penalty": 0.4, "critic_penalty": 1.5, "gamma": 0.9, "polyak": 0.3},
        {"critic_layer_norm": False, "normalizes_q": False, "noise_clip": 0.1},
        {"policy_noise": 0.0, "learning_rate": 1e-2, "standardize_obs": True},
        {"critic_learning_rate": 1e-2, "absorbing": True, "gamma": 0.9},
    ],
)
def test_20_updates_equal_the_oracle(overrides: dict[str, Any]) -> None:
    learner = make_learner("rebrac", **overrides)
    sampler = make_sampler(learner, random_dataset())
    start = {name: layers(getattr(learner, name)) for name in NETS}
    start |= {f"{name}_norms": norms(getattr(learner, name)) for name in CRITICS}
    batches = oracle_batches(sampler, 20, 0, 0.5)
    for batch in batches:
        batch["noise"] = batch.pop("policy_noise")
    metrics = run_updates(learner, sampler, 20)
    after, history = oracle.run(start, batches, oracle_config(learner))
    for name in NETS:
        assert_layers_equal(layers(getattr(learner, name)), after[name])
    for name in CRITICS:
        for norm, expected in zip(
            norms(getattr(learner, name)), after[f"{name}_norms"], strict=True
        ):
            torch.testing.assert_close(norm, expected, rtol=0, atol=1e-9)
    assert_metrics_equal(metrics, history, ["critic_loss"])
    assert_metrics_equal(metrics[1::2], history[1::2], ["policy_loss"])


def test_the_policy_trains_in_every_second_update() -> None:
    learner = make_learner("rebrac")
    sampler = make_sampler(learner, random_dataset())
    seen = [layers(learner.policy)]
    for _ in range(4):
        run_updates(learner, sampler, 1)
        seen.append(layers(learner.policy))
    changed = [not torch.equal(a[0][0], b[0][0]) for a, b in pairwise(seen)]
    assert changed == [False, True, False, True]


def test_the_penalty_is_zero_if_the_target_policy_repeats_the_data() -> None:
    learner = make_learner("rebrac", policy_noise=0.0)
    sampler = make_sampler(learner, random_dataset())
    batch = sampler.draw(learner.counter)
    b = batch.background
    assert b.next_action is not None
    b.next_action.copy_(learner.policy_target.mode(b.next_obs))
    assert float(learner.update(batch)["next_distance"].detach()) == 0.0


def test_without_layer_norm_the_policy_loss_is_that_of_td3_bc() -> None:
    """(1 / 2.5) / A: TD3+BC averages over dimensions and multiplies the critic by 2.5."""
    width = 2
    learner = make_learner("rebrac", policy_penalty=1.0 / (2.5 * width), critic_layer_norm=False)
    sampler = make_sampler(learner, random_dataset())
    run_updates(learner, sampler, 1)
    learner.counter.fill_(1)
    learner.phase = 1
    batch = sampler.draw(learner.counter)
    critic, twin = learner.critic, learner.twin
    metrics = learner.update(batch)  # steps the critics, then evaluates them in the policy loss
    b = batch.background
    assert b.action is not None
    before = make_learner("rebrac", policy_penalty=1.0 / (2.5 * width), critic_layer_norm=False)
    action = before.policy.mode(b.obs)
    pair = torch.cat([b.obs, action], -1)
    q = torch.minimum(critic(pair), twin(pair))
    td3_bc = (action - b.action).square().mean() - 2.5 * q.mean() / q.abs().mean()
    torch.testing.assert_close(2.5 * metrics["policy_loss"].squeeze(), td3_bc.detach())


def test_layer_norm_gives_rows_of_mean_0_and_variance_1() -> None:
    norm = LayerNorm(2, 64, torch.float64)
    out = norm(3.0 + 5.0 * torch.randn(2, 7, 64, dtype=torch.float64))
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 7, dtype=torch.float64))
    torch.testing.assert_close(
        out.var(-1, correction=0), torch.ones(2, 7, dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_initial_weights_are_those_of_the_authors() -> None:
    learner = make_learner("rebrac")
    for net, bound in ((learner.policy.body, 1e-3), (learner.critic, 3e-3)):
        *hidden, last = net.layers
        assert all(bool((layer.bias == 0.1).all()) for layer in hidden)
        for values in (last.weight, last.bias):
            assert 0.0 < float(values.detach().abs().max()) <= bound


def test_every_transition_but_a_timeout_is_drawn() -> None:
    background = random_dataset().background
    first, before = background.windows(WITH_NEXT_ACTION)
    drawn = torch.cat([f + torch.arange(int(n)) for f, n in zip(first, before.diff(), strict=True)])
    expected = torch.arange(background.num_transitions)[~background.timeout]
    assert torch.equal(drawn, expected)
    learner = make_learner("rebrac", batch_size=64)
    batch = make_sampler(learner, random_dataset()).draw(learner.counter).background
    assert batch.next_action is not None
    assert batch.action is not None
    assert background.action is not None
    continues = batch.terminal[0] == 0
    for action, after in zip(
        batch.action[0][continues], batch.next_action[0][continues], strict=True
    ):
        row = int((background.action.double() == action).all(1).nonzero()[0])
        assert torch.equal(background.action[row + 1].double(), after)


def test_a_background_without_two_successive_actions_is_refused() -> None:
    episode = {"obs": torch.randn(2, 3), "action": torch.zeros(1, 2), "reward": torch.ones(1)}
    dataset = Dataset.from_episodes([episode, episode], min_steps=1)
    with pytest.raises(ValueError, match="rebrac learns from an action and the one after it"):
        fastifo.train("rebrac", dataset, progress=False)


def test_other_initial_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="init: expected fan_in_uniform, as in the authors' code"):
        make_learner("rebrac", init="orthogonal")


def test_rebracs_presets_exist_for_methods_with_rebrac_as_backbone() -> None:
    expected = preset_fields("rebrac", "door-expert")
    assert preset_fields("tge", "door-expert", "rebrac") == expected
    with pytest.raises(ValueError, match="tge has no preset 'adroit'"):
        preset_fields("tge", "adroit", "rebrac")
    assert preset_fields("tge", "adroit")["expectile"] == 0.8
    assert preset_fields("seabo", "adroit")["inverse_temperature"] == 0.5
