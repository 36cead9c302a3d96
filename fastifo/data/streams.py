"""Streams of random numbers by counter; see `fastifo.ops.draw`."""

import zlib

import torch
from torch import Tensor

from fastifo.ops.draw import draw


def purpose(stage: str, use: str) -> int:
    """Number of the random stream for one use in one stage, so that no two uses share draws."""
    return zlib.crc32(f"{stage}/{use}".encode())


def uniform(seed: Tensor, counter: Tensor, stream: int, size: int, dtype: torch.dtype) -> Tensor:
    """Random numbers in [0, 1) with 24 bits each, [P, size].

    seed: [P] int64.  counter: [1] int64.  stream: see `purpose`.
    """
    return draw(seed, counter, stream, 1 << 24, size).to(dtype) * 2.0**-24
