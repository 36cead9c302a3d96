"""Oracle of TGE's diffusion model: temporal U-Net, noise schedule, masked loss, windows.

The net has channels [B, C, T] in and out. Everything is float64.
Source: arXiv:2601.00452; net and training: Diffuser (Janner et al. 2022, arXiv:2205.09991);
schedule: Nichol & Dhariwal 2021, arXiv:2102.09672.

config keys of run: obs_dim, diffusion_steps, learning_rate, ema_decay, ema_every, ema_start.
"""

import copy
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NUM_GROUPS = 8
OFFSET = 0.008
LARGEST_BETA = 0.999

# "windows" [B, T, obs + act], "mask" [B], "k" [B] integers, "eps" [B, T, obs + act or more]
Draw = Mapping[str, Tensor]


class ConvBlock(nn.Module):
    """Conv1d k=5 -> GroupNorm 8 -> Mish: [B, inputs, T] -> [B, outputs, T]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 5, padding=2)
        self.norm = nn.GroupNorm(NUM_GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.norm(self.conv(x))
        return nn.functional.mish(hidden)


class ResidualBlock(nn.Module):
    """Two ConvBlocks with the embedded time added in between; 1x1 skip if the width changes."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.first = ConvBlock(inputs, outputs)
        self.second = ConvBlock(outputs, outputs)
        self.time = nn.Linear(time_width, outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x: [B, inputs, T].  time: [B, time_width].  Returns [B, outputs, T]."""
        added = self.time(nn.functional.mish(time))[:, :, None]
        hidden = self.second(self.first(x) + added)
        output: Tensor = hidden + self.skip(x)
        return output


class TimeEmbedding(nn.Module):
    """Sinusoidal(width) -> Linear 4 width -> Mish -> Linear width: integer [B] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.expand = nn.Linear(width, 4 * width)
        self.reduce = nn.Linear(4 * width, width)

    def forward(self, k: Tensor) -> Tensor:
        output: Tensor = self.reduce(nn.functional.mish(self.expand(sinusoidal(k, self.width))))
        return output


def sinusoidal(k: Tensor, width: int) -> Tensor:
    """[sin(k f_i), cos(k f_i)], f_i = exp(-ln(10000) i / (half - 1)), half = width / 2."""
    half = width // 2
    index = torch.arange(half, dtype=torch.float64)
    angle = k.to(torch.float64)[:, None] * torch.exp(-math.log(10000.0) * index / (half - 1))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def level_lengths(horizon: int, num_levels: int) -> list[int]:
    """Rows per level; each level halves the length if it is even and above 1."""
    lengths = [horizon]
    for _ in range(num_levels - 1):
        last = lengths[-1]
        lengths.append(last // 2 if last % 2 == 0 and last > 1 else last)
    return lengths


class UNet(nn.Module):
    """Temporal U-Net with L levels.

    down[i]: the two residual blocks of level i; shrink[i]: from level i to level i + 1.
    up[j] and grow[j], j = 0, 1, ...: the same for levels L - 1, ..., 1; up[j] reads the skip of
    its level, grow[j] leads to the level above. shrink and grow are the identity if the length is
    not halved (see level_lengths).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        multipliers: Sequence[int],
        horizon: int,
        out_channels: int | None = None,
    ) -> None:
        """out_channels: channels of the output, those of the input if None."""
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        self.lengths = level_lengths(horizon, len(widths))
        halves = [a != b for a, b in itertools.pairwise(self.lengths)]
        self.time = TimeEmbedding(width)

        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(widths):
            self.down.append(block_pair([channels, *widths][level], outputs, width))
            is_halved = level + 1 < len(widths) and halves[level]
            conv = nn.Conv1d(outputs, outputs, 3, stride=2, padding=1) if is_halved else None
            self.shrink.append(conv or nn.Identity())

        self.middle = block_pair(widths[-1], widths[-1], width)

        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 1, 0, -1):
            outputs = widths[level - 1]
            self.up.append(block_pair(2 * widths[level], outputs, width))
            is_halved = halves[level - 1]
            tconv = nn.ConvTranspose1d(outputs, outputs, 4, 2, 1) if is_halved else None
            self.grow.append(tconv or nn.Identity())

        self.last = ConvBlock(widths[0], widths[0])
        self.output = nn.Conv1d(widths[0], out_channels or channels, 1)
        self.to(torch.float64)

    def encoded(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The bottleneck after the middle blocks, [B, widest, shortest], and each level's skip."""
        skips = []
        for pair, shrink in zip(self.down, self.shrink, strict=True):
            x = through(pair, x, time)
            skips.append(x)
            x = shrink(x)
        return through(self.middle, x, time), skips

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        """Predicted noise.  x: [B, C, T].  k: integer step, [B].  Returns [B, C, T]."""
        time = self.time(k)
        x, skips = self.encoded(x, time)
        for pair, grow in zip(self.up, self.grow, strict=True):
            x = grow(through(pair, torch.cat([x, skips.pop()], dim=1), time))
        output: Tensor = self.output(self.last(x))
        return output

    def embed(self, x: Tensor, normalizes: bool = True) -> Tensor:
        """Mean over time of the bottleneck at k = 0, on the unit sphere if normalizes.

        x: clean network input, [B, C, T].  Returns [B, widest].
        """
        k = torch.zeros(x.shape[0], dtype=torch.int64)
        mean = self.encoded(x, self.time(k))[0].mean(dim=2)
        return nn.functional.normalize(mean, dim=1) if normalizes else mean


def block_pair(inputs: int, outputs: int, time_width: int) -> nn.ModuleList:
    first = ResidualBlock(inputs, outputs, time_width)
    return nn.ModuleList([first, ResidualBlock(outputs, outputs, time_width)])


def through(pair: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    assert isinstance(pair, nn.ModuleList)
    for block in pair:
        x = block(x, time)
    return x


# Schedule, loss and training.


def alpha_bar(steps: int) -> Tensor:
    """Cosine schedule: the product of 1 - beta_i for i <= k, with beta_i at most 0.999, [steps]."""

    def curve(share: float) -> float:
        return math.cos((share + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2

    products, product = [], 1.0
    for k in range(steps):
        beta = min(1 - curve((k + 1) / steps) / curve(k / steps), LARGEST_BETA)
        product *= 1 - beta
        products.append(product)
    return torch.tensor(products, dtype=torch.float64)


def network_input(windows: Tensor, mask: Tensor, obs_dim: int) -> Tensor:
    """[obs, action, mask] as channels; in masked windows the action is 0 and the mask 1.

    windows: noisy or clean, [B, T, obs + act].  mask: 0 or 1, [B].  Returns [B, obs + act + 1, T].
    """
    inputs = torch.zeros(*windows.shape[:2], windows.shape[2] + 1, dtype=torch.float64)
    for i, is_masked in enumerate(mask.tolist()):
        inputs[i, :, :obs_dim] = windows[i, :, :obs_dim]
        if is_masked:
            inputs[i, :, -1] = 1.0
        else:
            inputs[i, :, obs_dim:-1] = windows[i, :, obs_dim:]
    return inputs.transpose(1, 2)


def loss(
    unet: nn.Module,
    windows: Tensor,
    mask: Tensor,
    k: Tensor,
    eps: Tensor,
    *,
    obs_dim: int,
    diffusion_steps: int,
) -> Tensor:
    """Mean of (eps - eps_theta)^2 over all obs entries and the actions of unmasked windows.

    windows: clean, [B, T, obs + act].  mask: 0 or 1, [B].  k: in 0, ..., diffusion_steps - 1, [B].
    eps: [B, T, C]. Only the first obs + act channels of eps and of the output are used.
    """
    size = windows.shape[2]
    level = alpha_bar(diffusion_steps)[k][:, None, None]
    eps = eps[:, :, :size]
    noisy = level.sqrt() * windows + (1 - level).sqrt() * eps
    predicted = unet(network_input(noisy, mask, obs_dim), k).transpose(1, 2)[:, :, :size]
    error = (eps - predicted) ** 2
    terms, count = [], 0
    for i, is_masked in enumerate(mask.tolist()):
        counted = error[i, :, :obs_dim] if is_masked else error[i]
        terms.append(counted.sum())
        count += counted.numel()
    return torch.stack(terms).sum() / count


def track_ema(
    ema: nn.Module, net: nn.Module, update_number: int, config: Mapping[str, Any]
) -> None:
    """Every ema_every updates: copies the net before update ema_start, then averages it.

    update_number: the number of updates made, 1 after the first.
    """
    if update_number % config["ema_every"] != 0:
        return
    decay: float = 0.0 if update_number < config["ema_start"] else config["ema_decay"]
    with torch.no_grad():
        for old, new in zip(ema.parameters(), net.parameters(), strict=True):
            old.copy_(decay * old + (1 - decay) * new)


def run(
    unet: UNet, draws: Iterable[Draw], config: Mapping[str, Any], ema: UNet | None = None
) -> tuple[UNet, UNet, list[float]]:
    """Makes one Adam update per draw on a copy of unet.

    ema: the moving average to start from; a copy of unet if None.  Returns the trained net, its
    moving average, and each update's loss, computed before its step.
    """
    average = copy.deepcopy(unet if ema is None else ema).requires_grad_(False)
    unet = copy.deepcopy(unet)
    optimizer = torch.optim.Adam(unet.parameters(), lr=config["learning_rate"])
    losses = []
    for number, draw in enumerate(draws, start=1):
        value = loss(
            unet,
            draw["windows"],
            draw["mask"],
            draw["k"],
            draw["eps"],
            obs_dim=config["obs_dim"],
            diffusion_steps=config["diffusion_steps"],
        )
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        track_ema(average, unet, number, config)
        losses.append(value.item())
    return unet, average, losses


# Windows.


def pad_window(obs: Tensor, action: Tensor, start: int, horizon: int) -> Tensor:
    """Rows start, ..., start + horizon - 1; past the end, the last obs with action 0.

    obs: one episode, [T, D].  action: [T, A].  Both are already scaled as the net reads them, so
    that the 0 is a scaled action.  Returns [horizon, D + A].
    """
    last = obs.shape[0] - 1
    rows = []
    for row in range(start, start + horizon):
        if row <= last:
            rows.append(torch.cat([obs[row], action[row]]))
        else:
            rows.append(torch.cat([obs[last], torch.zeros_like(action[last])]))
    return torch.stack(rows)
