"""OTR: rewards from an optimal transport between an episode and the expert's, then offline RL.

Source: Luo et al. 2023, arXiv:2303.13971. Differs: an episode shorter than the others has its own
uniform weights, where the authors' code gives each of its rows 1 / 1000; and costs are of
standardised observations (`standardizes_cost`), which their code leaves as they are.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastifo.algos.config import require
from fastifo.algos.iql import IQL, IQLConfig
from fastifo.algos.learner import StageTrainer
from fastifo.algos.rebrac import ReBRAC, ReBRACConfig
from fastifo.algos.relabel import relabel_each_member, reward_keys
from fastifo.algos.rewards.base import Rewards, RewardsConfig
from fastifo.algos.rewards.store import ResumableArray
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.utils.progress import ProgressBar


@dataclass(frozen=True)
class OTRConfig(RewardsConfig):
    """How costs become rewards."""

    reward_factor: float = 5.0  # alpha: the reward at cost 0
    reward_slope: float = 5.0  # beta: of the cost in the exponent; 1 on AntMaze
    divides_by_observations: bool = True  # the exponent by how wide they are; False on AntMaze
    expert_episodes: int = 10  # of the expert's, the first so many; 0 is all
    sinkhorn_epsilon: float = 0.01  # entropy of the plan
    sinkhorn_iterations: int = 100  # of the plan
    standardizes_cost: bool = True  # observations by the background's mean and deviation

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "reward_slope", self.reward_slope >= 0, "at least 0")
        require(self, "expert_episodes", self.expert_episodes >= 0, "at least 0")
        require(self, "sinkhorn_epsilon", self.sinkhorn_epsilon >= 0.003, "at least 0.003")
        require(self, "sinkhorn_iterations", self.sinkhorn_iterations >= 1, "at least 1")


class OTR(Rewards):
    """What both backbones share: the rewards."""

    name: ClassVar[str] = "otr"

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """reward = alpha exp(-beta T cost / D), cost what the plan moves away from a row, [P, N].

        Of several expert episodes the one with the largest sum of rewards counts.
        """

        def judged(member: int, own: Dataset) -> Tensor:
            assert own.expert is not None
            config, background = configs[member], own.background
            std, mean = torch.std_mean(background.obs.double(), 0, correction=0)
            std = torch.where(std > 1e-6, std, 1.0)
            if not config.standardizes_cost:
                std, mean = torch.ones_like(std), torch.zeros_like(mean)
            shown = min(config.expert_episodes or math.inf, own.expert.num_episodes)
            experts = [_directions(own.expert, e, mean, std) for e in range(int(shown))]
            path = None
            if trainer.folder is not None:
                text = f"{kinds[member]} {own.fingerprint()}"
                digest = hashlib.sha256(text.encode()).hexdigest()[:8]
                path = trainer.folder / f"transport-{digest}.npy"
            found = ResumableArray(path, (background.num_transitions, 1), np.dtype(np.float64))
            first = int(torch.searchsorted(background.start, found.done))
            count = background.num_episodes
            with ProgressBar("transport", count, "episodes", enabled=trainer.progress) as bar:
                bar.start_at(first)
                for episode in range(first, count):
                    rows = _directions(background, episode, mean, std)
                    options = [_rewards(rows, expert, own.obs_dim, config) for expert in experts]
                    found.append(max(options, key=lambda reward: float(reward.sum()))[:, None])
                    bar.update(episode + 1, "")
            found.finish()
            return torch.from_numpy(np.array(found.array[:, 0]))

        kinds = reward_keys(OTRConfig, configs)
        return relabel_each_member(dataset, len(configs), judged, kinds)


def _directions(episodes: Episodes, episode: int, mean: Tensor, std: Tensor) -> Tensor:
    """Observations where transitions start, at length 1, [T, D] float64."""
    first, last = (int(x) + episode for x in episodes.start[episode : episode + 2])
    rows = (episodes.obs[first:last].double() - mean) / std
    return torch.nn.functional.normalize(rows, dim=1)


def _rewards(rows: Tensor, expert: Tensor, width: int, config: Any) -> Tensor:
    cost = 1.0 - rows @ expert.t()  # [T, M]
    plan = sinkhorn(cost, config.sinkhorn_epsilon, config.sinkhorn_iterations)
    moved = (plan * cost).sum(1)
    slope = config.reward_slope * len(rows) / (width if config.divides_by_observations else 1)
    reward: Tensor = config.reward_factor * torch.exp(-slope * moved)
    return reward


def sinkhorn(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The transport plan between uniform weights after so many iterations, [T, M].

    cost: [T, M] float64.  Scalings of rows and columns, rows first; float64 holds
    exp(-cost / epsilon) down to a cost of 2, where costs end, for an epsilon of 0.003.
    Source: Cuturi 2013, arXiv:1306.0895.
    """
    kernel = torch.exp(-cost / epsilon)
    turned = kernel.t().contiguous()
    columns = torch.ones(cost.shape[1], dtype=cost.dtype)
    for _ in range(iterations):
        rows = 1.0 / (len(kernel) * (kernel @ columns))
        columns = 1.0 / (len(turned) * (turned @ rows))
    plan: Tensor = rows[:, None] * kernel * columns
    return plan


@dataclass(frozen=True)
class OTRIQLConfig(IQLConfig, OTRConfig):
    pass


class OTRIQL(OTR, IQL):
    Config = OTRIQLConfig


@dataclass(frozen=True)
class OTRReBRACConfig(ReBRACConfig, OTRConfig):
    backbone: str = "rebrac"  # iql | rebrac: what learns from the rewards


class OTRReBRAC(OTR, ReBRAC):
    Config = OTRReBRACConfig
