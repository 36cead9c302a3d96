"""Adam over parameters with a population axis, and the targets that follow them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

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
        adam: Callable[..., None],
        target_of: Mapping[Tensor, Tensor],
        every: int,
    ) -> None:
        """parameters: [P, ...] each.  rate, decay: float64 [P].  adam: the op or its reference.

        target_of: parameter -> the copy that takes its value after every `every` updates.
        """
        self.parameters = list(parameters)
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.place = {p: i for i, p in enumerate(self.parameters)}
        self.rate, self.decay = rate, decay
        self.polyak = torch.ones_like(rate)
        self.decoupled = decoupled
        self.adam = adam
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
        index = [self.place[p] for p, _ in pairs]
        self.adam(
            [self.parameters[i] for i in index],
            [self.first[i] for i in index],
            [self.second[i] for i in index],
            [gradient for _, gradient in pairs],
            [self.target_of[p] for p, _ in pairs if p in self.target_of],
            update,
            self.rate,
            self.decay,
            self.polyak,
            self.every,
            self.decoupled,
            *BETAS,
            EPS,
        )

    def moments(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Each parameter with its running means of the gradient and of its square."""
        pairs = zip(self.first, self.second, strict=True)
        yield from zip(self.parameters, pairs, strict=True)
