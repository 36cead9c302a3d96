"""The multi-scale encoder of observations."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """tanh of the observation at several scales; the paper's encoder "similar to" PAC's.

    obs: [P, B, D] -> [P, B, D * S], feature-major.  Small amplitudes stay visible in the large
    scales and large ones do not saturate the small scales.  Without scales it is the identity.
    """

    scale: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, obs_dim: int, scales: Sequence[float], standardizes: bool, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(list(scales), dtype=dtype))
        self.register_buffer("mean", torch.zeros(obs_dim, dtype=dtype))
        self.register_buffer("deviation", torch.ones(obs_dim, dtype=dtype))
        self.standardizes = standardizes
        self.width = obs_dim * max(1, len(scales))

    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Statistics of the background, [D] each; a constant feature keeps deviation 1.

        What observations carry beyond D is left as it is.
        """
        own = slice(len(mean))
        self.mean[own] = mean
        self.deviation[own] = torch.where(deviation > 1e-6, deviation, 1.0)

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        if self.standardizes:
            obs = (obs - self.mean) / self.deviation
        if self.scale.numel() == 0:
            return obs
        return torch.tanh(obs.unsqueeze(-1) * self.scale).flatten(-2)
