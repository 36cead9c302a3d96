"""Oracle of offline BCO: inverse dynamics, action labels for the expert, cloning of all rows.

1. Inverse dynamics: -E_B[log p(a|s, s')]. The net has the policy's head and reads pairs (s, s').
2. Labels: the most likely a between the expert's s and s'.
3. Cloning: the mean of -log pi(a|s) over background and labelled expert rows.
Source: Torabi et al. 2018, arXiv:1805.01954, offline as in the VfO study (arXiv:2507.06701).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from .heads import likeliest_action, log_likelihood
from .parts import (
    MLP,
    Batch,
    Config,
    History,
    Nets,
    copied_nets,
    make_optimizer,
)


def train_inverse(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], list[float]]:
    """Makes one update per batch on -E_B[log p(a|s, s')]; expert rows are not read.

    Returns the trained nets and each update's loss, computed before its step.
    """
    inverse = MLP(nets["inverse"], config)
    optimizer = make_optimizer([inverse], config["learning_rate"], config)
    losses = []
    for batch in batches:
        rows = batch["background"]
        output = inverse.pair(rows["obs"], rows["next_obs"])
        loss = -log_likelihood(output, rows["action"], config).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return {**copied_nets(nets), "inverse": inverse.layers()}, losses


def label(nets: Nets, obs: Tensor, next_obs: Tensor, config: Config) -> Tensor:
    """The most likely action per dimension between s and s'.  obs, next_obs: [B, d] -> [B, a]."""
    with torch.no_grad():
        return likeliest_action(MLP(nets["inverse"], config).pair(obs, next_obs), config)


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one cloning update per batch on all its rows; returns the nets and each policy_loss.

    batches: "background" rows, "expert" rows with their labels as `action`, or only one of them.
    """
    policy = MLP(nets["policy"], config)
    optimizer = make_optimizer([policy], config["learning_rate"], config)
    history: History = []
    for batch in batches:
        obs, action = (
            torch.cat(
                [batch[source][name] for source in ("background", "expert") if source in batch]
            )
            for name in ("obs", "action")
        )
        loss = -log_likelihood(policy(obs), action, config).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        history.append({"policy_loss": loss.item()})
    return {**copied_nets(nets), "policy": policy.layers()}, history
