"""Bounds on the speed of an update on this machine, and where the native engine spends its time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from bench.engines import Fastifo, fastifo_dataset
from bench.peers import problem
from bench.timing import peak_bytes_per_s
from fastifo import _C

SIDE = 2048  # of the matrices whose product measures the attainable FLOP/s
PRODUCT_FLOP = 2.0 * SIDE**3
ADAM_BYTES = 24.0  # that one pass of Adam moves per parameter


class MatrixProduct:
    """A product of two large float32 matrices; a step is one product."""

    members = 1

    def __init__(self, device: str = "cpu") -> None:
        self.a, self.b = torch.randn(2, SIDE, SIDE, device=device)
        self.out = torch.empty(SIDE, SIDE, device=device)

    def step(self) -> None:
        """Computes the product."""
        torch.mm(self.a, self.b, out=self.out)


def limit_rates(products_per_s: list[float], hidden: int, threads: int, device: str) -> list[float]:
    """Model-steps/s if all products ran at the speed of large ones and Adam at that of a copy.

    products_per_s: of `MatrixProduct`, one per round.  Returns one rate per round.
    """
    if device == "cuda":
        bandwidth = peak_bytes_per_s(torch.device(device))
    else:
        bandwidth = copy_bandwidth() * threads
    adam_s = ADAM_BYTES * problem.parameters(hidden) / bandwidth
    return [
        1.0 / (problem.flops(hidden) / (PRODUCT_FLOP * rate) + adam_s) for rate in products_per_s
    ]


def copy_bandwidth() -> float:
    """Bytes read and written per second by one thread that copies 10 MB, within shared caches."""
    a = torch.ones(2_500_000)
    b = torch.empty_like(a)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    best_s = min(_seconds(lambda: b.copy_(a)) for _ in range(20))
    torch.set_num_threads(before)
    return 2 * a.numel() * 4 / best_s


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def part_floors(hidden: int, flop_per_s: float, bandwidth: float) -> dict[str, float]:
    """Least seconds of each part of the native engine's update, for one member.

    The floor of a part is the time of its products at `flop_per_s` and of the bytes that it must
    move at `bandwidth`. Sampling reads both sources' two observations, action and terminal and
    writes them encoded; the head reads logits and writes their gradient.
    """
    size, trunk = problem.BATCH_SIZE, problem.WIDTH * hidden + hidden * hidden
    head = hidden * problem.ACTION_DIM * problem.NUM_BINS
    weights = 2 * size * (trunk + hidden) + size * (trunk + head)
    row = 2 * (problem.OBS_DIM + problem.WIDTH) + problem.ACTION_DIM + 1
    adam_s = ADAM_BYTES * problem.parameters(hidden) / bandwidth
    return {
        "sampling": 4.0 * 2 * size * row / bandwidth,
        "head": 4.0 * 2 * size * problem.ACTION_DIM * problem.NUM_BINS / bandwidth,
        "target": 2.0 * 2 * size * (trunk + hidden) / flop_per_s,
        "scalar": 2.0 * 2 * size * (trunk + hidden) / flop_per_s,
        "policy": 2.0 * size * (trunk + head) / flop_per_s,
        "backward": 2.0
        * (2 * size * (hidden**2 + hidden) + size * (hidden**2 + head))
        / flop_per_s,
        "weights": 2.0 * weights / flop_per_s + adam_s,
    }


def show_parts(hidden: int, seconds: float) -> str:
    """A table of the time of each part of a native fp32 update, one member on one thread.

    "of the floor" is the part's least possible time (see `part_floors`) over its measured time.
    """
    torch.set_num_threads(1)
    dataset = fastifo_dataset(problem.columns())
    product = MatrixProduct()
    product.step()
    flop_per_s = PRODUCT_FLOP / min(_seconds(product.step) for _ in range(5))
    runner = Fastifo(dataset, hidden, 1, "native", "fp32")
    runner.step()
    runner.engine.seconds.zero_()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        runner.step()
        steps += runner.members
    spent = dict(zip(_C.parts, runner.engine.seconds.sum((0, 1)).tolist(), strict=True))
    floors = part_floors(hidden, flop_per_s, copy_bandwidth())
    lines = [
        "| part | ms | share | floor ms | of the floor |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    total_s = sum(spent.values())
    for part, part_s in spent.items():
        floor_s = floors.get(part)
        ends = f"{floor_s * 1e3:.2f} | {floor_s * steps / part_s:.0%}" if floor_s else " | "
        lines.append(f"| {part} | {part_s / steps * 1e3:.2f} | {part_s / total_s:.0%} | {ends} |")
    return "\n".join(lines)
