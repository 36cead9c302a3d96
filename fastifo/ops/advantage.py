"""One-step value losses with their gradients, and the advantage weights of the policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastifo import losses
from fastifo.ops.registry import expect, expect_float, kernel_name, launch, op


def statistics_of(advantage: Tensor, weight: Tensor, clipped: Tensor) -> Tensor:
    """Mean and population deviation of the advantage, mean weight, share of capped rows, [P, 4].

    advantage, weight, clipped (0 or 1): [P, B].
    """
    mean = advantage.mean(1)
    columns = [
        mean,
        (advantage - mean.unsqueeze(1)).square().mean(1).sqrt(),
        weight.mean(1),
        clipped.to(weight.dtype).mean(1),
    ]
    return torch.stack(columns, 1).detach()


def _spread(values: Tensor, rows: int) -> Tensor:
    """Repeats the entry of each of G equal groups of rows for its rows, [P, G] -> [P, rows]."""
    return values.repeat_interleave(rows // values.shape[1], 1)


def advantage_loss(
    v: Tensor,
    next_v: Tensor,
    policy_next_v: Tensor | None,
    reward: Tensor,
    terminal: Tensor,
    share: Tensor,
    gamma: Tensor,
    temperature: Tensor,
    max_weight: Tensor,
    expectile: Tensor | None,
    absorbing: bool,
    policy_absorbing: bool,
    policy_rows: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss [P], weights [P, policy_rows] and statistics [P, 4] of `advantage`, in plain torch.

    The arguments are those of `advantage`; autograd gives the gradient.
    """
    rows, groups = v.shape[1], share.shape[1]
    reward = _spread(reward, rows)
    y = losses.td_target(
        reward=reward, next_value=next_v, terminal=terminal, gamma=gamma, absorbing=absorbing
    ).detach()
    error = y - v
    cost = error.square()
    if expectile is not None:
        cost = cost * (expectile - (error < 0).to(v.dtype)).abs()
    loss = (share * cost.unflatten(1, (groups, -1)).mean(2)).sum(1)

    policy = slice(rows - policy_rows, rows)
    with torch.no_grad():
        y = losses.td_target(
            reward=reward[:, policy],
            next_value=next_v[:, policy] if policy_next_v is None else policy_next_v,
            terminal=terminal[:, policy],
            gamma=gamma,
            absorbing=policy_absorbing,
        )
        difference = y - v[:, policy]
        weight, _ = losses.advantage_weight(
            advantage=difference, temperature=temperature, max_weight=max_weight
        )
        clipped = difference / temperature >= max_weight.log()
    return loss, weight, statistics_of(difference, weight, clipped)


def with_gradients(loss_of: Callable[..., Any], leaves: int) -> Any:
    """Adds the gradients of the summed loss in the first `leaves` arguments, by autograd.

    loss_of: returns the loss [P] and further outputs.  Returns a function of the same arguments
    that returns the loss, the gradients and the further outputs.
    """
    signature = inspect.signature(loss_of)
    names = list(signature.parameters)[:leaves]

    def reference(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        arguments = signature.bind(*args, **kwargs).arguments
        with torch.enable_grad():
            inputs = {name: arguments[name].detach().requires_grad_() for name in names}
            loss, *rest = loss_of(**(arguments | inputs))
            gradients = torch.autograd.grad(loss.sum(), list(inputs.values()))
        return loss.detach(), *gradients, *rest

    return reference


def expect_members(v: Tensor, **columns: Tensor | None) -> None:
    """Checks that every column has one number per member, [P, 1], on the device of `v`.

    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    """
    for name, column in columns.items():
        if column is not None:
            expect(name, column, v.dtype, (v.shape[0], 1), v.device)


def _expect_rows(
    v: Tensor, next_v: Tensor, policy_next_v: Tensor | None, terminal: Tensor, policy_rows: int
) -> None:
    """Checks the columns that have an entry for each row of `v`, or for each of the policy's."""
    members, rows = v.shape
    expect("next_v", next_v, v.dtype, (members, rows), v.device)
    if not 0 <= policy_rows <= rows:
        raise ValueError(f"policy_rows: expected 0 to {rows}, found {policy_rows}.")
    if policy_next_v is not None:
        expect("policy_next_v", policy_next_v, v.dtype, (members, policy_rows), v.device)
    expect("terminal", terminal, v.dtype, (members, rows), v.device)


def _expect_groups(name: str, values: Tensor, v: Tensor) -> None:
    """Checks that `values` is [P, G] with G a divisor of the rows of `v`."""
    expect(name, values, v.dtype, (v.shape[0], None), v.device)
    groups, rows = values.shape[1], v.shape[1]
    if groups < 1 or rows % groups:
        raise ValueError(f"{name}: expected a divisor of {rows} columns, found {groups}.")


@op(
    "advantage(Tensor v, Tensor next_v, Tensor? policy_next_v, Tensor reward, Tensor terminal,"
    " Tensor share, Tensor gamma, Tensor temperature, Tensor max_weight, Tensor? expectile,"
    " bool absorbing, bool policy_absorbing, int policy_rows)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    reference=with_gradients(advantage_loss, 1),
    fake=lambda v, *arguments: (
        v.new_empty(v.shape[0]),
        torch.empty_like(v),
        v.new_empty(v.shape[0], arguments[-1]),
        v.new_empty(v.shape[0], 4),
    ),
)
def advantage(
    v: Tensor,
    next_v: Tensor,
    policy_next_v: Tensor | None,
    reward: Tensor,
    terminal: Tensor,
    share: Tensor,
    gamma: Tensor,
    temperature: Tensor,
    max_weight: Tensor,
    expectile: Tensor | None,
    absorbing: bool,
    policy_absorbing: bool,
    policy_rows: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value loss and policy weights of VfO, AWR, SQIL and IQL.

    The target is y = reward + gamma * next_v, or at a terminal reward / (1 - gamma) where
    `absorbing`, else the reward; it is a constant. The loss is the sum over equal groups of rows of
    share * mean(cost), cost = (y - v)^2, times |expectile - 1(y < v)| where `expectile` is given.
    The last `policy_rows` rows have the weight min(exp((y - v) / temperature), max_weight), where y
    takes `policy_next_v`, if given, in place of next_v. IQL's advantage q - v is reward = q at
    gamma 0.

    v, next_v, terminal (0 or 1): [P, R].  policy_next_v: [P, policy_rows].  reward, share: [P, G],
    one entry per group of R / G rows, where G divides R.  gamma, temperature, max_weight,
    expectile: [P, 1].
    Returns the loss [P], its gradient in v [P, R], the weights [P, policy_rows], and statistics
    [P, 4]: the advantage's mean and deviation, the mean weight, the share of rows at the cap.
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    Source: arXiv 2507.06701, value and policy loss; Kostrikov et al. 2021, arXiv:2110.06169, Eq. 5.
    """
    expect_float("v", v, (None, None))  # [P, R]
    members, rows = v.shape
    _expect_rows(v, next_v, policy_next_v, terminal, policy_rows)
    _expect_groups("reward", reward, v)
    _expect_groups("share", share, v)
    expect_members(
        v, gamma=gamma, temperature=temperature, max_weight=max_weight, expectile=expectile
    )
    loss, gradient = v.new_empty(members), torch.empty_like(v)
    weight, statistics = v.new_empty(members, policy_rows), v.new_empty(members, 4)
    launch(
        kernel_name("advantage", v), v.device, v, next_v,
        0 if policy_next_v is None else policy_next_v, reward, terminal, share, gamma, temperature,
        max_weight, 0 if expectile is None else expectile, loss, gradient, weight, statistics,
        members, rows, reward.shape[1], share.shape[1], policy_rows, int(absorbing),
        int(policy_absorbing),
    )  # fmt: skip
    return loss, gradient, weight, statistics
