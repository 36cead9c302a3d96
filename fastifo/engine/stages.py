"""How a population trains its stages: the helpers that a method asks for, and its last stage."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from fastifo.algos.learner import InputSpec, Learner, StageMonitor
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Sampler
from fastifo.engine.loop import Stage, run_stage
from fastifo.engine.meter import Engine
from fastifo.engine.native_engine import NativeEngine, why_not
from fastifo.engine.options import TrainOptions
from fastifo.engine.population import Group
from fastifo.engine.reopen import RunFiles
from fastifo.engine.run import Run
from fastifo.engine.run_folder import read_config
from fastifo.engine.torch_engine import TorchEngine
from fastifo.utils.openmp import slow_threads
from fastifo.utils.progress import say


def last_stage(run: Run, group: Group, options: TrainOptions, files: RunFiles) -> Stage:
    """The stage that trains the method's own learner."""
    return Stage(
        key=f"{group.index}-train",
        title=run.algorithm,
        members=group.members,
        num_updates=run.num_updates,
        metrics=files.metrics,
        checkpoints=files.checkpoints,
        log_every=options.log_every,
        checkpoint_every=options.checkpoint_every,
        progress=options.progress,
        describe=run.describe,
        callbacks=options.callbacks,
        run=run,
        failed=run.failed,
    )


class _MonitorCallback:
    """A monitor of a helper, as a callback of the helper's stage."""

    def __init__(self, monitor: StageMonitor, learner: Learner) -> None:
        self.every, self.measure, self.learner = monitor.every, monitor.measure, learner

    def __call__(
        self, run: Any, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]]:
        return {name: value.tolist() for name, value in self.measure(self.learner).items()}


class PopulationTrainer:
    """Trains the helper stages of one population; the engine's `StageTrainer`.

    Members are indices into the population.
    """

    def __init__(self, run: Run, group: Group, stage: Stage) -> None:
        """stage: the population's last stage, whose files and intervals the helpers share."""
        self.run, self.group, self.stage = run, group, stage
        self.folder, self.seeds, self.progress = run.path, group.seeds, stage.progress
        self.device, self.precision = run.device, run.precision
        self.helpers: dict[str, Learner] = {}  # trained so far, by name

    def has_diverged(self, member: int) -> bool:
        """See `StageTrainer`."""
        return self.group.members[member] in self.run.failed

    def mark_diverged(self, member: int) -> None:
        """See `StageTrainer`; the member counts as diverged at update 0."""
        self.run.failed.setdefault(self.group.members[member], 0)

    def note(self, name: str, value: Any) -> None:
        """See `StageTrainer`."""
        if self.run.notes.get(name) == value:
            return
        self.run.notes[name] = value
        if self.folder is not None and self.stage.checkpoints is not None:
            config = read_config(self.folder) | {"notes": self.run.notes}
            self.stage.checkpoints.write_config(config)

    def train(
        self,
        helper: type[Learner],
        configs: Sequence[Any],
        num_updates: int,
        dataset: Dataset,
        spec: InputSpec | None = None,
        monitor: StageMonitor | None = None,
        members: Sequence[int] | None = None,
    ) -> Learner:
        """See `StageTrainer`.  Resumes from the helper's checkpoint in the run folder."""
        run = self.run
        trained = range(len(self.seeds)) if members is None else members
        seeds = [self.seeds[member] for member in trained]
        learner = helper(configs, seeds, spec or run.spec, run.precision, fused=run.fused)
        learner.to_device(run.device)
        title = f"{run.algorithm}: {helper.name}"
        if run.engine == "native" and self.progress:
            report_fallback(title, why_not(learner))
        stage = dataclasses.replace(
            self.stage,
            key=f"{self.group.index}-{helper.name}",
            title=title,
            members=tuple(self.group.members[member] for member in trained),
            num_updates=num_updates,
            callbacks=() if monitor is None else (_MonitorCallback(monitor, learner),),
        )
        needs = batch_needs(helper, configs)
        engine = make_engine(run, learner, dataset, needs, helper.name, self.progress)
        run_stage(stage, learner, engine)
        self.helpers[helper.name] = learner
        return learner


def report_fallback(title: str, reason: str | None) -> None:
    """Prints why a stage trains in torch instead of the native engine, if there is a reason."""
    if reason is not None:
        say(f"{title}: training in torch, because {reason}")


def batch_needs(learner_class: type[Learner], configs: Sequence[Any]) -> frozenset[str]:
    """Parts of a batch that any member needs; see `Learner.batch_needs`."""
    return frozenset().union(*map(learner_class.batch_needs, configs))


def make_engine(
    run: Run,
    learner: Learner,
    dataset: Dataset,
    needs: frozenset[str],
    stage: str,
    progress: bool,
) -> Engine:
    """The executor of a stage's updates.

    stage: its name, which its random numbers depend on.  progress: say what will be slow.
    """
    if run.engine == "native" and why_not(learner) is None:
        return NativeEngine(learner, dataset, needs, stage)
    sampler = Sampler(
        dataset,
        learner.seeds,
        learner.batch_rows(learner.cfg),
        needs,
        stage,
        learner.encoder.mean.device,
        learner.dtype,
        learner.encoder,
        noise_width=learner.noise_width,
        window=learner.window,
        fused=learner.fused,
        reuses=True,
        cameras=[camera for camera, *_ in learner.spec.images],
        shift=learner.cfg.image_shift,
    )
    if progress and sampler.reads_host:
        say(
            f"{run.algorithm}: the frames do not fit the GPU's memory: they stay on the host, and "
            "each batch is copied, which is slower"
        )
    engine = TorchEngine(learner, sampler)
    slow = slow_threads() if progress and engine.uses_several_threads else None
    if slow is not None:
        say(f"{run.algorithm}: {slow}")
    return engine
