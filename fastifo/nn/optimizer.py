"""Adam over parameters with a population axis, and the targets that follow them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastifo.ops.adam import Stepper, adam_reference

BETAS = (0.9, 0.999)
EPS = 1e-8


@dataclass
class ParamGroup:
    """Parameters that step at a rate and decay of their own."""

    parameters: Sequence[Tensor]
    rate: Tensor  # float64 [P], before the cosine
    decay: Tensor  # float64 [P]
    cosine_updates: int = 0  # the rate falls to 0 over so many; 0 keeps it
    period: int = 1  # they step in updates `period`, 2 * `period`, ... only

    def __post_init__(self) -> None:
        self.now = self.rate.clone()

    def follow(self, update: Tensor) -> None:
        """Sets the rate of the update after `update` updates, on the device."""
        if self.cosine_updates:
            share = (update.double() / self.cosine_updates).clamp(max=1.0)
            self.now.copy_(self.rate * (0.5 * (1.0 + torch.cos(math.pi * share))))


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980; decoupled decay: Loshchilov & Hutter, arXiv:1711.05101.

    Rate and decay may differ between members. All members step in one call, which moves the
    targets too.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        rate: Tensor,
        decay: Tensor,
        *,
        decoupled: bool,
        fused: bool,
        target_of: Mapping[Tensor, Tensor],
        every: int,
        polyak: Tensor,
        copies_until: int = 0,
        param_groups: Sequence[ParamGroup] = (),
    ) -> None:
        """parameters: [P, ...] each.  rate, decay: float64 [P], of parameters that no group names.
        fused: the compiled op, else its reference.

        target_of: parameter -> the copy that takes its value after every `every` updates, by the
        share `polyak`, float64 [P], and whole before update `copies_until`, counted from 1.
        """
        self.parameters = list(parameters)
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.place = {p: i for i, p in enumerate(self.parameters)}
        self.param_groups = [ParamGroup(self.parameters, rate, decay), *param_groups]
        self.param_group_of = {
            p: group for group in self.param_groups for p in group.parameters
        }  # the last counts
        self.share = polyak
        self.polyak = polyak.clone()  # of this update
        self.copies_until = copies_until
        self.decoupled = decoupled
        self.fused = fused
        self.steppers: dict[tuple[int, ...], Callable[[list[Tensor], Tensor], None]] = {}
        self.target_of = target_of
        self.every = every

    @torch.no_grad()
    def step(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], update: Tensor
    ) -> None:
        """One step; every parameter that trains is stepped once an update, or once a period.

        update: updates made so far, int64 [1] on the device.
        """
        if self.copies_until:
            self.polyak.copy_(torch.where(update + 1 < self.copies_until, 1.0, self.share))
        for group in self.param_groups:
            group.follow(update)
            pairs = sorted(
                (
                    pair
                    for pair in zip(parameters, gradients, strict=True)
                    if self.param_group_of[pair[0]] is group
                ),
                key=lambda pair: pair[0] not in self.target_of,
            )
            index = tuple(self.place[p] for p, _ in pairs)
            if index and index not in self.steppers:
                self.steppers[index] = self._stepper(index, group)
            if index:
                own = update if group.period == 1 else update // group.period
                self.steppers[index]([gradient for _, gradient in pairs], own)

    def _stepper(
        self, index: tuple[int, ...], group: ParamGroup
    ) -> Callable[[list[Tensor], Tensor], None]:
        """What steps these parameters; those with a target come first."""
        stepped = [self.parameters[i] for i in index]
        state = (stepped, [self.first[i] for i in index], [self.second[i] for i in index])
        targets = [self.target_of[p] for p in stepped if p in self.target_of]
        rates = (group.now, group.decay, self.polyak)
        every = max(1, self.every // group.period)  # in steps of its own
        if self.fused:
            return Stepper(*state, targets, *rates, every, self.decoupled, *BETAS, EPS)
        return lambda gradient, update: adam_reference(
            *state, gradient, targets, update, *rates, every, self.decoupled, *BETAS, EPS
        )

    def moments(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Each parameter with its running means of the gradient and of its square."""
        pairs = zip(self.first, self.second, strict=True)
        yield from zip(self.parameters, pairs, strict=True)
