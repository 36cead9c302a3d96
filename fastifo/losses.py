"""Formulas of the methods as pure functions: targets, weights, losses and the discretised action.

Shapes: P members, B rows, K bins of an action dimension. A hyperparameter is [P, 1]; a loss is [P],
one entry per member. The compiled ops in `fastifo/ops` are tested against these functions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def td_target(
    reward: Tensor, next_value: Tensor, terminal: Tensor, gamma: Tensor, *, absorbing: bool
) -> Tensor:
    """The one-step target y of a value, [P, B].

        y = reward + gamma * next_value
        y = reward / (1 - gamma)            at a terminal, if absorbing
        y = reward                          at a terminal, otherwise

    `absorbing`: the agent is imagined to collect the same reward forever after a terminal.
    reward, next_value: [P, B].  terminal: 0 or 1, [P, B].  gamma: in [0, 1), [P, 1].
    Source: arXiv 2507.06701, value loss; absorbing: its appendix, on termination.
    """
    final = reward / (1.0 - gamma) if absorbing else reward
    return torch.where(terminal > 0, final, reward + gamma * next_value)


def advantage_weight(
    advantage: Tensor, temperature: Tensor, max_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """The policy weights min(exp(advantage / temperature), max_weight), [P, B].

    Also returns the fraction of rows at the cap, [P]. The exponent is capped instead of the
    exponential, so that nothing overflows.
    advantage: [P, B].  temperature, max_weight: above 0, [P, 1].
    Source: arXiv 2507.06701, policy loss. The cap is not in the paper.
    """
    exponent = advantage / temperature
    cap = max_weight.log()
    return torch.exp(torch.minimum(exponent, cap)), (exponent >= cap).to(advantage.dtype).mean(1)


def discriminator_loss(expert_logit: Tensor, background_logit: Tensor) -> Tensor:
    """Cross-entropy E_E[-log d] + E_B[-log(1 - d)] with d = sigmoid(logit), [P].

    expert_logit, background_logit: [P, B] each; the two means have weight one.
    Source: arXiv 2507.06701, VfO-disc; Zolna et al. 2020, arXiv:2011.13885 (ORIL).
    """
    return F.softplus(-expert_logit).mean(1) + F.softplus(background_logit).mean(1)


def positive_unlabelled_loss(
    expert_logit: Tensor, background_logit: Tensor, prior: Tensor
) -> Tensor:
    """`discriminator_loss` if a share `prior` of the background is expert-like, [P].

        prior E_E[-log d] + max(0, E_B[-log(1 - d)] - prior E_E[-log(1 - d)])

    The max keeps the estimate of the negative part from falling below zero.
    expert_logit, background_logit: [P, B] each.  prior: in (0, 1), [P, 1].
    Source: Zolna et al. 2020, arXiv:2011.13885 (ORIL).
    """
    share = prior.squeeze(1)
    negative = F.softplus(background_logit).mean(1) - share * F.softplus(expert_logit).mean(1)
    return share * F.softplus(-expert_logit).mean(1) + negative.clamp(min=0.0)


def gaussian_kernel(width: float, num_bins: int) -> Tensor:
    """The smoothing matrix over the bins of one action dimension, [K, K] float64; rows sum to 1.

        G[i, j] = exp(-(c_i - c_j)^2 / (2 width^2)) / sum over j

    c_i is the centre of bin i. The kernel is cut at four standard deviations before the division:
    entries further away would be subnormal numbers, which are slow to multiply.
    width: standard deviation in action units, above 0.  num_bins: K, at least 2.
    Source: arXiv 2507.06701, policy head; the paper gives neither formula nor width.
    """
    centre = torch.linspace(-1.0, 1.0, num_bins, dtype=torch.float64)
    offset = centre[:, None] - centre[None, :]
    bin_width = 2.0 / (num_bins - 1)
    radius = (math.ceil(round(4.0 * width / bin_width, 9)) + 0.5) * bin_width
    kernel = torch.exp(-0.5 * (offset / width) ** 2) * (offset.abs() <= radius)
    return kernel / kernel.sum(1, keepdim=True)


def gaussian_taps(widths: Sequence[float], num_bins: int) -> tuple[Tensor, Tensor]:
    """`gaussian_kernel` of each member as a filter: taps [P, radius + 1], norm [P, K], float64.

        G[i, j] = norm[i] * taps[|i - j|]

    The radius is the largest of all members; taps beyond a member's radius are zero.
    widths: one per member, in action units.  num_bins: K, at least 2.
    """
    taps, norms = [], []
    for width in widths:
        kernel = gaussian_kernel(width, num_bins)
        offset = torch.arange(num_bins, dtype=torch.float64) * (2.0 / (num_bins - 1))
        # Row 0 of the kernel has every distance, cut at the radius and divided by its own sum.
        tap = torch.exp(-0.5 * (offset / width) ** 2) * (kernel[0] > 0)
        norms.append(kernel.diagonal() / tap[0])
        taps.append(tap)
    stacked = torch.stack(taps)
    length = int((stacked > 0).sum(1).max())  # radius + 1
    return stacked[:, :length].contiguous(), torch.stack(norms)


def encode_action(action: Tensor, num_bins: int) -> Tensor:
    """Index of the bin with the nearest centre, int64 in [0, K - 1], same shape as `action`.

    action: in [-1, 1]; values outside take the first or last bin.  num_bins: K, at least 2.
    """
    half = 0.5 * (num_bins - 1)
    # One product and one sum: adding 1 to the action first would round in float32.
    return (action * half + (half + 0.5)).floor().clamp(0, num_bins - 1).long()


def decode_action(index: Tensor, num_bins: int, dtype: torch.dtype) -> Tensor:
    """The centre in [-1, 1] of each bin, same shape as `index`.

    index: in [0, K - 1].  num_bins: K, at least 2.  dtype: of the result.
    """
    return index.to(dtype) * (2.0 / (num_bins - 1)) - 1.0
