"""`fastifo.train` and `fastifo.relabel`: from a dataset to a run, or to rewards.

Both functions are longer than 50 lines because their docstrings are the reference of the API.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastifo import algos
from fastifo.algos.config import to_json
from fastifo.algos.learner import Learner
from fastifo.algos.rewards.base import Rewards
from fastifo.data.dataset import Dataset
from fastifo.data.stack import stacked
from fastifo.engine.callbacks import Callback, started
from fastifo.engine.loop import Stage, run_stage
from fastifo.engine.native_engine import choose_engine
from fastifo.engine.options import TrainOptions
from fastifo.engine.pictures import write_sheets
from fastifo.engine.population import Group, Member
from fastifo.engine.reopen import RunFiles, locked_files
from fastifo.engine.repack import repack
from fastifo.engine.run import Run
from fastifo.engine.setup import (
    DatasetLike,
    create_run,
    given_fields,
    run_of_settings,
    settings_of_members,
)
from fastifo.engine.stages import (
    PopulationTrainer,
    batch_needs,
    last_stage,
    make_engine,
    report_fallback,
)
from fastifo.envs.kept import keep_environments
from fastifo.utils.ambient import standard_torch
from fastifo.utils.devices import tf32

NO_EVALUATION = (  # said instead of returns
    "not evaluated: the data name no environment; give one with `fastifo evaluate RUN --env-id "
    "Hopper-v4` or run.evaluate(env='Hopper-v4')"
)
TRAIN_ARGUMENTS = ("preset", *(field.name for field in dataclasses.fields(TrainOptions)))
RELABEL_ARGUMENTS = (
    "preset", "seed", "device", "precision", "out", "log_every", "checkpoint_every", "progress",
)  # fmt: skip
DEFAULT_NUM_UPDATES = 100_000  # the paper trains 1e6; we saw the same gains by 1e5


@standard_torch()
def train(
    algorithm: str | type[Learner],
    dataset: DatasetLike | Sequence[DatasetLike],
    *,
    num_updates: int | None = None,
    seeds: Sequence[int] = (0,),
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
    env: Any = None,
    env_kwargs: Mapping[str, Any] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Run:
    """Trains one policy per seed and swept value, together where network shapes are equal.

    algorithm: a name in `fastifo.algos.ALGORITHMS`, such as "vfo_disc" or "tge"; "tge-rebrac" sets
        the backbone too. Or a class derived from `fastifo.algos.learner.Learner`, which is
        registered under its `name`, see `fastifo.register`.
    dataset: a `Dataset`; a file or a spec such as "sibench:Hopper-v4/d=5" (see `fastifo.load`); or
        a function that returns a Dataset, called once all other arguments have been checked. With
        a list of datasets of one task, every dataset gets its own members.
    num_updates: updates of every member; default 100,000.
    seeds: one member per seed, integers in [0, 2**32); a seed sets initial weights and batches.
        Three seeds are `range(3)`; a single number is refused, because it could mean either.
    preset: published settings to start from, see `fastifo.algos.presets`; default "vfo".
    device: auto (a GPU if there is one), cpu or cuda.
    precision: auto, fp32, fp32x (products of two bfloat16 parts), tf32, bf16 or fp64.
    engine: auto, torch or native. native runs complete updates in compiled code on the CPU;
        auto chooses it where it supports the method and is faster. In the native engine, a member
        is bit-identical in any population; in torch, it differs by rounding.
    fused: use the compiled ops; False uses their torch references, equal up to rounding.
    out: the run folder: new, empty, or that of a run to resume; None (default) writes nothing.
    resume: continue the run in `out`; False requires a new or empty folder.
    callbacks: functions (run, update, members) to call during training, such as
        `fastifo.callbacks.EvaluateEvery` and `Log`; one that returns False stops it. See
        `fastifo.callbacks.Callback`.
    log_every: updates between rows of `metrics.jsonl`, which are means over the interval.
    checkpoint_every: updates between checkpoints in `out`.
    env, env_kwargs: the environment for evaluation and its settings, as in `Run.evaluate`; by
        default the dataset's. "none" means no environment. Its observation and action sizes and
        action bounds must match the data.
    progress: show a progress bar, or plain lines if the output is not a terminal.
    overrides: fields of the algorithm's config; a list gives one member per value, and lists and
        seeds combine as a product.

    Returns the `Run`. If a member's losses are not finite, a warning says so, `Run.failed` lists
    it, and the others continue.

    Ctrl-C and SIGTERM finish the current update, write a checkpoint to `out` and raise
    KeyboardInterrupt. Repeating the call resumes from that checkpoint; the result is bit-identical
    to that of an uninterrupted run. A larger `num_updates` continues a finished run.

    Raises, before training, TypeError or ValueError naming a wrong argument or what the dataset
    lacks, FileNotFoundError or OSError for files; FloatingPointError if every member diverged.
    """
    options = TrainOptions(
        num_updates=DEFAULT_NUM_UPDATES if num_updates is None else num_updates,
        seeds=seeds,
        device=device,
        precision=precision,
        engine=engine,
        fused=fused,
        out=out,
        resume=resume,
        callbacks=callbacks,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        env=env,
        env_kwargs=env_kwargs,
        progress=progress,
    )
    name, fields = given_fields(algorithm, preset, overrides, TRAIN_ARGUMENTS)
    run, datasets = create_run(name, dataset, fields, options)
    run.engine = _choose_engine(run, options)
    with keep_environments():  # for the evaluations of callbacks
        return _train_run(run, datasets, options)


@standard_torch()
def train_members(
    algorithm: str,
    members: Sequence[Member],
    dataset: Dataset | str | Path,
    options: TrainOptions,
    sources: Sequence[tuple[Path, int]] | None = None,
) -> Run:
    """As `train`, for members that need not be a product of fields and seeds.

    algorithm: without backbone.  options: with a folder; its `seeds` are not used.
    sources: run folder and index of the member from whose weights each member continues; None:
    they start anew.  A folder that holds the run already continues from its own checkpoint.
    """
    settings = settings_of_members(
        algorithm, [*members], device=options.device, precision=options.precision
    )
    run, datasets = run_of_settings(settings, [dataset], options)
    run.engine = _choose_engine(run, options)
    if sources is not None:
        repack(run, sources)
    return _train_run(run, datasets, options)


@standard_torch()
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
    """Computes a method's rewards for the background data, without training a policy.

    Any offline RL method can learn from the result; `Dataset.save` and `Dataset.save_d4rl` write it
    to a file.

    algorithm: tge, seabo or otr, the methods that compute rewards.
    dataset: one dataset, as in `train`.
    seed: of the method's own model.
    out: a folder that keeps the method's model; a second call resumes or reuses it.
    preset, device, precision, log_every, checkpoint_every, progress: as in `train`.
    overrides: fields of the algorithm's config, one value each.

    Returns the dataset with background rewards, float32 [N], as the method computes them: before
    any reward scaling by its learner. The settings are kept in `Dataset.info["rewards"]`.
    Ctrl-C behaves as in `train`.
    Raises what `train` raises; ValueError for a method without rewards, or for a sweep.
    """
    options = TrainOptions(
        num_updates=1,  # of the policy, which is not trained
        seeds=(seed,),
        device=device,
        precision=precision,
        out=out,
        log_every=log_every,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    algorithm, fields = given_fields(algorithm, preset, overrides, RELABEL_ARGUMENTS)
    learner_class = algos.find(algorithm, fields.get("backbone"))
    if not issubclass(learner_class, Rewards):
        raise ValueError(f"relabel: expected tge, seabo or otr, found {algorithm}")
    run, (source,) = create_run(algorithm, dataset, fields, options, relabel_only=True)
    if len(run.members) > 1:
        raise ValueError("relabel: expected one value of each field, found a sweep")
    reward = _compute_rewards(run, learner_class, source, options)
    info = {"algorithm": algorithm, "seed": seed} | to_json(run.members[0].config)
    return dataclasses.replace(
        source,
        background=dataclasses.replace(source.background, reward=reward),
        info={**source.info, "rewards": info},
        unverified=(),
    )


def _train_run(run: Run, datasets: Sequence[Dataset], options: TrainOptions) -> Run:
    """Trains every population of a run."""
    for callback in options.callbacks:
        callback.check(run)
    with locked_files(run, options.resume) as files:
        run.metric_rows = files.metrics.rows
        if run.path is not None:
            write_sheets(run.path, datasets)
        with started(options.callbacks, run):
            _train_populations(run, datasets, options, files)
        if files.checkpoints is not None:
            files.checkpoints.write_config(run.to_json())
    if len(run.failed) == len(run.members):
        raise FloatingPointError(
            f"{run.algorithm}: no member's losses are finite; lower learning_rate, or raise "
            "temperature"
        )
    return run


def _train_populations(
    run: Run, datasets: Sequence[Dataset], options: TrainOptions, files: RunFiles
) -> None:
    """Trains one population after the other.  files: what the run writes."""
    torch.set_flush_denormal(True)  # subnormal numbers are slow and never matter here
    for group, learner in zip(run.groups, run.learners, strict=True):
        stage = last_stage(run, group, options, files)
        with tf32(run.precision == "tf32"):
            _train_population(run, group, learner, stacked(datasets, group.datasets), stage)


def _train_population(
    run: Run, group: Group, learner: Learner, dataset: Dataset, stage: Stage
) -> None:
    """Trains the helper stages of a population, if any, and then its last stage."""
    saved = stage.checkpoints
    is_done = saved is not None and saved.num_updates(stage.key) == run.num_updates
    if saved is not None and is_done and not saved.has_pending_callbacks(stage.key):
        saved.load(stage.key, learner)
        return
    trainer = PopulationTrainer(run, group, stage)
    prepared = type(learner).prepare(dataset, group.configs, trainer)
    learner.adopt(trainer.helpers)
    needs = batch_needs(type(learner), group.configs)
    engine = make_engine(run, learner, prepared, needs, "train", stage.progress)
    run_stage(stage, learner, engine)


def _compute_rewards(
    run: Run, learner_class: type[Rewards], dataset: Dataset, options: TrainOptions
) -> torch.Tensor:
    """The rewards of the background for the run's one member, float32 [N]."""
    (group,) = run.groups
    with locked_files(run, options.resume, relabel_only=True) as files:
        torch.set_flush_denormal(True)
        trainer = PopulationTrainer(run, group, last_stage(run, group, options, files))
        with tf32(run.precision == "tf32"):
            reward = learner_class.relabel(dataset, group.configs, trainer).background.reward
    assert reward is not None
    if run.failed:
        raise FloatingPointError(
            f"{run.algorithm}: its model's losses are not finite; lower its learning rate"
        )
    return reward[0].float()


def _choose_engine(run: Run, options: TrainOptions) -> str:
    """The engine of all populations: torch if any of them needs it."""
    choices = [choose_engine(options.engine, learner) for learner in run.learners]
    if all(name == "native" for name, _ in choices):
        return "native"
    if options.engine == "auto" and options.progress and run.device.type == "cpu":
        report_fallback(run.algorithm, next(reason for _, reason in choices if reason))
    return "torch"
