"""Oracle of DILO: a value on pairs (s, s'), learned from triples (s, s', s'').

With y = gamma V(s', s'') - V(s, s') and f* the conjugate of chi2,
    L = (1 - l) E_B[V(s, s')] + l { beta E_E[f*(y)] + (1 - beta) E_B[f*(y) - y] }
    policy: -E_B[min(exp(tau V(s, s')), cap) log pi(a|s)]; the squared error of a deterministic
        policy is summed over action dimensions.
No triple ends in a terminal state.
Source: Sikchi et al. 2024, arXiv:2406.08805, and the authors' code. config["orthogonal"] False is
the setting of the VfO study (arXiv:2507.06701): true gradient, one net, no targets. True is the
authors': orthogonal gradient, twin nets, Polyak targets, and the policy's weight from V after its
step; otherwise it is from V before its step.

config keys in addition to those of parts: orthogonal, beta, residual_share (l),
inverse_temperature (tau), policy_learning_rate, policy_decay_updates (0: no decay); if orthogonal
also polyak and backward_share (eta).
"""

import math
from collections.abc import Callable, Iterable, Sequence

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
    copied_nets,
    frozen_copy,
    make_optimizer,
)

PairValue = Callable[[Tensor, Tensor], Tensor]  # (s, s') -> [B]


def run(
    nets: Nets, batches: Iterable[Batch], config: Config
) -> tuple[dict[str, list[tuple[Tensor, Tensor]]], History]:
    """Makes one joint value and policy update per batch; returns the trained nets and a history.

    nets: "policy", "value" and, if orthogonal, "value2".
    """
    names = ["value", "value2"] if config["orthogonal"] else ["value"]
    policy = MLP(nets["policy"], config)
    values = [MLP(nets[name], config) for name in names]
    targets = [frozen_copy(value) for value in values]
    optimizer = make_optimizer(values, config["learning_rate"], config)
    policy_optimizer = make_optimizer([policy], config["policy_learning_rate"], config)
    head = {**config, "sums_error": True}
    history: History = []
    for number, batch in enumerate(batches):
        rows = batch["background"]
        if not config["orthogonal"]:
            weight = policy_weight(values, rows, config)

        # Value: L, with the true or the orthogonal gradient.
        optimizer.zero_grad()
        if config["orthogonal"]:
            value_loss = orthogonal_backward(values, targets, batch, config)
        else:
            value_loss = true_loss(values[0], batch, config)
            torch.autograd.backward(value_loss)
        optimizer.step()
        if config["orthogonal"]:
            weight = policy_weight(values, rows, config)
            for target, value in zip(targets, values, strict=True):
                track_polyak(target, value, config)

        # Policy: -E_B[w log pi(a|s)].
        nll = -log_likelihood(policy(rows["obs"]), rows["action"], head)
        policy_loss = (weight * nll).mean()
        policy_optimizer.zero_grad()
        torch.autograd.backward(policy_loss)
        for group in policy_optimizer.param_groups:
            group["lr"] = policy_rate(number, config)
        policy_optimizer.step()
        history.append(
            {
                "value_loss": value_loss.item(),
                "policy_loss": policy_loss.item(),
                "weight_mean": weight.mean().item(),
            }
        )
    after = {name: value.layers() for name, value in zip(names, values, strict=True)}
    return {**copied_nets(nets), "policy": policy.layers(), **after}, history


def policy_weight(values: Sequence[MLP], rows: Rows, config: Config) -> Tensor:
    """min(exp(tau V(s, s')), cap) with the values as they are now: [B]."""
    with torch.no_grad():
        exponent = config["inverse_temperature"] * smallest(values)(rows["obs"], rows["next_obs"])
        return torch.exp(exponent.clamp(max=math.log(config["max_weight"])))


def conjugate(y: Tensor) -> Tensor:
    """The conjugate f* of chi2: f*(y) = y w - (w - 1)^2 with w = max(y / 2 + 1, 0)."""
    w = (y / 2 + 1).clamp(min=0)
    return y * w - (w - 1) ** 2


def pair_residual(rows: Rows, first: PairValue, second: PairValue, config: Config) -> Tensor:
    """y = gamma V(s', s'') - V(s, s'), V(s, s') from `first` and V(s', s'') from `second`: [B]."""
    gamma: float = config["gamma"]
    later = second(rows["next_obs"], rows["after_obs"])
    return gamma * later - first(rows["obs"], rows["next_obs"])


def residual_loss(batch: Batch, first: PairValue, second: PairValue, config: Config) -> Tensor:
    """l { beta E_E[f*(y)] + (1 - beta) E_B[f*(y)] - (1 - beta) E_B[y] }."""
    y_expert = pair_residual(batch["expert"], first, second, config)
    y_background = pair_residual(batch["background"], first, second, config)
    beta: float = config["beta"]
    share: float = config["residual_share"]
    loss = beta * conjugate(y_expert).mean() + (1 - beta) * conjugate(y_background).mean()
    return share * (loss - (1 - beta) * y_background.mean())


def linear_loss(batch: Batch, value: PairValue, config: Config) -> Tensor:
    """(1 - l) E_B[V(s, s')]; the authors' code uses it in place of the initial states' value."""
    rows = batch["background"]
    share: float = config["residual_share"]
    return (1 - share) * value(rows["obs"], rows["next_obs"]).mean()


def true_loss(value: MLP, batch: Batch, config: Config) -> Tensor:
    """L with gradients through both values (the VfO study's setting)."""
    online = value.pair_scalar
    return residual_loss(batch, online, online, config) + linear_loss(batch, online, config)


def smallest(values: Sequence[MLP]) -> PairValue:
    """The function (s, s') -> minimum over the heads' values."""

    def value(obs: Tensor, next_obs: Tensor) -> Tensor:
        heads = torch.stack([head.pair_scalar(obs, next_obs) for head in values])
        return heads.min(dim=0).values

    return value


def orthogonal_backward(
    values: Sequence[MLP], targets: Sequence[MLP], batch: Batch, config: Config
) -> Tensor:
    """Sets the gradients of all heads to (1 - kappa) g_f + g_b + g_linear.

    g_f is the gradient through V(s, s'), g_b the one through V(s', s'') times eta, each with the
    smaller target as the other value. Returns the forward loss plus the linear loss.
    """
    target = smallest(targets)
    online = [head.pair_scalar for head in values]
    count = len(values)
    forward = sum_of([residual_loss(batch, v, target, config) for v in online]) / count
    backward = sum_of([residual_loss(batch, target, v, config) for v in online]) / count
    linear = sum_of([linear_loss(batch, v, config) for v in online]) / count

    parameters = [parameter for head in values for parameter in head.parameters()]
    g_forward = torch.autograd.grad(forward, parameters)
    g_backward = torch.autograd.grad(config["backward_share"] * backward, parameters)
    g_linear = torch.autograd.grad(linear, parameters)
    kappa = overlap(g_forward, g_backward)
    for parameter, f, b, n in zip(parameters, g_forward, g_backward, g_linear, strict=True):
        parameter.grad = (1 - kappa) * f + b + n
    return forward + linear


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


def overlap(forward: Sequence[Tensor], backward: Sequence[Tensor]) -> Tensor:
    """kappa = <g_f, g_b> / max(<g_f, g_f>, 1e-10), with products over all parameters."""
    product = sum_of([(f * b).sum() for f, b in zip(forward, backward, strict=True)])
    square = sum_of([(f * f).sum() for f in forward])
    return product / square.clamp(min=1e-10)


def track_polyak(target: MLP, value: MLP, config: Config) -> None:
    """target <- (1 - p) target + p online."""
    share: float = config["polyak"]
    with torch.no_grad():
        for old, new in zip(target.parameters(), value.parameters(), strict=True):
            old.copy_((1 - share) * old + share * new)


def policy_rate(update_number: int, config: Config) -> float:
    """Learning rate at an update, counted from 0: half a cosine over policy_decay_updates updates.

    policy_decay_updates 0 means a constant rate.
    """
    rate: float = config["policy_learning_rate"]
    length: int = config["policy_decay_updates"]
    if length == 0:
        return rate
    return rate * 0.5 * (1 + math.cos(math.pi * min(update_number / length, 1)))
