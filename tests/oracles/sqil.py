"""Oracle of offline SQIL with privileged expert actions: VfO-bin that also clones expert rows.

    policy: -(1 - alpha') E_E[w log pi(a|s)] - alpha' E_B[w log pi(a|s)], reward 1 and 0
Source: the baseline of the VfO study, arXiv:2507.06701, and not the soft-Q method of Reddy et al.
2020, arXiv:1905.11108.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from .parts import (
    MLP,
    Batch,
    Config,
    History,
    Nets,
    copied_nets,
    frozen_copy,
    make_optimizer,
    track_target,
    weighted_cloning,
)
from .vfo import residual


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one joint value and policy update per batch; returns the trained nets and a history.

    config adds policy_alpha, the background's share of the policy loss; alpha if negative.
    """
    policy, value = MLP(nets["policy"], config), MLP(nets["value"], config)
    target = frozen_copy(value)
    optimizer = make_optimizer([policy, value], config["learning_rate"], config)
    alpha: float = config["alpha"]
    policy_alpha: float = config["policy_alpha"]
    if policy_alpha < 0:
        policy_alpha = alpha
    history: History = []
    for number, batch in enumerate(batches, start=1):
        expert, background = batch["expert"], batch["background"]
        one = torch.ones(expert["obs"].shape[0], dtype=torch.float64)
        zero = torch.zeros(background["obs"].shape[0], dtype=torch.float64)

        # Value: as in VfO-bin, (1 - alpha) E_E[(y - v(s))^2] + alpha E_B[(y - v(s))^2].
        expert_residual = residual(expert, one, value, target, config)
        background_residual = residual(background, zero, value, target, config)
        value_loss = (1 - alpha) * (expert_residual**2).mean()
        value_loss = value_loss + alpha * (background_residual**2).mean()

        # Policy: weighted cloning of expert rows with reward 1 and background rows with reward 0.
        expert_loss, _ = weighted_cloning(expert, one, policy, value, target, config)
        background_loss, _ = weighted_cloning(background, zero, policy, value, target, config)
        policy_loss = (1 - policy_alpha) * expert_loss + policy_alpha * background_loss

        optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        optimizer.step()
        track_target(target, value, number, config)
        history.append({"value_loss": value_loss.item(), "policy_loss": policy_loss.item()})
    return {**copied_nets(nets), "policy": policy.layers(), "value": value.layers()}, history
