"""`fastifo.sweep`: a search over settings, on populations that any executor advances.

    dataset.fastifo                 the data, a copy that all machines read
    search/plan.json                the arguments
    search/wave-0/rung-1/part-2     a population, see `fastifo.studies.population`
    final/                          the run folder of the best setting with fresh seeds
    results.csv, sweep.json         the results

The driver keeps no state of its own: it repeats its decisions, which follow from the plan and from
the populations' returns. So the same call continues a sweep wherever it was stopped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastifo.algos.learner import Learner
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.data.load import load
from fastifo.engine.run_folder import refuse_run
from fastifo.engine.setup import report_notes
from fastifo.studies.final import finish
from fastifo.studies.search import Search
from fastifo.studies.sweep_plan import Plan, check_data, make_plan
from fastifo.studies.sweep_results import Sweep
from fastifo.utils.ambient import standard_torch
from fastifo.utils.arguments import as_count
from fastifo.utils.executors import InProcess
from fastifo.utils.files import keep_plan, read_json, write_json
from fastifo.utils.folders import as_path
from fastifo.utils.lease import folder_lease
from fastifo.utils.machines import make_executor, opened
from fastifo.utils.parallel import Executor
from fastifo.utils.schema import Count, check_schema

ARGUMENTS = (
    "preset", "rungs", "num_settings", "seeds", "proposer", "waves", "seed", "scheduler", "keep",
    "episodes", "deterministic", "final_seeds", "final_episodes", "populations", "executor",
    "workers", "device", "precision", "engine", "fused", "log_every", "checkpoint_every", "env",
    "env_kwargs", "progress",
)  # fmt: skip


@standard_torch()
def sweep(
    algorithm: str | type[Learner],
    dataset: Dataset | str | Path,
    *,
    rungs: Sequence[int],
    out: str | Path,
    num_settings: int | None = None,
    seeds: Sequence[int] = (0,),
    preset: str = "vfo",
    proposer: str = "random",
    waves: int | None = None,
    seed: int = 0,
    scheduler: str = "halving",
    keep: float | None = None,
    episodes: int = 20,
    deterministic: bool = False,
    final_seeds: Sequence[int] | None = None,
    final_episodes: int = 100,
    executor: str | Executor = "auto",
    workers: int = 0,
    populations: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    fused: bool = True,
    log_every: int = 500,
    checkpoint_every: int = 5000,
    env: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Sweep:
    """Searches for the best values of a method's fields, and retrains them with new seeds.

    algorithm, dataset, preset, device, precision, engine, fused, log_every, checkpoint_every, env,
        env_kwargs: as in `fastifo.train`; one dataset.
    overrides: fields of the algorithm's config: a value; a list of values; or a distribution:
        `fastifo.loguniform(0.05, 5)`, `uniform`, `integers` or `choice`, also as text. The search
        is over lists and distributions.
    rungs: increasing numbers of updates; members are evaluated at each, and training ends at the
        last.
    out: the sweep's folder, on a file system that all workers share. Repeating the call resumes.
    num_settings: number of settings to try; default 16. A grid tries all combinations of its lists.
    seeds: one member per seed for each setting; settings are compared by the mean over them.
    proposer: "random", "grid" (every combination of the lists), or "tpe" (extra `optuna`), which
        proposes settings in `waves` (default 4), each based on the returns of the previous ones.
    seed: of the proposer and the scheduler.
    scheduler: "halving" (default) keeps the best settings at each rung; "pbt" replaces the worst
        members with copies of the best, with perturbed values; "none" trains all to the end.
    keep: share of the settings that stay at each rung, default 1/3; with "pbt", the share of the
        members that are not replaced, default 0.8.
    episodes, deterministic: of each evaluation, as in `Run.evaluate`.
    final_seeds: seeds of the final training, other than `seeds`; by default three. [] skips it.
    final_episodes: evaluation episodes of each final member, from other start states.
    executor: "auto", "in-process", "processes", "ray", "slurm", or an object, see
        `fastifo.utils.executors`.
    workers: jobs at the same time, for executors by name.
    populations: minimum number of populations at each rung; default: the number of workers.
        Members whose nets differ in shape never share one. In the native engine, a member's results
        do not depend on it.
    progress: print a line for each rung.

    Returns the `Sweep`; `out` then contains `results.csv` with every member, and `final`, a run
    folder for `fastifo.open_run`. The returns by which the winners were selected are biased
    upwards; those of the final members are not.
    Ctrl-C and SIGTERM stop with checkpoints.

    Raises, before training, TypeError or ValueError naming a wrong argument or what the dataset
    lacks; BlockingIOError if another process runs a sweep in `out`; ImportError naming an extra to
    install; FloatingPointError if every member diverged.
    """
    plan = make_plan(
        algorithm, preset=preset, overrides=overrides, arguments=ARGUMENTS, proposer=proposer,
        num_settings=num_settings, waves=waves, seed=seed, scheduler=scheduler,
        keep=(0.8 if scheduler == "pbt" else 1 / 3) if keep is None else keep, rungs=rungs,
        seeds=seeds, final_seeds=final_seeds, episodes=episodes, final_episodes=final_episodes,
        deterministic=deterministic, env=env, env_kwargs=env_kwargs, device=device,
        precision=precision, engine=engine, fused=fused,
        log_every=as_count("log_every", log_every),
        checkpoint_every=as_count("checkpoint_every", checkpoint_every),
    )  # fmt: skip
    folder = as_path(out)
    if populations is not None:
        populations = as_count("populations", populations)
    runner = make_executor(executor, workers=workers, folder=folder / "search" / "logs")
    if plan.training.learner.startswith("__main__") and not isinstance(runner, InProcess):
        raise ValueError(
            f"algorithm: other processes cannot import {plan.training.learner}; define it in a "
            "module of its own"
        )
    data = dataset if isinstance(dataset, Dataset) else load(dataset, progress=progress)
    check_data(plan, data)
    if progress:
        report_notes([data])
    with folder_lease(folder):
        _keep_data(plan, data, folder)
        with opened(runner):
            parts = _keep_parts(folder, populations or getattr(runner, "workers", 1) or 1)
            search = Search(plan, folder, runner, parts, progress)
            result = finish(search, search.run())
        result.save(folder)
    return result


def _keep_data(plan: Plan, dataset: Dataset, folder: Path) -> None:
    """Writes the plan and the data.  Raises ValueError where the folder holds another sweep."""
    refuse_run(folder)
    keep_plan(folder / "search" / "plan.json", plan.to_json(dataset))
    path = folder / plan.training.dataset
    if not path.exists():
        dataset.save(path)
    elif load_dataset(path).fingerprint() != dataset.fingerprint():
        raise ValueError(f"{path}: holds other data than the sweep's; choose another folder")


def _keep_parts(folder: Path, parts: int) -> int:
    """The number of populations at each rung, as the sweep was started with."""
    path = folder / "search" / "packing.json"
    if path.exists():
        content = read_json(path)
        check_schema(content, {"populations": Count(1)}, path, "restore it from a copy")
        return int(content["populations"])
    write_json(path, {"populations": parts})
    return parts
