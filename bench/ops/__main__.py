"""Times every compiled op against its plain-torch equivalent, on the CPU and, if present, the GPU.

Variants of an op (ours, eager, torch.compile, ...) take turns in the same rounds, so that load from
other processes affects all of them. The printed table has a line per op and size:

  ours us      median time of one call of ours in microseconds; with gradients if the op has them
  spread       10th to 90th percentile of the rounds
  others       the same for the other variants; "(2.00x)" means ours is twice as fast
  GB/s of peak bytes that the op must move per second, and the bandwidth of a large copy; more than
               100 % if the data fit into the caches

Rows are stored in bench/results/<machine>.csv, where they replace earlier ones of the same case.
Example: python -m bench.ops adam gather --no-compile
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import torch

import bench.ops
from bench.arguments import make_parser
from bench.timing import run_cases, save_rows, show_rows
from fastifo import _C


def main() -> None:
    """Runs bench_<op>.py of the chosen ops on every device, prints the table, stores the rows."""
    parser = make_parser("bench.ops", __doc__)
    parser.add_argument(
        "only", nargs="*", help="op files to time, such as adam or dual; all if none is given"
    )
    parser.add_argument("--threads", type=int, default=1, help="number of torch and OpenMP threads")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds to measure each variant")
    parser.add_argument(
        "--no-compile", action="store_true", help="do not time torch.compile, which compiles slowly"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="time only this device")
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
