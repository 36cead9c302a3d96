"""Runs `fastifo quickstart` on several data seeds; writes bench/results/quickstart.csv.

`python -m bench.quickstart --out FOLDER` keeps the datasets, runs and reports in FOLDER/seed=<n>.
Seeds whose report is there are not run again, and have no times. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import fastifo
from bench.arguments import make_parser
from bench.study_tables import RESULTS
from fastifo.cli.quickstart import METHODS, Quickstart
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.utils.statistics import wilson_interval

COLUMNS = (
    "data_seed", "policy", "success", "low", "high", "mode", "mode_low", "mode_high", "wall_s",
    "cpu_s",
)  # fmt: skip


def play(seed: int, out: Path) -> tuple[str, str]:
    """Runs the command; its time, and CPU time of all its processes, in seconds."""
    if (out / Quickstart.env_id / "report.png").exists():
        return "", ""
    command = [sys.executable, "-m", "fastifo", "quickstart", "--data-seed", f"{seed}"]
    started, before = time.perf_counter(), os.times()
    subprocess.run([*command, "--out", f"{out}"], check=True)
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return f"{time.perf_counter() - started:.0f}", f"{cpu:.0f}"


def result_rows(seed: int, out: Path, times: tuple[str, str]) -> list[list[str]]:
    """A row for the background and one for each method, in the order of `COLUMNS`."""
    folder = out / Quickstart.env_id
    background = fastifo.load(folder / "dataset.fastifo").background
    assert background.success is not None
    count, total = int(background.success.sum()), background.num_episodes
    rates = [f"{value:.3f}" for value in (count / total, *wilson_interval(count, total))]
    rows = [[f"{seed}", "background", *rates, "", "", "", *times]]
    for method in METHODS:
        cells = [f"{seed}", method]
        for name in FILE_OF.values():
            returns = Returns.load(folder / method / name)
            assert returns.success is not None
            assert returns.success_interval is not None
            cells += [f"{value:.3f}" for value in (returns.success, *returns.success_interval)]
        rows.append([*cells, "", ""])
    return rows


def main() -> None:
    """Runs the command line."""
    parser = make_parser("bench.quickstart", __doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    rows: list[list[str]] = []
    for seed in options.seeds:
        out = options.out / f"seed={seed}"
        rows += result_rows(seed, out, play(seed, out))
    with (RESULTS / "quickstart.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
