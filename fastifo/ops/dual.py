"""Dual value losses with gradients through both values: SMODICE (KL, chi2), LobsDICE and DILO."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastifo.ops.advantage import expect_members, statistics_of, with_gradients
from fastifo.ops.registry import expect, expect_float, kernel_name, launch, op

DIVERGENCES = ("kl", "chi2")


def smodice_loss(
    v: Tensor,
    next_v: Tensor,
    initial_v: Tensor,
    reward: Tensor,
    terminal: Tensor,
    gamma: Tensor,
    temperature: Tensor,
    max_weight: Tensor,
    divergence: str,
    absorbing: bool,
    normalizes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss [P], weights [P, B] and statistics [P, 4] of `smodice`, in plain torch.

    The arguments are those of `smodice`; autograd gives the gradients.
    """
    final = reward / (1.0 - gamma) if absorbing else reward
    delta = torch.where(terminal > 0, final, reward + gamma * next_v) - v
    scaled = delta / temperature
    if divergence == "kl":
        cost = scaled.logsumexp(1) - math.log(max(1, delta.shape[1]))
        log_weight = (scaled - cost.unsqueeze(1) if normalizes else scaled).detach()
        clipped = log_weight >= max_weight.log()
        weight = torch.where(clipped, max_weight, torch.minimum(log_weight, max_weight.log()).exp())
    else:
        cost = (scaled + 0.5 * scaled.square()).mean(1)
        weight = (scaled + 1.0).clamp(min=0.0).detach()
        if normalizes:
            weight = weight / weight.mean(1, True).clamp(min=torch.finfo(v.dtype).tiny)
        clipped = weight >= max_weight
        weight = torch.minimum(weight, max_weight)
    loss = (1.0 - gamma.squeeze(1)) * initial_v.mean(1) + temperature.squeeze(1) * cost
    return loss, weight, statistics_of(delta, weight, clipped)


@op(
    "smodice(Tensor v, Tensor next_v, Tensor initial_v, Tensor reward, Tensor terminal,"
    " Tensor gamma, Tensor temperature, Tensor max_weight, str divergence, bool absorbing,"
    " bool normalizes)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=with_gradients(smodice_loss, 3),
    fake=lambda v, next_v, initial_v, *rest: (
        v.new_empty(v.shape[0]),
        torch.empty_like(v),
        torch.empty_like(v),
        torch.empty_like(initial_v),
        torch.empty_like(v),
        v.new_empty(v.shape[0], 4),
    ),
)
def smodice(
    v: Tensor,
    next_v: Tensor,
    initial_v: Tensor,
    reward: Tensor,
    terminal: Tensor,
    gamma: Tensor,
    temperature: Tensor,
    max_weight: Tensor,
    divergence: str,
    absorbing: bool,
    normalizes: bool,
) -> tuple[Tensor, ...]:
    """Value loss and policy weights of SMODICE and LobsDICE. Nothing is held constant.

    The residual is delta = reward + gamma * next_v - v; at a terminal gamma * next_v is left out,
    or with `absorbing` the target is reward / (1 - gamma). With the temperature t, which is 1 in
    SMODICE, the loss is (1 - gamma) mean(initial_v) plus t log mean exp(delta / t) for kl or
    mean(delta + delta^2 / (2 t)) for chi2. The weight is exp(delta / t) or max(0, delta / t + 1),
    divided by its mean where `normalizes`, then capped at max_weight.

    v, next_v, reward (the discriminator's logit), terminal (0 or 1): [P, B], B >= 1.  initial_v:
    [P, B0], B0 >= 1.  gamma, temperature (above 0), max_weight: [P, 1].  divergence: kl or chi2.
    Returns the loss [P], its gradients in v [P, B], next_v [P, B] and initial_v [P, B0], the
    weights [P, B], and the statistics of `advantage` for delta [P, 4].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    Source: Ma et al. 2022, arXiv:2202.02433; the chi2 conjugate is not rectified (authors' code);
    with a temperature: Kim et al. 2022, arXiv:2202.13536.
    """
    dtype = expect_float("v", v, (None, None))  # [P, B]
    members, rows = v.shape
    for name, tensor in (("next_v", next_v), ("reward", reward), ("terminal", terminal)):
        expect(name, tensor, dtype, (members, rows), v.device)
    expect("initial_v", initial_v, dtype, (members, None), v.device)  # [P, B0]
    expect_members(v, gamma=gamma, temperature=temperature, max_weight=max_weight)
    if divergence not in DIVERGENCES:
        raise ValueError(f"divergence: expected one of kl, chi2, found {divergence!r}.")
    if rows < 1 or initial_v.shape[1] < 1:
        raise ValueError(f"v: expected at least one row and one start, found {rows} and "
                         f"{initial_v.shape[1]}.")  # fmt: skip
    loss, weight, statistics = v.new_empty(members), torch.empty_like(v), v.new_empty(members, 4)
    gradients = [torch.empty_like(tensor) for tensor in (v, next_v, initial_v)]
    launch(
        kernel_name("smodice", v), v.device, v, next_v, initial_v, reward, terminal, gamma,
        temperature, max_weight, loss, *gradients, weight, statistics, members, rows,
        initial_v.shape[1], DIVERGENCES.index(divergence), int(absorbing), int(normalizes),
    )  # fmt: skip
    return loss, *gradients, weight, statistics


def dilo_loss(
    v: Tensor,
    next_v: Tensor,
    terminal: Tensor,
    gamma: Tensor,
    beta: Tensor,
    residual_share: Tensor,
    inverse_temperature: Tensor,
    max_weight: Tensor,
    expert_rows: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss [P], weights [P, R - E] and statistics [P, 4] of `dilo`, in plain torch.

    The arguments are those of `dilo`; autograd gives the gradients.
    """
    y = gamma * (1.0 - terminal) * next_v - v
    w = (0.5 * y + 1.0).clamp(min=0.0)
    conjugate = y * w - (w - 1.0).square()
    b, share = beta.squeeze(1), residual_share.squeeze(1)
    background = slice(expert_rows, None)
    residual = b * conjugate[:, :expert_rows].mean(1)
    residual = residual + (1.0 - b) * (conjugate[:, background] - y[:, background]).mean(1)
    loss = (1.0 - share) * v[:, background].mean(1) + share * residual
    exponent = (inverse_temperature * v[:, background]).detach()
    clipped = exponent >= max_weight.log()
    weight = torch.minimum(exponent, max_weight.log()).exp()
    return loss, weight, statistics_of(y[:, background], weight, clipped)


@op(
    "dilo(Tensor v, Tensor next_v, Tensor terminal, Tensor gamma, Tensor beta,"
    " Tensor residual_share, Tensor inverse_temperature, Tensor max_weight, int expert_rows)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=with_gradients(dilo_loss, 2),
    fake=lambda v, next_v, *rest: (
        v.new_empty(v.shape[0]),
        torch.empty_like(v),
        torch.empty_like(v),
        v.new_empty(v.shape[0], v.shape[1] - rest[-1]),
        v.new_empty(v.shape[0], 4),
    ),
)
def dilo(
    v: Tensor,
    next_v: Tensor,
    terminal: Tensor,
    gamma: Tensor,
    beta: Tensor,
    residual_share: Tensor,
    inverse_temperature: Tensor,
    max_weight: Tensor,
    expert_rows: int,
) -> tuple[Tensor, ...]:
    """Value loss and policy weights of DILO. A semi-gradient uses only one of the two gradients.

    With the residual y = gamma (1 - terminal) next_v - v and the chi2 conjugate f(y) = y w -
    (w - 1)^2, w = max(y / 2 + 1, 0), the loss is (1 - residual_share) mean_B(v) + residual_share
    (beta mean_E f(y) + (1 - beta) mean_B(f(y) - y)), where E is the expert and B the background.
    The weight is min(exp(inverse_temperature v), max_weight).

    v = V(s, s'), next_v = V(s', s''), terminal (0 or 1): [P, R]; the first E = expert_rows rows are
    the expert's, the others the background's.  gamma, beta, residual_share, inverse_temperature,
    max_weight: [P, 1].
    Returns the loss [P], its gradients in v and next_v [P, R], the weights of the background's rows
    [P, R - E], and the statistics of `advantage` for the background's y [P, 4].
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    Source: Sikchi et al. 2024, arXiv:2406.08805, and its authors' code.
    """
    dtype = expect_float("v", v, (None, None))  # [P, R]
    members, rows = v.shape
    expect("next_v", next_v, dtype, (members, rows), v.device)
    expect("terminal", terminal, dtype, (members, rows), v.device)
    expect_members(
        v, gamma=gamma, beta=beta, residual_share=residual_share,
        inverse_temperature=inverse_temperature, max_weight=max_weight,
    )  # fmt: skip
    if not 1 <= expert_rows < rows:
        raise ValueError(
            f"expert_rows: expected at least 1 and fewer than the {rows} rows, found {expert_rows}."
        )
    loss, statistics = v.new_empty(members), v.new_empty(members, 4)
    gradients = [torch.empty_like(v), torch.empty_like(v)]
    weight = v.new_empty(members, rows - expert_rows)
    launch(
        kernel_name("dilo", v), v.device, v, next_v, terminal, gamma, beta, residual_share,
        inverse_temperature, max_weight, loss, *gradients, weight, statistics, members, rows,
        expert_rows,
    )  # fmt: skip
    return loss, *gradients, weight, statistics
