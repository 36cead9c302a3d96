"""Adam and the target copy for every parameter of every member, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from fastifo.ops._op import expect, expect_float, is_like, kernel_name, launch, op

_ROLES = ("parameter", "first", "second", "gradient", "target")


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
    expect("update", update, torch.int64, (1,))
    device = update.device
    expect("rate", rate, torch.float64, (None,), device)  # [P]
    members = rate.shape[0]
    expect("decay", decay, torch.float64, (members,), device)
    expect("polyak", polyak, torch.float64, (members,), device)
    if every < 1:
        raise ValueError(f"every: expected at least 1, found {every}.")
    count = len(parameter)
    for name, column in (("first", first), ("second", second), ("gradient", gradient)):
        if len(column) != count:
            raise ValueError(f"{name}: expected {count} tensors, found {len(column)}.")
    if len(target) > count:
        raise ValueError(f"target: expected at most {count} tensors, found {len(target)}.")
    if not parameter:
        return
    dtype = expect_float("parameter[0]", parameter[0], None, device)
    plan: list[int] = []  # w, m, v, g, target or 0, floats of one member
    copies = [*target, *[None] * (count - len(target))]
    for place, group in enumerate(zip(parameter, first, second, gradient, copies, strict=True)):
        shape, numel = group[0].shape, group[0].numel()
        if shape[:1] != (members,):
            raise ValueError(
                f"parameter[{place}]: expected shape [{members}, ...], found {list(shape)}."
            )
        for tensor, name in zip(group, _ROLES, strict=True):
            if tensor is None:
                plan.append(0)
                continue
            if not is_like(tensor, dtype, shape, device):  # spares a good call the message's cost
                expect(f"{name}[{place}]", tensor, dtype, shape, device)
            plan.append(tensor.data_ptr())
        plan.append(numel // max(1, members))
    launch(
        kernel_name("adam", parameter[0]), device, plan, update, rate, decay, polyak, members,
        every, int(decoupled), beta1, beta2, eps,
    )  # fmt: skip
