"""Nets with a population axis: parameters are [P, ...], inputs [P, B, width]."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,  # not in place: on a view that costs autograd two copies
    "elu": F.elu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class Init:
    """Starting weights that depend on a member's own seed and the net's name, never its place.

    They are drawn in single precision, so that every precision starts from the same numbers.
    The first four letters of the name count: nets of one learner must differ in them.
    """

    def __init__(self, seeds: Sequence[int], net: str, kind: str, dtype: torch.dtype) -> None:
        self.kind = kind
        self.dtype = dtype
        # torch's generator keeps 32 bits of its seed; an odd factor keeps different seeds apart.
        name = int.from_bytes(net.encode()[:4], "little")
        self.generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + name) % 2**32)
            for seed in seeds
        ]

    def linear(self, fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
        """(weight [P, fan_in, fan_out], bias [P, 1, fan_out])"""
        weights, biases = [], []
        bound = fan_in**-0.5
        for generator in self.generators:
            weight = torch.empty(fan_in, fan_out)
            bias = torch.zeros(1, fan_out)
            if self.kind == "orthogonal":
                nn.init.orthogonal_(weight, gain=2**0.5, generator=generator)
            else:
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
            weights.append(weight)
            biases.append(bias)
        return torch.stack(weights).to(self.dtype), torch.stack(biases).to(self.dtype)

    def uniform(self, shape: Sequence[int], outputs: int, fan_in: int) -> tuple[Tensor, Tensor]:
        """(weight [P, *shape], bias [P, outputs]), within 1 / sqrt(fan_in), whatever the kind."""
        bound = fan_in**-0.5
        found = [
            [torch.empty(*size).uniform_(-bound, bound, generator=g) for size in (shape, [outputs])]
            for g in self.generators
        ]
        weights, biases = zip(*found, strict=True)
        return torch.stack(weights).to(self.dtype), torch.stack(biases).to(self.dtype)


class Linear(nn.Module):
    """One affine layer per member. Every matrix product of a net is made here."""

    def __init__(self, init: Init, fan_in: int, fan_out: int, bf16: bool) -> None:
        super().__init__()
        weight, bias = init.linear(fan_in, fan_out)
        self.weight = nn.Parameter(weight)  # [P, in, out]
        self.bias = nn.Parameter(bias)  # [P, 1, out]
        self.bf16 = bf16

    def forward(self, x: Tensor) -> Tensor:
        """x: [P, B, in].  Returns [P, B, out] in the parameters' dtype."""
        if self.bf16:
            product = torch.bmm(x.to(torch.bfloat16), self.weight.to(torch.bfloat16))
            return product.to(self.weight.dtype) + self.bias
        if len(x) == 1:  # squeeze, not index: the gradient of an index is a tensor of zeros
            row = self.bias.squeeze(0).squeeze(0)
            return torch.addmm(row, x.squeeze(0), self.weight.squeeze(0)).unsqueeze(0)
        return torch.baddbmm(self.bias, x, self.weight)


class LayerNorm(nn.Module):
    """Each row to mean 0 and variance 1, then scaled and shifted, per member. x: [P, B, width]."""

    def __init__(self, members: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(members, 1, width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class MLP(nn.Module):
    """Hidden layers and a linear output. x: [P, B, in] -> [P, B, out]."""

    def __init__(
        self,
        init: Init,
        widths: Sequence[int],
        activation: str,
        bf16: bool = False,
        *,
        layer_norm: bool = False,
    ) -> None:
        """layer_norm: behind each hidden activation."""
        super().__init__()
        self.layers = nn.ModuleList(Linear(init, i, o, bf16) for i, o in pairwise(widths))
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]
        members = len(init.generators)
        self.norms = nn.ModuleList(
            LayerNorm(members, width, init.dtype) for width in widths[1:-1] if layer_norm
        )

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: what hidden numbers are multiplied by, side by side, [P, B, sum of widths]."""
        *hidden, last = self.layers
        for place, layer in enumerate(hidden):
            x = self.activation(layer(x))
            if kept is not None:
                own, kept = kept[..., : x.shape[-1]], kept[..., x.shape[-1] :]
                x = x * own
            if self.norms:
                x = self.norms[place](x)
        out: Tensor = last(x)
        return out


class ScalarNet(MLP):
    """One number per row: a state value or a discriminator's logit. x: [P, B, in] -> [P, B].

    The last product is never made in bfloat16, whose 8 bits are too coarse for a value near 100.
    """

    def __init__(
        self,
        init: Init,
        widths: Sequence[int],
        activation: str,
        bf16: bool = False,
        *,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(init, widths, activation, bf16, layer_norm=layer_norm)
        last = self.layers[-1]
        assert isinstance(last, Linear)
        last.bf16 = False

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        return super().forward(x, kept).squeeze(-1)


@torch.no_grad()
def start_flat(net: MLP, bound: float, bias: float = 0.1) -> None:
    """Starts the last layer within `bound` of zero and hidden biases at `bias`.

    net: as `fan_in_uniform` starts it.  Source: the authors' code of ReBRAC.
    """
    *hidden, last = net.layers
    for layer in hidden:
        assert isinstance(layer, Linear)
        layer.bias.fill_(bias)
    assert isinstance(last, Linear)
    factor = bound * last.weight.shape[1] ** 0.5
    last.weight.mul_(factor)
    last.bias.mul_(factor)
