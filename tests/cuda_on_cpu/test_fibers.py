"""The faults in kernels that running them on the CPU finds; the kernels are in faults.cu."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from cuda_on_cpu.kernels import ORDERS, Kernels, run_compiler
from cuda_on_cpu.translate import translate

pytestmark = pytest.mark.slow  # compiles all kernels, in 15 seconds of a core

FAULTS = [
    (2, r"threads wait at different barriers: .*faults\.cu:\d+ and .*faults\.cu:\d+"),
    (3, r"thread 1 waits at .*faults\.cu:\d+ for threads that never come"),
    (4, r"thread 0 waits at .*faults\.cu:\d+ for threads that never come"),
    (5, "expected all lanes in the mask of a warp's function"),
    (6, "a thread wrote outside the dynamic shared memory"),
    (8, "CUDA launch failed: invalid configuration argument"),
    (9, "CUDA launch failed: invalid configuration argument"),
]


def run(kernels: Kernels, number: int) -> Tensor:
    out = torch.zeros(64)
    kernels.call("fault", number, out.data_ptr())
    return out


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("number", "message"), FAULTS)
def test_a_fault_ends_the_launch_and_the_next_one_runs(
    number: int, message: str, order: str, kernels: Kernels
) -> None:
    kernels.use_order(order)
    with pytest.raises(RuntimeError, match=message):
        run(kernels, number)
    assert torch.equal(run(kernels, 0), (torch.arange(64.0) + 1) % 64)


def test_a_missing_barrier_shows_in_some_order(kernels: Kernels) -> None:
    correct = (torch.arange(64.0) + 1) % 64
    wrong = []
    for order in ORDERS:
        kernels.use_order(order)
        assert torch.equal(run(kernels, 0), correct)
        wrong.append(int((run(kernels, 1) != correct).sum()))
    assert wrong[:2] == [63, 1]  # the others read what their neighbour has yet to write
    assert wrong[2] > 1


def test_shared_memory_is_nan_in_every_block(kernels: Kernels) -> None:
    assert run(kernels, 7)[:2].isnan().all()


@pytest.mark.parametrize("source", ["__shared__ float x[2]", "k<<<1, 2>>>", "__constant__ int x;"])
def test_syntax_that_is_not_translated_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"a\.cu: .* is used in a way that translate\.py"):
        translate(source, "a.cu")


def test_a_source_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cpp"
    source.write_text("int main() { return missing; }")
    with pytest.raises(RuntimeError, match=r"missing.* was not declared"):
        run_compiler(["-c", str(source), "-o", str(tmp_path / "wrong.o")])
