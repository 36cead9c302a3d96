"""Multi-layer perceptrons with a population axis: parameters are [P, ...], inputs [P, B, width]."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastifo.utils.parallel import one_thread

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,  # not in place: on a view, autograd would make two copies
    "elu": F.elu,
    "silu": F.silu,
    "tanh": torch.tanh,
}

CUT_DEVIATION = 0.87962566  # standard deviation of a normal distribution that is cut at -2 and 2


class Init:
    """Draws the initial weights of one net of every member.

    They depend on the member's seed and the net's name only, never on the member's position in the
    population. They are drawn in float32, so that every precision starts from the same numbers.
    """

    def __init__(self, seeds: Sequence[int], net: str, kind: str, dtype: torch.dtype) -> None:
        """seeds: one per member.  net: the net's name; the first four letters count, so the nets
        of a learner must differ in them.  kind: fan_in_uniform | orthogonal | xavier_uniform |
        he_normal.  dtype: of the result.
        """
        self.kind = kind
        self.dtype = dtype
        # torch's generator keeps 32 bits of its seed; an odd factor keeps different seeds apart.
        name = int.from_bytes(net.encode()[:4], "little")
        self.generators = [
            torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + name) % 2**32)
            for seed in seeds
        ]

    def linear(self, fan_in: int, fan_out: int, heads: int = 1) -> tuple[Tensor, Tensor]:
        """Weights [P, fan_in, fan_out] and biases [P, 1, fan_out] of a linear layer.

        fan_in_uniform: both uniform within 1 / sqrt(fan_in), as in `torch.nn.Linear`.
        orthogonal: weights with gain sqrt(2), biases 0.
        xavier_uniform: weights uniform within sqrt(6 / (fan_in + fan_out / heads)), biases 0
        (Glorot & Bengio 2010, Eq. 16).  heads: the outputs stand for this many layers side by side.
        he_normal: weights normal with deviation sqrt(2 / fan_in), cut at two deviations of the
        normal distribution before the cut, biases 0 (He et al. 2015, Eq. 10; as in Keras).
        """
        weights, biases = [], []
        bound = fan_in**-0.5
        xavier_bound = (6.0 / (fan_in + fan_out / heads)) ** 0.5
        for generator in self.generators:
            weight = torch.empty(fan_in, fan_out, dtype=torch.float32)
            bias = torch.zeros(1, fan_out, dtype=torch.float32)
            if self.kind == "orthogonal":
                with one_thread():  # LAPACK rounds differently with several
                    nn.init.orthogonal_(weight, gain=2**0.5, generator=generator)
            elif self.kind == "xavier_uniform":
                weight.uniform_(-xavier_bound, xavier_bound, generator=generator)
            elif self.kind == "he_normal":
                std = (2.0 / fan_in) ** 0.5 / CUT_DEVIATION
                nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
            else:
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
            weights.append(weight)
            biases.append(bias)
        return torch.stack(weights).to(self.dtype), torch.stack(biases).to(self.dtype)

    def conv(self, inputs: int, outputs: int, kernel: int) -> tuple[Tensor, Tensor]:
        """Weights [P, outputs, inputs, kernel, kernel] and biases [P, outputs] of a convolution.

        As `linear`, where the fans count the kernel's positions.
        """
        area = kernel * kernel
        weight, bias = self.linear(inputs * area, outputs)
        if self.kind == "xavier_uniform":  # there the fan of the outputs counts them too
            fans = inputs * area + outputs
            weight = weight * (fans / (area * (inputs + outputs))) ** 0.5
        return weight.mT.reshape(-1, outputs, inputs, kernel, kernel).contiguous(), bias.squeeze(1)

    def uniform(self, shape: Sequence[int], outputs: int, fan_in: int) -> tuple[Tensor, Tensor]:
        """Weights [P, *shape] and biases [P, outputs], uniform within 1 / sqrt(fan_in).

        `kind` is ignored; this is the initialisation of `torch.nn.Conv1d`.
        """
        bound = fan_in**-0.5
        weights, biases = [], []
        for generator in self.generators:
            weight = torch.empty(*shape, dtype=torch.float32)
            bias = torch.empty(outputs, dtype=torch.float32)
            weights.append(weight.uniform_(-bound, bound, generator=generator))
            biases.append(bias.uniform_(-bound, bound, generator=generator))
        return torch.stack(weights).to(self.dtype), torch.stack(biases).to(self.dtype)


class Linear(nn.Module):
    """One affine layer per member: y = x W + b.

    Every matrix product of an MLP is computed here.
    """

    def __init__(
        self, init: Init, fan_in: int, fan_out: int, bf16: bool, *, heads: int = 1
    ) -> None:
        """bf16: compute the product in bfloat16; the parameters keep their dtype.

        heads: see `Init.linear`.
        """
        super().__init__()
        weight, bias = init.linear(fan_in, fan_out, heads)
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
    """Layer normalisation with a scale and a shift per member, epsilon 1e-5."""

    def __init__(self, members: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width, dtype=dtype))  # [P, 1, width]
        self.bias = nn.Parameter(torch.zeros(members, 1, width, dtype=dtype))  # [P, 1, width]

    def forward(self, x: Tensor) -> Tensor:
        """Normalises each row to mean 0 and variance 1.  x: [P, B, width].  Returns the same."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class MLP(nn.Module):
    """Hidden layers with an activation, and a linear output layer."""

    def __init__(
        self,
        init: Init,
        widths: Sequence[int],
        activation: str,
        bf16: bool = False,
        *,
        layer_norm: bool = False,
        output_heads: int = 1,
        exact_output: bool = False,
        front: nn.Module | None = None,
    ) -> None:
        """widths: of the input, the hidden layers and the output.  activation: a key of
        `ACTIVATIONS`.  bf16: see `Linear`.  layer_norm: normalise after each hidden activation.
        output_heads: `heads` of the output layer, see `Init.linear`.  exact_output: the output
        layer never computes in bfloat16.  front: what the input passes first, such as an encoder of
        frames; widths[0] is that of its output.
        """
        super().__init__()
        self.front = front
        self.exact_output = exact_output
        sizes = list(pairwise(widths))
        heads = [1] * (len(sizes) - 1) + [output_heads]
        low = [bf16] * (len(sizes) - 1) + [bf16 and not exact_output]
        self.layers = nn.ModuleList(
            Linear(init, i, o, b, heads=n) for (i, o), b, n in zip(sizes, low, heads, strict=True)
        )
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[activation]
        members = len(init.generators)
        self.norms = nn.ModuleList(
            LayerNorm(members, width, init.dtype) for width in widths[1:-1] if layer_norm
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: [P, B, in].  Returns [P, B, out].

        mask: factors of the hidden activations (dropout), [P, B, sum of hidden widths], the layers
        concatenated in order; None is no dropout.
        """
        if self.front is not None:
            x = self.front(x)
        *hidden, last = self.layers
        for index, layer in enumerate(hidden):
            x = self.activation(layer(x))
            if mask is not None:
                layer_mask, mask = mask[..., : x.shape[-1]], mask[..., x.shape[-1] :]
                x = x * layer_mask
            if self.norms:
                x = self.norms[index](x)
        out: Tensor = last(x)
        return out


class ScalarNet(MLP):
    """An MLP with one output per row, such as a state value or a discriminator's logit.

    The output layer never computes in bfloat16: its 8 bits are too coarse for a value near 100.
    """

    def __init__(
        self,
        init: Init,
        widths: Sequence[int],
        activation: str,
        bf16: bool = False,
        *,
        layer_norm: bool = False,
        front: nn.Module | None = None,
    ) -> None:
        """Arguments as in `MLP`; the last width is 1."""
        super().__init__(
            init, widths, activation, bf16, layer_norm=layer_norm, exact_output=True, front=front
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: [P, B, in].  Returns [P, B].  mask: as in `MLP.forward`."""
        return super().forward(x, mask).squeeze(-1)


@torch.no_grad()
def init_small_output(net: MLP, bound: float) -> None:
    """Rescales the output layer to within `bound` of zero and sets all hidden biases to 0.1.

    net: freshly initialised with fan_in_uniform.  Source: the authors' code of ReBRAC.
    """
    *hidden, last = net.layers
    for layer in hidden:
        assert isinstance(layer, Linear)
        layer.bias.fill_(0.1)
    assert isinstance(last, Linear)
    factor = bound * last.weight.shape[1] ** 0.5
    last.weight.mul_(factor)
    last.bias.mul_(factor)
