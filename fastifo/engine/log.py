"""Sends what a run logs to a tracker, during training or afterwards.

A tracker never stops or delays training: a thread of its own writes, the first error is reported
once, and `metrics.jsonl` of the run folder has every row anyway.
"""

import contextlib
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastifo.engine.metrics import read_metrics
from fastifo.engine.run import Run
from fastifo.engine.trackers import PACKAGES, Row, check_tracker, open_sink
from fastifo.utils.arguments import as_flag
from fastifo.utils.progress import say

WAIT_S = 30.0  # at the end of training, for a tracker that has not sent everything


class Tail:
    """The rows of a run's log, from a place on."""

    def __init__(self, run: Run, *, from_start: bool) -> None:
        self.rows, self.path = run.metric_rows, run.path
        self.done = 0 if from_start else self._size()

    def _size(self) -> int:
        if self.path is None:
            return len(self.rows)
        file = self.path / "metrics.jsonl"
        return file.stat().st_size if file.exists() else 0

    def new_rows(self) -> list[Row]:
        """Rows that were logged since the last call."""
        size = self._size()
        if self.path is None:
            rows: list[Row] = list(self.rows[self.done : size])
        else:
            rows = list(read_metrics(self.path / "metrics.jsonl", self.done, size))
        self.done = size
        return rows


class Tracker:
    """Sends a run's rows in a thread of its own."""

    def __init__(self, run: Run, to: str, **settings: Any) -> None:
        """settings: the keywords of `open_sink`."""
        self.run, self.to, self.settings = run, to, settings
        self.error: Exception | None = None
        self.reported = False
        self.jobs: queue.SimpleQueue[list[Row] | None] = queue.SimpleQueue()
        self.tail = Tail(run, from_start=to == "tensorboard")
        self.thread = threading.Thread(target=self._work, daemon=True, name=f"fastifo-{to}")
        self.thread.start()

    def send(self) -> None:
        """Hands the rows that were logged since the last call to the thread."""
        try:
            rows = self.tail.new_rows()
        except (OSError, ValueError) as error:
            self.error = self.error or error
            rows = []
        if rows and self.error is None:
            self.jobs.put(rows)
        self._report()

    def close(self) -> None:
        """Sends the last rows and waits for the thread, WAIT_S seconds at most."""
        self.send()
        self.jobs.put(None)
        self.thread.join(WAIT_S)
        if self.thread.is_alive():
            self.error = self.error or TimeoutError(f"no answer within {WAIT_S:.0f} s")
        self._report()

    def _work(self) -> None:
        try:
            sink = open_sink(self.run, self.to, **self.settings)
            with contextlib.closing(sink):
                while (rows := self.jobs.get()) is not None:
                    sink.write(rows)
        except Exception as error:  # another package's, of any kind
            self.error = error

    def _report(self) -> None:
        if self.error is not None and not self.reported:
            self.reported = True
            place = "RUN" if self.run.path is None else self.run.path
            say(
                f"fastifo: {self.to}: {type(self.error).__name__}: {self.error}. Training is not "
                f"affected; fastifo log {place} --to {self.to} sends the run again"
            )


@dataclass(eq=False)
class Log:
    """Callback that sends what is logged to a tracker: each row once, in batches.

    Rows are named train/policy_loss, callback/return_mean, and so on. TensorBoard has one run for
    each member; in the others, metrics of several members end in /0, /1, ...

    The package is an extra of the tracker's name (pip install 'fastifo[wandb]'). An error of the
    tracker is printed once, and training goes on; `fastifo log RUN --to wandb` sends a run later.
    """

    to: str  # tensorboard | wandb | trackio
    project: str = "fastifo"  # of wandb and trackio
    name: str | None = None  # of the run there; None: the run folder's
    folder: str | Path | None = None  # of TensorBoard's files; None: `tensorboard` in the run's
    online: bool = False  # let wandb upload; False: it writes into the run folder, for `wandb sync`

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown tracker, TypeError for `online` of another type."""
        if self.to not in PACKAGES:
            raise ValueError(f"to: expected {', '.join(PACKAGES)}, found {self.to!r}")
        self.online = as_flag("online", self.online)
        self.tracker: Tracker | None = None

    def settings(self) -> dict[str, Any]:
        """The keywords of `open_sink`."""
        folder = None if self.folder is None else Path(self.folder)
        names = ("project", "name", "online")
        return {name: getattr(self, name) for name in names} | {"folder": folder}

    def check(self, run: Run) -> None:
        """Raises ImportError without the package, ValueError where event files have no place."""
        check_tracker(run, self.to, self.settings()["folder"])

    def start(self, run: Run) -> None:
        """Opens the tracker."""
        self.tracker = Tracker(run, self.to, **self.settings())

    def __call__(self, run: Run, update: int, members: Sequence[int]) -> None:
        """Sends the new rows."""
        assert self.tracker is not None
        self.tracker.send()

    def finish(self, run: Run) -> None:
        """Sends the last rows and closes the tracker."""
        if self.tracker is not None:
            self.tracker.close()
        self.tracker = None


def send_run(run: Run, log: Log) -> int:
    """Sends all rows of a run to a tracker; returns how many.

    Raises what the tracker raises, and what `Log.check` does.
    """
    log.check(run)
    rows = Tail(run, from_start=True).new_rows()
    with contextlib.closing(open_sink(run, log.to, **log.settings())) as sink:
        sink.write(rows)
    return len(rows)
