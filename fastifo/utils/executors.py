"""Where jobs run: in this process, in processes of this machine, as Ray tasks, as Slurm jobs.

A job's `run` can be repeated: it continues from what an earlier attempt left in its files. So an
executor only has to start it again where a process, a disk or a machine failed.
"""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastifo.utils.arguments import as_count
from fastifo.utils.parallel import Executor, Job, WorkerPool

NAMES = ("auto", "in-process", "processes", "ray", "slurm")
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

    def run(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`.  A script calls this below `if __name__ == "__main__":`."""
        self.pool.run(jobs)

    def __exit__(self, *error: object) -> None:
        self.pool.__exit__(*error)


def make_executor(
    executor: str | Executor = "auto",
    *,
    workers: int = 0,
    address: str = "",
    cpus: int = 1,
    gpus: float = 0,
    folder: Path | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Executor:
    """An executor by its name; an object with a method `run` is returned as it is.

    executor: auto (processes if `workers` is above 1, ray with an address, else in-process),
    in-process, processes, ray or slurm.
    workers: jobs at the same time; 0: as many as there are cores, or as the cluster runs.
    address: of a Ray cluster; empty starts Ray on this machine.
    cpus, gpus: for each job of ray and slurm.
    folder: of the logs of slurm, visible to all machines.
    slurm: further parameters of submitit's executor, such as slurm_partition and timeout_min.
    Raises ValueError for an unknown name, or an argument that the executor does not have;
    ImportError naming the extra to install.
    """
    if not isinstance(executor, str):
        if not callable(getattr(executor, "run", None)):
            raise TypeError(f"executor: expected a name or an Executor, found {executor!r}")
        return executor
    if executor not in NAMES:
        raise ValueError(f"executor: expected {', '.join(NAMES)}, found {executor!r}")
    workers, cpus = as_count("workers", workers, low=0), as_count("cpus", cpus)
    if executor == "auto":
        executor = "ray" if address else "processes" if workers > 1 else "in-process"
    unused = {
        "address": address and executor != "ray",
        "slurm": slurm and executor != "slurm",
        "gpus": gpus and executor not in ("ray", "slurm"),
        "workers": workers > 1 and executor == "in-process",
    }
    for name, is_given in unused.items():
        if is_given:
            raise ValueError(f"{name}: the executor {executor} has no such setting; leave it out")
    if executor == "ray":
        from fastifo.utils.ray_tasks import RayTasks

        return RayTasks(address, workers=workers, cpus=cpus, gpus=gpus)
    if executor == "slurm":
        from fastifo.utils.slurm_jobs import SlurmJobs

        return SlurmJobs(
            folder or Path("slurm"), workers=workers, cpus=cpus, gpus=gpus, **slurm or {}
        )
    return (
        Processes(workers, threads=cpus if cpus > 1 else 0)
        if executor == "processes"
        else InProcess()
    )


def opened(executor: Executor) -> contextlib.AbstractContextManager[Any]:
    """The context of an executor, in which its processes live; empty for one without a context."""
    if isinstance(executor, contextlib.AbstractContextManager):
        context: contextlib.AbstractContextManager[Any] = executor
        return context
    return contextlib.nullcontext(executor)
