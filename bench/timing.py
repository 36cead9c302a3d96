"""Times calls, names the machine, and stores results as CSV rows in bench/results/<machine>.csv."""

from __future__ import annotations

import csv
import itertools
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from fastifo import _C
from fastifo.engine.graph import EAGER_STEPS, GraphedStep
from fastifo.utils.provenance import is_core_current

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One implementation of one operation at one size."""

    bench: str  # the operation
    size: str
    variant: str  # the implementation; "ours" is fastifo's
    calls: Sequence[Callable[[], object]]  # equal work on different inputs, called in rotation
    size_bytes: int = 0  # bytes that one call must move; 0 if bandwidth does not limit it


@dataclass(frozen=True)
class Row:
    """One row of a results file. Times are those of one call."""

    bench: str  # the operation
    size: str
    variant: str  # the implementation
    device: str  # cpu or cuda
    median_us: float
    low_us: float  # 10th percentile of the rounds
    high_us: float  # 90th percentile
    repeats: int  # rounds
    gb_per_s: float  # the case's size_bytes over the median time
    peak_gb_per_s: float  # of a large copy on this device in the same run
    machine: str
    torch: str
    commit: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identifies a measurement; a new row replaces an earlier one with the same key."""
        return self.bench, self.size, self.variant, self.device


def time_calls(
    variants: Sequence[Sequence[Callable[[], object]]], device: torch.device, budget_s: float = 0.5
) -> list[list[float]]:
    """Seconds per call of each variant in each round, after a warm-up.

    A round times every variant once, so that load from other processes affects all of them. It
    repeats a call for about a millisecond, which is far above the clock's resolution. There are at
    least 7 rounds.

    variants: each a list of calls that do equal work, called in rotation.  budget_s: approximate
    measuring time per variant.
    """
    rotations = [itertools.cycle(calls) for calls in variants]

    def repeat(rotation: Iterator[Callable[[], object]], count: int) -> float:
        synchronize(device)
        start_s = time.perf_counter()
        for _ in range(count):
            next(rotation)()
        synchronize(device)
        return (time.perf_counter() - start_s) / count

    once = [min(repeat(rotation, 1) for _ in range(3)) for rotation in rotations]
    counts = [max(1, round(1e-3 / once_s)) for once_s in once]
    for rotation, count in zip(rotations, counts, strict=True):
        repeat(rotation, count)
    round_s = sum(count * once_s for count, once_s in zip(counts, once, strict=True))
    rounds = min(2000, max(7, round(budget_s * len(rotations) / round_s)))
    times = [[repeat(*pair) for pair in zip(rotations, counts, strict=True)] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def synchronize(device: torch.device) -> None:
    """Waits until the GPU has finished; does nothing for the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_cases(cases: Iterable[Case], device: torch.device, budget_s: float = 0.5) -> list[Row]:
    """Times every case on `device` and returns a row for each.

    Successive cases of the same bench and size are timed in the same rounds.
    budget_s: as in `time_calls`.
    """
    name, commit = machine(device), current_commit()
    peak = peak_bytes_per_s(device)
    rows = []
    for _, same_size in itertools.groupby(cases, key=lambda case: (case.bench, case.size)):
        group = [each for case in same_size for each in _with_replay(case, device)]
        for case, times in zip(
            group, time_calls([case.calls for case in group], device, budget_s), strict=True
        ):
            ordered = sorted(times)
            median_s = statistics.median(ordered)
            rows.append(
                Row(
                    bench=case.bench,
                    size=case.size,
                    variant=case.variant,
                    device=device.type,
                    median_us=round(median_s * 1e6, 2),
                    low_us=round(ordered[len(times) // 10] * 1e6, 2),
                    high_us=round(ordered[-1 - len(times) // 10] * 1e6, 2),
                    repeats=len(times),
                    gb_per_s=round(case.size_bytes / median_s / 1e9, 3),
                    peak_gb_per_s=round(peak / 1e9, 1),
                    machine=name,
                    torch=torch.__version__,
                    commit=commit,
                )
            )
    return rows


def _with_replay(case: Case, device: torch.device) -> list[Case]:
    """The cases to time for `case`.

    On a GPU, "ours" becomes the replay of a CUDA graph, as the engine runs it, and "ours, launched"
    is the same with launches from the host.
    """
    if device.type != "cuda" or case.variant != "ours":
        return [case]
    replays = [GraphedStep(call, device, captures=True) for call in case.calls]
    for replay in replays:
        for _ in range(EAGER_STEPS + 2):
            replay()
    return [replace(case, calls=replays), replace(case, variant="ours, launched")]


def peak_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written per second by a copy that is far larger than the caches."""
    source = torch.ones(2**25, device=device)  # 128 MiB
    target = torch.empty_like(source)
    fastest_s = min(time_calls([[lambda: target.copy_(source)]], device)[0])
    return 2 * source.numel() * source.element_size() / fastest_s


def processor(device: torch.device) -> str:
    """The model name of the CPU or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def machine(device: torch.device) -> str:
    """The CPU's model, best instruction set and number of torch threads, or the GPU's name."""
    model = processor(device)
    if device.type == "cuda":
        return model
    isa = _C.isas[0]
    units = {"amx": f"{isa} amx", "avx512bf16": f"{isa} bf16"}  # of products in bfloat16
    best = units.get(getattr(_C, isa).bf16_kernels()[0], isa)
    return f"{model}, {best}, {torch.get_num_threads()} threads"


def current_commit() -> str:
    """The checkout's commit in 12 digits, or "none" outside a git checkout.

    "-core" follows if the compiled core was built from other sources than the checkout's.
    """
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return result.stdout.strip() + ("" if is_core_current(ROOT) else "-core")


def results_name(machine: str) -> str:
    """The machine's name as it appears in file names."""
    words = re.sub(r"\((?:R|TM)\)|CPU|Processor", "", machine)
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")


def save_rows(rows: Sequence[Row]) -> Path:
    """Writes the rows of one machine to its file; they replace earlier rows with the same keys."""
    path = ROOT / "bench/results" / f"{results_name(rows[0].machine)}.csv"
    lines = {}
    if path.is_file():
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                key = line["bench"], line["size"], line["variant"], line["device"]
                lines[key] = line
    lines |= {row.key: {name: str(value) for name, value in asdict(row).items()} for row in rows}
    with path.open("w", newline="") as file:
        names = [field.name for field in fields(Row)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines.values())
    return path


def show_rows(rows: Sequence[Row]) -> str:
    """A Markdown table with a line per bench and size that compares ours with the other variants.

    A ratio is the other variant's median time over ours. The spread is from the 10th to the 90th
    percentile of the rounds.
    """
    lines = [
        "| op | size | ours us | spread | others: us (times ours) | GB/s of peak |",
        "| --- | --- | ---: | ---: | --- | ---: |",
    ]
    for (bench, size), same_size in itertools.groupby(rows, key=lambda row: (row.bench, row.size)):
        group = {row.variant: row for row in same_size}
        ours = group.pop("ours")
        others = ", ".join(
            f"{name} {row.median_us:,.1f} ({row.median_us / ours.median_us:.2f}x)"
            for name, row in group.items()
        )
        share = ours.gb_per_s / ours.peak_gb_per_s if ours.peak_gb_per_s else 0.0
        lines.append(
            f"| {bench} | {size} | {ours.median_us:,.1f} | {ours.low_us:,.1f} to "
            f"{ours.high_us:,.1f} | {others} | {ours.gb_per_s:.1f} of {ours.peak_gb_per_s} "
            f"({share:.0%}) |"
        )
    return "\n".join(lines)
