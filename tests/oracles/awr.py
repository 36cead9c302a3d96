"""Oracle of AWR with the true reward: VfO's value and policy losses on background rows only.

L_v = E_B[(r + gamma v'(s') - v(s))^2] and L_pi = -E_B[min(exp(A / lambda), cap) log pi(a|s)].
Source: Peng et al. 2019, arXiv:1910.00177, as the VfO study runs it (arXiv:2507.06701): with
one-step TD errors instead of TD(0.95) returns.
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
    bellman_target,
    copied_nets,
    frozen_copy,
    make_optimizer,
    track_target,
    weighted_cloning,
)


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """One joint value and policy update per batch. Returns the nets afterwards and a history."""
    policy, value = MLP(nets["policy"], config), MLP(nets["value"], config)
    target = frozen_copy(value)
    optimizer = make_optimizer([policy, value], config["learning_rate"], config)
    history: History = []
    for number, batch in enumerate(batches, start=1):
        rows = batch["background"]

        # Value: squared TD error with the target copy, E_B[(y - v(s))^2].
        with torch.no_grad():
            next_value = target.scalar(rows["next_obs"])
            y = bellman_target(rows["reward"], rows["terminal"], next_value, config)
        value_loss = ((y - value.scalar(rows["obs"])) ** 2).mean()

        # Policy: advantage-weighted cloning, -E_B[w log pi(a|s)].
        policy_loss, statistics = weighted_cloning(
            rows, rows["reward"], policy, value, target, config
        )

        optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        optimizer.step()
        track_target(target, value, number, config)
        history.append({"value_loss": value_loss.item(), **statistics})
    return {**copied_nets(nets), "policy": policy.layers(), "value": value.layers()}, history
