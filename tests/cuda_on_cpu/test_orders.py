"""Every op's CUDA kernel gives the same bits in any order of threads, and what the CPU's gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cuda_on_cpu.kernels import Kernels
from fastifo import _C
from fastifo.ops import OPS, draw, registry
from ops import (
    compare,
    test_adam,
    test_advantage,
    test_binned_nll,
    test_draw,
    test_draw_windows,
    test_dual,
    test_gather,
    test_returns,
)

pytestmark = pytest.mark.slow  # compiles all kernels, in 15 seconds of a core

WINDOWS = test_draw_windows.windows([2, 9, 1, 5], 3)
CASES: list[tuple[str, list[Any]]] = [
    ("adam", test_adam.arguments(3, test_adam.SHAPES)),
    ("advantage", test_advantage.arguments(3, 330, 11, 150, expectile=True)),
    ("dilo", test_dual.dilo_arguments(3, 333, 77)),
    ("draw", [test_draw.seeds(3), test_draw.counter(5), 1, 1000, 333]),
    ("draw_windows", [test_draw.seeds(3), test_draw.counter(5), 1, *WINDOWS, 333]),
    ("gather", test_gather.arguments(3, 77, 5, [0.5, 2.0], standardises=True)),
    ("returns", [*test_returns.episodes([0, 33, 1, 64, 7, 100]), 0.99]),
    ("smodice", test_dual.smodice_arguments(3, 333, 77)),
    ("smodice", test_dual.smodice_arguments(3, 333, 77, "chi2")),
    # Heads of 8 and 16 neighbours in registers, then of any number in shared memory.
    *(
        ("binned_nll", test_binned_nll.arguments(2, 7, 3, bins, radius))
        for bins, radius in ((1, 0), (33, 8), (128, 9), (101, 16), (101, 17), (129, 8), (70, 69))
    ),
    # Rows of which shared memory does not hold four in float64.
    ("binned_nll", test_binned_nll.arguments(1, 5, 1, 4096, 20)),
]


def picks(name: str, bins: int, radius: int) -> tuple[str, list[Any]]:
    logits, action, _, taps, norm = test_binned_nll.arguments(2, 7, 3, bins, radius)
    uniform = [(action + 1.1) / 2.2] if name == "binned_sample" else []
    return name, [logits, *uniform, taps, norm]


CASES += [
    picks(name, *sizes)
    for name in ("binned_mode", "binned_sample")
    for sizes in ((1, 0), (31, 3), (101, 16), (4096, 20))
]


def results(name: str, arguments: list[Any], dtype: torch.dtype) -> list[Tensor]:
    """What the op returns, or for `adam` what it changes."""
    if name != "adam":
        return compare.tensors_of(OPS[name].call(*compare.cast(arguments, dtype, compare.CPU)))
    state = compare.cast(arguments[:5], dtype, compare.CPU)
    OPS[name].call(*state, *arguments[5:])
    return compare.tensors_of(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[name for name, _ in CASES])
def test_bits_do_not_depend_on_the_order_and_agree_with_the_cpu(
    name: str, arguments: list[Any], dtype: torch.dtype, kernels: Kernels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expected = results(name, arguments, dtype)
    monkeypatch.setattr(registry, "kernel", kernels.kernel)
    in_order = []
    for order, seed in (("forward", 0), ("reverse", 0), ("random", 0), ("random", 1)):
        kernels.use_order(order, seed)
        in_order.append(results(name, arguments, dtype))
    for tensors in zip(expected, *in_order, strict=True):
        for other in tensors[2:]:
            assert torch.equal(tensors[1], other)
        rtol, atol = compare.RTOL[dtype], 30 * compare.ATOL[dtype]
        if not tensors[0].is_floating_point():
            rtol = atol = 0.0
        torch.testing.assert_close(tensors[1], tensors[0], rtol=rtol, atol=atol)


def test_every_op_has_its_cases_and_every_kernel_of_the_cpu_one_of_cuda(kernels: Kernels) -> None:
    assert {name for name, _ in CASES} == set(OPS)
    names = {name for name in dir(_C.plain) if not name.startswith("_")}
    names -= {"act", "train", "bf16_kernels", "peak_rate"}  # the native engine and its limits
    assert {name for name in names if kernels.parameters(name) < 0} == set()


def test_more_members_than_blocks_in_a_grid_are_walked(device: torch.device) -> None:
    seed = test_draw.seeds(65_537)
    arguments = (seed, test_draw.counter(3), 1, 1000, 1)
    assert torch.equal(draw(*arguments), OPS["draw"].reference(*arguments))


def test_a_launch_functions_own_checks_raise_value_errors(kernels: Kernels) -> None:
    with pytest.raises(ValueError, match=r"^high: expected at least 1, found 0$"):
        kernels.call("draw", 0, 0, 0, 1, 1, 0, 0, 0)
