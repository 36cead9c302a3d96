"""Opening, checking and reading a pack of many transitions: `python -m bench.pack`."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from fastifo import Dataset, Episodes, load
from fastifo.data.pack import verify


def dataset(count: int, width: int) -> Dataset:
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
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transitions", type=int, default=10_000_000)
    parser.add_argument("--width", type=int, default=17, help="of an observation")
    parser.add_argument("--folder", type=Path, help="where the file is written; a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "set.fastifo")
        made = dataset(options.transitions, options.width)
        started = time.perf_counter()
        made.save(path)
        print(f"write   {time.perf_counter() - started:6.2f} s, {path.stat().st_size / 1e6:.0f} MB")
        del made
        before, started = resident_mb(), time.perf_counter()
        found = load(path)
        seconds = time.perf_counter() - started
        print(f"open    {seconds:6.3f} s, {resident_mb() - before:+.1f} MB of memory")
        started = time.perf_counter()
        verify(path)
        print(f"verify  {time.perf_counter() - started:6.2f} s")
        started = time.perf_counter()
        total = float(found.background.obs.sum(dtype=torch.float64))
        print(f"read    {time.perf_counter() - started:6.2f} s, every observation ({total:.0f})")


if __name__ == "__main__":
    main()
