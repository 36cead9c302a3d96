"""Ctrl-C and SIGTERM as a flag that the training loop reads between updates."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a flag, so that an update is never cut in half."""

    def __init__(self) -> None:
        self.asked = False
        self.raises = False
        self.old: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.raises:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def cutting(self) -> Iterator[None]:
        """What is done in this block is left at once when told to stop."""
        self.raises = True
        try:
            yield
        except KeyboardInterrupt:
            self.asked = True
        finally:
            self.raises = False

    def __exit__(self, *error: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
