"""The discretised-action head against eager torch: likelihood with gradient, samples, modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.ops import compiled, populations
from bench.timing import Case
from fastifo import losses
from fastifo.ops import binned_mode, binned_nll, binned_sample

BATCH_SIZE, ACTION_DIM, NUM_BINS = 256, 6, 101
KERNEL_WIDTH = 0.04


def cases(device: torch.device) -> Iterator[Case]:
    """One batch of logits. Eager torch smooths them by a product with the kernel's matrix."""
    for members in populations(device):
        yield from _cases(members, device)


def _cases(members: int, device: torch.device) -> Iterator[Case]:
    """The cases for a population of this size."""
    shape = (members, BATCH_SIZE, ACTION_DIM)
    logits = torch.randn(*shape, NUM_BINS, device=device, requires_grad=True)
    action, uniform = 2 * torch.rand(shape, device=device) - 1, torch.rand(shape, device=device)
    weight = torch.rand(members, BATCH_SIZE, device=device)
    taps, norm = (x.float().to(device) for x in losses.gaussian_taps([KERNEL_WIDTH], NUM_BINS))
    taps, norm = taps.repeat(members, 1), norm.repeat(members, 1)
    kernel = losses.gaussian_kernel(KERNEL_WIDTH, NUM_BINS).float().to(device).t()
    outer = torch.ones(members, device=device)

    def smooth(logits: Tensor) -> Tensor:
        return logits @ kernel

    def eager(logits: Tensor) -> Tensor:
        log_probs = F.log_softmax(smooth(logits), -1)
        index = losses.encode_action(action, NUM_BINS)
        nll = -log_probs.gather(-1, index.unsqueeze(-1)).sum((-1, -2))
        return (weight * nll).mean(1)

    ours = partial(binned_nll, logits.detach(), action, weight, taps, norm)
    size = f"{members} x {BATCH_SIZE} x {ACTION_DIM} x {NUM_BINS}"
    size_bytes = 4 * logits.numel()
    variants: dict[str, Callable[..., Any]] = {"eager": eager, **compiled(eager)}
    yield Case("binned_nll", size, "ours", [ours], 2 * size_bytes)
    for variant, call in variants.items():
        timed = lambda call=call: torch.autograd.grad(call(logits), logits, outer)  # noqa: E731
        yield Case("binned_nll", size, variant, [timed], 2 * size_bytes)

    fixed = logits.detach()

    def sample(logits: Tensor) -> Tensor:
        cumulative = smooth(logits).softmax(-1).cumsum(-1)
        return torch.searchsorted(cumulative, uniform.unsqueeze(-1), right=True)

    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "binned_sample": (partial(binned_sample, fixed, uniform, taps, norm), sample),
        "binned_mode": (
            partial(binned_mode, fixed, taps, norm),
            lambda logits: smooth(logits).argmax(-1),
        ),
    }
    for name, (compiled_op, eager_call) in pairs.items():
        yield Case(name, size, "ours", [compiled_op], size_bytes)
        variants = {"eager": eager_call, **compiled(eager_call)}
        for variant, call in variants.items():
            yield Case(name, size, variant, [partial(call, fixed)], size_bytes)
