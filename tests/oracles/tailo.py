"""Oracle of TAILO: two discriminators, weights along episodes, weighted cloning.

    first:   the positive-unlabelled loss on all background observations
    second:  the loss disc_loss (default flat) on those of episodes with low mean logits c
    weight:  w_t = sum over i >= t of gamma^(i - t) exp(alpha c(s_i)), divided by the largest one;
             the last term of an episode is divided by 1 - gamma
    policy:  -E_B[w log pi(a|s)]
Both discriminator losses have the gradient penalty of Gulrajani et al. 2017, arXiv:1704.00028.
Source: Yan et al. 2023, arXiv:2311.01329, and the authors' code.

config keys in addition to those of parts: ratio_exponent (alpha), negative_share, gradient_penalty,
policy_weight_decay.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .heads import log_likelihood
from .parts import (
    MLP,
    Batch,
    Config,
    History,
    Nets,
    copied_nets,
    discriminator_net,
    frozen_copy,
    make_optimizer,
)
from .smodice import interpolated_gradient_norm
from .vfo import discriminator_loss


def train_discriminator(
    nets: Nets, batches: Iterable[Batch], config: Config, is_first: bool
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Makes one update of nets["discriminator"] per batch, which has "mix", [B] in [0, 1)."""
    discriminator = discriminator_net(nets, config)
    optimizer = make_optimizer([discriminator], config["disc_learning_rate"], config)
    kind = {**config, "disc_loss": "pu"} if is_first else config
    for batch in batches:
        expert, background = batch["expert"]["obs"], batch["background"]["obs"]
        loss = discriminator_loss(
            discriminator.scalar(expert), discriminator.scalar(background), kind
        )
        if config["gradient_penalty"]:
            norm = interpolated_gradient_norm(discriminator, expert, background, batch["mix"])
            loss = loss + config["gradient_penalty"] * ((norm - 1) ** 2).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return {**copied_nets(nets), "discriminator": discriminator.layers()}


def logits(nets: Nets, episodes: Sequence[Tensor], config: Config) -> list[list[float]]:
    """c(s) of every observation.  episodes: [T, d] each, without final observations."""
    discriminator = frozen_copy(discriminator_net(nets, config))
    return [[discriminator.scalar(row[None].double()).item() for row in obs] for obs in episodes]


def negatives(scores: Sequence[Sequence[float]], config: Config) -> list[int]:
    """Indices of the episodes whose mean logit is below the quantile negative_share.

    The quantile of n numbers interpolates linearly between the sorted ones at share (n - 1).
    """
    means = [math.fsum(each) / len(each) for each in scores]
    ordered = sorted(means)
    position = config["negative_share"] * (len(ordered) - 1)
    low, high = math.floor(position), math.ceil(position)
    limit = ordered[low] + (position - low) * (ordered[high] - ordered[low])
    return [i for i, mean in enumerate(means) if mean < limit] or [means.index(ordered[0])]


def weights(scores: Sequence[Sequence[float]], config: Config) -> list[list[float]]:
    """w_t of every transition of every episode, in the shape of `scores`."""
    gamma: float = config["gamma"]
    result = []
    for episode in scores:
        ratios = [math.exp(config["ratio_exponent"] * c) for c in episode]
        ratios[-1] /= 1 - gamma
        result.append(
            [
                math.fsum(gamma ** (i - t) * ratios[i] for i in range(t, len(ratios)))
                for t in range(len(ratios))
            ]
        )
    largest = max(max(each) for each in result)
    return [[w / largest for w in each] for each in result]


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """One update of the policy per batch, whose background has the weights in "reward"."""
    policy = MLP(nets["policy"], config)
    decay = config["weight_decay"] + config["policy_weight_decay"]
    optimizer = make_optimizer([policy], config["learning_rate"], {**config, "weight_decay": decay})
    history: History = []
    for batch in batches:
        rows = batch["background"]
        weight = rows["reward"]
        loss = (weight * -log_likelihood(policy(rows["obs"]), rows["action"], config)).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        history.append({"policy_loss": loss.item(), "weight_mean": weight.mean().item()})
    return {**copied_nets(nets), "policy": policy.layers()}, history
