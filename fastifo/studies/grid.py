"""Studies: a grid of algorithms, tasks and background sets, trained as populations, resumable.

Source: arXiv 2507.06701, SIBench and bimodal mixtures. One run folder holds all sets and seeds of
one algorithm on one task, which train together.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fastifo import algos
from fastifo.benchmarks.bimodal import load_bimodal
from fastifo.benchmarks.sibench import SIZES, build_sets
from fastifo.data.dataset import Dataset, load_dataset
from fastifo.engine.setup import Settings, given_fields, resolve_settings
from fastifo.engine.train import train
from fastifo.envs.envpool import check_env
from fastifo.envs.returns import Returns
from fastifo.utils.files import UNREADABLE, keep_plan
from fastifo.utils.text import did_you_mean

MIXTURES = tuple(range(0, 1001, 100))  # expert episodes of 1000, the paper's grid
GENERAL = ("device", "precision", "engine", "log_every", "checkpoint_every")  # of fastifo.train
TASKS = ("HalfCheetah-v4", "Walker2d-v4", "Ant-v4", "Hopper-v4")


def study_sibench(
    out: Path,
    algorithms: Sequence[str],
    envs: Sequence[str] = TASKS,
    sizes: Sequence[int] = SIZES,
    *,
    set_options: dict[str, Any] | None = None,
    **fields: Any,
) -> None:
    """Trains every algorithm on the sets of every task.  fields: see `_train_all`."""
    options = {"demos": max(sizes), **(set_options or {})}
    _begin(out, "sibench", algorithms, envs, fields)
    for env_id in envs:
        paths = build_sets(
            env_id, out / "data" / env_id, sizes, progress=fields.get("progress", True), **options
        )
        _train_all(out, algorithms, env_id, [load_dataset(path) for path in paths], **fields)


def study_bimodal(
    out: Path,
    algorithms: Sequence[str],
    envs: Sequence[str] = TASKS,
    mixtures: Sequence[int] = MIXTURES,
    *,
    set_options: dict[str, Any] | None = None,
    **fields: Any,
) -> None:
    """The same on mixtures with so many expert episodes."""
    _begin(out, "bimodal", algorithms, envs, fields)
    options = "".join(f",{name}={value}" for name, value in (set_options or {}).items())
    for env_id in envs:
        datasets = [
            load_bimodal(
                f"bimodal:{env_id}/expert={count}{options}", progress=fields.get("progress", True)
            )
            for count in mixtures
        ]
        _train_all(out, algorithms, env_id, datasets, **fields)


def _begin(
    out: Path, kind: str, algorithms: Sequence[str], envs: Sequence[str], fields: dict[str, Any]
) -> None:
    """Everything that can be refused before hours of work."""
    check_fields(algorithms, fields, ("num_updates", "seeds", "episodes", "progress"))
    for algorithm in algorithms:
        settings_of(algorithm, fields)
    for env_id in envs:
        check_env(env_id)
    keep_plan(out / "study.json", {"format": "fastifo-study", "kind": kind})


def check_fields(
    algorithms: Sequence[str], names: Collection[str], others: Collection[str] = ()
) -> None:
    """Raises TypeError with the nearest name for a field that none of the algorithms has.

    others: names that are known besides.
    """
    known = {*GENERAL, *others}.union(*map(_config_of, algorithms))
    if unknown := sorted(set(names) - known):
        raise TypeError(f"study: no field {unknown[0]!r}; {did_you_mean(unknown[0], known)}")


def settings_of(algorithm: str, fields: dict[str, Any]) -> Settings:
    """Raises TypeError or ValueError for what is wrong whatever the data are."""
    known = _config_of(algorithm)
    given = {name: value for name, value in fields.items() if name in known}
    name, own = given_fields(algorithm, fields.get("preset", "vfo"), given)
    machine = {name: fields[name] for name in ("device", "precision") if name in fields}
    return resolve_settings(name, own, fields.get("seeds", (0,)), **machine)


def own_fields(algorithm: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Those of `fields` that the algorithm, or any training, has."""
    known = {*_config_of(algorithm), *GENERAL}
    return {name: value for name, value in fields.items() if name in known}


def _config_of(algorithm: str) -> dict[str, Any]:
    name, backbone = algos.split(algorithm)
    return vars(algos.find(name, backbone.get("backbone")).Config())


def _train_all(
    out: Path,
    algorithms: Sequence[str],
    env_id: str,
    datasets: list[Dataset],
    *,
    num_updates: int,
    seeds: Sequence[int] = (0, 1, 2),
    episodes: int = 100,
    progress: bool = True,
    **fields: Any,
) -> None:
    """Each algorithm in a run folder of its own, or one for each set where observations are
    standardised; a finished one is left alone.

    episodes: of evaluation, for each policy, sampled and deterministic.  fields: what
    `fastifo.train` takes, those of an algorithm where it has them.
    """
    for algorithm in algorithms:
        settings = settings_of(algorithm, fields)
        for each in datasets:
            settings.check_data(each)
    for algorithm in algorithms:
        name, backbone = algos.split(algorithm)
        learner_class = algos.find(name, backbone.get("backbone"))
        own = own_fields(algorithm, fields) | backbone
        folder = out / "runs" / env_id / algorithm
        # Each set has its own mean and deviation.
        if {**_config_of(algorithm), **own}["standardize_obs"] or learner_class.one_dataset:
            runs = [(folder / str(place), [one]) for place, one in enumerate(datasets)]
        else:
            runs = [(folder, datasets)]
        if "embeddings" in _config_of(algorithm):  # one model for every backbone
            own = {"embeddings": str(folder.parent / f"{name}-embeddings")} | own
        for path, sets in runs:
            run = train(  # returns at once where the folder holds the finished run
                name, sets, num_updates=num_updates, seeds=list(seeds), out=path,
                progress=progress, **own,
            )  # fmt: skip
            for deterministic in (False, True):
                if not _evaluated(path, num_updates, len(run.members), episodes, deterministic):
                    run.evaluate(episodes, deterministic, progress=progress)


def _evaluated(
    folder: Path, num_updates: int, members: int, episodes: int, deterministic: bool
) -> bool:
    name = "returns-deterministic.npz" if deterministic else "returns.npz"
    try:
        found = Returns.load(folder / name)
    except UNREADABLE:
        return False
    return (found.num_updates, *found.returns.shape) == (num_updates, members, episodes)
