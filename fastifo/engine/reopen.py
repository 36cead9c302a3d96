"""Opening run folders: a run to use, or the files of a run to continue."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastifo import algos
from fastifo.algos.config import from_json, to_json
from fastifo.algos.learner import InputSpec, Learner
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.metrics import MetricsFile
from fastifo.engine.population import Member
from fastifo.engine.run import Run
from fastifo.engine.run_folder import open_folder, refuse_occupied
from fastifo.utils.ambient import standard_torch
from fastifo.utils.devices import choose_device
from fastifo.utils.files import sweep
from fastifo.utils.folders import as_path
from fastifo.utils.locks import folder_lock

SAME_RUN_KEYS = (  # in which two configs of the same run agree
    "format",
    "algorithm",
    "members",
    "precision",
    "env_id",
    "env_kwargs",
    "action_bounds",
    "datasets",
)


@dataclass(frozen=True)
class RunFiles:
    """What a run writes while it trains; without a folder nothing is written."""

    metrics: MetricsFile  # metrics.jsonl
    checkpoints: Checkpoints | None  # None without a folder


@standard_torch()
def open_run(path: str | Path, device: str = "cpu") -> Run:
    """Opens a run folder with the weights of its newest checkpoint.

    path: the folder that `fastifo.train(out=...)` or `Run.save` wrote.
    device: cpu (default), cuda or auto (a GPU if there is one).

    Returns the run. Its policies act and can be evaluated; to train on, call `fastifo.train` with
    the same folder.
    Raises FileNotFoundError if the folder holds no run or a file is missing; ValueError naming the
    file that is damaged, incomplete or from a newer version.
    """
    folder = as_path(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder}: no run here (no config.json)")
    content, checkpoints = open_folder(folder)
    name = content["algorithm"]
    if name not in algos.ALGORITHMS:
        raise ValueError(
            f"{folder}: its algorithm {name!r} is unknown here; if it is your own, call "
            f"fastifo.register({name!r}, its class) first"
        )
    run_device = choose_device(device)
    try:
        run = _run_of(content, folder, run_device)
    except (TypeError, RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"{folder}/config.json: describes no run: {error}") from None
    _load_weights(run, checkpoints)
    return run


def members_of(content: dict[str, Any]) -> list[Member]:
    """The members that a config describes."""
    backbone = content["members"][0]["config"].get("backbone")
    learner_class = algos.find(content["algorithm"], backbone)
    return [
        Member(
            entry["seed"], from_json(learner_class.Config, entry["config"]), entry.get("dataset", 0)
        )
        for entry in content["members"]
    ]


def _run_of(content: dict[str, Any], folder: Path, device: torch.device) -> Run:
    """The run that a config describes, with initial weights."""
    bounds = content["action_bounds"]
    low, high = (
        None if bounds[k] is None else torch.tensor(bounds[k], dtype=torch.float32)
        for k in ("low", "high")
    )
    reference = content.get("reference_returns")  # missing in older folders, as are others below
    run = Run(
        algorithm=content["algorithm"],
        members=members_of(content),
        num_updates=content["num_updates"],
        precision=content["precision"],
        spec=InputSpec(
            content["obs_dim"],
            content["action_dim"],
            images=tuple(tuple(each) for each in content.get("images", ())),
        ),
        env_id=content["env_id"],
        action_low=low,
        action_high=high,
        datasets=content["datasets"],
        env_kwargs=content.get("env_kwargs", {}),
        given_env_kwargs=content.get("given_env_kwargs"),
        reference_returns=None if reference is None else (float(reference[0]), float(reference[1])),
        obs_keys=tuple(content.get("obs_keys", ())),
        failed={int(member): update for member, update in content["failed"].items()},
        path=folder,
        device=device,
    )
    run.build_learners()
    return run


def _keep_env(run: Run, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Gives the run the environment that the folder records, as `Run.evaluate` may have changed it.

    A call that names other settings than the earlier one keeps them, so that the configs differ.
    old, new: the configs of the folder and of this call; `new` gets what the run gets.
    """
    given, recorded = old.get("given_env_kwargs"), old.get("env_kwargs", {})
    if new["env_id"] is None:
        run.env_id = new["env_id"] = old["env_id"]
    elif given is None:  # a folder of an earlier version
        old["env_kwargs"] = new["env_kwargs"]
        return
    elif new["env_kwargs"] not in (given, recorded):
        return
    if run.env is not None:
        stated = new["env_kwargs"]
        changed = {k: v for k, v in recorded.items() if k not in stated or stated[k] != v}
        run.env = dataclasses.replace(run.env, kwargs={**run.env.kwargs, **changed})
    run.env_kwargs = old["env_kwargs"] = new["env_kwargs"] = recorded
    run.given_env_kwargs = given


def _with_defaults(run: Run, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Members of a folder, with the defaults of fields that did not exist when it was written."""
    config = type(run.members[0].config)
    defaults = json.loads(json.dumps(to_json(config())))
    return [entry | {"config": defaults | entry["config"]} for entry in entries]


def _load_weights(run: Run, checkpoints: Checkpoints) -> None:
    for group, learner in zip(run.groups, run.learners, strict=True):
        diverged = all(member in run.failed for member in group.members)
        if _load(checkpoints, f"{group.index}-train", learner) is None and not diverged:
            raise FileNotFoundError(f"{checkpoints.folder}: no weights of population {group.index}")


def _load(checkpoints: Checkpoints, key: str, learner: Learner) -> object:
    """Loads a state; again from the new manifest if a process that trains has just replaced it."""
    try:
        return checkpoints.load(key, learner)
    except FileNotFoundError:
        newer = Checkpoints(checkpoints.folder)
        if newer.entries.get(key) == checkpoints.entries.get(key):
            raise
        return newer.load(key, learner)


@contextlib.contextmanager
def locked_files(run: Run, resume: bool, *, relabel_only: bool = False) -> Iterator[RunFiles]:
    """`open_files`, in a block during which no other process writes to the run's folder.

    Raises BlockingIOError naming the process that does.
    """
    if run.path is None:
        yield open_files(run, resume, relabel_only=relabel_only)
        return
    if run.path.exists() and not run.path.is_dir():
        refuse_occupied(run.path)
    with folder_lock(run.path):
        yield open_files(run, resume, relabel_only=relabel_only)


def open_files(run: Run, resume: bool, *, relabel_only: bool = False) -> RunFiles:
    """Creates the run's folder, or opens it if it holds the same run, and writes `config.json`.

    The metrics file is cut back to the last checkpoint.
    resume: whether to continue a run that the folder holds.
    relabel_only: only pre-training stages run; the config of a run in the folder is left as it is.
    Raises ValueError if the folder holds something else, or more updates than the run asks for.
    """
    if run.path is None:
        return RunFiles(MetricsFile(None, 0), None)
    checkpoints = _open_checkpoints(run, run.path, resume, relabel_only)
    sweep(run.path)
    checkpoints.sweep()
    return RunFiles(MetricsFile(run.path / "metrics.jsonl", checkpoints.metrics_bytes), checkpoints)


def _open_checkpoints(run: Run, folder: Path, resume: bool, relabel_only: bool) -> Checkpoints:
    if not (folder / "config.json").exists() or not resume:
        refuse_occupied(folder)
        checkpoints = Checkpoints(folder / "checkpoint")
        checkpoints.write_config(run.to_json())
        return checkpoints
    old, checkpoints = open_folder(folder)
    checkpoints.check_metrics()
    new = json.loads(json.dumps(run.to_json()))
    old = old | {"members": _with_defaults(run, old["members"])}
    _keep_env(run, old, new)
    differing = [name for name in SAME_RUN_KEYS if old.get(name) != new[name]]
    if differing:
        is_env = {*differing} <= {"env_id", "env_kwargs"}
        hint = ", or correct it with `fastifo evaluate --env-id --env-arg`" if is_env else ""
        raise ValueError(
            f"{folder}: holds another run (it differs in {', '.join(differing)}); choose another "
            f"folder{hint}"
        )
    run.failed.update({int(member): update for member, update in old["failed"].items()})
    run.failed.update(checkpoints.failed)  # a run that was killed has them only here
    run.notes.update(old.get("notes", {}))
    if relabel_only:
        return checkpoints
    done = max((checkpoints.num_updates(f"{group.index}-train") for group in run.groups), default=0)
    if done > run.num_updates:
        raise ValueError(
            f"{folder}: already trained for {done} updates, num_updates is {run.num_updates}; "
            "raise num_updates, or choose another folder"
        )
    checkpoints.write_config(run.to_json())
    return checkpoints
