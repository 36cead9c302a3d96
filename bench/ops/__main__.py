"""Times every op on each device: `python -m bench.ops`. Prints one table and keeps the rows."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import torch

import bench.ops
from bench.timing import run_cases, save_rows, show_rows
from fastifo import _C


def main() -> None:
    """Runs bench_<op>.py of every op on the CPU and, where there is one, on the GPU."""
    modules = [
        importlib.import_module(f"bench.ops.{module.name}")
        for module in pkgutil.iter_modules(bench.ops.__path__)
        if module.name.startswith("bench_")
    ]
    devices = [torch.device("cpu")]
    if _C.has_cuda and torch.cuda.is_available():
        devices.append(torch.device("cuda", 0))
    for device in devices:
        rows = run_cases([case for module in modules for case in module.cases(device)], device)
        path = save_rows(rows)
        sys.stdout.write(f"{rows[0].machine}, torch {rows[0].torch}\n\n{show_rows(rows)}\n\n")
        sys.stdout.write(f"written to {path.name}\n")


if __name__ == "__main__":
    main()
