"""Oracle of SEABO: rewards from the distance to the nearest expert transition, in float64.

    r = alpha exp(-beta distance / |A|)
Source: Lyu et al. 2024, arXiv:2402.03807.
"""

import math

import torch
from torch import Tensor


def seabo(
    obs: Tensor,
    next_obs: Tensor,
    action: Tensor | None,
    expert_obs: Tensor,
    expert_next_obs: Tensor,
    alpha: float,
    beta: float,
    k: int,
    action_dim: int,
    divides: bool,
    *,
    expert_action: Tensor | None = None,
    averages: bool = False,
) -> Tensor:
    """Rewards from the distance between (s, s') or (s, a, s') and the k-th nearest of the expert's.

    obs, next_obs: [N, d].  action: [N, A], or None for the state-only distance.  expert_*: the
    expert's, [M, ...].  divides: False leaves out the division by |A| (Adroit).  averages: True
    uses the mean of the k nearest distances; the paper uses k = 1.  Returns [N].
    Raises ValueError if only one of action and expert_action is given.
    """
    if (action is None) != (expert_action is None):
        raise ValueError("action and expert_action: give both or neither")

    def joined(first: Tensor, middle: Tensor | None, last: Tensor) -> Tensor:
        parts = [first, last] if middle is None else [first, middle, last]
        return torch.cat([part.to(torch.float64) for part in parts], dim=1)

    queries = joined(obs, action, next_obs)
    keys = joined(expert_obs, expert_action, expert_next_obs)
    reward = []
    for query in queries:
        nearest = ((query - keys) ** 2).sum(dim=1).sqrt().sort().values[:k]
        assert nearest.shape == (k,)
        distance = nearest.mean().item() if averages else nearest[-1].item()
        reward.append(alpha * math.exp(-beta * distance / (action_dim if divides else 1)))
    return torch.tensor(reward, dtype=torch.float64)
