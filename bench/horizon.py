"""Measures how the return changes over long training.

Trains every method on one SIBench set of medium quality per task. All runs first train to 10,000
updates, then all to 25,000, and so on up to --num-updates; after each stage every policy is
evaluated and results.csv and horizon.png in --out are rewritten, so that results are available at
any time. A second call with the same --out continues where the first one stopped.

results.csv has a row per task, method and stage: the return with sampled actions, its interval and
each seed's mean, the return of the most likely actions (mode), and the background's mean return.
Example: python -m bench.horizon --out runs/horizon --envs Hopper-v4 --num-updates 50000
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from pathlib import Path
from typing import Any

import fastifo
from bench.arguments import make_parser
from fastifo.report.plotting import COLORS, png_figure
from fastifo.report.runs import ORDER
from fastifo.utils.files import write_json
from fastifo.utils.text import number_texts

SETS = {  # task -> SIBench set whose background returns are 20 to 70 % of the expert's
    "HalfCheetah-v4": "d=5,episodes=200,demos=50,bc_updates=4000",
    "Walker2d-v4": "d=50,episodes=200,demos=50,bc_updates=4000",
    "Ant-v4": "d=1,episodes=200,demos=50,bc_updates=4000",
    "Hopper-v4": "d=2,episodes=200,demos=50,bc_updates=4000",
}
METHODS = ("bc", "awr", "vfo_bin", "vfo_disc")
STAGES = (10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)


def entry(run: fastifo.Run, returns: Any, mode: Any) -> dict[str, Any]:
    """A row of results.csv.  returns, mode: evaluations with sampled and most likely actions."""
    low, high = returns.interval
    return {
        "env_id": run.env_id,
        "algorithm": run.algorithm,
        "num_updates": run.updates_done,
        "return": round(returns.mean, 1),
        "low": round(low, 1),
        "high": round(high, 1),
        "per_seed": " ".join(number_texts(returns.per_member)),
        "mode": round(mode.mean, 1),
        "background": round(statistics.mean(run.datasets[0]["background_returns"]), 1),
        "precision": run.precision,
        "engine": run.engine,
    }


def write(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes the rows as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws return with sampled actions over updates: mean, range of the seeds, background."""
    tasks = list(dict.fromkeys(row["env_id"] for row in rows))
    with png_figure(path, 1, len(tasks), (4.6 * len(tasks), 3.8)) as (_, axes):
        for axis, env_id in zip(axes, tasks, strict=True):
            task_rows = [row for row in rows if row["env_id"] == env_id]
            axis.axhline(task_rows[0]["background"], color="0.4", ls="--", lw=1, label="background")
            for method in dict.fromkeys(row["algorithm"] for row in task_rows):
                curve = sorted(
                    (row["num_updates"], row["return"], [float(x) for x in row["per_seed"].split()])
                    for row in task_rows
                    if row["algorithm"] == method
                )
                updates, means, seeds = zip(*curve, strict=True)
                color = COLORS[ORDER.index(method)]
                axis.plot(updates, means, marker="o", ms=3, color=color, label=method)
                low, high = [min(each) for each in seeds], [max(each) for each in seeds]
                axis.fill_between(updates, low, high, color=color, alpha=0.15, lw=0)
            axis.set_xscale("log")
            axis.set_title(env_id)
            axis.set_xlabel("updates")
        axes[0].set_ylabel("return, sampled actions")
        axes[0].legend(fontsize=8)


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = make_parser("bench.horizon", __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the runs and results")
    add("--num-updates", type=int, default=200_000, help="updates of the last stage")
    add("--envs", nargs="+", default=list(SETS), choices=list(SETS), help="tasks")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="methods to train")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="one member per seed")
    add("--hidden", type=int, default=512, help="width of both hidden layers")
    add("--batch-size", type=int, default=256, help="rows of each source in a batch")
    add("--precision", default="auto", help="as in `fastifo train`")
    add("--episodes", type=int, default=100, help="evaluation episodes after the last stage")
    add("--look-episodes", type=int, default=20, help="evaluation episodes after the others")
    return parser.parse_args()


def main() -> None:
    """Trains and evaluates stage by stage, skipping what is done already."""
    options = parse_options()
    done_file = options.out / "results.json"
    results: dict[str, dict[str, Any]] = (
        json.loads(done_file.read_text()) if done_file.exists() else {}
    )
    stages = [count for count in STAGES if count < options.num_updates] + [options.num_updates]
    for count in stages:
        for env_id in options.envs:
            dataset = fastifo.load(f"sibench:{env_id}/{SETS[env_id]}")
            for method in options.methods:
                key = f"{env_id}/{method}/{count}"
                if key in results:
                    continue
                run = fastifo.train(
                    method, dataset, num_updates=count, seeds=options.seeds,
                    precision=options.precision, hidden_sizes=(options.hidden, options.hidden),
                    batch_size=options.batch_size, out=options.out / env_id / method,
                )  # fmt: skip
                episodes = options.episodes if count == stages[-1] else options.look_episodes
                returns = run.evaluate(episodes)
                mode = run.evaluate(episodes, deterministic=True)
                results[key] = entry(run, returns, mode)
                print(results[key], flush=True)
                write_json(done_file, results)
                write(list(results.values()), options.out / "results.csv")
                draw(list(results.values()), options.out / "horizon.png")


if __name__ == "__main__":
    main()
