"""What progress, logs, checks, interrupts and checkpoints cost: `python -m bench.overhead`.

The same updates of the native engine as bare calls of compiled code, and as a run's stage with all
that a run does; in turns, so that a neighbour's load meets both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bench.engines import Fastifo, fastifo_dataset
from bench.peers import problem
from bench.timing import current_commit, machine
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.log import MetricsFile
from fastifo.engine.loop import Stage, run_stage

LOG_EVERY, CHECKPOINT_EVERY = 500, 5000  # as `fastifo.train` has them


def bare(one: Fastifo, count: int) -> float:
    """Seconds for so many updates."""
    started, end = time.perf_counter(), one.learner.num_updates + count
    while one.learner.num_updates < end:
        one.learner.num_updates += one.engine.advance(end - one.learner.num_updates)
    return time.perf_counter() - started


def whole(one: Fastifo, count: int, folder: Path) -> float:
    """The same as a stage of a run."""
    stage = Stage(
        key="0-train",
        title="overhead",
        members=tuple(range(one.population)),
        num_updates=one.learner.num_updates + count,
        metrics=MetricsFile(folder / "metrics.jsonl", 0),
        checkpoints=Checkpoints(folder / "checkpoint"),
        log_every=LOG_EVERY,
        checkpoint_every=CHECKPOINT_EVERY,
        progress=True,
        describe=str,
    )
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        started = time.perf_counter()
        run_stage(stage, one.learner, one.engine)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--updates", type=int, default=500, help="in one turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = fastifo_dataset(problem.columns())
    print(f"{machine(torch.device('cpu'))}, commit {current_commit()}\n")
    print("| nets | members | updates/s | whole over bare, median (lowest to highest) |")
    print("| --- | ---: | ---: | ---: |")
    for hidden in options.hidden:
        for members in options.members:
            one = Fastifo(dataset, hidden, members, "native", "fp32")
            bare(one, 20)
            ratios, spent = [], []
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    spent.append(bare(one, options.updates))
                    ratios.append(whole(one, options.updates, Path(folder)) / spent[-1])
            rate = options.updates / statistics.median(spent)
            print(
                f"| {hidden} x 2 | {members} | {rate:.0f} | {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
