"""Self-improvement: train, play, replace the background with the played episodes, repeat.

Source: arXiv 2507.06701. The expert's observations stay the same; each iteration trains from
scratch on the episodes of the previous policy.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from fastifo import algos
from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.episodes import Episodes
from fastifo.data.load import load
from fastifo.engine.setup import choose_env, report_notes
from fastifo.engine.train import train
from fastifo.envs.registry import describe
from fastifo.envs.rollout import MAX_RECORDED, collect
from fastifo.envs.spec import EnvSpec
from fastifo.studies.grid import settings_of
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_count, as_seeds, plain
from fastifo.utils.files import keep_plan, write_json
from fastifo.utils.lease import folder_lease
from fastifo.utils.locks import folder_lock
from fastifo.utils.machines import opened
from fastifo.utils.parallel import Executor
from fastifo.utils.records import Record
from fastifo.utils.text import decimals_for

FORMAT = "fastifo-improve"
SEED_BLOCK = 1200  # environment seeds of the played episodes; evaluation and benchmarks use others
PLAYED = "played.fastifo"  # an iteration's episodes
START = "start.fastifo"  # first background and expert, for other processes


@dataclass(frozen=True, repr=False)
class Improvement(Record):
    """What `improve` returns: return and success of each iteration's data, by seed.

    The data are episodes of sampled actions; returns are undiscounted means.
    """

    algorithm: str  # name of the method
    env_id: str  # the environment
    seeds: tuple[int, ...]  # one sequence of policies each
    returns: list[list[float]]  # [seeds][iterations + 1]; the first is the initial background's
    success: list[list[float]] | None = None  # rates, as `returns`; None where they are unknown

    @property
    def measure(self) -> str:
        """What tables and figures show: success where it is known, otherwise return."""
        return "return" if self.success is None else "success"

    @property
    def measured(self) -> list[list[float]]:
        """Its values, [seeds][iterations + 1]."""
        return self.returns if self.success is None else self.success

    @property
    def digits(self) -> int:
        """Decimals of `measured` in tables."""
        return decimals_for(np.ravel(self.returns)) if self.success is None else 2

    def __str__(self) -> str:
        title = f"{self.env_id}: {self.algorithm}, {self.measure} of each iteration's data"
        table = Table(title=title)
        table.add_column("iteration", justify="right")
        for seed in self.seeds:
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for iteration, row in enumerate(np.array(self.measured).T):
            cells = [f"{value:.{self.digits}f}" for value in (*row, row.mean())]
            table.add_row(str(iteration), *cells)
        console = Console(width=30 + 14 * len(self.seeds))
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip()


@dataclass(frozen=True)
class Experiment:
    """What the iterations of one improvement share."""

    algorithm: str  # name of the method
    env: EnvSpec  # of the task
    start: Dataset  # background of the first iteration, and action bounds of all
    demos: Episodes  # the expert's observations
    episodes: int  # played in each iteration
    folder: Path
    fields: dict[str, Any]  # arguments of `train`
    progress: bool

    def played(self, seed: int, iteration: int) -> Path:
        """File of an iteration's episodes."""
        return self.folder / f"seed-{seed}" / f"iteration-{iteration:02d}" / PLAYED

    def iterate(self, seed: int, iteration: int) -> tuple[float, float]:
        """One iteration of one seed, unless its episodes exist.

        Returns their mean return and rate of success, see `_means`.
        """
        folder = self.played(seed, iteration).parent
        if not (folder / PLAYED).exists():
            background = self.start.background
            if iteration > 0:
                previous = folder.with_name(f"iteration-{iteration - 1:02d}") / PLAYED
                background = load_dataset(previous).background
            dataset = self._dataset(background, self.demos)
            run = train(
                self.algorithm, dataset, seeds=[seed], out=folder / "run", progress=self.progress,
                env=self.env, **self.fields,
            )  # fmt: skip
            policy = run.policy(0).to(torch.device("cpu"))
            played = collect(
                policy, self.env, self.episodes, False, seed=SEED_BLOCK + iteration,
                title=f"iteration {iteration}",
                bounds=(self.start.action_low, self.start.action_high), progress=self.progress,
            )  # fmt: skip
            self._dataset(played, None, iteration=iteration).save(folder / PLAYED)
        return _means(load_dataset(folder / PLAYED).background)

    def _dataset(self, background: Episodes, expert: Episodes | None, **info: Any) -> Dataset:
        """A dataset of the experiment's environment."""
        return dataclasses.replace(
            self.start, background=background, expert=expert, env_id=self.env.id, info=info,
            unverified=(), env_kwargs={**self.env.settings, **self.env.kwargs},
        )  # fmt: skip


@standard_torch()
def improve(
    algorithm: str | type[Learner],
    expert: Dataset | str | Path,
    seed_background: Dataset | str | Path,
    *,
    iterations: int = 20,
    episodes: int = 1000,
    seeds: Sequence[int] = (0,),
    out: str | Path,
    env_id: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    progress: bool = True,
    executor: Executor | None = None,
    **fields: Any,
) -> Improvement:
    """Trains on the background, plays `episodes` with the stochastic policy, and starts over.

    expert: a dataset whose expert observations are used; the background's, where it has no expert
    part.  seed_background: a dataset whose background the first iteration learns from.  episodes:
    played in each iteration.  seeds: each has its own sequence of policies.  env_id,
    env_kwargs: the environment and its settings, as `env` in `fastifo.train`, where the datasets do
    not state it.  executor: runs an iteration of all seeds at the same time, perhaps on other
    machines, see `fastifo.utils.machines`; None: this process, one after the other.  fields:
    arguments of `fastifo.train`.
    Every iteration has a run folder and a dataset below `out`; a finished one is not repeated.
    Raises ValueError where `out` holds another improvement, and the errors of `train`.
    """
    algorithm = algos.name_of(algorithm)
    seeds = as_seeds(seeds)
    iterations = as_count("iterations", iterations)
    episodes = as_count("episodes", episodes, high=MAX_RECORDED)
    fields = {name: plain(value) for name, value in fields.items()}
    settings_of(algorithm, fields | {"seeds": seeds})
    demonstrations, start = _datasets(expert, seed_background, progress)
    demos = (demonstrations.expert or demonstrations.background).without_rewards()
    if start.env_id is None:
        start = dataclasses.replace(start, env_id=demonstrations.env_id)
    env = choose_env(start, env_id, env_kwargs)
    if env is None:
        raise ValueError("env_id: expected the name of an environment, found none in the datasets")
    if executor is not None and env.make is not None:
        raise ValueError(
            "env_id: expected a name that other processes can import, found a function or class; "
            "pass 'module:function'"
        )
    describe(env)
    experiment = Experiment(algorithm, env, start, demos, episodes, Path(out), fields, progress)
    with folder_lock(experiment.folder):
        _keep_plan(experiment, seeds)
        if executor is None:
            return _iterate(experiment, iterations, seeds)
        with folder_lease(experiment.folder), opened(executor):
            if not (experiment.folder / START).exists():
                dataclasses.replace(start, expert=demos).save(experiment.folder / START)
            return _iterate(experiment, iterations, seeds, executor)


@dataclass(frozen=True)
class Iteration:
    """One iteration of one seed as a job for another process."""

    algorithm: str
    env: EnvSpec
    episodes: int
    folder: Path
    fields: dict[str, Any]  # arguments of `train`
    seed: int
    iteration: int

    def run(self) -> None:
        """Makes the iteration, unless its episodes exist."""
        start = load_dataset(self.folder / START)
        assert start.expert is not None
        shared = self.algorithm, self.env, start, start.expert, self.episodes, self.folder
        Experiment(*shared, self.fields, progress=False).iterate(self.seed, self.iteration)


def _iterate(
    experiment: Experiment,
    iterations: int,
    seeds: tuple[int, ...],
    executor: Executor | None = None,
) -> Improvement:
    """All iterations of all seeds; writes `improve.json` after each."""
    means = {seed: [_means(experiment.start.background)] for seed in seeds}
    for iteration in range(iterations):  # all seeds finish an iteration before the next one starts
        if executor is not None:
            names = ("algorithm", "env", "episodes", "folder", "fields")
            shared = {name: getattr(experiment, name) for name in names}
            waiting = [seed for seed in seeds if not experiment.played(seed, iteration).exists()]
            executor.run([Iteration(**shared, seed=s, iteration=iteration) for s in waiting])
        for seed in seeds:
            means[seed].append(experiment.iterate(seed, iteration))
        returns, success = (
            [[pair[column] for pair in means[seed]] for seed in seeds] for column in (0, 1)
        )
        is_known = not np.isnan(success).any()
        result = Improvement(
            experiment.algorithm, experiment.env.id, seeds, returns, success if is_known else None
        )
        content = {"format": FORMAT, **dataclasses.asdict(result)}
        if not is_known:
            del content["success"]
        write_json(experiment.folder / "improve.json", content)
    return result


def _means(episodes: Episodes) -> tuple[float, float]:
    """Mean return and rate of success; nan where they are unknown."""
    values = (episodes.returns(), episodes.success)
    mean, rate = (nan if value is None else float(value.double().mean()) for value in values)
    return mean, rate


def _keep_plan(experiment: Experiment, seeds: Sequence[int]) -> None:
    """Writes `plan.json`.  Raises ValueError where the folder holds another improvement."""
    plan = {
        "format": FORMAT,
        "algorithm": experiment.algorithm,
        "env_id": experiment.env.id,
        "episodes": experiment.episodes,
        "seeds": list(seeds),
        "fields": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in experiment.fields.items()
        },
        "background": Dataset(experiment.start.background, experiment.demos).fingerprint(),
    }
    keep_plan(experiment.folder / "plan.json", plan)


def _datasets(
    expert: Dataset | str | Path, seed_background: Dataset | str | Path, progress: bool
) -> tuple[Dataset, Dataset]:
    """Both datasets; prints what was changed when they were read."""
    loaded = [
        each if isinstance(each, Dataset) else load(each, progress=progress)
        for each in (expert, seed_background)
    ]
    if progress:
        report_notes(loaded[::-1])
    return loaded[0], loaded[1]
