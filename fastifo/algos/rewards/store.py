"""Long arrays in files that a stopped run goes on with, and what reports keep of embeddings."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from fastifo.data.dataset import Dataset
from fastifo.utils.files import UNREADABLE, check_regular, read_json, write_atomic, write_json
from fastifo.utils.progress import say

SAVE_S = 10.0  # between notes of how far a file is
TRAILER = b"sha256\0\0"  # in front of the checksum behind an array
TRAILER_BYTES = len(TRAILER) + 32
HASHED_ROWS, HASHED_BYTES = 1 << 14, 1 << 20  # hashed at a time
SAMPLE = 2000  # embeddings that a report shows


class ResumableArray:
    """An array [N, width] that grows by rows: in memory, or in a .npy file beside its progress.

    The file ends with a checksum behind the array, where NumPy does not look. Files of older
    versions have none.
    """

    def __init__(self, path: Path | None, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """path: None is memory.  A complete file, or the rows that are surely written, are kept.

        Raises ValueError naming a complete file whose checksum differs.
        """
        self.path, self.done, self.whole = path, 0, False
        if path is None:
            self.array: Any = np.empty(shape, dtype)
            return
        self.partial = path.with_suffix(".partial")
        self.note = path.with_suffix(".rows")
        complete = _opened(path, shape, dtype, "r")
        if complete is not None:
            _verify(path)
            self.array, self.done, self.whole = complete, shape[0], True
            return
        self.array = _opened(self.partial, shape, dtype, "r+")
        if self.array is None or not self._continues():
            self._begin(shape, dtype)
        self.saved = time.monotonic()

    def _continues(self) -> bool:
        """Takes up the rows that the note counts, if they have the note's checksum."""
        try:
            note = read_json(self.note)
            done = int(note["rows"])
        except UNREADABLE:
            return False
        if not 0 <= done <= len(self.array):
            return False
        self.digest = self._digest_of_header()
        for first in range(0, done, HASHED_ROWS):
            self.digest.update(self.array[first : min(first + HASHED_ROWS, done)].tobytes())
        if note.get("sha256", self.digest.hexdigest()) != self.digest.hexdigest():
            say(f"{self.partial}: damaged; computing it again")
            return False
        self.done = done
        return True

    def _begin(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Creates the file, without rows."""
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.note.unlink(missing_ok=True)
        try:
            self.array = open_memmap(self.partial, "w+", dtype, shape)
            with open(self.partial, "r+b") as file:  # a full disk shows now
                size = self.partial.stat().st_size + TRAILER_BYTES
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            self.partial.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"{self.path}: could not be written ({error.strerror}). Free some space or choose "
                "another folder",
            ) from error
        self.digest = self._digest_of_header()

    def _digest_of_header(self) -> Any:
        """The hash of what is in front of the array."""
        with open(self.partial, "rb") as file:
            return hashlib.sha256(file.read(self.array.offset))

    def __len__(self) -> int:
        return len(self.array)

    def append(self, rows: Tensor) -> None:
        """rows: [n, width] on the CPU."""
        written = slice(self.done, self.done + len(rows))
        self.array[written] = rows.numpy()
        self.done += len(rows)
        if self.path is not None:
            self.digest.update(self.array[written].tobytes())
            if time.monotonic() - self.saved > SAVE_S:
                self._save()

    def _save(self) -> None:
        self.array.flush()
        write_json(self.note, {"rows": self.done, "sha256": self.digest.hexdigest()})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Gives the file its name; nothing where it had it."""
        assert self.done == len(self.array), (self.done, len(self.array))
        if self.path is None or self.whole:
            return
        self.array.flush()
        end = self.array.offset + self.array.nbytes
        with open(self.partial, "r+b") as file:
            file.seek(end)
            file.write(TRAILER + self.digest.digest())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        self.note.unlink(missing_ok=True)
        os.replace(self.partial, self.path)
        self.whole = True

    def rows(self, first: int, last: int) -> Tensor:
        """A copy of some rows, float32."""
        return torch.from_numpy(np.asarray(self.array[first:last], np.float32).copy())

    @staticmethod
    def keep(path: Path | None, rows: Tensor) -> None:
        """A whole array at once."""
        if path is not None:

            def write(temporary: Path) -> None:
                with open(temporary, "w+b") as file:
                    np.save(file, rows.numpy())
                    file.seek(0)
                    digest = hashlib.sha256(file.read()).digest()
                    file.write(TRAILER + digest)

            write_atomic(path, write)

    @staticmethod
    def is_whole(path: Path | None) -> bool:
        """Whether there is a file under its last name, not cut short."""
        try:
            return path is not None and len(np.load(path, mmap_mode="r", allow_pickle=False)) > 0
        except UNREADABLE:
            return False

    @staticmethod
    def finished(path: Path | None) -> Tensor | None:
        """What `keep` kept, or None.  Raises ValueError naming a file whose checksum differs."""
        if path is None:
            return None
        try:
            rows = torch.from_numpy(np.load(path, allow_pickle=False))
        except UNREADABLE:
            return None
        _verify(path)
        return rows


def _opened(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], mode: Any) -> Any:
    """The array in a file if it is the one that is meant."""
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except UNREADABLE:
        return None
    return found if found.shape == shape and found.dtype == dtype else None


def _verify(path: Path) -> None:
    """Raises ValueError if a file's content differs from the checksum behind its array."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    end = array.offset + array.nbytes
    if path.stat().st_size == end:  # written by an older version
        return
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for first in range(0, end, HASHED_BYTES):
            digest.update(file.read(min(HASHED_BYTES, end - first)))
        if file.read() != TRAILER + digest.digest():
            raise ValueError(
                f"{path}: damaged, its checksum differs; delete it, and the same command computes "
                "it again"
            )


def forget_others(note: Path, maker: str, paths: Iterable[Path]) -> None:
    """Removes rows that another maker left in files, whole or begun.  note: who wrote them last."""
    with contextlib.suppress(*UNREADABLE):
        if read_json(note) == {"maker": maker}:
            return
    for path in paths:
        for suffix in (".npy", ".partial", ".rows"):
            path.with_suffix(suffix).unlink(missing_ok=True)
    write_json(note, {"maker": maker})


def embedding_summary(
    expert: ResumableArray, background: ResumableArray, distances: Tensor, dataset: Dataset
) -> dict[str, NDArray[Any]]:
    """What a report draws: embeddings in two dimensions, distances, two whole episodes."""
    episodes = dataset.background
    returns = episodes.returns()
    order = (episodes.lengths.double() if returns is None else returns).argsort()
    chosen = torch.linspace(0, len(background) - 1, min(SAMPLE, len(background))).long()
    shown = torch.linspace(0, len(expert) - 1, min(SAMPLE // 4, len(expert))).long()
    points = torch.stack([background.rows(int(i), int(i) + 1)[0] for i in chosen])
    experts = torch.stack([expert.rows(int(i), int(i) + 1)[0] for i in shown])
    both = torch.cat([points, experts]).double()
    centred = both - both.mean(0)
    plane = torch.linalg.svd(centred, full_matrices=False).Vh[:2].t()
    episode = torch.repeat_interleave(torch.arange(episodes.num_episodes), episodes.lengths)
    whole = {
        which: distances[int(episodes.start[e]) : int(episodes.start[e + 1])].numpy()
        for which, e in (("worst", int(order[0])), ("best", int(order[-1])))
    }
    of_point = np.full(len(chosen), np.nan) if returns is None else returns[episode[chosen]].numpy()
    return {
        "background": (centred[: len(points)] @ plane).float().numpy(),
        "expert": (centred[len(points) :] @ plane).float().numpy(),
        "returns": of_point,
        "distances": distances[chosen].numpy(),
        **whole,
    }


def keep_columns(path: Path, columns: dict[str, Any]) -> None:
    """One .npz file of them."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **columns)

    write_atomic(path, write)


def kept_columns(path: Path) -> dict[str, NDArray[Any]] | None:
    """What `keep_columns` kept, or None where the file is missing or damaged."""
    try:
        check_regular(path)
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return dict(file)
    except UNREADABLE:
        return None
