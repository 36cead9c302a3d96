"""Lets a block of work stop for Ctrl-C only where it asks to."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def checked_interrupt(what: str) -> Iterator[Callable[[], None]]:
    """Yields a function that raises KeyboardInterrupt if Ctrl-C was pressed in this block.

    Python raises KeyboardInterrupt wherever it happens to be, and drops it in callbacks of the
    garbage collector. A second Ctrl-C is raised in that way. Leaves other handlers as they are.
    what: was stopped, for the message.
    """
    requested = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt(f"stopped {what}")
        requested = True

    def check() -> None:
        if requested:
            raise KeyboardInterrupt(f"stopped {what}")

    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield check
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
