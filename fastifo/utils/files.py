"""Atomic writes and what they leave behind when killed, JSON and hashes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What numpy raises on an .npz file that is truncated, damaged or not an .npz at all.
UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

RESTORE = "restore it from a copy"  # what to do about a damaged file that nothing can make again
TEMPORARY = ".fastifo-tmp"  # suffix of files and folders that are being written
# Temporary files of versions before that suffix: never deleted, as the name could be another's.
OLD_TEMPORARY = re.compile(r"\.[^/]+\.(json|npy|npz|safetensors)\.[a-z0-9_]{8}")
MAX_STEM = 58  # characters of a temporary file's name that come from the file's own, 4 bytes each


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on a temporary file in the same folder, syncs it to disk and renames it.

    If the disk is full or the process is killed, `path` keeps its old content. A temporary file of
    a process that was killed is removed by the next write of the same file.
    Raises OSError naming the file.
    """
    temporary, handle = None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, path.name)
        temporary, handle = _make_temporary(path, _make_file)
        write(temporary)
        sync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{path}: could not be written ({error.strerror or error}); the old content is kept. "
            "Free some space or choose another folder",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def check_writable(path: Path) -> None:
    """Raises OSError naming a file that could not be written, before long work fills it.

    Makes its folder, and leaves an existing file as it is.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _make_temporary(path, _make_file)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"{path}: cannot be written ({error.strerror or error}); name another file",
        ) from error
    temporary.unlink(missing_ok=True)
    os.close(handle)


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """An empty temporary folder next to `folder`, removed at the end of the block.

    One that a killed process left is removed first.  Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent, folder.name)
    temporary, handle = _make_temporary(folder, tempfile.mkdtemp)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def _make_file(**where: Any) -> str:
    handle, name = tempfile.mkstemp(**where)
    os.close(handle)
    return str(name)


def _make_temporary(path: Path, make: Callable[..., str]) -> tuple[Path, int]:
    """A temporary file or folder next to `path`, and the descriptor that holds its lock.

    The lock ends with the process, so that `sweep` tells a living process's files from leftovers.
    """
    while True:
        name = make(prefix=f".{path.name[:MAX_STEM]}.", suffix=TEMPORARY, dir=path.parent)
        handle = os.open(name, os.O_RDONLY)
        try_lock(handle)
        if os.path.exists(name):  # another process may have swept it before it was locked
            return Path(name), handle
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Locks an open file or folder against other processes, until it is closed or this one ends.

    Returns False if another one holds the lock.  File systems without locks count as locked.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            return True
        raise
    return True


def is_leftover(name: str) -> bool:
    """Whether a name is that of a temporary file or folder of fastifo."""
    return name.endswith(TEMPORARY) or bool(OLD_TEMPORARY.fullmatch(name))


def sweep(folder: Path, name: str = "") -> None:
    """Removes temporary files and folders that killed processes left in a folder.

    name: only those of the file or folder with this name; empty: all.
    """
    prefix = f".{name[:MAX_STEM]}." if name else "."
    with contextlib.suppress(OSError):
        found = [e for e in os.scandir(folder) if e.name.endswith(TEMPORARY)]
        for entry in found:
            random = entry.name[len(prefix) : -len(TEMPORARY)]
            if entry.name.startswith(prefix) and (not name or "." not in random):
                _remove_unlocked(entry)


def _remove_unlocked(entry: os.DirEntry[str]) -> None:
    """Removes a temporary file or folder unless a living process holds its lock."""
    with contextlib.suppress(OSError):
        handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not try_lock(handle):
                return
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Writes a file's content, or a folder's list of names, to the disk.  Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system syncs folders
            raise
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; see `write_atomic`."""
    write_atomic(path, lambda temporary: _write_all(temporary, content))


def _write_all(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically; see `write_atomic`."""
    write_bytes(path, to_json_bytes(value))


def to_json_bytes(value: Any) -> bytes:
    """The content of a file that `write_json` writes."""
    return (json.dumps(value, indent=2) + "\n").encode()


def read_json(path: Path, remedy: str = RESTORE) -> Any:
    """Parses a JSON file.

    remedy: for the error of a damaged file.
    Raises FileNotFoundError; ValueError naming the file if it is no regular file or not JSON.
    """
    check_regular(path)
    return parse_json(path.read_bytes(), path, remedy)


def parse_json(text: str | bytes, path: Path, remedy: str = RESTORE) -> Any:
    """Parses JSON that was read from `path`.  Raises ValueError naming the file and the remedy."""
    try:
        return json.loads(text)
    except RecursionError:
        found = "one that is nested too deep"
    except ValueError as error:  # also of text that is not UTF-8, and of numbers too long to parse
        found = f"something else ({error})"
    raise ValueError(f"{path}: expected JSON, found {found}; {remedy}")


def check_regular(path: Path) -> None:
    """Raises ValueError if `path` is a pipe, a device or a folder, FileNotFoundError if nothing.

    Opening a pipe that nobody writes to would wait for ever.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path}: expected a file, found {what_is(path)}")


def what_is(path: Path) -> str:
    """What is at a path that is no regular file, for an error."""
    if path.is_dir():
        return "a folder"
    return "a pipe or a device" if path.exists() else "nothing there"


def readable_bytes(path: Path, kind: str) -> int:
    """Upper bound on the memory, in bytes, that reading an intact file of this size can need.

    kind: names the format in the error, as in "HDF5".  Raises FileNotFoundError.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an {kind} file, found {what_is(path)}")
    return 4 * path.stat().st_size + (100 << 20)


def keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Records the settings a folder was started with.

    Raises ValueError if the folder was started with other settings.
    """
    if not path.exists():
        write_json(path, plan)
        return
    recorded, plan = read_json(path), json.loads(json.dumps(plan))
    if not isinstance(recorded, dict):
        raise ValueError(
            f"{path}: expected a JSON object, found {type(recorded).__name__}; choose another "
            "folder"
        )
    differing = sorted(k for k in {*plan, *recorded} if recorded.get(k) != plan.get(k))
    if differing:
        name = differing[0]
        raise ValueError(
            f"{path}: started with {name}={recorded.get(name)!r}, now asked for "
            f"{plan.get(name)!r}; choose another folder"
        )


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
