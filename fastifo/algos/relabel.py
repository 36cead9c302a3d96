"""Relabelling a background with rewards that differ between members, and scaling rewards."""

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
class ScaledConfig(Config):
    """Fields of methods that scale the rewards before they learn from them."""

    reward_scaling: str = "return_range"  # none | return_range: best and worst return 1000 apart
    reward_multiplier: float = 1.0  # multiplies the rewards after reward_scaling
    reward_shift: float = 0.0  # added to the rewards after reward_multiplier

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "reward_scaling", ("none", "return_range"))
        require(self, "reward_multiplier", self.reward_multiplier > 0, "above 0")

    @property
    def keeps_rewards(self) -> bool:
        """Whether rewards are used as they are."""
        identity = self.reward_multiplier == 1.0 and self.reward_shift == 0.0
        return identity and self.reward_scaling == "none"


def relabel_each_member(
    dataset: Dataset,
    members: int,
    reward_of: Callable[[int, Dataset], Tensor],
    keys: Sequence[Hashable] | None = None,
) -> Dataset:
    """The dataset with a reward column per member, [P, N] float64.

    members: P.  reward_of: maps a member and the part of the data that it trains on to the rewards
    of that part's background, [n].  keys: one per member; members with equal keys and data share
    one call. None calls `reward_of` for every member.
    """
    cache: dict[Any, Tensor] = {}
    background = dataset.background
    reward = torch.zeros(members, background.num_transitions, dtype=torch.float64)
    for sharing, first, count in member_ranges(background, members):
        part = _part(background, first, count)
        for member in range(sharing.start, sharing.stop):
            key = (first, count, member if keys is None else keys[member])
            if key not in cache:
                before = background.reward
                if before is not None:
                    before = (before[member] if before.ndim == 2 else before)[first : first + count]
                expert = dataset.expert
                if expert is not None and expert.ranges is not None:
                    expert = _part(expert, *(int(x) for x in expert.ranges[member]))
                member_data = dataclasses.replace(
                    dataset, background=dataclasses.replace(part, reward=before), expert=expert
                )
                cache[key] = reward_of(member, member_data).to(reward.dtype)
            reward[member, first : first + count] = cache[key]
    return dataclasses.replace(dataset, background=dataclasses.replace(background, reward=reward))


def reward_keys(fields: type[Any], configs: Sequence[Any]) -> list[Hashable]:
    """Keys for `relabel_each_member`: the values of the fields that a member's rewards depend on.

    fields: the config class that declares these fields; those of `Config` do not count.
    """
    names = [field.name for field in dataclasses.fields(fields)]
    general = {field.name for field in dataclasses.fields(Config)}
    return [repr([getattr(c, name) for name in names if name not in general]) for c in configs]


def check_reward_scaling(dataset: Dataset, config: Any) -> None:
    """Raises ValueError if the config scales by the range of returns and there is one episode."""
    if config.reward_scaling == "return_range" and dataset.background.num_episodes < 2:
        raise ValueError(
            "reward_scaling: return_range divides by the difference between the best and the worst "
            "return; the background has one episode. Use reward_scaling='none'"
        )


def scale_rewards(dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
    """Scales each member's rewards as its `ScaledConfig` fields say, [P, N].

    return_range multiplies by 1000 / (best return - worst return). A member whose returns are all
    equal is marked as diverged. Raises ValueError if no member is left.
    """
    if all(config.keeps_rewards for config in configs):
        return dataset
    equal_returns: dict[int, float] = {}  # member -> the return of all its episodes

    def scaled(member: int, data: Dataset) -> Tensor:
        config, returns, reward = configs[member], data.background.returns(), data.background.reward
        assert returns is not None
        assert reward is not None
        if trainer.has_diverged(member):
            return reward
        if config.reward_scaling == "return_range":
            spread = float(returns.max() - returns.min())
            if not spread > 0.0:
                equal_returns[member] = float(returns[0])
                return reward
            reward = reward * (RETURN_RANGE / spread)
        result: Tensor = reward * config.reward_multiplier + config.reward_shift
        return result

    result = relabel_each_member(dataset, len(configs), scaled)
    for member in equal_returns:
        trainer.mark_diverged(member)
    if equal_returns and all(map(trainer.has_diverged, range(len(configs)))):
        value = next(iter(equal_returns.values()))
        raise ValueError(
            "reward_scaling: return_range divides by the difference between the best and the worst "
            f"return; every episode has {value:.6g}. Use reward_scaling='none'"
        )
    return result


def unit_range(reward: Tensor) -> Tensor:
    """Rewards mapped linearly onto [0, 1], or zeros if all are equal.  reward: [N]."""
    low, high = reward.min(), reward.max()
    return (reward - low) / (high - low).clamp(min=torch.finfo(reward.dtype).tiny)


def _part(episodes: Episodes, first: int, count: int) -> Episodes:
    """The whole episodes in a range of transitions, without rewards that differ between members."""
    if count == episodes.num_transitions:
        return dataclasses.replace(episodes, ranges=None)
    start = episodes.start
    begin = int(torch.searchsorted(start, first))
    end = int(torch.searchsorted(start, first + count))
    rows = slice(first + begin, first + count + end)
    columns = {
        name: column[..., first : first + count] if column.ndim == 2 and name == "reward"
        else column[first : first + count]
        for name, column in episodes.columns().items()
        if name not in ("obs", "start")
    }  # fmt: skip
    return Episodes(obs=episodes.obs[rows], start=start[begin : end + 1] - first, **columns)
