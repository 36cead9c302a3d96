"""Ctrl-C and SIGTERM as a flag that the training loop reads between updates."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupt:
    """Context in which Ctrl-C and SIGTERM only set a flag, so that no update is cut in half."""

    def __init__(self) -> None:
        self.requested = False  # whether a signal has arrived
        self.raises = False
        self.old_handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old_handlers[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.raises:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """A block that a signal leaves immediately; execution continues after it."""
        self.raises = True
        try:
            yield
        except KeyboardInterrupt:
            self.requested = True
        finally:
            self.raises = False

    def __exit__(self, *error: object) -> None:
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)
