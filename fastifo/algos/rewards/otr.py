"""OTR, optimal transport rewards: a transition's reward falls with the cost of transporting its
observation to an expert episode under an optimal transport plan.

Source: Luo et al. 2023, arXiv:2303.13971, and the authors' code. IQL or ReBRAC learns from the
rewards (field `backbone`). The authors' costs are between raw observations, and their IQL is a port
of the JAX one: so are those of the presets `orig`, `adroit` and `antmaze`. By default, costs are
between standardised observations and the backbone is CORL's IQL, see `fastifo/algos/iql.py`. In
both, rewards are scaled by the range of returns first. The authors' cosine has 1e-8 added to the
product of lengths, ours is exact.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
from fastifo.algos.rewards.resumable import ResumableArray
from fastifo.data.dataset import Dataset
from fastifo.data.episodes import Episodes
from fastifo.utils.progress import ProgressBar

VERSION = 2  # of the rewards; older `transport-*.npy` files have others
MIN_DEVIATION = 1e-6  # below it a feature counts as constant and is not scaled


@dataclass(frozen=True)
class OTRConfig(RewardsConfig):
    """Fields of `otr` besides its backbone's: how costs become rewards."""

    reward_factor: float = 5.0  # alpha: the reward at cost 0
    reward_slope: float = 5.0  # beta: factor of the cost in the exponent; 1 on AntMaze
    divides_by_observations: bool = True  # divide the cost by the observation's width; not AntMaze
    expert_episodes: int = 10  # the first expert episodes that count; 0 is all
    sinkhorn_epsilon: float = 0.01  # entropy regularisation of the plan
    sinkhorn_iterations: int = 100  # Sinkhorn iterations per plan
    standardizes_cost: bool = True  # standardise observations by the background's statistics

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "reward_slope", self.reward_slope >= 0, "at least 0")
        require(self, "expert_episodes", self.expert_episodes >= 0, "at least 0")
        require(self, "sinkhorn_epsilon", self.sinkhorn_epsilon >= 0.003, "at least 0.003")
        require(self, "sinkhorn_iterations", self.sinkhorn_iterations >= 1, "at least 1")


class OTR(Rewards):
    """The rewards; a subclass adds the backbone."""

    name: ClassVar[str] = "otr"

    @classmethod
    def relabel(cls, dataset: Dataset, configs: Sequence[Any], trainer: StageTrainer) -> Dataset:
        """The background with OTR's rewards, [P, N]; see `episode_rewards`.

        Of several expert episodes, the one that gives an episode the largest sum of rewards counts.
        With a run folder, a stopped run continues with the first episode without rewards.
        """
        keys = reward_keys(OTRConfig, configs)

        def compute_rewards(member: int, data: Dataset) -> Tensor:
            path: Path | None = None
            if trainer.folder is not None:
                text = f"{VERSION} {keys[member]} {data.fingerprint()}"
                digest = hashlib.sha256(text.encode()).hexdigest()[:8]
                path = trainer.folder / f"transport-{digest}.npy"
            return transport_rewards(data, configs[member], path, trainer.progress)

        return relabel_each_member(dataset, len(configs), compute_rewards, keys)


def transport_rewards(data: Dataset, config: Any, path: Path | None, progress: bool) -> Tensor:
    """The rewards of the background's transitions, [N] float64.

    path: the file of a `ResumableArray` that keeps them; None keeps them in memory.
    progress: show a progress bar.
    """
    assert data.expert is not None
    background = data.background
    mean, std = (column.double() for column in background.obs_statistics())
    std = torch.where(std > MIN_DEVIATION, std, 1.0)
    if not config.standardizes_cost:
        std, mean = torch.ones_like(std), torch.zeros_like(mean)
    num_experts = int(min(config.expert_episodes or math.inf, data.expert.num_episodes))
    experts = [unit_observations(data.expert, e, mean, std) for e in range(num_experts)]

    rewards = ResumableArray(path, (background.num_transitions, 1), np.dtype(np.float64))
    first = int(torch.searchsorted(background.start, rewards.done))
    count = background.num_episodes
    with ProgressBar("transport", count, "episodes", enabled=progress) as bar:
        bar.start_at(first)
        for episode in range(first, count):
            obs = unit_observations(background, episode, mean, std)
            candidates = [episode_rewards(obs, expert, data.obs_dim, config) for expert in experts]
            best = max(candidates, key=lambda reward: float(reward.sum()))
            rewards.append(best[:, None])
            bar.update(episode + 1, "")
    rewards.finish()
    return torch.from_numpy(np.array(rewards.array[:, 0]))


def unit_observations(episodes: Episodes, episode: int, mean: Tensor, std: Tensor) -> Tensor:
    """Observations at the start of an episode's transitions, scaled to length 1, [T, D] float64.

    mean, std: for standardising, [D].
    """
    first, last = (int(x) + episode for x in episodes.start[episode : episode + 2])
    rows = (episodes.obs[first:last].double() - mean) / std
    return torch.nn.functional.normalize(rows, dim=1)


def episode_rewards(obs: Tensor, expert: Tensor, width: int, config: Any) -> Tensor:
    """The rewards of one episode's transitions for one expert episode, [T].

        r_i = alpha exp(-beta (T / D) sum_j P_ij C_ij),  C_ij = 1 - cos(s_i, e_j)

    P is the transport plan of `sinkhorn`; D is 1 without `divides_by_observations`.
    obs, expert: rows of length 1, [T, D] and [M, D].  width: D.
    """
    cost = 1.0 - obs @ expert.t()  # [T, M]
    plan = sinkhorn(cost, config.sinkhorn_epsilon, config.sinkhorn_iterations)
    row_cost = (plan * cost).sum(1)
    slope = config.reward_slope * len(obs) / (width if config.divides_by_observations else 1)
    reward: Tensor = config.reward_factor * torch.exp(-slope * row_cost)
    return reward


def sinkhorn(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The transport plan between uniform weights after this many iterations, [T, M].

        K = exp(-C / epsilon),  P = diag(u) K diag(v)
        v <- 1 / (M K^T u),  u <- 1 / (T K v), from u = 1

    The episode's rows come last, so that they have masses of 1 / T before convergence too; the
    expert's columns have 1 / M in the limit.
    cost: C, [T, M] float64, at most 2; float64 holds exp(-2 / epsilon) for an epsilon of 0.003.
    Source: Cuturi 2013, arXiv:1306.0895, Algorithm 1; the order as in ott-jax, which the authors
    use.
    """
    kernel = torch.exp(-cost / epsilon)  # [T, M]
    transposed = kernel.t().contiguous()
    u = torch.ones(cost.shape[0], dtype=cost.dtype)
    for _ in range(iterations):
        v = 1.0 / (len(transposed) * (transposed @ u))
        u = 1.0 / (len(kernel) * (kernel @ v))
    plan: Tensor = u[:, None] * kernel * v
    return plan


@dataclass(frozen=True)
class OTRIQLConfig(IQLConfig, OTRConfig):
    """Fields of `otr`."""

    reward_scaling: str = "return_range"  # none | return_range: best and worst return 1000 apart


class OTRIQL(OTR, IQL):
    """IQL with OTR's rewards."""

    Config = OTRIQLConfig


@dataclass(frozen=True)
class OTRReBRACConfig(ReBRACConfig, OTRConfig):
    """Fields of `otr-rebrac`."""

    backbone: str = "rebrac"  # iql | rebrac: method that learns from the rewards


class OTRReBRAC(OTR, ReBRAC):
    """ReBRAC with OTR's rewards."""

    Config = OTRReBRACConfig
