"""Studies: every algorithm on every task and background set, trained as populations.

Source: arXiv 2507.06701, SIBench and bimodal mixtures. A run folder holds one algorithm on one
task; its sets and seeds train together. A stopped study continues when it is called again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastifo import algos
from fastifo.benchmarks.bimodal import load_bimodal
from fastifo.benchmarks.sets import SIZES, build_sets
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.engine.run_folder import refuse_run
from fastifo.engine.setup import Settings, given_fields, resolve_settings
from fastifo.engine.train import train
from fastifo.envs.kept import keep_environments
from fastifo.envs.registry import check_id
from fastifo.envs.returns import FILE_OF, Returns
from fastifo.utils.arguments import as_seeds
from fastifo.utils.files import UNREADABLE, keep_plan
from fastifo.utils.folders import as_path
from fastifo.utils.lease import folder_lease
from fastifo.utils.parallel import Executor, run_jobs
from fastifo.utils.progress import say
from fastifo.utils.text import did_you_mean

MIXTURES = tuple(range(0, 1001, 100))  # expert episodes among 1000, the paper's grid
TASKS = ("HalfCheetah-v4", "Walker2d-v4", "Ant-v4", "Hopper-v4")
TRAIN_ARGUMENTS = (
    "preset", "device", "precision", "engine", "log_every", "checkpoint_every", "callbacks",
)  # fmt: skip
STUDY_ARGUMENTS = ("num_updates", "seeds", "episodes", "progress", "executor")


def study_sibench(
    out: Path,
    algorithms: Sequence[str],
    envs: Sequence[str] = TASKS,
    sizes: Sequence[int] = SIZES,
    *,
    set_options: dict[str, Any] | None = None,
    **fields: Any,
) -> None:
    """Trains and evaluates every algorithm on the SIBench sets of every task.

    sizes: numbers of cloned demonstrations, one set each.  set_options: other arguments of
    `build_sets`.  fields: arguments of `train_and_evaluate`.
    Raises TypeError or ValueError before any work where an argument is wrong.
    """
    out, options = as_path(out), dict(set_options or {})
    begin_study(out, "sibench", algorithms, envs, fields)
    for env_id in envs:
        paths = build_sets(
            env_id, out / "data" / env_id, sizes, progress=fields.get("progress", True),
            executor=fields.get("executor"), **options,
        )  # fmt: skip
        datasets = [load_dataset(path) for path in paths]
        train_and_evaluate(out, algorithms, env_id, datasets, files=paths, **fields)


def study_bimodal(
    out: Path,
    algorithms: Sequence[str],
    envs: Sequence[str] = TASKS,
    mixtures: Sequence[int] = MIXTURES,
    *,
    set_options: dict[str, Any] | None = None,
    **fields: Any,
) -> None:
    """Trains and evaluates every algorithm on the bimodal mixtures of every task.

    mixtures: numbers of expert episodes in the background, one set each.  set_options: fields of
    `BimodalSpec`.  fields, errors: as in `study_sibench`.
    """
    out = as_path(out)
    begin_study(out, "bimodal", algorithms, envs, fields)
    options = "".join(f",{name}={value}" for name, value in (set_options or {}).items())
    progress = fields.get("progress", True)
    for env_id in envs:
        specs = [f"bimodal:{env_id}/expert={count}{options}" for count in mixtures]
        datasets = [load_bimodal(spec, progress=progress) for spec in specs]
        files = [out / "data" / env_id / f"expert={count}.fastifo" for count in mixtures]
        train_and_evaluate(out, algorithms, env_id, datasets, files=files, **fields)


def begin_study(
    out: Path, kind: str, algorithms: Sequence[str], envs: Sequence[str], fields: dict[str, Any]
) -> None:
    """Checks everything that can be checked before hours of work, and marks the folder.

    Raises TypeError or ValueError where an argument is wrong or `out` holds another kind of study.
    """
    check_fields(algorithms, fields, STUDY_ARGUMENTS)
    for algorithm in algorithms:
        settings_of(algorithm, fields)
    for env_id in envs:
        check_id(env_id)
    refuse_run(out)
    keep_plan(out / "study.json", {"format": "fastifo-study", "kind": kind})


def check_fields(
    algorithms: Sequence[str], names: Collection[str], other_names: Collection[str] = ()
) -> None:
    """Raises TypeError, with the nearest name, for a field that none of the algorithms has.

    other_names: names that are accepted too.
    """
    known = {*TRAIN_ARGUMENTS, *other_names}.union(*map(_defaults_of, algorithms))
    if unknown := sorted(set(names) - known):
        raise TypeError(f"study: no field {unknown[0]!r}; {did_you_mean(unknown[0], known)}")


def settings_of(algorithm: str, fields: dict[str, Any]) -> Settings:
    """The settings of a run.  Raises TypeError or ValueError where they fit no dataset at all."""
    known = _defaults_of(algorithm)
    overrides = {name: value for name, value in fields.items() if name in known}
    name, config_fields = given_fields(algorithm, fields.get("preset", "vfo"), overrides)
    machine = {name: fields[name] for name in ("device", "precision") if name in fields}
    return resolve_settings(name, config_fields, fields.get("seeds", (0,)), **machine)


def fields_of_algorithm(algorithm: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The entries of `fields` that `train` takes for this algorithm."""
    known = {*_defaults_of(algorithm), *TRAIN_ARGUMENTS}
    return {name: value for name, value in fields.items() if name in known}


def train_and_evaluate(
    out: Path,
    algorithms: Sequence[str],
    env_id: str,
    datasets: list[Dataset],
    *,
    num_updates: int,
    seeds: Sequence[int] = (0, 1, 2),
    episodes: int = 100,
    progress: bool = True,
    executor: Executor | None = None,
    files: Sequence[Path] = (),
    **fields: Any,
) -> None:
    """Trains each algorithm on all datasets of one task; finished runs are left as they are.

    episodes: evaluation episodes per policy, for sampled actions and again for the mode.
    executor: trains the runs, perhaps on other machines, which read the datasets from `files`;
    None: this process, one after the other.  files: one per dataset; written where missing.
    fields: arguments of `fastifo.train`; an algorithm's fields reach the algorithms that have them.
    Raises ValueError before the first training where an algorithm cannot learn from a dataset.
    """
    for algorithm in algorithms:
        settings = settings_of(algorithm, fields)
        for dataset in datasets:
            settings.check_data(dataset)
    jobs = [
        job
        for algorithm in algorithms
        for job in _jobs_of(
            out / "runs" / env_id / algorithm, algorithm, datasets, num_updates=num_updates,
            seeds=as_seeds(seeds), episodes=episodes, progress=progress, **fields,
        )
    ]  # fmt: skip
    if executor is None:
        with keep_environments():
            for job in jobs:
                job.run()
        return
    file_of = dict(zip(map(id, datasets), files, strict=True))
    with folder_lease(out):
        for dataset, path in zip(datasets, files, strict=True):
            if not path.exists():
                dataset.save(path)
        run_jobs(
            [job.with_files([file_of[id(each)] for each in job.datasets]) for job in jobs], executor
        )


@dataclass(frozen=True)
class TrainJob:
    """Trains and evaluates one run of a study."""

    algorithm: str  # without backbone
    datasets: Sequence[Dataset | Path]
    out: Path  # run folder
    num_updates: int
    seeds: Sequence[int]
    episodes: int
    progress: bool
    fields: dict[str, Any]  # arguments of `train`

    def with_files(self, files: Sequence[Path]) -> "TrainJob":
        """The job for another process, which reads the datasets from files."""
        return replace(self, datasets=files, progress=False)

    def run(self) -> None:
        """Trains, and evaluates sampled actions and the mode unless that is done.

        A run in which every member diverged is reported, and does not stop the other runs.
        """
        try:
            run = train(  # returns immediately where the folder holds the finished run
                self.algorithm, self.datasets, num_updates=self.num_updates, seeds=self.seeds,
                out=self.out, progress=self.progress, **self.fields,
            )  # fmt: skip
        except FloatingPointError as error:
            say(f"{self.out}: {error}. The other runs go on")
            return
        sizes = self.num_updates, len(run.members), self.episodes
        for deterministic in (False, True):
            if not is_evaluated(self.out, *sizes, deterministic):
                run.evaluate(self.episodes, deterministic, progress=self.progress)


def _jobs_of(
    folder: Path, algorithm: str, datasets: list[Dataset], *, num_updates: int,
    seeds: Sequence[int], episodes: int, progress: bool, **fields: Any,
) -> list[TrainJob]:  # fmt: skip
    """The runs of one algorithm; see `train_and_evaluate`."""
    name, backbone = algos.split(algorithm)
    train_fields = fields_of_algorithm(algorithm, fields) | backbone
    runs = split_datasets(folder, algorithm, datasets, train_fields)
    if "embeddings" in _defaults_of(algorithm):  # backbones share one diffusion model
        embeddings = str(folder.parent / f"{name}-embeddings")
        train_fields = {"embeddings": embeddings} | train_fields
    return [
        TrainJob(name, part, path, num_updates, seeds, episodes, progress, train_fields)
        for path, part in runs
    ]


def split_datasets(
    folder: Path, algorithm: str, datasets: list[Dataset], fields: dict[str, Any]
) -> list[tuple[Path, list[Dataset]]]:
    """The run folders of an algorithm with their datasets: one run, or one for each dataset.

    Datasets share a run unless each needs its own mean and deviation of the observations.
    """
    settings = settings_of(algorithm, fields)
    standardizes = any(member.config.standardize_obs for member in settings.members)
    if standardizes or settings.learner_class.one_dataset:
        return [(folder / str(index), [dataset]) for index, dataset in enumerate(datasets)]
    return [(folder, datasets)]


def is_evaluated(
    folder: Path, num_updates: int, num_members: int, episodes: int, deterministic: bool
) -> bool:
    """Whether a run folder has returns after `num_updates`, with these members and episodes."""
    try:
        returns = Returns.load(folder / FILE_OF[deterministic])
    except UNREADABLE:
        return False
    shape = returns.returns.shape
    return (returns.num_updates, *shape) == (num_updates, num_members, episodes)


def _defaults_of(algorithm: str) -> dict[str, Any]:
    """The fields of an algorithm with their defaults.  Raises ValueError for an unknown name."""
    name, backbone = algos.split(algorithm)
    return vars(algos.find(name, backbone.get("backbone")).Config())
