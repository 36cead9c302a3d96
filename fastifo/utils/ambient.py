"""Isolates fastifo from torch's global settings, which other code may have changed."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def standard_torch() -> Iterator[None]:
    """Torch's standard settings inside the block, or in the function that this decorates.

    The default dtype, the default device, autocast, `no_grad`, `inference_mode` and the precision
    of float32 products would otherwise change results, or fail.
    """
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
