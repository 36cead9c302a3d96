"""A temporal U-Net with a population axis: inputs [P, B, C, T], C channels over T time steps.

Source: the network of Diffuser (Janner et al. 2022, arXiv:2205.09991), on which TGE builds.
Parameters are [P, ...]; the layers below process one member at a time, so that its numbers do not
depend on the others.
"""

import math
from collections.abc import Sequence
from itertools import count, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastifo.nn.mlp import Init, Linear

GROUPS = 8  # of a group norm; Diffuser's
KERNEL = 5  # time steps of a convolution's kernel; Diffuser's


def level_lengths(steps: int, levels: int) -> list[int]:
    """Time steps on every level of the net: halved from level to level while they are even."""
    lengths = [steps]
    for _ in range(levels - 1):
        lengths.append(lengths[-1] // 2 if lengths[-1] % 2 == 0 else lengths[-1])
    return lengths


def select_member(parameter: Tensor, member: int) -> Tensor:
    """One member's part of a parameter, without the population axis."""
    # The gradient of an index is a tensor of zeros for all members, that of a squeeze is not.
    return parameter.squeeze(0) if len(parameter) == 1 else parameter[member]


class Conv(nn.Module):
    """A convolution over time: [B, inputs, T] -> [B, outputs, T / stride]."""

    def __init__(self, init: Init, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        """size: time steps of the kernel, odd."""
        super().__init__()
        weight, bias = init.uniform((outputs, inputs, size), outputs, inputs * size)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.padding = stride, size // 2

    def forward(self, x: Tensor, member: int) -> Tensor:
        """x: [B, inputs, T].  Returns [B, outputs, T / stride], by the member's weights."""
        weight, bias = select_member(self.weight, member), select_member(self.bias, member)
        return F.conv1d(x, weight, bias, self.stride, self.padding)


class UpConv(nn.Module):
    """A transposed convolution that doubles the time steps: [B, width, T] -> [B, width, 2 T]."""

    def __init__(self, init: Init, width: int) -> None:
        super().__init__()
        weight, bias = init.uniform((width, width, 4), width, width * 4)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor, member: int) -> Tensor:
        """x: [B, width, T].  Returns [B, width, 2 T], by the member's weights."""
        weight, bias = select_member(self.weight, member), select_member(self.bias, member)
        return F.conv_transpose1d(x, weight, bias, stride=2, padding=1)


class Identity(nn.Module):
    """Returns its input; stands for a layer that a configuration does not need."""

    def forward(self, x: Tensor, member: int) -> Tensor:
        """Returns x, [B, width, T], unchanged."""
        return x


class ConvBlock(nn.Module):
    """mish(group_norm(conv(x))): [B, inputs, T] -> [B, outputs, T]."""

    def __init__(self, init: Init, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(init, inputs, outputs, KERNEL)
        shape = len(init.generators), outputs
        self.scale = nn.Parameter(torch.ones(shape, dtype=init.dtype))  # [P, outputs]
        self.shift = nn.Parameter(torch.zeros(shape, dtype=init.dtype))  # [P, outputs]

    def forward(self, x: Tensor, member: int) -> Tensor:
        """x: [B, inputs, T].  Returns [B, outputs, T], by the member's weights."""
        scale, shift = select_member(self.scale, member), select_member(self.shift, member)
        return F.mish(F.group_norm(self.conv(x, member), GROUPS, scale, shift))


class ResidualBlock(nn.Module):
    """block2(block1(x) + W mish(level)) + shortcut(x); `level` embeds the noise level."""

    def __init__(self, init: Init, inputs: int, outputs: int, level_width: int) -> None:
        """level_width: of the embedding of the noise level."""
        super().__init__()
        self.first = ConvBlock(init, inputs, outputs)
        self.level = Linear(init, level_width, outputs, bf16=False)
        self.second = ConvBlock(init, outputs, outputs)
        self.shortcut = Conv(init, inputs, outputs, 1) if inputs != outputs else Identity()

    def forward(self, x: Tensor, level: Tensor, member: int) -> Tensor:
        """x: [B, inputs, T].  level: [B, level_width].  Returns [B, outputs, T]."""
        shift = _linear(self.level, F.mish(level), member).unsqueeze(-1)
        out: Tensor = self.second(self.first(x, member) + shift, member)
        shortcut: Tensor = self.shortcut(x, member)
        return out + shortcut


class Stage(nn.Module):
    """One level of the net: two residual blocks, then a change of the number of time steps."""

    def __init__(self, init: Init, inputs: int, outputs: int, level_width: int, end: nn.Module):
        """end: maps [B, outputs, T] to the number of time steps of the next level."""
        super().__init__()
        self.first = ResidualBlock(init, inputs, outputs, level_width)
        self.second = ResidualBlock(init, outputs, outputs, level_width)
        self.end = end

    def forward(self, x: Tensor, level: Tensor, member: int) -> tuple[Tensor, Tensor]:
        """The blocks' output, which the skip connection takes, and the input of the next level.

        x: [B, inputs, T].  level: [B, level_width].
        """
        x = self.second(self.first(x, level, member), level, member)
        return x, self.end(x, member)


def _linear(layer: nn.Module, x: Tensor, member: int) -> Tensor:
    """One member's part of a `Linear`.  x: [B, in].  Returns [B, out]."""
    assert isinstance(layer, Linear)
    return torch.addmm(select_member(layer.bias, member), x, select_member(layer.weight, member))


class UNet(nn.Module):
    """Predicts the noise in noisy windows; its bottleneck embeds a window."""

    def __init__(
        self, init: Init, channels: int, width: int, multipliers: Sequence[int], steps: int
    ) -> None:
        """channels: C, of the windows.  width: channels of the first level; level i has
        width * multipliers[i].  steps: T, see `level_lengths`.
        """
        super().__init__()
        self.width = width
        self.level = nn.ModuleList(
            [Linear(init, width, 4 * width, bf16=False), Linear(init, 4 * width, width, bf16=False)]
        )
        widths = [channels, *(width * factor for factor in multipliers)]
        levels = list(pairwise(widths))  # (inputs, outputs) of each
        lengths = level_lengths(steps, len(levels))
        shrinks = [length > shorter for length, shorter in pairwise(lengths)] + [False]
        self.down = nn.ModuleList(
            Stage(init, i, o, width, Conv(init, o, o, 3, stride=2) if shrink else Identity())
            for (i, o), shrink in zip(levels, shrinks, strict=True)
        )
        widest = widths[-1]
        self.middle = nn.ModuleList(ResidualBlock(init, widest, widest, width) for _ in range(2))
        # Upwards: all levels but the first, from the last. A skip connection doubles the inputs.
        grows = shrinks[-2::-1]
        self.up = nn.ModuleList(
            Stage(init, 2 * o, i, width, UpConv(init, i) if grow else Identity())
            for (i, o), grow in zip(levels[:0:-1], grows, strict=True)
        )
        self.last = nn.ModuleList(
            [ConvBlock(init, widths[1], widths[1]), Conv(init, widths[1], channels, 1)]
        )

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """The predicted noise, [P, B, C, T].

        x: noisy windows, [P, B, C, T].  step: noise level of each, counted from 0, [P, B].
        """
        return torch.stack(
            [
                self._denoise(windows, levels, member)
                for windows, levels, member in zip(x, step, count(), strict=False)
            ]
        )

    def bottleneck(self, x: Tensor) -> Tensor:
        """The middle blocks' output at noise level 0, [P, B, widest level's width, its length].

        x: clean windows, [P, B, C, T].
        """
        step = x.new_zeros(x.shape[1])
        return torch.stack(
            [
                self._encode(windows, self._level(step, member), member)[0]
                for member, windows in enumerate(x)
            ]
        )

    def _denoise(self, x: Tensor, step: Tensor, member: int) -> Tensor:
        level = self._level(step, member)
        x, skips = self._encode(x, level, member)
        for stage in self.up:
            _, x = stage(torch.cat([x, skips.pop()], 1), level, member)
        block, conv = self.last
        out: Tensor = conv(block(x, member), member)
        return out

    def _encode(self, x: Tensor, level: Tensor, member: int) -> tuple[Tensor, list[Tensor]]:
        """The bottleneck, [B, widest, steps], and the skip connections, from the first level on."""
        skips = []
        for stage in self.down:
            skip, x = stage(x, level, member)
            skips.append(skip)
        for block in self.middle:
            x = block(x, level, member)
        return x, skips

    def _level(self, step: Tensor, member: int) -> Tensor:
        """The embedding of the noise levels, [B, width], from sines and cosines.  step: [B]."""
        half = self.width // 2
        index = torch.arange(half, dtype=step.dtype, device=step.device)
        angle = step.unsqueeze(-1) * torch.exp(index * (-math.log(10_000.0) / (half - 1)))
        first, second = self.level
        waves = torch.cat([angle.sin(), angle.cos()], -1)
        return _linear(second, F.mish(_linear(first, waves, member)), member)
