"""Bounds on the speed of an update on this machine, and where the native engine spends its time.

The limit of an update is the time that its matrix products would take at the highest rate of the
processor's arithmetic units, plus the time of a pass of Adam that waits for nothing. Compiled loops
that do nothing else measure both (csrc/engine/peaks.h). Sampling, the loss and the head count as
free.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from bench.engines import Fastifo, fastifo_dataset, native_precisions
from bench.peers import problem
from bench.timing import current_commit, machine, peak_bytes_per_s
from fastifo import _C

SIDE = 2048  # of the matrices whose product measures the FLOP/s of a GPU
PRODUCT_FLOP = 2.0 * SIDE**3
ADAM_BYTES = 24.0  # that one pass of Adam moves per parameter
PEAK_S = 0.3  # time in which one peak is measured
PRODUCTS = {"fp32": 1, "tf32": 1, "bf16": 1, "fp32x": 3}  # of each product of numbers

# FLOP/s of "fma" and of each bfloat16 unit, parameters/s of "adam"
Peaks = dict[str, float]


class Peak:
    """One of the machine's peaks: that of an arithmetic unit, or of Adam on a member's weights."""

    def __init__(self, work: str, hidden: int, threads: int) -> None:
        """work: see csrc/engine/peaks.h.  hidden: width of the layers, which sizes Adam's state."""
        self.work, self.parameters, self.threads = work, problem.parameters(hidden), threads

    def rate(self) -> float:
        """FLOP/s or parameters/s of all threads together."""
        compiled = getattr(_C, _C.isas[0])
        rate: float = compiled.peak_rate(self.work, self.parameters, self.threads, PEAK_S)
        return rate


class MatrixProduct:
    """A product of two large float32 matrices; a step is one product."""

    members = 1

    def __init__(self, device: str) -> None:
        self.a, self.b = torch.randn(2, SIDE, SIDE, device=device)
        self.out = torch.empty(SIDE, SIDE, device=device)

    def step(self) -> None:
        """Computes the product."""
        torch.mm(self.a, self.b, out=self.out)


def cpu_peaks(hidden: int, threads: int) -> dict[str, Peak]:
    """Every peak of this machine's processor by its name."""
    units = [name for name in getattr(_C, _C.isas[0]).bf16_kernels() if name != "emulated"]
    return {work: Peak(work, hidden, threads) for work in ("fma", *units, "adam")}


def gpu_peaks(products_per_s: float, device: str) -> Peaks:
    """Peaks of a GPU: "fma" from torch's largest product, "adam" from a copy of 128 MiB."""
    adam = peak_bytes_per_s(torch.device(device)) / ADAM_BYTES
    return {"fma": PRODUCT_FLOP * products_per_s, "adam": adam}


def flop_per_s(peaks: Peaks, precision: str) -> float:
    """FLOP/s of a product at the peak, in a precision of `PRODUCTS`.

    Without bfloat16 units, products in bfloat16 use multiply-adds in single precision.
    """
    units = {name: rate for name, rate in peaks.items() if name != "adam"}
    fastest = units["fma"] if precision in ("fp32", "tf32") else max(units.values())
    return fastest / PRODUCTS[precision]


def limit_rate(peaks: Peaks, hidden: int, precision: str) -> float:
    """Model-steps/s of the limit."""
    products_s = problem.flops(hidden) / flop_per_s(peaks, precision)
    return 1.0 / (products_s + problem.parameters(hidden) / peaks["adam"])


def part_limits(peaks: Peaks, hidden: int, precision: str) -> dict[str, float]:
    """Least seconds of each part of the native engine's update that multiplies matrices."""
    size, trunk = problem.BATCH_SIZE, problem.WIDTH * hidden + hidden * hidden
    head = hidden * problem.ACTION_DIM * problem.NUM_BINS
    value, policy = 2 * size * (trunk + hidden), size * (trunk + head)
    first = problem.WIDTH * hidden  # the first layer, whose input needs no gradient
    terms = {
        "target": value,
        "scalar": value,
        "policy": policy,
        "backward": value + policy - 3 * size * first,
        "weights": value + policy,
    }
    rate = flop_per_s(peaks, precision)
    limits = {part: 2.0 * count / rate for part, count in terms.items()}
    limits["weights"] += problem.parameters(hidden) / peaks["adam"]
    return limits


def measure_parts(hidden: int, seconds: float) -> list[dict[str, Any]]:
    """A row per precision and part of a native update, of one member on one thread.

    Each row has the milliseconds that the part takes and its limit, which is empty for a part
    without products.
    """
    torch.set_num_threads(1)
    dataset = fastifo_dataset(problem.columns())
    name, commit = machine(torch.device("cpu")), current_commit()
    rows: list[dict[str, Any]] = []
    for precision in native_precisions():
        peaks = {work: peak.rate() for work, peak in cpu_peaks(hidden, 1).items()}
        spent, steps = _part_seconds(Fastifo(dataset, hidden, 1, "native", precision), seconds)
        limits = part_limits(peaks, hidden, precision)
        spent["all"], limits["all"] = sum(spent.values()), sum(limits.values())
        for part, part_s in spent.items():
            limit_s = limits.get(part)
            row: dict[str, Any] = {"hidden": hidden, "precision": precision, "part": part}
            row |= {"ms": f"{part_s / steps * 1e3:.2f}", "limit_ms": "", "of_limit": ""}
            if limit_s is not None:
                row["limit_ms"] = f"{limit_s * 1e3:.2f}"
                row["of_limit"] = f"{limit_s * steps / part_s:.3f}"
            rows.append(row | {"machine": name, "commit": commit})
    return rows


def _part_seconds(runner: Fastifo, seconds: float) -> tuple[dict[str, float], int]:
    """Seconds of each part, summed over updates, and the number of updates."""
    runner.step()
    runner.engine.seconds.zero_()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        runner.step()
        steps += runner.members
    totals = runner.engine.seconds.sum((0, 1)).tolist()
    spent = dict(zip(_C.parts, totals, strict=True))
    del spent["waiting"]  # a single thread waits for nobody
    return spent, steps


def show_parts(rows: list[dict[str, Any]]) -> str:
    """The rows of `measure_parts` as a Markdown table with a line per part."""
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    cells = {
        (row["part"], row["precision"]): f"{row['ms']} ms"
        + (f" ({float(row['of_limit']):.0%})" if row["of_limit"] else "")
        for row in rows
    }
    lines = [
        "| part | " + " | ".join(precisions) + " |",
        "| --- |" + " ---: |" * len(precisions),
    ]
    lines += [
        f"| {part} | " + " | ".join(cells[part, name] for name in precisions) + " |"
        for part in dict.fromkeys(row["part"] for row in rows)
    ]
    return "\n".join(lines)
