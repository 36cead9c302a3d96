"""Times every op on each device: `python -m bench.ops`. Prints one table and keeps the rows."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import torch

import bench.ops
from bench.timing import run_cases, save_rows, show_rows
from fastifo import _C


def main() -> None:
    """Runs bench_<op>.py of every op on the CPU and, where there is one, on the GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.ops", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of op files; all of them if none is given")
    parser.add_argument("--threads", type=int, default=1, help="torch and OpenMP threads (1)")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds for each variant (0.5)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="this one alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench.ops.COMPILES = not arguments.no_compile
    modules = [
        importlib.import_module(f"bench.ops.{module.name}")
        for module in pkgutil.iter_modules(bench.ops.__path__)
        if module.name.startswith("bench_")
        and (not arguments.only or module.name.removeprefix("bench_") in arguments.only)
    ]
    devices = [torch.device("cpu")]
    if _C.has_cuda and torch.cuda.is_available():
        devices.append(torch.device("cuda", 0))
    for device in [each for each in devices if arguments.device in (None, each.type)]:
        cases = (case for module in modules for case in module.cases(device))
        rows = run_cases(cases, device, arguments.budget)
        path = save_rows(rows)
        sys.stdout.write(f"{rows[0].machine}, torch {rows[0].torch}\n\n{show_rows(rows)}\n\n")
        sys.stdout.write(f"written to {path.name}\n")


if __name__ == "__main__":
    main()
