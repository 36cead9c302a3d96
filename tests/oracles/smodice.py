"""Oracle of SMODICE: a state discriminator, the dual loss in V, weighted cloning.

With the discriminator's logit R(s) and delta = R(s) + gamma (1 - T) V(s') - V(s),
    kl: L_V = (1 - gamma) E[V(s0)] + log E[exp(delta)], weight exp(delta)
    chi2: L_V = (1 - gamma) E[V(s0)] + E[delta + delta^2 / 2], weight max(0, delta + 1)
    policy: -E[weight log pi(a|s)]
with gradients through both V(s) and V(s').
Source: Ma et al. 2022, arXiv:2202.02433, and the authors' code, whose chi2 conjugate is not
rectified; gradient penalty: Gulrajani et al. 2017, arXiv:1704.00028; entropy constraint: Haarnoja
et al. 2018, arXiv:1812.05905.

config keys in addition to those of parts: divergence ("kl" | "chi2"), logit_clamp (inf: none),
normalizes, value_weight_decay, entropy_constraint (gaussian head only), gradient_penalty (0: none).
Key that may be missing: disc_frozen_layer (missing: False), keeps the discriminator's first layer.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from . import vfo
from .heads import gaussian_moments, log_likelihood, tanh_normal_log_density
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
    frozen_copy,
    make_optimizer,
)


def train_discriminator(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], list[float]]:
    """Makes one update per batch on the flat discriminator loss plus the gradient penalty.

    batch["mix"], [B] in [0, 1), is read only if there is a penalty.
    Returns the trained nets and each update's loss with penalty, computed before its step.
    """
    discriminator = discriminator_net(nets, config)
    trained = discriminator.linears[int(config.get("disc_frozen_layer", False)) :]
    optimizer = make_optimizer(trained, config["disc_learning_rate"], config)
    losses = []
    for batch in batches:
        loss = discriminator_loss(discriminator, batch, config)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return {**copied_nets(nets), "discriminator": discriminator.layers()}, losses


def discriminator_loss(discriminator: MLP, batch: Batch, config: Config) -> Tensor:
    expert, background = batch["expert"]["obs"], batch["background"]["obs"]
    loss = vfo.discriminator_loss(
        discriminator.scalar(expert),
        discriminator.scalar(background),
        {**config, "disc_loss": "flat"},
    )
    coefficient: float = config["gradient_penalty"]
    if coefficient == 0:
        return loss
    norm = interpolated_gradient_norm(discriminator, expert, background, batch["mix"])
    return loss + coefficient * ((norm - 1) ** 2).mean()


def interpolated_gradient_norm(
    discriminator: MLP, expert: Tensor, background: Tensor, mix: Tensor
) -> Tensor:
    """||d logit / d x|| at x = u phi(s_E) + (1 - u) phi(s_B), x the encoded input.

    expert, background: [B, d].  mix: u, [B].  Returns [B], with a gradient into the net.
    """
    u = mix[:, None]
    inputs = u * discriminator.encode(expert) + (1 - u) * discriminator.encode(background)
    inputs = inputs.detach().requires_grad_()
    logit = discriminator.on_encoded(inputs)
    (gradient,) = torch.autograd.grad(logit.sum(), inputs, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return norm


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one joint value and policy update per batch; nets["discriminator"] is trained already.

    batches: "background" rows and "initial" [B, d]; with an entropy constraint also "policy_noise"
    [B, 2a], uniform in [0, 1).  Returns the trained nets and a history.
    """
    policy, value = MLP(nets["policy"], config), MLP(nets["value"], config)
    discriminator = frozen_copy(discriminator_net(nets, config))
    rate: float = config["learning_rate"]
    value_decay = config["weight_decay"] + config["value_weight_decay"]
    policy_optimizer = make_optimizer([policy], rate, config)
    value_optimizer = make_optimizer([value], rate, {**config, "weight_decay": value_decay})
    log_alpha = torch.zeros((), dtype=torch.float64, requires_grad=True)
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=rate)
    history: History = []
    for batch in batches:
        rows = batch["background"]

        # Value: L_V, with gradients through both V(s) and V(s').
        reward = clamped_logit(discriminator, rows["obs"], config)
        delta = residual(rows, reward, value, config)
        value_loss = dual_loss(value.scalar(batch["initial"]), delta, config)

        # Policy: -E[weight log pi(a|s)], plus alpha E[log pi(a~|s)] with an entropy constraint.
        weight = ratio(delta.detach(), config)
        output = policy(rows["obs"])
        policy_loss = (weight * -log_likelihood(output, rows["action"], config)).mean()
        if config["entropy_constraint"]:
            log_pi = sampled_log_density(output, batch["policy_noise"], config)
            policy_loss = policy_loss + log_alpha.detach().exp() * log_pi.mean()
            target = -rows["action"].shape[1]
            alpha_loss = -log_alpha * (log_pi.detach() + target).mean()
            alpha_optimizer.zero_grad()
            torch.autograd.backward(alpha_loss)
            alpha_optimizer.step()

        value_optimizer.zero_grad()
        policy_optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        value_optimizer.step()
        policy_optimizer.step()
        losses = {"value_loss": value_loss.item(), "policy_loss": policy_loss.item()}
        history.append({**losses, "weight_mean": weight.mean().item()})
    return {**copied_nets(nets), "policy": policy.layers(), "value": value.layers()}, history


def clamped_logit(discriminator: MLP, obs: Tensor, config: Config) -> Tensor:
    """R(s), the discriminator's logit at the current state, clamped to +-logit_clamp: [B]."""
    limit: float = config["logit_clamp"]
    return discriminator.scalar(obs).clamp(-limit, limit)


def residual(rows: Rows, reward: Tensor, value: MLP, config: Config) -> Tensor:
    """delta = R + gamma (1 - T) V(s') - V(s); at a terminal R / (1 - gamma) if absorbing: [B]."""
    next_value = value.scalar(rows["next_obs"])
    return bellman_target(reward, rows["terminal"], next_value, config) - value.scalar(rows["obs"])


def log_mean_exp(x: Tensor) -> Tensor:
    return torch.logsumexp(x, dim=0) - math.log(x.shape[0])


def dual_loss(initial_value: Tensor, delta: Tensor, config: Config) -> Tensor:
    """(1 - gamma) E[V(s0)] + log E[exp(delta)] (kl) or + E[delta + delta^2 / 2] (chi2)."""
    gamma: float = config["gamma"]
    initial = (1 - gamma) * initial_value.mean()
    if config["divergence"] == "kl":
        return initial + log_mean_exp(delta)
    if config["divergence"] == "chi2":
        return initial + (delta + delta**2 / 2).mean()
    raise ValueError(f"divergence: kl or chi2, not {config['divergence']}")


def ratio(delta: Tensor, config: Config) -> Tensor:
    """The weight exp(delta) (kl) or max(0, delta + 1) (chi2), divided by its mean if normalizes.

    Then it is capped. If all weights are 0, they stay 0.  delta: [B].  Returns [B].
    """
    if config["divergence"] == "kl":
        weight = torch.exp(delta - log_mean_exp(delta) if config["normalizes"] else delta)
    else:
        weight = (delta + 1).clamp(min=0)
        if config["normalizes"] and weight.mean() > 0:
            weight = weight / weight.mean()
    return weight.clamp(max=config["max_weight"])


def sampled_log_density(output: Tensor, noise: Tensor, config: Config) -> Tensor:
    """log pi(a~|s) of one reparameterised action per row, [B].

    output: of the Gaussian head, [B, 2a].  noise: u1 and u2 of the Box-Muller transform, [B, 2a].
    Raises ValueError for other heads.
    """
    if config.get("policy_head", "binned") != "gaussian":
        raise ValueError("entropy_constraint needs policy_head gaussian")
    mean, std = gaussian_moments(output)
    u1, u2 = noise.chunk(2, dim=1)
    normal = torch.sqrt(-2 * torch.log1p(-u1)) * torch.cos(2 * math.pi * u2)
    return tanh_normal_log_density(mean + std * normal, mean, std)
