"""Progress bars, notices and warnings on stderr.  One that cannot be written is dropped.

Work must go on when nobody reads stderr any more: it may be closed, missing, or a logger's object.
"""

import contextlib
import sys
import time
import warnings
from types import TracebackType
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL_S = 15.0  # between lines where stderr is not a terminal
UNWRITABLE = (OSError, ValueError, AttributeError)  # what `warnings` raises for a closed stderr


def say(text: str) -> None:
    """Prints a line on stderr, if there is one that can be written."""
    if sys.stderr is not None:
        with contextlib.suppress(Exception):
            print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Issues a UserWarning, from the caller's caller."""
    with contextlib.suppress(*UNWRITABLE):
        warnings.warn(text, stacklevel=3)


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; False for streams that cannot say."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


class Lenient:
    """A stream whose writes never fail: what cannot be written is dropped."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: Exception | None = None  # of the first write that failed

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except Exception as error:
            self.error = self.error or error
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except Exception as error:
            self.error = self.error or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


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
        self.made = 0  # units that were really worked through, for the rate
        self.first = 0  # units that an earlier process completed
        self.started = self.printed = time.monotonic()
        self.bar: Progress | None = None
        if enabled and is_terminal(sys.stderr) and not self.plain:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(file=cast(TextIO, Lenient(sys.stderr))),
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
        self.done = self.made = self.first = done

    def update(self, done: int, note: str | None = None, made: int | None = None) -> None:
        """done: units completed so far.  note: text after the bar; None keeps the old one.

        made: units that were really worked through, where `done` counts some that are not needed;
            the rate is theirs. None: `done`.
        """
        self.done, self.made = done, done if made is None else made
        self.note = note = self.note if note is None else note
        if self.bar is not None:
            rate = f"{self.rate():.0f} {self.unit}/s"
            self.bar.update(self.task, completed=done, rate=rate, note=note)
        elif self.enabled and time.monotonic() - self.printed >= PLAIN_INTERVAL_S:
            self._print(note)

    def rate(self) -> float:
        """Units made per second in this process."""
        return (self.made - self.first) / max(time.monotonic() - self.started, 1e-9)

    def _print(self, note: str) -> None:
        self.printed = time.monotonic()
        elapsed = int(self.printed - self.started)
        line = f"{self.title}  {self.done}/{self.total}  {self.rate():.0f} {self.unit}/s"
        if self.done < self.total and self.done > self.first:
            elapsed_s = self.printed - self.started
            left = int((self.total - self.done) * elapsed_s / (self.done - self.first))
            line += f"  {left // 60}:{left % 60:02d} left"
        else:
            line += f"  took {elapsed // 60}:{elapsed % 60:02d}"
        say(f"{line}  {note}".rstrip())
