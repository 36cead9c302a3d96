"""Where jobs run: in this process, or in processes of this machine.

`fastifo.utils.machines` adds Ray tasks and Slurm jobs, and chooses an executor by its name.

A job's `run` can be repeated: it continues from what an earlier attempt left in its files. So an
executor only has to start it again where a process, a disk or a machine failed.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

from fastifo.utils.arguments import as_count
from fastifo.utils.parallel import Job, WorkerPool

RETRIES = 3  # of a job whose process, disk or machine failed


class OpenExecutor(ABC):
    """An executor that keeps its processes between calls of `run` while its context is entered."""

    workers: int  # jobs at the same time, as far as it is known

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs and returns when the last one has ended.

        Raises the error of a job that failed, also after its retries; ChildProcessError if its
        process died each time; KeyboardInterrupt for Ctrl-C and SIGTERM.
        """

    def __enter__(self) -> "OpenExecutor":
        return self

    def __exit__(self, *error: object) -> None:
        """Ends what was started."""
        del error


class InProcess(OpenExecutor):
    """Runs one job after the other in this process, with all its cores."""

    workers = 1

    def run(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`; nothing is tried again."""
        for job in jobs:
            job.run()


class Processes(OpenExecutor):
    """Runs jobs in processes of this machine, which share its cores."""

    def __init__(self, workers: int = 0, *, threads: int = 0, retries: int = RETRIES) -> None:
        """workers: processes; 0: one per core.  threads: of each; 0: an equal share of the cores.

        retries: of a job whose process died or whose disk was full.
        """
        cores = len(os.sched_getaffinity(0))
        self.workers = as_count("workers", workers, low=0) or cores
        self.pool = WorkerPool(self.workers, threads, as_count("retries", retries, low=0))

    def __enter__(self) -> "Processes":
        return self

    def run(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`.  A script calls this below `if __name__ == "__main__":`."""
        self.pool.run(jobs)

    def __exit__(self, *error: object) -> None:
        self.pool.__exit__(*error)
