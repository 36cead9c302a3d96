"""`advantage`, forward and backward, against VfO's losses in eager torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.ops import compiled, populations
from bench.timing import Case
from fastifo.ops import advantage
from fastifo.ops.advantage import advantage_loss

BATCH_SIZE = 256


def cases(device: torch.device) -> Iterator[Case]:
    """VfO-bin's rows: an expert batch and a background batch; the latter is also the policy's."""
    for members in populations(device):
        yield from _cases(members, device)


def _cases(members: int, device: torch.device) -> Iterator[Case]:
    """The cases for a population of this size."""
    rows = 2 * BATCH_SIZE
    v = torch.randn(members, rows, device=device, requires_grad=True)
    next_v = torch.randn(members, rows, device=device)
    terminal = (torch.rand(members, rows, device=device) < 0.01).float()
    reward = torch.tensor([[1.0, 0.0]], device=device).repeat(members, 1)
    share = torch.full((members, 2), 0.5, device=device)
    gamma = torch.full((members, 1), 0.99, device=device)
    temperature, cap = torch.ones_like(gamma), torch.full_like(gamma, 100.0)
    columns = (next_v, None, reward, terminal, share, gamma, temperature, cap)
    outer = torch.ones(members, device=device)

    def eager(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return advantage_loss(v, *columns, None, True, True, BATCH_SIZE)

    size = f"{members} x (256 + 256)"
    size_bytes = 4 * members * (4 * rows + BATCH_SIZE)
    ours = partial(advantage, v.detach(), *columns, None, True, True, BATCH_SIZE)
    yield Case("advantage", size, "ours", [ours], size_bytes)
    for variant, call in {"eager": eager, **compiled(eager)}.items():
        timed = lambda call=call: torch.autograd.grad(call(v)[0], v, outer)  # noqa: E731
        yield Case("advantage", size, variant, [timed], size_bytes)
