"""Measures sweeps: members per hour, and the overhead of each executor.

members    trains one population of 64 with two threads, and single processes, two at a time with
           one thread each, for the same number of updates. Only some of the 64 single processes are
           run, which all do equal work.
executors  alternately runs one sweep of 64 members x 3 rungs in this process and on two workers.
           Wall time starts when the executor is ready. CPU time includes all child processes and
           Ray's own; on a shared machine, it is more meaningful than wall time.
           All tables must have the same hash.

Example: python -m bench.sweep members
Example: python -m bench.sweep executors --executors in-process ray --rounds 2
"""

from __future__ import annotations

import csv
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import fastifo
from bench.arguments import make_parser
from bench.envs import cpu_s
from bench.timing import ROOT, current_commit, machine
from fastifo.utils.machines import make_executor, opened

SPEC = "sibench:Hopper-v4/d=5,episodes=20,demos=20,bc_updates=500"
NET: dict[str, Any] = {"hidden_sizes": (128, 128), "batch_size": 128}
SWEEP: dict[str, Any] = {  # 64 members x 3 rungs; 11,400 updates of members in all
    "temperature": fastifo.loguniform(0.05, 5),
    "learning_rate": fastifo.loguniform(1e-4, 1e-2),
    "num_settings": 64,
    "rungs": [100, 200, 400],
    "episodes": 3,
    "final_episodes": 20,
    "checkpoint_every": 50,
    **NET,
}
SINGLE = """
import sys, torch, fastifo
torch.set_num_threads(1)
data, seed, updates, episodes = sys.argv[1], *map(int, sys.argv[2:5])
run = fastifo.train("vfo_bin", data, seeds=[seed], num_updates=updates, out=sys.argv[5],
    hidden_sizes=(128, 128), batch_size=128, progress=False)
run.evaluate(episodes, progress=False)
"""


@dataclass(frozen=True)
class Row:
    """A row of `sweep.csv`."""

    case: str
    variant: str
    members: int  # measured
    wall_s: float
    cpu_s: float
    members_per_hour: float
    table: str  # first digits of the hash of results.csv
    load: float  # of the machine, over the last minute
    machine: str
    commit: str


def load_data(folder: Path) -> Path:
    """File of the dataset that all cases train on."""
    path = folder / "hopper.fastifo"
    if not path.exists():
        fastifo.load(SPEC, progress=False).save(path)
    return path


def table_hash(out: Path) -> str:
    """First digits of the hash of a sweep's table."""
    return hashlib.sha256((out / "results.csv").read_bytes()).hexdigest()[:16]


def make_row(
    case: str, variant: str, members: int, started: tuple[float, float], **more: Any
) -> Row:
    """A row for work that started at these wall and CPU times."""
    wall, cpu = time.monotonic() - started[0], cpu_s() - started[1]
    return Row(
        case, variant, members, round(wall, 1), round(cpu, 1), round(3600 * members / wall),
        more.get("table", ""), round(os.getloadavg()[0], 1), machine(torch.device("cpu")),
        current_commit(),
    )  # fmt: skip


def now() -> tuple[float, float]:
    """Wall and CPU time."""
    return time.monotonic(), cpu_s()


def population(data: Path, folder: Path, members: int, updates: int, episodes: int) -> Row:
    """One process that trains all members together."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    started = now()
    run = fastifo.train(
        "vfo_bin", data, seeds=range(members), num_updates=updates, out=folder / "population",
        progress=False, **NET,
    )  # fmt: skip
    run.evaluate(episodes, progress=False)
    return make_row("members", f"one population of {members}", members, started)


def singles(data: Path, folder: Path, members: int, updates: int, episodes: int) -> Row:
    """One process for each member, as many at a time as there are cores."""
    started = now()
    waiting, running = list(range(members)), list[subprocess.Popen[bytes]]()
    while waiting or running:
        while waiting and len(running) < len(os.sched_getaffinity(0)):
            seed = waiting.pop()
            numbers = [str(number) for number in (seed, updates, episodes)]
            command = [
                sys.executable,
                "-c",
                SINGLE,
                str(data),
                *numbers,
                str(folder / f"single-{seed}"),
            ]
            running.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
        running = [process for process in running if process.poll() is None]
        time.sleep(0.02)
    return make_row("members", "single processes", members, started)


def sweep_on(name: str, data: Path, out: Path) -> Row:
    """One sweep on an executor with two workers, or in this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    workers = 1 if name == "in-process" else 2
    with opened(make_executor(name, workers=workers)) as executor:
        if name != "in-process":  # imports everything in the workers
            executor.run([Import()] * workers)
        started = now()
        fastifo.sweep("vfo_bin", data, out=out, executor=executor, populations=2, **SWEEP)
        return make_row("sweep", name, SWEEP["num_settings"], started, table=table_hash(out))


class Import:
    """A job that only imports what a sweep needs."""

    def run(self) -> None:
        """Imports the environments, the slowest of it."""
        import envpool.registration  # noqa: F401

        time.sleep(1.0)  # so that no worker takes two


def main() -> None:
    """Runs the cases in turn and appends rows to the file."""
    parser = make_parser("bench.sweep", __doc__)
    add = parser.add_argument
    add("case", choices=["members", "executors"], nargs="?", default="members", help="what to run")
    add("--executors", nargs="+", default=["in-process", "processes"], help="executors to compare")
    add("--rounds", type=int, default=2, help="measurements of each case")
    add("--members", type=int, default=64, help="members of the population")
    add("--singles", type=int, default=8, help="single processes that are run")
    add("--updates", type=int, default=500, help="updates of each member, for members")
    add("--episodes", type=int, default=5, help="evaluation episodes of each member, for members")
    add("--csv", type=Path, default=ROOT / "bench/results/sweep.csv", help="file to append to")
    options = parser.parse_args()
    rows: list[Row] = []
    for _ in range(options.rounds):
        if options.case == "executors":
            for name in options.executors:
                with tempfile.TemporaryDirectory() as text:
                    rows.append(sweep_on(name, load_data(Path(text)), Path(text) / "sweep"))
                print(rows[-1], flush=True)
            continue
        with tempfile.TemporaryDirectory() as text:
            folder, data = Path(text), load_data(Path(text))
            fixed = options.updates, options.episodes
            rows.append(population(data, folder, options.members, *fixed))
            print(rows[-1], flush=True)
            rows.append(singles(data, folder, options.singles, *fixed))
            print(rows[-1], flush=True)
    for variant in dict.fromkeys(row.variant for row in rows):
        chosen = [row for row in rows if row.variant == variant]
        rate = statistics.median(row.members_per_hour for row in chosen)
        cpu = statistics.median(row.cpu_s / row.members for row in chosen)
        print(f"{variant}: {rate:.0f} members per hour, {cpu:.2f} CPU seconds per member")
    is_new = not options.csv.exists()
    with open(options.csv, "a", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(map(asdict, rows))


if __name__ == "__main__":
    main()
