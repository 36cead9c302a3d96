"""AWR oracle with the true reward: VfO's losses on background rows alone (section 4.5).

One-step TD, as the VfO study ran it; not the TD(0.95) returns of Peng et al. 2019.
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

        # Value: squared residual towards the target copy (section 3.3 with the true reward).
        with torch.no_grad():
            next_value = target.scalar(rows["next_obs"])
            y = bellman_target(rows["reward"], rows["terminal"], next_value, config)
        value_loss = ((y - value.scalar(rows["obs"])) ** 2).mean()

        # Policy: advantage-weighted cloning (section 3.3).
        policy_loss, statistics = weighted_cloning(
            rows, rows["reward"], policy, value, target, config
        )

        optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        optimizer.step()
        track_target(target, value, number, config)
        history.append({"value_loss": value_loss.item(), **statistics})
    return {**copied_nets(nets), "policy": policy.layers(), "value": value.layers()}, history
