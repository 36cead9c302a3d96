"""Progress bars on stderr."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL_S = 15.0  # between lines where stderr is not a terminal


class ProgressBar:
    """Rate and remaining time of long work: a bar on a terminal, plain lines elsewhere."""

    plain = False  # True prints lines on a terminal too

    def __init__(self, title: str, total: int, unit: str, *, enabled: bool = True) -> None:
        """title: printed before the bar.  total: units of work.  unit: their name, as "updates".
        enabled: False prints nothing.
        """
        self.title = title
        self.total = total
        self.unit = unit
        self.enabled = enabled
        self.done = 0
        self.note = ""
        self.first = 0  # units that an earlier process completed
        self.started = self.printed = time.monotonic()
        self.bar: Progress | None = None
        if enabled and sys.stderr.isatty() and not self.plain:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(title, total=total, rate="", note="")

    def __enter__(self) -> "ProgressBar":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        elif self.enabled and kind is None:
            self._print("")

    def resize(self, total: int) -> None:
        """Sets the total once it is known."""
        self.total = max(1, total)
        if self.bar is not None:
            self.bar.update(self.task, total=self.total)

    def start_at(self, done: int) -> None:
        """Marks units as completed by an earlier process; they do not count towards the rate."""
        self.done = self.first = done

    def update(self, done: int, note: str | None = None) -> None:
        """done: units completed so far.  note: text after the bar; None keeps the old one."""
        self.done = done
        self.note = note = self.note if note is None else note
        if self.bar is not None:
            rate = f"{self.rate():.0f} {self.unit}/s"
            self.bar.update(self.task, completed=done, rate=rate, note=note)
        elif self.enabled and time.monotonic() - self.printed >= PLAIN_INTERVAL_S:
            self._print(note)

    def rate(self) -> float:
        """Units per second in this process."""
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)

    def _print(self, note: str) -> None:
        self.printed = time.monotonic()
        elapsed = int(self.printed - self.started)
        line = f"{self.title}  {self.done}/{self.total}  {self.rate():.0f} {self.unit}/s"
        if self.done < self.total and self.rate() > 0:
            left = int((self.total - self.done) / self.rate())
            line += f"  {left // 60}:{left % 60:02d} left"
        else:
            line += f"  took {elapsed // 60}:{elapsed % 60:02d}"
        print(f"{line}  {note}".rstrip(), file=sys.stderr, flush=True)
