"""Fixtures that every test may use."""

import os

import pytest
import torch

from fastifo import _C

# Child processes of a test import the installed package too, not the checkout they start in.
os.environ["PYTHONSAFEPATH"] = "1"

HAS_GPU = torch.cuda.is_available() and _C.has_cuda

cuda_param = pytest.param(
    "cuda:0",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not HAS_GPU, reason="needs a GPU and a build with CUDA"),
    ],
)

SEES_GPU = torch.cuda.is_available


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Only tests that are marked see a GPU: elsewhere `auto` is the CPU on every machine."""
    marked = item.get_closest_marker("cuda") is not None
    setattr(torch.cuda, "is_available", SEES_GPU if marked else lambda: False)  # noqa: B010


@pytest.fixture(params=["cpu", cuda_param])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device an op runs on."""
    return torch.device(request.param)


@pytest.fixture(params=[cuda_param])
def cuda_device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU, for claims about streams and graphs."""
    return torch.device(request.param)
