"""The compiled kernels, and the fixture that makes ops on CPU tensors run them."""

import os
import zlib

import pytest
import torch

from cuda_on_cpu.kernels import ORDERS, Kernels, compile_kernels
from fastifo.ops import registry


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """All kernels; the processes of one run of the tests share what is compiled."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Kernels(compile_kernels(folder / "cuda_on_cpu"))


@pytest.fixture
def device(
    request: pytest.FixtureRequest, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> torch.device:
    """The CPU, on which ops run their CUDA kernels. Each test has one of the orders."""
    case = zlib.crc32(request.node.name.encode())
    kernels.use_order(ORDERS[case % len(ORDERS)], seed=case)
    monkeypatch.setattr(registry, "kernel", kernels.kernel)
    return torch.device("cpu")
