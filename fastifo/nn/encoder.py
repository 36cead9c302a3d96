"""The multi-scale encoder of observations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MIN_DEVIATION = 1e-6  # below it a feature counts as constant


class Encoder(nn.Module):
    """phi(x)[i, k] = tanh(scale[k] x[i]): each observation feature at several scales.

    Large scales keep small amplitudes visible, small scales do not saturate on large ones. Without
    scales it is the identity. Gradients do not flow through it.
    Source: arXiv 2507.06701, an encoder "similar to" that of PAC; the formula and the scales are
    our reading, since the paper gives neither.
    """

    scale: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, obs_dim: int, scales: Sequence[float], standardizes: bool, dtype: torch.dtype
    ) -> None:
        """scales: S factors; empty is the identity.  standardizes: subtract the mean and divide by
        the deviation first, see `set_statistics`.
        """
        super().__init__()
        self.register_buffer("scale", torch.tensor(list(scales), dtype=dtype))  # [S]
        self.register_buffer("mean", torch.zeros(obs_dim, dtype=dtype))  # [D]
        self.register_buffer("deviation", torch.ones(obs_dim, dtype=dtype))  # [D]
        self.standardizes = standardizes
        self.width = obs_dim * max(1, len(scales))  # of the output

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Sets the background's statistics of the first features; the others keep 0 and 1.

        mean, deviation: [n], n <= D; a constant feature keeps deviation 1.
        """
        count = len(mean)
        self.mean[:count] = mean
        self.deviation[:count] = torch.where(deviation > MIN_DEVIATION, deviation, 1.0)

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        """obs: [..., D].  Returns [..., D * S]; the scales of one feature are adjacent."""
        if self.standardizes:
            obs = (obs - self.mean) / self.deviation
        if self.scale.numel() == 0:
            return obs
        return torch.tanh(obs.unsqueeze(-1) * self.scale).flatten(-2)
