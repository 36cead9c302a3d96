"""Batches drawn by counter: which rows they have, and that they depend only on seed and update."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Batch, Columns, Sampler, Transitions
from fastifo.data.streams import purpose, uniform
from fastifo.ops.draw import draw
from helpers import ACTION_DIM, OBS_DIM, random_dataset

CPU = torch.device("cpu")


def make(
    seeds: tuple[int, ...], needs: frozenset[str] = frozenset(), size: int = 8, **fields: Any
) -> Sampler:
    dataset = fields.pop("dataset", None) or random_dataset()
    stage = fields.pop("stage", "train")
    return Sampler(dataset, seeds, size, needs, stage, CPU, torch.float64, **fields)


def at(sampler: Sampler, update: int) -> Batch:
    return sampler.draw(torch.tensor([update]))


def assert_same(a: Transitions | None, b: Transitions | None, rows: Any = slice(None)) -> None:
    assert a is not None
    assert b is not None
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert (value is None) == (other is None), name
        if value is not None:
            assert torch.equal(value, other[rows]), name


NEEDS = frozenset({"expert", "reward", "policy", "uniform"})


def test_a_members_batch_does_not_depend_on_the_rest_of_the_population() -> None:
    single = at(make((7,), NEEDS), 3)
    for seeds, member in (((7, 1), 0), ((1, 2, 7), 2)):
        batch = at(make(seeds, NEEDS), 3)
        for source in ("background", "expert", "policy"):
            assert_same(getattr(single, source), getattr(batch, source), slice(member, member + 1))
        assert single.uniform is not None
        assert batch.uniform is not None
        assert torch.equal(single.uniform[0], batch.uniform[member])


def test_a_batch_does_not_depend_on_earlier_draws() -> None:
    sampler = make((0, 1), NEEDS)
    first = at(sampler, 5)
    at(sampler, 6)
    assert_same(first.background, at(sampler, 5).background)
    assert_same(first.background, at(make((0, 1), NEEDS), 5).background)


def test_a_smaller_batch_is_the_start_of_a_larger_one() -> None:
    small, large = at(make((3,), size=5), 0).background, at(make((3,), size=9), 0).background
    assert torch.equal(small.obs, large.obs[:, :5])


def test_updates_seeds_sources_and_stages_draw_different_rows() -> None:
    batch = at(make((0, 1), NEEDS, size=64), 0)
    assert batch.policy is not None
    drawn = [
        batch.background.obs[0],
        batch.background.obs[1],
        batch.policy.obs[0],
        at(make((0,), size=64), 1).background.obs[0],
        at(make((0,), size=64, stage="other"), 0).background.obs[0],
    ]
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert not torch.equal(first, second)


def test_every_purpose_has_its_own_stream() -> None:
    names = [(s, u) for s in ("train", "oril") for u in ("background", "expert", "policy", "mix")]
    assert len({purpose(*name) for name in names}) == len(names)


def test_a_batch_has_the_rows_of_its_indices() -> None:
    dataset = random_dataset()
    columns = dataset.background
    batch = at(make((4, 9), frozenset({"reward"}), size=50), 11).background
    seed, update = torch.tensor([4, 9]), torch.tensor([11])
    index = draw(seed, update, purpose("train", "background"), columns.num_transitions, 50)
    assert columns.action is not None
    assert columns.reward is not None
    assert batch.action is not None
    assert batch.reward is not None
    for p in range(2):
        for b in range(50):
            n = int(index[p, b])
            episode = int(torch.searchsorted(columns.start, n, right=True)) - 1
            row = n + episode
            assert torch.equal(batch.obs[p, b].float(), columns.obs[row])
            assert torch.equal(batch.next_obs[p, b].float(), columns.obs[row + 1])
            assert torch.equal(batch.action[p, b].float(), columns.action[n])
            assert float(batch.reward[p, b]) == float(columns.reward[n])
            assert bool(batch.terminal[p, b]) == bool(columns.terminal[n])
    assert batch.obs.dtype == batch.terminal.dtype == torch.float64


def test_a_timeout_is_not_terminal_and_has_the_true_final_observation() -> None:
    rows = [
        {"obs": np.full((3, 1), i) + np.array([[0], [0.25], [0.5]]), "action": np.zeros((2, 1))}
        | {"terminal": i == 1}
        for i in range(3)
    ]
    batch = at(make((0,), dataset=Dataset.from_episodes(rows), size=200), 0).background
    last = batch.obs.remainder(1.0) == 0.25  # the second observation of an episode
    assert torch.equal(batch.next_obs - batch.obs, torch.full_like(batch.obs, 0.25))
    ended = last.squeeze(-1) & (batch.obs.squeeze(-1).floor() == 1)
    assert torch.equal(batch.terminal.bool(), ended)
    assert bool(ended.any())
    assert not bool(ended.all())


def test_every_transition_is_drawn_equally_often() -> None:
    count = 4000
    index = torch.arange(45, dtype=torch.float32)
    dataset = random_dataset()
    dataset = replace(dataset, background=replace(dataset.background, reward=index))
    drawn = at(make((2,), frozenset({"reward"}), dataset=dataset, size=45 * count), 0).background
    assert drawn.reward is not None
    counts = torch.bincount(drawn.reward.long().flatten(), minlength=45)
    # 5 standard deviations of a binomial count
    assert float((counts - count).abs().max()) < 5 * count**0.5


@pytest.mark.parametrize("needs", [frozenset(), frozenset({"expert", "policy", "uniform"})])
def test_rewards_are_absent_unless_asked_for(needs: frozenset[str]) -> None:
    sampler = make((0,), needs)
    assert "reward" not in sampler.background.names
    batch = at(sampler, 0)
    assert batch.background.reward is None
    if batch.policy is not None:
        assert batch.policy.reward is None


def test_batches_have_only_the_parts_that_were_asked_for() -> None:
    batch = at(make((0,)), 0)
    assert (batch.expert, batch.policy, batch.uniform) == (None, None, None)
    full = at(make((0,), NEEDS), 0)
    assert full.expert is not None
    assert full.expert.action is None
    assert full.background.obs.shape == (1, 8, OBS_DIM)
    assert full.background.action is not None
    assert full.background.action.shape == (1, 8, ACTION_DIM)
    assert full.uniform is not None
    assert full.uniform.shape == (1, 8)


def test_members_may_have_their_own_rewards() -> None:
    episodes = random_dataset().background
    rewards = torch.stack([torch.arange(45.0), 100 + torch.arange(45.0)])
    options: Any = {"action": True, "reward": True, "fused": True}
    columns = Columns(replace(episodes, reward=rewards), CPU, torch.float64, None, **options)
    index = torch.tensor([[3, 44, 0], [44, 0, 3]])
    batch = columns.gather("rows", index)
    assert batch.reward is not None
    assert batch.reward.tolist() == [[3, 44, 0], [144, 100, 103]]
    shared = Columns(replace(episodes, reward=rewards[0]), CPU, torch.float64, None, **options)
    reward = shared.gather("rows", index).reward
    assert reward is not None
    assert reward.tolist() == index.tolist()


def test_uniform_numbers_are_in_the_half_open_unit_interval() -> None:
    for dtype in (torch.float32, torch.float64):
        numbers = uniform(torch.tensor([1]), torch.tensor([0]), 5, 100_000, dtype)
        assert numbers.dtype == dtype
        assert float(numbers.min()) >= 0.0
        assert float(numbers.max()) < 1.0
        assert abs(float(numbers.mean()) - 0.5) < 0.005  # 5 standard errors
        assert torch.equal(numbers, numbers.mul(2.0**24).round().mul(2.0**-24))


TRIPLES = frozenset({"expert", "triples"})


def test_triples_are_successive_observations_of_one_episode() -> None:
    sampler = make((0, 1), TRIPLES, size=400)
    batch, dataset = at(sampler, 2), random_dataset()
    for drawn, source in ((batch.background, dataset.background), (batch.expert, dataset.expert)):
        assert drawn is not None
        assert source is not None
        assert drawn.after_obs is not None
        expected = {
            tuple(source.obs[row : row + 3].double().flatten().tolist())
            for episode in range(source.num_episodes)
            for row in range(
                int(source.start[episode]) + episode, int(source.start[episode + 1]) + episode - 1
            )
        }
        rows = torch.cat([drawn.obs, drawn.next_obs, drawn.after_obs], -1).flatten(0, 1)
        assert {
            tuple(row.tolist()) for row in rows
        } == expected  # 400 draws of about 40 windows miss none


def test_initial_observations_are_those_of_all_episodes_equally_often() -> None:
    batch = at(make((0,), frozenset({"initial"}), size=6000), 0)
    episodes = random_dataset().background
    first = episodes.obs[episodes.start[:-1] + torch.arange(episodes.num_episodes)].double()
    assert batch.initial is not None
    same = (batch.initial[0].unsqueeze(1) == first).all(-1)
    assert bool((same.sum(1) == 1).all())
    counts = same.sum(0).double()
    # chi-squared with 5 degrees of freedom exceeds 25.7 once in ten thousand
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 25.7


def test_noise_is_as_wide_as_asked_for() -> None:
    batch = at(make((0, 1), frozenset({"noise"}), size=500, noise_width=5), 0)
    assert batch.noise is not None
    assert batch.noise.shape == (2, 500, 5)
    assert 0.0 <= float(batch.noise.min()) < 0.01
    assert 0.99 < float(batch.noise.max()) < 1.0


def test_expert_actions_are_gathered_only_if_asked_for() -> None:
    asked = at(make((0,), frozenset({"expert", "expert_action"})), 0).expert
    plain = at(make((0,), frozenset({"expert"})), 0).expert
    assert asked is not None
    assert plain is not None
    assert plain.action is None
    assert asked.action is not None
    assert torch.equal(asked.obs, plain.obs)
    dataset = random_dataset()
    assert dataset.expert is not None
    assert dataset.expert.action is not None
    actions = torch.stack([dataset.expert.action, -dataset.expert.action])
    labelled = replace(dataset, expert=replace(dataset.expert, action=actions))
    both = at(make((0, 0), frozenset({"expert", "expert_action"}), dataset=labelled), 0).expert
    assert both is not None
    assert both.action is not None
    assert torch.equal(both.action[0], asked.action[0])
    assert torch.equal(both.action[1], -asked.action[0])
