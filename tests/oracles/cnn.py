"""Encoders of frames in torch.nn, one member, channels first, with frames as an argument."""

import torch
from torch import Tensor, nn


class DrQ(nn.Module):
    """DrQ-v2's encoder and trunk."""

    def __init__(self, height: int, width: int, channels: int, features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
            nn.Conv2d(32, 32, 3), nn.ReLU(),
        )  # fmt: skip
        size = self.net(torch.zeros(1, channels, height, width)).flatten(1).shape[1]
        self.trunk = nn.Sequential(nn.Linear(size, features), nn.LayerNorm(features), nn.Tanh())

    def forward(self, frames: Tensor) -> Tensor:
        """frames: uint8 [B, H, W, C].  Returns [B, features]."""
        x = frames.permute(0, 3, 1, 2).double() / 255.0 - 0.5
        features: Tensor = self.trunk(self.net(x).flatten(1))
        return features


class SpatialSoftmax(nn.Module):
    """robomimic's shallow convolutions and spatial softmax."""

    def __init__(self, height: int, width: int, channels: int, features: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 64, 7, stride=2, padding=3), nn.ReLU(),
            nn.Conv2d(64, 32, 1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.Conv2d(32, 32, 1),
        )  # fmt: skip
        self.linear = nn.Linear(64, features)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: uint8 [B, H, W, C].  Returns [B, features]."""
        maps = self.net(frames.permute(0, 3, 1, 2).double() / 255.0)
        rows, channels, height, width = maps.shape
        share = maps.flatten(2).softmax(2).view(rows, channels, height, width)
        x = torch.linspace(-1, 1, width, dtype=torch.float64)
        y = torch.linspace(-1, 1, height, dtype=torch.float64).unsqueeze(1)
        points = torch.stack([(share * x).sum((2, 3)), (share * y).sum((2, 3))], 2)
        features: Tensor = self.linear(points.flatten(1))
        return features
