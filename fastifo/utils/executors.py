"""Where jobs run: in this process, or in processes of this machine.

`fastifo.utils.machines` adds Ray tasks and Slurm jobs, and chooses an executor by its name.

A job's `run` can be repeated: it continues from what an earlier attempt left in its files. So an
executor only has to start it again where a process, a disk or a machine failed.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from fastifo.utils.arguments import as_count
from fastifo.utils.parallel import Job, WorkerPool

RETRIES = 3  # of a job whose process, disk or machine failed


class OpenExecutor(ABC):
    """An executor that keeps its processes between calls of `run` while its context is entered.

    Contexts can be nested. A call of `run` outside of any has one of its own.
    """

    workers: int  # jobs at the same time; 0: not known
    depth = 0  # contexts that are entered

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs and returns when the last one has ended.

        Raises the error of a job that failed, also after its retries; ChildProcessError if its
        process died each time; KeyboardInterrupt for Ctrl-C and SIGTERM.
        """
        with self:
            self.run_all(jobs)

    @abstractmethod
    def run_all(self, jobs: Sequence[Job]) -> None:
        """See `run`; called inside the context."""

    def open(self) -> None:
        """Starts what the executor needs."""
        return

    def close(self) -> None:
        """Ends what `open` and `run_all` started."""
        return

    def __enter__(self) -> Self:
        if self.depth == 0:
            self.open()
        self.depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.close()


class InProcess(OpenExecutor):
    """Runs one job after the other in this process, with all its cores; retries none."""

    workers = 1

    def run_all(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`."""
        for job in jobs:
            job.run()


class Processes(OpenExecutor):
    """Runs jobs in processes of this machine, which share its cores.

    A script uses it below `if __name__ == "__main__":`.
    """

    def __init__(self, workers: int = 0, *, threads: int = 0, retries: int = RETRIES) -> None:
        """workers: processes; 0: one per core.  threads: of each; 0: an equal share of the cores.

        retries: of a job whose process died or whose disk was full.
        """
        cores = len(os.sched_getaffinity(0))
        self.workers = as_count("workers", workers, low=0) or cores
        self.pool = WorkerPool(self.workers, threads, as_count("retries", retries, low=0))

    def run_all(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`."""
        self.pool.run(jobs)

    def close(self) -> None:
        """Ends the processes."""
        self.pool.__exit__()
