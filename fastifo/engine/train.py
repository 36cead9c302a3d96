"""`fastifo.train`: the whole job from a dataset to a run."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from fastifo import algos
from fastifo.algos.config import to_json
from fastifo.algos.learner import Learner
from fastifo.algos.rewards.base import Rewards
from fastifo.data.dataset import Dataset
from fastifo.data.stack import stacked
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.loop import Callback, Stage, run_stage
from fastifo.engine.metrics import MetricsFile
from fastifo.engine.native_engine import choose_engine
from fastifo.engine.population import Group
from fastifo.engine.run import Run
from fastifo.engine.setup import create_run, given_fields, open_folder
from fastifo.engine.stages import PopulationTrainer, make_engine, needs_of, say_torch
from fastifo.utils.devices import tf32

DatasetLike = Dataset | str | Path | Callable[[], Dataset]
DEFAULT_NUM_UPDATES = 100_000  # the paper trains 1e6; the gain seen here is there by 1e5


def train(
    algorithm: str,
    dataset: DatasetLike | Sequence[DatasetLike],
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
    "sibench:Hopper-v4/d=5", or a function that makes one, called when all else is right; of
    several, which must be of one task, each gets members of its own.  seeds: of the weights and
    batches, one member each.  num_updates: 100,000 unless given.  preset: published settings, see
    `fastifo.algos.presets`.  device: auto | cpu | cuda.  precision: auto | fp32 | fp32x (two
    bfloat16 parts) | tf32 | bf16 | fp64.  engine: auto, torch or native, which trains whole
    updates in compiled code on the CPU; auto takes it where it can.  fused: the compiled ops;
    False: their references, which train the same up to rounding.  out: the run folder; without
    one nothing is written.  resume: continue what the folder holds.  callbacks: called as (run, update, members)
    every `callback.every` updates, such as `fastifo.callbacks.EvaluateEvery`.  log_every,
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
    algorithm, fields = given_fields(algorithm, preset, overrides)
    run, datasets = create_run(
        algorithm, dataset, fields, seeds, total, device, precision, out, fused, progress
    )
    run.engine = _choose(engine, run, progress)
    for callback in callbacks:
        getattr(callback, "check", lambda run: None)(run)
    path = run.path
    checkpoints = None if path is None else open_folder(run, path, resume)
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
    dataset: DatasetLike,
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
    algorithm, fields = given_fields(algorithm, preset, overrides)
    learner_class = algos.find(algorithm, fields.get("backbone"))
    if not issubclass(learner_class, Rewards):
        raise ValueError(f"relabel: {algorithm} makes no rewards; expected tge, seabo or otr")
    run, (own,) = create_run(
        algorithm, dataset, fields, (seed,), 1, device, precision, out, True, progress, trains=False
    )
    if len(run.members) > 1:
        raise ValueError("relabel: expected one value of each field, found a sweep")
    checkpoints = None if run.path is None else open_folder(run, run.path, True, trains=False)
    torch.set_flush_denormal(True)
    (group,) = run.groups
    metrics = _metrics(run, checkpoints)
    stage = _stage(run, group, metrics, checkpoints, log_every, checkpoint_every, progress)
    with tf32(run.precision == "tf32"):
        found = learner_class.relabel(own, group.configs, PopulationTrainer(run, group, stage))
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


def _train_group(run: Run, group: Group, learner: Learner, dataset: Dataset, stage: Stage) -> None:
    """The stages of one population."""
    saved = stage.checkpoints
    is_done = saved is not None and saved.num_updates(stage.key) == run.num_updates
    if saved is not None and is_done and not saved.owes_callbacks(stage.key):
        saved.load(stage.key, learner)
        return

    prepared = type(learner).prepare(dataset, group.configs, PopulationTrainer(run, group, stage))
    needs = needs_of(type(learner), group.configs)
    run_stage(stage, learner, make_engine(run, learner, prepared, needs, "train"))
