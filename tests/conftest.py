"""Fixtures that every test may use."""

import os
import signal

import pytest
import torch

from fastifo import _C
from fastifo.envs.backends import offscreen

# Child processes of a test also import the installed package, not the checkout they start in.
os.environ["PYTHONSAFEPATH"] = "1"
# A shell starts background jobs with Ctrl-C ignored, and their children inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
    """Hides the GPU from unmarked tests, so that `auto` is the CPU on every machine, and seeds
    torch, so that a failure can be repeated.
    """
    torch.manual_seed(0)
    marked = item.get_closest_marker("cuda") is not None
    setattr(torch.cuda, "is_available", SEES_GPU if marked else lambda: False)  # noqa: B010


@pytest.fixture(scope="session")
def rendering() -> None:
    """MuJoCo's renderer, which needs one of the system's libraries; see `needs_rendering`."""
    try:
        offscreen.open_context(offscreen.choose_library("tests"))
    except ImportError as error:
        pytest.skip(f"rendering needs a library, as from apt-get install libosmesa6: {error}")


@pytest.fixture(params=["cpu", cuda_param])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that ops run on."""
    return torch.device(request.param)


@pytest.fixture(params=[cuda_param])
def cuda_device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU, for tests of streams and graphs."""
    return torch.device(request.param)
