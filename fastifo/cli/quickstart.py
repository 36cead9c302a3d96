"""The whole job in minutes: a small SIBench set, four methods, one table, one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.data.load import load
from fastifo.engine.callbacks import EvaluateEvery
from fastifo.engine.train import train
from fastifo.envs.envpool import check_env
from fastifo.envs.experts import load_expert
from fastifo.report.report import report
from fastifo.utils.parallel import run_jobs

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
