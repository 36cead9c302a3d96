"""Assertions that the tests of all ops share: kernels are compared with references in float64."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fastifo import _C
from fastifo.ops import OPS, registry

CPU = torch.device("cpu")

# Kernels sum in another order and use approximations accurate to 3 units in the last place (6e-8).
RTOL = {torch.float32: 2e-5, torch.float64: 1e-10}
ATOL = {torch.float32: 2e-6, torch.float64: 1e-12}


def use_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes ops on CPU tensors run the kernels compiled for `isa`: plain, avx2 or avx512."""
    monkeypatch.setattr(registry, "kernel", lambda name, device: getattr(getattr(_C, isa), name))


def cast(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Copies tensors, also inside lists, to the device; floating-point ones to the dtype."""
    if isinstance(value, list):
        return [cast(entry, dtype, device) for entry in value]
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype).clone()
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in a nested list or tuple, in order; other values are left out."""
    if isinstance(value, Tensor):
        return [value]
    entries = value if isinstance(value, list | tuple) else []
    return [tensor for entry in entries for tensor in tensors_of(entry)]


def assert_equals_reference(
    name: str, arguments: Sequence[Any], device: torch.device, scale: float = 1.0
) -> None:
    """Asserts that the op in float32 and float64 equals its reference in float64.

    scale: multiplies the absolute tolerance; about the size of the numbers that are summed.
    """
    expected = tensors_of(OPS[name].reference(*cast(list(arguments), torch.float64, CPU)))
    for dtype in (torch.float32, torch.float64):
        actual = tensors_of(OPS[name].call(*cast(list(arguments), dtype, device)))
        assert [tensor.shape for tensor in actual] == [tensor.shape for tensor in expected]
        for result, reference in zip(actual, expected, strict=True):
            if not result.is_floating_point():
                continue  # an index may differ where two numbers are closer than their rounding
            assert result.dtype == dtype
            assert result.device == device
            torch.testing.assert_close(
                result.cpu().double(), reference, rtol=RTOL[dtype], atol=scale * ATOL[dtype],
                equal_nan=True,
            )  # fmt: skip


class LossWithGradients(torch.autograd.Function):
    """An op's loss, whose backward pass returns the gradients that the op computed."""

    @staticmethod
    def forward(ctx: Any, name: str, leaves: int, *arguments: Any) -> Tensor:
        outputs = tensors_of(OPS[name].call(*arguments))
        ctx.save_for_backward(*outputs[1 : 1 + leaves])
        ctx.count = len(arguments)
        return outputs[0]

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [g * outer[0].view(-1, *[1] * (g.ndim - 1)) for g in ctx.saved_tensors]
        constants = [None] * (ctx.count - len(gradients))
        return None, None, *gradients, *constants


def assert_gradients_equal_finite_differences(
    name: str, leaves: list[Tensor], *constants: Any
) -> None:
    """Runs gradcheck in float64 on the op's loss.

    leaves: the first arguments, for which the op returns gradients.  constants: the others.
    """
    inputs = [leaf.double().requires_grad_() for leaf in leaves]

    def loss(*inputs: Tensor) -> Tensor:
        loss: Tensor = LossWithGradients.apply(name, len(leaves), *inputs, *constants)  # type: ignore[no-untyped-call]
        return loss

    assert torch.autograd.gradcheck(loss, inputs)


def assert_independent_of_member_order_and_threads(
    name: str, arguments: Sequence[Any], members: int
) -> None:
    """Asserts that reversing the members reverses the results bit for bit, with 1 and 3 threads.

    arguments: tensors with the member axis first, and plain values.
    """
    order = torch.arange(members - 1, -1, -1)

    def reverse(value: Any) -> Any:
        return value[order].contiguous() if isinstance(value, Tensor) else value

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_thread = tensors_of(OPS[name].call(*arguments))
        torch.set_num_threads(3)
        three_threads = tensors_of(OPS[name].call(*arguments))
        reversed_members = tensors_of(OPS[name].call(*[reverse(value) for value in arguments]))
    finally:
        torch.set_num_threads(threads)
    for expected, same, backwards in zip(one_thread, three_threads, reversed_members, strict=True):
        assert torch.equal(expected, same)
        assert torch.equal(expected, backwards[order])


def assert_refused(
    name: str, good: dict[str, Any], bad: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Asserts that the op raises `error` if the argument in `bad` replaces the one in `good`."""
    with pytest.raises(error, match=message):
        OPS[name].call(**(good | bad))


def assert_streams_and_replays(name: str, first: Sequence[Any], second: Sequence[Any]) -> None:
    """Asserts that a graph captured on `first` after a side-stream run replays right on `second`.

    Arguments are on the GPU. For in-place ops the arguments are compared.
    """

    def results(arguments: Sequence[Any]) -> list[Tensor]:
        return tensors_of(OPS[name].call(*arguments)) or tensors_of(list(arguments))

    device = tensors_of(list(first))[0].device
    expected = [t.clone() for t in results(cast(list(second), torch.float32, device))]
    static = cast(list(first), torch.float32, device)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        results(static)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replayed = results(static)
    for target, source in zip(tensors_of(static), tensors_of(list(second)), strict=True):
        target.copy_(source)
    graph.replay()
    for result, reference in zip(replayed, expected, strict=True):
        assert torch.equal(result, reference)
