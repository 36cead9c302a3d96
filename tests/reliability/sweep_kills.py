"""Sweeps of 64 members and 3 rungs whose workers, driver, node or disk fail at every rung.

`python -m reliability.sweep_kills FOLDER [--executors processes ray]` runs an undisturbed sweep in
this process, and disturbed ones on two workers:

    workers    in each rung the first job's process is killed after its first checkpoint
    driver     the process of `fastifo.sweep` is killed in each rung, and the sweep is called again
    disk       in each rung the disk of the first job's process is full
    node       in each rung the Ray node of the first job is killed; the next rung has a new one

Prints a line for each, with the hash of its table, which must be that of the undisturbed sweep.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import fastifo
from fastifo.engine.checkpoint import Checkpoints
from fastifo.utils.executors import OpenExecutor
from fastifo.utils.machines import make_executor, opened
from fastifo.utils.parallel import Executor, Job
from helpers import random_dataset
from sabotage import Disturbed, Sabotage

SWEEP: dict[str, Any] = {
    "temperature": "loguniform(0.05, 5)", "hidden_sizes": [(32, 32), (48, 48)], "num_settings": 64,
    "rungs": [60, 120, 240], "episodes": 2, "final_episodes": 4, "checkpoint_every": 20,
    "batch_size": 32, "populations": 4, "progress": False,
}  # fmt: skip
ROUNDS = len(SWEEP["rungs"]) + 1  # calls of the executor, with the one of the final training


def run(folder: Path, out: str, executor: str | Executor = "in-process") -> str:
    """One sweep; the hash of its table."""
    fastifo.sweep("vfo_bin", folder / "set.fastifo", out=folder / out, executor=executor, **SWEEP)
    return hashlib.sha256((folder / out / "results.csv").read_bytes()).hexdigest()[:16]


@dataclass
class Hanging:
    """A job that hangs at its first attempt after its first checkpoint, and says on which node."""

    job: Job
    mark: Path

    def run(self) -> None:
        if self.mark.exists():
            self.job.run()
            return
        import ray

        save, node = Checkpoints.save, ray.get_runtime_context().get_node_id()

        def save_and_hang(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            self.mark.parent.mkdir(parents=True, exist_ok=True)
            self.mark.write_text(node)
            time.sleep(600)

        with mock.patch.object(Checkpoints, "save", save_and_hang):
            self.job.run()


class NodeKiller(OpenExecutor):
    """Runs jobs on a Ray cluster of this machine, and kills the first job's node in each call."""

    workers = 2

    def __init__(self, marks: Path) -> None:
        from ray.cluster_utils import Cluster

        self.marks, self.calls = marks, 0
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
        self.cluster.wait_for_nodes()
        self.tasks = make_executor("ray", address=self.cluster.address)

    def open(self) -> None:
        opened(self.tasks).__enter__()

    def close(self) -> None:
        opened(self.tasks).__exit__(None, None, None)
        self.cluster.shutdown()

    def run_all(self, jobs: Sequence[Job]) -> None:
        mark = self.marks / f"node-{self.calls}"
        if self.calls:  # replaces the node that the last call has lost; needs the main thread
            self.nodes.append(self.cluster.add_node(num_cpus=1))
            self.cluster.wait_for_nodes()
        self.calls += 1
        killer = threading.Thread(target=self._kill, args=(mark,))
        killer.start()
        self.tasks.run([Hanging(jobs[0], mark), *jobs[1:]])
        killer.join()

    def _kill(self, mark: Path) -> None:
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.1)
        (node,) = [n for n in self.nodes if n.node_id == mark.read_text()]
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


def kill_workers(folder: Path, name: str) -> tuple[str, str]:
    """A sweep whose workers are killed."""
    marks = folder / f"workers-{name}-marks"
    executor = Sabotage(make_executor(name, workers=2), marks, "kill")
    return run(folder, f"workers-{name}", executor), f"{len(list(marks.iterdir()))} killed"


def fill_disks(folder: Path, name: str) -> tuple[str, str]:
    """A sweep whose disks are full."""
    marks = folder / f"disk-{name}-marks"
    executor = Sabotage(make_executor(name, workers=2), marks, "full")
    return run(folder, f"disk-{name}", executor), f"{len(list(marks.iterdir()))} full"


def drive(folder: Path, name: str, number: int) -> None:
    """The driver that is killed when the first population of a call has a checkpoint."""

    class Suicidal(OpenExecutor):
        workers = 2

        def run_all(self, jobs: Sequence[Job]) -> None:
            mark = folder / f"driver-{name}-marks" / f"kill-{number}"
            threading.Thread(target=die_at, args=(mark,), daemon=True).start()
            with opened(make_executor(name, workers=2)) as executor:
                executor.run([Disturbed(jobs[0], mark, "kill"), *jobs[1:]])

    run(folder, f"driver-{name}", Suicidal())


def die_at(mark: Path) -> None:
    """Kills this process soon after a file appears."""
    while not mark.exists():
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_driver(folder: Path, name: str) -> tuple[str, str]:
    """A sweep whose driver is killed in each rung."""
    killed = 0
    for number in range(ROUNDS):
        process = multiprocessing.get_context("spawn").Process(
            target=drive, args=(folder, name, number)
        )
        process.start()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if (folder / f"driver-{name}" / "results.csv").exists():
            break
        run_rung(folder, name)
    return run(folder, f"driver-{name}"), f"{killed} killed"


def run_rung(folder: Path, name: str) -> None:
    """Continues to the end of a rung, so that the next kill is in another one."""

    class One(OpenExecutor):
        workers, calls = 2, 0

        def run_all(self, jobs: Sequence[Job]) -> None:
            self.calls += 1
            if self.calls > 1:
                raise TimeoutError
            for job in jobs:
                job.run()

    with contextlib.suppress(TimeoutError):
        run(folder, f"driver-{name}", One())


def kill_nodes(folder: Path, name: str) -> tuple[str, str]:
    """A sweep whose nodes are killed."""
    marks = folder / "node-marks"
    return run(folder, "node", NodeKiller(marks)), f"{len(list(marks.iterdir()))} killed"


CASES: dict[str, Callable[[Path, str], tuple[str, str]]] = {
    "workers": kill_workers, "disk": fill_disks, "driver": kill_driver, "node": kill_nodes,
}  # fmt: skip


def main() -> None:
    """Runs all sweeps; exits with 1 if a table differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--executors", nargs="+", default=["processes"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    random_dataset(env_id="Hopper-v4").save(options.folder / "set.fastifo")
    started = time.monotonic()
    expected = run(options.folder, "undisturbed")
    print(
        f"undisturbed, in-process: table {expected}, {time.monotonic() - started:.0f} s", flush=True
    )
    failed = False
    for name in options.executors:
        for case in options.cases:
            if case == "node" and name != "ray":
                continue
            started = time.monotonic()
            table, what = CASES[case](options.folder, name)
            failed |= table != expected
            verdict = "the same table" if table == expected else "ANOTHER TABLE"
            print(
                f"{case}, {name}: table {table}, {what}, {verdict}, "
                f"{time.monotonic() - started:.0f} s", flush=True,
            )  # fmt: skip
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
