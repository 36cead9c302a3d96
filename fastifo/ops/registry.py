"""Registers compiled ops with torch, checks their arguments and launches their kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch  # before _C, so that both use one OpenMP runtime
from torch import Tensor

from fastifo.ops.explain import explain

try:
    from fastifo import _C
except ImportError as error:
    raise ImportError(
        "fastifo: expected the compiled module fastifo._C in this package, found none. "
        "Install the checkout with `pip install -e .`, or run from another folder."
    ) from error

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Op:
    """A registered op."""

    name: str  # as in torch.ops.fastifo.<name>
    call: Callable[..., Any]  # the public function, which runs the compiled kernel
    reference: Callable[..., Any]  # the same op in plain torch; the tests compare `call` with it
    overload: Any  # torch's handle, as torch.library.opcheck takes it


OPS: dict[str, Op] = {}  # every registered op by name

_tracing = torch._C._len_torch_dispatch_stack

_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64"}

_LIBRARY = torch.library.Library("fastifo", "DEF")


def op(
    schema: str, *, reference: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Registers the decorated function as `torch.ops.fastifo.<name>` for the CPU and CUDA.

    schema: in torch.library's syntax, such as "name(Tensor x, int n) -> Tensor".  reference: the
    same op in plain torch.  fake: returns empty outputs of the right shape and dtype, for tracing.
    """
    name = schema.partition("(")[0]

    def register(function: Callable[P, R]) -> Callable[P, R]:
        _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, "CPU")
        _LIBRARY.impl(name, function, "CUDA")
        torch.library.register_fake(f"fastifo::{name}", fake, lib=_LIBRARY)
        overload = getattr(torch.ops.fastifo, name).default

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            check_not_traced(name)
            # Only tracing needs the dispatcher: skipping it saves 8 us, or 200 us with lists.
            if torch.compiler.is_compiling() or _tracing():
                return overload(*args, **kwargs)  # type: ignore[no-any-return]
            try:
                return function(*args, **kwargs)
            except Exception as error:
                explain(name, function, args, kwargs, error)
                raise

        OPS[name] = Op(name, call, reference, overload)
        return call

    return register


def is_like(
    tensor: Tensor,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
    device: torch.device | None,
) -> bool:
    """Whether the tensor matches exactly: the fast path of `expect`.

    A shape with None never matches here.
    """
    return (
        tensor.dtype is dtype
        and tensor.shape == shape
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and (device is None or tensor.device == device)
    )


def expect(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
    device: torch.device | None = None,
) -> None:
    """Raises unless `tensor` can be passed to a kernel as a raw pointer.

    name: of the argument, for the message.  shape: one entry per dimension, None for any size.
    device: None for any.
    Raises TypeError for a wrong dtype and ValueError for a wrong shape, device or memory layout.
    """
    if is_like(tensor, dtype, shape, device):
        return
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"{name}: expected a dense tensor, found {tensor.layout}. Convert it with .to_dense()."
        )
    actual = tensor.shape
    has_shape = len(actual) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, actual, strict=True)
    )
    on_device = device is None or tensor.device == device
    if has_shape and on_device and tensor.dtype is dtype and tensor.is_contiguous():
        return
    if tensor.dtype is not dtype:
        raise TypeError(
            f"{name}: expected {dtype}, found {tensor.dtype}. Convert it with .to({dtype})."
        )
    if not has_shape:
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape [{expected}], found {list(actual)}.")
    if not on_device:
        raise ValueError(
            f"{name}: expected a tensor on {device}, found {tensor.device}. "
            f"Move it with .to('{device}')."
        )
    raise ValueError(
        f"{name}: expected a contiguous tensor, found strides {tensor.stride()} for "
        f"shape {list(actual)}. Call .contiguous()."
    )


def expect_float(
    name: str,
    tensor: Tensor,
    shape: tuple[int | None, ...] | None,
    device: torch.device | None = None,
) -> torch.dtype:
    """Like `expect`, but accepts float32 and float64 and returns the dtype.

    shape: as in `expect`, or None for any shape.
    """
    dtype = tensor.dtype
    if dtype not in _SUFFIX:
        raise TypeError(
            f"{name}: expected torch.float32 or torch.float64, found {dtype}. "
            "Convert it with .float()."
        )
    expect(name, tensor, dtype, tuple(tensor.shape) if shape is None else shape, device)
    return dtype


def kernel_name(name: str, tensor: Tensor) -> str:
    """The compiled module's name of the kernel for the tensor's dtype, such as `adam_f32`."""
    return name + _SUFFIX[tensor.dtype]


def launch(name: str, device: torch.device, *args: Tensor | int | float | list[int]) -> None:
    """Runs the compiled kernel `name` for `device`; on a GPU, on the current stream.

    args: the arguments of the C++ function; tensors are passed as raw pointers, and the stream is
    appended.
    Raises RuntimeError for a CUDA device in a build without CUDA.
    """
    check_not_traced(name)
    kernel(name, device)(*[address(arg) if isinstance(arg, Tensor) else arg for arg in args])


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers are.

    Raises TypeError for a tensor without numbers in memory, such as a meta or a fake tensor.
    """
    try:
        lacks = tensor.is_neg() or type(tensor).__name__ == "FakeTensor"  # asking the latter warns
        pointer = 0 if lacks else tensor.data_ptr()
    except RuntimeError:
        pointer = 0
    if pointer == 0 and tensor.numel() > 0:
        raise TypeError(
            f"expected a tensor with numbers in memory, found a {type(tensor).__name__} on "
            f"{tensor.device} without them."
        )
    return pointer


def check_not_traced(name: str) -> None:
    """Raises RuntimeError under `torch.jit.trace`, where sizes are tensors and not integers."""
    if torch._C._get_tracing_state() is not None:
        raise RuntimeError(
            f"{name}: torch.jit.trace cannot record this op. Use torch.compile or torch.export, or "
            "fused=False."
        )


@functools.cache
def kernel(name: str, device: torch.device) -> Callable[..., None]:
    """The compiled function that `launch` calls, for callers that pass pointers themselves.

    Raises RuntimeError for a CUDA device in a build without CUDA.
    """
    if device.type == "cpu":
        return getattr(getattr(_C, _C.isas[0]), name)  # type: ignore[no-any-return]
    if device.type != "cuda":
        raise TypeError(f"{name}: expected tensors on the CPU or a GPU, found {device}.")
    if not _C.has_cuda:
        raise RuntimeError(
            f"{name}: expected CPU tensors, found {device}: this build of fastifo has no CUDA "
            "kernels. Put nvcc on PATH and reinstall from source with "
            "`pip install . -C cmake.define.FASTIFO_CUDA=ON`, or move the tensors to the CPU."
        )
    function = getattr(_C.cuda, name)

    def on_current_stream(*args: int | float | list[int]) -> None:
        with torch.cuda.device(device):
            function(*args, torch.cuda.current_stream(device).cuda_stream)

    return on_current_stream
