"""Large arrays in files that a stopped run continues to fill, and locks for shared files."""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from fastifo.utils.files import UNREADABLE, read_json, write_atomic, write_json

SAVE_S = 10.0  # seconds between records of how many rows a file has
SUFFIXES = (".npy", ".partial", ".rows")  # complete array, incomplete array, its number of rows


class ResumableArray:
    """An array [N, width] that grows by rows, in memory or in a file.

    The file NAME.npy exists once all rows do. Until then the rows are in NAME.partial, and
    NAME.rows records how many of them are safely on disk; a new object continues from there.
    """

    def __init__(self, path: Path | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """path: of the .npy file; None keeps the array in memory.  shape: [N, width] when complete.

        A file of another shape or dtype is replaced. Raises OSError if the disk has no room for it.
        """
        self.path = path
        self.done = 0  # rows that the array holds
        self.is_complete = False
        self.array: Any
        if path is None:
            self.array = np.empty(shape, dtype)
            return
        self.partial, self.rows_file = path.with_suffix(".partial"), path.with_suffix(".rows")
        array = _open_matching(path, shape, dtype, "r")
        if array is not None:
            self.array, self.done, self.is_complete = array, shape[0], True
            return
        array = _open_matching(self.partial, shape, dtype, "r+")
        with contextlib.suppress(*UNREADABLE):
            self.done = 0 if array is None else int(read_json(self.rows_file)["rows"])
        if array is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.rows_file.unlink(missing_ok=True)
            array = open_memmap(self.partial, "w+", dtype, shape)
            with open(self.partial, "r+b") as file:  # a full disk raises here, not hours later
                os.posix_fallocate(file.fileno(), 0, self.partial.stat().st_size)
        self.array, self.saved = array, time.monotonic()

    def __len__(self) -> int:
        return len(self.array)

    def append(self, rows: Tensor) -> None:
        """Adds rows, [n, width] on the CPU."""
        self.array[self.done : self.done + len(rows)] = rows.numpy()
        self.done += len(rows)
        if self.path is not None and time.monotonic() - self.saved > SAVE_S:
            self._save()

    def _save(self) -> None:
        self.array.flush()
        write_json(self.rows_file, {"rows": self.done})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Renames the file to its final name, which says that all rows are there."""
        assert self.done == len(self.array), (self.done, len(self.array))
        if self.path is None or self.is_complete:
            return
        self.array.flush()
        with open(self.partial, "rb") as file:
            os.fsync(file.fileno())
        self.rows_file.unlink(missing_ok=True)
        os.replace(self.partial, self.path)

    def rows(self, first: int, last: int) -> Tensor:
        """A float32 copy of the rows [first, last), [last - first, width]."""
        return torch.from_numpy(np.asarray(self.array[first:last], np.float32).copy())


def _open_matching(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], mode: Any) -> Any:
    """The memory-mapped array of a file, or None if it is missing, damaged or another array."""
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except UNREADABLE:
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def delete_array(path: Path) -> None:
    """Deletes the files of a `ResumableArray`, complete or not."""
    for suffix in SUFFIXES:
        path.with_suffix(suffix).unlink(missing_ok=True)


def has_array(path: Path) -> bool:
    """Whether a .npy file holds an array with rows; a truncated file does not."""
    try:
        return len(np.load(path, mmap_mode="r", allow_pickle=False)) > 0
    except UNREADABLE:
        return False


def save_array(path: Path, array: Tensor) -> None:
    """Writes a .npy file atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.save(file, array.numpy())

    write_atomic(path, write)


def load_array(path: Path) -> Tensor | None:
    """The array of a .npy file, or None if it is missing or damaged."""
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except UNREADABLE:
        return None


def save_columns(path: Path, columns: dict[str, Any]) -> None:
    """Writes named arrays to a .npz file atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **columns)

    write_atomic(path, write)


def load_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a .npz file by name, or None if it is missing or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except UNREADABLE:
        return None


@contextlib.contextmanager
def file_locks(paths: Iterable[Path]) -> Iterator[None]:
    """Holds exclusive locks; waits while another process holds one of them, and says so.

    The operating system releases the locks of a process that was killed.
    """
    with contextlib.ExitStack() as stack:
        for path in sorted(paths):  # a fixed order prevents deadlocks
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{path.parent}: waiting for another run to finish with it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
