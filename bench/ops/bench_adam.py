"""`adam` with its target update against torch's fused Adam followed by a target update."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from bench.ops import populations
from bench.timing import Case
from fastifo.ops.adam import Stepper

HIDDEN, INPUTS, OUTPUTS = 512, 85, 606  # Walker2d: 17 observations at 5 scales, 6 x 101 bins
POLYAK = 0.005


def _net(outputs: int) -> list[tuple[int, int]]:
    """The shapes of one net's weights and biases."""
    widths = (INPUTS, HIDDEN, HIDDEN, outputs)
    layers = pairwise(widths)
    return [shape for fan_in, fan_out in layers for shape in ((fan_in, fan_out), (1, fan_out))]


def cases(device: torch.device) -> Iterator[Case]:
    """One step of a value net with its target and of a policy net."""
    for members in populations(device):
        yield from _cases(members, device)


def _cases(members: int, device: torch.device) -> Iterator[Case]:
    """The cases for a population of this size."""
    value, policy = _net(1), _net(OUTPUTS)

    def columns() -> list[Tensor]:
        shapes = [(members, *shape) for shape in (*value, *policy)]
        return [0.01 * torch.rand(shape, device=device) for shape in shapes]

    w, m, v, g = columns(), columns(), columns(), columns()
    tracked = w[: len(value)]
    target = [tensor.clone() for tensor in tracked]
    update = torch.zeros(1, dtype=torch.int64, device=device)
    rate = torch.full((members,), 3e-4, dtype=torch.float64, device=device)
    decay, polyak = torch.zeros_like(rate), torch.full_like(rate, POLYAK)
    count = [torch.ones((), device=device)] * len(w)

    stepper = Stepper(w, m, v, target, rate, decay, polyak, 1, True, 0.9, 0.999, 1e-8)

    def ours() -> None:
        stepper(g, update)

    def fused() -> None:
        torch._fused_adamw_(
            w, g, m, v, [], count, lr=3e-4, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
            amsgrad=False, maximize=False,
        )  # fmt: skip
        torch._foreach_lerp_(target, tracked, POLYAK)

    numbers = sum(tensor.numel() for tensor in w)
    size_bytes = 4 * (7 * numbers + 2 * sum(tensor.numel() for tensor in tracked))
    size = f"{members} x {numbers // members} parameters"
    yield Case("adam", size, "ours", [ours], size_bytes)
    yield Case("adam", size, "torch fused and lerp", [fused], size_bytes)
