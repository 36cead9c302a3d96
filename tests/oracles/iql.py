"""Oracle of IQL: expectile value, two critics, advantage-weighted Gaussian policy.

    value: E[|tau - 1(u < 0)| u^2] with u = min_i Qbar_i(s, a) - V(s)
    critics: mean (or sum) over i of E[(r + gamma (1 - T) V(s') - Q_i(s, a))^2]
    policy: -E[min(exp(beta u), cap) log pi(a|s)], or with a deterministic policy the squared error,
        summed over action dimensions, in place of -log pi
Source: Kostrikov et al. 2021, arXiv:2110.06169. Where the paper gives no details: Adam with torch's
betas and eps and no weight decay, one per net; log_std is trained with the policy. V in the
critics' target and in the policy's weight is the one before its step, as in CORL, or with
value_first the one after it, as in the authors' code (github.com/ikostrikov/implicit_q_learning).

config keys: gamma, expectile, inverse_temperature (beta), max_weight, polyak, learning_rate,
policy_decay_updates (0: constant rate), policy_dropout (0: none).  Keys that may be missing:
standardize_obs (with obs_mean and obs_std, [d] each; obs enters as (obs - mean) / std),
encoder_scales (missing: none), activation (missing: "relu"), absorbing (missing: False),
policy_head ("normal" | "deterministic", missing: "normal"), value_first, sums_critic_errors and
narrow_log_std (missing: False).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .parts import MLP, Batch, Config, History, Layers, Nets, Rows, copied_nets, frozen_copy

LOG_STD_RANGE = (-20.0, 2.0)
NARROW_RANGE = (-5.0, 2.0)  # with narrow_log_std


def run(
    nets: Nets, batches: Iterable[Batch], config: Config, log_std: Tensor | None = None
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], Tensor, History]:
    """Makes one update of value, critics, targets and policy per batch, in this order.

    nets: "value" on obs; "critic" and "twin" on [obs, action]; "policy" on obs, the mean before
    its tanh.  "critic_target" and "twin_target" are copies of the critics if missing.
    batches: "background" rows and, with dropout, "noise" [B, sum of the policy's hidden widths].
    log_std: [A], zeros if None.
    Returns the six nets afterwards, the unclamped log_std [A], and each update's losses.
    """
    config = with_defaults(config)
    value, policy = MLP(nets["value"], config), MLP(nets["policy"], config)
    critics = {name: MLP(nets[name], config) for name in ("critic", "twin")}
    given = {name: nets.get(f"{name}_target", nets[name]) for name in critics}
    targets = {name: frozen_copy(MLP(layers, config)) for name, layers in given.items()}
    deviation = nn.Parameter(initial_log_std(nets["policy"], log_std))
    rate: float = config["learning_rate"]
    value_optimizer = torch.optim.Adam(value.parameters(), lr=rate)
    critic_optimizers = [torch.optim.Adam(net.parameters(), lr=rate) for net in critics.values()]
    policy_optimizer = torch.optim.Adam([*policy.parameters(), deviation], lr=rate)
    history: History = []
    for number, batch in enumerate(batches):
        rows = batch["background"]

        # V(s') of the critics' target, before V's step.
        with torch.no_grad():
            next_value = value.scalar(rows["next_obs"])

        # Value: E[|tau - 1(u < 0)| u^2], u = min_i Qbar_i(s, a) - V(s).
        q = smallest_q(targets.values(), rows)
        u = q - value.scalar(rows["obs"])
        value_loss = expectile_loss(u, config["expectile"])
        step([value_optimizer], value_loss)
        if config.get("value_first", False):
            with torch.no_grad():
                next_value = value.scalar(rows["next_obs"])
                u = q - value.scalar(rows["obs"])

        # Critics: mean over i of E[(y - Q_i(s, a))^2]; then Qbar <- (1 - p) Qbar + p Q.
        critic_loss = residual_loss(rows, next_value, critics.values(), config)
        step(critic_optimizers, critic_loss)
        for name, net in critics.items():
            track_polyak(targets[name], net, config["polyak"])

        # Policy: -E[min(exp(beta u), cap) log pi(a|s)].
        policy_loss, statistics = cloning_loss(batch, u.detach(), policy, deviation, config)
        for group in policy_optimizer.param_groups:
            group["lr"] = policy_rate(number, config)
        step([policy_optimizer], policy_loss)
        statistics |= {"value_loss": value_loss.item(), "critic_loss": critic_loss.item()}
        history.append(statistics)
    trained = {"value": value, "policy": policy, **critics}
    trained |= {f"{name}_target": target for name, target in targets.items()}
    after = {name: net.layers() for name, net in trained.items()}
    return {**copied_nets(nets), **after}, deviation.detach().clone(), history


def with_defaults(config: Config) -> Mapping[str, Any]:
    """The config with the keys that parts.MLP reads: ReLU and no encoder if missing."""
    return {"activation": "relu", "encoder_scales": (), **config}


def initial_log_std(policy: Layers, log_std: Tensor | None) -> Tensor:
    """A copy of log_std, or zeros: one entry per action dimension, [A]."""
    if log_std is None:
        return torch.zeros(policy[-1][1].shape[0], dtype=torch.float64)
    return log_std.detach().to(torch.float64).clone()


def q_value(critic: MLP, obs: Tensor, action: Tensor) -> Tensor:
    """Q(s, a) of a net on [encode(s), a].  obs: [B, d].  action: [B, A].  Returns [B]."""
    output = critic.on_encoded(torch.cat([critic.encode(obs), action], dim=1))
    assert output.shape == (obs.shape[0], 1)
    return output[:, 0]


def smallest_q(targets: Iterable[MLP], rows: Rows) -> Tensor:
    """min_i Qbar_i(s, a) without a gradient: [B]."""
    with torch.no_grad():
        heads = [q_value(target, rows["obs"], rows["action"]) for target in targets]
        return torch.stack(heads).min(dim=0).values


def residual_loss(rows: Rows, next_value: Tensor, critics: Iterable[MLP], config: Config) -> Tensor:
    """Mean over critics (or sum) and rows of (y - Q_i(s, a))^2, with y from `bootstrapped`."""
    y = bootstrapped(rows, next_value, config)
    errors = [((y - q_value(net, rows["obs"], rows["action"])) ** 2).mean() for net in critics]
    stacked = torch.stack(errors)
    return stacked.sum() if config.get("sums_critic_errors", False) else stacked.mean()


def bootstrapped(rows: Rows, after: Tensor, config: Config) -> Tensor:
    """r + gamma (1 - T) after; with absorbing, r / (1 - gamma) where T is 1: [B]."""
    gamma: float = config["gamma"]
    y: Tensor = rows["reward"] + gamma * (1 - rows["terminal"]) * after
    if config.get("absorbing", False):
        y = torch.where(rows["terminal"] == 1, rows["reward"] / (1 - gamma), y)
    return y


def expectile_loss(u: Tensor, expectile: float) -> Tensor:
    """Mean of |tau - 1(u < 0)| u^2: [B] -> []."""
    share = (expectile - (u < 0).to(torch.float64)).abs()
    return (share * u**2).mean()


def policy_weight(u: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """min(exp(beta u), cap) and whether it is capped: [B] -> [B], [B] bool."""
    exponent = config["inverse_temperature"] * u
    largest = math.log(config["max_weight"])
    return torch.exp(exponent.clamp(max=largest)), exponent >= largest


def cloning_loss(
    batch: Batch, u: Tensor, policy: MLP, log_std: Tensor, config: Config
) -> tuple[Tensor, dict[str, float]]:
    """-E[min(exp(beta u), cap) log pi(a|s)] and its statistics.  u: detached, [B]."""
    rows = batch["background"]
    weight, is_capped = policy_weight(u, config)
    mean = policy_mean(policy, rows["obs"], batch.get("noise"), config["policy_dropout"])
    if config.get("policy_head", "normal") == "deterministic":
        error = ((mean - rows["action"]) ** 2).sum(dim=1)
    else:
        limits = NARROW_RANGE if config.get("narrow_log_std", False) else LOG_STD_RANGE
        error = -log_density(mean, log_std.clamp(*limits), rows["action"])
    loss = (weight * error).mean()
    return loss, {
        "policy_loss": loss.item(),
        "weight_mean": weight.mean().item(),
        "clip_fraction": is_capped.to(torch.float64).mean().item(),
        "advantage_mean": u.mean().item(),
    }


def policy_mean(
    policy: MLP, obs: Tensor, noise: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """tanh of the net's output, with dropout after the activation of every hidden layer: [B, A].

    obs: [B, d].  noise: uniform numbers, [B, sum of hidden widths], the first layer's first; a
    unit is kept and divided by 1 - dropout if its number is at least dropout, else it is 0.
    """
    hidden = policy.encode(obs)
    used = 0
    for linear in policy.linears[:-1]:
        hidden = policy.activation(linear(hidden))
        if dropout > 0:
            assert noise is not None
            width = hidden.shape[1]
            is_kept = noise[:, used : used + width] >= dropout
            hidden = hidden * is_kept.to(torch.float64) / (1 - dropout)
            used += width
    assert noise is None or dropout == 0 or noise.shape == (obs.shape[0], used)
    return torch.tanh(policy.linears[-1](hidden))


def log_density(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """log N(a; mean, exp(log_std)^2), summed over dimensions, without squashing: [B, A] -> [B]."""
    limited = log_std.clamp(*LOG_STD_RANGE)
    square = ((action - mean) / limited.exp()) ** 2
    return (-0.5 * square - limited - 0.5 * math.log(2 * math.pi)).sum(dim=1)


def act(policy: MLP, obs: Tensor) -> Tensor:
    """The action of evaluation, the policy's mean without dropout: [B, A]."""
    return policy_mean(policy, obs)


def step(optimizers: Iterable[torch.optim.Optimizer], loss: Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    for optimizer in optimizers:
        optimizer.step()


def track_polyak(target: nn.Module, net: nn.Module, share: float) -> None:
    """target <- (1 - share) target + share net, over all parameters."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), net.parameters(), strict=True):
            old.copy_((1 - share) * old + share * new)


def policy_rate(update_number: int, config: Config) -> float:
    """Learning rate at an update, counted from 0: half a cosine over policy_decay_updates updates.

    policy_decay_updates 0 means a constant rate.
    """
    rate: float = config["learning_rate"]
    length: int = config["policy_decay_updates"]
    if length == 0:
        return rate
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, update_number / length)))
