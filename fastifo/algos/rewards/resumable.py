"""Large arrays in files that a stopped run continues to fill.

A complete .npy file ends with a checksum behind the array, where NumPy does not look. Files of
older versions have none.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from fastifo.utils.files import UNREADABLE, check_regular, read_json, write_atomic, write_json
from fastifo.utils.progress import say

SAVE_S = 10.0  # seconds between records of how many rows a file has
SUFFIXES = (".npy", ".partial", ".rows")  # complete array, incomplete array, its number of rows
MARK = b"sha256\0\0"  # in front of the checksum
CHECKSUM_BYTES = len(MARK) + 32
HASHED_ROWS, HASHED_BYTES = 1 << 14, 1 << 20  # hashed together


class ResumableArray:
    """An array [N, width] that grows by rows, in memory or in a file.

    The file NAME.npy exists once all rows do. Until then the rows are in NAME.partial, and
    NAME.rows records how many of them are safely on disk, with their hash; a new object continues
    from there.
    """

    def __init__(self, path: Path | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """path: of the .npy file; None keeps the array in memory.  shape: [N, width] when complete.

        A file of another shape or dtype is replaced. Raises OSError if the disk has no room for it,
        ValueError if a complete file's checksum differs.
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
            verify_array(path)
            self.array, self.done, self.is_complete = array, shape[0], True
            return
        self.array = _open_matching(self.partial, shape, dtype, "r+")
        if self.array is None or not self._resume():
            self._create(path, shape, dtype)
        self.saved = time.monotonic()

    def _resume(self) -> bool:
        """Takes the recorded rows of the partial file; returns False if they are damaged."""
        self.digest = self._hash_header()
        try:
            record = read_json(self.rows_file)
            done = int(record["rows"])
        except UNREADABLE:
            return True  # none is recorded
        if not 0 <= done <= len(self.array):
            return False
        for first in range(0, done, HASHED_ROWS):
            self.digest.update(self.array[first : min(first + HASHED_ROWS, done)].tobytes())
        unhashed = record.keys() == {"rows"}  # as the first versions wrote it
        if not unhashed and record.get("sha256") != self.digest.hexdigest():
            say(f"{self.partial}: damaged, its hash differs; computing it again")
            return False
        self.done = done
        return True

    def _create(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Creates the partial file, with room for all rows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows_file.unlink(missing_ok=True)
        try:
            self.array = open_memmap(self.partial, "w+", dtype, shape)
            with open(self.partial, "r+b") as file:  # a full disk raises here, not hours later
                size = self.partial.stat().st_size + CHECKSUM_BYTES
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            self.partial.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"{path}: could not be written ({error.strerror}). Free some space or choose "
                "another folder",
            ) from error
        self.digest = self._hash_header()

    def _hash_header(self) -> Any:
        """The hash of the bytes in front of the rows."""
        with open(self.partial, "rb") as file:
            return hashlib.sha256(file.read(self.array.offset))

    def __len__(self) -> int:
        return len(self.array)

    def append(self, rows: Tensor) -> None:
        """Adds rows, [n, width] on the CPU."""
        added = slice(self.done, self.done + len(rows))
        self.array[added] = rows.numpy()
        self.done += len(rows)
        if self.path is not None:
            self.digest.update(self.array[added].tobytes())
            if time.monotonic() - self.saved > SAVE_S:
                self._save()

    def _save(self) -> None:
        self.array.flush()
        write_json(self.rows_file, {"rows": self.done, "sha256": self.digest.hexdigest()})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Renames the file to its final name, which says that all rows are there."""
        assert self.done == len(self.array), (self.done, len(self.array))
        if self.path is None or self.is_complete:
            return
        self.array.flush()
        with open(self.partial, "r+b") as file:
            file.seek(self.array.offset + self.array.nbytes)
            file.write(MARK + self.digest.digest())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self.rows_file.unlink(missing_ok=True)
        os.replace(self.partial, self.path)
        self.is_complete = True

    def rows(self, first: int, last: int) -> Tensor:
        """A float32 copy of the rows [first, last), [last - first, width]."""
        return torch.from_numpy(np.asarray(self.array[first:last], np.float32).copy())


def _open_matching(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], mode: Any) -> Any:
    """The memory-mapped array of a file, or None if it is missing, damaged or another array."""
    try:
        check_regular(path)
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
        check_regular(path)
        return len(np.load(path, mmap_mode="r", allow_pickle=False)) > 0
    except UNREADABLE:
        return False


def save_array(path: Path, array: Tensor) -> None:
    """Writes a .npy file with a checksum, atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "w+b") as file:
            np.save(file, array.numpy())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").digest()
            file.write(MARK + digest)

    write_atomic(path, write)


def load_array(path: Path) -> Tensor | None:
    """The array of a .npy file, or None if it is missing or cut short.

    Raises ValueError if its checksum differs.
    """
    try:
        check_regular(path)
        array = np.load(path, allow_pickle=False)
    except UNREADABLE:
        return None
    verify_array(path)  # before use: a flipped bit may have changed the shape or the dtype
    return torch.from_numpy(array)


def verify_array(path: Path) -> None:
    """Raises ValueError if the content of a .npy file differs from its checksum, if it has one."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    size = array.offset + array.nbytes
    if path.stat().st_size == size:  # of an older version
        return
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for first in range(0, size, HASHED_BYTES):
            digest.update(file.read(min(HASHED_BYTES, size - first)))
        if file.read() != MARK + digest.digest():
            raise ValueError(
                f"{path}: damaged, its checksum differs; delete it, and the same command computes "
                "it again"
            )


def save_columns(path: Path, columns: dict[str, Any]) -> None:
    """Writes named arrays to a .npz file atomically."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **columns)

    write_atomic(path, write)


def load_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a .npz file by name, or None if it is missing or damaged."""
    try:
        check_regular(path)
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except UNREADABLE:
        return None
