"""The unit of work of a sweep: a folder with one population, and `advance`, which trains it.

    population.json          the members, what they start from, and how to train and evaluate them
    run/                     the run folder
    returns-<updates>.npz    returns of all members at a rung

Any process on any machine that sees the folder can call `advance`, as often as it likes.
"""

import dataclasses
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastifo import algos
from fastifo.algos.config import Config, from_json, to_json
from fastifo.algos.learner import Learner
from fastifo.data.dataset import load_dataset
from fastifo.engine.options import TrainOptions
from fastifo.engine.population import Member
from fastifo.engine.run import Run
from fastifo.engine.run_folder import read_config
from fastifo.engine.train import train_members
from fastifo.envs.returns import Returns
from fastifo.utils.files import read_json, write_json
from fastifo.utils.lease import Lease, folder_lease

FORMAT = "fastifo-population"
FILE = "population.json"


@dataclass(frozen=True)
class Source:
    """The member of another population whose weights a member continues from."""

    folder: str  # of that population, relative to this one's folder
    index: int  # of the member there


@dataclass(frozen=True)
class Training:
    """How all populations of a sweep train and are evaluated."""

    algorithm: str  # without backbone
    learner: str  # "module:class" of a method that is not fastifo's own; else empty
    dataset: str  # file, relative to the folder of the sweep
    embeddings: str  # folder of embeddings that populations share, likewise; empty: none
    device: str
    precision: str
    engine: str
    fused: bool
    log_every: int
    checkpoint_every: int
    env: str | None  # of the user; None: the dataset's
    env_kwargs: dict[str, Any] | None
    episodes: int  # of each evaluation
    deterministic: bool  # play the mode; False: samples
    eval_seed: int  # of the environments

    @property
    def learner_class(self) -> type[Learner]:
        """The class of the method, for the default backbone; imports a method of the user's own."""
        if self.learner and self.algorithm not in algos.ALGORITHMS:
            module, _, name = self.learner.partition(":")
            algos.register(self.algorithm, getattr(importlib.import_module(module), name))
        return algos.find(self.algorithm)


@dataclass(frozen=True)
class Population:
    """The content of a population's folder."""

    training: Training
    root: str  # folder of the sweep, relative to the population's
    members: list[Member]
    sources: list[Source] | None  # of every member; None: they start anew

    def write(self, folder: Path) -> None:
        """Writes `population.json`.  Raises ValueError if the folder holds another population."""
        content = {
            "format": FORMAT,
            "root": self.root,
            "training": dataclasses.asdict(self.training),
            "members": [{"seed": m.seed, "config": to_json(m.config)} for m in self.members],
            "sources": None if self.sources is None else [vars(s) for s in self.sources],
        }
        if not (folder / FILE).exists():
            write_json(folder / FILE, content)
        elif read_json(folder / FILE) != _as_read(content):
            raise ValueError(
                f"{folder / FILE}: holds another population than this sweep's; choose another "
                "folder"
            )

    @staticmethod
    def read(folder: Path) -> "Population":
        """Reads `population.json`.  Raises FileNotFoundError; ValueError for another file."""
        content = read_json(folder / FILE)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(
                f"{folder / FILE}: expected a population of a sweep, found another file"
            )
        training = Training(**content["training"])
        default = training.learner_class
        backbone = content["members"][0]["config"].get("backbone")
        learner_class = algos.find(training.algorithm, backbone) if backbone else default
        embeddings = folder / content["root"] / training.embeddings
        members = [
            Member(entry["seed"], _config(learner_class, entry["config"], embeddings))
            for entry in content["members"]
        ]
        sources = content["sources"]
        return Population(
            training, content["root"], members,
            None if sources is None else [Source(**source) for source in sources],
        )  # fmt: skip


def _as_read(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _as_read(value) for name, value in content.items()}
    return [_as_read(value) for value in content] if isinstance(content, list | tuple) else content


def _config(learner_class: type[Learner], values: dict[str, Any], embeddings: Path) -> Config:
    config: Any = from_json(learner_class.Config, values)
    if hasattr(config, "embeddings"):
        config = dataclasses.replace(config, embeddings=os.path.normpath(embeddings))
    result: Config = config
    return result


def returns_file(folder: Path, num_updates: int) -> Path:
    """Where a population's returns at a rung are."""
    return folder / f"returns-{num_updates:09d}.npz"


@dataclass(frozen=True)
class Advance:
    """A call of `advance` as a job."""

    folder: Path
    until: int

    def run(self) -> None:
        """Calls `advance`."""
        advance(self.folder, self.until)


def advance(folder: str | Path, until: int) -> None:
    """Trains the population in a folder until `until` updates, evaluates it and writes the returns.

    Idempotent: it continues from what is there, and does nothing where the returns are. Waits while
    another process is at work in the folder. Results do not depend on how often it was cut.
    Raises what `fastifo.train` raises, except where all members diverged: their returns are nan.
    """
    folder = Path(folder)
    with folder_lease(folder, waits=True) as lease:
        path = returns_file(folder, until)
        if path.exists():
            return
        population = Population.read(folder)
        returns = _train_and_evaluate(population, folder, until, lease)
        lease.check()
        returns.save(path)


def _train_and_evaluate(population: Population, folder: Path, until: int, lease: Lease) -> Returns:
    training = population.training
    sources: Sequence[tuple[Path, int]] | None = None
    if population.sources is not None:
        sources = [(folder / source.folder / "run", source.index) for source in population.sources]
    options = TrainOptions(
        num_updates=until,
        device=training.device,
        precision=training.precision,
        engine=training.engine,
        fused=training.fused,
        out=folder / "run",
        callbacks=[_LeaseCheck(lease, training.checkpoint_every)],
        log_every=training.log_every,
        checkpoint_every=training.checkpoint_every,
        progress=False,
        env=training.env,
        env_kwargs=training.env_kwargs,
    )
    dataset = load_dataset(folder / population.root / training.dataset)
    try:
        run = train_members(training.algorithm, population.members, dataset, options, sources)
    except FloatingPointError:
        if len(read_config(folder / "run")["failed"]) < len(population.members):
            raise
        return _no_returns(population, until)
    return evaluate(run, training)


def evaluate(run: Run, training: Training, episodes: int = 0, seed: int | None = None) -> Returns:
    """Returns of all members of a run.  episodes, seed: other than the sweep's."""
    return run.evaluate(
        episodes or training.episodes,
        training.deterministic,
        seed=training.eval_seed if seed is None else seed,
        progress=False,
    )


def _no_returns(population: Population, until: int) -> Returns:
    """The returns of a population in which every member diverged."""
    shape = len(population.members), population.training.episodes
    return Returns(
        np.full(shape, np.nan), np.zeros(shape, np.int64), str(population.training.env),
        population.training.deterministic, {}, until,
    )  # fmt: skip


@dataclass(frozen=True)
class _LeaseCheck:
    """Callback that ends a training whose folder another process has taken over."""

    lease: Lease
    every: int

    def __call__(self, run: Run, update: int, members: Sequence[int]) -> None:
        self.lease.check()
