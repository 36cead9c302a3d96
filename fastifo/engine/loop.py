"""One stage of one population, from its last checkpoint to its last update."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastifo.algos.learner import Learner
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.interrupt import Interrupt
from fastifo.engine.meter import Engine, Meter
from fastifo.engine.metrics import MetricsFile
from fastifo.utils.progress import ProgressBar


class Callback(Protocol):
    """Called after every `every` updates; what it returns is logged, one value per member.

    A callback with a method `check(run)` is asked before training whether it can work.
    """

    @property
    def every(self) -> int: ...

    def __call__(
        self, run: Any, update: int, members: Sequence[int]
    ) -> dict[str, list[float | None]] | None: ...


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
    meter, saved = engine.meter, stage.checkpoints
    owes = saved is not None and saved.owes_callbacks(stage.key)
    if saved is not None:
        meter.restore(saved.load(stage.key, learner) or {}, learner.counter.device)
    engine.load()
    clock = _Clock()
    periods = [stage.log_every, stage.checkpoint_every, *(c.every for c in stage.callbacks)]
    bar = ProgressBar(stage.title, stage.num_updates, "updates", enabled=stage.progress)
    with Interrupt() as interrupt, bar:
        bar.start_at(learner.num_updates)
        if owes and _call_back(stage, learner, interrupt, clock):
            owes = False
            _checkpoint(stage, learner, meter, clock, owes)
        while learner.num_updates < stage.num_updates and not stage.broken and not owes:
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
            calls = any(done % c.every == 0 or last for c in stage.callbacks)
            asked = interrupt.asked  # now; one that comes later is seen after the next call
            saves = asked or last or done % stage.checkpoint_every == 0
            if saves:
                _name_broken(stage, learner, meter.means())
            if stage.broken:  # the last good checkpoint is kept
                break
            if calls or saves:
                engine.store()
            owes = calls and not _call_back(stage, learner, interrupt, clock)
            if saves or owes:
                _checkpoint(stage, learner, meter, clock, owes)
            if asked or owes:
                break
    if interrupt.asked:
        kept = "nothing was saved" if saved is None else "a checkpoint was written"
        raise KeyboardInterrupt(f"stopped at update {learner.num_updates}; {kept}")


class _Clock:
    """Time spent in updates."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.started += time.monotonic() - before

    def lap(self) -> float:
        """Seconds since the last one."""
        before, self.started = self.started, time.monotonic()
        return self.started - before


def _checkpoint(stage: Stage, learner: Learner, meter: Meter, clock: _Clock, owes: bool) -> None:
    saved = stage.checkpoints
    if saved is not None:
        saved.train_s += clock.lap()
        saved.failed = stage.failed
        saved.save(stage.key, learner, meter.state(), stage.metrics.size_bytes(), owes)


def _log(stage: Stage, learner: Learner, meter: Meter, bar: ProgressBar) -> None:
    means = meter.means()
    meter.clear()
    _name_broken(stage, learner, means)
    stage_name = stage.key.partition("-")[2]
    rows = []
    for place, member in enumerate(stage.members):
        values = {name: column[place] for name, column in means.items()}
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        rows.append(
            {"stage": stage_name, "update": learner.num_updates, "member": member, **finite}
        )
    stage.metrics.write(rows)
    first = next(iter(means.items()), None)
    bar.update(learner.num_updates, "" if first is None else f"{first[0]} {first[1][0]:.4g}")


def _name_broken(stage: Stage, learner: Learner, means: dict[str, list[float]]) -> None:
    """Warns of members whose metrics are not finite, once."""
    for place, member in enumerate(stage.members):
        broken = [name for name, column in means.items() if not math.isfinite(column[place])]
        if broken and member not in stage.failed:
            stage.failed[member] = learner.num_updates
            warnings.warn(
                f"{stage.title}: {stage.describe(member)}: {broken[0]} is "
                f"{means[broken[0]][place]} by update {learner.num_updates}; lower learning_rate, "
                "or raise temperature. The other members go on",
                stacklevel=3,
            )


def _call_back(stage: Stage, learner: Learner, interrupt: Interrupt, clock: _Clock) -> bool:
    """Calls what is due after this update; False where it was cut short, and says nothing then."""
    update, rows = learner.num_updates, []
    ended = False
    with clock.stopped(), interrupt.cutting():
        if interrupt.asked:
            raise KeyboardInterrupt
        for callback in stage.callbacks:
            if update % callback.every == 0 or update == stage.num_updates:
                found = callback(stage.run, update, stage.members) or {}
                rows += [
                    {"stage": "callback", "update": update, "member": member}
                    | {name: values[place] for name, values in found.items()}
                    for place, member in enumerate(stage.members)
                    if found
                ]
        ended = True
    if ended:
        stage.metrics.write(rows)
    return ended
