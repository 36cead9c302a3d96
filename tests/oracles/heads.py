"""Action heads of the oracles: binned, deterministic and Gaussian, in float64.

config keys: policy_head ("binned" | "deterministic" | "gaussian", missing: "binned"); of the binned
head also num_bins, kernel_width (sigma in action units, 0: none) and kernel_reading ("logits" |
"targets" | "probs": what the paper's Gaussian kernel smooths); of the deterministic head sums_error
(missing: False).
Source: binned head: arXiv:2507.06701; deterministic: Sikchi et al. 2024, arXiv:2406.08805; tanh
Gaussian: Ma et al. 2022, arXiv:2202.02433, authors' code.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

Config = Mapping[str, Any]


# Discretised actions.


def bin_centres(num_bins: int) -> Tensor:
    """c_k = -1 + 2k/(K-1); -1 + 0.02 k for the 101 bins of the paper."""
    return -1.0 + 2.0 * torch.arange(num_bins, dtype=torch.float64) / (num_bins - 1)


def encode_action(action: Tensor, num_bins: int) -> Tensor:
    """Index of the nearest bin, halves upwards: clamp(floor(50 (a + 1) + 0.5), 0, 100)."""
    index = torch.floor((num_bins - 1) / 2 * (action + 1.0) + 0.5)
    return index.clamp(0, num_bins - 1).to(torch.int64)


def decode_action(index: Tensor, num_bins: int) -> Tensor:
    return bin_centres(num_bins)[index]


def gaussian_kernel(num_bins: int, kernel_width: float) -> Tensor:
    """G[i, m], a Gaussian of c_i - c_m cut at 4 sigma, with rows that sum to one, [K, K].

    kernel_width: sigma in action units; 0 gives the identity.
    """
    if kernel_width == 0:
        return torch.eye(num_bins, dtype=torch.float64)
    centre = bin_centres(num_bins)
    kernel = torch.exp(-((centre[:, None] - centre[None, :]) ** 2) / (2 * kernel_width**2))
    bin_width = 2.0 / (num_bins - 1)
    # Round first: 4 * 0.07 / 0.02 is 14.000000000000002 in floating point.
    radius = math.ceil(round(4 * kernel_width / bin_width, 9))
    index = torch.arange(num_bins)
    kernel[(index[:, None] - index[None, :]).abs() > radius] = 0.0
    return kernel / kernel.sum(dim=1, keepdim=True)


def soft_targets(action: Tensor, num_bins: int, kernel_width: float) -> Tensor:
    """q_m ~ exp(-(a - c_m)^2 / 2 sigma^2) around the un-rounded action: [B, a, K]."""
    if kernel_width == 0:
        one_hot = nn.functional.one_hot(encode_action(action, num_bins), num_bins)
        return one_hot.to(torch.float64)
    distance = action[:, :, None] - bin_centres(num_bins)
    return torch.softmax(-(distance**2) / (2 * kernel_width**2), dim=-1)


def binned_log_likelihood(output: Tensor, action: Tensor, config: Config) -> Tensor:
    """log pi(a|s), summed over action dimensions.

    output: raw head output, [B, a * K], action-dimension-major.  action: in [-1, 1], [B, a].
    Reading "targets" returns sum_m q_m log p_m, the negative of its loss.  Returns [B].
    Raises ValueError for another kernel_reading.
    """
    num_bins: int = config["num_bins"]
    width: float = config["kernel_width"]
    raw = output.reshape(action.shape[0], action.shape[1], num_bins)
    chosen = encode_action(action, num_bins)[:, :, None]
    kernel = gaussian_kernel(num_bins, width)
    if config["kernel_reading"] == "logits":
        log_p = torch.log_softmax(torch.einsum("im,bam->bai", kernel, raw), dim=-1)
        return log_p.gather(-1, chosen)[:, :, 0].sum(dim=1)
    if config["kernel_reading"] == "targets":
        log_p = torch.log_softmax(raw, dim=-1)
        return (soft_targets(action, num_bins, width) * log_p).sum(dim=(1, 2))
    if config["kernel_reading"] == "probs":
        p = torch.einsum("mi,bam->bai", kernel, torch.softmax(raw, dim=-1))
        return p.gather(-1, chosen)[:, :, 0].log().sum(dim=1)
    raise ValueError(f"kernel_reading: logits, targets or probs, not {config['kernel_reading']}")


# Continuous actions, and the choice of a head.


def deterministic_log_likelihood(output: Tensor, action: Tensor, sums: bool = False) -> Tensor:
    """Minus the mean (or sum) over dimensions of (tanh(output) - a)^2, in place of log pi: [B]."""
    squared = (torch.tanh(output) - action) ** 2
    return -(squared.sum(dim=1) if sums else squared.mean(dim=1))


def gaussian_moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation before the tanh, [B, a] each.

    output: [B, 2a], first the means, clamped to +-7.24, then the log standard deviations, clamped
    to [-5, 2].
    """
    mean, log_std = output.chunk(2, dim=1)
    return mean.clamp(-7.24, 7.24), log_std.clamp(-5.0, 2.0).exp()


def tanh_normal_log_density(pre_tanh: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log pi(tanh(u)|s) = sum of log N(u; mean, std) - log(1 - tanh(u)^2 + 1e-6): [B, a] -> [B]."""
    log_normal: Tensor = torch.distributions.Normal(mean, std).log_prob(pre_tanh)
    return (log_normal - torch.log(1 - torch.tanh(pre_tanh) ** 2 + 1e-6)).sum(dim=1)


def gaussian_log_likelihood(output: Tensor, action: Tensor) -> Tensor:
    """log pi(a|s) of the tanh-Normal, with a clamped to +-(1 - 1e-6): [B]."""
    mean, std = gaussian_moments(output)
    inside = action.clamp(-1 + 1e-6, 1 - 1e-6)
    return tanh_normal_log_density(torch.atanh(inside), mean, std)


def log_likelihood(output: Tensor, action: Tensor, config: Config) -> Tensor:
    """log pi(a|s) under config's head; "deterministic" returns the negative of its loss: [B].

    Raises ValueError for another policy_head.
    """
    head = config.get("policy_head", "binned")
    if head == "binned":
        return binned_log_likelihood(output, action, config)
    if head == "deterministic":
        return deterministic_log_likelihood(output, action, config.get("sums_error", False))
    if head == "gaussian":
        return gaussian_log_likelihood(output, action)
    raise ValueError(f"policy_head: binned, deterministic or gaussian, not {head}")


def likeliest_action(output: Tensor, config: Config) -> Tensor:
    """Most likely bin per dimension, the lowest on ties, or tanh(mean) of other heads: [B, a]."""
    head = config.get("policy_head", "binned")
    if head == "deterministic":
        return torch.tanh(output)
    if head == "gaussian":
        return torch.tanh(gaussian_moments(output)[0])
    num_bins: int = config["num_bins"]
    raw = output.reshape(output.shape[0], -1, num_bins)
    kernel = gaussian_kernel(num_bins, config["kernel_width"])
    score = {
        "logits": torch.einsum("im,bam->bai", kernel, raw),
        "targets": raw,
        "probs": torch.einsum("mi,bam->bai", kernel, torch.softmax(raw, dim=-1)),
    }[config["kernel_reading"]]
    index = (score == score.max(dim=-1, keepdim=True).values).to(torch.int64).argmax(dim=-1)
    return decode_action(index, num_bins)
