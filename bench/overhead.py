"""What progress, logs, checks, interrupts and checkpoints cost: `python -m bench.overhead`.

A stage of the native engine as a run has it, every 500 updates a log and every 5000 a checkpoint:
the share of its time that is not spent in compiled updates.
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
from fastifo.engine.loop import Stage, run_stage
from fastifo.engine.meter import Engine
from fastifo.engine.metrics import MetricsFile

LOG_EVERY, CHECKPOINT_EVERY = 500, 5000  # as `fastifo.train` has them


class Timed:
    """The engine, and the seconds that its compiled updates took."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.meter, self.load, self.store = engine.meter, engine.load, engine.store
        self.compiled_s = 0.0

    def advance(self, most: int) -> int:
        started = time.perf_counter()
        made = self.engine.advance(most)
        self.compiled_s += time.perf_counter() - started
        return made


def stage_seconds(one: Fastifo, count: int, folder: Path) -> tuple[float, float]:
    """Of so many updates as a stage of a run: all seconds, and those in compiled updates."""
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
    timed = Timed(one.engine)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        started = time.perf_counter()
        run_stage(stage, one.learner, timed)
        return time.perf_counter() - started, timed.compiled_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--updates", type=int, default=CHECKPOINT_EVERY, help="in one turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = fastifo_dataset(problem.columns())
    print(f"{machine(torch.device('cpu'))}, commit {current_commit()}\n")
    print("| nets | members | updates/s | outside compiled updates, median (lowest to highest) |")
    print("| --- | ---: | ---: | ---: |")
    for hidden in options.hidden:
        for members in options.members:
            one = Fastifo(dataset, hidden, members, "native", "fp32")
            shares, spent = [], []
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    whole, compiled = stage_seconds(one, options.updates, Path(folder))
                spent.append(whole)
                shares.append(1 - compiled / whole)
            rate = options.updates / statistics.median(spent)
            print(
                f"| {hidden} x 2 | {members} | {rate:.0f} | {statistics.median(shares):.2%} "
                f"({min(shares):.2%} to {max(shares):.2%}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
