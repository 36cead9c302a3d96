"""`fastifo quickstart`: a small SIBench set, four methods, one table, one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.cli.lists import Ints, Seeds
from fastifo.data.load import load
from fastifo.engine.callbacks import EvaluateEvery
from fastifo.engine.train import train
from fastifo.envs.experts import load_expert
from fastifo.envs.registry import check_id
from fastifo.utils.parallel import run_jobs

ALGORITHMS = ("bc", "vfo_bin", "vfo_disc", "awr")


@dataclass(frozen=True)
class Quickstart:
    """Compare BC, VfO-bin, VfO-disc and the AWR oracle on a small dataset, in minutes on a CPU.

    Needs     nothing: the data come from an expert that ships with fastifo
    Writes    the dataset, a run folder per method, report.html and report.png in OUT/ENV
    Example   fastifo quickstart
    """

    env_id: str = "Walker2d-v4"
    """Task with a shipped expert: Hopper-v4, HalfCheetah-v4, Walker2d-v4 or Ant-v4."""
    out: Path = Path("quickstart")
    """Folder of the results. Repeating the command continues."""
    num_updates: int = 5_000
    """Updates of each method; the paper trains for 1,000,000."""
    seeds: Seeds = (0,)
    """One policy per seed and method."""
    hidden_sizes: Ints = (256, 256)
    """Widths of the hidden layers; the paper's are 512 512."""
    episodes: int = 100
    """Evaluation episodes per policy."""

    def main(self) -> None:
        """Runs the comparison; prints where its figure and page are, and what to do next."""
        folder = self.out / self.env_id
        path = quickstart(
            self.env_id, folder, self.num_updates, self.seeds, self.hidden_sizes, self.episodes
        )
        print(f"figure  {path}")
        print(f"page    {folder / 'report.html'}  (open it in a browser)")
        print("next    train longer, then compare again; all flags: fastifo train vfo_bin --help")
        print(
            f"        fastifo train vfo_bin --dataset {folder / 'dataset.fastifo'} --out "
            f"{folder / 'longer'}"
        )
        print(f"        fastifo report {folder}")


@dataclass(frozen=True)
class Job:
    """Training and evaluation of one method."""

    algorithm: str  # name of the method
    dataset: Path  # file of the dataset
    out: Path  # run folder
    num_updates: int
    seeds: Sequence[int]  # one policy each
    hidden_sizes: tuple[int, ...]  # widths of the hidden layers
    episodes: int  # evaluation episodes per policy

    def run(self) -> None:
        """Trains, then evaluates sampled actions and, with half the episodes, the mode."""
        fields: dict[str, Any] = {"hidden_sizes": self.hidden_sizes}
        if self.algorithm == "vfo_disc":
            fields["disc_updates"] = 1000
        run = train(
            self.algorithm,
            self.dataset,
            num_updates=self.num_updates,
            seeds=self.seeds,
            out=self.out,
            callbacks=[
                EvaluateEvery(max(1, self.num_updates // 5), num_episodes=10, deterministic=mode)
                for mode in (False, True)
            ],
            **fields,
        )
        run.evaluate(self.episodes)
        run.evaluate(max(1, self.episodes // 2), deterministic=True)


def quickstart(
    env_id: str,
    out: Path,
    num_updates: int,
    seeds: Sequence[int],
    hidden_sizes: tuple[int, ...],
    episodes: int,
) -> Path:
    """Builds the dataset, trains and evaluates every method, and writes the report.

    The arguments are the fields of `Quickstart`.  Returns the path of the figure.
    Raises ValueError for an unknown task or one without a shipped expert.
    """
    from fastifo.report.report import report

    check_id(env_id)
    load_expert(env_id)
    spec = f"sibench:{env_id}/d=50,episodes=200,demos=50,bc_updates=3000"
    print(f"dataset  {spec}", flush=True)
    dataset = load(spec)
    print(dataset.summary(), flush=True)
    file = out / "dataset.fastifo"
    dataset.save(file)
    run_jobs(
        [
            Job(name, file, out / name, num_updates, seeds, hidden_sizes, episodes)
            for name in ALGORITHMS
        ]
    )
    return report(out)
