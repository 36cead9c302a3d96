"""Oracles of VfO-bin and VfO-disc and of their discriminator.

    value: L_v = (1 - alpha) E_E[(y - v(s))^2] + alpha E_B[(y - v(s))^2], y = r + gamma v'(s')
    policy: L_pi = -E_B[min(exp((y - v(s)) / lambda), cap) log pi(a|s)]
The reward r is 1 for expert and 0 for background rows (bin), or the fixed discriminator's output
for both (disc). Expert rows have no actions, so the policy loss reads background rows only.
Source: arXiv:2507.06701; discriminator: Zolna et al. 2020, arXiv:2011.13885.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .parts import (
    MLP,
    Batch,
    Config,
    History,
    Nets,
    Rows,
    bellman_target,
    copied_nets,
    frozen_copy,
    make_optimizer,
    track_target,
    weighted_cloning,
)

Reward = Callable[[Rows, bool], Tensor]  # (rows, whether they are expert rows) -> [B]
Trained = tuple[dict[str, list[tuple[Tensor, Tensor]]], History]


def run_bin(nets: Nets, batches: Iterable[Batch], config: Config) -> Trained:
    """Runs VfO-bin, one joint update per batch; returns the trained nets and a history."""

    def reward(rows: Rows, is_expert: bool) -> Tensor:
        value = 1.0 if is_expert else 0.0
        return torch.full((rows["obs"].shape[0],), value, dtype=torch.float64)

    return run(nets, batches, config, reward)


def run_disc(nets: Nets, batches: Iterable[Batch], config: Config) -> Trained:
    """Runs VfO-disc with nets["discriminator"], which is trained already and stays fixed."""
    discriminator = frozen_copy(MLP(nets["discriminator"], config))
    column = {"next": "next_obs", "current": "obs"}[config["disc_reward_at"]]

    def reward(rows: Rows, is_expert: bool) -> Tensor:
        return torch.sigmoid(discriminator.scalar(rows[column]))

    return run(nets, batches, config, reward)


def run(nets: Nets, batches: Iterable[Batch], config: Config, reward: Reward) -> Trained:
    policy, value = MLP(nets["policy"], config), MLP(nets["value"], config)
    target = frozen_copy(value)
    optimizer = make_optimizer([policy, value], config["learning_rate"], config)
    history: History = []
    for number, batch in enumerate(batches, start=1):
        expert, background = drawn_rows(batch, config)

        # Value: L_v = (1 - alpha) E_E[(y - v(s))^2] + alpha E_B[(y - v(s))^2].
        expert_residual = residual(expert, reward(expert, True), value, target, config)
        background_residual = residual(background, reward(background, False), value, target, config)
        value_loss = mixed_square(expert_residual, background_residual, config)

        # Policy: L_pi = -E_B[w log pi(a|s)].
        rows: Rows = batch.get("policy", background)  # its own rows, if the batch has them
        policy_loss, statistics = weighted_cloning(
            rows, reward(rows, False), policy, value, target, config
        )

        optimizer.zero_grad()
        torch.autograd.backward(value_loss + policy_loss)
        optimizer.step()
        track_target(target, value, number, config)
        history.append({"value_loss": value_loss.item(), **statistics})
    return {**copied_nets(nets), "policy": policy.layers(), "value": value.layers()}, history


def drawn_rows(batch: Batch, config: Config) -> tuple[Rows, Rows]:
    """The expert and background rows of a batch under config["batch_mode"].

    "halves" takes all rows of both. "bernoulli" takes row i of the background if is_background[i],
    else of the expert.  Raises ValueError for another mode.
    """
    expert: Rows = batch["expert"]
    background: Rows = batch["background"]
    if config["batch_mode"] == "halves":
        return expert, background
    if config["batch_mode"] != "bernoulli":
        raise ValueError(f"batch_mode: halves or bernoulli, not {config['batch_mode']}")
    is_background = batch["is_background"] == 1
    return (
        {name: column[~is_background] for name, column in expert.items()},
        {name: column[is_background] for name, column in background.items()},
    )


def residual(rows: Rows, reward: Tensor, value: MLP, target: MLP, config: Config) -> Tensor:
    """y - v(s), where y uses the target copy and is detached: [B]."""
    with torch.no_grad():
        next_value = target.scalar(rows["next_obs"])
        y = bellman_target(reward, rows["terminal"], next_value, config)
    return y - value.scalar(rows["obs"])


def mixed_square(expert: Tensor, background: Tensor, config: Config) -> Tensor:
    """(1 - alpha) E_E[r^2] + alpha E_B[r^2] of residuals r; in "bernoulli" mode their mean r^2."""
    if config["batch_mode"] == "bernoulli":
        return (torch.cat([expert, background]) ** 2).mean()
    alpha: float = config["alpha"]
    return (1 - alpha) * (expert**2).mean() + alpha * (background**2).mean()


def discriminator_loss(expert_logit: Tensor, background_logit: Tensor, config: Config) -> Tensor:
    """Loss of d = sigmoid(logit), the probability that a state is the expert's.

    flat: E_E[-log d] + E_B[-log(1 - d)].
    pu:   eta E_E[-log d] + max(0, E_B[-log(1 - d)] - eta E_E[-log(1 - d)]).
    Raises ValueError for another disc_loss.
    """
    # Not softplus: torch's is linear above 20, which is wrong by 2e-9.
    expert_as_expert = -logsigmoid(expert_logit).mean()
    expert_as_background = -logsigmoid(-expert_logit).mean()
    background_as_background = -logsigmoid(-background_logit).mean()
    if config["disc_loss"] == "flat":
        return expert_as_expert + background_as_background
    if config["disc_loss"] != "pu":
        raise ValueError(f"disc_loss: flat or pu, not {config['disc_loss']}")
    prior: float = config["pu_prior"]
    negative = background_as_background - prior * expert_as_background
    return prior * expert_as_expert + negative.clamp(min=0)


def train_discriminator(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], list[float]]:
    """Makes one update per batch on the current observations of all its rows.

    Returns the trained nets and each update's loss, computed before its step.
    """
    discriminator = MLP(nets["discriminator"], config)
    optimizer = make_optimizer([discriminator], config["disc_learning_rate"], config)
    losses = []
    for batch in batches:
        expert_logit = discriminator.scalar(batch["expert"]["obs"])
        background_logit = discriminator.scalar(batch["background"]["obs"])
        loss = discriminator_loss(expert_logit, background_logit, config)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return {**copied_nets(nets), "discriminator": discriminator.layers()}, losses
