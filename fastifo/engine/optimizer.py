"""Adam over parameters with a population axis; rate and decay may differ between members."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class Adam:
    """Kingma & Ba 2015, arXiv:1412.6980; decoupled decay: Loshchilov & Hutter, arXiv:1711.05101.

    All members of equal rate and decay step in one fused call.
    """

    def __init__(
        self, parameters: Sequence[Tensor], rate: Tensor, decay: Tensor, *, decoupled: bool
    ) -> None:
        """parameters: [P, ...] each.  rate, decay: [P]."""
        self.parameters = list(parameters)
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.place = {id(p): i for i, p in enumerate(self.parameters)}
        self.fused: Any = torch._fused_adamw_ if decoupled else torch._fused_adam_
        settings = list(zip(rate.tolist(), decay.tolist(), strict=True))
        self.uniform = len(set(settings)) == 1
        self.settings = settings[:1] if self.uniform else settings
        self.count = torch.zeros((), dtype=torch.float32, device=self.parameters[0].device)

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """One step; every parameter that trains is stepped once an update."""
        self.count += 1
        index = [self.place[id(p)] for p in parameters]
        moments = ([self.first[i] for i in index], [self.second[i] for i in index])
        columns: list[list[Tensor]] = [list(parameters), list(gradients), *moments]
        for member, (rate, decay) in enumerate(self.settings):
            mine = columns
            if not self.uniform:
                mine = [[tensor[member] for tensor in column] for column in columns]
            self.fused(
                *mine,
                [],
                [self.count] * len(index),
                lr=rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=decay,
                eps=EPS,
                amsgrad=False,
                maximize=False,
            )

    def moments(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Each parameter with its running means of the gradient and of its square."""
        pairs = zip(self.first, self.second, strict=True)
        yield from zip(self.parameters, pairs, strict=True)
