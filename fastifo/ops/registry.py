"""How a compiled op is registered with torch, its arguments checked and its kernel launched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch  # before _C, so that both use one OpenMP runtime
from torch import Tensor

try:
    from fastifo import _C
except ImportError as error:
    raise ImportError(
        "fastifo: expected the compiled module fastifo._C beside this package, found none. "
        "In a checkout install with `pip install -e .`, or run from another folder."
    ) from error

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Op:
    """A registered op: its public function, the reference that judges it, torch's handle."""

    name: str
    call: Callable[..., Any]
    reference: Callable[..., Any]
    overload: Any


OPS: dict[str, Op] = {}

_tracing = torch._C._len_torch_dispatch_stack

_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64"}

_LIBRARY = torch.library.Library("fastifo", "DEF")


def op(
    schema: str, *, reference: Callable[P, R], fake: Callable[P, R]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Registers the decorated function as `torch.ops.fastifo.<name>` for the CPU and CUDA.

    schema: "name(Tensor x, int n) -> Tensor".  reference: what the op means, in plain torch.
    fake: returns outputs of the right shape and dtype, computing nothing, for tracing.
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
            # The dispatcher is for tracing: a call without it is 8 us cheaper, 200 with lists.
            if torch.compiler.is_compiling() or _tracing():
                return overload(*args, **kwargs)  # type: ignore[no-any-return]
            return function(*args, **kwargs)

        OPS[name] = Op(name, call, reference, overload)
        return call

    return register


def is_like(
    tensor: Tensor,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
    device: torch.device | None,
) -> bool:
    """Whether `expect` would pass, at the first look; it never passes a shape with None."""
    return (
        tensor.dtype is dtype
        and tensor.shape == shape
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
    """Raises unless `tensor` may be handed to a kernel as a raw pointer.

    shape: one entry per dimension, None where any size will do.  device: None accepts any.
    Raises TypeError for the dtype and ValueError for shape, device and layout, naming the argument.
    """
    if is_like(tensor, dtype, shape, device):
        return
    found = tensor.shape
    fits = len(found) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, found, strict=True)
    )
    placed = device is None or tensor.device == device
    if fits and placed and tensor.dtype is dtype and tensor.is_contiguous():
        return
    if tensor.dtype is not dtype:
        raise TypeError(
            f"{name}: expected {dtype}, found {tensor.dtype}. Convert it with .to({dtype})."
        )
    if not fits:
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name}: expected shape [{expected}], found {list(found)}.")
    if not placed:
        raise ValueError(
            f"{name}: expected a tensor on {device}, found {tensor.device}. "
            f"Move it with .to('{device}')."
        )
    raise ValueError(
        f"{name}: expected a contiguous tensor, found strides {tensor.stride()} for "
        f"shape {list(found)}. Call .contiguous()."
    )


def expect_float(
    name: str,
    tensor: Tensor,
    shape: tuple[int | None, ...] | None,
    device: torch.device | None = None,
) -> torch.dtype:
    """As `expect` for a tensor of float32 or float64, whose dtype it returns; None: any shape."""
    dtype = tensor.dtype
    if dtype not in _SUFFIX:
        raise TypeError(
            f"{name}: expected torch.float32 or torch.float64, found {dtype}. "
            "Convert it with .float()."
        )
    expect(name, tensor, dtype, tuple(tensor.shape) if shape is None else shape, device)
    return dtype


def kernel_name(name: str, tensor: Tensor) -> str:
    """The kernel for the tensor's dtype, as the compiled module calls it."""
    return name + _SUFFIX[tensor.dtype]


def launch(name: str, device: torch.device, *args: Tensor | int | float | list[int]) -> None:
    """Runs the compiled `name` for `device`, on its current stream if it is a GPU.

    args: what the C++ function takes, tensors as raw pointers; the stream is added here.
    Raises RuntimeError for a CUDA device in a build without CUDA.
    """
    kernel(name, device)(*[arg.data_ptr() if isinstance(arg, Tensor) else arg for arg in args])


@functools.cache
def kernel(name: str, device: torch.device) -> Callable[..., None]:
    """What `launch` calls, for callers whose pointers stay the same."""
    if device.type == "cpu":
        return getattr(getattr(_C, _C.isas[0]), name)  # type: ignore[no-any-return]
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
