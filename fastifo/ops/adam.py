"""Adam and the target update for all parameters of all members, in one pass over memory."""

from __future__ import annotations

import torch
from torch import Tensor

from fastifo.ops.registry import expect, expect_float, is_like, kernel_name, launch, op


def adam_reference(
    parameter: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    gradient: list[Tensor],
    target: list[Tensor],
    update: Tensor,
    rate: Tensor,
    decay: Tensor,
    polyak: Tensor,
    every: int,
    decoupled: bool,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """`adam` in plain torch. The tests compare the kernels with it."""
    step = int(update) + 1
    with torch.no_grad():
        for index, (w, m, v, g) in enumerate(zip(parameter, first, second, gradient, strict=True)):
            column = (-1, *[1] * (w.ndim - 1))
            lr, wd = rate.view(column), decay.view(column)
            if decoupled:
                w.mul_((1.0 - lr * wd).to(w.dtype))
            decayed = g if decoupled else g + wd.to(w.dtype) * w
            m.add_(decayed - m, alpha=1.0 - beta1)
            v.mul_(beta2).addcmul_(decayed, decayed, value=1.0 - beta2)
            denominator = v.sqrt() / (1.0 - beta2**step) ** 0.5 + eps
            w.sub_((lr / (1.0 - beta1**step)).to(w.dtype) * m / denominator)
            if index < len(target) and step % every == 0:
                copy, share = target[index], polyak.view(column)
                mixed = copy + share.to(w.dtype) * (w - copy)
                copy.copy_(torch.where(share == 1.0, w, mixed))


class Stepper:
    """`adam` for fixed parameters: checks all arguments once and only the gradients at each step.

    Checking every tensor at every step would take a tenth of the step's time. The kernel keeps raw
    pointers, so the tensors must stay where they are; this object holds references to them.
    """

    def __init__(
        self,
        parameter: list[Tensor],
        first: list[Tensor],
        second: list[Tensor],
        target: list[Tensor],
        rate: Tensor,
        decay: Tensor,
        polyak: Tensor,
        every: int,
        decoupled: bool,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        """Takes the arguments of `adam` and raises the same errors."""
        self.device = rate.device
        expect("rate", rate, torch.float64, (None,))  # [P]
        members = rate.shape[0]
        expect("decay", decay, torch.float64, (members,), self.device)
        expect("polyak", polyak, torch.float64, (members,), self.device)
        if every < 1:
            raise ValueError(f"every: expected at least 1, found {every}.")
        count = len(parameter)
        for name, column in (("first", first), ("second", second)):
            if len(column) != count:
                raise ValueError(f"{name}: expected {count} tensors, found {len(column)}.")
        if len(target) > count:
            raise ValueError(f"target: expected at most {count} tensors, found {len(target)}.")
        self.shapes = [w.shape for w in parameter]
        # For each parameter: pointers to w, m, v and target (0: none), and its size in one member.
        self.pointers: list[tuple[int, int, int, int, int]] = []
        if parameter:
            self.dtype = expect_float("parameter[0]", parameter[0], None, self.device)
            self.kernel = kernel_name("adam", parameter[0])
        for index, (w, m, v) in enumerate(zip(parameter, first, second, strict=True)):
            group = {"parameter": w, "first": m, "second": v}
            if index < len(target):
                group["target"] = target[index]
            self._expect_group(index, group, members)
            copy = target[index].data_ptr() if index < len(target) else 0
            size = w.numel() // max(1, members)
            self.pointers.append((w.data_ptr(), m.data_ptr(), v.data_ptr(), copy, size))
        self.tensors = (*parameter, *first, *second, *target)  # keeps their memory alive
        self.settings = (rate, decay, polyak)
        self.constants = (members, every, int(decoupled), beta1, beta2, eps)

    def _expect_group(self, index: int, group: dict[str, Tensor], members: int) -> None:
        """Checks the index-th parameter, its moments and its target."""
        shape = group["parameter"].shape
        if shape[:1] != (members,):
            raise ValueError(
                f"parameter[{index}]: expected shape [{members}, ...], found {list(shape)}."
            )
        for name, tensor in group.items():
            expect(f"{name}[{index}]", tensor, self.dtype, shape, self.device)

    def __call__(self, gradient: list[Tensor], update: Tensor) -> None:
        """Makes one step.  gradient, update: as in `adam`, which raises the same errors."""
        expect("update", update, torch.int64, (1,), self.device)
        if len(gradient) != len(self.shapes):
            raise ValueError(
                f"gradient: expected {len(self.shapes)} tensors, found {len(gradient)}."
            )
        if not gradient:
            return
        plan: list[int] = []
        for index, (g, shape, pointers) in enumerate(
            zip(gradient, self.shapes, self.pointers, strict=True)
        ):
            if not is_like(g, self.dtype, shape, self.device):
                expect(f"gradient[{index}]", g, self.dtype, shape, self.device)
            w, m, v, copy, size = pointers
            plan += (w, m, v, g.data_ptr(), copy, size)
        launch(self.kernel, self.device, plan, update, *self.settings, *self.constants)


@op(
    "adam(Tensor(a!)[] parameter, Tensor(b!)[] first, Tensor(c!)[] second, Tensor[] gradient,"
    " Tensor(d!)[] target, Tensor update, Tensor rate, Tensor decay, Tensor polyak, int every,"
    " bool decoupled, float beta1, float beta2, float eps) -> ()",
    reference=adam_reference,
    fake=lambda *arguments: None,
)
def adam(
    parameter: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    gradient: list[Tensor],
    target: list[Tensor],
    update: Tensor,
    rate: Tensor,
    decay: Tensor,
    polyak: Tensor,
    every: int,
    decoupled: bool,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Makes one Adam step in place; every `every`-th step also updates the targets.

    A target update is target += polyak * (parameter - target). Bias correction and eps are applied
    as in torch.optim.Adam.

    parameter, first, second (the moments), gradient: [P, ...] each, all float32 or all float64.
    target: targets of the first len(target) parameters; may be empty.  update: the number of
    previous steps, int64 [1], read on the device.  rate (learning rate), decay, polyak: float64
    [P]; a polyak of 1 copies bit for bit.  decoupled: True for AdamW's weight decay, False to add
    the decay to the gradient.
    Raises TypeError for a wrong dtype and ValueError for any other mismatch.
    Source: Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101.
    """
    stepper = Stepper(
        parameter, first, second, target, rate, decay, polyak, every, decoupled, beta1, beta2, eps
    )
    stepper(gradient, update)
