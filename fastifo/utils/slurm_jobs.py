"""Jobs of a Slurm cluster, submitted as one array (extra `slurm`, which installs submitit)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastifo.utils.executors import RETRIES, OpenExecutor
from fastifo.utils.parallel import STOPPED, Job, is_passing, raises_on_sigterm
from fastifo.utils.progress import say

POLL_S = 2.0  # between two looks at the jobs


def run_job(job: Job, threads: int) -> tuple[str, Any]:
    """What a Slurm job does.  Returns "done", or "error" and the error of the job."""
    import torch

    from fastifo.utils.progress import ProgressBar

    torch.set_num_threads(threads)
    ProgressBar.plain = True
    try:
        job.run()
    except Exception as error:
        return "error", error
    return "done", None


class SlurmJobs(OpenExecutor):
    """Runs every job as a job of Slurm; without Slurm submitit runs them on this machine."""

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 0,
        cpus: int = 1,
        gpus: float = 0,
        retries: int = RETRIES,
        cluster: str | None = None,
        **parameters: Any,
    ) -> None:
        """folder: of scripts and logs, visible to all machines.

        workers: jobs at the same time; 0: as Slurm allows.  cpus, gpus: of each job.
        retries: of a job that Slurm ended, as at its time limit, or whose disk failed.
        cluster: slurm, local or debug; None: slurm where it is installed, else local.
        parameters: of submitit's `AutoExecutor.update_parameters`.
        Raises ImportError if submitit is not installed; ValueError for a share of a GPU.
        """
        try:
            import submitit
        except ImportError:
            raise ImportError(
                "executor: submitit is not installed; pip install 'fastifo[slurm]'"
            ) from None
        if gpus != int(gpus):
            raise ValueError(f"gpus: expected a whole number for slurm, found {gpus}")
        self.workers, self.cpus, self.retries = workers, cpus, retries
        self.slurm = submitit.AutoExecutor(folder=folder, cluster=cluster)
        limits = {"slurm_array_parallelism": workers} if workers else {}
        self.slurm.update_parameters(
            name="fastifo", cpus_per_task=cpus, gpus_per_node=int(gpus), **limits | parameters
        )

    def run_all(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`."""
        waiting, failures = list(range(len(jobs))), [0] * len(jobs)
        running: dict[int, Any] = {}
        try:
            with raises_on_sigterm():
                while waiting or running:
                    if waiting:
                        with self.slurm.batch():
                            running |= {
                                n: self.slurm.submit(run_job, jobs[n], self.cpus) for n in waiting
                            }
                        waiting = []
                    for number in [n for n, job in running.items() if job.done()]:
                        error = self._error_of(running.pop(number))
                        if error is None:
                            continue
                        failures[number] += 1
                        if failures[number] > self.retries or not is_passing(error):
                            raise error
                        say(f"{error}; submitting it again ({failures[number]} of {self.retries})")
                        waiting.append(number)
                    if running and not waiting:
                        time.sleep(POLL_S)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        finally:
            for job in running.values():
                job.cancel(check=False)

    def _error_of(self, job: Any) -> BaseException | None:
        """The error of a job that ended; None if there was none."""
        import submitit

        try:
            kind, error = job.result()
        except submitit.core.utils.UncompletedJobError as lost:
            return ChildProcessError(
                f"Slurm job {job.job_id} ended without a result ({str(lost).splitlines()[0]}); "
                f"its log is {job.paths.stderr}; run the same command to continue"
            )
        return error if kind == "error" else None
