"""From arguments to a run before its first update; every argument that can be refused is checked.

`resolve_settings` checks what does not depend on the data, `create_run` loads the data and checks
the rest. Training itself is in `train.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastifo import algos
from fastifo.algos.config import check_names
from fastifo.algos.learner import InputSpec, Learner
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from fastifo.data.load import NO_ENV, load
from fastifo.data.stack import check_compatible
from fastifo.engine.options import TrainOptions
from fastifo.engine.population import Member, make_members
from fastifo.engine.run import Run
from fastifo.envs.checks import check_env
from fastifo.envs.spec import EnvSpec, as_spec
from fastifo.utils.devices import choose_device, choose_precision
from fastifo.utils.parallel import one_thread
from fastifo.utils.progress import say

DatasetLike = Dataset | str | Path | Callable[[], Dataset]


def given_fields(
    algorithm: str | type[Learner],
    preset: str,
    overrides: dict[str, Any],
    arguments: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """The algorithm's name without a backbone suffix, and the config fields that were set.

    Values in `overrides` take precedence over those of the preset.
    arguments: names of the caller's other arguments, which a misspelt field may mean.
    Raises TypeError for an unknown field, and what `algos.name_of` and `algos.find` raise.
    """
    name, backbone = algos.split(algos.name_of(algorithm))
    given = backbone | overrides
    check_names(algos.find(name, given.get("backbone")).Config, overrides, name, arguments)
    return name, preset_fields(name, preset, given.get("backbone")) | given


@dataclass(frozen=True)
class Settings:
    """Arguments of a run that are valid whatever the data are."""

    algorithm: str  # without backbone, which is a config field
    learner_class: type[Learner]  # of the algorithm and its backbone
    members: list[Member]  # every seed with every combination of values
    device: torch.device  # resolved, never auto
    precision: str  # resolved, never auto

    def check_data(self, dataset: Dataset, *, relabel_only: bool = False) -> None:
        """Raises ValueError if the method cannot learn from the dataset.

        relabel_only: check only what the stages before the last one need.
        """
        for config in {member.config: None for member in self.members}:
            self.learner_class.check_data(dataset, config, self.device, relabel_only=relabel_only)


def resolve_settings(
    algorithm: str,
    fields: dict[str, Any],
    seeds: Sequence[int] = (0,),
    num_datasets: int = 1,
    device: str = "auto",
    precision: str = "auto",
) -> Settings:
    """Checks every argument that does not depend on the content of the data.

    algorithm, fields: as `given_fields` returns them.
    The others are those of `fastifo.train`.
    Raises TypeError or ValueError naming the argument that is wrong.
    """
    learner_class = algos.find(algorithm, fields.get("backbone"))
    members = make_members(algorithm, learner_class.Config, seeds, fields, num_datasets)
    return settings_of_members(algorithm, members, num_datasets, device, precision)


def settings_of_members(
    algorithm: str,
    members: list[Member],
    num_datasets: int = 1,
    device: str = "auto",
    precision: str = "auto",
) -> Settings:
    """As `resolve_settings`, for members that need not be a product of fields and seeds.

    They share all fields of a kind other than float, or at least the backbone.
    """
    learner_class = algos.find(algorithm, getattr(members[0].config, "backbone", None))
    run_device = choose_device(device)
    precision = choose_precision(precision, run_device)
    for config in {member.config: None for member in members}:
        learner_class.check_config(config, run_device)
    standardizes = any(member.config.standardize_obs for member in members)
    if num_datasets > 1 and standardizes:
        raise ValueError(
            "standardize_obs: each dataset has its own mean and deviation; train them one by one"
        )
    if num_datasets > 1 and learner_class.one_dataset:
        raise ValueError(
            f"{algorithm}: expected one dataset per run, found {num_datasets}; train them one by "
            "one"
        )
    return Settings(algorithm, learner_class, members, run_device, precision)


def create_run(
    algorithm: str,
    dataset: DatasetLike | Sequence[DatasetLike],
    fields: dict[str, Any],
    options: TrainOptions,
    *,
    relabel_only: bool = False,
) -> tuple[Run, list[Dataset]]:
    """Checks all arguments, loads the data and builds the run; writes nothing.

    relabel_only: do not require of the data what only the last stage needs.
    Raises TypeError, ValueError, FileNotFoundError or OSError naming what is wrong.
    """
    given = as_datasets(dataset)
    settings = resolve_settings(
        algorithm, fields, options.seeds, len(given), options.device, options.precision
    )
    return run_of_settings(settings, given, options, relabel_only=relabel_only)


def as_datasets(dataset: DatasetLike | Sequence[DatasetLike]) -> list[DatasetLike]:
    """One or several datasets as a list.  Raises TypeError or ValueError for anything else."""
    given: list[Any] = [*dataset] if isinstance(dataset, list | tuple) else [dataset]
    if not given:
        raise ValueError("dataset: expected one or more, found none")
    for each in given:
        if not isinstance(each, Dataset | str | Path) and not callable(each):
            raise TypeError(
                f"dataset: expected a Dataset, a file's path or a spec, found {type(each).__name__}"
            )
    return given


def run_of_settings(
    settings: Settings,
    given: Sequence[DatasetLike],
    options: TrainOptions,
    *,
    relabel_only: bool = False,
) -> tuple[Run, list[Dataset]]:
    """Loads and checks the data and builds the run; see `create_run`."""
    datasets = [_load(each, options.progress) for each in given]
    for each in datasets:
        settings.check_data(each, relabel_only=relabel_only)
        each.verify()
    check_compatible(datasets)
    env = None if relabel_only else choose_env(datasets[0], options.env, options.env_kwargs)
    notes = [] if env is None else env_notes(env, datasets[0])
    if options.progress:
        report_notes(datasets, notes)
    return _build_run(settings, datasets, options, env), datasets


def choose_env(
    dataset: Dataset, env: Any = None, env_kwargs: Mapping[str, Any] | None = None
) -> EnvSpec | None:
    """The environment that the user names, or else the dataset; None for neither or "none"."""
    named = dataset.env_id if env is None else env
    if named is None or named == NO_ENV:
        if env_kwargs:
            raise ValueError("env_kwargs: expected an environment too, found none; pass env=")
        return None
    return as_spec(
        named,
        kwargs=env_kwargs,
        settings=dataset.env_kwargs,
        obs_keys=dataset.obs_keys,
        is_trusted=env is not None,
    )


def env_notes(env: EnvSpec, dataset: Dataset) -> list[str]:
    """Checks an environment before any training.  Returns what the user should know of it.

    A package that is missing is no error unless the user named the environment: the run can be
    evaluated elsewhere.
    Raises ValueError, TypeError or ImportError if policies could not be evaluated in it.
    """
    sizes = (dataset.obs_dim, dataset.action_dim)
    try:
        info = check_env(env, *sizes, dataset.action_low, dataset.action_high, dataset.cameras)
    except ImportError as error:
        if env.is_trusted:
            raise
        return [f"{env.id} cannot be played here: {error}"]
    except ValueError as error:
        raise ValueError(f"env_id: {error}; pass 'none' to train without an environment") from None
    if not info.unused:
        return []
    library = "EnvPool" if "envpool" in info.versions else "its library"
    return [f"settings of {env.id} that {library} does not know: {', '.join(info.unused)}"]


def _load(dataset: DatasetLike, progress: bool) -> Dataset:
    if isinstance(dataset, Dataset):
        return dataset
    loaded = load(dataset, progress=progress) if isinstance(dataset, str | Path) else dataset()
    if not isinstance(loaded, Dataset):
        raise TypeError(
            "dataset: expected a function that returns a Dataset, found one that returns "
            f"{type(loaded).__name__}"
        )
    return loaded


def report_notes(datasets: Sequence[Dataset], further: Sequence[str] = ()) -> None:
    """Prints what was changed when the data were read, and further notes, each once."""
    lines = [line for dataset in datasets for line in dataset.notes()] + list(further)
    for line in dict.fromkeys(lines):
        say(f"data  {line}")


def _build_run(
    settings: Settings, datasets: Sequence[Dataset], options: TrainOptions, env: EnvSpec | None
) -> Run:
    dataset = datasets[0]
    mean, std = _obs_statistics(settings, dataset)
    env_kwargs = dict(dataset.env_kwargs) if env is None else {**env.settings, **env.kwargs}
    run = Run(
        algorithm=settings.algorithm,
        members=settings.members,
        num_updates=options.num_updates,
        precision=settings.precision,
        spec=InputSpec(dataset.obs_dim, dataset.action_dim, mean, std, dataset.cameras),
        env_id=None if env is None else env.id,
        action_low=dataset.action_low,
        action_high=dataset.action_high,
        datasets=[_describe(each) for each in datasets],
        env_kwargs=env_kwargs,
        given_env_kwargs=env_kwargs,
        reference_returns=dataset.reference_returns,
        obs_keys=dataset.obs_keys,
        env=env,
        path=options.folder,
        device=settings.device,
        fused=options.fused,
    )
    run.build_learners()
    return run


def _obs_statistics(settings: Settings, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Mean and deviation that standardise observations, [D] each.

    Raises ValueError if members would need different ones.
    """
    configs = {member.config: None for member in settings.members}
    episodes = {
        id(each): each
        for each in (settings.learner_class.standardizing_episodes(dataset, c) for c in configs)
    }
    with one_thread():
        statistics = [each.obs_statistics() for each in episodes.values()]
    mean, std = statistics[0]
    if not all(torch.equal(mean, m) and torch.equal(std, s) for m, s in statistics):
        raise ValueError(
            "standardize_obs: members learn from different episodes, which have different means "
            "and deviations; train them one by one"
        )
    return mean, std


def _describe(dataset: Dataset) -> dict[str, Any]:
    """What `config.json` keeps of a dataset: its identity and the numbers that a report needs."""
    returns = dataset.background.returns()
    description: dict[str, Any] = {
        "fingerprint": dataset.fingerprint(),
        "num_background_episodes": dataset.background.num_episodes,
        "num_expert_episodes": 0 if dataset.expert is None else dataset.expert.num_episodes,
        "info": dict(dataset.info),
    }
    if returns is not None:
        description["background_returns"] = [round(float(value), 3) for value in returns]
    if dataset.background.success is not None:
        description["background_success"] = float(dataset.background.success.double().mean())
    return description
