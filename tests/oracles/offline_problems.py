"""Nets and batches with actions and rewards, for the tests of the IQL and ReBRAC oracles."""

from typing import Any

import torch
from torch import Tensor

from .problems import column, random_layers

Net = list[tuple[Tensor, Tensor]]


def constant(inputs: int, output: list[float]) -> Net:
    """A linear net whose output is `output` at input 0."""
    return [(torch.zeros(inputs, len(output), dtype=torch.float64), column(output))]


def zero_rows(**changed: Tensor) -> dict[str, Tensor]:
    """One transition with obs, action and next action 0: only biases can learn from it."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    names = ("obs", "next_obs", "action", "next_action")
    flat = {"reward": column([0.0]), "terminal": column([0.0])}
    return {**dict.fromkeys(names, zero), **flat, **changed}


def random_nets(policy_outputs: int = 2) -> dict[str, Net]:
    generator = torch.Generator().manual_seed(0)
    nets = {"value": random_layers([3, 8, 6, 1], generator)}
    nets |= {name: random_layers([5, 8, 6, 1], generator) for name in ("critic", "twin")}
    return nets | {"policy": random_layers([3, 8, 6, policy_outputs], generator)}


def random_batches(count: int, noise_width: int, size: int = 8) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    return [
        {
            "background": {
                "obs": 4 * uniform(size, 3) - 2,
                "next_obs": 4 * uniform(size, 3) - 2,
                "action": 2 * uniform(size, 2) - 1,
                "next_action": 2 * uniform(size, 2) - 1,
                "reward": 3 * uniform(size),
                "terminal": (uniform(size) < 0.3).to(torch.float64),
            },
            "noise": uniform(size, noise_width),
        }
        for _ in range(count)
    ]
