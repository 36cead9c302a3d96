"""How `Dataset.from_episodes` stores episodes as columns, and the methods of `Episodes`."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from helpers import random_dataset

OBS_DIM, ACTION_DIM = 3, 2


def episode(steps: int, first: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Observations count up from `first`, so that a value identifies its row."""
    rows = torch.arange(steps + 1, dtype=torch.float32) + first
    return {
        "obs": rows[:, None].repeat(1, OBS_DIM),
        "action": torch.full((steps, ACTION_DIM), first / 64),
        "reward": torch.ones(steps),
        "terminal": False,
    } | fields


def numbered() -> Episodes:
    """Episodes of 2, 4 and 3 steps that start at 10, 20 and 30; the second is terminal."""
    parts = [episode(2, 10.0), episode(4, 20.0, terminal=True), episode(3, 30.0)]
    return Dataset.from_episodes(parts).background


def test_columns_are_stored_end_to_end_with_one_more_observation_per_episode() -> None:
    episodes = numbered()
    assert episodes.start.tolist() == [0, 2, 6, 9]
    assert episodes.lengths.tolist() == [2, 4, 3]
    assert (episodes.num_episodes, episodes.num_transitions, episodes.obs_dim) == (3, 9, OBS_DIM)
    assert episodes.obs[:, 0].tolist() == [10, 11, 12, 20, 21, 22, 23, 24, 30, 31, 32, 33]


def test_the_true_final_observation_is_the_last_next_observation() -> None:
    episodes = numbered()
    next_obs = episodes.obs[episodes.rows() + 1, 0]
    assert episodes.obs[episodes.rows(), 0].tolist() == [10, 11, 20, 21, 22, 23, 30, 31, 32]
    assert next_obs.tolist() == [11, 12, 21, 22, 23, 24, 31, 32, 33]


def test_terminals_and_timeouts_are_separate_and_only_at_episode_ends() -> None:
    episodes = numbered()
    assert torch.nonzero(episodes.terminal).flatten().tolist() == [5]
    assert torch.nonzero(episodes.timeout).flatten().tolist() == [1, 8]


def test_expert_episodes_keep_their_terminal_and_may_lack_actions_and_rewards() -> None:
    demos: list[dict[str, Any]] = [
        {"obs": np.zeros((4, OBS_DIM)), "terminal": True},
        {"obs": np.zeros((3, OBS_DIM))},
    ]
    expert = Dataset.from_episodes([episode(3)], demos).expert
    assert expert is not None
    assert expert.action is None
    assert expert.reward is None
    assert expert.terminal.tolist() == [False, False, True, False, False]
    assert expert.timeout.tolist() == [False, False, False, False, True]


def test_take_returns_the_given_episodes_in_that_order() -> None:
    taken = numbered().take([2, 0])
    assert taken.start.tolist() == [0, 3, 5]
    assert taken.obs[:, 0].tolist() == [30, 31, 32, 33, 10, 11, 12]
    assert taken.action is not None
    assert (64 * taken.action[:, 0]).tolist() == [30, 30, 30, 10, 10]
    assert taken.timeout.tolist() == [False, False, True, False, True]
    assert numbered().take([1]).terminal.tolist() == [False, False, False, True]
    assert numbered().take([]).num_episodes == 0
    assert numbered().take(np.array([-1, -3])) == taken
    with pytest.raises(IndexError, match="episodes: expected -3 to 2, found 3"):
        numbered().take([0, 3])
    with pytest.raises(TypeError, match="episodes: expected indices, found booleans"):
        numbered().take(np.array([True, False, True]))


def test_taking_every_episode_changes_nothing() -> None:
    episodes = numbered()
    taken = episodes.take(range(3))
    for name, value in episodes.columns().items():
        assert torch.equal(value, taken.columns()[name]), name


def test_returns_are_reward_sums_of_each_episode_in_float64() -> None:
    steps = 1000
    rewards = torch.full((steps,), 0.1)
    rows = [episode(steps, reward=1e4 + rewards), episode(3, reward=torch.tensor([1.0, -2.0, 4.0]))]
    returns = Dataset.from_episodes(rows).background.returns()
    assert returns is not None
    assert returns.dtype == torch.float64
    expected = float((1e4 + rewards).double().sum())
    assert returns.tolist() == pytest.approx([expected, 3.0], rel=1e-12)


@pytest.mark.parametrize("block", [1, 2, 1 << 16])
def test_observation_statistics_leave_out_final_observations(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastifo.data.episodes.STATISTICS_ROWS", block)
    obs = torch.tensor([[1.0, 5.0], [2.0, 5.0], [100.0, -7.0]])
    short = torch.tensor([[6.0, 5.0], [-100.0, 9.0]])
    action = torch.zeros(2, 1)
    episodes = Dataset.from_episodes(
        [
            {"obs": obs, "action": action, "terminal": True},
            {"obs": short, "action": action[:1]},
        ],
        min_steps=1,
    ).background
    mean, deviation = episodes.obs_statistics()
    assert mean.dtype == deviation.dtype == torch.float32
    assert mean.tolist() == pytest.approx([3.0, 5.0])
    assert deviation.tolist() == pytest.approx([(14 / 3) ** 0.5, 0.0])


def test_observation_statistics_are_exact_far_from_zero() -> None:
    obs = 1e4 + torch.arange(4001.0)[:, None] % 2  # 10000, 10001, ...
    episodes = Dataset.from_episodes([{"obs": obs, "action": torch.zeros(4000, 1)}]).background
    mean, deviation = episodes.obs_statistics()
    assert float(mean) == 10000.5
    assert float(deviation) == 0.5


def test_without_rewards_there_are_no_returns() -> None:
    plain = {k: v for k, v in episode(3).items() if k != "reward"}
    assert Dataset.from_episodes([plain]).background.returns() is None


class OnlyDlpack:
    """An array of a library that only supports DLPack."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


def read_only(values: Tensor) -> Any:
    array = values.numpy().copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "convert",
    [
        lambda v: v.numpy(),
        lambda v: v.numpy().astype(np.float64),
        lambda v: v.numpy().astype(">f4"),
        lambda v: np.ascontiguousarray(v.numpy()[::-1])[::-1],
        lambda v: np.asfortranarray(v.numpy()),
        read_only,
        lambda v: v.tolist(),
        lambda v: v.double().requires_grad_(),
        lambda v: v.bfloat16(),
        OnlyDlpack,
    ],
    ids=[
        "plain",
        "f8",
        "byte-swapped",
        "reversed",
        "fortran",
        "read-only",
        "list",
        "grad",
        "bfloat16",
        "dlpack",
    ],
)
def test_any_kind_of_array_gives_the_same_columns(convert: Any) -> None:
    plain = episode(4, 3.0)
    other = {k: v if k == "terminal" else convert(v) for k, v in plain.items()}
    columns = Dataset.from_episodes([other]).background.columns()
    for name, value in Dataset.from_episodes([plain]).background.columns().items():
        assert torch.equal(columns[name], value), name
        assert columns[name].dtype == value.dtype
        assert not columns[name].requires_grad


def test_a_dataset_does_not_share_memory_with_its_source_arrays() -> None:
    source = episode(4)
    dataset = Dataset.from_episodes([source], [{"obs": source["obs"]}])
    before = dataset.fingerprint()
    for name in ("obs", "action", "reward"):
        source[name] += 0.5
    assert dataset.fingerprint() == before


def test_any_iterable_of_episodes_is_accepted() -> None:
    background: Any = (episode(3, i) for i in range(2))
    expert: Any = iter(())
    dataset = Dataset.from_episodes(background, expert)
    assert dataset.background.num_episodes == 2
    assert dataset.expert is None


def test_actions_are_mapped_from_their_bounds_and_back() -> None:
    low, high = [-4.0, 1.0], [4.0, 5.0]
    action = torch.tensor([[-4.0, 5.0], [0.0, 3.0], [2.0, 2.0]])
    dataset = Dataset.from_episodes([episode(3, action=action)], action_low=low, action_high=high)
    unit = dataset.background.action
    assert unit is not None
    torch.testing.assert_close(unit, torch.tensor([[-1.0, 1.0], [0.0, 0.0], [0.5, -0.5]]))
    assert dataset.action_low is not None
    assert dataset.action_high is not None
    back = dataset.action_low + 0.5 * (unit + 1) * (dataset.action_high - dataset.action_low)
    torch.testing.assert_close(back, action)


def test_actions_of_episodes_of_a_dataset_are_not_mapped_again() -> None:
    parts = [{"obs": np.ones((3, 2)), "action": np.array([[0.5], [4.0]]), "terminal": True}] * 2
    bounds: dict[str, Any] = {"action_low": 0.0, "action_high": 4.0}
    dataset = Dataset.from_episodes(parts, parts, **bounds)
    assert dataset.expert is not None
    assert dataset == Dataset.from_episodes(dataset, dataset.expert, **bounds)
    assert dataset == Dataset.from_episodes([dataset[0], parts[1]], [*dataset.expert], **bounds)


def test_a_scalar_bound_applies_to_every_dimension() -> None:
    dataset = Dataset.from_episodes(
        [episode(3, action=np.full((3, 2), 2.0))], action_low=-2, action_high=np.float32(2.0)
    )
    assert dataset.action_low is not None
    assert dataset.action_low.tolist() == [-2.0, -2.0]
    assert dataset.background.action is not None
    assert dataset.background.action.unique().tolist() == [1.0]


def test_rounding_errors_beyond_the_bound_are_clipped_not_refused() -> None:
    action = torch.full((3, 2), 1.0 + 5e-6)
    background = Dataset.from_episodes([episode(3, action=action)]).background
    assert background.action is not None
    assert float(background.action.max()) == 1.0


def test_the_fingerprint_depends_on_every_column() -> None:
    first = random_dataset()
    assert first.fingerprint() == random_dataset().fingerprint()
    for source in ("background", "expert"):
        for name in getattr(first, source).columns():
            other = random_dataset()
            column = getattr(getattr(other, source), name)
            column.view(-1)[-1] = ~column.view(-1)[-1] if column.dtype == torch.bool else 77
            assert other.fingerprint() != first.fingerprint(), (source, name)


def test_the_summary_has_sizes_ends_and_returns() -> None:
    text = random_dataset(env_id="Hopper-v4").summary()
    for part in ("Hopper-v4", "6 episodes", "45 transitions", "2 terminal, 4 timeout", "return"):
        assert part in text
    bare = random_dataset(expert=False, reward=False).summary()
    assert "cannot be evaluated" in bare
    assert "expert       none" in bare
    assert "return" not in bare


def test_windows_are_counted_per_episode_and_short_ones_have_none() -> None:
    episodes = random_dataset().background  # 5 to 10 transitions
    first, before = episodes.windows(7)
    assert first.tolist() == episodes.start[:-1].tolist()
    assert before.tolist() == [0, 0, 0, 1, 3, 6, 10]
    with pytest.raises(ValueError, match="length: expected 1 to 10, the length of the longest"):
        episodes.windows(11)


def test_a_dataset_indexes_and_iterates_its_background_episodes() -> None:
    dataset = Dataset(numbered())
    assert len(dataset) == len(list(dataset)) == 3
    for index in (0, 2, -1, np.int64(1)):
        assert torch.equal(dataset[index].obs, dataset.background[index].obs)
    assert [len(episode) for episode in dataset] == [len(e) for e in dataset.background]
    assert dataset[1:] == dataset.background.take([1, 2])
    with pytest.raises(IndexError, match="episode: expected -3 to 2, found 3"):
        dataset[3]


def test_one_episode_is_called_an_episode() -> None:
    assert "background   1 episode, 3 transitions" in Dataset(numbered().take([2])).summary()
    assert "background   3 episodes, " in Dataset(numbered()).summary()
