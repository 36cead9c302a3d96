"""`fastifo study sibench | bimodal | improve`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.sets import SIZES
from fastifo.benchmarks.sibench_spec import SIBenchSpec
from fastifo.cli.help import make_group
from fastifo.cli.lists import Floats, Ints, Seeds, Texts
from fastifo.cli.machines import Machines
from fastifo.cli.options import env_kwargs, parse_values
from fastifo.engine.callbacks import EvaluateEvery
from fastifo.studies.grid import (
    MIXTURES,
    TASKS,
    check_fields,
    fields_of_algorithm,
    study_bimodal,
    study_sibench,
)
from fastifo.studies.improve import improve
from fastifo.utils.progress import say


@dataclass(frozen=True)
class StudyOptions:
    """Flags that every study has."""

    machines: tyro.conf.OmitArgPrefixes[Machines]
    """Where to run; by default datasets in parallel processes, and runs one after the other."""
    out: Path
    """Folder of datasets, runs and report. Repeat the command to resume."""
    algorithms: Texts = ("bc", "vfo_bin", "vfo_disc", "awr")
    """Algorithms to compare."""
    envs: Texts = TASKS
    """Environments."""
    env_arg: tuple[str, ...] = ()
    """NAME=VALUE, such as max_episode_steps=100: settings of the environments."""
    policy: str = ""
    """The expert's policy file, for a task without an included expert."""
    seeds: Seeds = (0, 1, 2)
    """One policy per seed, dataset and algorithm."""
    num_updates: int = 100_000
    """Updates of each policy; the paper trains for 1,000,000."""
    preset: str = "vfo"
    """Published settings that every algorithm starts from, such as robomimic."""
    hidden_sizes: Ints = ()
    """Widths of the hidden layers of every network; 512 512 unless --preset sets them."""
    set: tuple[str, ...] = ()
    """NAME=VALUE, such as disc_updates=20000: any other field, for the algorithms that have it."""
    seed: int = 0
    """Seed of the datasets."""

    @property
    def overrides(self) -> dict[str, Any]:
        """The preset, and fields of algorithms that replace it."""
        fields = parse_values("--set", self.set)
        if self.preset != "vfo":
            fields["preset"] = self.preset
        if self.hidden_sizes or self.preset == "vfo":
            fields.setdefault("hidden_sizes", self.hidden_sizes or (512, 512))
        return fields

    def write_report(self) -> None:
        """Reports on everything in the study's folder."""
        from fastifo.report.report import report

        report(self.out)
        print(f"report  {self.out / 'report.html'}")


@dataclass(frozen=True)
class GridOptions(StudyOptions):
    """Flags of the studies that train every algorithm once on every dataset."""

    eval_episodes: int = 100
    """Episodes per policy, for sampled actions and again for the mode."""
    eval_every: int = 0
    """Updates between evaluations of sampled actions during training, of 20 episodes each;
    fastifo evaluate RUN --protocol last_half averages them, as the paper does on Robomimic."""

    @property
    def fields(self) -> dict[str, Any]:
        """Arguments of `study_sibench` and `study_bimodal` that concern training."""
        return {
            "num_updates": self.num_updates,
            "seeds": self.seeds,
            "episodes": self.eval_episodes,
            "callbacks": [EvaluateEvery(self.eval_every)] if self.eval_every else [],
            "executor": self.machines.make(self.out / "logs"),
            **self.overrides,
        }


@dataclass(frozen=True)
class SIBenchStudy(GridOptions):
    """Compare algorithms on backgrounds played by clones of an increasing number of demonstrations.

    Needs     nothing for tasks with an included expert; otherwise --policy
    Writes    datasets, run folders, report.html, results.csv and figures in --out
    Example   fastifo study sibench --envs Hopper-v4 --sizes 1 10 100 --out study
    Example   fastifo study sibench --envs metaworld/DoorOpen --background-noise 0.5 1 --out study
    """

    sizes: Ints = SIZES
    """Numbers of cloned demonstrations; one dataset each."""
    background_noise: Floats = ()
    """Scales of action noise; one dataset each, with episodes of the expert with this noise. Used
    instead of --sizes."""
    episodes: int = 1000
    """Episodes of each background."""
    demos: int = 0
    """Expert episodes to play; all are given to the learner. 0 is the largest size, or 200 with
    --background-noise."""
    bc_updates: int = SIBenchSpec.bc_updates
    """Updates of each clone."""

    def main(self) -> None:
        """Runs the study and writes the report."""
        if self.background_noise and self.sizes != SIZES:
            raise ValueError("expected --sizes or --background-noise, found both")
        options: dict[str, Any] = {
            "background_noise": self.background_noise,
            "episodes": self.episodes,
            "bc_updates": self.bc_updates,
            "seed": self.seed,
            "expert": self.policy,
            "env_kwargs": env_kwargs(self.env_arg) or {},
        }
        if self.demos:
            options["demos"] = self.demos
        study_sibench(
            self.out, self.algorithms, self.envs, self.sizes, set_options=options, **self.fields
        )
        self.write_report()


@dataclass(frozen=True)
class BimodalStudy(GridOptions):
    """Compare algorithms on mixtures of random and expert episodes.

    Needs     nothing for tasks with an included expert; otherwise --policy
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
    """The other episodes are played by a clone of this many demonstrations; 0: random actions."""
    object_error: float = 0.0
    """The other episodes are played by a script that misjudges the object's position; standard
    deviation of its error in metres."""
    noise: float | None = None
    """Action noise of the expert; default 0.5 for a policy, relative to its own exploration noise,
    and 0.1 for a script."""

    def main(self) -> None:
        """Runs the study and writes the report."""
        options = {
            "total": self.total,
            "seed": self.seed,
            "demos": self.demos,
            "clone": self.clone,
            "object_error": self.object_error,
            "policy": self.policy,
        } | ({} if self.noise is None else {"noise": self.noise})
        study_bimodal(
            self.out,
            self.algorithms,
            self.envs,
            self.mixtures,
            set_options=options
            | {f"env.{k}": v for k, v in (env_kwargs(self.env_arg) or {}).items()},
            **self.fields,
        )
        self.write_report()


@dataclass(frozen=True)
class ImproveStudy(StudyOptions):
    """Let every algorithm improve on its own episodes, starting from one SIBench set per task.

    Needs     nothing for tasks with an included expert; otherwise --policy
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
        fields = self.overrides
        check_fields(self.algorithms, fields)
        for env_id in self.envs:
            for algorithm in self.algorithms:
                spec = self.first_set(env_id)
                try:
                    improve(
                        algorithm,
                        spec,
                        spec,
                        iterations=self.iterations,
                        episodes=self.episodes,
                        seeds=self.seeds,
                        num_updates=self.num_updates,
                        out=self.out / env_id / algorithm,
                        executor=self.machines.make(self.out / "logs"),
                        **fields_of_algorithm(algorithm, fields),
                    )
                except FloatingPointError as error:
                    say(f"{self.out / env_id / algorithm}: {error}. The others go on")
        self.write_report()

    def first_set(self, env_id: str) -> str:
        """Spec of the SIBench set that a task starts from."""
        return (
            f"sibench:{env_id}/d={self.d},episodes={self.episodes},seed={self.seed},"
            f"demos={max(self.d, 50)},bc_updates={self.bc_updates}"
            + (f",expert={self.policy}" if self.policy else "")
            + "".join(f",env.{text}" for text in self.env_arg)
        )


Study = make_group(
    "Study",
    "Run a study of the paper: algorithms on several tasks and backgrounds, with a report.",
    {"sibench": SIBenchStudy, "bimodal": BimodalStudy, "improve": ImproveStudy},
)
