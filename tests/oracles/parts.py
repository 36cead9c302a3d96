"""Naive pieces shared by the oracles: nets from given weights, encoder, bins, kernel, losses.

Sections are those of the methods specification; VfO is arXiv:2507.06701. Everything is float64.

config keys: gamma, temperature (lambda), alpha, max_weight, target_period, absorbing,
advantage_bootstrap ("target" | "online"), learning_rate, weight_decay, decoupled_weight_decay,
encoder_scales (empty: no encoder), activation ("relu" | "elu" | "silu" | "tanh"), num_bins,
kernel_width (sigma, 0: none), kernel_reading ("logits" | "targets" | "probs"), disc_reward_at
("next" | "current"), disc_loss ("flat" | "pu"), pu_prior, disc_learning_rate, batch_mode
("halves" | "bernoulli").  Keys that may be missing: standardize_obs (with obs_mean and obs_std,
[d] each), policy_head ("binned" | "deterministic" | "gaussian", missing: "binned"; only "binned"
reads num_bins and the kernel), disc_activation (missing: activation).
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


# Nets (sections 2.1 and 2.2).


def encode_obs(obs: Tensor, scales: Sequence[float]) -> Tensor:
    """Multi-scale encoding phi(x)[i, k] = tanh(c_k x_i), flattened feature-major (section 2.2).

    obs: [B, d].  scales: c_k.  Returns [B, d * len(scales)], or obs itself without scales.
    """
    if len(scales) == 0:
        return obs
    columns = [torch.tanh(scale * obs[:, i]) for i in range(obs.shape[1]) for scale in scales]
    return torch.stack(columns, dim=1)


class MLP(nn.Module):
    """Encoder and plain MLP holding given weights; activation after every layer but the last."""

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
        """The input of the first layer: standardised where config says so, then encoded."""
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
        """Output for a pair (s, s'), which enters as [encode(s), encode(s')]."""
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
        """Copies of the weights, in the layout they were given in."""
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
    """nets["discriminator"] with disc_activation in place of activation, where that is given."""
    activation = config.get("disc_activation", config["activation"])
    return MLP(nets["discriminator"], {**config, "activation": activation})


def track_target(target: MLP, net: MLP, update_number: int, config: Config) -> None:
    """Hard copy after updates target_period, 2 target_period, ... (section 3.4)."""
    if update_number % config["target_period"] == 0:
        target.load_state_dict(net.state_dict())


def make_optimizer(modules: Iterable[nn.Module], rate: float, config: Config) -> torch.optim.Adam:
    """Adam with torch's betas and eps; decay is AdamW's or an L2 term (section 3.6)."""
    kind = torch.optim.AdamW if config["decoupled_weight_decay"] else torch.optim.Adam
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return kind(parameters, lr=rate, weight_decay=config["weight_decay"])


# Value target and weighted cloning (sections 3.3, 3.5 and 3.6).


def bellman_target(reward: Tensor, terminal: Tensor, next_value: Tensor, config: Config) -> Tensor:
    """y = r + gamma v(s'); at a terminal r / (1 - gamma) if absorbing, else r (section 3.5).

    reward, terminal, next_value: [B].  Returns [B].
    """
    gamma: float = config["gamma"]
    at_terminal = reward / (1 - gamma) if config["absorbing"] else reward
    return torch.where(terminal == 1, at_terminal, reward + gamma * next_value)


def advantage(rows: Rows, reward: Tensor, value: MLP, target: MLP, config: Config) -> Tensor:
    """A = y - v(s), s from the online net, s' from the target or the online net (section 3.3)."""
    with torch.no_grad():
        next_net = {"target": target, "online": value}[config["advantage_bootstrap"]]
        next_value = next_net.scalar(rows["next_obs"])
        y = bellman_target(reward, rows["terminal"], next_value, config)
        return y - value.scalar(rows["obs"])


def weighted_cloning(
    rows: Rows, reward: Tensor, policy: MLP, value: MLP, target: MLP, config: Config
) -> tuple[Tensor, dict[str, float]]:
    """L_pi = -E_B[w log pi(a|s)], w = min(exp(A / lambda), max_weight) (sections 3.3 and 3.6).

    Returns the loss and its statistics over the rows; all are 0 where there is no row.
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
