"""Discounted return-to-go within each episode."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from fastifo.ops.registry import expect, expect_float, kernel_name, launch, op


def returns_reference(reward: Tensor, start: Tensor, gamma: float) -> Tensor:
    """`returns` in plain torch. It is slow; the tests compare the kernels with it."""
    out = torch.empty_like(reward)
    bounds = start.tolist()
    for first, last in pairwise(bounds):
        tail = torch.zeros((), dtype=torch.float64, device=reward.device)
        for i in range(last - 1, first - 1, -1):
            tail = reward[i].double() + gamma * tail
            out[i] = tail
    return out


@op(
    "returns(Tensor reward, Tensor start, float gamma) -> Tensor",
    reference=returns_reference,
    fake=lambda reward, start, gamma: torch.empty_like(reward),
)
def returns(reward: Tensor, start: Tensor, gamma: float) -> Tensor:
    """Discounted sum of the rewards from each row to the end of its episode, [N].

    The sum is accumulated in float64.

    reward: float32 or float64 [N].  start: the first row of each episode, then N, int64 [E + 1];
    it starts at 0 and is non-decreasing, which is not checked because it is on the device.  gamma:
    in [0, 1].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    expect_float("reward", reward, (None,))  # [N]
    expect("start", start, torch.int64, (None,), reward.device)  # [E + 1]
    if start.shape[0] < 1:
        raise ValueError("start: expected shape [episodes + 1], found [0].")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma: expected 0 to 1, found {gamma}.")
    out = torch.empty_like(reward)
    episodes = start.shape[0] - 1
    launch(kernel_name("returns", reward), reward.device, reward, start, out, episodes, gamma)
    return out
