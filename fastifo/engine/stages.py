"""How a population trains its stages: the helpers that a method asks for, and its own last one."""

import sys
from collections.abc import Sequence
from typing import Any

from fastifo.algos.learner import InputSpec, Learner, StageMonitor
from fastifo.data.dataset import Dataset
from fastifo.data.sampler import Sampler
from fastifo.engine.loop import Stage, run_stage
from fastifo.engine.meter import Engine
from fastifo.engine.native_engine import NativeEngine, why_not
from fastifo.engine.population import Group
from fastifo.engine.run import Run, read_config
from fastifo.engine.torch_engine import TorchEngine
from fastifo.utils.files import write_json


class _MonitorCallback:
    """A monitor as a callback of the helper's stage."""

    def __init__(self, monitor: StageMonitor, learner: Learner) -> None:
        self.every, self.measure, self.learner = monitor.every, monitor.measure, learner

    def __call__(
        self, run: Any, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]]:
        return {name: value.tolist() for name, value in self.measure(self.learner).items()}


class PopulationTrainer:
    """Trains the helper stages of a population; implements `StageTrainer`."""

    def __init__(self, run: Run, group: Group, stage: Stage) -> None:
        self.run, self.group, self.stage = run, group, stage
        self.folder, self.seeds, self.progress = run.path, group.seeds, stage.progress
        self.device, self.precision = run.device, run.precision

    def has_diverged(self, member: int) -> bool:
        return self.group.members[member] in self.run.failed

    def mark_diverged(self, member: int) -> None:
        self.run.failed.setdefault(self.group.members[member], 0)

    def note(self, name: str, value: Any) -> None:
        if self.run.notes.get(name) == value:
            return
        self.run.notes[name] = value
        if self.folder is not None:
            write_json(
                self.folder / "config.json", read_config(self.folder) | {"notes": self.run.notes}
            )

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
        run, stage = self.run, self.stage
        trained = range(len(self.seeds)) if members is None else members
        seeds = [self.seeds[member] for member in trained]
        learner = helper(configs, seeds, spec or run.spec, run.precision, fused=run.fused)
        learner.to_device(run.device)
        title = f"{run.algorithm}: {helper.name}"
        if run.engine == "native" and stage.progress:
            say_torch(title, why_not(learner))
        run_stage(
            Stage(
                **vars(stage)
                | {
                    "key": f"{self.group.index}-{helper.name}",
                    "title": title,
                    "members": tuple(self.group.members[member] for member in trained),
                    "num_updates": num_updates,
                    "callbacks": () if monitor is None else (_MonitorCallback(monitor, learner),),
                }
            ),
            learner,
            make_engine(run, learner, dataset, needs_of(helper, configs), helper.name),
        )
        return learner


def say_torch(title: str, reason: str | None) -> None:
    """That a stage trains in torch, where there is a reason for it."""
    if reason is not None:
        print(f"{title}  engine torch: not native, for {reason}", file=sys.stderr)


def needs_of(learner_class: type[Learner], configs: Sequence[Any]) -> frozenset[str]:
    """What any member's batches hold."""
    return frozenset().union(*map(learner_class.batch_needs, configs))


def make_engine(
    run: Run, learner: Learner, dataset: Dataset, needs: frozenset[str], stage: str
) -> Engine:
    """What makes a stage's updates, with the batches it draws under the stage's name."""
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
    )
    return TorchEngine(learner, sampler)
