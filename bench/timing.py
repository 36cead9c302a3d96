"""Times a call, names the machine, and keeps results as CSV rows in bench/results/<machine>.csv."""

from __future__ import annotations

import csv
import itertools
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One thing to time: what, at which size, by whom, and the bytes it has to move.

    calls: equal work on different inputs, taken in turn.  size_bytes: 0 where it says nothing.
    """

    bench: str
    size: str
    variant: str
    calls: Sequence[Callable[[], object]]
    size_bytes: int = 0


@dataclass(frozen=True)
class Row:
    """One line of a results file. Times are of one call."""

    bench: str
    size: str
    variant: str
    device: str
    median_us: float
    low_us: float  # 10 % of the repeats were faster
    high_us: float  # 10 % were slower
    repeats: int
    gb_per_s: float
    peak_gb_per_s: float  # of a large copy on this device, in the same run
    machine: str
    torch: str
    commit: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.bench, self.size, self.variant, self.device


def time_calls(
    calls: Sequence[Callable[[], object]], device: torch.device, budget_s: float = 0.5
) -> list[float]:
    """Seconds of one call, one figure per repeat, after a warm-up.

    calls: taken in turn.  budget_s: about how long to measure. A repeat runs enough calls to last
    a millisecond, so that the clock does not matter, and there are 5 repeats at least.
    """
    turn = itertools.cycle(calls)

    def repeat(count: int) -> float:
        synchronize(device)
        start_s = time.perf_counter()
        for _ in range(count):
            next(turn)()
        synchronize(device)
        return (time.perf_counter() - start_s) / count

    once_s = min(repeat(1) for _ in range(3))
    count = max(1, round(1e-3 / once_s))
    repeat(count)
    repeats = max(5, round(budget_s / (count * once_s)))
    return [repeat(count) for _ in range(repeats)]


def synchronize(device: torch.device) -> None:
    """Waits for the GPU; nothing to wait for on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_cases(cases: Iterable[Case], device: torch.device, budget_s: float = 0.5) -> list[Row]:
    """Times every case on `device`, one row each."""
    name, commit = machine(device), current_commit()
    peak = peak_bytes_per_s(device)
    rows = []
    for case in cases:
        times = sorted(time_calls(case.calls, device, budget_s))
        median_s = statistics.median(times)
        rows.append(
            Row(
                bench=case.bench,
                size=case.size,
                variant=case.variant,
                device=device.type,
                median_us=round(median_s * 1e6, 2),
                low_us=round(times[len(times) // 10] * 1e6, 2),
                high_us=round(times[-1 - len(times) // 10] * 1e6, 2),
                repeats=len(times),
                gb_per_s=round(case.size_bytes / median_s / 1e9, 3),
                peak_gb_per_s=round(peak / 1e9, 1),
                machine=name,
                torch=torch.__version__,
                commit=commit,
            )
        )
    return rows


def peak_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written per second by a copy far larger than the cache."""
    source = torch.ones(2**25, device=device)  # 128 MiB
    target = torch.empty_like(source)
    fastest_s = min(time_calls([lambda: target.copy_(source)], device))
    return 2 * source.numel() * source.element_size() / fastest_s


def machine(device: torch.device) -> str:
    """The CPU's model and its cores, or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        model = found[1] if found else model
    return f"{model}, {torch.get_num_threads()} threads"


def current_commit() -> str:
    """The checkout's commit, or "none"."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return found.stdout.strip()


def save_rows(rows: Sequence[Row]) -> Path:
    """Writes the rows of one machine to its file, in place of earlier rows of the same keys."""
    words = re.sub(r"\((?:R|TM)\)|CPU|Processor", "", rows[0].machine)
    name = re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-")
    path = ROOT / "bench/results" / f"{name}.csv"
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
    """The rows as one Markdown table."""
    head = "| bench | size | variant | device | median us | 10 % to 90 % us | GB/s of peak |"
    body = [
        f"| {row.bench} | {row.size} | {row.variant} | {row.device} | {row.median_us:,.2f} "
        f"| {row.low_us:,.2f} to {row.high_us:,.2f} | {row.gb_per_s} of {row.peak_gb_per_s} |"
        for row in rows
    ]
    return "\n".join([head, "| --- | --- | --- | --- | ---: | ---: | ---: |", *body])
