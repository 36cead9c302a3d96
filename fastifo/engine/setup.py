"""What comes before the first update: everything that can be refused is refused here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastifo import algos
from fastifo.algos.learner import InputSpec, Learner
from fastifo.algos.presets import preset_fields
from fastifo.data.dataset import Dataset
from fastifo.data.load import load
from fastifo.data.stack import check_together
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.population import Member, make_members
from fastifo.engine.run import Run, read_config, refuse_occupied
from fastifo.utils.devices import choose_device, choose_precision
from fastifo.utils.parallel import one_thread


def given_fields(
    algorithm: str, preset: str, overrides: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The algorithm without its backbone, and the fields that preset and caller set."""
    name, backbone = algos.split(algorithm)
    given = backbone | overrides
    return name, preset_fields(name, preset, given.get("backbone")) | given


@dataclass(frozen=True)
class Settings:
    """What is asked for, found possible before data is read or made."""

    algorithm: str
    learner_class: type[Learner]
    members: list[Member]
    device: torch.device
    precision: str

    def check_data(self, dataset: Dataset, *, trains: bool = True) -> None:
        """Raises ValueError where the method cannot learn from it.  trains: see `create_run`."""
        for config in {member.config: None for member in self.members}:
            self.learner_class.check_data(dataset, config, self.device, relabel_only=not trains)


def resolve_settings(
    algorithm: str,
    fields: dict[str, Any],
    seeds: int | Sequence[int] = (0,),
    num_datasets: int = 1,
    device: str = "auto",
    precision: str = "auto",
) -> Settings:
    """Raises TypeError or ValueError naming the argument that is wrong whatever the data are."""
    learner_class = algos.find(algorithm, fields.get("backbone"))
    members = make_members(algorithm, learner_class.Config, seeds, fields, num_datasets)
    place = choose_device(device)
    precision = choose_precision(precision, place)
    for config in {member.config: None for member in members}:
        learner_class.check_config(config, place)
    standardizes = any(member.config.standardize_obs for member in members)
    if num_datasets > 1 and (standardizes or learner_class.one_dataset):
        reason = "standardize_obs" if standardizes else algorithm
        raise ValueError(
            f"{reason}: several datasets in one run have each their own mean and deviation; "
            "train them one by one"
        )
    return Settings(algorithm, learner_class, members, place, precision)


def create_run(
    algorithm: str,
    dataset: Any,
    fields: dict[str, Any],
    seeds: int | Sequence[int],
    num_updates: int,
    device: str,
    precision: str,
    out: str | Path | None,
    fused: bool,
    progress: bool,
    *,
    trains: bool = True,
) -> tuple[Run, list[Dataset]]:
    """The run before its first update, and its data.  Everything that can be refused is here.

    trains: False asks nothing of the data that the last stage alone needs.
    """
    given: list[Any] = [*dataset] if isinstance(dataset, list | tuple) else [dataset]
    if not given:
        raise ValueError("dataset: expected one or more, found none")
    for each in given:
        if not isinstance(each, Dataset | str | Path) and not callable(each):
            found = type(each).__name__
            raise TypeError(f"dataset: expected a Dataset, a file's path or a spec, found {found}")
    settings = resolve_settings(algorithm, fields, seeds, len(given), device, precision)
    datasets = [_loaded(each, progress) for each in given]
    for each in datasets:
        settings.check_data(each, trains=trains)
        each.verify()
    check_together(datasets)
    path = None if out is None else Path(out)
    return _make_run(settings, num_updates, datasets, path, fused), datasets


def _loaded(given: Any, progress: bool) -> Dataset:
    if isinstance(given, Dataset):
        return given
    made = load(given, progress=progress) if isinstance(given, str | Path) else given()
    if not isinstance(made, Dataset):
        raise TypeError(
            f"dataset: expected a Dataset of that function, found {type(made).__name__}"
        )
    return made


def _make_run(
    settings: Settings,
    num_updates: int,
    datasets: Sequence[Dataset],
    path: Path | None,
    fused: bool,
) -> Run:
    """The run before its first update."""
    dataset = datasets[0]
    obs = dataset.background.obs
    with one_thread():
        std, mean = torch.std_mean(obs, dim=0, correction=0)
    run = Run(
        algorithm=settings.algorithm,
        members=settings.members,
        num_updates=num_updates,
        precision=settings.precision,
        spec=InputSpec(dataset.obs_dim, dataset.action_dim, mean, std),
        env_id=dataset.env_id,
        action_low=dataset.action_low,
        action_high=dataset.action_high,
        datasets=[_describe(each) for each in datasets],
        path=path,
        device=settings.device,
        fused=fused,
    )
    run.build_learners()
    return run


def _describe(dataset: Dataset) -> dict[str, Any]:
    """What config.json keeps of the data: identity and the numbers a report needs."""
    returns = dataset.background.returns()
    description: dict[str, Any] = {
        "fingerprint": dataset.fingerprint(),
        "num_background_episodes": dataset.background.num_episodes,
        "num_expert_episodes": 0 if dataset.expert is None else dataset.expert.num_episodes,
        "info": dict(dataset.info),
    }
    if returns is not None:
        description["background_returns"] = [round(float(value), 3) for value in returns]
    return description


def open_folder(run: Run, folder: Path, resume: bool, *, trains: bool = True) -> Checkpoints:
    """The folder's checkpoints, once it is known to be new or to hold this very run.

    trains: False looks at the stages before the last and leaves a run's config as it is.
    """
    if not (folder / "config.json").exists() or not resume:
        refuse_occupied(folder)
        run.write_config(folder)
        return Checkpoints(folder / "checkpoint")
    found, mine = read_config(folder), json.loads(json.dumps(run.to_json()))
    same = ("format", "algorithm", "members", "precision", "env_id", "action_bounds", "datasets")
    differing = [name for name in same if found.get(name) != mine[name]]
    if differing:
        raise ValueError(
            f"{folder}: holds another run (it differs in {', '.join(differing)}); choose another "
            "folder"
        )
    checkpoints = Checkpoints(folder / "checkpoint")
    run.failed.update({int(member): update for member, update in found["failed"].items()})
    run.failed.update(checkpoints.failed)  # a run that was killed has them here alone
    run.notes.update(found.get("notes", {}))
    if not trains:
        return checkpoints
    done = max((checkpoints.num_updates(f"{group.index}-train") for group in run.groups), default=0)
    if done > run.num_updates:
        raise ValueError(
            f"{folder}: holds {done} updates already, num_updates asks for {run.num_updates}; "
            "ask for at least as many, or choose another folder"
        )
    run.write_config(folder)
    return checkpoints
