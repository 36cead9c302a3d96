"""Times writing, opening, verifying and reading a pack file with many random transitions.

Opening maps the file into memory and reads little of it, so its time and memory hardly grow.
Verifying computes the file's hashes; reading sums every observation.
Example: python -m bench.pack --transitions 1000000
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import torch

from bench.arguments import make_parser
from fastifo import Dataset, Episodes, load
from fastifo.data.pack import verify


def random_dataset(count: int, width: int) -> Dataset:
    """Random transitions in episodes of 1000.  count: a multiple of 1000.  width: of an obs."""
    episodes = count // 1000
    start = torch.arange(episodes + 1) * 1000
    terminal = torch.zeros(count, dtype=torch.bool)
    timeout = torch.zeros(count, dtype=torch.bool)
    timeout[start[1:] - 1] = True
    background = Episodes(
        torch.randn(count + episodes, width), start, terminal, timeout,
        torch.rand(count, 6) * 2 - 1, torch.randn(count),
    )  # fmt: skip
    return Dataset(background, env_id="HalfCheetah-v4")


def resident_mb() -> float:
    """The process's memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Writes a pack to a temporary folder, times each operation and prints a line for it."""
    parser = make_parser("bench.pack", __doc__)
    parser.add_argument("--transitions", type=int, default=10_000_000, help="multiple of 1000")
    parser.add_argument("--width", type=int, default=17, help="numbers in an observation")
    parser.add_argument(
        "--folder", type=Path, help="where to make the temporary folder; the system's if not given"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "set.fastifo")
        dataset = random_dataset(options.transitions, options.width)
        started = time.perf_counter()
        dataset.save(path)
        print(f"write   {time.perf_counter() - started:6.2f} s, {path.stat().st_size / 1e6:.0f} MB")
        del dataset
        before, started = resident_mb(), time.perf_counter()
        loaded = load(path)
        seconds = time.perf_counter() - started
        print(f"open    {seconds:6.3f} s, {resident_mb() - before:+.1f} MB of memory")
        started = time.perf_counter()
        verify(path)
        print(f"verify  {time.perf_counter() - started:6.2f} s")
        started = time.perf_counter()
        total = float(loaded.background.obs.sum(dtype=torch.float64))
        print(f"read    {time.perf_counter() - started:6.2f} s, every observation ({total:.0f})")


if __name__ == "__main__":
    main()
