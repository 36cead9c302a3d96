"""`fastifo study sibench | bimodal | improve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.sibench import SIZES, SIBenchSpec
from fastifo.cli.help import make_group
from fastifo.cli.lists import Ints, Seeds, Texts
from fastifo.cli.options import parse_values
from fastifo.studies.grid import (
    MIXTURES,
    TASKS,
    check_fields,
    fields_of_algorithm,
    study_bimodal,
    study_sibench,
)
from fastifo.studies.improve import improve


@dataclass(frozen=True)
class StudyOptions:
    """Flags that every study has."""

    out: Path
    """Folder of datasets, runs and report. Repeating the command continues."""
    algorithms: Texts = ("bc", "vfo_bin", "vfo_disc", "awr")
    """Algorithms to compare."""
    envs: Texts = TASKS
    """Environments."""
    policy: str = ""
    """The expert's policy file, for a task without a shipped expert."""
    seeds: Seeds = (0, 1, 2)
    """One policy per seed, dataset and algorithm."""
    num_updates: int = 100_000
    """Updates of each policy; the paper trains for 1,000,000."""
    hidden_sizes: Ints = (512, 512)
    """Widths of the hidden layers of every network."""
    set: tuple[str, ...] = ()
    """NAME=VALUE, such as disc_updates=20000: any other field, for the algorithms that have it."""
    eval_episodes: int = 100
    """Episodes per policy, for sampled actions and again for the mode."""
    seed: int = 0
    """Seed of the datasets."""

    @property
    def fields(self) -> dict[str, Any]:
        """Arguments of `study_sibench` and `study_bimodal` that concern training."""
        return {
            "num_updates": self.num_updates,
            "seeds": self.seeds,
            "hidden_sizes": self.hidden_sizes,
            "episodes": self.eval_episodes,
            **parse_values("--set", self.set),
        }

    def write_report(self) -> None:
        """Reports on everything in the study's folder."""
        from fastifo.report.report import report

        report(self.out)
        print(f"report  {self.out / 'report.html'}")


@dataclass(frozen=True)
class SIBenchStudy(StudyOptions):
    """Compare algorithms on backgrounds from clones of more and more demonstrations.

    Needs     nothing for tasks with a shipped expert; otherwise --policy
    Writes    datasets, run folders, report.html, results.csv and figures in --out
    Example   fastifo study sibench --envs Hopper-v4 --sizes 1 10 100 --out study
    """

    sizes: Ints = SIZES
    """Numbers of cloned demonstrations; one dataset each."""
    episodes: int = 1000
    """Episodes of each background."""
    demos: int = 0
    """Expert episodes to play; all are given to the learner. 0 is the largest size."""
    bc_updates: int = SIBenchSpec.bc_updates
    """Updates of each clone."""

    def main(self) -> None:
        """Runs the study and writes the report."""
        options = {
            "episodes": self.episodes,
            "bc_updates": self.bc_updates,
            "seed": self.seed,
            "demos": self.demos or max(self.sizes),
            "expert": self.policy,
        }
        study_sibench(
            self.out, self.algorithms, self.envs, self.sizes, set_options=options, **self.fields
        )
        self.write_report()


@dataclass(frozen=True)
class BimodalStudy(StudyOptions):
    """Compare algorithms on mixtures of random and expert episodes.

    Needs     nothing for tasks with a shipped expert; otherwise --policy
    Writes    run folders, report.html, results.csv and figures in --out
    Example   fastifo study bimodal --envs Hopper-v4 --mixtures 0 100 500 --out study
    """

    mixtures: Ints = MIXTURES
    """Numbers of expert episodes in the background; one dataset each."""
    total: int = BimodalSpec.total
    """Episodes of each background."""
    demos: int = 0
    """Expert episodes given to the learner without actions; 0 is as many as --total."""
    clone: int = 0
    """Take the other episodes from a clone of this many demonstrations; 0: random actions."""

    def main(self) -> None:
        """Runs the study and writes the report."""
        options = {
            "total": self.total,
            "seed": self.seed,
            "demos": self.demos,
            "clone": self.clone,
            "policy": self.policy,
        }
        study_bimodal(
            self.out, self.algorithms, self.envs, self.mixtures, set_options=options, **self.fields
        )
        self.write_report()


@dataclass(frozen=True)
class ImproveStudy(StudyOptions):
    """Let every algorithm improve on its own episodes, starting from one SIBench set per task.

    Needs     nothing for tasks with a shipped expert; otherwise --policy
    Writes    run folders, episodes, report.html and figures in --out
    Example   fastifo study improve --envs Hopper-v4 --iterations 5 --out study
    """

    d: int = 5
    """Number of demonstrations cloned for the first background."""
    iterations: int = 20
    """Iterations of training and playing."""
    episodes: int = 1000
    """Episodes played in each iteration, and in the first background."""
    bc_updates: int = SIBenchSpec.bc_updates
    """Updates of the clone."""

    def main(self) -> None:
        """Runs the study and writes the report."""
        fields = parse_values("--set", self.set)
        check_fields(self.algorithms, fields)
        for env_id in self.envs:
            for algorithm in self.algorithms:
                spec = self.first_set(env_id)
                improve(
                    algorithm,
                    spec,
                    spec,
                    iterations=self.iterations,
                    episodes=self.episodes,
                    seeds=self.seeds,
                    num_updates=self.num_updates,
                    out=self.out / env_id / algorithm,
                    **{"hidden_sizes": self.hidden_sizes} | fields_of_algorithm(algorithm, fields),
                )
        self.write_report()

    def first_set(self, env_id: str) -> str:
        """Spec of the SIBench set that a task starts from."""
        return (
            f"sibench:{env_id}/d={self.d},episodes={self.episodes},seed={self.seed},"
            f"demos={max(self.d, 50)},bc_updates={self.bc_updates}"
            + (f",expert={self.policy}" if self.policy else "")
        )


Study = make_group(
    "Study",
    "Run a study of the paper: algorithms on several tasks and backgrounds, with a report.",
    {"sibench": SIBenchStudy, "bimodal": BimodalStudy, "improve": ImproveStudy},
)
