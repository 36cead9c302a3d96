"""`returns` against its reference, which is a Python loop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from bench.timing import Case
from fastifo.ops import returns
from fastifo.ops.returns import returns_reference

NUM_EPISODES = 20
LENGTH = 100


def cases(device: torch.device) -> Iterator[Case]:
    """The returns of a small dataset; few episodes, because the reference is slow."""
    reward = torch.rand(NUM_EPISODES * LENGTH, device=device)
    start = torch.arange(NUM_EPISODES + 1, device=device) * LENGTH
    size = f"{NUM_EPISODES} x {LENGTH}"
    for variant, call in {"ours": returns, "reference": returns_reference}.items():
        yield Case("returns", size, variant, [partial(call, reward, start, 0.99)], 8 * len(reward))
