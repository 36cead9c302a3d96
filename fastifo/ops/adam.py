"""Adam and the target copy for every parameter of every member, in one pass."""

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
    """What `adam` means, in plain torch."""
    step = int(update) + 1
    with torch.no_grad():
        for place, (w, m, v, g) in enumerate(zip(parameter, first, second, gradient, strict=True)):
            column = (-1, *[1] * (w.ndim - 1))
            lr, wd = rate.view(column), decay.view(column)
            if decoupled:
                w.mul_((1.0 - lr * wd).to(w.dtype))
            slope = g if decoupled else g + wd.to(w.dtype) * w
            m.add_(slope - m, alpha=1.0 - beta1)
            v.mul_(beta2).addcmul_(slope, slope, value=1.0 - beta2)
            denominator = v.sqrt() / (1.0 - beta2**step) ** 0.5 + eps
            w.sub_((lr / (1.0 - beta1**step)).to(w.dtype) * m / denominator)
            if place < len(target) and step % every == 0:
                copy, share = target[place], polyak.view(column)
                moved = copy + share.to(w.dtype) * (w - copy)
                copy.copy_(torch.where(share == 1.0, w, moved))


class Stepper:
    """`adam` with everything but the gradients checked once: the rest stays where it is.

    A check of every tensor at every step would cost a tenth of the step.
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
        """Arguments and errors as in `adam`."""
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
        self.fixed: list[tuple[int, ...]] = []  # w, m, v; target or 0, numbers of one member
        if parameter:
            self.dtype = expect_float("parameter[0]", parameter[0], None, self.device)
            self.kernel = kernel_name("adam", parameter[0])
        for place, w in enumerate(parameter):
            if w.shape[:1] != (members,):
                raise ValueError(
                    f"parameter[{place}]: expected shape [{members}, ...], found {list(w.shape)}."
                )
            group = {"parameter": w, "first": first[place], "second": second[place]}
            if place < len(target):
                group["target"] = target[place]
            for name, tensor in group.items():
                expect(f"{name}[{place}]", tensor, self.dtype, w.shape, self.device)
            copy = group["target"].data_ptr() if "target" in group else 0
            self.fixed.append(
                (w.data_ptr(), first[place].data_ptr(), second[place].data_ptr(), copy,
                 w.numel() // max(1, members))
            )  # fmt: skip
        self.kept = (*parameter, *first, *second, *target)
        self.settings = (rate, decay, polyak)
        self.constants = (members, every, int(decoupled), beta1, beta2, eps)

    def __call__(self, gradient: list[Tensor], update: Tensor) -> None:
        """One step.  gradient, update: as in `adam`, with its errors."""
        expect("update", update, torch.int64, (1,), self.device)
        if len(gradient) != len(self.shapes):
            raise ValueError(
                f"gradient: expected {len(self.shapes)} tensors, found {len(gradient)}."
            )
        if not gradient:
            return
        plan: list[int] = []
        for place, (g, shape, fixed) in enumerate(
            zip(gradient, self.shapes, self.fixed, strict=True)
        ):
            if not is_like(g, self.dtype, shape, self.device):
                expect(f"gradient[{place}]", g, self.dtype, shape, self.device)
            w, m, v, copy, size = fixed
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
    """One Adam step in place, then target += polyak * (parameter - target) on every `every`-th.

    parameter, first, second (the moments), gradient: one dtype, float32 or float64, [P, ...] each.
    target: copies of the first len(target) parameters, may be empty.  update: steps made before
    this one, int64 [1], read on the device.  rate, decay, polyak: float64 [P]; a polyak of 1 copies
    bit for bit.  decoupled: AdamW's decay, else it joins the gradient.
    Source: Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101; bias
    correction and eps stand where torch.optim.Adam has them.
    Raises TypeError for a dtype and ValueError for anything else that does not fit.
    """
    stepper = Stepper(
        parameter, first, second, target, rate, decay, polyak, every, decoupled, beta1, beta2, eps
    )
    stepper(gradient, update)
