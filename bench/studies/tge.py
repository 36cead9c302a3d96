"""The study of TGE's claims on medium background without expert episodes.

The other episodes of each set are those of a clone of two demonstrations, and one expert episode is
given as the demonstration. A diffusion model of the default width trains for 3,000 updates of 64
windows (the default is 200,000 of 256), and IQL for 100,000 at 256 x 2, with three
seeds: on two cores, about three hours in two processes. TGE has windows of 32 rows and the
logarithmic kernel; further cells change one of these.

Each finished cell is a row of bench/results/tge-study.csv; see bench.studies.main.
Example: nice -n 19 python -m bench.studies.tge --out runs/tge-study --minutes 60
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.studies.cells import Cell
from bench.studies.run import main

RESULTS = Path(__file__).parents[1] / "results/tge-study.csv"
TASKS = ("Walker2d-v4", "HalfCheetah-v4")
MODEL = {  # of the windows; everything else has the defaults
    "diffusion_updates": 3_000, "diffusion_batch_size": 64, "diffusion_learning_rate": 0.001,
    "ema_start": 300, "embedding_dtype": "float16",
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "": {}, "gaussian": {"tge_reward": "gaussian"}, "horizon=1": {"horizon": 1},
}  # fmt: skip


def spec(task: str) -> str:
    """The dataset of a task."""
    return f"bimodal:{task}/expert=0,total=200,demos=1,clone=2"


def all_cells(paper: bool) -> list[Cell]:
    """Every cell of the study, the most informative first.  paper: at the paper's size."""
    hidden, updates = (256, 1_000_000) if paper else (256, 100_000)
    model = {} if paper else MODEL
    methods: list[tuple[str, str, dict[str, Any]]] = [
        ("tge", name, model | fields) for name, fields in VARIANTS.items()
    ]
    methods[1:1] = [(name, "", {}) for name in ("seabo", "otr", "smodice", "dilo", "bc")]
    seeds = (0, 1, 2)
    return [
        Cell(task, "expert=0", spec(task), method, hidden, updates, variant, fields, seeds)
        for task in TASKS
        for method, variant, fields in methods
    ]


if __name__ == "__main__":
    main("bench.studies.tge", __doc__, RESULTS, all_cells)
