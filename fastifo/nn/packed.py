"""Nets in the layout of compiled code, from and to the learner's own tensors."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fastifo import _C
from fastifo.nn.mlp import MLP, Linear

MAX_DEPTH = 16  # layers of a net that compiled code takes
PANEL, BLOCK = 16, 32  # csrc/engine/panels.h
PACKS = 3  # of a layer's weights: straight, turned, the target's


class NetWeights:
    """One net of every member in the engine's layout, [P, size]; see csrc/engine/plan.h."""

    def __init__(self, net: MLP) -> None:
        self.layers = _layers(net)
        shapes = [tuple(layer.weight.shape) for layer in self.layers]
        self.widths = [shapes[0][1], *(shape[2] for shape in shapes)]
        self.size = sum(_padded(i) * _padded(o) + _padded(o) for i, o in pairwise(self.widths))
        dtype = self.layers[0].weight.dtype
        self.weights = torch.zeros(shapes[0][0], self.size, dtype=dtype)

    def plan(self) -> Any:
        plan = _C.NetPlan()
        plan.widths, plan.size = self.widths, self.size
        plan.weights = self.weights.data_ptr()
        return plan

    def load_weights(self) -> None:
        """Takes the parameters from the learner."""
        self._pack(self.weights, [(layer.weight, layer.bias) for layer in self.layers])

    def _parts(self, state: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of each layer: weights [P, inputs, outputs / 16, 16] and biases [P, outputs]."""
        parts, offset = [], 0
        for inputs, outputs in pairwise(self.widths):
            rows, columns = _padded(inputs), _padded(outputs)
            weight = state[:, offset : offset + rows * columns]
            offset += rows * columns
            panels = weight.unflatten(1, (columns // PANEL, rows, PANEL)).transpose(1, 2)
            parts.append((panels, state[:, offset : offset + columns]))
            offset += columns
        return parts

    def _pack(self, state: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        for (weight, bias), (panels, line) in zip(pairs, self._parts(state), strict=True):
            inputs, outputs = weight.shape[1:]
            wide = weight.new_zeros(len(weight), inputs, line.shape[1])
            wide[:, :, :outputs] = weight
            panels[:, :inputs] = wide.unflatten(2, (-1, PANEL))
            line[:, :outputs] = bias.squeeze(1)


class NetState(NetWeights):
    """The same with what training needs beside."""

    def __init__(self, net: MLP, target: MLP | None, parts: int) -> None:
        """parts: bfloat16 numbers that make an operand of a product; 0 is single precision."""
        super().__init__(net)
        self.target_layers = [] if target is None else _layers(target)
        members = len(self.weights)
        self.first, self.second, self.target = torch.zeros(
            3, members, self.size, dtype=self.weights.dtype
        )
        packed = sum(_padded(i) * _padded(o) for i, o in pairwise(self.widths))
        self.packs = torch.zeros(members, PACKS * parts * packed, dtype=torch.int16)

    def plan(self) -> Any:
        plan = super().plan()
        plan.first, plan.second = self.first.data_ptr(), self.second.data_ptr()
        plan.target = self.target.data_ptr() if self.target_layers else 0
        plan.packs, plan.packs_size = self.packs.data_ptr(), self.packs.shape[1]
        return plan

    def load(self, moments: Mapping[Tensor, tuple[Tensor, Tensor]]) -> None:
        """Takes parameters, moments and target from the learner."""
        self.load_weights()
        for place, state in enumerate((self.first, self.second)):
            pairs = [(moments[x.weight][place], moments[x.bias][place]) for x in self.layers]
            self._pack(state, pairs)
        if self.target_layers:
            self._pack(self.target, [(layer.weight, layer.bias) for layer in self.target_layers])

    def store(self, moments: Mapping[Tensor, tuple[Tensor, Tensor]]) -> None:
        """Gives them back."""
        self._unpack(self.weights, [(layer.weight, layer.bias) for layer in self.layers])
        for place, state in enumerate((self.first, self.second)):
            pairs = [(moments[x.weight][place], moments[x.bias][place]) for x in self.layers]
            self._unpack(state, pairs)
        if self.target_layers:
            self._unpack(self.target, [(layer.weight, layer.bias) for layer in self.target_layers])

    def _unpack(self, state: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        for (weight, bias), (panels, line) in zip(pairs, self._parts(state), strict=True):
            inputs, outputs = weight.shape[1:]
            weight.copy_(panels[:, :inputs].flatten(2)[:, :, :outputs])
            bias.copy_(line[:, :outputs].unsqueeze(1))


class NumbersState:
    """Parameters beside the layers of a net, [P, 1, A], in the same layout."""

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter
        members, _, width = parameter.shape
        self.weights, self.first, self.second = torch.zeros(
            3, members, _padded(width), dtype=parameter.dtype
        )

    def plan(self) -> Any:
        plan = _C.NetPlan()
        plan.size = self.weights.shape[1]
        for name in ("weights", "first", "second"):
            setattr(plan, name, getattr(self, name).data_ptr())
        return plan

    def _pairs(
        self, moments: Mapping[Tensor, tuple[Tensor, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What the learner has, and the same numbers here."""
        own = (self.weights, self.first, self.second)
        for theirs, mine in zip((self.parameter, *moments[self.parameter]), own, strict=True):
            yield theirs, mine[:, : theirs.shape[2]].unsqueeze(1)

    def load(self, moments: Mapping[Tensor, tuple[Tensor, Tensor]]) -> None:
        """Takes parameters and moments from the learner."""
        for theirs, mine in self._pairs(moments):
            mine.copy_(theirs)

    def store(self, moments: Mapping[Tensor, tuple[Tensor, Tensor]]) -> None:
        """Gives them back."""
        for theirs, mine in self._pairs(moments):
            theirs.copy_(mine)


def _layers(net: MLP) -> list[Linear]:
    return [layer for layer in net.layers if isinstance(layer, Linear)]


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
