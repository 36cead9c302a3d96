"""Adam over parameters with a population axis, and the targets that follow them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fastifo.ops.adam import Stepper, adam_reference

BETAS = (0.9, 0.999)
EPS = 1e-8


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
    ) -> None:
        """parameters: [P, ...] each.  rate, decay: float64 [P].  fused: the compiled op, else its
        reference.

        target_of: parameter -> the copy that takes its value after every `every` updates.
        """
        self.parameters = list(parameters)
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.place = {p: i for i, p in enumerate(self.parameters)}
        self.rate, self.decay = rate, decay
        self.polyak = torch.ones_like(rate)
        self.decoupled = decoupled
        self.fused = fused
        self.steppers: dict[tuple[int, ...], Callable[[list[Tensor], Tensor], None]] = {}
        self.target_of = target_of
        self.every = every

    @torch.no_grad()
    def step(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], update: Tensor
    ) -> None:
        """One step; every parameter that trains is stepped once an update.

        update: updates made so far, int64 [1] on the device.
        """
        pairs = sorted(
            zip(parameters, gradients, strict=True), key=lambda pair: pair[0] not in self.target_of
        )
        index = tuple(self.place[p] for p, _ in pairs)
        if index not in self.steppers:
            self.steppers[index] = self._stepper(index)
        self.steppers[index]([gradient for _, gradient in pairs], update)

    def _stepper(self, index: tuple[int, ...]) -> Callable[[list[Tensor], Tensor], None]:
        """What steps these parameters; those with a target come first."""
        stepped = [self.parameters[i] for i in index]
        state = (stepped, [self.first[i] for i in index], [self.second[i] for i in index])
        targets = [self.target_of[p] for p in stepped if p in self.target_of]
        rates = (self.rate, self.decay, self.polyak)
        if self.fused:
            return Stepper(*state, targets, *rates, self.every, self.decoupled, *BETAS, EPS)
        return lambda gradient, update: adam_reference(
            *state, gradient, targets, update, *rates, self.every, self.decoupled, *BETAS, EPS
        )

    def moments(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Each parameter with its running means of the gradient and of its square."""
        pairs = zip(self.first, self.second, strict=True)
        yield from zip(self.parameters, pairs, strict=True)
