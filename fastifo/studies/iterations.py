"""Iterations of training and playing: their folders, and the order in which they are made."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from typing import Any, ClassVar

import torch

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.episodes import Episodes
from fastifo.engine.train import train
from fastifo.envs.policy import Policy
from fastifo.envs.rollout import collect
from fastifo.envs.spec import EnvSpec
from fastifo.studies.improvement import FORMAT, Improvement
from fastifo.utils.files import read_json, write_json
from fastifo.utils.parallel import Executor
from fastifo.utils.progress import say

SEED_BLOCK = 1200  # environment seeds of the played episodes; evaluation and benchmarks use others
PLAYED = "played.fastifo"  # an iteration's episodes
START = "start.fastifo"  # the first data, for other processes
DIVERGED = "diverged.json"  # the error, in the folder of an iteration that diverged
# Of each seed: return and success of the first data and after each iteration; None: it diverged.
Measured = dict[int, list[tuple[float, float] | None]]


@dataclass(frozen=True)
class Experiment:
    """What the iterations of one self-improvement share."""

    algorithm: str  # name of the method
    env: EnvSpec  # of the task
    start: Dataset | None  # the first data, which state the action bounds; None: read from `START`
    episodes: int  # played in each iteration
    folder: Path
    fields: dict[str, Any]  # arguments of `train`
    progress: bool
    learner: ClassVar[str] = ""  # method that is trained, if its name is another

    @cached_property
    def first(self) -> Dataset:
        """The first background, and the expert's observations."""
        return load_dataset(self.folder / START) if self.start is None else self.start

    def plan(self) -> dict[str, Any]:
        """What `plan.json` says of the data."""
        return {"background": self.first.fingerprint()}

    def begin(self, is_new: bool) -> None:
        """Called once in a locked folder, before the first iteration.

        is_new: the folder has no plan yet.
        """

    def keep_start(self) -> None:
        """Writes the first data for other processes, unless that is done."""
        if not (self.folder / START).exists():
            self.first.save(self.folder / START)

    def for_other_process(self) -> "Experiment":
        """The experiment without data, which it reads from its folder."""
        return dataclasses.replace(self, start=None, progress=False)

    def played(self, seed: int, iteration: int) -> Path:
        """File of an iteration's episodes."""
        return self.folder / f"seed-{seed}" / f"iteration-{iteration:02d}" / PLAYED

    def read(self, seed: int, iteration: int) -> Dataset:
        """An iteration's episodes, as a background."""
        return load_dataset(self.played(seed, iteration))

    def divergence(self, seed: int, iteration: int) -> Path | None:
        """The file that tells that this iteration of a seed, or an earlier one, diverged."""
        files = (self.played(seed, i).with_name(DIVERGED) for i in range(iteration + 1))
        return next((file for file in files if file.exists()), None)

    def iterate(self, seed: int, iteration: int) -> tuple[float, float] | None:
        """One iteration of one seed, unless its episodes exist.

        Returns mean return and rate of success, see `measure`; None if this iteration or an
        earlier one diverged.
        """
        path = self.played(seed, iteration)
        if not path.exists():
            if self.divergence(seed, iteration) is not None:
                return None
            try:
                run = train(
                    self.learner or self.algorithm, self.data(seed, iteration), seeds=[seed],
                    out=path.parent / "run", progress=self.progress, env=self.env, **self.fields,
                )  # fmt: skip
            except FloatingPointError as error:
                write_json(path.with_name(DIVERGED), {"error": str(error)})
                return None
            policy = run.policy(0).to(torch.device("cpu"))
            self.play(policy, iteration).save(path)
        return self.measure(self.read(seed, iteration))

    def data(self, seed: int, iteration: int) -> Dataset:
        """What an iteration learns from: the episodes of the one before, and the expert."""
        background = self.first.background
        if iteration > 0:
            background = self.read(seed, iteration - 1).background
        return self.dataset(background, self.first.expert)

    def play(self, policy: Policy, iteration: int) -> Dataset:
        """Episodes of an iteration's policy, as a background."""
        played = collect(
            policy, self.env, self.episodes, False, seed=SEED_BLOCK + iteration,
            title=f"iteration {iteration}",
            bounds=(self.first.action_low, self.first.action_high), progress=self.progress,
        )  # fmt: skip
        return self.dataset(played, None, iteration=iteration)

    def measure(self, played: Dataset) -> tuple[float, float]:
        """Mean return and rate of success after an iteration, or of the first data."""
        return means(played.background)

    def dataset(self, background: Episodes, expert: Episodes | None, **info: Any) -> Dataset:
        """A dataset of the experiment's environment."""
        return dataclasses.replace(
            self.first, background=background, expert=expert, env_id=self.env.id, info=info,
            unverified=(), env_kwargs={**self.env.settings, **self.env.kwargs},
        )  # fmt: skip


@dataclass(frozen=True)
class Iteration:
    """One iteration of one seed as a job for another process."""

    experiment: Experiment  # which reads the first data from its folder
    seed: int
    iteration: int

    def run(self) -> None:
        """Makes the iteration, unless its episodes exist."""
        self.experiment.iterate(self.seed, self.iteration)


def run_iterations(
    experiment: Experiment,
    iterations: int,
    seeds: tuple[int, ...],
    executor: Executor | None = None,
) -> Improvement:
    """All iterations of all seeds; writes `improve.json` after each.

    Raises FloatingPointError if every seed has diverged.
    """
    measured: Measured = {seed: [experiment.measure(experiment.first)] for seed in seeds}
    for iteration in range(iterations):  # all seeds finish an iteration before the next one starts
        if executor is not None:
            remote = experiment.for_other_process()
            waiting = [
                seed
                for seed in seeds
                if not experiment.played(seed, iteration).exists()
                and experiment.divergence(seed, iteration) is None
            ]
            executor.run([Iteration(remote, seed, iteration) for seed in waiting])
        for seed in seeds:
            measured[seed].append(experiment.iterate(seed, iteration))
        result = result_of(experiment, measured)
        result.save(experiment.folder)
        _report_divergence(experiment, measured, iteration)
    return result


def _report_divergence(experiment: Experiment, measured: Measured, iteration: int) -> None:
    """Prints which seeds diverged in an iteration.  Raises FloatingPointError if none is left."""
    files = {seed: experiment.divergence(seed, iteration) for seed in measured}
    texts = [
        f"{file.parent}: {read_json(file)['error']}"
        for seed, file in files.items()
        if file is not None and file.parent == experiment.played(seed, iteration).parent
    ]
    if None not in files.values():
        raise FloatingPointError("; ".join(texts))
    for text in texts:
        say(f"{text}. The other seeds go on")


def result_of(experiment: Experiment, measured: Measured) -> Improvement:
    """The result so far."""
    returns, success = (
        [[nan if pair is None else pair[column] for pair in pairs] for pairs in measured.values()]
        for column in (0, 1)
    )
    known = [pair for pairs in measured.values() for pair in pairs if pair is not None]
    return Improvement(
        experiment.algorithm, experiment.env.id, tuple(measured), returns,
        None if any(isnan(rate) for _, rate in known) else success,
    )  # fmt: skip


def means(episodes: Episodes) -> tuple[float, float]:
    """Mean return and rate of success; nan where they are unknown."""
    values = (episodes.returns(), episodes.success)
    mean, rate = (nan if value is None else float(value.double().mean()) for value in values)
    return mean, rate


def plan_of(experiment: Experiment, seeds: Sequence[int]) -> dict[str, Any]:
    """The content of `plan.json`: what must not change when an improvement is continued."""
    return {
        "format": FORMAT,
        "algorithm": experiment.algorithm,
        "env_id": experiment.env.id,
        "env_kwargs": {**experiment.env.settings, **experiment.env.kwargs},
        "episodes": experiment.episodes,
        "seeds": list(seeds),
        "fields": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in experiment.fields.items()
            if name != "callbacks"  # functions, which are no setting
        },
        **experiment.plan(),
    }
