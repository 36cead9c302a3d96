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


# Discretised actions (section 2.3).


def bin_centres(num_bins: int) -> Tensor:
    """c_k = -1 + 2k/(K-1); -1 + 0.02 k for the 101 bins of the paper."""
    return -1.0 + 2.0 * torch.arange(num_bins, dtype=torch.float64) / (num_bins - 1)


def encode_action(action: Tensor, num_bins: int) -> Tensor:
    """Index of the nearest bin, halves upwards: clamp(floor(50 (a + 1) + 0.5), 0, 100)."""
    index = torch.floor((num_bins - 1) / 2 * (action + 1.0) + 0.5)
    return index.clamp(0, num_bins - 1).to(torch.int64)


def decode_action(index: Tensor, num_bins: int) -> Tensor:
    return bin_centres(num_bins)[index]


def gaussian_kernel(num_bins: int, kernel_width: float) -> Tensor:
    """G[i, m], a Gaussian of c_i - c_m cut at 4 sigma, rows summing to one (section 2.3).

    kernel_width: sigma in action units; 0 gives the identity.  Returns [K, K].
    """
    if kernel_width == 0:
        return torch.eye(num_bins, dtype=torch.float64)
    centre = bin_centres(num_bins)
    kernel = torch.exp(-((centre[:, None] - centre[None, :]) ** 2) / (2 * kernel_width**2))
    bin_width = 2.0 / (num_bins - 1)
    # Rounded first: 4 * 0.07 / 0.02 is 14.000000000000002 in floating point.
    radius = math.ceil(round(4 * kernel_width / bin_width, 9))
    index = torch.arange(num_bins)
    kernel[(index[:, None] - index[None, :]).abs() > radius] = 0.0
    return kernel / kernel.sum(dim=1, keepdim=True)


def soft_targets(action: Tensor, num_bins: int, kernel_width: float) -> Tensor:
    """q_m ~ exp(-(a - c_m)^2 / 2 sigma^2) around the un-rounded action (reading B): [B, a, K]."""
    if kernel_width == 0:
        one_hot = nn.functional.one_hot(encode_action(action, num_bins), num_bins)
        return one_hot.to(torch.float64)
    distance = action[:, :, None] - bin_centres(num_bins)
    return torch.softmax(-(distance**2) / (2 * kernel_width**2), dim=-1)


def binned_log_likelihood(output: Tensor, action: Tensor, config: Config) -> Tensor:
    """log pi(a|s), summed over action dimensions (section 2.3, readings A, B and C).

    output: raw head output, [B, a * K], action-dimension-major.  action: in [-1, 1], [B, a].
    Reading B returns sum_m q_m log p_m, which is the negative of its loss.  Returns [B].
    """
    num_bins: int = config["num_bins"]
    width: float = config["kernel_width"]
    raw = output.reshape(action.shape[0], action.shape[1], num_bins)
    chosen = encode_action(action, num_bins)[:, :, None]
    kernel = gaussian_kernel(num_bins, width)
    if config["kernel_reading"] == "logits":
        log_p = torch.log_softmax(torch.einsum("im,bam->bai", kernel, raw), dim=-1)
        return log_p.gather(-1, chosen)[:, :, 0].sum(dim=1)
    if config["kernel_reading"] == "targets":
        log_p = torch.log_softmax(raw, dim=-1)
        return (soft_targets(action, num_bins, width) * log_p).sum(dim=(1, 2))
    if config["kernel_reading"] == "probs":
        p = torch.einsum("mi,bam->bai", kernel, torch.softmax(raw, dim=-1))
        return p.gather(-1, chosen)[:, :, 0].log().sum(dim=1)
    raise ValueError(f"kernel_reading: logits, targets or probs, not {config['kernel_reading']}")


# Continuous action heads (sections 4.1, 4.3 and 4.4) and the choice among all heads.


def deterministic_log_likelihood(output: Tensor, action: Tensor) -> Tensor:
    """In the place of log pi: minus the mean over dimensions of (tanh(output) - a)^2: [B]."""
    return -((torch.tanh(output) - action) ** 2).mean(dim=1)


def gaussian_moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation before the tanh, [B, a] each, from outputs [B, 2a].

    Means come first, limited to +-7.24; then log standard deviations, limited to [-5, 2].
    """
    mean, log_std = output.chunk(2, dim=1)
    return mean.clamp(-7.24, 7.24), log_std.clamp(-5.0, 2.0).exp()


def tanh_normal_log_density(pre_tanh: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log pi(tanh(u)|s) = sum of log N(u; mean, std) - log(1 - tanh(u)^2 + 1e-6): [B, a] -> [B]."""
    log_normal: Tensor = torch.distributions.Normal(mean, std).log_prob(pre_tanh)
    return (log_normal - torch.log(1 - torch.tanh(pre_tanh) ** 2 + 1e-6)).sum(dim=1)


def gaussian_log_likelihood(output: Tensor, action: Tensor) -> Tensor:
    """log pi(a|s) of the tanh-Normal, with a moved to at most 1 - 1e-6 in size: [B]."""
    mean, std = gaussian_moments(output)
    inside = action.clamp(-1 + 1e-6, 1 - 1e-6)
    return tanh_normal_log_density(torch.atanh(inside), mean, std)


def log_likelihood(output: Tensor, action: Tensor, config: Config) -> Tensor:
    """log pi(a|s) under config's head; "deterministic" returns the negative of its loss: [B]."""
    head = config.get("policy_head", "binned")
    if head == "binned":
        return binned_log_likelihood(output, action, config)
    if head == "deterministic":
        return deterministic_log_likelihood(output, action)
    if head == "gaussian":
        return gaussian_log_likelihood(output, action)
    raise ValueError(f"policy_head: binned, deterministic or gaussian, not {head}")


def likeliest_action(output: Tensor, config: Config) -> Tensor:
    """Mode per action dimension, the lowest bin on ties; tanh(mean) of the other heads: [B, a]."""
    head = config.get("policy_head", "binned")
    if head == "deterministic":
        return torch.tanh(output)
    if head == "gaussian":
        return torch.tanh(gaussian_moments(output)[0])
    num_bins: int = config["num_bins"]
    raw = output.reshape(output.shape[0], -1, num_bins)
    kernel = gaussian_kernel(num_bins, config["kernel_width"])
    score = {
        "logits": torch.einsum("im,bam->bai", kernel, raw),
        "targets": raw,
        "probs": torch.einsum("mi,bam->bai", kernel, torch.softmax(raw, dim=-1)),
    }[config["kernel_reading"]]
    index = (score == score.max(dim=-1, keepdim=True).values).to(torch.int64).argmax(dim=-1)
    return decode_action(index, num_bins)


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
