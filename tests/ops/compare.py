"""What every op's tests share: the judgement of its kernels by its reference in float64."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, registry

CPU = torch.device("cpu")

# Kernels sum in another order and use approximations good to 3 units in the last place (6e-8).
RTOL = {torch.float32: 2e-5, torch.float64: 1e-10}
ATOL = {torch.float32: 2e-6, torch.float64: 1e-12}


def use(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors go to this instruction set's kernels."""
    monkeypatch.setattr(registry, "kernel", lambda name, device: getattr(getattr(_C, isa), name))


def cast(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Tensors, and lists of them, on the device; floats in the dtype."""
    if isinstance(value, list):
        return [cast(entry, dtype, device) for entry in value]
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype).clone()
    return value


def flat(value: Any) -> list[Tensor]:
    """The tensors of a result, in order."""
    if isinstance(value, Tensor):
        return [value]
    entries = value if isinstance(value, list | tuple) else []
    return [tensor for entry in entries for tensor in flat(entry)]


def assert_equals_reference(
    name: str, arguments: Sequence[Any], device: torch.device, scale: float = 1.0
) -> None:
    """The op in float32 and float64 against its reference in float64.

    scale: of the float32 tolerance, where the numbers are of that size.
    """
    expected = flat(OPS[name].reference(*cast(list(arguments), torch.float64, CPU)))
    for dtype in (torch.float32, torch.float64):
        found = flat(OPS[name].call(*cast(list(arguments), dtype, device)))
        assert [tensor.shape for tensor in found] == [tensor.shape for tensor in expected]
        for one, other in zip(found, expected, strict=True):
            if not one.is_floating_point():
                continue  # an index may move where two numbers are closer than their rounding
            assert one.dtype == dtype
            assert one.device == device
            torch.testing.assert_close(
                one.cpu().double(), other, rtol=RTOL[dtype], atol=scale * ATOL[dtype],
                equal_nan=True,
            )  # fmt: skip


class Explicit(torch.autograd.Function):
    """Gives autograd an op's loss and the gradients that it made, for gradcheck."""

    @staticmethod
    def forward(ctx: Any, name: str, leaves: int, *arguments: Any) -> Tensor:
        found = flat(OPS[name].call(*arguments))
        ctx.save_for_backward(*found[1 : 1 + leaves])
        ctx.count = len(arguments)
        return found[0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [g * outer[0].view(-1, *[1] * (g.ndim - 1)) for g in ctx.saved_tensors]
        rest = [None] * (ctx.count - len(gradients))
        return None, None, *gradients, *rest


def assert_gradients_are_right(name: str, leaves: list[Tensor], *rest: Any) -> None:
    """Finite differences in float64."""
    inputs = [leaf.double().requires_grad_() for leaf in leaves]

    def loss(*inputs: Tensor) -> Tensor:
        loss: Tensor = Explicit.apply(name, len(leaves), *inputs, *rest)  # type: ignore[no-untyped-call]
        return loss

    assert torch.autograd.gradcheck(loss, inputs)


def assert_member_and_thread_free(name: str, arguments: Sequence[Any], members: int) -> None:
    """Turning the population round turns the result round, bit for bit, on any number of threads.

    arguments: tensors with the members first, and plain values.
    """
    order = torch.arange(members - 1, -1, -1)

    def turn(value: Any) -> Any:
        return value[order].contiguous() if isinstance(value, Tensor) else value

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = flat(OPS[name].call(*arguments))
        torch.set_num_threads(3)
        together = flat(OPS[name].call(*arguments))
        turned = flat(OPS[name].call(*[turn(value) for value in arguments]))
    finally:
        torch.set_num_threads(threads)
    for one, other, back in zip(alone, together, turned, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, back[order])


def assert_refused(
    name: str, good: dict[str, Any], bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    """One wrong argument among good ones."""
    with pytest.raises(error, match=message):
        OPS[name].call(**(good | bad))


def assert_streams_and_replays(name: str, first: Sequence[Any], second: Sequence[Any]) -> None:
    """On a side stream and in a replayed graph, with new inputs, the op computes the same.

    Arguments on the GPU; in-place ops are judged by what they leave in their arguments.
    """

    def results(arguments: Sequence[Any]) -> list[Tensor]:
        return flat(OPS[name].call(*arguments)) or flat(list(arguments))

    device = flat(list(first))[0].device
    expected = [t.clone() for t in results(cast(list(second), torch.float32, device))]
    static = cast(list(first), torch.float32, device)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        results(static)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = results(static)
    for target, source in zip(flat(static), flat(list(second)), strict=True):
        target.copy_(source)
    graph.replay()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
