"""Self-improvement: train, play, replace the background by what was played, again.

Source: arXiv 2507.06701. The expert's observations stay; each iteration trains from scratch on
the last policy's episodes.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.load import load
from fastifo.engine.train import train
from fastifo.envs.envpool import check_env
from fastifo.envs.rollout import collect
from fastifo.studies.grid import settings_of
from fastifo.utils.files import keep_plan, write_json

FORMAT = "fastifo-improve"
SEED_BLOCK = 1200  # of the environments, apart from evaluation's and the benchmarks' seeds


@dataclass(frozen=True)
class Improvement:
    """What `improve` returns: the mean undiscounted return of each iteration's data, by seed."""

    algorithm: str
    env_id: str
    seeds: tuple[int, ...]
    returns: list[list[float]]  # [seeds][iterations + 1]; the first is the seed background's

    def __str__(self) -> str:
        table = Table(title=f"{self.env_id}: {self.algorithm}, return of each iteration's data")
        table.add_column("iteration", justify="right")
        for seed in self.seeds:
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for place, row in enumerate(np.array(self.returns).T):
            table.add_row(str(place), *(f"{value:.1f}" for value in row), f"{row.mean():.1f}")
        console = Console(width=30 + 14 * len(self.seeds))
        with console.capture() as captured:
            console.print(table)
        return captured.get().rstrip()


def improve(
    algorithm: str,
    expert: Dataset | str | Path,
    seed_background: Dataset | str | Path,
    *,
    iterations: int = 20,
    episodes: int = 1000,
    seeds: int | Sequence[int] = (0,),
    out: str | Path,
    env_id: str | None = None,
    progress: bool = True,
    **fields: Any,
) -> Improvement:
    """Trains on the background, plays `episodes` with the stochastic policy, and starts over.

    expert: its observations (of a background, where it has no expert part).  episodes: played in
    each iteration.  seeds: one chain of policies each.  env_id: EnvPool's name, where the datasets
    do not say it.  fields: those of `fastifo.train`.  Every iteration is a run folder and a dataset
    below `out`; what is there is not made again.  Raises ValueError where `out` holds another
    improvement, and what `train` does.
    """
    wanted = [seeds] if isinstance(seeds, int) else [*seeds]
    if iterations < 1 or episodes < 1 or not wanted:
        raise ValueError(
            f"improve: expected at least one iteration, episode and seed, found "
            f"{iterations}, {episodes} and {len(wanted)}"
        )
    settings_of(algorithm, fields | {"seeds": wanted})
    shown, first = _dataset(expert, progress), _dataset(seed_background, progress)
    demos = (shown.expert or shown.background).without_rewards()
    env_id = env_id or first.env_id or shown.env_id
    if env_id is None:
        raise ValueError("env_id: expected EnvPool's name of the task, the datasets name none")
    check_env(env_id)
    folder = Path(out)
    plan = {
        "format": FORMAT,
        "algorithm": algorithm,
        "env_id": env_id,
        "episodes": episodes,
        "seeds": wanted,
        "fields": {name: _plain(value) for name, value in fields.items()},
        "background": Dataset(first.background, demos).fingerprint(),
    }
    keep_plan(folder / "plan.json", plan)
    began = first.background.returns()
    start = float("nan") if began is None else float(began.mean())
    found = {seed: [start] for seed in wanted}
    for iteration in range(iterations):  # of every seed, so that all are equally far
        for seed in wanted:
            own = folder / f"seed-{seed}" / f"iteration-{iteration:02d}"
            path = own / "played.fastifo"
            if not path.exists():
                before = first.background
                if iteration > 0:
                    before = load_dataset(
                        own.with_name(f"iteration-{iteration - 1:02d}") / path.name
                    ).background
                data = Dataset(before, demos, env_id, first.action_low, first.action_high)
                run = train(
                    algorithm, data, seeds=seed, out=own / "run", progress=progress, **fields
                )
                policy = run.policy(0).to(torch.device("cpu"))
                background = collect(
                    policy, env_id, episodes, False, seed=SEED_BLOCK + iteration,
                    title=f"iteration {iteration}", progress=progress,
                )  # fmt: skip
                Dataset(background, env_id=env_id, info={"iteration": iteration}).save(path)
            returns = load_dataset(path).background.returns()
            assert returns is not None
            found[seed].append(float(returns.mean()))
        done = Improvement(algorithm, env_id, tuple(wanted), [found[seed] for seed in wanted])
        write_json(folder / "improve.json", {"format": FORMAT, **dataclasses.asdict(done)})
    return done


def _dataset(given: Dataset | str | Path, progress: bool) -> Dataset:
    return given if isinstance(given, Dataset) else load(given, progress=progress)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
