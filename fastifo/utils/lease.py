"""Leases on folders: one owner at a time, also where file locks do not reach other machines.

A lease is a file with its owner's name in it. It appears by a hard link, which exactly one process
can create, and its owner touches it every few seconds. A lease is abandoned if its owner's process
has ended on this machine, or if it stays untouched for `STALE_S` while another process watches.
Only that process's own clock counts, so that machines need not agree on the time.
"""

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastifo.utils.files import TEMPORARY
from fastifo.utils.locks import command_name
from fastifo.utils.progress import say

LEASE = ".fastifo-lease"  # its content says who holds it
BEAT_S = 5.0  # between two touches by the owner
STALE_S = 60.0  # without a touch, after which a lease on another machine counts as abandoned
POLL_S = 0.5  # between two looks at another process's lease


class Lease:
    """A lease that this process holds; made by `folder_lease`."""

    def __init__(self, path: Path, token: str) -> None:
        """path: the lease's file.  token: distinguishes this lease from every other."""
        self.path, self.token = path, token
        self.handle = os.open(path, os.O_RDONLY)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def is_held(self) -> bool:
        """Whether the file is still this lease, and not one of a process that took it over."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.handle))
        except OSError:
            return False

    def check(self) -> None:
        """Raises BlockingIOError if another process has taken the lease over or it was deleted."""
        if self.is_held():
            return
        if _stamp(self.path) is None:
            raise BlockingIOError(
                f"{self.path}: the lease is gone, because the file was deleted, or another process "
                f"took over when this one had not responded for {STALE_S:.0f} s; results are kept; "
                "run the command again, and do not delete the file while it runs"
            )
        raise BlockingIOError(
            f"{self.path.parent}: another process took over, because this one had not responded "
            f"for {STALE_S:.0f} s, or {self.path.name} was deleted; results are kept"
        )

    def end(self) -> None:
        """Gives the lease back."""
        self.ended.set()
        self.thread.join()
        if self.is_held():
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self.handle)

    def _beat(self) -> None:
        # By the open file and not by its name: the file there may be another process's by now.
        while not self.ended.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.handle)


@contextlib.contextmanager
def folder_lease(folder: Path, *, waits: bool = False) -> Iterator[Lease]:
    """Keeps other processes, on any machine that sees the folder, from working in it.

    waits: whether to wait for a process that holds the lease; False raises BlockingIOError, which
    names it.  An abandoned lease is taken over in either case.
    Raises OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lease = _acquire(folder / LEASE, waits)
    try:
        yield lease
    finally:
        lease.end()


def _acquire(path: Path, waits: bool) -> Lease:
    token = uuid.uuid4().hex
    draft = path.with_name(f"{path.name}.{token}{TEMPORARY}")
    told = False
    try:
        while not _create(draft, path, token):
            holder = _read(path)
            if holder is None:
                continue  # its owner gave it back
            if not holder or _is_abandoned(path, holder):
                if _take_over(path, holder, draft):
                    break
                continue
            if not waits:
                raise BlockingIOError(
                    f"{path.parent}: in use by {describe(holder)}; wait until it has ended, or "
                    "choose another folder"
                )
            if not told:
                say(f"{path.parent}: waiting for {describe(holder)}")
            told = True
            time.sleep(POLL_S)
        return Lease(path, token)
    finally:
        draft.unlink(missing_ok=True)


def _create(draft: Path, path: Path, token: str) -> bool:
    """Makes the lease's file from a complete draft; returns whether this process did.

    Raises OSError naming the file if it cannot be written.
    """
    try:
        draft.write_text(json.dumps({"token": token} | _identity()))
        os.link(draft, path)
    except FileExistsError:
        # Ours, if a network file system lost the answer.
        return (_read(path) or {}).get("token") == token
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise OSError(
                error.errno or errno.EIO,
                f"{path}: could not be created as a lease ({error.strerror or error}); free some "
                "space or choose another folder",
            ) from error
        return _create_exclusively(draft, path)
    return True


def _create_exclusively(draft: Path, path: Path) -> bool:
    """As `_create`, on a file system without hard links."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(handle, draft.read_bytes())
    finally:
        os.close(handle)
    return True


def _is_abandoned(path: Path, holder: dict[str, Any]) -> bool:
    """Whether the owner has ended.  Watches the file of an owner on another machine for a while."""
    here = _identity()
    if holder["machine"] == here["machine"]:
        return bool(_started(holder["pid"]) != holder["started"])
    before, deadline = _stamp(path), time.monotonic() + STALE_S
    while time.monotonic() < deadline:
        time.sleep(min(POLL_S, STALE_S))
        if _stamp(path) != before:
            return False
    return True


def _take_over(path: Path, holder: dict[str, Any], draft: Path) -> bool:
    """Puts a draft in the place of an abandoned lease; returns whether this process did.

    holder: what the lease said when it was found abandoned.
    One process at a time does this, by a lease of its own, so that a lease is only replaced while
    it still is the abandoned one. The file never disappears, so that nobody else can create it.
    """
    guard = _acquire(path.with_name(f"{path.name}.takeover"), waits=True)
    try:
        found = _read(path)
        if found is None or found.get("token") != holder.get("token"):
            return False
        os.replace(draft, path)
        return True
    finally:
        guard.end()


def _read(path: Path) -> dict[str, Any] | None:
    """What the lease says of its owner; None if there is no lease, empty if it is incomplete."""
    for attempt in range(3):
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        if isinstance(content, dict) and {"token", "machine", "pid", "started"} <= set(content):
            return content
        time.sleep(0.05 * attempt)  # it may be just being written
    return {}


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is touched or replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def describe(holder: dict[str, Any]) -> str:
    """The owner of a lease in a few words."""
    return f"process {holder['pid']} ({holder.get('command')}) on {holder.get('host')}"


def _identity() -> dict[str, Any]:
    """This process, for whoever finds its lease."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
        "command": command_name(),
    }


def _machine() -> str:
    """Identifies what a process number belongs to: a boot of a machine, and a container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process of this machine started, in ticks; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
