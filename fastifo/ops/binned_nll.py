"""The discretised-action head: weighted negative log-likelihood with gradient, samples, modes.

A kernel smooths the logits of each action dimension over its bins,
    l[i] = norm[i] * sum_d taps[|d|] * logits[i + d],
and the bin probabilities are softmax(l). With the taps and norm of `losses.gaussian_taps` this
equals multiplying by the row-stochastic matrix of `losses.gaussian_kernel`. A single tap of 1 and
a norm of 1 leave the logits unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastifo import losses
from fastifo.ops.advantage import with_gradients
from fastifo.ops.registry import expect, expect_float, kernel_name, launch, op

MAX_BINS = 4096  # one row and its margins must fit into a GPU's shared memory


def _kernel_matrix(taps: Tensor, norm: Tensor) -> Tensor:
    """The smoothing as a matrix, [P, K, K], such that l = matrix @ logits."""
    bins = norm.shape[1]
    bin_index = torch.arange(bins, device=taps.device)
    offset = (bin_index[:, None] - bin_index).abs()
    inside = offset < taps.shape[1]
    tap = taps[:, offset.clamp(max=taps.shape[1] - 1)]
    return torch.where(inside, tap, torch.zeros_like(tap)) * norm.unsqueeze(-1)


def _smooth(logits: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
    """The smoothed logits.  logits, result: [P, B, A, K]."""
    members, rows, action_dim, bins = logits.shape
    kernel = _kernel_matrix(taps, norm).transpose(1, 2)
    return torch.bmm(logits.reshape(members, rows * action_dim, bins), kernel).view_as(logits)


def binned_nll_loss(
    logits: Tensor, action: Tensor, weight: Tensor | None, taps: Tensor, norm: Tensor
) -> tuple[Tensor]:
    """The loss [P] of `binned_nll` in plain torch; autograd gives the gradient."""
    log_probs = _smooth(logits, taps, norm).log_softmax(-1)
    index = losses.encode_action(action, logits.shape[-1])
    nll = -log_probs.gather(-1, index.unsqueeze(-1)).sum((-1, -2))  # [P, B]
    rows = max(1, nll.shape[1])
    return ((nll if weight is None else weight * nll).sum(1) / rows,)


def _check(logits: Tensor, taps: Tensor, norm: Tensor) -> tuple[int, ...]:
    """Checks the arguments that all three ops share; returns the sizes P, B, A, K."""
    # A shape without None takes the fast path of `expect`.
    dtype = expect_float(
        "logits", logits, None if logits.ndim == 4 else (None,) * 4
    )  # [P, B, A, K]
    members, rows, action_dim, bins = logits.shape
    expect("taps", taps, dtype, (members, None), logits.device)  # [P, radius + 1]
    expect("norm", norm, dtype, (members, bins), logits.device)  # [P, K]
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"logits: expected 1 to {MAX_BINS} bins, found {bins}.")
    if not 1 <= taps.shape[1] <= bins:
        raise ValueError(f"taps: expected 1 to {bins} of them, found {taps.shape[1]}.")
    return members, rows, action_dim, bins


@op(
    "binned_nll(Tensor logits, Tensor action, Tensor? weight, Tensor taps, Tensor norm)"
    " -> (Tensor, Tensor)",
    reference=with_gradients(binned_nll_loss, 1),
    fake=lambda logits, action, weight, taps, norm: (
        logits.new_empty(logits.shape[0]),
        torch.empty_like(logits),
    ),
)
def binned_nll(
    logits: Tensor, action: Tensor, weight: Tensor | None, taps: Tensor, norm: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted negative log-likelihood of binned actions and its gradient in the logits.

    The loss is the mean over rows of weight * -log p(action), summed over action dimensions.

    logits: before smoothing, float32 or float64 [P, B, A, K].  action: in [-1, 1], [P, B, A]; it
    falls into the bin with the nearest of K centres spaced evenly over [-1, 1].  weight: [P, B], or
    None for ones.  taps: the kernel at distances of 0, 1, ... bins, [P, radius + 1].  norm: the
    factor after the kernel, [P, K].
    Returns the loss [P] and its gradient [P, B, A, K].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    Source: arXiv:2507.06701, policy loss; how its kernel is applied is our interpretation.
    """
    members, rows, action_dim, bins = _check(logits, taps, norm)
    expect("action", action, logits.dtype, (members, rows, action_dim), logits.device)
    if weight is not None:
        expect("weight", weight, logits.dtype, (members, rows), logits.device)
    loss, gradient = logits.new_empty(members), torch.empty_like(logits)
    row_loss = logits.new_empty(members, rows)
    launch(
        kernel_name("binned_nll", logits), logits.device, logits, action,
        0 if weight is None else weight, taps, norm, row_loss, loss, gradient,
        members, rows, action_dim, bins, taps.shape[1] - 1,
    )  # fmt: skip
    return loss, gradient


def binned_sample_reference(logits: Tensor, uniform: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
    """`binned_sample` in plain torch. The tests compare the kernels with it."""
    cumulative = _smooth(logits, taps, norm).softmax(-1).cumsum(-1)
    threshold = uniform.unsqueeze(-1) * cumulative[..., -1:]
    index = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
    return index.clamp(max=logits.shape[-1] - 1)


@op(
    "binned_sample(Tensor logits, Tensor uniform, Tensor taps, Tensor norm) -> Tensor",
    reference=binned_sample_reference,
    fake=lambda logits, uniform, taps, norm: logits.new_empty(logits.shape[:-1], dtype=torch.int64),
)
def binned_sample(logits: Tensor, uniform: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
    """Samples a bin per action dimension by inverse transform, int64 [P, B, A].

    The sample is the first bin whose cumulative weight exceeds `uniform` times the total weight.

    uniform: in [0, 1), [P, B, A].  logits, taps, norm: as in `binned_nll`.
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    members, rows, action_dim, bins = _check(logits, taps, norm)
    expect("uniform", uniform, logits.dtype, (members, rows, action_dim), logits.device)
    out = logits.new_empty((members, rows, action_dim), dtype=torch.int64)
    launch(
        kernel_name("binned_sample", logits), logits.device, logits, uniform, taps, norm, out,
        members, rows, action_dim, bins, taps.shape[1] - 1,
    )  # fmt: skip
    return out


def binned_mode_reference(logits: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
    """`binned_mode` in plain torch. The tests compare the kernels with it."""
    return _smooth(logits, taps, norm).argmax(-1)


@op(
    "binned_mode(Tensor logits, Tensor taps, Tensor norm) -> Tensor",
    reference=binned_mode_reference,
    fake=lambda logits, taps, norm: logits.new_empty(logits.shape[:-1], dtype=torch.int64),
)
def binned_mode(logits: Tensor, taps: Tensor, norm: Tensor) -> Tensor:
    """The most likely bin of each action dimension, the lowest on ties, int64 [P, B, A].

    logits, taps, norm: as in `binned_nll`.
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    members, rows, action_dim, bins = _check(logits, taps, norm)
    out = logits.new_empty((members, rows, action_dim), dtype=torch.int64)
    launch(
        kernel_name("binned_mode", logits), logits.device, logits, taps, norm, out,
        members, rows, action_dim, bins, taps.shape[1] - 1,
    )  # fmt: skip
    return out
