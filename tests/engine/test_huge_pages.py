"""Large arrays may lie in huge pages, with the same contents."""

import mmap
import platform
import re
import threading
import time
from pathlib import Path

import pytest
import torch

from fastifo import _C

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
MEGABYTES = 16
ALIGNED_KB = (MEGABYTES - 2) * 1024  # what huge pages of 2 MiB can cover at least


def huge_kilobytes() -> int:
    """How much of this process's memory lies in huge pages."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"AnonHugePages:\s+(\d+) kB", text)[0])


def linux() -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", platform.release())[:2])


def advise(tensor: torch.Tensor) -> None:
    _C.advise_huge_pages(tensor.data_ptr(), tensor.nbytes)


@pytest.mark.parametrize("numbers", [0, 1, 1000, 2**19, 3 * 2**20 + 7])
def test_contents_stay(numbers: int) -> None:
    values = torch.arange(numbers + 1, dtype=torch.float32)
    advise(values[1:])  # does not begin at a page
    assert torch.equal(values, torch.arange(numbers + 1, dtype=torch.float32))


def in_use(numbers: int, huge: bool) -> torch.Tensor:
    """Ones in memory of their own, which the allocator never had before."""
    memory = mmap.mmap(-1, numbers, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8).fill_(1)


def test_memory_in_use_moves_to_huge_pages() -> None:
    if not SWITCH.is_file() or "[madvise]" not in SWITCH.read_text():
        pytest.skip("needs Linux that gives huge pages on request only")
    empty = huge_kilobytes()
    given = in_use(MEGABYTES * 2**20, huge=True)
    if huge_kilobytes() - empty < ALIGNED_KB:
        pytest.skip("the system has too few huge pages left")
    values = in_use(MEGABYTES * 2**20, huge=False)
    before = huge_kilobytes()
    advise(values)
    if huge_kilobytes() == before and linux() < (6, 1):
        pytest.skip("moves memory in use from Linux 6.1 on")
    assert huge_kilobytes() - before >= ALIGNED_KB
    assert torch.equal(values, given)


def test_other_threads_run_while_memory_moves() -> None:
    values, done = in_use(512 * 2**20, huge=False), threading.Event()
    times: list[float] = []

    def note_times() -> None:
        while not done.wait(0.005):
            times.append(time.perf_counter())

    thread = threading.Thread(target=note_times)
    thread.start()
    try:
        started = time.perf_counter()
        advise(values)
        elapsed = time.perf_counter() - started
    finally:
        done.set()
        thread.join()
    if elapsed < 0.1:
        pytest.skip("needs a system that moves memory in use")
    assert any(0.2 < (t - started) / elapsed < 0.8 for t in times)
