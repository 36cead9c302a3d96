"""The training loop: one stage of one population, from its last checkpoint to its last update."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fastifo.algos.learner import Learner
from fastifo.engine.callbacks import PeriodicCallback, logged_values
from fastifo.engine.checkpoint import Checkpoints
from fastifo.engine.interrupt import Interrupt
from fastifo.engine.meter import Engine, Meter
from fastifo.engine.metrics import MetricsFile
from fastifo.engine.run import Run
from fastifo.utils.progress import ProgressBar, warn


@dataclass
class Stage:
    """What a stage needs besides its learner and its executor."""

    key: str  # its name in checkpoints, such as "0-train"
    title: str  # of the progress bar and of warnings
    members: tuple[int, ...]  # indices into the run's members
    num_updates: int
    metrics: MetricsFile  # the run's log
    checkpoints: Checkpoints | None  # None: nothing is saved
    log_every: int  # updates
    checkpoint_every: int  # updates
    progress: bool
    describe: Callable[[int], str]  # names a member in warnings
    callbacks: Sequence[PeriodicCallback] = ()
    run: Run | None = None  # the argument of the callbacks
    failed: dict[int, int] = field(default_factory=dict)  # diverged member -> update

    @property
    def all_diverged(self) -> bool:
        """Whether no member of this stage is left to train."""
        return all(member in self.failed for member in self.members)


def run_stage(stage: Stage, learner: Learner, engine: Engine) -> None:
    """Trains until `stage.num_updates`, or until every member has diverged.

    Continues from the stage's checkpoint. Raises KeyboardInterrupt, after a checkpoint, on Ctrl-C
    or SIGTERM.
    """
    loop = _Loop(stage, learner, engine)
    loop.run()
    if loop.interrupt.requested:
        saved = "nothing was saved" if stage.checkpoints is None else "a checkpoint was written"
        raise KeyboardInterrupt(f"stopped at update {learner.num_updates}; {saved}")


class _Loop:
    """The loop of one stage, with what its steps share."""

    def __init__(self, stage: Stage, learner: Learner, engine: Engine) -> None:
        self.stage, self.learner, self.engine = stage, learner, engine
        self.meter: Meter = engine.meter
        self.interrupt = Interrupt()
        # Callbacks of the current update were cut short by a signal: a resumed run repeats them.
        self.pending_callbacks = False
        self.stopped = False  # a callback returned False

    def run(self) -> None:
        """Restores the last checkpoint and trains from there."""
        stage, learner = self.stage, self.learner
        self._restore()
        self.clock = _TrainingClock()
        self.bar = ProgressBar(stage.title, stage.num_updates, "updates", enabled=stage.progress)
        with self.interrupt, self.bar:
            self.bar.start_at(learner.num_updates)
            if self.pending_callbacks and self._run_callbacks():
                self._checkpoint()
            running = not (self.pending_callbacks or self.stopped)
            while running and learner.num_updates < stage.num_updates and not stage.all_diverged:
                running = self._step()

    def _step(self) -> bool:
        """Advances to the next event and handles it; returns whether to go on."""
        stage, done = self.stage, self._advance()
        is_last = done == stage.num_updates
        calls = any(done % c.every == 0 or is_last for c in stage.callbacks)
        stops = self.interrupt.requested  # a signal after this line is handled in the next step
        saves = stops or is_last or done % stage.checkpoint_every == 0
        if saves:
            self._record_diverged(self.meter.means())
        if stage.all_diverged:  # the last good checkpoint is kept
            return False
        if calls or saves:
            self.engine.store()
        if calls:
            self._run_callbacks()
        if self.stopped and not saves:
            self._record_diverged(self.meter.means())
            if stage.all_diverged:
                return False
        if saves or self.pending_callbacks or self.stopped:
            self._checkpoint()
        return not (stops or self.pending_callbacks or self.stopped)

    def _restore(self) -> None:
        saved = self.stage.checkpoints
        if saved is not None:
            self.pending_callbacks = saved.has_pending_callbacks(self.stage.key)
            state = saved.load(self.stage.key, self.learner) or {}
            self.meter.restore(state, self.learner.counter.device)
        self.engine.load()

    def _advance(self) -> int:
        """Makes updates up to the next log, checkpoint or callback at most; logs where due.

        Returns the number of updates made so far.
        """
        stage, learner = self.stage, self.learner
        before = learner.num_updates
        periods = [stage.log_every, stage.checkpoint_every, *(c.every for c in stage.callbacks)]
        stops = [before + period - before % period for period in periods]
        count = self.engine.advance(min(stage.num_updates, *stops) - before)
        self.meter.count += count
        learner.num_updates += count
        done = learner.num_updates
        if done % stage.log_every == 0 or done == stage.num_updates:
            self._log()
        elif count > 1:
            self.bar.update(done)
        return done

    def _log(self) -> None:
        """Writes the means since the last log, one row per member, and starts a new interval."""
        stage, update = self.stage, self.learner.num_updates
        means = self.meter.means()
        self.meter.clear()
        self._record_diverged(means)
        stage_name = stage.key.partition("-")[2]
        rows = []
        for index, member in enumerate(stage.members):
            values = {name: column[index] for name, column in means.items()}
            finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
            rows.append({"stage": stage_name, "update": update, "member": member, **finite})
        stage.metrics.write(rows)
        first = next(iter(means.items()), None)
        self.bar.update(update, "" if first is None else f"{first[0]} {first[1][0]:.4g}")

    def _record_diverged(self, means: dict[str, list[float]]) -> None:
        """Records and warns, once, of members with a metric that is not finite."""
        stage, update = self.stage, self.learner.num_updates
        for index, member in enumerate(stage.members):
            names = [name for name, column in means.items() if not math.isfinite(column[index])]
            if names and member not in stage.failed:
                stage.failed[member] = update
                warn(
                    f"{stage.title}: {stage.describe(member)}: {names[0]} is "
                    f"{means[names[0]][index]} by update {update}; lower learning_rate, or raise "
                    "temperature. The other members continue"
                )

    def _checkpoint(self) -> None:
        stage, saved = self.stage, self.stage.checkpoints
        if saved is not None:
            saved.train_s += self.clock.lap()
            saved.failed = stage.failed
            saved.save(
                stage.key,
                self.learner,
                self.meter.state(),
                stage.metrics.size_bytes(),
                self.pending_callbacks,
            )

    def _run_callbacks(self) -> bool:
        """Calls the callbacks that are due and logs their values.

        Returns False, logs nothing and sets `pending_callbacks` if a signal cut them short.
        """
        stage, update = self.stage, self.learner.num_updates
        rows, stopped = [], False
        self.pending_callbacks = True
        with self.clock.stopped(), self.interrupt.raising():
            if self.interrupt.requested:
                raise KeyboardInterrupt
            for callback in stage.callbacks:
                if update % callback.every == 0 or update == stage.num_updates:
                    assert stage.run is not None
                    result = callback(stage.run, update, stage.members)
                    logged = logged_values(callback, result, len(stage.members))
                    rows += [
                        {"stage": "callback", "update": update, "member": member}
                        | {name: values[index] for name, values in logged.items()}
                        for index, member in enumerate(stage.members)
                        if logged
                    ]
                    stopped |= isinstance(result, bool | np.bool_) and not result
            self.pending_callbacks = False
        if not self.pending_callbacks:
            stage.metrics.write(rows)
            self.stopped = stopped
        return not self.pending_callbacks


class _TrainingClock:
    """Measures the time spent in updates."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Leaves the time inside the block out."""
        before = time.monotonic()
        yield
        self.started += time.monotonic() - before

    def lap(self) -> float:
        """Seconds since the previous call, or since the start."""
        before, self.started = self.started, time.monotonic()
        return self.started - before
