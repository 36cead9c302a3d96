"""Executors by name, from this process to many machines."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastifo.utils.arguments import as_count
from fastifo.utils.executors import InProcess, Processes
from fastifo.utils.parallel import Executor

NAMES = ("auto", "in-process", "processes", "ray", "slurm")


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
        "cpus": cpus > 1 and executor == "in-process",
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
