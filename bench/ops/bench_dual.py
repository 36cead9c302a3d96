"""`smodice` and `dilo`, forward and backward, against the same losses in eager torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.ops import compiled, populations
from bench.timing import Case
from fastifo.ops import dilo, smodice
from fastifo.ops.dual import dilo_loss, smodice_loss

BATCH_SIZE = 256


def _step(
    call: Callable[..., Any], leaves: list[Tensor], constants: tuple[Any, ...], outer: Tensor
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(*leaves, *constants)[0], leaves, outer)


def cases(device: torch.device) -> Iterator[Case]:
    """A background batch; for DILO an expert batch comes before it."""
    for members in populations(device):
        gamma = torch.full((members, 1), 0.99, device=device)
        one, half = torch.ones_like(gamma), torch.full_like(gamma, 0.5)
        cap = torch.full_like(gamma, 100.0)
        outer = torch.ones(members, device=device)
        for name, rows in (("smodice", BATCH_SIZE), ("dilo", 2 * BATCH_SIZE)):
            make = partial(torch.randn, members, rows, device=device)
            leaves = [make(requires_grad=True), make(requires_grad=True)]
            terminal = torch.zeros(members, rows, device=device)
            ours: Any
            eager: Any
            if name == "smodice":
                leaves.append(make(requires_grad=True))
                constants: tuple[Any, ...] = (make(), terminal, gamma, one, cap, "kl", False, True)
                ours, eager = smodice, smodice_loss
            else:
                constants = (terminal, gamma, half, half, half, cap, BATCH_SIZE)
                ours, eager = dilo, dilo_loss
            size_bytes = 4 * members * rows * (2 * len(leaves) + 2)
            size = f"{members} x {rows}"
            yield Case(name, size, "ours", [partial(ours, *leaves, *constants)], size_bytes)
            for variant, call in {"eager": eager, **compiled(eager)}.items():
                timed = partial(_step, call, leaves, constants, outer)
                yield Case(name, size, variant, [timed], size_bytes)
