"""Locks on folders, which end with the process that holds them."""

import contextlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastifo.utils.files import try_lock
from fastifo.utils.progress import say

LOCK = ".fastifo-lock"  # its content says who holds it
POLL_S = 0.2  # between two attempts at a lock that another process holds


@contextlib.contextmanager
def folder_lock(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """Keeps other processes from writing to a folder during the block.

    The lock ends with the block or with the process, however that ends.
    waits: whether to wait for a process that has the lock; False raises BlockingIOError, which
    names it.
    """
    with file_lock(folder / LOCK, f"{folder}", waits=waits):
        yield


@contextlib.contextmanager
def file_lock(path: Path, what: str, *, waits: bool) -> Iterator[None]:
    """A lock that is a file, removed at the end.

    what: is locked, for messages.  waits: as in `folder_lock`.
    """
    handle = _acquire(path, what, waits=waits)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # while it is still locked
        os.close(handle)


@contextlib.contextmanager
def file_locks(paths: Iterable[Path]) -> Iterator[None]:
    """Several locks at once; waits for the processes that have them."""
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):  # in one order, so that no two processes wait for each other
            stack.enter_context(file_lock(path, f"{path.parent}", waits=True))
        yield


def _acquire(path: Path, what: str, *, waits: bool) -> int:
    """The open and locked file.  Raises OSError naming it if it cannot be created."""
    told = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{path}: could not be created as a lock ({error.strerror}); remove what is there, "
                "or choose another folder",
            ) from error
        try:
            if try_lock(handle):
                if _is_current(path, handle):
                    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                        os.ftruncate(handle, 0)
                        os.pwrite(handle, _identity().encode(), 0)
                    return handle
            else:
                holder = os.pread(handle, 1000, 0).decode(errors="replace") or "another process"
                if holder.startswith(f"process {_starter()} "):
                    raise BlockingIOError(
                        f"{what}: in use by the process that started this worker; put the code "
                        'of the script under `if __name__ == "__main__":`'
                    )
                if not waits:
                    raise BlockingIOError(
                        f"{what}: in use by {holder}; wait until it has ended, or choose another "
                        "folder"
                    )
                if not told:
                    say(f"{what}: waiting for {holder}")
                told = True
                time.sleep(POLL_S)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _starter() -> int | None:
    """The process that started this one, while that imports the main script again for it.

    `multiprocessing` itself tells by this attribute that a script is imported again.
    """
    is_importing = getattr(multiprocessing.current_process(), "_inheriting", False)
    return os.getppid() if is_importing else None


def _is_current(path: Path, handle: int) -> bool:
    """Whether the open file is still the one at `path`, not removed by its last holder."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def command_name() -> str:
    """The command of this process, for messages to others."""
    return " ".join(Path(sys.argv[0]).name.split()) if sys.argv and sys.argv[0] else "python"


def _identity() -> str:
    """This process, for whoever finds its lock."""
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} ({command_name()}) on {socket.gethostname()} since {started}"
