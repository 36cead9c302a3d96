"""Whether bf16 costs returns: the study that decides what `precision="auto"` chooses on a CPU.

VfO-bin and BC on the middle SIBench sets of three tasks, 512 x 2 networks, 100,000 updates in the
native engine. Each cell is trained in fp32 and in bf16 from the same three seeds, and therefore
with the same initial weights and batches. 100 episodes of each policy with sampled actions and 100
of the mode.

Each finished cell is a row of bench/results/precision-512.csv with the mean return, its 95 %
interval and each seed's mean. Repeating the command continues.
Example: nice -n 19 python -m bench.studies.precision --out runs/precision --minutes 60
"""

from __future__ import annotations

from pathlib import Path

from bench.studies.cells import Cell
from bench.studies.main import sibench
from bench.studies.run import main

RESULTS = Path(__file__).parents[1] / "results/precision-512.csv"
TASKS = ("HalfCheetah-v4", "Walker2d-v4", "Ant-v4")
METHODS = ("vfo_bin", "bc")
PRECISIONS = ("fp32", "bf16")
SEEDS = (0, 1, 2)


def all_cells(paper: bool) -> list[Cell]:
    """Every cell, the two precisions of a case one after the other.  paper: 1,000,000 updates."""
    return [
        Cell(
            task, "middle", sibench(task, "middle"), method, 512, 1_000_000 if paper else 100_000,
            precision, {"precision": precision, "engine": "native"}, SEEDS,
        )
        for method in METHODS
        for task in TASKS
        for precision in PRECISIONS
    ]  # fmt: skip


if __name__ == "__main__":
    main("bench.studies.precision", __doc__, RESULTS, all_cells)
