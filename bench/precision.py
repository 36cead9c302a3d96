"""Do fewer bits cost returns? `python -m bench.precision --out runs/precision`.

Trains VfO-bin on two tasks in every precision of the native engine, with the same seeds and so the
same batches, and evaluates each policy. Writes results.csv; running again continues.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import fastifo
from bench.horizon import SETS, entry

PRECISIONS = ("fp32", "fp32x", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v4", "Walker2d-v4"])
    parser.add_argument("--num-updates", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=50)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for env_id in options.envs:
        dataset = fastifo.load(f"sibench:{env_id}/{SETS[env_id]}")
        for precision in PRECISIONS:
            run = fastifo.train(
                "vfo_bin", dataset, num_updates=options.num_updates, seeds=options.seeds,
                precision=precision, engine="native", out=options.out / env_id / precision,
                hidden_sizes=(options.hidden, options.hidden), batch_size=options.batch_size,
            )  # fmt: skip
            returns = run.evaluate(options.episodes)
            mode = run.evaluate(options.episodes, deterministic=True)
            rows.append(entry(run, returns, mode))
            print(rows[-1], flush=True)
            with (options.out / "results.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main()
