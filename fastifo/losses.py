"""Pure losses and targets, [P, B] in, [P] or [P, B] out. P members, B rows, K bins."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def td_target(
    reward: Tensor, next_value: Tensor, terminal: Tensor, gamma: Tensor, *, absorbing: bool
) -> Tensor:
    """One-step value target.

    reward, next_value, terminal (0 or 1): [P, B].  gamma: [P, 1].  Returns [P, B].
    A terminal transition is worth reward / (1 - gamma) where `absorbing` (the agent is imagined to
    collect the same reward forever), else its reward alone.
    Source: arXiv 2507.06701, termination rule of the appendix.
    """
    final = reward / (1.0 - gamma) if absorbing else reward
    return torch.where(terminal > 0, final, reward + gamma * next_value)


def advantage_weight(
    advantage: Tensor, temperature: Tensor, max_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """exp(advantage / temperature), capped, and the share of rows that hit the cap.

    advantage: [P, B].  temperature, max_weight: [P, 1].  Returns ([P, B], [P]).
    The exponent is capped, not the exponential, so nothing overflows.  The paper has no cap.
    """
    exponent = advantage / temperature
    cap = max_weight.log()
    return torch.exp(torch.minimum(exponent, cap)), (exponent >= cap).to(advantage.dtype).mean(1)


def discriminator_loss(expert_logit: Tensor, background_logit: Tensor) -> Tensor:
    """Cross-entropy of "expert or background", both expectations with weight one.

    Logits: [P, B].  Returns [P].  Source: arXiv 2507.06701, VfO-disc; Zolna et al. 2020 (ORIL).
    """
    return F.softplus(-expert_logit).mean(1) + F.softplus(background_logit).mean(1)


def positive_unlabelled_loss(
    expert_logit: Tensor, background_logit: Tensor, prior: Tensor
) -> Tensor:
    """Discriminator loss when a share `prior` of the background is expert-like too.

    Logits: [P, B].  prior: [P, 1], in (0, 1).  Returns [P].
    The estimate of the negative part is kept at or above zero.  Source: Zolna et al. 2020 (ORIL).
    """
    share = prior.squeeze(1)
    negative = F.softplus(background_logit).mean(1) - share * F.softplus(expert_logit).mean(1)
    return share * F.softplus(-expert_logit).mean(1) + negative.clamp(min=0.0)


def gaussian_kernel(width: float, num_bins: int) -> Tensor:
    """Row-stochastic smoothing matrix over the bins of one action dimension, [K, K], float64.

    width: standard deviation in action units.  Cut at four deviations and renormalised: the far
    entries would be subnormal numbers, which are slow to multiply.
    """
    centre = torch.linspace(-1.0, 1.0, num_bins, dtype=torch.float64)
    offset = centre[:, None] - centre[None, :]
    bin_width = 2.0 / (num_bins - 1)
    radius = (math.ceil(round(4.0 * width / bin_width, 9)) + 0.5) * bin_width
    kernel = torch.exp(-0.5 * (offset / width) ** 2) * (offset.abs() <= radius)
    return kernel / kernel.sum(1, keepdim=True)


def gaussian_taps(widths: Sequence[float], num_bins: int) -> tuple[Tensor, Tensor]:
    """The same matrix as a filter per member: (taps [P, radius + 1], norm [P, K]), float64.

    matrix[i, j] = norm[i] * taps[|i - j|]; entries beyond a member's own radius are zero.
    """
    taps, norms = [], []
    for width in widths:
        kernel = gaussian_kernel(width, num_bins)
        offset = torch.arange(num_bins, dtype=torch.float64) * (2.0 / (num_bins - 1))
        # Row 0 holds every distance, cut and scaled by its own sum.
        tap = torch.exp(-0.5 * (offset / width) ** 2) * (kernel[0] > 0)
        norms.append(kernel.diagonal() / tap[0])
        taps.append(tap)
    stacked = torch.stack(taps)
    radius = int((stacked > 0).sum(1).max())
    return stacked[:, :radius].contiguous(), torch.stack(norms)


def encode_action(action: Tensor, num_bins: int) -> Tensor:
    """Index of the bin whose centre is nearest, int64, same shape.  action: in [-1, 1]."""
    half = 0.5 * (num_bins - 1)
    # One product and one sum: adding 1 to the action first would round in float32.
    return (action * half + (half + 0.5)).floor().clamp(0, num_bins - 1).long()


def decode_action(index: Tensor, num_bins: int, dtype: torch.dtype) -> Tensor:
    """Bin centre in [-1, 1] of each index, same shape."""
    return index.to(dtype) * (2.0 / (num_bins - 1)) - 1.0
