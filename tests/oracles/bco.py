"""BCO oracle, the offline variant (section 4.2): inverse dynamics, labels, cloning of both halves.

The inverse net has the policy's head and reads pairs (s, s').
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
    """One update per batch on -E_B[log p(a|s, s')]; expert rows are not read.

    Returns the nets afterwards and each update's loss before its step.
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
    """The likeliest action between s and s' for every dimension: [B, d] twice -> [B, a]."""
    with torch.no_grad():
        return likeliest_action(MLP(nets["inverse"], config).pair(obs, next_obs), config)


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """One update per batch on all rows alike; the expert's carry their labels as `action`.

    Where the expert alone is cloned, a batch holds its labelled rows as the only ones.
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
