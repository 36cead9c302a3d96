"""New rewards for the background, computed per member, and their scale."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastifo.algos.config import Config, require, require_choice
from fastifo.algos.learner import StageTrainer
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.data.stack import member_ranges

RETURN_RANGE = 1000.0  # difference between the best and the worst return after scaling


@dataclass(frozen=True)
class RewardScalingConfig(Config):
    """Fields of every method that learns from rewards and scales them first."""

    reward_scaling: str = "none"  # none | return_range: best and worst return 1000 apart
    reward_multiplier: float = 1.0  # factor of the scaled reward
    reward_shift: float = 0.0  # added to the scaled and multiplied reward

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "reward_scaling", ("none", "return_range"))
        require(self, "reward_multiplier", self.reward_multiplier > 0, "above 0")

    @property
    def keeps_rewards(self) -> bool:
        """Whether rewards stay as they are."""
        unchanged = self.reward_multiplier == 1.0 and self.reward_shift == 0.0
        return unchanged and self.reward_scaling == "none"


def relabel_each_member(
    dataset: Dataset,
    members: int,
    compute_rewards: Callable[[int, Dataset], Tensor],
    keys: Sequence[Hashable] | None = None,
) -> Dataset:
    """The dataset with rewards that may differ between members, [P, N] float64.

    members: the population's size P.  compute_rewards: called with a member and its part of the
    data; returns the rewards of that part's n background transitions, [n].  keys: one per member;
    members with the same key and the same part of the data share rewards, which are computed once.
    None computes them for each member.
    """
    shared: dict[Any, Tensor] = {}
    background = dataset.background
    reward = torch.zeros(members, background.num_transitions, dtype=torch.float64)
    for group, first, count in member_ranges(background, members):
        part = _select_range(background, first, count)
        for member in range(group.start, group.stop):
            key = (first, count, member if keys is None else keys[member])
            if key not in shared:
                rewards = compute_rewards(member, _member_data(dataset, part, member, first))
                shared[key] = rewards.to(reward.dtype)
            reward[member, first : first + count] = shared[key]
    return dataclasses.replace(dataset, background=dataclasses.replace(background, reward=reward))


def _member_data(dataset: Dataset, part: Episodes, member: int, first: int) -> Dataset:
    """One member's part of a dataset.

    part: its background, which starts at transition `first` of the dataset's.
    """
    expert, reward = dataset.expert, dataset.background.reward
    if expert is not None and expert.ranges is not None:
        expert = _select_range(expert, *(int(x) for x in expert.ranges[member]))
    if reward is not None:
        reward = reward[member] if reward.ndim == 2 else reward
        reward = reward[first : first + part.num_transitions]
    return dataclasses.replace(
        dataset, background=dataclasses.replace(part, reward=reward), expert=expert
    )


def _select_range(episodes: Episodes, first: int, count: int) -> Episodes:
    """The episodes that make up the transitions [first, first + count)."""
    if count == episodes.num_transitions:
        return dataclasses.replace(episodes, ranges=None)
    start = episodes.start
    begin = int(torch.searchsorted(start, first))
    end = int(torch.searchsorted(start, first + count))
    rows = slice(first + begin, first + count + end)  # an episode has one more row of `obs`
    columns: dict[str, Any] = {
        name: column[..., first : first + count] if column.ndim == 2 and name == "reward"
        else column[first : first + count]
        for name, column in episodes.columns().items()
        if name not in ("obs", "start", "success")
    }  # fmt: skip
    if episodes.success is not None:
        columns["success"] = episodes.success[begin:end]
    return Episodes(obs=episodes.obs[rows], start=start[begin : end + 1] - first, **columns)


def reward_keys(fields: type[Any], configs: Sequence[Any]) -> list[Hashable]:
    """Keys for `relabel_each_member`: equal where the configs have equal reward settings.

    fields: the config class that declares these settings; the fields of `Config` do not count.
    configs: one per member.
    """
    names = [field.name for field in dataclasses.fields(fields)]
    shared = {field.name for field in dataclasses.fields(Config)}
    return [repr([getattr(c, name) for name in names if name not in shared]) for c in configs]


def check_reward_scaling(dataset: Dataset, config: Any) -> None:
    """Raises ValueError if returns are to be scaled by their range and there is only one."""
    if config.reward_scaling == "return_range" and dataset.background.num_episodes < 2:
        raise ValueError(
            "reward_scaling: return_range divides by the difference of the best and the worst "
            "return, but the background has one episode; use reward_scaling='none'"
        )


def scale_rewards(dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
    """The dataset with scaled rewards, [P, N] float64, or `dataset` if no config scales them.

        r' = multiplier r 1000 / (max return - min return) + shift

    configs: one per member.  Members whose returns are all equal are marked as diverged.
    Raises ValueError if no member is left.
    Source: the range of returns as in CORL and the authors' code of IQL.
    """
    if all(config.keeps_rewards for config in configs):
        return dataset
    constant_return: dict[int, float] = {}  # by member, where all its episodes have the same

    def scale(member: int, data: Dataset) -> Tensor:
        config, returns, reward = configs[member], data.background.returns(), data.background.reward
        assert returns is not None
        assert reward is not None
        if trainer.has_diverged(member):
            return reward
        if config.reward_scaling == "return_range":
            spread = float(returns.max() - returns.min())
            if not spread > 0.0:
                constant_return[member] = float(returns[0])
                return reward
            reward = reward * (RETURN_RANGE / spread)
        scaled_reward: Tensor = reward * config.reward_multiplier + config.reward_shift
        return scaled_reward

    result = relabel_each_member(dataset, len(configs), scale)
    for member in constant_return:
        trainer.mark_diverged(member)
    if constant_return and all(map(trainer.has_diverged, range(len(configs)))):
        raise ValueError(
            "reward_scaling: return_range divides by the difference of the best and the worst "
            f"return, but every episode has {next(iter(constant_return.values())):.6g}; "
            "use reward_scaling='none'"
        )
    return result


def unit_range(reward: Tensor) -> Tensor:
    """(r - min r) / (max r - min r), in [0, 1]; zeros if all are equal.  reward: [N]."""
    low, high = reward.min(), reward.max()
    return (reward - low) / (high - low).clamp(min=torch.finfo(reward.dtype).tiny)
