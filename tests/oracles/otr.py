"""Oracle of OTR: rewards from the optimal transport plan between an episode and a demonstration.

    r_i = alpha exp(-beta (T / d) sum_j P_ij C_ij)

C is the cosine cost between observations, P the plan of an entropic transport problem after a fixed
number of Sinkhorn iterations. Everything is float64. Observations are standardised as
(obs - mean) / deviation if a mean and a deviation, [d] each, are given.
Source: Luo et al. 2023, arXiv:2303.13971; entropic transport: Peyre & Cuturi 2019,
arXiv:1803.00567, Section 4.
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
    rows = []
    for s in obs.tolist():
        row = []
        for e in expert_obs.tolist():
            length = math.hypot(*s) * math.hypot(*e)
            product = math.fsum(x * y for x, y in zip(s, e, strict=True))
            row.append(1.0 if length == 0.0 else 1.0 - product / length)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def scaled_to_mass(log_plan: Tensor, dim: int) -> Tensor:
    """The logarithm of the plan, scaled so that its sums over `dim` are all equal and add up to 1.

    This is the projection onto one marginal constraint in the Kullback-Leibler divergence.
    """
    mass = 1.0 / log_plan.shape[1 - dim]
    return log_plan - torch.logsumexp(log_plan, dim=dim, keepdim=True) + math.log(mass)


def sinkhorn_plan(cost: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The plan after a number of iterations, in the log domain: [T, M] -> [T, M].

    The optimum minimises <P, C> + epsilon KL(P) between uniform weights. It is reached from
    exp(-C / epsilon) by alternating projections; an iteration projects onto the demonstration's
    weights (columns sum to 1/M), then onto the episode's (rows sum to 1/T). So rows sum to 1/T
    exactly after any number of iterations, columns to 1/M in the limit.

    epsilon: weight of the entropy.
    """
    log_plan = -cost.to(torch.float64) / epsilon
    for _ in range(iterations):
        log_plan = scaled_to_mass(log_plan, dim=0)
        log_plan = scaled_to_mass(log_plan, dim=1)
    return log_plan.exp()


def rewards_of_plan(
    plan: Tensor, cost: Tensor, width: int, alpha: float, beta: float
) -> list[float]:
    """alpha exp(-beta (T / d) sum_j P_ij C_ij) of every row.  width: d, that of an observation."""
    length = plan.shape[0]
    rewards = []
    for plan_row, cost_row in zip(plan.tolist(), cost.tolist(), strict=True):
        row_cost = math.fsum(p * c for p, c in zip(plan_row, cost_row, strict=True))
        rewards.append(alpha * math.exp(-beta * (length / width) * row_cost))
    return rewards


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
    """The rewards of one episode and one demonstration.

    obs: [T, d], T the length of the episode.  expert_obs: [M, d].  Returns [T].
    """
    episode = standardised(obs, mean, deviation)
    cost = cosine_cost(episode, standardised(expert_obs, mean, deviation))
    plan = sinkhorn_plan(cost, epsilon, iterations)
    rewards = rewards_of_plan(plan, cost, obs.shape[1], alpha, beta)
    return torch.tensor(rewards, dtype=torch.float64)


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
