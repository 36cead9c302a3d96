"""`fastifo study sibench | bimodal | improve` and `fastifo improve`."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from fastifo.benchmarks.bimodal import BimodalSpec
from fastifo.benchmarks.sibench import SIZES, SIBenchSpec
from fastifo.studies.grid import MIXTURES, TASKS


def parse_fields(texts: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE as arguments of `fastifo.train`; what is no number, truth or list is a name."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--set: expected NAME=VALUE such as temperature=3, found {text!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            found[name] = value
    return found


@dataclass(frozen=True)
class Common:
    """What every study takes."""

    out: Path
    """Folder of data, runs and report; running again continues."""
    algorithms: tuple[str, ...] = ("bc", "vfo_bin", "vfo_disc", "awr")
    """Methods to compare."""
    envs: tuple[str, ...] = TASKS
    """EnvPool tasks."""
    policy: str = ""
    """The expert's policy file, for a task that has none shipped."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One policy per seed, set and method."""
    num_updates: int = 100_000
    """Training length; the paper's is 1,000,000."""
    hidden_sizes: tuple[int, ...] = (512, 512)
    """Of every net."""
    set: tuple[str, ...] = ()
    """NAME=VALUE: any other field of the methods (disc_updates=20000), for those that have it."""
    evaluation_episodes: int = 100
    """Per policy, sampled and deterministic."""
    seed: int = 0
    """Of the data."""

    @property
    def fields(self) -> dict[str, Any]:
        return {
            "num_updates": self.num_updates,
            "seeds": self.seeds,
            "hidden_sizes": self.hidden_sizes,
            "episodes": self.evaluation_episodes,
            **parse_fields(self.set),
        }

    def finish(self) -> None:
        from fastifo.report.report import report

        report(self.out)
        print(f"report  {self.out / 'report.html'}")


@dataclass(frozen=True)
class SIBenchStudy(Common):
    """Background data from clones of ever more demonstrations."""

    sizes: tuple[int, ...] = SIZES
    """Demonstrations cloned, one set each."""
    episodes: int = 1000
    """Of each background."""
    demos: int = 0
    """Expert episodes played and shown; 0 is the largest size."""
    bc_updates: int = SIBenchSpec.bc_updates
    """Training length of the clones."""

    def main(self) -> None:
        from fastifo.studies.grid import study_sibench

        options = {
            "episodes": self.episodes, "bc_updates": self.bc_updates, "seed": self.seed,
            "demos": self.demos or max(self.sizes), "expert": self.policy,
        }  # fmt: skip
        study_sibench(
            self.out, self.algorithms, self.envs, self.sizes, set_options=options, **self.fields
        )
        self.finish()


@dataclass(frozen=True)
class BimodalStudy(Common):
    """Background data of random and expert episodes."""

    mixtures: tuple[int, ...] = MIXTURES
    """Expert episodes in the background, one set each."""
    total: int = BimodalSpec.total
    """Episodes of each background."""
    demos: int = 0
    """Expert episodes shown; 0 is as many as --total."""
    clone: int = 0
    """The other episodes are a clone's of so many demonstrations; 0: they are random."""

    def main(self) -> None:
        from fastifo.studies.grid import study_bimodal

        options = {
            "total": self.total, "seed": self.seed, "demos": self.demos, "clone": self.clone,
            "policy": self.policy,
        }  # fmt: skip
        study_bimodal(
            self.out, self.algorithms, self.envs, self.mixtures, set_options=options, **self.fields
        )
        self.finish()


@dataclass(frozen=True)
class ImproveStudy(Common):
    """Every method improves on its own episodes, from one SIBench set of each task."""

    d: int = 5
    """Demonstrations cloned for the first background."""
    iterations: int = 20
    """Of training and playing."""
    episodes: int = 1000
    """Played in each, and of the first background."""
    bc_updates: int = SIBenchSpec.bc_updates
    """Training length of the clone."""

    def main(self) -> None:
        from fastifo.studies.grid import check_fields, own_fields
        from fastifo.studies.improve import improve

        fields = parse_fields(self.set)
        check_fields(self.algorithms, fields)
        for env_id in self.envs:
            spec = (
                f"sibench:{env_id}/d={self.d},episodes={self.episodes},seed={self.seed},"
                f"demos={max(self.d, 50)},bc_updates={self.bc_updates}"
                + (f",expert={self.policy}" if self.policy else "")
            )
            for algorithm in self.algorithms:
                improve(
                    algorithm, spec, spec, iterations=self.iterations, episodes=self.episodes,
                    seeds=self.seeds, num_updates=self.num_updates,
                    out=self.out / env_id / algorithm,
                    **{"hidden_sizes": self.hidden_sizes} | own_fields(algorithm, fields),
                )  # fmt: skip
        self.finish()


@dataclass(frozen=True)
class Study:
    """The paper's studies: a grid of methods, tasks and backgrounds, and their figures."""

    action: Union[  # noqa: UP007
        Annotated[SIBenchStudy, tyro.conf.subcommand("sibench")],
        Annotated[BimodalStudy, tyro.conf.subcommand("bimodal")],
        Annotated[ImproveStudy, tyro.conf.subcommand("improve")],
    ]
    """Which one."""

    def main(self) -> None:
        self.action.main()


@dataclass(frozen=True)
class Improve:
    """Train, play, replace the background by what was played, and again."""

    algorithm: tyro.conf.Positional[str]
    """A method, such as vfo_bin."""
    background: str
    """The first background: a file or a spec."""
    out: Path
    """Folder of the iterations; running again continues."""
    expert: str = ""
    """Where the expert's observations come from, if not the background's dataset."""
    env_id: str = ""
    """EnvPool's task, where the files do not say it."""
    iterations: int = 20
    """Of training and playing."""
    episodes: int = 1000
    """Played in each."""
    seeds: tuple[int, ...] = (0,)
    """One chain of policies each."""
    num_updates: int = 100_000
    """Training length of each policy."""
    hidden_sizes: tuple[int, ...] = (512, 512)
    """Of every net."""
    temperature: float | None = None
    """Of the advantages, where the method has one."""

    def main(self) -> None:
        from fastifo.report.report import report
        from fastifo.studies.improve import improve

        fields: dict[str, Any] = {"hidden_sizes": self.hidden_sizes}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        improve(
            self.algorithm, self.expert or self.background, self.background,
            iterations=self.iterations, episodes=self.episodes, seeds=self.seeds,
            num_updates=self.num_updates, env_id=self.env_id or None, out=self.out, **fields,
        )  # fmt: skip
        print(f"figure  {report(self.out)}")
