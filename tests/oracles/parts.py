"""Naive parts that the oracles share: nets from given weights, encoder, targets, weighted cloning.

Everything is float64. Source: arXiv:2507.06701, unless an oracle says otherwise.

config keys: gamma, temperature (lambda), alpha, max_weight, target_period, absorbing,
advantage_bootstrap ("target" | "online"), learning_rate, weight_decay, decoupled_weight_decay,
encoder_scales (empty: no encoder), activation ("relu" | "elu" | "silu" | "tanh"), disc_reward_at
("next" | "current"), disc_loss ("flat" | "pu"), pu_prior, disc_learning_rate, batch_mode
("halves" | "bernoulli"), and those of heads.  Keys that may be missing: standardize_obs (with
obs_mean and obs_std, [d] each), disc_activation (missing: activation).
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .heads import log_likelihood

Config = Mapping[str, Any]
Layers = Sequence[tuple[Tensor, Tensor]]  # (weight [in, out], bias [out]) per layer
Nets = Mapping[str, Layers]
# obs [B, d], next_obs [B, d], after_obs [B, d], terminal [B], action [B, a], reward [B]
Rows = Mapping[str, Tensor]
Batch = Mapping[str, Any]  # "background": Rows, "expert": Rows, "is_background": [B]
History = list[dict[str, float]]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "elu": nn.functional.elu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}


# Nets.


def encode_obs(obs: Tensor, scales: Sequence[float]) -> Tensor:
    """Multi-scale encoding phi(x)[i, k] = tanh(c_k x_i), flattened feature-major.

    obs: [B, d].  scales: c_k.  Returns [B, d * len(scales)], or obs unchanged without scales.
    """
    if len(scales) == 0:
        return obs
    columns = [torch.tanh(scale * obs[:, i]) for i in range(obs.shape[1]) for scale in scales]
    return torch.stack(columns, dim=1)


class MLP(nn.Module):
    """An encoder and an MLP with given weights; the activation follows every layer but the last."""

    def __init__(self, layers: Layers, config: Config) -> None:
        super().__init__()
        self.scales: tuple[float, ...] = tuple(config["encoder_scales"])
        self.activation = ACTIVATIONS[config["activation"]]
        self.moments: tuple[Tensor, Tensor] | None = None
        if config.get("standardize_obs"):
            mean, std = (
                torch.as_tensor(config[key], dtype=torch.float64) for key in ("obs_mean", "obs_std")
            )
            self.moments = mean, std
        self.linears = nn.ModuleList()
        for weight, bias in layers:
            linear = nn.Linear(weight.shape[0], weight.shape[1], dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(weight.T)
                linear.bias.copy_(bias)
            self.linears.append(linear)

    def encode(self, obs: Tensor) -> Tensor:
        """The first layer's input: obs, standardised if standardize_obs is set, then encoded."""
        if self.moments is not None:
            mean, std = self.moments
            obs = (obs - mean) / std
        return encode_obs(obs, self.scales)

    def on_encoded(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for index, linear in enumerate(self.linears):
            hidden = linear(hidden)
            if index + 1 < len(self.linears):
                hidden = self.activation(hidden)
        return hidden

    def forward(self, obs: Tensor) -> Tensor:
        return self.on_encoded(self.encode(obs))

    def pair(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """The output for a pair (s, s'), whose input is [encode(s), encode(s')]."""
        return self.on_encoded(torch.cat([self.encode(obs), self.encode(next_obs)], dim=1))

    def pair_scalar(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """The single output of a value net on pairs: [B, d] twice -> [B]."""
        output = self.pair(obs, next_obs)
        assert output.shape == (obs.shape[0], 1)
        return output[:, 0]

    def scalar(self, obs: Tensor) -> Tensor:
        """The single output of a value net or a discriminator: [B, d] -> [B]."""
        output = self.forward(obs)
        assert output.shape == (obs.shape[0], 1)
        return output[:, 0]

    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Copies of the weights in the layout of the constructor's argument."""
        pairs = []
        for linear in self.linears:
            assert isinstance(linear, nn.Linear)
            weight, bias = linear.weight.detach(), linear.bias.detach()
            pairs.append((weight.T.clone().contiguous(), bias.clone()))
        return pairs


def copied_nets(nets: Nets) -> dict[str, list[tuple[Tensor, Tensor]]]:
    return {name: [(w.clone(), b.clone()) for w, b in layers] for name, layers in nets.items()}


def frozen_copy(net: MLP) -> MLP:
    return copy.deepcopy(net).requires_grad_(False)


def discriminator_net(nets: Nets, config: Config) -> MLP:
    """nets["discriminator"] with the activation disc_activation, or activation if it is missing."""
    activation = config.get("disc_activation", config["activation"])
    return MLP(nets["discriminator"], {**config, "activation": activation})


def track_target(target: MLP, net: MLP, update_number: int, config: Config) -> None:
    """Copies the net after updates target_period, 2 target_period, ...

    update_number: the number of updates made, 1 after the first.
    """
    if update_number % config["target_period"] == 0:
        target.load_state_dict(net.state_dict())


def make_optimizer(modules: Iterable[nn.Module], rate: float, config: Config) -> torch.optim.Adam:
    """Adam with torch's betas and eps and AdamW's weight decay, or an L2 term if not decoupled."""
    kind = torch.optim.AdamW if config["decoupled_weight_decay"] else torch.optim.Adam
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return kind(parameters, lr=rate, weight_decay=config["weight_decay"])


# Value target and weighted cloning.


def bellman_target(reward: Tensor, terminal: Tensor, next_value: Tensor, config: Config) -> Tensor:
    """y = r + gamma v(s'); at a terminal r / (1 - gamma) if absorbing, else r.

    reward, terminal, next_value: [B].  Returns [B].
    """
    gamma: float = config["gamma"]
    at_terminal = reward / (1 - gamma) if config["absorbing"] else reward
    return torch.where(terminal == 1, at_terminal, reward + gamma * next_value)


def advantage(rows: Rows, reward: Tensor, value: MLP, target: MLP, config: Config) -> Tensor:
    """A = y - v(s): v(s) from the online net, v(s') from the target or the online net, [B]."""
    with torch.no_grad():
        next_net = {"target": target, "online": value}[config["advantage_bootstrap"]]
        next_value = next_net.scalar(rows["next_obs"])
        y = bellman_target(reward, rows["terminal"], next_value, config)
        return y - value.scalar(rows["obs"])


def weighted_cloning(
    rows: Rows, reward: Tensor, policy: MLP, value: MLP, target: MLP, config: Config
) -> tuple[Tensor, dict[str, float]]:
    """L_pi = -E_B[w log pi(a|s)] with w = min(exp(A / lambda), max_weight).

    Returns the loss and its statistics over the rows; all are 0 if there are no rows.
    """
    count = max(1, rows["obs"].shape[0])
    adv = advantage(rows, reward, value, target, config)
    exponent = adv / config["temperature"]
    largest = math.log(config["max_weight"])
    weight = torch.exp(exponent.clamp(max=largest))
    nll = -log_likelihood(policy(rows["obs"]), rows["action"], config)
    loss = (weight * nll).sum() / count
    with torch.no_grad():
        value_mean = (value.scalar(rows["obs"]).sum() / count).item()
    return loss, {
        "policy_loss": loss.item(),
        "weight_mean": (weight.sum() / count).item(),
        "clip_fraction": int((exponent >= largest).sum()) / count,
        "advantage_mean": (adv.sum() / count).item(),
        "value_mean_background": value_mean,
    }
