"""The study of VfO's claims: SIBench, bimodal data and self-improvement.

SIBench as the paper builds it, 1000 episodes a set: weak, middle and strong clones of four tasks.
Two seeds, 100 episodes with sampled actions and 100 of the mode. 256 x 2 networks after 50,000 and
200,000 updates; with --paper or on a GPU, the paper's 512 x 2 and 1,000,000 updates. The cells that
tell most come first: `--list` shows all.

Each finished cell is a row of bench/results/main.csv. Commit the file, and any machine continues
with the cells that it lacks; `python -m bench.claims` then updates bench/results/studies.md.
Example: nice -n 19 python -m bench.studies.main --out runs/main --minutes 60
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.studies.cells import Cell
from bench.studies.run import main

RESULTS = Path(__file__).parents[1] / "results/main.csv"
TASKS = ("HalfCheetah-v4", "Ant-v4", "Walker2d-v4", "Hopper-v4")
SETS = {  # task -> set -> demonstrations that are cloned, and the clone's updates
    "HalfCheetah-v4": {"weak": (1, 10_000), "middle": (5, 4_000), "strong": (50, 10_000)},
    "Ant-v4": {"weak": (1, 1_000), "middle": (1, 4_000), "strong": (50, 10_000)},
    "Walker2d-v4": {"weak": (1, 10_000), "middle": (50, 4_000), "strong": (50, 10_000)},
    "Hopper-v4": {"weak": (1, 10_000), "middle": (2, 4_000), "strong": (5, 10_000)},
}
FIRST = ("vfo_bin", "bc", "awr", "vfo_disc")  # methods of most claims
OTHERS = ("smodice", "dilo", "bco")
FIELD = ("lobsdice", "tailo", "pw_dice")  # methods that the papers do not compare with
TRUE_MDP: dict[str, Any] = {"preset": "true_mdp"}
IMPROVED = ("HalfCheetah-v4", "Ant-v4")  # tasks of self-improvement
ITERATIONS = 10


def sibench(task: str, name: str) -> str:
    """The spec of a set."""
    d, updates = SETS[task][name]
    return f"sibench:{task}/d={d},bc_updates={updates}"


def sibench_cells(
    name: str, methods: tuple[str, ...], hidden: int, stages: tuple[int, ...]
) -> Iterator[Cell]:
    """The cells of one set of every task, all methods of a stage before the next stage."""
    for task in TASKS:
        for updates in stages:
            for method in methods:
                yield Cell(task, name, sibench(task, name), method, hidden, updates)
                if method == "awr" and task != "HalfCheetah-v4":  # whose episodes never terminate
                    yield Cell(
                        task, name, sibench(task, name), method, hidden, updates, "true_mdp",
                        TRUE_MDP,
                    )  # fmt: skip


def bimodal_cells(methods: tuple[str, ...], hidden: int, updates: int) -> Iterator[Cell]:
    """Mixtures of expert and random episodes."""
    for task in ("HalfCheetah-v4", "Walker2d-v4"):
        for expert in (200, 500, 0):
            for method in methods:
                spec = f"bimodal:{task}/expert={expert}"
                yield Cell(task, f"expert={expert}", spec, method, hidden, updates)


def improve_cells(hidden: int, updates: int) -> Iterator[Cell]:
    """Iterations of self-improvement, starting at the weak sets."""
    for task in IMPROVED:
        for iteration in range(1, ITERATIONS + 1):
            for method in ("vfo_bin", "awr", "smodice"):
                spec = sibench(task, "weak")
                yield Cell(
                    task, "improve", spec, method, hidden, updates, iteration=iteration
                )  # fmt: skip


def all_cells(paper: bool) -> list[Cell]:
    """Every cell of the study, the most informative first.  paper: at the paper's size."""
    hidden, last = (512, 1_000_000) if paper else (256, 200_000)
    stages = (200_000, last) if paper else (50_000, last)
    cells = [
        *sibench_cells("middle", FIRST, hidden, stages),
        *sibench_cells("middle", (*OTHERS, *FIELD), hidden, stages[:1]),
        *bimodal_cells((*OTHERS, *FIRST), hidden, last),
        *bimodal_cells(FIELD, hidden, stages[0]),
        *sibench_cells("weak", FIRST, hidden, (last,)),
        *sibench_cells("strong", FIRST, hidden, (last,)),
    ]
    if not paper:
        cells += sibench_cells("middle", FIRST, 512, (last,))
    for name in SETS[TASKS[0]]:
        cells += sibench_cells(name, OTHERS, hidden, (last,))
    return [*cells, *improve_cells(hidden, last)]


if __name__ == "__main__":
    main("bench.studies.main", __doc__, RESULTS, all_cells)
