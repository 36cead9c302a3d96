"""SEABO, search-based offline imitation: a transition's reward falls with its distance to the
nearest transition of the expert.

Source: Lyu et al. 2024, arXiv:2402.03807, in its state-only form. IQL or ReBRAC learns from the
rewards (field `backbone`). Differs: the authors search with a k-d tree, we by brute force; both are
exact. Their default also compares actions. Their IQL is a port of the JAX authors' with a policy
trained with the squared error; the presets `orig`, `adroit` and `antmaze` follow it, the default is
that of `iql`. Its squared error is a mean over action dimensions, ours a sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastifo.algos.config import require, require_choice
from fastifo.algos.iql import IQL, IQLConfig
from fastifo.algos.learner import StageTrainer
from fastifo.algos.rebrac import ReBRAC, ReBRACConfig
from fastifo.algos.relabel import relabel_each_member, reward_keys
from fastifo.algos.rewards.base import Rewards, RewardsConfig
from fastifo.algos.rewards.knn import BACKENDS, Neighbours, check_backend, check_neighbours
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes


@dataclass(frozen=True)
class SEABOConfig(RewardsConfig):
    """Fields of `seabo` besides its backbone's: how distances become rewards."""

    reward_factor: float = 1.0  # alpha: the reward at distance 0
    reward_slope: float = 0.5  # beta: factor of the distance in the exponent; 5 on AntMaze
    divides_by_actions: bool = True  # divide the distance by the action's width; False on Adroit
    neighbours: int = 1  # k: the distance is that to the k-th nearest expert transition
    neighbour_backend: str = "auto"  # auto | faiss-gpu | faiss | torch: all of them are exact

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "reward_slope", self.reward_slope >= 0, "at least 0")
        require(self, "neighbours", self.neighbours >= 1, "at least 1")
        require_choice(self, "neighbour_backend", ("auto", *BACKENDS))


class SEABO(Rewards):
    """The rewards; a subclass adds the backbone."""

    name: ClassVar[str] = "seabo"

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        """Requires an available neighbour backend."""
        super().check_config(config, device)
        check_backend(config, device)

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        """Requires enough expert transitions."""
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        assert dataset.expert is not None
        check_neighbours(config.neighbours, dataset.expert.num_transitions, "transitions")

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with SEABO's rewards, [P, N].

            r = alpha exp(-beta d_k / |A|),  d_k = |(s, s') - k-th nearest expert (s, s')|

        |A|: width of an action, 1 without `divides_by_actions`.
        """

        def compute_rewards(member: int, data: Dataset) -> Tensor:
            assert data.expert is not None
            config = configs[member]
            points = state_pairs(data.expert).to(trainer.device)
            search = Neighbours(points, config.neighbour_backend)
            trainer.note("neighbour_backend", search.backend)
            queries = state_pairs(data.background).to(trainer.device)
            distance = search.distances(queries, config.neighbours).cpu().double()[:, -1]  # d_k
            if config.divides_by_actions:
                distance = distance / data.action_dim
            reward: Tensor = config.reward_factor * torch.exp(-config.reward_slope * distance)
            return reward

        keys = reward_keys(SEABOConfig, configs)
        return relabel_each_member(dataset, len(configs), compute_rewards, keys)


def state_pairs(episodes: Episodes) -> Tensor:
    """(s, s') of each transition, [N, 2D]."""
    row = episodes.rows()
    return torch.cat([episodes.obs[row], episodes.obs[row + 1]], 1)


@dataclass(frozen=True)
class SEABOIQLConfig(IQLConfig, SEABOConfig):
    """Fields of `seabo`."""


class SEABOIQL(SEABO, IQL):
    """IQL with SEABO's rewards."""

    Config = SEABOIQLConfig


@dataclass(frozen=True)
class SEABOReBRACConfig(ReBRACConfig, SEABOConfig):
    """Fields of `seabo-rebrac`."""

    backbone: str = "rebrac"  # iql | rebrac: method that learns from the rewards


class SEABOReBRAC(SEABO, ReBRAC):
    """ReBRAC with SEABO's rewards."""

    Config = SEABOReBRACConfig
