"""Frames as inputs of a net.

A row of inputs is an observation, encoded, followed by the pixels of each camera as numbers from 0
to 255. A net that reads frames begins with `PixelInputs`, which puts features in the pixels' place;
so a method's update is the same with and without frames.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastifo.nn.cnn import ENCODERS
from fastifo.nn.mlp import Init

CameraSpec = tuple[str, int, int, int]  # name, height, width, channels


def with_frames(x: Tensor, frames: Sequence[Tensor]) -> Tensor:
    """Rows followed by the pixels of their frames.

    x: [..., width].  frames: uint8 [..., H, W, C] of each camera.  Returns [..., width + pixels].
    """
    return torch.cat([x, *(each.to(x.device, x.dtype).flatten(-3) for each in frames)], -1)


class PixelInputs(nn.Module):
    """Replaces the pixels in the inputs of a net by the features of an encoder for each camera."""

    def __init__(
        self,
        init: Init,
        cameras: Sequence[CameraSpec],
        vector_width: int,
        inputs: int,
        kind: str,
        features: int,
        bf16: bool,
    ) -> None:
        """vector_width: numbers of an observation before its pixels.  inputs: how many observations
        a row holds, each with its pixels; what follows the last one is kept as it is.
        kind: a key of `ENCODERS`.  features: of each camera.  bf16: see `Convolutions`.
        """
        super().__init__()
        self.sizes = [(height, width, channels) for _, height, width, channels in cameras]
        self.parts = [vector_width, *(math.prod(size) for size in self.sizes)]
        self.inputs = inputs
        self.encoders = nn.ModuleList(
            ENCODERS[kind](init, size, features, bf16) for size in self.sizes
        )
        self.width = inputs * (vector_width + features * len(self.sizes))  # of the output, no rest

    def forward(self, x: Tensor) -> Tensor:
        """x: [P, B, inputs (vector_width + pixels) + rest].  Returns [P, B, width + rest]."""
        rows = x.shape[1]
        whole = sum(self.parts)
        observations = [x[..., i * whole : (i + 1) * whole] for i in range(self.inputs)]
        vector, *pixels = (
            torch.cat(parts, 1)  # [P, inputs B, ...]
            for parts in zip(*(each.split(self.parts, -1) for each in observations), strict=True)
        )
        features = [vector]
        for encoder, size, part in zip(self.encoders, self.sizes, pixels, strict=True):
            features.append(encoder((part / 255.0).view(*part.shape[:2], *size)))
        encoded = torch.cat(features, -1).unflatten(1, (self.inputs, rows))  # [P, inputs, B, ...]
        return torch.cat([encoded.transpose(1, 2).flatten(2), x[..., self.inputs * whole :]], -1)
