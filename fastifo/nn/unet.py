"""A temporal U-Net with a population axis: inputs [P, B, C, T], C channels over T steps.

Source: the net of Diffuser (Janner et al. 2022, arXiv:2205.09991), which TGE builds on.
"""

import math
from collections.abc import Sequence
from itertools import count, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastifo.nn.mlp import Init, Linear

GROUPS = 8  # of a group norm
KERNEL = 5  # steps that a convolution sees


def halved(steps: int, levels: int) -> list[int]:
    """Steps of a window on every level: half of those before while these are even."""
    found = [steps]
    for _ in range(levels - 1):
        found.append(found[-1] // 2 if found[-1] % 2 == 0 else found[-1])
    return found


def own(parameter: Tensor, member: int) -> Tensor:
    """A member's numbers: the gradient of an index is a tensor of zeros, that of a squeeze not."""
    return parameter.squeeze(0) if len(parameter) == 1 else parameter[member]


class Conv(nn.Module):
    """A convolution over time: [B, inputs, T] -> [B, outputs, T / stride]."""

    def __init__(self, init: Init, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        weight, bias = init.uniform((outputs, inputs, size), outputs, inputs * size)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.padding = stride, size // 2

    def forward(self, x: Tensor, member: int) -> Tensor:
        weight, bias = own(self.weight, member), own(self.bias, member)
        return F.conv1d(x, weight, bias, self.stride, self.padding)


class UpConv(nn.Module):
    """Twice as many steps: [B, width, T] -> [B, width, 2 T]."""

    def __init__(self, init: Init, width: int) -> None:
        super().__init__()
        weight, bias = init.uniform((width, width, 4), width, width * 4)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor, member: int) -> Tensor:
        weight, bias = own(self.weight, member), own(self.bias, member)
        return F.conv_transpose1d(x, weight, bias, stride=2, padding=1)


class Same(nn.Module):
    """What stands where nothing is to be done."""

    def forward(self, x: Tensor, member: int) -> Tensor:
        return x


class ConvBlock(nn.Module):
    """Convolution, group norm, mish."""

    def __init__(self, init: Init, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(init, inputs, outputs, KERNEL)
        shape = len(init.generators), outputs
        self.scale = nn.Parameter(torch.ones(shape, dtype=init.dtype))
        self.shift = nn.Parameter(torch.zeros(shape, dtype=init.dtype))

    def forward(self, x: Tensor, member: int) -> Tensor:
        scale, shift = own(self.scale, member), own(self.shift, member)
        return F.mish(F.group_norm(self.conv(x, member), GROUPS, scale, shift))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; the noise level is added between them."""

    def __init__(self, init: Init, inputs: int, outputs: int, level_width: int) -> None:
        super().__init__()
        self.first = ConvBlock(init, inputs, outputs)
        self.level = Linear(init, level_width, outputs, bf16=False)
        self.second = ConvBlock(init, outputs, outputs)
        self.shortcut = Conv(init, inputs, outputs, 1) if inputs != outputs else Same()

    def forward(self, x: Tensor, level: Tensor, member: int) -> Tensor:
        """x: [B, inputs, T].  level: [B, level_width]."""
        added = _linear(self.level, F.mish(level), member).unsqueeze(-1)
        out: Tensor = self.second(self.first(x, member) + added, member)
        shortcut: Tensor = self.shortcut(x, member)
        return out + shortcut


class Stage(nn.Module):
    """Two residual blocks and a change of the number of steps."""

    def __init__(self, init: Init, inputs: int, outputs: int, level_width: int, end: nn.Module):
        super().__init__()
        self.first = ResidualBlock(init, inputs, outputs, level_width)
        self.second = ResidualBlock(init, outputs, outputs, level_width)
        self.end = end

    def forward(self, x: Tensor, level: Tensor, member: int) -> tuple[Tensor, Tensor]:
        """What the blocks say, and what goes on."""
        x = self.second(self.first(x, level, member), level, member)
        return x, self.end(x, member)


def _linear(layer: nn.Module, x: Tensor, member: int) -> Tensor:
    """x: [B, in] -> [B, out], by one member's weights of a population's layer."""
    assert isinstance(layer, Linear)
    return torch.addmm(own(layer.bias, member), x, own(layer.weight, member))


class UNet(nn.Module):
    """Noise in, noise out; its narrowest part is an embedding."""

    def __init__(
        self, init: Init, channels: int, width: int, multipliers: Sequence[int], steps: int
    ) -> None:
        """steps: of a window; they are halved between levels while they are even."""
        super().__init__()
        self.width = width
        widths = [channels, *(width * factor for factor in multipliers)]
        self.level = nn.ModuleList(
            [Linear(init, width, 4 * width, bf16=False), Linear(init, 4 * width, width, bf16=False)]
        )
        levels = list(pairwise(widths))
        sizes = halved(steps, len(levels))
        halves = [before > after for before, after in pairwise(sizes)] + [False]
        self.down = nn.ModuleList(
            Stage(init, i, o, width, Conv(init, o, o, 3, stride=2) if half else Same())
            for (i, o), half in zip(levels, halves, strict=True)
        )
        widest = widths[-1]
        self.middle = nn.ModuleList(ResidualBlock(init, widest, widest, width) for _ in range(2))
        back = list(zip(levels, halves, strict=True))[:0:-1]  # all but the first level
        self.up = nn.ModuleList(
            Stage(init, 2 * o, i, width, UpConv(init, i) if half else Same())
            for ((i, o), _), half in zip(back, halves[-2::-1], strict=True)
        )
        self.last = nn.ModuleList(
            [ConvBlock(init, widths[1], widths[1]), Conv(init, widths[1], channels, 1)]
        )

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """x: [P, B, C, T].  step: of the diffusion, [P, B].  Returns [P, B, C, T].

        Members go one by one, so that their numbers are their own.
        """
        return torch.stack([self._denoise(*each) for each in zip(x, step, count(), strict=False)])

    def middle_of(self, x: Tensor) -> Tensor:
        """What the middle says of clean windows, [P, B, widest, steps there]."""
        clean = x.new_zeros(x.shape[1])
        found = [
            self._encode(windows, self._level(clean, member), member)[0]
            for member, windows in enumerate(x)
        ]
        return torch.stack(found)

    def _denoise(self, x: Tensor, step: Tensor, member: int) -> Tensor:
        level = self._level(step, member)
        x, kept = self._encode(x, level, member)
        for stage in self.up:
            _, x = stage(torch.cat([x, kept.pop()], 1), level, member)
        block, conv = self.last
        out: Tensor = conv(block(x, member), member)
        return out

    def _encode(self, x: Tensor, level: Tensor, member: int) -> tuple[Tensor, list[Tensor]]:
        kept = []
        for stage in self.down:
            said, x = stage(x, level, member)
            kept.append(said)
        for block in self.middle:
            x = block(x, level, member)
        return x, kept

    def _level(self, step: Tensor, member: int) -> Tensor:
        """What the net knows of the noise, [B, width]."""
        half = self.width // 2
        place = torch.arange(half, dtype=step.dtype, device=step.device)
        angle = step.unsqueeze(-1) * torch.exp(place * (-math.log(10_000.0) / (half - 1)))
        first, second = self.level
        waves = torch.cat([angle.sin(), angle.cos()], -1)
        return _linear(second, F.mish(_linear(first, waves, member)), member)
