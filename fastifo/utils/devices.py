"""Devices and numeric precisions."""

import contextlib
from collections.abc import Iterator

import torch

from fastifo import _C

PRECISIONS = {  # name -> (parameters' dtype, matrix products in bfloat16)
    "fp64": (torch.float64, False),
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, False),
    "fp32x": (torch.float32, False),  # two bfloat16 parts in the native engine, fp32 in torch
    "bf16": (torch.float32, True),
}


def choose_device(device: str) -> torch.device:
    """Resolves auto, cpu or cuda; auto is the GPU if torch sees one and the build has CUDA kernels.

    Raises ValueError if the device is unknown or cannot be used.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: found 'cuda', but torch sees no GPU; use device='cpu'")
    if device == "cuda" and not _C.has_cuda:
        raise ValueError(
            "device: found 'cuda', but this build has no CUDA kernels; put nvcc on PATH and "
            "reinstall from source, or use device='cpu'"
        )
    usable = torch.cuda.is_available() and _C.has_cuda
    return torch.device("cuda" if device != "cpu" and usable else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolves a precision; auto is fp32 on a CPU and tf32 on a GPU.  Raises ValueError."""
    if precision == "auto":
        return "tf32" if device.type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        known = ", ".join(["auto", *PRECISIONS])
        raise ValueError(f"precision: expected one of {known}, found {precision!r}")
    return precision


@contextlib.contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Lets the GPU round float32 operands of matrix products to TF32 inside the block, or not."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = enabled
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
