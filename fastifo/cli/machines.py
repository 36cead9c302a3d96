"""Flags that say where a command's jobs run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastifo.cli.options import parse_values
from fastifo.utils.machines import make_executor
from fastifo.utils.parallel import Executor


@dataclass(frozen=True)
class Machines:
    """Where to run jobs."""

    executor: Literal["auto", "in-process", "processes", "ray", "slurm"] = "auto"
    """Where jobs run: this process, processes of this machine, Ray tasks or Slurm jobs; auto is
    ray with --address, processes with --workers, otherwise the command's default."""
    workers: int = 0
    """Jobs at the same time; 0 is one per core, or as many as the cluster runs."""
    address: str = ""
    """Ray cluster, such as auto or ray://host:10001; empty starts Ray on this machine."""
    cpus: int = 1
    """Cores of each job, for processes, ray and slurm."""
    gpus: float = 0
    """GPUs of each job, for ray and slurm."""
    slurm: tuple[str, ...] = ()
    """NAME=VALUE, such as slurm_partition=gpu timeout_min=600: parameters of submitit."""

    def make(self, folder: Path) -> Executor | None:
        """The executor; None for the command's own choice.  folder: of logs.

        Raises what `make_executor` raises.
        """
        if self == Machines():
            return None
        return make_executor(
            self.executor,
            workers=self.workers,
            address=self.address,
            cpus=self.cpus,
            gpus=self.gpus,
            folder=folder,
            slurm=parse_values("--slurm", self.slurm, "timeout_min=600"),
        )
