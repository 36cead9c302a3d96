"""One stage of one population, from its last checkpoint to its last update."""

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from fastifo.data.sampler import Sampler
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.graph import GraphedStep
from fastifo.engine.log import MetricsFile, ProgressBar
from fastifo.learner import Learner, Metrics


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a flag, so that an update is never cut in half."""

    def __init__(self) -> None:
        self.asked: int | None = None
        self.old: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)


class Meter:
    """Means of the metrics over a logging interval, kept on the device. The loop counts."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.total: Tensor | None = None  # [P, metrics]
        self.count = 0

    def add(self, metrics: Metrics) -> None:
        values = torch.stack([value.detach() for value in metrics.values()], 1)
        self.names = list(metrics)
        if self.total is None:
            self.total = torch.zeros_like(values)
        self.total += values

    def means(self) -> dict[str, list[float]]:
        """One number per member and metric: the only copy to the host in an interval."""
        if self.total is None or self.count == 0:
            return {}
        columns = (self.total / self.count).t().tolist()
        self.total.zero_()
        self.count = 0
        return dict(zip(self.names, columns, strict=True))

    def state(self) -> dict[str, Tensor]:
        if self.total is None:
            return {}
        return {"meter": self.total, "meter_count": torch.tensor(self.count)}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        if "meter" in state:
            saved = state["meter"]
            if self.total is None:
                self.total = saved.to(device)
            else:
                self.total.copy_(saved)
            self.count = int(state["meter_count"])


class Callback(Protocol):
    """Called after every `every` updates; what it returns is logged, one value per member.

    A callback with a method `check(run)` is asked before training whether it can work.
    """

    @property
    def every(self) -> int: ...

    def __call__(
        self, run: Any, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]] | None: ...


class Engine(Protocol):
    """What makes the updates of a stage, from and to the learner's tensors."""

    meter: Meter

    def load(self) -> None:
        """Takes the learner's state."""

    def store(self) -> None:
        """Gives it back."""

    def advance(self, most: int) -> int:
        """Makes 1 to `most` updates; returns how many."""


class TorchEngine:
    """Updates in torch on any device; one CUDA graph each on a GPU."""

    def __init__(self, learner: Learner, sampler: Sampler) -> None:
        self.learner = learner
        self.meter = Meter()

        def update(phase: int) -> None:
            learner.phase = phase
            self.meter.add(learner.update(sampler.draw(learner.counter)))
            learner.counter.add_(1)

        self.steps = [
            GraphedStep(partial(update, phase), learner.counter.device, captures=learner.fused)
            for phase in range(learner.period)
        ]

    def load(self) -> None:
        self.learner.counter.fill_(self.learner.num_updates)

    def store(self) -> None:
        """The learner's tensors are the state."""

    def advance(self, most: int) -> int:
        self.steps[self.learner.num_updates % self.learner.period]()
        return 1


@dataclass
class Stage:
    """What a stage needs beside its learner and sampler."""

    key: str  # names it in checkpoints, as in "0-train"
    title: str
    members: tuple[int, ...]
    num_updates: int
    metrics: MetricsFile
    checkpoints: Checkpoints | None
    log_every: int
    checkpoint_every: int
    progress: bool
    describe: Callable[[int], str]  # names a member in messages
    callbacks: Sequence[Callback] = ()
    run: Any = None
    failed: dict[int, int] = field(default_factory=dict)  # member -> update where it broke

    @property
    def broken(self) -> bool:
        """No member of this population is left."""
        return all(member in self.failed for member in self.members)


def run_stage(stage: Stage, learner: Learner, engine: Engine) -> None:
    """Trains until `num_updates`, or until no member's losses are finite any more.

    Raises KeyboardInterrupt, after a checkpoint, when told to stop.
    """
    meter = engine.meter
    if stage.checkpoints is not None:
        saved = stage.checkpoints.load(stage.key, learner) or {}
        meter.restore(saved, learner.counter.device)
    engine.load()
    started = time.monotonic()

    def checkpoint() -> None:
        nonlocal started
        if stage.checkpoints is not None:
            now = time.monotonic()
            stage.checkpoints.train_s += now - started
            started = now
            stage.checkpoints.failed = stage.failed
            size = stage.metrics.size_bytes()
            stage.checkpoints.save(stage.key, learner, meter.state(), size)

    periods = [stage.log_every, stage.checkpoint_every, *(c.every for c in stage.callbacks)]
    bar = ProgressBar(stage.title, stage.num_updates, "updates", enabled=stage.progress)
    with Interrupt() as interrupt, bar:
        bar.start_at(learner.num_updates)
        while learner.num_updates < stage.num_updates and not stage.broken:
            before = learner.num_updates
            ends = [before + period - before % period for period in periods]
            made = engine.advance(min(stage.num_updates, *ends) - before)
            meter.count += made
            learner.num_updates += made
            done = learner.num_updates
            last = done == stage.num_updates
            if done % stage.log_every == 0 or last:
                _log(stage, learner, meter, bar)
            elif made > 1:
                bar.update(done)
            if stage.broken:  # the last good checkpoint is kept
                break
            called = [c for c in stage.callbacks if done % c.every == 0 or last]
            if called:
                engine.store()
            for callback in called:
                pause = time.monotonic()
                _call(stage, callback, done)
                started += time.monotonic() - pause
            asked = interrupt.asked is not None
            if asked or last or done % stage.checkpoint_every == 0:
                if not called:
                    engine.store()
                checkpoint()
            if asked:
                kept = "a checkpoint was written" if stage.checkpoints else "nothing was saved"
                raise KeyboardInterrupt(f"stopped at update {done}; {kept}")


def _log(stage: Stage, learner: Learner, meter: Meter, bar: ProgressBar) -> None:
    means = meter.means()
    stage_name = stage.key.partition("-")[2]
    rows = []
    for place, member in enumerate(stage.members):
        values = {name: column[place] for name, column in means.items()}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken and member not in stage.failed:
            stage.failed[member] = learner.num_updates
            warnings.warn(
                f"{stage.title}: {stage.describe(member)}: {broken[0]} is {values[broken[0]]} "
                f"by update {learner.num_updates}; lower learning_rate, or raise temperature. "
                "The other members go on",
                stacklevel=2,
            )
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        rows.append(
            {"stage": stage_name, "update": learner.num_updates, "member": member, **finite}
        )
    stage.metrics.write(rows)
    first = next(iter(means.items()), None)
    bar.update(learner.num_updates, "" if first is None else f"{first[0]} {first[1][0]:.4g}")


def _call(stage: Stage, callback: Callback, update: int) -> None:
    found = callback(stage.run, update, stage.members)
    if found:
        stage.metrics.write(
            [
                {"stage": "callback", "update": update, "member": member}
                | {name: values[place] for name, values in found.items()}
                for place, member in enumerate(stage.members)
            ]
        )
