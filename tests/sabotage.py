"""Executors and jobs that fail on purpose, for tests of sweeps; workers can import this module."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from fastifo.algos.bc import BC
from fastifo.engine.checkpoint import Checkpoints
from fastifo.utils.executors import OpenExecutor, Processes
from fastifo.utils.machines import opened
from fastifo.utils.parallel import Executor, Job
from helpers import SMALL
from support import full_disk

TINY: dict[str, Any] = {  # arguments of a sweep over four settings
    "temperature": "loguniform(0.05, 5)",
    "hidden_sizes": [(8,), (12,)],
    "num_settings": 4,
    "rungs": [4, 8],
    "keep": 0.5,
    "episodes": 2,
    "final_episodes": 3,
    "final_seeds": [7, 8],
    "log_every": 3,
    "checkpoint_every": 2,
    "progress": False,
    **{name: value for name, value in SMALL.items() if name != "hidden_sizes"},
}


class OwnBC(BC):
    """A method of a user's own, which workers import."""

    name = "own_bc"


@dataclass
class Disturbed:
    """A job that fails at its first attempt: its process is killed, or its disk is full."""

    job: Job
    mark: Path  # appears with the first attempt
    how: str  # kill or full

    def run(self) -> None:
        if self.mark.exists():
            self.job.run()
            return
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        self.mark.write_text("")
        if self.how == "full":
            with full_disk(3000):
                self.job.run()
        save = Checkpoints.save

        def save_and_die(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        with mock.patch.object(Checkpoints, "save", save_and_die):
            self.job.run()


class Sabotage(OpenExecutor):
    """Runs jobs on another executor; disturbs the first job of every call."""

    workers = 1

    def __init__(self, executor: Executor, marks: Path, how: str, last: int = -1) -> None:
        """marks: a folder.  last: the call, from 0, after which this process is killed."""
        self.executor, self.marks, self.how, self.last = executor, marks, how, last
        self.calls = 0

    def open(self) -> None:
        opened(self.executor).__enter__()

    def close(self) -> None:
        opened(self.executor).__exit__(None, None, None)

    def run_all(self, jobs: Sequence[Job]) -> None:
        mark = self.marks / f"{self.how}-{self.calls}"
        self.executor.run([Disturbed(jobs[0], mark, self.how), *jobs[1:]])
        if self.calls == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1


def killed_driver(dataset: str, out: str, marks: str) -> None:
    """A sweep whose workers are killed at each rung, and which is killed after the second."""
    import fastifo

    executor = Sabotage(Processes(1), Path(marks), "kill", last=1)
    fastifo.sweep("vfo_bin", dataset, out=out, executor=executor, **TINY)
