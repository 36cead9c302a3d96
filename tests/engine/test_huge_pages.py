"""Large arrays may lie in huge pages, with the same contents."""

import re
from pathlib import Path

import pytest
import torch

from fastifo import _C

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def huge_kilobytes() -> int:
    """How much of this process's memory lies in huge pages."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"AnonHugePages:\s+(\d+) kB", text)[0])


def advise(tensor: torch.Tensor) -> None:
    _C.advise_huge_pages(tensor.data_ptr(), tensor.nbytes)


@pytest.mark.parametrize("numbers", [0, 1, 1000, 2**19, 3 * 2**20 + 7])
def test_contents_stay(numbers: int) -> None:
    values = torch.arange(numbers + 1, dtype=torch.float32)
    advise(values[1:])  # does not begin at a page
    assert torch.equal(values, torch.arange(numbers + 1, dtype=torch.float32))


def test_memory_in_use_moves_to_huge_pages() -> None:
    if not SWITCH.is_file() or "[madvise]" not in SWITCH.read_text():
        pytest.skip("needs Linux that gives huge pages on request only")
    values = torch.zeros(16 * 2**20, dtype=torch.uint8)
    before = huge_kilobytes()
    advise(values)
    if huge_kilobytes() == before:
        pytest.skip("the system has no huge page left, or is older than Linux 6.1")
    assert huge_kilobytes() - before >= 14 * 1024
