"""Queries per second of each neighbour backend: python -m bench.knn

TGE's sizes: 256-wide embeddings on the sphere, one expert trajectory of 1000 windows, 5 neighbours.
The distances of all backends are compared before they are timed. Writes bench/results/*.csv.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch

from bench.timing import current_commit, machine, results_name
from fastifo.algos.rewards import knn

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=200_000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--neighbours", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    points, queries = (
        torch.nn.functional.normalize(torch.randn(n, args.width, generator=generator), dim=1)
        for n in (args.points, args.queries)
    )
    searches = {}
    for backend in knn.BACKENDS:
        own = device if backend != "faiss" else torch.device("cpu")
        try:
            searches[backend] = knn.Neighbours(points.to(own), backend), queries.to(own)
        except ValueError as error:
            print(f"{backend}: left out ({error})")
    found = {name: s.distances(q, args.neighbours).cpu() for name, (s, q) in searches.items()}
    for name, distances in found.items():
        torch.testing.assert_close(distances, found["torch"], msg=f"{name} differs from torch")
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(args.rounds):  # in turns: a slow moment of the machine meets all of them
        for name, (search, own_queries) in searches.items():
            started = time.perf_counter()
            search.distances(own_queries, args.neighbours)
            if own_queries.is_cuda:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    rows: list[list[object]] = []
    print(f"{args.queries} queries, {args.points} points, width {args.width}, "
          f"{args.neighbours} neighbours, {args.threads} threads")  # fmt: skip
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        rate, work = args.queries / middle, 2.0 * args.queries * args.points * args.width
        print(f"  {name:10} {rate:12,.0f} queries/s  {work / middle / 1e9:8.0f} GFLOP/s  "
              f"({min(seconds):.3f} to {max(seconds):.3f} s)")  # fmt: skip
        rows.append([name, args.queries, args.points, args.width, args.neighbours, args.threads,
                     f"{rate:.0f}", f"{min(seconds):.4f}", f"{max(seconds):.4f}"])  # fmt: skip
    name_of = machine(device)
    path = RESULTS / f"knn-{results_name(name_of)}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["backend", "queries", "points", "width", "neighbours", "threads", "queries_per_s",
             "fastest_s", "slowest_s", "machine", "commit"]
        )  # fmt: skip
        writer.writerows([*row, name_of, current_commit()] for row in rows)
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
