"""The interface of experts, both trained policies and scripts."""

from typing import Any, Protocol

import torch
from torch import Tensor

from fastifo.data.streams import uniform
from fastifo.nn.heads import box_muller


class Expert(Protocol):
    """An `Actor` that can play demonstrations with action noise."""

    seed: Tensor  # [1], of the noise
    noise_scale: float  # of the action noise, in units of `deviation`; 0: deterministic
    deviation: Tensor | None  # standard deviation of the action noise, [A]; None: it has none

    def noise(self, stream: int, step: int, rows: int) -> Tensor | None:
        """Standard normal noise, [rows, A], a function of stream and step; None: deterministic."""

    def act_rows(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        """Actions [B, A] in [-1, 1] for observations [B, D]; without noise the mean action."""

    def identity(self) -> bytes:
        """What its actions depend on; cached datasets are built again when it changes."""

    def provenance(self) -> dict[str, Any]:
        """Where the expert comes from, as JSON values."""


def normal_noise(expert: Expert, stream: int, step: int, rows: int) -> Tensor | None:
    """`Expert.noise`: standard normal numbers by the expert's seed, [rows, A]."""
    if expert.deviation is None or expert.noise_scale == 0.0:
        return None
    counter = torch.tensor([step], dtype=torch.int64, device="cpu")
    return normal(expert.seed, counter, stream, rows, len(expert.deviation))


def normal(seed: Tensor, counter: Tensor, stream: int, rows: int, width: int) -> Tensor:
    """Standard normal numbers, [rows, width]: a function of seed [1], counter [1] and stream."""
    numbers = uniform(seed, counter, stream, 2 * rows * width, torch.float32)
    return box_muller(*numbers.view(2, rows, width))
