"""Oracle of OTR: rewards from the optimal transport plan between an episode and a demonstration.

    r_i = alpha exp(-beta (T / d) sum_j P_ij C_ij), P the entropic plan, C the cosine cost.
Everything is float64. Observations are standardised as (obs - mean) / deviation if a mean and a
deviation, [d] each, are given.
Source: Luo et al. 2023, arXiv:2303.13971; Sinkhorn's iterations: Cuturi 2013, arXiv:1306.0895.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def standardised(obs: Tensor, mean: Tensor | None, deviation: Tensor | None) -> Tensor:
    obs = obs.to(torch.float64)
    if mean is None or deviation is None:
        return obs
    return (obs - mean.to(torch.float64)) / deviation.to(torch.float64)


def cosine_cost(obs: Tensor, expert_obs: Tensor) -> Tensor:
    """C_ij = 1 - cos(s_i, e_j), or 1 if either is all zeros: [T, d], [M, d] -> [T, M]."""
    norm, expert_norm = (x.square().sum(dim=1).sqrt() for x in (obs, expert_obs))
    product = norm[:, None] * expert_norm[None, :]
    cosine = (obs @ expert_obs.T) / torch.where(product == 0, 1.0, product)
    return 1 - cosine


def sinkhorn_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Entropic plan between the uniform marginals 1/T and 1/M after a number of iterations.

    Computed in the log domain from potentials of 0. An iteration sets the potentials f of the rows,
    then g of the columns, so that columns sum to 1/M exactly and rows to 1/T in the limit.

    cost: [T, M].  epsilon: weight of the entropy.  Returns [T, M].
    """
    rows, columns = cost.shape
    f = torch.zeros(rows, dtype=torch.float64)
    g = torch.zeros(columns, dtype=torch.float64)
    for _ in range(iterations):
        f = epsilon * (-math.log(rows) - torch.logsumexp((g[None, :] - cost) / epsilon, dim=1))
        g = epsilon * (-math.log(columns) - torch.logsumexp((f[:, None] - cost) / epsilon, dim=0))
    return torch.exp((f[:, None] + g[None, :] - cost) / epsilon)


def otr(
    obs: Tensor,
    expert_obs: Tensor,
    alpha: float,
    beta: float,
    epsilon: float,
    iterations: int,
    mean: Tensor | None = None,
    deviation: Tensor | None = None,
) -> Tensor:
    """Rewards alpha exp(-beta (T / d) sum_j P_ij C_ij) of one episode and one demonstration.

    obs: [T, d], T the length of the episode.  expert_obs: [M, d].  Returns [T].
    """
    episode = standardised(obs, mean, deviation)
    cost = cosine_cost(episode, standardised(expert_obs, mean, deviation))
    plan = sinkhorn_plan(cost, epsilon, iterations)
    length, width = obs.shape
    return alpha * torch.exp(-beta * (length / width) * (plan * cost).sum(dim=1))


def otr_best(
    obs: Tensor,
    experts: Sequence[Tensor],
    alpha: float,
    beta: float,
    epsilon: float,
    iterations: int,
    mean: Tensor | None = None,
    deviation: Tensor | None = None,
) -> Tensor:
    """The rewards for the demonstration with the largest sum of rewards, the first on ties: [T]."""
    candidates = [
        otr(obs, expert, alpha, beta, epsilon, iterations, mean, deviation) for expert in experts
    ]
    totals = [candidate.sum().item() for candidate in candidates]
    return candidates[totals.index(max(totals))]
