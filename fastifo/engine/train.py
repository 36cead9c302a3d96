"""`fastifo.train`: the whole job from a dataset to a run."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastifo import algos
from fastifo.algos.rewards import Rewards
from fastifo.config import to_json
from fastifo.data.dataset import Dataset
from fastifo.data.stack import check_together, stacked
from fastifo.devices import choose_device, choose_precision, tf32
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.fit import StageFit, make_engine, needs_of, say_torch
from fastifo.engine.log import MetricsFile
from fastifo.engine.loop import Callback, Stage, run_stage
from fastifo.engine.native import choose_engine
from fastifo.engine.population import Group, Member, make_members
from fastifo.engine.run import Run, read_config, refuse_occupied
from fastifo.jobs import one_thread
from fastifo.learner import Learner, Spec
from fastifo.recipes import fields_of
from fastifo.specs import load

DEFAULT_NUM_UPDATES = 100_000  # the paper trains 1e6; the gain seen here is there by 1e5


def train(
    algorithm: str,
    dataset: Dataset | str | Path | Sequence[Dataset | str | Path],
    *,
    num_updates: int | None = None,
    seeds: int | Sequence[int] = (0,),
    preset: str = "vfo",
    device: str = "auto",
    precision: str = "auto",
    engine: str = "auto",
    fused: bool = True,
    out: str | Path | None = None,
    resume: bool = True,
    callbacks: Sequence[Callback] = (),
    log_every: int = 500,
    checkpoint_every: int = 5000,
    progress: bool = True,
    **overrides: Any,
) -> Run:
    """Trains one policy per seed and per value of a swept field, together where shapes allow.

    algorithm: a name in `fastifo.algos.ALGORITHMS`.  dataset: a Dataset, a file or a spec such as
    "sibench:Hopper-v4/d=5"; of several, which must be of one task, each gets members of its own.
    seeds: of the weights and batches, one member each.  num_updates: 100,000 unless given.  preset:
    published settings, see `fastifo.recipes`.  device: auto | cpu | cuda.  precision: auto | fp32 |
    fp32x (two bfloat16 parts) | tf32 | bf16 | fp64.  engine: auto, torch or native, which trains
    whole updates in compiled code on the CPU; auto takes it where it can.  fused: the compiled ops;
    False: their references, which train the same up to rounding.  out: the run folder; without one
    nothing is written.  resume: continue what the folder holds.  callbacks: called as (run, update,
    members) every `callback.every` updates, such as `fastifo.callbacks.EvaluateEvery`.  log_every,
    checkpoint_every: in updates.  progress: a bar, or plain lines where there is no terminal.
    overrides: the algorithm's fields; a list gives one member per value.
    Ctrl-C ends with a checkpoint in `out` and KeyboardInterrupt.
    Raises TypeError, ValueError, FileNotFoundError or OSError before training where an argument,
    the dataset or the folder is wrong; FloatingPointError when every member diverged.
    """
    total = DEFAULT_NUM_UPDATES if num_updates is None else num_updates
    counts = {"num_updates": total, "log_every": log_every, "checkpoint_every": checkpoint_every}
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}: expected an integer of at least 1, found {count!r}")
    algorithm, fields = _fields(algorithm, preset, overrides)
    run, datasets = _begin(
        algorithm, dataset, fields, seeds, total, device, precision, out, fused, progress
    )
    run.engine = _choose(engine, run, progress)
    for callback in callbacks:
        getattr(callback, "check", lambda run: None)(run)
    path = run.path
    checkpoints = None if path is None else _open_folder(run, path, resume)
    metrics = _metrics(run, checkpoints)
    torch.set_flush_denormal(True)  # subnormal numbers are slow and never matter here
    for group, learner in zip(run.groups, run.learners, strict=True):
        stage = _stage(
            run, group, metrics, checkpoints, log_every, checkpoint_every, progress, callbacks
        )
        with tf32(run.precision == "tf32"):
            _train_group(run, group, learner, stacked(datasets, group.datasets), stage)
    if path is not None:
        run.write_config(path)
    if len(run.failed) == len(run.members):
        raise FloatingPointError(
            f"{algorithm}: no member's losses are finite; lower learning_rate, or raise temperature"
        )
    return run


def relabel(
    algorithm: str,
    dataset: Dataset | str | Path,
    *,
    seed: int = 0,
    preset: str = "vfo",
    device: str = "auto",
    precision: str = "auto",
    out: str | Path | None = None,
    log_every: int = 500,
    checkpoint_every: int = 5000,
    progress: bool = True,
    **overrides: Any,
) -> Dataset:
    """The dataset with the rewards that a method makes for its background, float32 [N]: tge, seabo
    or otr.

    What learns from them may then be anything; `Dataset.save` and `Dataset.save_d4rl` write files
    of it.  They are as the method makes them, before its learner scales them.  out: a folder that
    keeps the method's own model, from which a second call goes on.  The rest, and what is raised:
    as in `train`.
    """
    algorithm, fields = _fields(algorithm, preset, overrides)
    learner_class = algos.find(algorithm, fields.get("backbone"))
    if not issubclass(learner_class, Rewards):
        raise ValueError(f"relabel: {algorithm} makes no rewards; expected tge, seabo or otr")
    run, (own,) = _begin(
        algorithm, dataset, fields, (seed,), 1, device, precision, out, True, progress, trains=False
    )
    if len(run.members) > 1:
        raise ValueError("relabel: expected one value of each field, found a sweep")
    checkpoints = None if run.path is None else _open_folder(run, run.path, True, trains=False)
    torch.set_flush_denormal(True)
    (group,) = run.groups
    metrics = _metrics(run, checkpoints)
    stage = _stage(run, group, metrics, checkpoints, log_every, checkpoint_every, progress)
    with tf32(run.precision == "tf32"):
        found = learner_class.relabel(own, group.configs, StageFit(run, group, stage))
    reward = found.background.reward
    assert reward is not None
    if run.failed:
        raise FloatingPointError(
            f"{algorithm}: its model's losses are not finite; lower its learning rate"
        )
    background = dataclasses.replace(own.background, reward=reward[0].float())
    spec = {"algorithm": algorithm, "seed": seed} | to_json(group.configs[0])
    return dataclasses.replace(
        own, background=background, info={**own.info, "rewards": spec}, unverified=()
    )


def _fields(algorithm: str, preset: str, overrides: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The algorithm without its backbone, and the fields that preset and caller set."""
    name, backbone = algos.split(algorithm)
    given = backbone | overrides
    return name, fields_of(name, preset, given.get("backbone")) | given


def _begin(
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
    learner_class = algos.find(algorithm, fields.get("backbone"))
    given: list[Any] = [*dataset] if isinstance(dataset, list | tuple) else [dataset]
    if not given:
        raise ValueError("dataset: expected one or more, found none")
    for each in given:
        if not isinstance(each, Dataset | str | Path):
            found = type(each).__name__
            raise TypeError(f"dataset: expected a Dataset, a file's path or a spec, found {found}")
    members = make_members(algorithm, learner_class.Config, seeds, fields, len(given))
    place = choose_device(device)
    precision = choose_precision(precision, place)
    datasets = [x if isinstance(x, Dataset) else load(x, progress=progress) for x in given]
    for each in datasets:
        learner_class.check(each)
        for config in {member.config: None for member in members}:
            learner_class.check_fields(each, config, place)
            if trains:
                learner_class.check_training(each, config)
        each.verify()
    check_together(datasets)
    standardizes = any(member.config.standardize_obs for member in members)
    if len(datasets) > 1 and (standardizes or learner_class.one_dataset):
        reason = "standardize_obs" if standardizes else algorithm
        raise ValueError(
            f"{reason}: several datasets in one run have each their own mean and deviation; "
            "train them one by one"
        )
    path = None if out is None else Path(out)
    run = _make_run(algorithm, members, num_updates, precision, datasets, path, place, fused)
    return run, datasets


def _metrics(run: Run, checkpoints: Checkpoints | None) -> MetricsFile:
    """The run's log, cut back to what its last checkpoint knows."""
    if run.path is None or checkpoints is None:
        return MetricsFile(None, 0)
    return MetricsFile(run.path / "metrics.jsonl", checkpoints.metrics_bytes)


def _stage(
    run: Run,
    group: Group,
    metrics: MetricsFile,
    checkpoints: Checkpoints | None,
    log_every: int,
    checkpoint_every: int,
    progress: bool,
    callbacks: Sequence[Callback] = (),
) -> Stage:
    """The last stage of one population."""
    return Stage(
        key=f"{group.index}-train",
        title=run.algorithm,
        members=group.members,
        num_updates=run.num_updates,
        metrics=metrics,
        checkpoints=checkpoints,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        progress=progress,
        describe=run.describe,
        callbacks=callbacks,
        run=run,
        failed=run.failed,
    )


def _choose(engine: str, run: Run, progress: bool) -> str:
    """The engine of every population: torch where one of them needs it."""
    chosen = [choose_engine(engine, learner) for learner in run.learners]
    if all(name == "native" for name, _ in chosen):
        return "native"
    if engine == "auto" and progress and run.device.type == "cpu":
        reason = next(reason for _, reason in chosen if reason)
        say_torch(run.algorithm, reason)
    return "torch"


def _make_run(
    algorithm: str,
    members: list[Member],
    num_updates: int,
    precision: str,
    datasets: Sequence[Dataset],
    path: Path | None,
    device: torch.device,
    fused: bool,
) -> Run:
    """The run before its first update."""
    dataset = datasets[0]
    obs = dataset.background.obs
    with one_thread():
        std, mean = torch.std_mean(obs, dim=0, correction=0)
    run = Run(
        algorithm=algorithm,
        members=members,
        num_updates=num_updates,
        precision=precision,
        spec=Spec(dataset.obs_dim, dataset.action_dim, mean, std),
        env_id=dataset.env_id,
        action_low=dataset.action_low,
        action_high=dataset.action_high,
        datasets=[_describe(each) for each in datasets],
        path=path,
        device=device,
        fused=fused,
    )
    run.build_learners()
    return run


def _train_group(run: Run, group: Group, learner: Learner, dataset: Dataset, stage: Stage) -> None:
    """The stages of one population."""
    saved = stage.checkpoints
    is_done = saved is not None and saved.num_updates(stage.key) == run.num_updates
    if saved is not None and is_done and not saved.owes_callbacks(stage.key):
        saved.load(stage.key, learner)
        return

    prepared = type(learner).prepare(dataset, group.configs, StageFit(run, group, stage))
    needs = needs_of(type(learner), group.configs)
    run_stage(stage, learner, make_engine(run, learner, prepared, needs, "train"))


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


def _open_folder(run: Run, folder: Path, resume: bool, *, trains: bool = True) -> Checkpoints:
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
