"""Oracle of TGE's rewards from embedding distances, and of the reward scaling, in float64.

With the distances d_j to the m nearest expert embeddings, the paper's formula has three readings:
    R1: -mean_j log(1 + d_j / sigma)
    R2: -log(1 + mean_j d_j / sigma)
    R3: log mean_j 1 / (1 + d_j / sigma)
Source: arXiv:2601.00452.
"""

import itertools
import math

import torch
from torch import Tensor


def nearest_distances(query: Tensor, reference: Tensor, m: int) -> Tensor:
    """Euclidean distances to the m nearest reference rows, nearest first.

    query: [N, D].  reference: [M, D], M at least m.  Returns [N, m].
    """
    rows = []
    for row in query.to(torch.float64):
        square = ((row - reference.to(torch.float64)) ** 2).sum(dim=1)
        rows.append(square.sqrt().sort().values[:m])
    nearest = torch.stack(rows)
    assert nearest.shape[1] == m
    return nearest


def rewards(distance: Tensor, sigma: float, reading: str) -> Tensor:
    """One reward per transition from its m distances.

    distance: [N, m].  reading: "R1" (mean of kernel), "R2" (kernel of mean), "R3" (log-mean
    kernel), or "gaussian", mean_j exp(-d_j^2 / (2 sigma^2)).  Returns [N].
    Raises ValueError for another reading.
    """
    out = []
    for row in distance.tolist():
        m = len(row)
        if reading == "R1":
            out.append(-sum(math.log(1 + d / sigma) for d in row) / m)
        elif reading == "R2":
            out.append(-math.log(1 + sum(d / sigma for d in row) / m))
        elif reading == "R3":
            out.append(math.log(sum(1 / (1 + d / sigma) for d in row) / m))
        elif reading == "gaussian":
            out.append(sum(math.exp(-(d**2) / (2 * sigma**2)) for d in row) / m)
        else:
            raise ValueError(f"reading: R1, R2, R3 or gaussian, not {reading}")
    return torch.tensor(out, dtype=torch.float64)


def min_max_scaled(reward: Tensor) -> Tensor:
    """(r - min) / (max - min) over all rows, in [0, 1], [N].

    Raises ValueError if all rewards are equal.
    """
    reward = reward.to(torch.float64)
    low, high = reward.min(), reward.max()
    if high == low:
        raise ValueError("reward: all values are equal, so they have no range")
    return (reward - low) / (high - low)


def episode_returns(reward: Tensor, start: Tensor) -> Tensor:
    """Undiscounted sum per episode.  reward: [N].  start: [episodes + 1], last entry N."""
    first = start.tolist()
    sums = [math.fsum(reward[a:b].tolist()) for a, b in itertools.pairwise(first)]
    return torch.tensor(sums, dtype=torch.float64)


def return_range_scaled(reward: Tensor, start: Tensor) -> Tensor:
    """r * 1000 / (largest - smallest episode return), [N]: the scale of IQL, TGE, SEABO and OTR.

    reward: [N].  start: first row of each episode and N, [episodes + 1].
    Raises ValueError if all returns are equal.
    """
    returns = episode_returns(reward, start)
    spread = (returns.max() - returns.min()).item()
    if spread == 0:
        raise ValueError("reward: all trajectory returns are equal, so they have no range")
    return reward.to(torch.float64) * (1000 / spread)
