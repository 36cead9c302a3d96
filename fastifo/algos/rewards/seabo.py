"""SEABO: rewards from the distance to the nearest transition of the expert, then offline RL.

Source: Lyu et al. 2024, arXiv:2402.03807. Their search is a k-d tree, this one exact too. Theirs
compares actions as well unless told otherwise; and their IQL has raw observations and a policy by
squared error, the one here is IQL's own.
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
    """How distances become rewards."""

    reward_factor: float = 1.0  # alpha: the reward at distance 0
    reward_slope: float = 0.5  # beta: of the distance in the exponent; 5 on AntMaze
    divides_by_actions: bool = True  # the distance by the number of actions; False on Adroit
    neighbours: int = 1  # k: the distance to the k-th nearest of the expert counts
    neighbour_backend: str = "auto"  # auto | faiss-gpu | faiss | torch: all of them exact

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "reward_slope", self.reward_slope >= 0, "at least 0")
        require(self, "neighbours", self.neighbours >= 1, "at least 1")
        require_choice(self, "neighbour_backend", ("auto", *BACKENDS))


class SEABO(Rewards):
    """What both backbones share: the rewards."""

    name: ClassVar[str] = "seabo"

    @classmethod
    def check_config(cls, config: Any, device: torch.device) -> None:
        super().check_config(config, device)
        check_backend(config, device)

    @classmethod
    def check_data(
        cls, dataset: Dataset, config: Any, device: torch.device, *, relabel_only: bool = False
    ) -> None:
        super().check_data(dataset, config, device, relabel_only=relabel_only)
        assert dataset.expert is not None
        check_neighbours(config.neighbours, dataset.expert.num_transitions, "transitions")

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """reward = alpha exp(-beta d / actions), d the distance of (obs, next_obs), [P, N]."""

        def judged(member: int, own: Dataset) -> Tensor:
            assert own.expert is not None
            config = configs[member]
            search = Neighbours(_pairs(own.expert).to(trainer.device), config.neighbour_backend)
            trainer.note("neighbour_backend", search.backend)
            queries = _pairs(own.background).to(trainer.device)
            distance = search.distances(queries, config.neighbours).cpu().double()[:, -1]
            if config.divides_by_actions:
                distance = distance / own.action_dim
            reward: Tensor = config.reward_factor * torch.exp(-config.reward_slope * distance)
            return reward

        return relabel_each_member(dataset, len(configs), judged, reward_keys(SEABOConfig, configs))


def _pairs(episodes: Episodes) -> Tensor:
    """(obs, next_obs) of each transition, [N, 2D]."""
    row = episodes.rows()
    return torch.cat([episodes.obs[row], episodes.obs[row + 1]], 1)


@dataclass(frozen=True)
class SEABOIQLConfig(IQLConfig, SEABOConfig):
    reward_scaling: str = "none"  # none | return_range: best and worst return 1000 apart


class SEABOIQL(SEABO, IQL):
    Config = SEABOIQLConfig


@dataclass(frozen=True)
class SEABOReBRACConfig(ReBRACConfig, SEABOConfig):
    backbone: str = "rebrac"  # iql | rebrac: what learns from the rewards


class SEABOReBRAC(SEABO, ReBRAC):
    Config = SEABOReBRACConfig
