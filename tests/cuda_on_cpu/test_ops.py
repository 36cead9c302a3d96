"""The tests of tests/ops that take a device, with the CUDA kernels run on the CPU."""

import functools
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # compiles all kernels, in 15 seconds of a core

Test = Callable[..., None]
OPS = Path(__file__).parents[1] / "ops"


def runs_cuda_kernels(test: Test) -> Test:
    """The same test, always with the fixture `device` of this folder."""

    @functools.wraps(test)  # a copy, because a mark would change the original
    def call(*arguments: Any, **named: Any) -> None:
        test(*arguments, **named)

    marked: Test = pytest.mark.usefixtures("device")(call)
    return marked


def device_tests() -> dict[str, Test]:
    """Those tests and the ones of gradients by name; not opcheck's, which are about tracing."""
    tests = {}
    for path in OPS.glob("test_*.py"):
        module = importlib.import_module(f"ops.{path.stem}")
        for name, test in inspect.getmembers(module, inspect.isfunction):
            takes_device = "device" in inspect.signature(test).parameters
            if not name.startswith("test_") or "opcheck" in name:
                continue
            if takes_device or "finite_differences" in name:
                tests[path.stem + name.removeprefix("test")] = runs_cuda_kernels(test)
    return tests


globals().update(device_tests())
