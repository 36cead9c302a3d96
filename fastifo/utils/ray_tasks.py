"""Jobs as Ray tasks: on this machine, or on all machines of a Ray cluster (extra `ray`).

Ray starts a task again whose worker or node died; this file also starts one again whose disk
failed. Jobs exchange files only, so all machines need to see the same folders.
"""

import math
import os
from collections.abc import Sequence
from typing import Any

from fastifo.utils.executors import RETRIES, OpenExecutor
from fastifo.utils.parallel import STOPPED, Job, is_passing, raises_on_sigterm
from fastifo.utils.progress import say


def run_task(job: Job, threads: int) -> None:
    """What a Ray worker does: one job, with as many threads as it has cores."""
    import torch

    from fastifo.utils.progress import ProgressBar

    torch.set_num_threads(threads)
    ProgressBar.plain = True
    job.run()


class RayTasks(OpenExecutor):
    """Runs every job as a Ray task."""

    def __init__(
        self,
        address: str = "",
        *,
        workers: int = 0,
        cpus: int = 1,
        gpus: float = 0,
        retries: int = RETRIES,
        **options: Any,
    ) -> None:
        """address: of a cluster, such as "auto" or "ray://host:10001"; empty starts Ray here.

        workers: tasks at the same time, for Ray on this machine; 0: as its cores allow.
        cpus, gpus: that a task reserves; it uses so many threads.
        options: further arguments of `ray.init`.
        Raises ImportError if Ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise ImportError(
                "executor: ray is not installed; pip install 'fastifo[ray]'"
            ) from None
        self.ray, self.address, self.retries = ray, address, retries
        self.workers, self.cpus, self.gpus, self.options = workers, cpus, gpus, options
        self.started = False

    def open(self) -> None:
        """Connects to the cluster, or starts Ray, unless this process is connected."""
        if self.ray.is_initialized():
            return
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address:
            settings["address"] = self.address
        else:
            cores = len(os.sched_getaffinity(0))
            count = max(cores, self.workers * self.cpus) if self.workers else cores
            settings |= {"address": "local", "num_cpus": count, "include_dashboard": False}
        self.ray.init(**settings | self.options)
        self.started = True
        if not self.workers:
            total = self.ray.cluster_resources()
            kind, share = ("GPU", self.gpus) if self.gpus else ("CPU", self.cpus)
            self.workers = max(1, math.floor(total.get(kind, 1) / share))

    def close(self) -> None:
        """Disconnects; ends a Ray that was started here."""
        if self.started:
            self.ray.shutdown()
            self.started = False

    def run_all(self, jobs: Sequence[Job]) -> None:
        """See `OpenExecutor`."""
        task = self.ray.remote(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries, max_calls=0
        )(run_task)
        running: dict[Any, int] = {}
        failures = [0] * len(jobs)
        waiting = list(range(len(jobs)))
        most = self.workers or len(jobs)
        try:
            with raises_on_sigterm():
                while waiting or running:
                    while waiting and len(running) < most:
                        number = waiting.pop(0)
                        running[task.remote(jobs[number], self.cpus)] = number
                    for done in self.ray.wait(list(running), num_returns=1)[0]:
                        self._finish(done, running.pop(done), failures, waiting)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(STOPPED) from None
        finally:
            for reference in running:
                self.ray.cancel(reference, force=False)

    def _finish(self, done: Any, number: int, failures: list[int], waiting: list[int]) -> None:
        """Takes note of a task that ended.  Raises its error, unless it is started again."""
        try:
            self.ray.get(done)
        except self.ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            failures[number] += 1
            if cause is None or failures[number] > self.retries or not is_passing(cause):
                raise (cause or error) from error
            say(f"{cause}; starting it again ({failures[number]} of {self.retries})")
            waiting.append(number)
        except (
            self.ray.exceptions.WorkerCrashedError,
            self.ray.exceptions.NodeDiedError,
            self.ray.exceptions.OutOfMemoryError,
        ) as error:
            raise ChildProcessError(
                f"a Ray task died {self.retries + 1} times ({type(error).__name__}); run the same "
                "command to continue"
            ) from error
