"""New rewards for a background, and their scale."""

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
    """Of methods that scale rewards before they learn from them."""

    reward_scaling: str = "return_range"  # none | return_range: best and worst return 1000 apart
    reward_multiplier: float = 1.0  # of what that makes of a reward
    reward_shift: float = 0.0  # added to that

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "reward_scaling", ("none", "return_range"))
        require(self, "reward_multiplier", self.reward_multiplier > 0, "above 0")

    @property
    def keeps_rewards(self) -> bool:
        """Whether they stay as they are."""
        plain = self.reward_multiplier == 1.0 and self.reward_shift == 0.0
        return plain and self.reward_scaling == "none"


def each_member(
    dataset: Dataset,
    members: int,
    change: Callable[[int, Dataset], Tensor],
    same: Sequence[Hashable] | None = None,
) -> Dataset:
    """The dataset with rewards of each member's own, [P, N] float64.

    change: (member, its own part of the data) -> rewards of that part's background, [n].
    same: members of one dataset for whom these are equal share what the first was given.
    """
    made: dict[Any, Tensor] = {}
    background = dataset.background
    reward = torch.zeros(members, background.num_transitions, dtype=torch.float64)
    for own, first, count in member_ranges(background, members):
        part = _part(background, first, count)
        for member in range(own.start, own.stop):
            expert = dataset.expert
            if expert is not None and expert.ranges is not None:
                expert = _part(expert, *(int(x) for x in expert.ranges[member]))
            own_reward = background.reward
            if own_reward is not None and own_reward.ndim == 2:
                own_reward = own_reward[member]
            if own_reward is not None:
                own_reward = own_reward[first : first + count]
            own_data = dataclasses.replace(
                dataset, background=dataclasses.replace(part, reward=own_reward), expert=expert
            )
            key = (first, count, member if same is None else same[member])
            if key not in made:
                made[key] = change(member, own_data).to(reward.dtype)
            reward[member, first : first + count] = made[key]
    return dataclasses.replace(dataset, background=dataclasses.replace(background, reward=reward))


def rewards_of(fields: type[Any], configs: Sequence[Any]) -> list[Hashable]:
    """What each member's rewards come from: the fields of one part of its config, as a text."""
    names = [field.name for field in dataclasses.fields(fields)]
    shared = {field.name for field in dataclasses.fields(Config)}
    return [repr([getattr(c, name) for name in names if name not in shared]) for c in configs]


def check_scaling(dataset: Dataset, config: Any) -> None:
    """Raises ValueError where returns can have no range."""
    if config.reward_scaling == "return_range" and dataset.background.num_episodes < 2:
        raise ValueError(
            "reward_scaling: return_range divides by the difference of the best and the worst "
            "return, the background has one episode; use reward_scaling='none'"
        )


def scaled_rewards(dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
    """Rewards times 1000 / (best - worst return), multiplied and shifted, where configs ask for it.

    A member whose returns are all the same fails.  Raises ValueError where none is left.
    """
    if all(config.keeps_rewards for config in configs):
        return dataset
    same: dict[int, float] = {}  # member -> the return of all its episodes

    def scaled(member: int, own: Dataset) -> Tensor:
        config, returns, reward = configs[member], own.background.returns(), own.background.reward
        assert returns is not None
        assert reward is not None
        if trainer.broken(member):
            return reward
        if config.reward_scaling == "return_range":
            spread = float(returns.max() - returns.min())
            if not spread > 0.0:
                same[member] = float(returns[0])
                return reward
            reward = reward * (RETURN_RANGE / spread)
        found: Tensor = reward * config.reward_multiplier + config.reward_shift
        return found

    found = each_member(dataset, len(configs), scaled)
    for member in same:
        trainer.fail(member)
    if same and all(map(trainer.broken, range(len(configs)))):
        raise ValueError(
            "reward_scaling: return_range divides by the difference of the best and the worst "
            f"return, every episode has {next(iter(same.values())):.6g}; use reward_scaling='none'"
        )
    return found


def unit_range(reward: Tensor) -> Tensor:
    """Mapped onto [0, 1]; zeros where all are the same.  reward: [N]."""
    low, high = reward.min(), reward.max()
    return (reward - low) / (high - low).clamp(min=torch.finfo(reward.dtype).tiny)


def _part(episodes: Episodes, first: int, count: int) -> Episodes:
    """Whole episodes of a range of transitions, without their rewards where members differ."""
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
