"""Measures what progress bars, logs, checks, interrupts and checkpoints cost.

Trains VfO-bin in the native engine as a run does, with a log every 500 updates and a checkpoint
every 5000. The table has the share of the time that is not spent in compiled updates, as the
median over rounds with the lowest and the highest.
Example: python -m bench.overhead --hidden 128 --members 1
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bench.arguments import make_parser
from bench.engines import Fastifo, fastifo_dataset
from bench.peers import problem
from bench.timing import current_commit, machine
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.loop import Stage, run_stage
from fastifo.engine.meter import Engine
from fastifo.engine.metrics import MetricsFile

LOG_EVERY, CHECKPOINT_EVERY = 500, 5000  # the defaults of `fastifo.train`


class TimedEngine:
    """An engine that adds up the seconds spent in its compiled updates."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.meter, self.load, self.store = engine.meter, engine.load, engine.store
        self.compiled_s = 0.0

    def advance(self, most: int) -> int:
        """Makes at most `most` updates; returns their number."""
        started = time.perf_counter()
        count = self.engine.advance(most)
        self.compiled_s += time.perf_counter() - started
        return count


def stage_seconds(runner: Fastifo, count: int, folder: Path) -> tuple[float, float]:
    """Seconds of `count` updates as a stage of a run, and the part of them in compiled updates."""
    stage = Stage(
        key="0-train",
        title="overhead",
        members=tuple(range(runner.population)),
        num_updates=runner.learner.num_updates + count,
        metrics=MetricsFile(folder / "metrics.jsonl", 0),
        checkpoints=Checkpoints(folder / "checkpoint"),
        log_every=LOG_EVERY,
        checkpoint_every=CHECKPOINT_EVERY,
        progress=True,
        describe=str,
    )
    timed = TimedEngine(runner.engine)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        started = time.perf_counter()
        run_stage(stage, runner.learner, timed)
        return time.perf_counter() - started, timed.compiled_s


def main() -> None:
    """Measures every width and population size and prints a table."""
    parser = make_parser("bench.overhead", __doc__)
    add = parser.add_argument
    add("--hidden", type=int, nargs="+", default=[128, 512], help="widths of both hidden layers")
    add("--members", type=int, nargs="+", default=[1, 4], help="population sizes")
    threads = len(os.sched_getaffinity(0))
    add("--threads", type=int, default=threads, help="CPU threads of the engine")
    add("--updates", type=int, default=CHECKPOINT_EVERY, help="updates in one round")
    add("--rounds", type=int, default=3, help="measurements of each case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = fastifo_dataset(problem.columns())
    print(f"{machine(torch.device('cpu'))}, commit {current_commit()}\n")
    print("| nets | members | updates/s | outside compiled updates, median (lowest to highest) |")
    print("| --- | ---: | ---: | ---: |")
    for hidden in options.hidden:
        for members in options.members:
            runner = Fastifo(dataset, hidden, members, "native", "fp32")
            shares, spent = [], []
            for _ in range(options.rounds):
                with tempfile.TemporaryDirectory() as folder:
                    total_s, compiled_s = stage_seconds(runner, options.updates, Path(folder))
                spent.append(total_s)
                shares.append(1 - compiled_s / total_s)
            rate = options.updates / statistics.median(spent)
            print(
                f"| {hidden} x 2 | {members} | {rate:.0f} | {statistics.median(shares):.2%} "
                f"({min(shares):.2%} to {max(shares):.2%}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
