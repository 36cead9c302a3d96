"""Measures queries per second of each nearest-neighbour backend of TGE's rewards.

The defaults are TGE's sizes: embeddings of 256 numbers on the unit sphere, one expert trajectory of
1000 windows, 5 neighbours. All backends must give the same distances before they are timed; they
take turns, so that load from other processes affects all of them. Prints the median rate with the
fastest and slowest round and writes bench/results/knn-<machine>.csv.
Example: python -m bench.knn --queries 20000 --rounds 3
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch

from bench.arguments import make_parser
from bench.timing import current_commit, machine, results_name
from fastifo.algos.rewards import knn

RESULTS = Path(__file__).parent / "results"


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = make_parser("bench.knn", __doc__)
    add = parser.add_argument
    add("--queries", type=int, default=200_000, help="number of queries in a call")
    add("--points", type=int, default=1000, help="number of points to search")
    add("--width", type=int, default=256, help="numbers in a point")
    add("--neighbours", type=int, default=5, help="neighbours per query")
    add("--rounds", type=int, default=5, help="calls of each backend")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    return parser.parse_args()


def measure(args: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Seconds of a call of each backend in each round; GPU backends run on `device`."""
    generator = torch.Generator().manual_seed(0)
    points, queries = (
        torch.nn.functional.normalize(torch.randn(n, args.width, generator=generator), dim=1)
        for n in (args.points, args.queries)
    )
    searches = {}
    for backend in knn.BACKENDS:
        where = device if backend != "faiss" else torch.device("cpu")
        try:
            searches[backend] = knn.Neighbours(points.to(where), backend), queries.to(where)
        except ValueError as error:
            print(f"{backend}: not timed ({error})")
    results = {name: s.distances(q, args.neighbours).cpu() for name, (s, q) in searches.items()}
    for name, distances in results.items():
        torch.testing.assert_close(distances, results["torch"], msg=f"{name} differs from torch")
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(args.rounds):
        for name, (search, device_queries) in searches.items():
            started = time.perf_counter()
            search.distances(device_queries, args.neighbours)
            if device_queries.is_cuda:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return times


def main() -> None:
    """Times every backend, prints a line for each and writes the rows."""
    args = parse_options()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    times = measure(args, device)
    rows: list[list[object]] = []
    print(f"{args.queries} queries, {args.points} points, width {args.width}, "
          f"{args.neighbours} neighbours, {args.threads} threads")  # fmt: skip
    for name, seconds in times.items():
        median_s = statistics.median(seconds)
        rate, flop = args.queries / median_s, 2.0 * args.queries * args.points * args.width
        print(f"  {name:10} {rate:12,.0f} queries/s  {flop / median_s / 1e9:8.0f} GFLOP/s  "
              f"({min(seconds):.3f} to {max(seconds):.3f} s)")  # fmt: skip
        rows.append([name, args.queries, args.points, args.width, args.neighbours, args.threads,
                     f"{rate:.0f}", f"{min(seconds):.4f}", f"{max(seconds):.4f}"])  # fmt: skip
    machine_name = machine(device)
    path = RESULTS / f"knn-{results_name(machine_name)}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["backend", "queries", "points", "width", "neighbours", "threads", "queries_per_s",
             "fastest_s", "slowest_s", "machine", "commit"]
        )  # fmt: skip
        writer.writerows([*row, machine_name, current_commit()] for row in rows)
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
