"""Copies of a learner's nets in the memory layout of the native engine.

The compiled code trains the copies; `load` fills them from the learner's tensors and `store` writes
them back. The layout is described in csrc/engine/panels.h and csrc/engine/plan.h: every width is
padded with zeros to a multiple of 32, and a weight matrix lies in panels of 16 columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fastifo import _C
from fastifo.nn.mlp import MLP, LayerNorm, Linear

MAX_DEPTH = 16  # layers of a net that the compiled code supports
PANEL, BLOCK = 16, 32  # kPanel and kBlock of csrc/engine/panels.h
PACKS = 3  # bfloat16 copies of a layer's weights: as they are, transposed, and the target's

Moments = Mapping[Tensor, tuple[Tensor, Tensor]]  # parameter -> Adam's first and second moment
# The tensors of one layer: its weight [P, inputs, outputs], then vectors [P, 1, outputs]: the bias
# and, with layer norm, scale and shift.
Layer = tuple[Tensor, ...]


class NetWeights:
    """The weights of one net of every member in the engine's layout."""

    def __init__(self, net: MLP) -> None:
        """Allocates the copy, filled with zeros; `load_weights` fills it."""
        self.layers = _parameters(net)
        shapes = [weight.shape for weight, *_ in self.layers]
        self.widths = [shapes[0][1], *(shape[2] for shape in shapes)]  # inputs, hidden, outputs
        self.layer_norm = len(net.norms) > 0
        self.exact_output = net.exact_output
        assert not self.exact_output or self.widths[-1] <= PANEL
        self.size = sum(
            (_padded(shape[1]) + len(vectors)) * _padded(shape[2])
            for shape, (_, *vectors) in zip(shapes, self.layers, strict=True)
        )
        dtype = self.layers[0][0].dtype
        self.weights = torch.zeros(shapes[0][0], self.size, dtype=dtype)  # [P, size]

    def plan(self) -> Any:
        """The compiled description of the net; this object must outlive it."""
        plan = _C.NetPlan()
        plan.widths, plan.size, plan.layer_norm = self.widths, self.size, self.layer_norm
        plan.exact_output = self.exact_output
        plan.weights = self.weights.data_ptr()
        _C.advise_huge_pages(plan.weights, self.weights.nbytes)
        return plan

    def load_weights(self) -> None:
        """Copies the learner's parameters into the layout."""
        self._pack(self.weights, self.layers)

    def empty_packs(self, parts: int) -> Tensor:
        """Memory for the bfloat16 packs of the weights, zeros.

        parts: the number of bfloat16 numbers that represent an operand of a product; 0 computes in
        the net's dtype.
        """
        padded_weights = sum(_padded(i) * _padded(o) for i, o in pairwise(self.widths))
        return torch.zeros(len(self.weights), PACKS * parts * padded_weights, dtype=torch.int16)

    def _views(self, state: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's weights, [P, inputs, outputs / 16, 16], and vectors, [P, count, outputs],
        padded.

        state: [P, size]; the result is a view of it.
        """
        views, offset = [], 0
        for (_, *vectors), (inputs, outputs) in zip(
            self.layers, pairwise(self.widths), strict=True
        ):
            rows, columns = _padded(inputs), _padded(outputs)
            weight = state[:, offset : offset + rows * columns]
            offset += rows * columns
            panels = weight.unflatten(1, (columns // PANEL, rows, PANEL)).transpose(1, 2)
            end = offset + len(vectors) * columns
            views.append((panels, state[:, offset:end].unflatten(1, (-1, columns))))
            offset = end
        return views

    def _pack(self, state: Tensor, layers: Sequence[Layer]) -> None:
        """Copies each layer's tensors into `state`, [P, size]."""
        for (weight, *vectors), (panels, rows) in zip(layers, self._views(state), strict=True):
            inputs, outputs = weight.shape[1:]
            padded = weight.new_zeros(len(weight), inputs, rows.shape[2])
            padded[:, :, :outputs] = weight
            panels[:, :inputs] = padded.unflatten(2, (-1, PANEL))
            rows[:, :, :outputs] = torch.cat(vectors, 1)


class FrozenNet(NetWeights):
    """A net that other nets' updates evaluate: weights and bfloat16 packs."""

    def __init__(self, net: MLP, parts: int) -> None:
        """parts: see `empty_packs`."""
        super().__init__(net)
        self.packs = self.empty_packs(parts)

    def plan(self) -> Any:
        """The compiled description of the net; this object must outlive it."""
        plan = super().plan()
        plan.packs, plan.packs_size = self.packs.data_ptr(), self.packs.shape[1]
        return plan

    def load(self, moments: Moments) -> None:
        """Copies the learner's parameters into the layout."""
        self.load_weights()

    def store(self, moments: Moments) -> None:
        """Does nothing: the learner's parameters are current."""


class NetState(NetWeights):
    """A net with what its training needs: moments, target copy and bfloat16 packs."""

    def __init__(self, net: MLP, target: MLP | None, parts: int) -> None:
        """target: the target copy of `net`, if it has one.  parts: see `empty_packs`."""
        super().__init__(net)
        self.target_layers = [] if target is None else _parameters(target)
        self.first, self.second, self.target = torch.zeros(
            3, len(self.weights), self.size, dtype=self.weights.dtype
        )
        self.packs = self.empty_packs(parts)

    def plan(self) -> Any:
        """The compiled description of the net; this object must outlive it."""
        plan = super().plan()
        plan.first, plan.second = self.first.data_ptr(), self.second.data_ptr()
        plan.target = self.target.data_ptr() if self.target_layers else 0
        plan.packs, plan.packs_size = self.packs.data_ptr(), self.packs.shape[1]
        for tensor in (self.first, self.second, self.target, self.packs):
            _C.advise_huge_pages(tensor.data_ptr(), tensor.nbytes)
        return plan

    def load(self, moments: Moments) -> None:
        """Copies the learner's parameters, moments and target into the layout."""
        for state, layers in self._states(moments):
            self._pack(state, layers)

    def store(self, moments: Moments) -> None:
        """Copies parameters, moments and target back into the learner's tensors."""
        for state, layers in self._states(moments):
            self._unpack(state, layers)

    def _states(self, moments: Moments) -> Iterator[tuple[Tensor, list[Layer]]]:
        """Each tensor of this object, [P, size], with the learner's tensors of each layer."""
        yield self.weights, self.layers
        for index, state in enumerate((self.first, self.second)):
            yield state, [tuple(moments[x][index] for x in layer) for layer in self.layers]
        if self.target_layers:
            yield self.target, self.target_layers

    def _unpack(self, state: Tensor, layers: Sequence[Layer]) -> None:
        """The inverse of `_pack`."""
        for (weight, *vectors), (panels, rows) in zip(layers, self._views(state), strict=True):
            inputs, outputs = weight.shape[1:]
            weight.copy_(panels[:, :inputs].flatten(2)[:, :, :outputs])
            for vector, row in zip(vectors, rows.unbind(1), strict=True):
                vector.copy_(row[:, :outputs].unsqueeze(1))


class VectorState:
    """A trained vector that is not part of a layer, [P, 1, A], such as a log-deviation."""

    def __init__(self, parameter: Tensor) -> None:
        """Allocates the copy, filled with zeros; `load` fills it."""
        self.parameter = parameter
        members, _, width = parameter.shape
        self.weights, self.first, self.second = torch.zeros(
            3, members, _padded(width), dtype=parameter.dtype
        )

    def plan(self) -> Any:
        """The compiled description of the vector; this object must outlive it."""
        plan = _C.NetPlan()
        plan.size = self.weights.shape[1]
        for name in ("weights", "first", "second"):
            setattr(plan, name, getattr(self, name).data_ptr())
        return plan

    def load(self, moments: Moments) -> None:
        """Copies the learner's parameter and moments into the layout."""
        for tensor, copy in self._pairs(moments):
            copy.copy_(tensor)

    def store(self, moments: Moments) -> None:
        """Copies parameter and moments back into the learner's tensors."""
        for tensor, copy in self._pairs(moments):
            tensor.copy_(copy)

    def _pairs(self, moments: Moments) -> Iterator[tuple[Tensor, Tensor]]:
        """The learner's tensors, and views of their copies of the same shape, [P, 1, A]."""
        tensors = (self.parameter, *moments[self.parameter])
        for tensor, copy in zip(tensors, (self.weights, self.first, self.second), strict=True):
            yield tensor, copy[:, : tensor.shape[2]].unsqueeze(1)


def _parameters(net: MLP) -> list[Layer]:
    layers: list[Layer] = []
    for index, linear in enumerate(net.layers):
        assert isinstance(linear, Linear)
        layers.append((linear.weight, linear.bias))
        norm = net.norms[index] if index < len(net.norms) else None
        if isinstance(norm, LayerNorm):
            layers[-1] += (norm.weight, norm.bias)
    return layers


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
