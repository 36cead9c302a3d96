"""Oracle of behavioural cloning: L = -E_B[log pi(a|s)]. Expert rows are not read.

Source: the BC baseline of the VfO study, arXiv:2507.06701.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from .heads import log_likelihood
from .parts import MLP, Batch, Config, History, Nets, copied_nets, make_optimizer


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """One update per batch. Returns the nets afterwards and each update's policy_loss."""
    policy = MLP(nets["policy"], config)
    optimizer = make_optimizer([policy], config["learning_rate"], config)
    history: History = []
    for batch in batches:
        rows = batch["background"]
        loss = -log_likelihood(policy(rows["obs"]), rows["action"], config).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        history.append({"policy_loss": loss.item()})
    return {**copied_nets(nets), "policy": policy.layers()}, history
