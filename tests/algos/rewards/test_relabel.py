"""Rewards per member, and relabelled datasets that are written and read again."""

import dataclasses
from pathlib import Path

import h5py
import pytest
import torch

import fastifo
from algos.parity import rewards
from algos.rewards.tge_runs import SIZES
from fastifo.algos.relabel import relabel_each_member, unit_range
from fastifo.data.stack import stacked
from helpers import random_dataset
from image_data import image_dataset


def with_success(dataset: fastifo.Dataset) -> fastifo.Dataset:
    """The dataset, where every other background episode succeeds."""
    success = torch.arange(dataset.background.num_episodes) % 2 == 0
    background = dataclasses.replace(dataset.background, success=success)
    return dataclasses.replace(dataset, background=background)


def test_rewards_are_computed_from_the_members_own_data() -> None:
    sets = [with_success(random_dataset(seed)) for seed in (0, 1, 2)]
    together = stacked(sets, (0, 0, 1, 2))
    seen: list[tuple[int, fastifo.Dataset]] = []

    def compute_rewards(member: int, data: fastifo.Dataset) -> torch.Tensor:
        seen.append((member, data))
        return torch.full((data.background.num_transitions,), float(member))

    background = relabel_each_member(together, 4, compute_rewards).background
    assert background.reward is not None
    assert background.ranges is not None
    for (member, data), original in zip(seen, [sets[i] for i in (0, 0, 1, 2)], strict=True):
        assert data.expert is not None
        assert original.expert is not None
        for part, whole in ((data.background, original.background), (data.expert, original.expert)):
            assert part.columns().keys() == whole.columns().keys()
            for name, column in whole.columns().items():
                assert torch.equal(part.columns()[name], column), name
        first, count = background.ranges[member].tolist()
        assert bool((background.reward[member, first : first + count] == member).all())


def test_a_members_own_data_keep_their_frames_and_successes() -> None:
    whole = image_dataset()
    known = dataclasses.replace(whole.background, success=torch.tensor([True, False, True]))
    sets = [dataclasses.replace(whole, background=known.take(order)) for order in ([0, 1], [2, 0])]
    seen: list[fastifo.Dataset] = []

    def compute_rewards(member: int, data: fastifo.Dataset) -> torch.Tensor:
        seen.append(data)
        return torch.zeros(data.background.num_transitions)

    relabel_each_member(stacked(sets, (0, 1)), 2, compute_rewards)
    assert [data.background for data in seen] == [each.background for each in sets]


def test_a_dataset_gets_the_same_rewards_in_a_stack_as_alone() -> None:
    sets = [random_dataset(seed) for seed in (0, 1)]
    alone = torch.cat([rewards("seabo", each) for each in sets])
    both = rewards("seabo", stacked(sets, (0, 1)))  # of the first member
    count = sets[0].background.num_transitions
    torch.testing.assert_close(both[:count], alone[:count])


def test_the_unit_range_of_equal_rewards_is_0() -> None:
    assert torch.equal(unit_range(torch.full((4,), 2.5)), torch.zeros(4))


def test_relabel_gives_a_dataset_with_rewards_that_other_programs_read(tmp_path: Path) -> None:
    dataset = random_dataset(reward=False, env_id="Hopper-v4")
    relabelled = fastifo.relabel("tge", dataset, diffusion_updates=15, progress=False, **SIZES)
    reward = relabelled.background.reward
    assert reward is not None
    assert float(reward.min()) == 0.0
    assert float(reward.max()) == 1.0
    assert relabelled.info["rewards"]["algorithm"] == "tge"
    relabelled.save(tmp_path / "rewarded.fastifo")
    relabelled.save_d4rl(tmp_path / "rewarded.hdf5")
    with h5py.File(tmp_path / "rewarded.hdf5") as file:
        columns = {name: torch.from_numpy(file[name][:]) for name in file}
    assert columns.keys() == {
        "observations", "next_observations", "actions", "rewards", "terminals", "timeouts",
    }  # fmt: skip
    row = dataset.background.rows()
    assert torch.equal(columns["observations"], dataset.background.obs[row])
    assert torch.equal(columns["next_observations"], dataset.background.obs[row + 1])
    assert torch.equal(columns["rewards"], reward)
    ends = dataset.background.start[1:] - 1
    assert bool((columns["terminals"] ^ columns["timeouts"])[ends].all())
    again = fastifo.load(tmp_path / "rewarded.fastifo").background
    flat = fastifo.load(f"d4rl:{tmp_path / 'rewarded.hdf5'}").background
    for other in (again, flat):
        assert other.reward is not None
        assert torch.equal(other.reward.float(), reward.float())
        assert torch.equal(other.obs, dataset.background.obs)
        assert torch.equal(other.start, dataset.background.start)
        assert torch.equal(other.terminal, dataset.background.terminal)


def test_written_actions_are_in_the_tasks_bounds(tmp_path: Path) -> None:
    low, high = torch.full((2,), -0.4), torch.full((2,), 0.4)
    dataset = dataclasses.replace(random_dataset(), action_low=low, action_high=high)
    dataset.save_d4rl(tmp_path / "set.hdf5")
    with h5py.File(tmp_path / "set.hdf5") as file:
        written = torch.from_numpy(file["actions"][:])
    assert dataset.background.action is not None
    torch.testing.assert_close(written, 0.4 * dataset.background.action)


def test_relabel_knows_its_own_arguments() -> None:
    with pytest.raises(TypeError, match="did you mean 'checkpoint_every'"):
        fastifo.relabel("seabo", random_dataset(), checkpoint_evry=10)


def test_relabel_refuses_methods_that_compute_no_rewards() -> None:
    with pytest.raises(ValueError, match="relabel: expected tge, seabo or otr, found bc"):
        fastifo.relabel("bc", random_dataset())
