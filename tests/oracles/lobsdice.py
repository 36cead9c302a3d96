"""Oracle of LobsDICE: a discriminator of (s, s'), the dual loss in nu, weighted cloning.

With R(s, s') from the discriminator, delta = R + gamma (1 - T) nu(s') - nu(s) and t = 1 + alpha,
    L_nu = (1 - gamma) E[nu(s0)] + t log E[exp(delta / t)], weight exp(delta / t) / its mean
    policy: -E[weight log pi(a|s)]
with gradients through both nu(s) and nu(s'). R is the clamped logit of a discriminator that is
trained already, or with joint -log(1 / (d + 0.001) - 1 + 0.001) of one that is trained along.
Source: Kim et al. 2022, arXiv:2202.13536, with mu in closed form, and the authors' code; gradient
penalty: Gulrajani et al. 2017, arXiv:1704.00028.

config keys in addition to those of parts: kl_weight (alpha), logit_clamp, joint,
bootstraps_terminals, joint_gradient_penalty, value_gradient_penalty (both with joint only).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .heads import log_likelihood
from .parts import (
    MLP,
    Batch,
    Config,
    History,
    Nets,
    Rows,
    bellman_target,
    copied_nets,
    discriminator_net,
    make_optimizer,
)


def train_discriminator(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Makes one update of the pair discriminator per batch, without penalty; returns the nets."""
    discriminator = discriminator_net(nets, config)
    optimizer = make_optimizer([discriminator], config["disc_learning_rate"], config)
    for batch in batches:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(discriminator, batch))
        optimizer.step()
    return {**copied_nets(nets), "discriminator": discriminator.layers()}


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one joint update per batch of nu ("value"), policy and, with joint, discriminator.

    batches: "background" rows and "initial" [B, d]; with joint also "expert" rows and
    "policy_noise" [B, 2], uniform in [0, 1).  Returns the trained nets and a history.
    """
    policy, value = MLP(nets["policy"], config), MLP(nets["value"], config)
    discriminator = discriminator_net(nets, config)
    rate: float = config["learning_rate"]
    optimizers = [make_optimizer([net], rate, config) for net in (policy, value)]
    if config["joint"]:
        optimizers.append(make_optimizer([discriminator], config["disc_learning_rate"], config))
    history: History = []
    for batch in batches:
        rows = batch["background"]
        delta = residual(rows, reward_of(discriminator, rows, config), value, config)
        value_loss = dual_loss(value.scalar(batch["initial"]), delta, config)
        weight = weights(delta.detach(), config)
        log_pi = log_likelihood(policy(rows["obs"]), rows["action"], config)
        policy_loss = (weight * -log_pi).mean()
        losses = {"value_loss": value_loss.item(), "policy_loss": policy_loss.item()}

        total = value_loss + policy_loss
        if config["joint"]:
            penalty = value_penalty(value, batch)
            loss = cross_entropy(discriminator, batch) + config["joint_gradient_penalty"] * (
                discriminator_penalty(discriminator, batch)
            )
            total = total + config["value_gradient_penalty"] * penalty + loss
            losses |= {"value_penalty": penalty.item(), "discriminator_loss": loss.item()}
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(total)
        for optimizer in optimizers:
            optimizer.step()
        history.append({**losses, "weight_mean": weight.mean().item()})
    after = {"policy": policy, "value": value, "discriminator": discriminator}
    return {name: net.layers() for name, net in after.items()}, history


def cross_entropy(discriminator: MLP, batch: Batch) -> Tensor:
    """E_E[-log d(s, s')] + E_O[-log(1 - d(s, s'))]."""
    expert, background = batch["expert"], batch["background"]
    d_expert = torch.sigmoid(discriminator.pair_scalar(expert["obs"], expert["next_obs"]))
    d_other = torch.sigmoid(discriminator.pair_scalar(background["obs"], background["next_obs"]))
    return -d_expert.log().mean() - (1 - d_other).log().mean()


def smoothed_ratio(logit: Tensor) -> Tensor:
    """The negative of the authors' cost log(1 / (d + 0.001) - 1 + 0.001)."""
    return -torch.log(1 / (torch.sigmoid(logit) + 1e-3) - 1 + 1e-3)


def reward_of(discriminator: MLP, rows: Rows, config: Config) -> Tensor:
    """R(s, s'), a constant: [B]."""
    logit = discriminator.pair_scalar(rows["obs"], rows["next_obs"]).detach()
    limit: float = config["logit_clamp"]
    return smoothed_ratio(logit) if config["joint"] else logit.clamp(-limit, limit)


def residual(rows: Rows, reward: Tensor, value: MLP, config: Config) -> Tensor:
    """delta of each row: [B]."""
    next_value = value.scalar(rows["next_obs"])
    terminal = torch.zeros_like(reward) if config["bootstraps_terminals"] else rows["terminal"]
    return bellman_target(reward, terminal, next_value, config) - value.scalar(rows["obs"])


def dual_loss(initial_value: Tensor, delta: Tensor, config: Config) -> Tensor:
    """(1 - gamma) E[nu(s0)] + (1 + alpha) log E[exp(delta / (1 + alpha))]."""
    t = 1.0 + config["kl_weight"]
    gamma: float = config["gamma"]
    log_mean = torch.logsumexp(delta / t, dim=0) - math.log(delta.shape[0])
    loss: Tensor = (1 - gamma) * initial_value.mean() + t * log_mean
    return loss


def weights(delta: Tensor, config: Config) -> Tensor:
    """exp(delta / (1 + alpha)) divided by its mean, then capped: [B]."""
    t = 1.0 + config["kl_weight"]
    weight = torch.exp((delta - delta.max()) / t)
    return (weight / weight.mean()).clamp(max=config["max_weight"])


def discriminator_penalty(discriminator: MLP, batch: Batch) -> Tensor:
    """E[(|grad R(x) - 2^-23| - 1)^2] over u x_E + (1 - u) x_O and u x'_O + (1 - u) x_O.

    x = (phi(s), phi(s')), phi the encoder; x'_O is the row before x_O, the last one for the first.
    """
    encode = discriminator.encode
    expert, other = (
        torch.cat([encode(batch[source]["obs"]), encode(batch[source]["next_obs"])], dim=1)
        for source in ("expert", "background")
    )
    before = torch.cat([other[-1:], other[:-1]])
    u = batch["policy_noise"][:, :1]
    inputs = torch.cat([u * expert + (1 - u) * other, u * before + (1 - u) * other])
    inputs = inputs.detach().requires_grad_()
    ratio = smoothed_ratio(discriminator.on_encoded(inputs)[:, 0])
    (gradient,) = torch.autograd.grad(ratio.sum(), inputs, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(gradient - 2.0**-23, dim=1)
    return ((norm - 1) ** 2).mean()


def value_penalty(value: MLP, batch: Batch) -> Tensor:
    """E[|grad nu(x)|^2] over s_O, u s_E + (1 - u) s_O and u s'_E + (1 - u) s'_O, encoded."""
    u = batch["policy_noise"][:, 1:]
    expert, other = batch["expert"], batch["background"]
    inputs = torch.cat(
        [
            value.encode(other["obs"]),
            u * value.encode(expert["obs"]) + (1 - u) * value.encode(other["obs"]),
            u * value.encode(expert["next_obs"]) + (1 - u) * value.encode(other["next_obs"]),
        ]
    )
    inputs = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(value.on_encoded(inputs).sum(), inputs, create_graph=True)
    return (gradient**2).sum(dim=1).mean()
