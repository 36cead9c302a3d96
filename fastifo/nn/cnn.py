"""Convolutional encoders of frames with a population axis: [P, B, H, W, C] to features [P, B, F].

Members are convolved one after the other, which on a CPU is as fast as one grouped convolution, and
leaves each member's numbers the same in every population. Frames keep their channels last.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastifo.nn.mlp import Init, LayerNorm, Linear

KEYPOINTS = 32  # of the spatial softmax, robomimic's default


class ConvSpec(NamedTuple):
    """One convolution: output channels, kernel size, stride and padding."""

    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0


class Convolutions(nn.Module):
    """Successive convolutions of every member, with relu after each."""

    def __init__(
        self,
        init: Init,
        size: tuple[int, int, int],
        layers: Sequence[ConvSpec],
        bf16: bool,
        *,
        last_relu: bool = True,
    ) -> None:
        """size: H, W, C of a frame.  layers: in order.  bf16: convolve in bfloat16; the parameters
        keep their dtype.  last_relu: whether relu follows the last one too.
        Raises ValueError if the frames are too small.
        """
        super().__init__()
        height, width, channels = size
        self.layers = tuple(layers)
        weights, biases = [], []
        self.macs = 0  # multiplications of one frame
        for spec in layers:
            height, width = (
                (n + 2 * spec.padding - spec.kernel) // spec.stride + 1 for n in (height, width)
            )
            if min(height, width) < 1:
                raise ValueError(
                    f"images: frames of {size[0]} x {size[1]} are too small for this encoder; "
                    "image_encoder='spatial_softmax' takes any size"
                )
            weight, bias = init.conv(channels, spec.outputs, spec.kernel)
            weights.append(nn.Parameter(weight))  # [P, outputs, inputs, kernel, kernel]
            biases.append(nn.Parameter(bias))  # [P, outputs]
            self.macs += height * width * weight[0].numel()
            channels = spec.outputs
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)
        self.size = (height, width, channels)  # of the output
        self.bf16, self.last_relu = bf16, last_relu

    def forward(self, x: Tensor) -> Tensor:
        """x: [P, B, H, W, C].  Returns [P, B, *size], channels last."""
        dtype = torch.bfloat16 if self.bf16 else x.dtype
        # unbind, not index: the gradient of an index is a tensor of zeros for every member
        weights = list(zip(*(w.to(dtype).unbind(0) for w in self.weights), strict=True))
        biases = list(zip(*(b.to(dtype).unbind(0) for b in self.biases), strict=True))
        members = x.to(dtype).unbind(0)
        outputs = [self._member(*each) for each in zip(members, weights, biases, strict=True)]
        result = outputs[0].unsqueeze(0) if len(outputs) == 1 else torch.stack(outputs)
        return result.to(x.dtype)

    def _member(self, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
        """One member's convolutions.  x: [B, H, W, C]."""
        x = x.permute(0, 3, 1, 2)  # channels stay last in memory
        for index, (spec, weight, bias) in enumerate(
            zip(self.layers, weights, biases, strict=True)
        ):
            last = weight.contiguous(memory_format=torch.channels_last)
            x = F.conv2d(x, last, bias, spec.stride, spec.padding)
            if self.last_relu or index < len(self.layers) - 1:
                x = torch.relu(x)
        return x.permute(0, 2, 3, 1)


class DrQEncoder(nn.Module):
    """Four convolutions of 32 channels, then a linear layer, layer normalisation and tanh.

    Source: Yarats et al. 2021, arXiv:2107.09645 (DrQ-v2), and the authors' code: encoder and trunk.
    There the actor and the critic share the convolutions; here every net has its own.
    """

    LAYERS = (ConvSpec(32, 3, 2), ConvSpec(32, 3), ConvSpec(32, 3), ConvSpec(32, 3))

    def __init__(self, init: Init, size: tuple[int, int, int], features: int, bf16: bool) -> None:
        """size: H, W, C of a frame, 15 x 15 or more.  features: F.  bf16: see `Convolutions`."""
        super().__init__()
        self.convolutions = Convolutions(init, size, self.LAYERS, bf16)
        height, width, channels = self.convolutions.size
        self.linear = Linear(init, height * width * channels, features, bf16)
        self.norm = LayerNorm(len(init.generators), features, init.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x: pixels in [0, 1], [P, B, H, W, C].  Returns [P, B, F]."""
        maps = self.convolutions(x - 0.5)  # [P, B, h, w, 32]
        normed: Tensor = self.norm(self.linear(maps.flatten(2)))
        return normed.tanh()


class SpatialSoftmaxEncoder(nn.Module):
    """Four convolutions, the expected position of 32 keypoints, then a linear layer.

    Source: Finn et al. 2015, arXiv:1509.06113; layers and keypoints as robomimic's `ShallowConv`
    and `SpatialSoftmax` (temperature 1, which does not train). robomimic's own image policies have
    a ResNet-18 in the place of the shallow convolutions.
    """

    LAYERS = (ConvSpec(64, 7, 2, 3), ConvSpec(32, 1), ConvSpec(32, 3, 1, 1), ConvSpec(32, 3, 1, 1))

    def __init__(self, init: Init, size: tuple[int, int, int], features: int, bf16: bool) -> None:
        """size: H, W, C of a frame.  features: F.  bf16: see `Convolutions`."""
        super().__init__()
        self.convolutions = Convolutions(init, size, self.LAYERS, bf16, last_relu=False)
        height, width, channels = self.convolutions.size
        self.keypoints = Linear(init, channels, KEYPOINTS, bf16)  # a convolution of size 1
        self.linear = Linear(init, 2 * KEYPOINTS, features, bf16)
        y, x = torch.meshgrid(
            *(torch.linspace(-1.0, 1.0, n, dtype=init.dtype) for n in (height, width)),
            indexing="ij",
        )
        self.position: Tensor
        self.register_buffer(
            "position", torch.stack([x.flatten(), y.flatten()], 1), persistent=False
        )  # [h w, 2]

    def forward(self, x: Tensor) -> Tensor:
        """x: pixels in [0, 1], [P, B, H, W, C].  Returns [P, B, F]."""
        maps = self.convolutions(x)  # [P, B, h, w, 32]
        members, rows, height, width, channels = maps.shape
        scores = self.keypoints(maps.reshape(members, -1, channels))  # [P, B h w, K]
        share = scores.view(members, rows, height * width, -1).softmax(2)
        points = share.transpose(2, 3) @ self.position  # [P, B, K, 2]
        out: Tensor = self.linear(points.flatten(2))
        return out


ENCODERS: dict[str, Callable[[Init, tuple[int, int, int], int, bool], nn.Module]] = {
    "drqv2": DrQEncoder,
    "spatial_softmax": SpatialSoftmaxEncoder,
}
