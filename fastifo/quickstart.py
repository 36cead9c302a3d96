"""The whole job in minutes: a small SIBench set, four methods, one table, one figure."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastifo.callbacks import EvaluateEvery
from fastifo.engine.log import ProgressBar
from fastifo.engine.train import train
from fastifo.experts import load_expert
from fastifo.learner import choose_device
from fastifo.report import report
from fastifo.rollout import check_env
from fastifo.specs import load

ALGORITHMS = ("bc", "vfo_bin", "vfo_disc", "awr")


@dataclass(frozen=True)
class Job:
    """One method's training and evaluation."""

    algorithm: str
    dataset: Path
    out: Path
    num_updates: int
    seeds: Sequence[int]
    hidden: int
    episodes: int

    def run(self) -> None:
        fields: dict[str, Any] = {"hidden_sizes": (self.hidden, self.hidden)}
        if self.algorithm == "vfo_disc":
            fields["disc_updates"] = 1000
        run = train(
            self.algorithm,
            self.dataset,
            num_updates=self.num_updates,
            seeds=self.seeds,
            out=self.out,
            callbacks=[EvaluateEvery(max(1, self.num_updates // 5), num_episodes=10)],
            **fields,
        )
        run.evaluate(self.episodes)
        run.evaluate(max(1, self.episodes // 2), deterministic=True)


def quickstart(
    env_id: str, out: Path, num_updates: int, seeds: Sequence[int], hidden: int, episodes: int
) -> Path:
    """Builds the data, trains, evaluates, prints, draws.  Returns the figure's path."""
    check_env(env_id)
    load_expert(env_id)
    spec = f"sibench:{env_id}/d=50,episodes=200,demos=50,bc_updates=3000"
    print(f"dataset  {spec}", flush=True)
    dataset = load(spec)
    print(dataset.summary(), flush=True)
    file = out / "dataset.fastifo"
    dataset.save(file)
    run_jobs(
        [Job(name, file, out / name, num_updates, seeds, hidden, episodes) for name in ALGORITHMS]
    )
    return report(out)


def run_jobs(jobs: Sequence[Job]) -> None:
    """All jobs: one after the other on a GPU, on a CPU side by side with a core or more each.

    Nets this small keep one core busy but not two.
    """
    cores = len(os.sched_getaffinity(0))
    workers = min(len(jobs), cores) if choose_device("auto").type == "cpu" else 1
    if workers == 1:
        for job in jobs:
            job.run()
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _start_worker, (max(1, cores // workers),)) as pool:
        for future in [pool.submit(job.run) for job in jobs]:
            future.result()


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    ProgressBar.plain = True  # bars of several processes would write over each other
