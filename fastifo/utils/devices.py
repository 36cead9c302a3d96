"""Where a run trains, and in which numbers."""

import contextlib
from collections.abc import Iterator

import torch

from fastifo import _C

PRECISIONS = {  # name -> (parameters' dtype, matrix products in bfloat16)
    "fp64": (torch.float64, False),
    "fp32": (torch.float32, False),
    "tf32": (torch.float32, False),
    "fp32x": (torch.float32, False),  # two parts of bfloat16 on the native engine, fp32 in torch
    "bf16": (torch.float32, True),
}


def choose_device(device: str) -> torch.device:
    """auto is the GPU where there is one and the build has its kernels.

    Raises ValueError where the device is unknown or not usable.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, found {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: 'cuda' was asked for, torch sees no GPU; use device='cpu'")
    if device == "cuda" and not _C.has_cuda:
        raise ValueError(
            "device: 'cuda' was asked for, this build has no CUDA kernels; put nvcc on PATH and "
            "reinstall from source, or use device='cpu'"
        )
    usable = torch.cuda.is_available() and _C.has_cuda
    return torch.device("cuda" if device != "cpu" and usable else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """auto is fp32 on a CPU and tf32 on a GPU."""
    if precision == "auto":
        return "tf32" if device.type == "cuda" else "fp32"
    if precision not in PRECISIONS:
        known = ", ".join(["auto", *PRECISIONS])
        raise ValueError(f"precision: expected one of {known}, found {precision!r}")
    return precision


@contextlib.contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Whether a GPU may round float32 operands of matrix products to TF32, in this block."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = enabled
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
