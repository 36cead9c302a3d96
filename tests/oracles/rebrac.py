"""Oracle of ReBRAC: TD3 with a behaviour-cloning penalty in the actor's and the critics' loss.

    y = r + gamma (1 - T) (min_i Qbar_i(s', a~') - beta2 |a~' - a'_data|^2)
    critics: sum over i of E[(Q_i(s, a) - y)^2]
    actor: E[beta1 |pi(s) - a|^2 - lambda min_i Q_i(s, pi(s))]
Source: Tarasov et al. 2023, arXiv:2305.09836, and the authors' code.

config keys: gamma, policy_penalty (beta1), critic_penalty (beta2), policy_noise, noise_clip,
polyak, learning_rate, normalizes_q (False: lambda is 1), critic_layer_norm.  Keys that may be
missing: those of iql, and critic_learning_rate (missing: learning_rate).

Updates are counted from 1. Even ones also update the actor, with the critics of the same update,
and then the three targets. Adam has torch's betas and eps, one optimizer per net.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .iql import bootstrapped, q_value, step, track_polyak, with_defaults
from .parts import MLP, Batch, Config, History, Layers, Nets, copied_nets, frozen_copy


class Critic(MLP):
    """An MLP whose hidden layers are followed by a LayerNorm if critic_layer_norm is set."""

    def __init__(self, layers: Layers, norms: Layers | None, config: Config) -> None:
        """norms: (scale [h], shift [h]) per hidden layer; ones and zeros if None."""
        super().__init__(layers, config)
        self.norms = nn.ModuleList()
        if not config["critic_layer_norm"]:
            return
        for index, (_, bias) in enumerate(layers[:-1]):
            norm = nn.LayerNorm(bias.shape[0], eps=1e-5, dtype=torch.float64)
            if norms is not None:
                with torch.no_grad():
                    norm.weight.copy_(norms[index][0])
                    norm.bias.copy_(norms[index][1])
            self.norms.append(norm)

    def on_encoded(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for index, linear in enumerate(self.linears):
            hidden = linear(hidden)
            if index + 1 < len(self.linears):
                hidden = self.activation(hidden)
                if len(self.norms) > 0:
                    hidden = self.norms[index](hidden)
        return hidden

    def norm_layers(self) -> list[tuple[Tensor, Tensor]]:
        """Copies of (scale, shift) per hidden layer; empty without LayerNorm."""
        pairs = []
        for norm in self.norms:
            assert isinstance(norm, nn.LayerNorm)
            pairs.append((norm.weight.detach().clone(), norm.bias.detach().clone()))
        return pairs


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Updates the critics at every batch and the actor at every second one.

    nets: "critic" and "twin" on [obs, action], "policy" on obs, the action before its tanh; also
    "critic_norms" and "twin_norms", (scale, shift) per hidden layer, ones and zeros if missing.
    Targets ("critic_target", "critic_target_norms", ..., "policy_target") are copies if missing.
    batches: "background" rows, which here also have "next_action" [B, A], and "noise" [B, 2A],
    uniform numbers in [0, 1), first all u, then all w.
    Returns the nets and a history: "critic_loss" of every update, "policy_loss" and "q_scale"
    (lambda) of even ones.
    """
    config = with_defaults(config)
    names = ("critic", "twin")
    policy = MLP(nets["policy"], config)
    policy_target = frozen_copy(MLP(nets.get("policy_target", nets["policy"]), config))
    critics = [Critic(nets[name], nets.get(f"{name}_norms"), config) for name in names]
    targets = [target_critic(nets, name, config) for name in names]
    policy_optimizer = torch.optim.Adam(policy.parameters(), lr=config["learning_rate"])
    rate: float = config.get("critic_learning_rate", config["learning_rate"])
    critic_optimizers = [torch.optim.Adam(critic.parameters(), lr=rate) for critic in critics]
    history: History = []
    for number, batch in enumerate(batches, start=1):
        # Critics, at every update: sum over i of E[(Q_i(s, a) - y)^2].
        y = critic_target(batch, policy_target, targets, config)
        loss = critic_loss(batch, y, critics)
        step(critic_optimizers, loss)
        history.append({"critic_loss": loss.item()})

        # Actor and targets, at every second one: E[beta1 |pi(s) - a|^2 - lambda min_i Q_i].
        if number % 2 == 0:
            loss, q_scale = policy_loss(batch, policy, critics, config)
            step([policy_optimizer], loss)
            pairs = [(policy_target, policy), *zip(targets, critics, strict=True)]
            for target, net in pairs:
                track_polyak(target, net, config["polyak"])
            history[-1] |= {"policy_loss": loss.item(), "q_scale": q_scale.item()}
    after = {"policy": policy.layers(), "policy_target": policy_target.layers()}
    for name, critic, target in zip(names, critics, targets, strict=True):
        after |= {name: critic.layers(), f"{name}_norms": critic.norm_layers()}
        after |= {
            f"{name}_target": target.layers(),
            f"{name}_target_norms": target.norm_layers(),
        }
    return {**copied_nets(nets), **after}, history


def target_critic(nets: Nets, name: str, config: Config) -> Critic:
    """The target in nets of the critic `name`, or a copy of that critic."""
    if f"{name}_target" in nets:
        target = Critic(nets[f"{name}_target"], nets.get(f"{name}_target_norms"), config)
    else:
        target = Critic(nets[name], nets.get(f"{name}_norms"), config)
    return target.requires_grad_(False)


def smallest_q(critics: Sequence[Critic], obs: Tensor, action: Tensor) -> Tensor:
    """min over critics of Q_i(s, a): [B]."""
    heads = torch.stack([q_value(critic, obs, action) for critic in critics])
    return heads.min(dim=0).values


def standard_normal(noise: Tensor) -> Tensor:
    """Box-Muller: sqrt(-2 ln(1 - u)) cos(2 pi w) for noise = [u, w], [B, 2A] -> [B, A]."""
    u, w = noise.chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-u)) * torch.cos(2 * math.pi * w)


def noisy_action(mean: Tensor, noise: Tensor, config: Config) -> Tensor:
    """clip(mean + clip(N(0, policy_noise^2), +-noise_clip), +-1): [B, A]."""
    limit: float = config["noise_clip"]
    scale: float = config["policy_noise"]
    jitter = (scale * standard_normal(noise)).clamp(-limit, limit)
    return (mean + jitter).clamp(-1.0, 1.0)


def critic_target(
    batch: Batch, policy_target: MLP, targets: Sequence[Critic], config: Config
) -> Tensor:
    """y = r + gamma (1 - T) (min_i Qbar_i(s', a~') - beta2 |a~' - a'_data|^2): [B]."""
    rows = batch["background"]
    with torch.no_grad():
        mean = torch.tanh(policy_target(rows["next_obs"]))
        action = noisy_action(mean, batch["noise"], config)
        penalty = ((action - rows["next_action"]) ** 2).sum(dim=1)
        after = smallest_q(targets, rows["next_obs"], action) - config["critic_penalty"] * penalty
        return bootstrapped(rows, after, config)


def critic_loss(batch: Batch, y: Tensor, critics: Sequence[Critic]) -> Tensor:
    """Sum over critics of the mean of (Q_i(s, a) - y)^2."""
    rows = batch["background"]
    errors = [((q_value(net, rows["obs"], rows["action"]) - y) ** 2).mean() for net in critics]
    return torch.stack(errors).sum()


def policy_loss(
    batch: Batch, policy: MLP, critics: Sequence[Critic], config: Config
) -> tuple[Tensor, Tensor]:
    """mean(beta1 |pi(s) - a|^2 - lambda min_i Q_i(s, pi(s))), and lambda.

    lambda: 1 / mean |min_i Q_i(s, pi(s))|, detached; 1 if normalizes_q is False.
    """
    rows = batch["background"]
    action = torch.tanh(policy(rows["obs"]))
    q = smallest_q(critics, rows["obs"], action)
    size = q.detach().abs().mean()
    scale = 1 / size if config["normalizes_q"] else torch.ones_like(size)
    penalty = ((action - rows["action"]) ** 2).sum(dim=1)
    return (config["policy_penalty"] * penalty - scale * q).mean(), scale
