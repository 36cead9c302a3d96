"""Adam for parameters with a population axis; the same call refreshes their target copies."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastifo.ops.adam import Stepper, adam_reference

BETAS = (0.9, 0.999)  # decay rates of the moments, Adam's defaults
EPS = 1e-8  # added to the root of the second moment, Adam's default


@dataclass(eq=False)
class ParamGroup:
    """Parameters that share a learning rate schedule, a weight decay and a step period."""

    parameters: Sequence[Tensor]  # [P, ...] each
    rate: Tensor  # learning rate before its cosine decay, float64 [P]
    decay: Tensor  # weight decay, float64 [P]
    cosine_updates: int = 0  # the rate decays to 0 over this many updates; 0 keeps it constant
    period: int = 1  # the parameters step in updates `period`, 2 * `period`, ... only

    def __post_init__(self) -> None:
        self.current_rate = self.rate.clone()  # of this update, on the device

    def update_rate(self, update: Tensor) -> None:
        """rate_t = rate (1 + cos(pi t / T)) / 2, t updates made, T = cosine_updates.

        update: t, int64 [1]; read on the device.
        """
        if self.cosine_updates:
            progress = (update.double() / self.cosine_updates).clamp(max=1.0)
            self.current_rate.copy_(self.rate * (0.5 * (1.0 + torch.cos(math.pi * progress))))


@dataclass(eq=False)
class TargetUpdate:
    """When and how target copies follow their parameters: target += polyak (parameter - target).

    Before update `hard_copy_until`, counted from 1, targets are hard copies.
    """

    target_of: Mapping[Tensor, Tensor]  # parameter -> its target copy, the same shape
    every: int  # in updates `every`, 2 * `every`, ...
    polyak: Tensor  # float64 [P]; 1 is a hard copy, bit for bit
    hard_copy_until: int = 0

    def __post_init__(self) -> None:
        self.current_polyak = self.polyak.clone()  # of this update, on the device

    def update_polyak(self, update: Tensor) -> None:
        """Sets `current_polyak`.  update: updates made, int64 [1]; read on the device."""
        if self.hard_copy_until:
            is_copy = update + 1 < self.hard_copy_until
            self.current_polyak.copy_(torch.where(is_copy, 1.0, self.polyak))


class Adam:
    """Adam or AdamW of every member in one call, which refreshes the targets too.

    Source: Kingma & Ba 2015, arXiv:1412.6980; decoupled decay: Loshchilov & Hutter 2019,
    arXiv:1711.05101.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        param_groups: Sequence[ParamGroup],
        targets: TargetUpdate,
        *,
        decoupled: bool,
        fused: bool,
    ) -> None:
        """parameters: everything that trains, [P, ...] each.  param_groups: cover all of them;
        where two overlap, the later one counts.  decoupled: AdamW, whose weight decay stays out of
        the moments.  fused: use the compiled op, else its reference.
        """
        self.parameters = list(parameters)
        self.first = [torch.zeros_like(p) for p in self.parameters]  # means of the gradient
        self.second = [torch.zeros_like(p) for p in self.parameters]  # means of its square
        self.param_groups = list(param_groups)
        self.targets = targets
        self.decoupled = decoupled
        self.fused = fused
        self.index_of = {p: i for i, p in enumerate(self.parameters)}
        self.param_group_of = {p: group for group in self.param_groups for p in group.parameters}
        self.steppers: dict[tuple[int, ...], Callable[[list[Tensor], Tensor], None]] = {}

    @torch.no_grad()
    def step(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], update: Tensor
    ) -> None:
        """One step of some parameters; each must be stepped once per period of its group.

        gradients: as `parameters`.  update: updates made before this one, int64 [1] on the device.
        """
        self.targets.update_polyak(update)
        for group in self.param_groups:
            group.update_rate(update)
            pairs = [
                (self.index_of[parameter], gradient)
                for parameter, gradient in zip(parameters, gradients, strict=True)
                if self.param_group_of[parameter] is group
            ]
            if not pairs:
                continue
            # Parameters with a target come first, as the op wants them.
            pairs.sort(key=lambda pair: self.parameters[pair[0]] not in self.targets.target_of)
            index = tuple(i for i, _ in pairs)
            if index not in self.steppers:
                self.steppers[index] = self._stepper(index, group)
            group_update = update if group.period == 1 else update // group.period
            self.steppers[index]([gradient for _, gradient in pairs], group_update)

    def _stepper(
        self, index: tuple[int, ...], group: ParamGroup
    ) -> Callable[[list[Tensor], Tensor], None]:
        """The function (gradients, steps made) that steps the parameters at `index`."""
        parameters = [self.parameters[i] for i in index]
        target_of = self.targets.target_of
        beta1, beta2 = BETAS
        fixed: dict[str, Any] = {
            "parameter": parameters,
            "first": [self.first[i] for i in index],
            "second": [self.second[i] for i in index],
            "target": [target_of[p] for p in parameters if p in target_of],
            "rate": group.current_rate,
            "decay": group.decay,
            "polyak": self.targets.current_polyak,
            "every": max(1, self.targets.every // group.period),  # in steps of this group
            "decoupled": self.decoupled,
            "beta1": beta1,
            "beta2": beta2,
            "eps": EPS,
        }
        if self.fused:
            return Stepper(**fixed)
        return lambda gradient, update: adam_reference(gradient=gradient, update=update, **fixed)

    def moments(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Each parameter with its running means of the gradient and of its square."""
        pairs = zip(self.first, self.second, strict=True)
        yield from zip(self.parameters, pairs, strict=True)
